//! The command line with a server behind it: the same verbs, and a server and a network
//! that go away in between.

mod approvals;
mod keys;
mod outages;
mod proxy;
mod refusals;
mod tls;
mod verbs;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Home, Said};

/// Longer than anything takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// `reenact serve` on a home.
pub struct Server {
    child: Child,
    pub url: String,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    pub fn on(home: &Home) -> Self {
        Self::at(home, "127.0.0.1:0")
    }

    pub fn at(home: &Home, address: &str) -> Self {
        let mut command = home.command(&["serve", "--listen", address]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let (_, url) = line.trim().split_once("listening on ").expect("it listens");
        Self { child, url: url.to_owned(), _stdout: stdout }
    }

    /// Where it listens, without the scheme.
    pub fn address(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) {
        signal(self.child.id(), "TERM");
        self.child.wait().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    let args = [format!("-{name}"), pid.to_string()];
    assert!(Command::new("kill").args(args).status().unwrap().success());
}

/// Somebody at a machine of their own, with nothing but the address of a server.
pub struct User {
    here: Home,
    pub url: String,
    key: Option<String>,
}

impl User {
    pub fn of(url: &str) -> Self {
        Self { here: Home::new(), url: url.to_owned(), key: None }
    }

    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// The user's own folder, in which no command leaves anything.
    pub fn folder(&self) -> &std::path::Path {
        self.here.path()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.here.command(args);
        command.env("REENACT_SERVER", &self.url).env("NO_COLOR", "1");
        command.env("REENACT_HOME", self.folder().join("none"));
        if let Some(key) = &self.key {
            command.env("REENACT_KEY", key);
        }
        command
    }

    pub fn says(&self, args: &[&str]) -> Said {
        let said: Said = self.command(args).stdin(Stdio::null()).output().unwrap().into();
        assert!(!self.folder().join("none").exists(), "a home was opened: {args:?}");
        if let Some(key) = &self.key {
            assert!(!format!("{said:?}").contains(key.as_str()), "the key is shown: {said:#?}");
        }
        said
    }

    /// Runs a command that must succeed; answers its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.says(args);
        assert_eq!(said.code, Some(0), "{args:?}: {said:#?}");
        said.stdout
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// Runs a command that must exit with `code`; answers its stderr.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let said = self.says(args);
        assert_eq!(said.code, Some(code), "{args:?}: {said:#?}");
        said.stderr
    }

    pub fn starts(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Running {
            child,
            stdout,
            stderr,
            said: Said { code: None, stdout: String::new(), stderr: String::new() },
        }
    }
}

/// A command under way.
pub struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    said: Said,
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on stdout that holds `text`.
    pub fn prints(&mut self, text: &str) -> String {
        wait_for(&self.stdout, &mut self.said.stdout, text)
    }

    /// Waits for a line on stderr that holds `text`.
    pub fn notes(&mut self, text: &str) -> String {
        wait_for(&self.stderr, &mut self.said.stderr, text)
    }

    pub fn ends(mut self) -> Said {
        for (from, to) in
            [(&self.stdout, &mut self.said.stdout), (&self.stderr, &mut self.said.stderr)]
        {
            from.iter().for_each(|line| *to += &format!("{line}\n"));
        }
        self.said.code = self.child.wait().unwrap().code();
        self.said
    }
}

fn wait_for(lines: &Receiver<String>, seen: &mut String, text: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let line = lines.recv_timeout(until.saturating_duration_since(Instant::now()));
        let line = line.unwrap_or_else(|_| panic!("no `{text}` in {seen}"));
        *seen += &format!("{line}\n");
        if line.contains(text) {
            return line;
        }
    }
}

/// Waits until something is so.
pub fn until<T>(mut is: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = is() {
            return found;
        }
        assert!(Instant::now() < end, "it never was so");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The run that a user started last.
pub fn newest_run(user: &User) -> Value {
    user.json(&["runs", "--limit", "1", "--json"])[0].clone()
}

/// Text with what differs from run to run replaced: times, sizes, ids.
pub fn masked(text: &str) -> String {
    let mut masked = String::new();
    for line in text.lines() {
        let words = line.split_whitespace().map(|word| match word {
            word if word.len() == 36 && word.matches('-').count() == 4 => "RUN",
            word if word.parse::<f64>().is_ok() => "N",
            word if word.strip_prefix('(').is_some_and(|word| word.parse::<f64>().is_ok()) => "(N",
            word if word.strip_suffix('s').is_some_and(|word| word.parse::<f64>().is_ok()) => "T",
            word => word,
        });
        masked += &format!("{}\n", words.collect::<Vec<_>>().join(" "));
    }
    [" µs", " ms", " s"].iter().fold(masked, |text, unit| text.replace(&format!("N{unit}"), "T"))
}

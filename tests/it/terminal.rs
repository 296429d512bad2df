//! Questions that are put at a terminal: seen there, answered there.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::approvals::{RUN, home_that_asks};
use crate::support::{Home, guest, put, resealed};

/// A command with a terminal on all sides, and who sits at it.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(home: &Home, args: &[&str]) -> Self {
        Self::with(home.command(args))
    }

    pub fn with(mut command: Command) -> Self {
        let (mut ours, mut theirs) = (0, 0);
        let none = std::ptr::null_mut();
        // SAFETY: both are places for a descriptor, and the others may be null.
        let opened = unsafe {
            libc::openpty(&raw mut ours, &raw mut theirs, none, none.cast(), none.cast())
        };
        assert_eq!(opened, 0);
        // SAFETY: they are open, and nobody else has them.
        let (ours, theirs) = unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        let stdio = || theirs.try_clone().unwrap();
        command.env("NO_COLOR", "1").env("TERM", "xterm").env("USER", "ada");
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        // The command holds copies of its own.
        drop((command, theirs));

        let (sender, screen) = channel();
        let mut output = ours.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The end of the command is an error here, or no bytes.
            while let Ok(bytes @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..bytes].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard: ours, screen, seen: String::new() }
    }

    /// Waits until `text` is on the screen.
    pub fn shows(&mut self, text: &str) {
        let patience = Instant::now() + Duration::from_secs(60);
        while !self.seen.contains(text) {
            let left = patience.saturating_duration_since(Instant::now());
            let more = self.screen.recv_timeout(left);
            let more = more.unwrap_or_else(|_| panic!("no `{text}` in {}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
    }

    /// Types a line, and forgets what was on the screen.
    pub fn types(&mut self, line: &str) {
        self.seen.clear();
        self.keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The command's exit code.
    pub fn ends(mut self) -> i32 {
        // Somebody has to read, or the command waits for its terminal.
        while let Ok(more) = self.screen.recv() {
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
        self.child.wait().unwrap().code().unwrap()
    }
}

fn newest_run(home: &Home) -> Value {
    let runs = home.json(&["runs", "--json"]);
    home.json(&["show", runs[0]["id"].as_str().unwrap(), "--json"])
}

#[test]
fn an_approval_is_asked_for_and_given() {
    let home = home_that_asks();
    let mut terminal = Terminal::start(&home, &RUN);
    terminal.shows("approval needed: the agent wants to call files.list (call 0) with");
    terminal.shows("approve it? [y]es, [n]o, or [e]dit the arguments:");
    terminal.types("perhaps");
    terminal.shows("approve it? [y]es, [n]o, or [e]dit the arguments:");
    terminal.types("y");
    terminal.shows("done in");
    assert_eq!(terminal.ends(), 0);
    let run = newest_run(&home);
    assert_eq!(run["resultData"]["result"]["answers"], 1);
    let entries = run["entryList"].as_array().unwrap();
    let decided = entries.iter().find_map(|entry| entry["body"].get("approval_answered"));
    assert_eq!(decided.unwrap()["by"], "ada");
}

#[test]
fn an_approval_is_refused_or_given_with_other_arguments() {
    let home = home_that_asks();
    let mut terminal = Terminal::start(&home, &RUN);
    terminal.shows("[e]dit the arguments:");
    terminal.types("no");
    assert_eq!(terminal.ends(), 0);
    let error = &newest_run(&home)["resultData"]["result"]["last_error"];
    assert_eq!(error["message"], "a person denied the call of `files.list`");

    let mut terminal = Terminal::start(&home, &RUN);
    terminal.shows("[e]dit the arguments:");
    terminal.types("e");
    terminal.shows("the arguments as JSON, on one line:");
    terminal.types("{");
    terminal.shows("that is not valid JSON");
    terminal.shows("[e]dit the arguments:");
    terminal.types("e");
    terminal.shows("the arguments as JSON, on one line:");
    terminal.types(r#"{"path":"none"}"#);
    assert_eq!(terminal.ends(), 0);
    let error = &newest_run(&home)["resultData"]["result"]["last_error"];
    assert!(error["message"].as_str().unwrap().contains("none"), "{error}");
}

#[test]
fn more_tools_are_confirmed_or_not() {
    let home = Home::new();
    home.publishes(&guest("minimal"));
    let asks_more = resealed(&guest("minimal"), |manifest| {
        manifest.tools.push("http.fetch".parse().unwrap());
    });
    let wide = put(home.path(), &asks_more);

    for (answer, code, digest) in [("", 1, guest("minimal").digest), ("y", 0, asks_more.digest)] {
        let mut terminal = Terminal::start(&home, &["publish", &wide]);
        terminal.shows("asks for more than the published revision: http.fetch");
        terminal.shows("publish it? [y]es or [n]o:");
        terminal.types(answer);
        assert_eq!(terminal.ends(), code);
        assert_eq!(home.published(), digest.to_string());
    }
}

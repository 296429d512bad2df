//! A local server's process: with a scrubbed environment, a bounded ear for
//! what it writes to stderr, and an end that comes with its host's.
//!
//! A server is in a process group with a watchdog, a shell that waits for the
//! end of its stdin. The host holds the other side of that pipe. However the
//! host lets go of it, by dropping the process, by ending or by being killed,
//! the watchdog ends the group: the server and whatever it started. Signals
//! that are tied to the parent's death would miss what wrappers such as `npx`
//! start, and depend on which thread started the server. A server that leaves
//! its group on purpose gets away.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::tools::vault::Vault;

/// What a server gets of the host's environment: where programs, its home and
/// room for temporary files are, and the language to speak. All else is the
/// operator's to give.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    // Windows programs do not start without these.
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "COMSPEC",
    "PATHEXT",
    "TEMP",
    "TMP",
    "USERPROFILE",
    "APPDATA",
    "LOCALAPPDATA",
];

/// Bytes of stderr that are kept for an error, and of one line in the log.
const STDERR_TAIL: usize = 2 << 10;
const STDERR_LINE: usize = 1 << 10;

/// How long an error waits for the last words and the status of a server that
/// has just hung up.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The group is asked to end and gets a second for it. The watchdog itself
/// ignores what a server may send to its whole group.
#[cfg(unix)]
const WATCHDOG: &str =
    "trap '' HUP INT QUIT TERM; read -r line; kill -s TERM 0; sleep 1; kill -s KILL 0";

/// How a server is started.
pub struct Launch {
    pub program: PathBuf,
    pub args: Vec<String>,
    /// What it gets besides [`ENVIRONMENT`].
    pub env: BTreeMap<String, String>,
    pub dir: PathBuf,
    /// The command as it is written, for messages.
    pub shown: String,
    /// For what it writes to stderr, which is logged.
    pub vault: Vault,
}

/// A server that runs. Dropping it ends it.
pub struct Process {
    exited: Exited,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    /// Ends with stderr, which a program that the server started may hold too.
    heard_all: watch::Receiver<bool>,
    tasks: [JoinHandle<()>; 2],
    _watchdog: Option<Watchdog>,
}

/// How the server's own process ended, once it has.
pub type Exited = watch::Receiver<Option<String>>;

struct Watchdog {
    _shell: Child,
    /// Closing it is what the shell waits for.
    _lifeline: Option<ChildStdin>,
}

impl Launch {
    /// Starts the server. Needs a tokio runtime.
    pub fn start(&self, name: &str) -> std::io::Result<(Process, ChildStdin, ChildStdout)> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(&self.dir).kill_on_drop(true);
        command.env_clear().envs(inherited()).envs(&self.env);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let watchdog = watch(&mut command)?;
        let mut child = command.spawn()?;
        let missing = || std::io::Error::other("it has no stdio");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let pipe = child.stderr.take().ok_or_else(missing)?;
        let stderr = Arc::default();
        let (told, exited) = watch::channel(None);
        let wait = async move {
            let status = child.wait().await;
            told.send_replace(Some(status.map_or_else(|e| e.to_string(), |s| s.to_string())));
        };
        let (heard, heard_all) = watch::channel(false);
        let (tail, vault) = (Arc::clone(&stderr), self.vault.clone());
        let listen = listen(pipe, tail, name.to_owned(), vault);
        let listen = async move {
            listen.await;
            heard.send_replace(true);
        };
        let tasks = [tokio::spawn(wait), tokio::spawn(listen)];
        let process = Process { exited, stderr, heard_all, tasks, _watchdog: watchdog };
        Ok((process, stdin, stdout))
    }
}

fn inherited() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    ENVIRONMENT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)))
}

/// Starts the watchdog and makes the command join its group.
#[cfg(unix)]
fn watch(command: &mut Command) -> std::io::Result<Option<Watchdog>> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", WATCHDOG]).env_clear().envs(inherited()).process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut shell = shell.spawn()?;
    // Its id cannot belong to anybody else while it is our child.
    let group = shell.id().and_then(|id| i32::try_from(id).ok());
    command.process_group(group.ok_or_else(|| std::io::Error::other("no watchdog runs"))?);
    let lifeline = shell.stdin.take();
    Ok(Some(Watchdog { _shell: shell, _lifeline: lifeline }))
}

/// There, `kill_on_drop` has to do.
#[cfg(not(unix))]
fn watch(_: &mut Command) -> std::io::Result<Option<Watchdog>> {
    Ok(None)
}

impl Process {
    pub fn exited(&self) -> Exited {
        self.exited.clone()
    }

    /// How a server that hung up has ended, and what it wrote last: the rest of
    /// a sentence.
    pub async fn last_words(&self) -> String {
        let (mut exited, mut heard_all) = (self.exited.clone(), self.heard_all.clone());
        let ended = async {
            let _ = exited.wait_for(Option::is_some).await;
            let _ = heard_all.wait_for(|all| *all).await;
        };
        let _ = tokio::time::timeout(LAST_WORDS, ended).await;
        let how = self.exited.borrow().as_ref().map(|status| format!(" ({status})"));
        let how = how.unwrap_or_default();
        let mut stderr = lock(&self.stderr);
        let tail = String::from_utf8_lossy(stderr.make_contiguous());
        match tail.trim() {
            "" => how,
            tail => format!("{how}; it wrote last: {tail}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The first one holds the child, which ends with it.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock(tail: &Mutex<VecDeque<u8>>) -> MutexGuard<'_, VecDeque<u8>> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the end of what a server writes to stderr, and logs its lines.
async fn listen(
    mut stderr: impl AsyncRead + Unpin,
    tail: Arc<Mutex<VecDeque<u8>>>,
    name: String,
    vault: Vault,
) {
    let mut piece = vec![0; STDERR_TAIL];
    let mut line = Vec::new();
    while let Ok(read @ 1..) = stderr.read(&mut piece).await {
        let mut tail = lock(&tail);
        tail.extend(&piece[..read]);
        let surplus = tail.len().saturating_sub(STDERR_TAIL);
        tail.drain(..surplus);
        drop(tail);
        for byte in &piece[..read] {
            match byte {
                b'\n' => {
                    let text = String::from_utf8_lossy(&line);
                    tracing::debug!(server = name, "{}", vault.scrub_text(&text));
                    line.clear();
                }
                byte if line.len() < STDERR_LINE => line.push(*byte),
                _ => {}
            }
        }
    }
}

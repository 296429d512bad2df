//! Where people decide about calls: at this terminal, or with `reenact approve`
//! from anywhere else.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use indicatif::{ProgressBar, ProgressDrawTarget};
use tokio::sync::{Mutex, mpsc};

use super::note;
use super::render::{style, text};
use crate::journal::Approval;
use crate::json::Json;
use crate::service::stored;
use crate::storage::Storage;
use crate::tools::{Approver, Decided, Question, Reply};

/// How soon a decision of another process is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What to do when a call needs a person's approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnAsk {
    /// Ask at the terminal, or else wait for `reenact approve`
    Wait,
    /// Leave the run as it is; `reenact approve` lets it go on
    Leave,
    /// Deny the call
    Deny,
}

/// Asks people.
pub struct Desk {
    storage: Storage,
    on_ask: OnAsk,
    /// Lines that are typed, if anybody can; one question at a time takes them.
    typed: Option<Arc<Mutex<mpsc::UnboundedReceiver<String>>>>,
    spinner: ProgressBar,
}

impl Desk {
    /// Questions are put at the terminal if there is one on both sides.
    pub fn new(storage: Storage, on_ask: OnAsk, spinner: ProgressBar, may_prompt: bool) -> Self {
        let can_type = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let typed = (may_prompt && can_type && on_ask == OnAsk::Wait).then(type_lines);
        Self { storage, on_ask, typed: typed.map(|lines| Arc::new(Mutex::new(lines))), spinner }
    }
}

/// Reads lines on a thread of its own: a read from a terminal cannot be given up.
fn type_lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Approver for Desk {
    fn ask(&self, question: Question) -> BoxFuture<'static, Reply> {
        let storage = self.storage.clone();
        let (typed, spinner, on_ask) = (self.typed.clone(), self.spinner.clone(), self.on_ask);
        async move {
            // Somebody may have decided while no process held the run.
            if let Some(decided) = stored(&storage, &question) {
                return Reply::Decided(decided);
            }
            match (on_ask, typed) {
                (OnAsk::Leave, _) => Reply::Leave,
                (OnAsk::Deny, _) => {
                    let decision = Approval::Denied("nobody is there to ask".to_owned());
                    Reply::Decided(Decided { decision, by: String::new() })
                }
                (OnAsk::Wait, None) => {
                    spinner.suspend(|| note(notice(&question)));
                    Reply::Decided(elsewhere(&storage, &question).await)
                }
                (OnAsk::Wait, Some(typed)) => {
                    let decided = tokio::select! {
                        decided = elsewhere(&storage, &question) => decided,
                        decided = at_terminal(&typed, &spinner, &question) => decided,
                    };
                    spinner.set_draw_target(ProgressDrawTarget::stderr());
                    Reply::Decided(decided)
                }
            }
        }
        .boxed()
    }
}

fn notice(question: &Question) -> String {
    format!(
        "{} call {} of {} waits: `reenact approve {}` approves it, `--deny` or `--arguments` decide otherwise",
        style::warn("approval needed"),
        question.call,
        style::strong(&question.tool),
        question.run,
    )
}

async fn elsewhere(storage: &Storage, question: &Question) -> Decided {
    loop {
        if let Some(decided) = stored(storage, question) {
            return decided;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn at_terminal(
    typed: &Mutex<mpsc::UnboundedReceiver<String>>,
    spinner: &ProgressBar,
    question: &Question,
) -> Decided {
    let mut typed = typed.lock().await;
    // A spinner would draw over what is typed.
    spinner.set_draw_target(ProgressDrawTarget::hidden());
    note(ask(question));
    loop {
        note("approve it? [y]es, [n]o, or [e]dit the arguments:");
        let Some(line) = typed.recv().await else { return std::future::pending().await };
        let decision = match line.trim().to_lowercase().as_str() {
            "y" | "yes" => Approval::Approved,
            "n" | "no" => Approval::Denied(String::new()),
            "e" | "edit" => {
                note("the arguments as JSON, on one line:");
                let Some(line) = typed.recv().await else { return std::future::pending().await };
                match Json::parse(&line) {
                    Ok(arguments) => Approval::Edited(arguments),
                    Err(error) => {
                        note(format!("that is {error}"));
                        continue;
                    }
                }
            }
            _ => continue,
        };
        return Decided { decision, by: user() };
    }
}

/// What a person needs to see before deciding.
pub fn ask(question: &Question) -> String {
    let arguments = serde_json::to_string_pretty(&question.arguments.to_value());
    format!(
        "\n{} the agent wants to call {} (call {}) with\n{}",
        style::warn("approval needed:"),
        style::strong(text::line(&question.tool, 128)),
        question.call,
        text::safe(&arguments.unwrap_or_default()),
    )
}

/// Who sits at this machine, as far as the environment tells.
pub fn user() -> String {
    let name = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "somebody".to_owned())
}

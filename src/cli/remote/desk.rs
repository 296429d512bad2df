//! Questions of a server's run that are put at this terminal.

use std::collections::BTreeMap;

use indicatif::{ProgressBar, ProgressDrawTarget};
use tokio::task::{AbortHandle, JoinSet};

use crate::cli::desk::{Typed, at_terminal, typed};
use crate::cli::render::text;
use crate::client::Decision;
use crate::journal::Approval;
use crate::json::Json;
use crate::server::PendingCall;
use crate::tools::{Decided, Question};

/// Puts questions one after the other, and takes them back.
pub struct RemoteDesk {
    typed: Option<Typed>,
    spinner: ProgressBar,
    asking: JoinSet<(u64, Decided)>,
    open: BTreeMap<u64, AbortHandle>,
}

impl RemoteDesk {
    pub fn new(spinner: ProgressBar, may_prompt: bool) -> Self {
        let typed = if may_prompt { typed() } else { None };
        Self { typed, spinner, asking: JoinSet::new(), open: BTreeMap::new() }
    }

    /// Puts a question, if there is a terminal.
    pub fn ask(&mut self, question: Question) -> bool {
        let Some(typed) = self.typed.clone() else { return false };
        let (call, spinner) = (question.call, self.spinner.clone());
        let task = async move { (call, at_terminal(&typed, &spinner, &question).await) };
        self.open.insert(call, self.asking.spawn(task));
        true
    }

    /// Somebody else has decided.
    pub fn take_back(&mut self, call: u64) {
        if let Some(asking) = self.open.remove(&call) {
            asking.abort();
            self.spinner.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// What is decided next, here; never, if nothing is asked.
    pub async fn decided(&mut self) -> (u64, Decision) {
        loop {
            match self.asking.join_next().await {
                None => return std::future::pending().await,
                Some(Ok((call, decided))) => {
                    self.open.remove(&call);
                    self.spinner.set_draw_target(ProgressDrawTarget::stderr());
                    return (call, decision(decided.decision));
                }
                // It was taken back.
                Some(Err(_)) => {}
            }
        }
    }
}

/// A decision as it is sent.
pub fn decision(approval: Approval) -> Decision {
    match approval {
        Approval::Approved => Decision::Approve,
        Approval::Edited(arguments) => Decision::ApproveAs(arguments),
        Approval::Denied(reason) => Decision::Deny(reason),
        Approval::TimedOut => Decision::Deny(String::new()),
    }
}

/// What a person is asked about a call that waits.
pub fn question(run: &str, waiting: &PendingCall) -> Question {
    Question {
        run: run.to_owned(),
        call: waiting.call,
        tool: waiting.tool.clone(),
        arguments: Json::from_value(&waiting.arguments),
        until: text::micros(&waiting.until),
    }
}

//! Calls that wait for a person: which there are, as journals tell, and what was
//! decided about them, from whatever process.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::read::verified;
use super::{Service, blocking};
use crate::journal::{Approval, Body, Entry, Micros};
use crate::json::Json;
use crate::runtime;
use crate::storage::{ApprovalRow, Storage};
use crate::tools::{Approver, Decided, Question, Reply};

/// A call that was asked about and not decided.
#[derive(Debug, Clone)]
pub struct Pending {
    pub call: u64,
    pub tool: String,
    pub arguments: Json,
    pub until: Micros,
}

impl Pending {
    pub fn question(&self, run: &str) -> Question {
        Question {
            run: run.to_owned(),
            call: self.call,
            tool: self.tool.clone(),
            arguments: self.arguments.clone(),
            until: self.until,
        }
    }
}

/// What a run that has not ended waits for.
pub fn pending(entries: &[Entry]) -> Vec<Pending> {
    let mut called = Vec::new();
    let mut waiting: Vec<Pending> = Vec::new();
    for entry in entries {
        match &entry.body {
            Body::ToolCalled(call) => called.push(call),
            Body::ApprovalAsked(asked) => {
                let Some(call) = called.iter().rfind(|call| call.call == asked.call) else {
                    continue;
                };
                waiting.push(Pending {
                    call: asked.call,
                    tool: call.name.clone(),
                    arguments: call.arguments.clone(),
                    until: asked.until,
                });
            }
            Body::ApprovalAnswered(decided) => waiting.retain(|one| one.call != decided.call),
            Body::Ended(_) => waiting.clear(),
            _ => {}
        }
    }
    waiting
}

/// What was decided about a question, if anything was and in time.
pub fn stored(storage: &Storage, question: &Question) -> Option<Decided> {
    let row = match storage.approval(&question.run, question.call) {
        Ok(row) => row?,
        Err(error) => {
            tracing::warn!("cannot look for a decision: {error}");
            return None;
        }
    };
    let decision = serde_json::from_str(&row.decision);
    // One that came too late does not count, also when nobody was there to see that.
    let in_time = row.at <= question.until;
    decision.ok().filter(|_| in_time).map(|decision| Decided { decision, by: row.by })
}

/// Takes decisions from the database; a run that has to wait for one is left.
pub(super) struct Stored(pub Storage);

impl Approver for Stored {
    fn ask(&self, question: Question) -> BoxFuture<'static, Reply> {
        let decided = stored(&self.0, &question);
        async move { decided.map_or(Reply::Leave, Reply::Decided) }.boxed()
    }
}

/// Why a decision does not count.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    #[error("run `{run}` waits for no approval")]
    NothingWaits { run: String },
    #[error("calls {} of run `{run}` wait: which one is meant?", list(.calls))]
    Ambiguous { run: String, calls: Vec<u64> },
    #[error("call {call} of run `{run}` waits for no approval: {} wait", list(.waiting))]
    NotWaiting { run: String, call: u64, waiting: Vec<u64> },
    #[error("call {call} of run `{run}` is decided already")]
    Decided { run: String, call: u64 },
}

fn list(calls: &[u64]) -> String {
    calls.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// The one call that is meant.
pub fn choose<'a>(
    run: &str,
    call: Option<u64>,
    waiting: &'a [Pending],
) -> Result<&'a Pending, DecisionError> {
    let calls = || waiting.iter().map(|pending| pending.call).collect();
    let run = run.to_owned();
    match (call, waiting) {
        (_, []) => Err(DecisionError::NothingWaits { run }),
        (None, [one]) => Ok(one),
        (None, _) => Err(DecisionError::Ambiguous { run, calls: calls() }),
        (Some(call), _) => {
            let found = waiting.iter().find(|pending| pending.call == call);
            found.ok_or_else(|| DecisionError::NotWaiting { run, call, waiting: calls() })
        }
    }
}

impl Service {
    /// Decides about a call that waits, and lets the run go on. Answers the call's number.
    pub async fn decide(
        &self,
        run: &str,
        call: Option<u64>,
        decision: Approval,
        by: &str,
    ) -> Result<u64, super::ServiceError> {
        let (storage, run, by) = (self.0.storage.clone(), run.to_owned(), by.to_owned());
        let call = blocking(move || {
            let entries = storage.entries(&run)?;
            let waiting = pending(&verified(&entries)?);
            let call = choose(&run, call, &waiting)?.call;
            let decision = serde_json::to_string(&decision)
                .map_err(|error| super::ServiceError::Machine(error.to_string()))?;
            let row = ApprovalRow { decision, by, at: runtime::now() };
            match storage.decide(&run, call, row)? {
                true => Ok(call),
                false => Err(DecisionError::Decided { run, call }.into()),
            }
        })
        .await?;
        self.0.scheduler.look();
        Ok(call)
    }
}

//! The calls of a run that wait for a person, as its journal tells.

use crate::journal::{Body, Entry, Micros};
use crate::json::Json;
use crate::tools::Question;

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

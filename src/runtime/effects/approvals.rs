//! Calls that wait for a person: asked through the one door, answered from the
//! record, put to somebody where the record ends.
//!
//! While any question is open, the run's deadline stands still.

use super::Effects;
use crate::journal::{
    Answer, Approval, ApprovalAnswered, ApprovalAsked, Body, Micros, ToolError, ToolErrorCode,
};
use crate::json::Json;
use crate::runtime::control::{Control, Due, until};
use crate::sandbox::{Stopped, ToolRequest};
use crate::tools::{Decided, Question, Reply, RunTools};

impl Effects {
    /// Writes down that a person has to decide about a call.
    pub(super) fn put_question(&mut self, fuel: u64, asked: ApprovalAsked) -> Result<(), Stopped> {
        self.put(fuel, Body::ApprovalAsked(asked))?;
        if self.open_questions == 0 {
            self.held_since = self.tape.now();
        }
        self.open_questions += 1;
        Ok(())
    }

    /// Writes down what was decided.
    pub(super) fn put_decision(
        &mut self,
        fuel: u64,
        decided: ApprovalAnswered,
    ) -> Result<(), Stopped> {
        self.put(fuel, Body::ApprovalAnswered(decided))?;
        self.open_questions = self.open_questions.saturating_sub(1);
        // Time that people took for another run is none of this one's.
        let is_own = self.tape.entries() > self.started.shared();
        if self.open_questions == 0 && is_own {
            self.control.extend(self.tape.now().saturating_sub(self.held_since));
        }
        Ok(())
    }

    /// Waits for what stops the run while it waits for something else.
    pub(super) async fn interrupted(control: &Control, is_held: bool, under_way: bool) -> Due {
        match is_held {
            true => control.stopped(under_way).await,
            false => control.interrupted(under_way).await,
        }
    }
}

/// Puts the question to a person, until its time is over.
pub(super) async fn decide(tools: RunTools, question: Question) -> Reply {
    let time = question.until;
    tokio::select! {
        biased;
        reply = tools.ask(question) => reply,
        () = until(time) => {
            Reply::Decided(Decided { decision: Approval::TimedOut, by: String::new() })
        }
    }
}

pub(super) fn question(run: &str, call: u64, request: &ToolRequest, until: Micros) -> Question {
    let arguments = Json::parse(&request.arguments);
    // Only what was checked is asked about, so it is JSON.
    let arguments = arguments.unwrap_or_else(|_| Json::from_value(&serde_json::Value::Null));
    Question { run: run.to_owned(), call, tool: request.name.clone(), arguments, until }
}

/// The arguments to make the call with, or the answer if it is not to be made.
pub(super) fn outcome(decision: &Approval, request: &ToolRequest) -> Result<ToolRequest, Answer> {
    let name = &request.name;
    let denied = |message| Answer::Error(ToolError { code: ToolErrorCode::Denied, message });
    match decision {
        Approval::Approved => Ok(request.clone()),
        Approval::Edited(arguments) => {
            Ok(ToolRequest { name: name.clone(), arguments: arguments.as_str().to_owned() })
        }
        Approval::Denied(reason) if reason.is_empty() => {
            Err(denied(format!("a person denied the call of `{name}`")))
        }
        Approval::Denied(reason) => {
            Err(denied(format!("a person denied the call of `{name}`: {reason}")))
        }
        Approval::TimedOut => Err(denied(format!("nobody approved the call of `{name}` in time"))),
    }
}

//! What another revision would have done in a recorded run: a full journal, with a
//! report instead of an error.
//!
//! The revision gets the run's input, seed and times, and the answers of its record:
//! no tool is called, nothing is waited for, nothing is asked of a configuration.
//! Where it departs from the record it goes on: a call of a tool with the same
//! arguments gets the answer that the record holds. A call to which the record holds
//! no answer is where a what-if stops, because nobody knows what comes after it.

use similar::ChangeTag;

use super::control::Control;
use super::effects::decide::{Divergence, Precision, is_alike};
use super::effects::tape::Halt;
use super::effects::transcript::Transcript;
use super::executor::{Executor, Fault, Prepared};
use super::start::{InputError, Journal};
use crate::journal::{
    Body, Damage, Encoded, Ended, Entry, ErrorCode, FORMAT, OLDEST_FORMAT, Outcome, Started,
    ToolCalled, verify_all,
};
use crate::revision::Limits;
use crate::sandbox;

/// A recorded run beside what another revision did with its record.
#[derive(Debug, Clone)]
pub struct WhatIf {
    /// The run as it was.
    pub recorded: Vec<Entry>,
    /// The run as the other revision has it: up to the divergence the same.
    pub found: Vec<Entry>,
    /// The first entry in which they differ.
    pub divergence: Option<Box<Divergence>>,
    pub stop: Stop,
}

/// Why a what-if went no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The other revision came to its end.
    Ended,
    /// It made calls to which the record holds no answer.
    Unanswered,
    /// The recorded run had not come to its end, or was ended from outside: it was
    /// cancelled, or out of time or of room.
    RecordOver,
}

/// A call that only one of the two made, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallChange {
    Same(ToolCalled),
    /// The recorded run made it.
    Gone(ToolCalled),
    /// The other revision made it.
    New(ToolCalled),
}

#[derive(Debug, thiserror::Error)]
pub enum WhatIfError {
    /// The revision does not take the run's input.
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl WhatIf {
    /// How the recorded run ended, if it came to its own end.
    pub fn recorded_end(&self) -> Option<&Ended> {
        self.recorded.last().and_then(own_end)
    }

    /// How it ends with the other revision.
    pub fn found_end(&self) -> Option<&Ended> {
        self.found.last().and_then(own_end)
    }

    /// Whether the results are the same; `None` if the record has none. A result that
    /// the other revision did not come to is another one.
    pub fn has_same_result(&self) -> Option<bool> {
        self.recorded_end()?;
        let (recorded, found) = (self.recorded.last()?, self.found.last()?);
        Some(self.found_end().is_some() && is_alike(&recorded.body, &found.body))
    }

    /// The calls of both, in order.
    pub fn calls(&self) -> Vec<CallChange> {
        let (recorded, found) = (calls(&self.recorded), calls(&self.found));
        let (before, after) = (keys(&recorded), keys(&found));
        let changes = similar::capture_diff_slices(similar::Algorithm::Myers, &before, &after);
        let changes = changes.iter().flat_map(|change| change.iter_changes(&recorded, &found));
        let changes = changes.map(|change| {
            let called = change.value().clone();
            match change.tag() {
                ChangeTag::Equal => CallChange::Same(called),
                ChangeTag::Delete => CallChange::Gone(called),
                ChangeTag::Insert => CallChange::New(called),
            }
        });
        changes.collect()
    }

    /// Whether the calls are the same, in the same order. Where the record stops before
    /// its run ended, further ones are not known to be others.
    pub fn has_same_calls(&self) -> bool {
        if self.divergence.is_none() {
            return true;
        }
        let (recorded, mut found) = (calls(&self.recorded), calls(&self.found));
        if self.recorded_end().is_none() {
            found.truncate(recorded.len());
        }
        keys(&recorded) == keys(&found)
    }

    /// Whether the other revision keeps what a run promises to those who use it: the
    /// same calls and the same result. What else it tells may differ.
    pub fn keeps_its_word(&self) -> bool {
        self.has_same_calls() && self.has_same_result() != Some(false)
    }

    /// What the other revision did from the divergence on.
    pub fn followed(&self) -> &[Entry] {
        let from =
            self.divergence.as_ref().map_or(usize::MAX, |divergence| divergence.index as usize);
        self.found.get(from..).unwrap_or_default()
    }

    /// The calls to which the record holds no answer.
    pub fn unanswered(&self) -> Vec<&ToolCalled> {
        if self.stop != Stop::Unanswered {
            return Vec::new();
        }
        let has_answer = |call: u64| {
            let is_it = |entry: &Entry| matches!(&entry.body, Body::ToolAnswered(answered) if answered.call == call);
            self.found.iter().any(is_it)
        };
        calls(&self.found).into_iter().filter(|called| !has_answer(called.call)).collect()
    }
}

impl Executor {
    /// Executes `prepared` against the record of a run, whichever revision made it.
    ///
    /// The revision has its own limits, without any operator's caps; if it is the very
    /// revision that made the record, it has those that were recorded. Of the tools that
    /// the run had, it has those that its manifest asks for.
    pub async fn what_if(
        &self,
        prepared: &Prepared,
        record: &[Encoded],
    ) -> Result<WhatIf, WhatIfError> {
        let mut recorded = verify_all(record)?;
        let Some(Entry { body: Body::Started(begun), .. }) = recorded.first() else {
            return Err(Fault::NoStart.into());
        };
        if !(OLDEST_FORMAT..=FORMAT).contains(&begun.format) {
            return Err(Fault::Format(begun.format).into());
        }
        let started = started_again(begun, prepared)?;
        if recorded.last().is_some_and(|last| own_end(last).is_none() && is_end(last)) {
            recorded.pop();
        }
        let transcript = Transcript::of_what_if();
        let journal =
            Journal::retold(started, recorded.clone(), transcript.clone(), Precision::Behaviour);
        let stop = match self.execute(prepared, journal, None, Control::none()).await {
            Ok(_) => Stop::Ended,
            Err(Fault::Journal(Halt::JournalOver)) if transcript.has_departed() => Stop::Unanswered,
            Err(Fault::Journal(Halt::JournalOver)) => Stop::RecordOver,
            Err(fault) => return Err(fault.into()),
        };
        let written = transcript.take();
        let found = written.entries.into_iter().map(|(entry, _)| entry).collect();
        Ok(WhatIf { recorded, found, divergence: written.departure, stop })
    }
}

fn started_again(begun: &Started, prepared: &Prepared) -> Result<Started, InputError> {
    let manifest = &prepared.revision.manifest;
    let is_other = begun.revision != prepared.revision.digest;
    let limits = match is_other {
        true => Limits::effective(&manifest.limits, &Default::default()),
        false => begun.limits,
    };
    let tools = begun.tools.iter().filter(|tool| !is_other || manifest.asks_for(&tool.name));
    // The format stays that of the record: it decides how much is said of an error.
    Ok(Started {
        agent: manifest.name.to_string(),
        revision: prepared.revision.digest,
        input: prepared.check_input(begun.input.as_str(), &limits)?,
        limits,
        tools: tools.cloned().collect(),
        engine: sandbox::fingerprint(),
        ..begun.clone()
    })
}

fn is_end(entry: &Entry) -> bool {
    matches!(entry.body, Body::Ended(_))
}

/// The end of a run, if nobody outside ended it.
fn own_end(entry: &Entry) -> Option<&Ended> {
    let Body::Ended(ended) = &entry.body else { return None };
    let outside = [ErrorCode::Cancelled, ErrorCode::Deadline, ErrorCode::JournalTooLarge];
    match &ended.outcome {
        Outcome::Error(error) if outside.contains(&error.code) => None,
        _ => Some(ended),
    }
}

fn calls(entries: &[Entry]) -> Vec<&ToolCalled> {
    let called = |entry| match entry {
        &Entry { body: Body::ToolCalled(ref called), .. } => Some(called),
        _ => None,
    };
    entries.iter().filter_map(called).collect()
}

/// What calls are told apart by.
fn keys<'a>(calls: &[&'a ToolCalled]) -> Vec<(&'a str, String)> {
    let key =
        |call: &&'a ToolCalled| (call.name.as_str(), call.arguments.in_order().as_str().to_owned());
    calls.iter().map(key).collect()
}

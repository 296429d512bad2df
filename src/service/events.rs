//! What the API shows of a journal: entries become events.
//!
//! An entry opens an event, completes one, or is one in itself:
//!
//! | entry | event | `data` |
//! | --- | --- | --- |
//! | started | `started` | `agentId`, `revisionId`, `input`, `tools` (names) |
//! | event | its own kind | the agent's |
//! | span opened, closed | its own kind | the agent's: what it said when it opened the span, and from the close on also what it said then (see below) |
//! | log | `log` | `stream` (`stdout`, `stderr`), `text` |
//! | tool called | `tool_call` | `call`, `tool`, `arguments` |
//! | tool answered | the same | and `result` and `sources`, or `error` (`code`, `message`); `attempts`, `usage` if there are any |
//! | approval asked | `approval` | `call`, `tool`, `arguments`, `until` |
//! | approval answered | the same | and `decision` (`approved`, `edited`, `denied`, `timed_out`), `by`; `editedArguments` (which the `tool_call` shows too), or `reason` |
//! | sleep started, ended | `sleep` | `until` |
//! | ended | `result` or `error` | `resultType`, `result`, `sources`; or `code`, `message`, `details`, `backtrace` |
//!
//! What an agent says at both ends of a span is one object: the members of both, those
//! of the close if both have one. `null` and `{}` count as nothing said; two other values
//! of which one is no object are shown as `{"opened": …, "closed": …}`.
//!
//! An agent may use any name for its own events, also `result`: a run is over when
//! [`Update::terminal`] says so, not when an event looks like it.
//!
//! Plain values: no I/O, no HTTP.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::view::{ErrorView, SourceView, result_of};
use crate::journal::{
    Answer, Approval, ApprovalAnswered, ApprovalAsked, Attempt, Body, Entry, Micros, Outcome,
    Started, Stream, ToolAnswered, Usage, rfc3339,
};

/// Something that happened in a run, in its newest state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiEvent {
    /// Number of the entry that opened it: unique within the run, and stays.
    pub id: String,
    pub run_id: String,
    /// `started`, `planning`, `reasoning`, `tool_call`, `context_compression`, `log`,
    /// `sleep`, `approval`, `result`, `error`, or the agent's own word.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says, by type.
    pub data: Value,
    /// RFC 3339 in UTC with microseconds.
    pub started_at: String,
    /// Null while it goes on, and for ever if the run ended before it.
    pub finished_at: Option<String>,
    /// Number of the entry that brought it to this state.
    pub seq: u64,
}

/// What an entry makes of the events.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Number of the entry.
    pub seq: u64,
    /// An event that is new or has changed.
    pub event: ApiEvent,
    /// The run is over: no further entry follows.
    pub terminal: bool,
}

/// Turns a run's entries into updates, from the first entry on and in order. It keeps
/// the events that are not finished, and nothing else.
#[derive(Debug, Default)]
pub struct EventReader {
    run: String,
    spans: BTreeMap<u64, Open>,
    calls: BTreeMap<u64, Open>,
    approvals: BTreeMap<u64, Open>,
    sleep: Option<Open>,
}

/// An event that is not finished.
#[derive(Debug)]
struct Open {
    seq: u64,
    at: Micros,
    kind: String,
    data: Value,
}

/// All events of a journal, in the order in which they began.
pub fn events(entries: &[Entry]) -> Vec<ApiEvent> {
    let mut reader = EventReader::default();
    let mut events = BTreeMap::new();
    for entry in entries {
        if let Some((opened, update)) = reader.read(entry) {
            events.insert(opened, update.event);
        }
    }
    events.into_values().collect()
}

impl EventReader {
    /// What the next entry makes of the events. `None` for one that completes something
    /// that was never opened: no run records that, but a reader may have been given only
    /// a part of the journal.
    pub fn feed(&mut self, entry: &Entry) -> Option<Update> {
        self.read(entry).map(|(_, update)| update)
    }

    /// As [`Self::feed`], with the number of the entry that opened the event.
    fn read(&mut self, entry: &Entry) -> Option<(u64, Update)> {
        let instant = |kind: &str, data| (Open::new(entry, kind, data), true);
        let mut terminal = false;
        let (open, finished) = match &entry.body {
            Body::Started(started) => {
                self.run.clone_from(&started.run);
                instant("started", data_of_start(started))
            }
            Body::Event(event) => instant(&event.kind, event.data.to_value()),
            Body::Log(log) => {
                let stream = match log.stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                };
                instant("log", json!({ "stream": stream, "text": log.text }))
            }
            Body::SpanOpened(span) => {
                let open = Open::new(entry, &span.kind, span.data.to_value());
                return self.opened(entry, |reader| reader.spans.entry(span.span).or_insert(open));
            }
            Body::SpanClosed(closed) => {
                let mut open = self.spans.remove(&closed.span)?;
                open.data = both_ends(open.data, closed.data.to_value());
                (open, true)
            }
            Body::ToolCalled(call) => {
                let arguments = call.arguments.to_value();
                let data = json!({ "call": call.call, "tool": call.name, "arguments": arguments });
                let open = Open::new(entry, "tool_call", data);
                return self.opened(entry, |reader| reader.calls.entry(call.call).or_insert(open));
            }
            Body::ToolAnswered(answered) => {
                let mut open = self.calls.remove(&answered.call)?;
                open.answered(answered);
                (open, true)
            }
            Body::ApprovalAsked(asked) => {
                let open = self.approval(entry, asked)?;
                return self
                    .opened(entry, |reader| reader.approvals.entry(asked.call).or_insert(open));
            }
            Body::ApprovalAnswered(answered) => (self.decided(answered)?, true),
            Body::SleepStarted(sleep) => {
                let data = json!({ "until": rfc3339(sleep.until) });
                let open = Open::new(entry, "sleep", data);
                return self.opened(entry, |reader| reader.sleep.insert(open));
            }
            Body::SleepEnded => (self.sleep.take()?, true),
            Body::Ended(ended) => {
                terminal = true;
                *self = Self { run: std::mem::take(&mut self.run), ..Self::default() };
                match &ended.outcome {
                    Outcome::Done(output) => {
                        let (kind, data) = result_of(output);
                        let mut value = json!({ "resultType": kind });
                        merge(&mut value, json!(data));
                        instant("result", value)
                    }
                    Outcome::Error(error) => instant("error", json!(ErrorView::from(error))),
                }
            }
        };
        let event = open.event(&self.run, entry, finished);
        Some((open.seq, Update { seq: entry.seq, event, terminal }))
    }

    /// Keeps what an entry opens, and shows it.
    fn opened(
        &mut self,
        entry: &Entry,
        keep: impl FnOnce(&mut Self) -> &mut Open,
    ) -> Option<(u64, Update)> {
        let run = self.run.clone();
        let event = keep(self).event(&run, entry, false);
        Some((entry.seq, Update { seq: entry.seq, event, terminal: false }))
    }

    /// What people are asked, with all that they need to know of the call.
    fn approval(&self, entry: &Entry, asked: &ApprovalAsked) -> Option<Open> {
        let mut data = self.calls.get(&asked.call)?.data.clone();
        merge(&mut data, json!({ "until": rfc3339(asked.until) }));
        Some(Open::new(entry, "approval", data))
    }

    fn decided(&mut self, answered: &ApprovalAnswered) -> Option<Open> {
        let mut open = self.approvals.remove(&answered.call)?;
        let (decision, more) = match &answered.decision {
            Approval::Approved => ("approved", Value::Null),
            Approval::Edited(arguments) => {
                let edited = json!({ "editedArguments": arguments.to_value() });
                if let Some(call) = self.calls.get_mut(&answered.call) {
                    merge(&mut call.data, edited.clone());
                }
                ("edited", edited)
            }
            Approval::Denied(reason) => ("denied", json!({ "reason": reason })),
            Approval::TimedOut => ("timed_out", Value::Null),
        };
        let by = Some(&answered.by).filter(|by| !by.is_empty());
        merge(&mut open.data, json!({ "decision": decision, "by": by }));
        merge(&mut open.data, more);
        Some(open)
    }
}

impl Open {
    fn new(entry: &Entry, kind: &str, data: Value) -> Self {
        Self { seq: entry.seq, at: entry.at, kind: kind.to_owned(), data }
    }

    fn event(&self, run: &str, entry: &Entry, finished: bool) -> ApiEvent {
        ApiEvent {
            id: self.seq.to_string(),
            run_id: run.to_owned(),
            kind: self.kind.clone(),
            data: self.data.clone(),
            started_at: rfc3339(self.at),
            finished_at: finished.then(|| rfc3339(entry.at)),
            seq: entry.seq,
        }
    }

    fn answered(&mut self, answered: &ToolAnswered) {
        let answer = match &answered.answer {
            Answer::Ok(output) => {
                let sources: Vec<_> = output.sources.iter().map(SourceView::from).collect();
                json!({ "result": output.content.to_value(), "sources": sources })
            }
            Answer::Error(error) => json!({ "error": error }),
        };
        merge(&mut self.data, answer);
        if !answered.attempts.is_empty() {
            let attempts: Vec<_> = answered.attempts.iter().map(attempt).collect();
            merge(&mut self.data, json!({ "attempts": attempts }));
        }
        if let Some(usage) = &answered.usage {
            merge(&mut self.data, json!({ "usage": data_of_usage(usage) }));
        }
    }
}

fn attempt(attempt: &Attempt) -> Value {
    json!({ "error": attempt.error, "waitedMs": attempt.waited_ms })
}

fn data_of_usage(usage: &Usage) -> Value {
    let mut data =
        json!({ "inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens });
    if let Some(cost) = usage.cost_micros {
        merge(&mut data, json!({ "costMicros": cost }));
    }
    data
}

fn data_of_start(started: &Started) -> Value {
    let tools: Vec<_> = started.tools.iter().map(|tool| &tool.name).collect();
    json!({
        "agentId": started.agent,
        "revisionId": started.revision,
        "input": started.input.to_value(),
        "tools": tools,
    })
}

/// What an agent said when it opened a span and when it closed it, as one value.
fn both_ends(opened: Value, closed: Value) -> Value {
    let says_nothing = |value: &Value| {
        value.is_null() || value.as_object().is_some_and(|members| members.is_empty())
    };
    match (opened, closed) {
        (opened, closed) if says_nothing(&closed) => opened,
        (opened, closed) if says_nothing(&opened) => closed,
        (Value::Object(mut members), Value::Object(more)) => {
            members.extend(more);
            Value::Object(members)
        }
        (opened, closed) => {
            let ends = [("opened".to_owned(), opened), ("closed".to_owned(), closed)];
            Value::Object(Map::from_iter(ends))
        }
    }
}

/// Adds the members of one object to another.
fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(members), Value::Object(more)) = (value, more) {
        members.extend(more);
    }
}

#[cfg(test)]
mod tests;

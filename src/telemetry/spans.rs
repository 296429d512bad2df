//! A run's journal as spans, by OpenTelemetry's conventions for generative AI.
//!
//! | span | what | kind |
//! | --- | --- | --- |
//! | `invoke_agent AGENT` | the run; all others are below it | internal |
//! | `chat MODEL` | a call of a model | client |
//! | `execute_tool TOOL` | a call of any other tool | internal |
//! | `approval TOOL` | a person was asked about the call above it | internal |
//! | `sleep` | the run waited for a time | internal |
//! | an agent's word | a span that the agent opened, such as `planning` | internal |
//!
//! Nothing here is observed: times, names and numbers are the journal's, the trace's id is
//! the run's, and a span's id follows from the run and the entry that began it. So exporting
//! a run twice gives the same trace twice, which backends store as one.
//!
//! What was read and written is left out unless it is asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::calls;
use super::contents::{Contents, messages_of_input, messages_of_output};
use crate::journal::{
    Approval, Body, Content, Ended, Entry, Micros, Outcome, Started, ToolCalled, Usage,
};
use crate::json::Json;
use crate::revision::Digest;

/// Spans of one run. A trace with more cannot be looked at, and hardly be sent.
const MAX_SPANS: usize = 10_000;

/// The spans of a run that has ended; none of one that has not.
pub fn spans(entries: &[Entry], contents: bool) -> Vec<SpanData> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Vec::new() };
    let (Body::Started(started), Body::Ended(ended)) = (&first.body, &last.body) else {
        return Vec::new();
    };
    let mut trace = Trace::new(started, contents);
    for entry in entries {
        if entry.seq == started.shared() {
            trace.begin_here(started.began(first.at));
        }
        trace.read(entry);
    }
    trace.close(last, ended);
    let root = trace.root(first, last, started, ended);
    trace.spans.push(root);
    trace.spans
}

struct Trace {
    id: TraceId,
    run: String,
    scope: InstrumentationScope,
    spans: Vec<SpanData>,
    /// Spans that did not fit.
    dropped: u64,
    usage: Usage,
    contents: Contents,
    calls: BTreeMap<u64, (Open, ToolCalled)>,
    approvals: BTreeMap<u64, Open>,
    agents: BTreeMap<u64, Open>,
    sleep: Option<Open>,
}

/// A span that has begun.
pub(super) struct Open {
    seq: u64,
    at: Micros,
    parent: u64,
    pub name: Cow<'static, str>,
    pub kind: SpanKind,
    pub attributes: Vec<KeyValue>,
    pub status: Status,
}

impl Open {
    fn new(entry: &Entry, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            seq: entry.seq,
            at: entry.at,
            parent: 0,
            name: name.into(),
            kind: SpanKind::Internal,
            attributes: Vec::new(),
            status: Status::Unset,
        }
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(key, value));
    }

    /// Marks what failed, with a word for what kind of failure it was.
    pub fn fail(&mut self, kind: String, description: String) {
        self.set("error.type", kind);
        self.status = Status::error(description);
    }
}

impl Trace {
    fn new(started: &Started, contents: bool) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self {
            id: trace_id(&started.run),
            run: started.run.clone(),
            scope: InstrumentationScope::builder("reenact").with_version(version).build(),
            spans: Vec::new(),
            dropped: 0,
            usage: Usage::default(),
            contents: Contents::new(contents),
            calls: BTreeMap::new(),
            approvals: BTreeMap::new(),
            agents: BTreeMap::new(),
            sleep: None,
        }
    }

    /// What a fork shares with its parent is in the parent's trace, and was paid for
    /// there. What was still open then goes on in the fork, from when that was made.
    fn begin_here(&mut self, at: Micros) {
        self.spans.clear();
        self.dropped = 0;
        self.usage = Usage::default();
        let calls = self.calls.values_mut().map(|(open, _)| open);
        let others = self.approvals.values_mut().chain(self.agents.values_mut());
        for open in calls.chain(others).chain(&mut self.sleep) {
            open.at = open.at.max(at);
        }
    }

    fn read(&mut self, entry: &Entry) {
        match &entry.body {
            Body::ToolCalled(call) => {
                self.calls.insert(call.call, (Open::new(entry, ""), call.clone()));
            }
            Body::ToolAnswered(answered) => {
                let Some((mut open, call)) = self.calls.remove(&answered.call) else { return };
                if let Some(usage) = &answered.usage {
                    self.usage.input_tokens += usage.input_tokens;
                    self.usage.output_tokens += usage.output_tokens;
                    let cost = usage.cost_micros.unwrap_or(0);
                    *self.usage.cost_micros.get_or_insert(0) += cost;
                }
                calls::describe(&mut open, &call, Some(answered), &mut self.contents);
                self.end(open, entry.at);
            }
            Body::ApprovalAsked(asked) => {
                let Some((call_span, call)) = self.calls.get(&asked.call) else { return };
                let mut open = Open::new(entry, format!("approval {}", call.name));
                open.parent = call_span.seq;
                open.set("gen_ai.tool.name", call.name.clone());
                self.approvals.insert(asked.call, open);
            }
            Body::ApprovalAnswered(answered) => {
                let Some(mut open) = self.approvals.remove(&answered.call) else { return };
                let decision = match &answered.decision {
                    Approval::Approved => "approved",
                    Approval::Edited(arguments) => {
                        if let Some((_, call)) = self.calls.get_mut(&answered.call) {
                            call.arguments = arguments.clone();
                        }
                        "edited"
                    }
                    Approval::Denied(_) => "denied",
                    Approval::TimedOut => "timed_out",
                };
                open.set("reenact.approval.decision", decision);
                self.end(open, entry.at);
            }
            Body::SpanOpened(span) => {
                let mut open = Open::new(entry, span.kind.clone());
                self.contents.json(&mut open, "reenact.span.opened", &span.data);
                self.agents.insert(span.span, open);
            }
            Body::SpanClosed(span) => {
                let Some(mut open) = self.agents.remove(&span.span) else { return };
                self.contents.json(&mut open, "reenact.span.closed", &span.data);
                self.end(open, entry.at);
            }
            Body::SleepStarted(_) => self.sleep = Some(Open::new(entry, "sleep")),
            Body::SleepEnded => {
                if let Some(open) = self.sleep.take() {
                    self.end(open, entry.at);
                }
            }
            Body::Started(_) | Body::Event(_) | Body::Log(_) | Body::Ended(_) => {}
        }
    }

    /// What the run left open ends with it.
    fn close(&mut self, last: &Entry, ended: &Ended) {
        let why = match &ended.outcome {
            Outcome::Done(_) => None,
            Outcome::Error(error) => Some(error.code),
        };
        let mut left: Vec<Open> = Vec::new();
        for (_, (mut open, call)) in std::mem::take(&mut self.calls) {
            calls::describe(&mut open, &call, None, &mut self.contents);
            left.push(open);
        }
        left.extend(std::mem::take(&mut self.approvals).into_values());
        left.extend(std::mem::take(&mut self.agents).into_values());
        left.extend(self.sleep.take());
        for mut open in left {
            if let Some(code) = why {
                open.fail(code.to_string(), code.meaning().trim().to_owned());
            }
            self.end(open, last.at);
        }
    }

    fn root(&mut self, first: &Entry, last: &Entry, started: &Started, ended: &Ended) -> SpanData {
        let mut open = Open::new(first, format!("invoke_agent {}", started.agent));
        open.at = started.began(first.at);
        open.set("gen_ai.operation.name", "invoke_agent");
        open.set("gen_ai.provider.name", "reenact");
        open.set("gen_ai.agent.id", started.agent.clone());
        open.set("gen_ai.agent.name", started.agent.clone());
        open.set("gen_ai.agent.version", started.revision.to_string());
        open.set("reenact.run.id", started.run.clone());
        if let Some(fork) = &started.fork {
            open.set("reenact.fork.run.id", fork.run.clone());
            open.set("reenact.fork.entry", int(fork.at));
        }
        open.set("reenact.fuel", int(last.fuel));
        open.set("reenact.memory_bytes", int(ended.used.memory_bytes));
        calls::set_usage(&mut open, &self.usage);
        if self.dropped > 0 {
            open.set("reenact.spans.dropped", int(self.dropped));
        }
        self.contents
            .set(&mut open, "gen_ai.input.messages", || messages_of_input(started.input.as_str()));
        match &ended.outcome {
            Outcome::Done(output) => {
                let (kind, text) = match &output.content {
                    Content::Document(text) => ("text", text.as_str()),
                    Content::Json(value) => ("json", Json::as_str(value)),
                };
                open.set("gen_ai.output.type", kind);
                self.contents.set(&mut open, "gen_ai.output.messages", || messages_of_output(text));
            }
            Outcome::Error(error) => {
                // The message is the agent's own text, and so is content.
                let message = match self.contents.are_wanted() {
                    true => error.message.clone(),
                    false => error.code.meaning().trim().to_owned(),
                };
                open.fail(error.code.to_string(), message);
            }
        }
        self.data(open, last.at)
    }

    fn end(&mut self, open: Open, at: Micros) {
        if self.spans.len() >= MAX_SPANS {
            self.dropped += 1;
            return;
        }
        let span = self.data(open, at);
        self.spans.push(span);
    }

    fn data(&self, open: Open, at: Micros) -> SpanData {
        let own = span_id(&self.run, open.seq);
        let is_root = open.seq == 0;
        SpanData {
            span_context: SpanContext::new(
                self.id,
                own,
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: match is_root {
                true => SpanId::INVALID,
                false => span_id(&self.run, open.parent),
            },
            parent_span_is_remote: false,
            span_kind: open.kind,
            name: open.name,
            start_time: time(open.at),
            end_time: time(at),
            attributes: open.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: open.status,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// An attribute's number; one that is too large for it says so by being the largest.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn time(at: Micros) -> SystemTime {
    // Only a damaged journal has a time that no clock shows.
    UNIX_EPOCH.checked_add(Duration::from_micros(at)).unwrap_or(UNIX_EPOCH)
}

/// The run's UUID; a run that is named otherwise has a digest's worth.
fn trace_id(run: &str) -> TraceId {
    let digest = || {
        let digest = Digest::of(run.as_bytes());
        digest.as_bytes()[..16].try_into().expect("a digest has 32 bytes")
    };
    TraceId::from_bytes(uuid::Uuid::try_parse(run).map_or_else(|_| digest(), |id| *id.as_bytes()))
}

/// The id of the span that the entry `seq` begins.
fn span_id(run: &str, seq: u64) -> SpanId {
    let digest = Digest::of_parts(&[run.as_bytes(), b" ", &seq.to_be_bytes()]);
    SpanId::from_bytes(digest.as_bytes()[..8].try_into().expect("a digest has 32 bytes"))
}

#[cfg(test)]
mod tests;

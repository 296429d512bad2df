//! What another revision did in a recorded run, for people and for machines.

use std::time::Duration;

use serde_json::{Value, json};

use super::diff::{self, entry_changes};
use super::entry::Lines;
use super::run::value_of;
use super::table::pairs;
use super::{style, text};
use crate::journal::{Answer, Approval, Body, Content, Ended, Entry, Outcome, Started, ToolCalled};
use crate::revision::Digest;
use crate::runtime::{CallChange, Divergence, Found, Stop, WhatIf};

/// Entries after a divergence, and calls, that are shown.
const MAX_SHOWN: usize = 40;
const WIDTH: usize = 120;

/// A run, and another revision that was held against it.
pub struct Report {
    pub run: String,
    /// The revision that made the record.
    pub recorded: (String, Digest),
    pub against: (String, Digest),
    pub what_if: WhatIf,
    pub took: Duration,
}

impl Report {
    pub fn new(
        started: &Started,
        against: (String, Digest),
        what_if: WhatIf,
        took: Duration,
    ) -> Self {
        let recorded = (started.agent.clone(), started.revision);
        Self { run: started.run.clone(), recorded, against, what_if, took }
    }

    /// Whether the other revision did everything that the record holds.
    pub fn is_same(&self) -> bool {
        self.what_if.divergence.is_none()
    }

    /// In one line, how it came out.
    pub fn verdict(&self) -> String {
        let what_if = &self.what_if;
        let Some(divergence) = &what_if.divergence else {
            return match what_if.stop {
                Stop::RecordOver => "the same as far as the record goes".to_owned(),
                _ => "the same".to_owned(),
            };
        };
        let calls = if what_if.has_same_calls() { "the same calls" } else { "other calls" };
        let result = match what_if.has_same_result() {
            None => "",
            Some(true) => ", the same result",
            Some(false) if what_if.found_end().is_none() => ", no result",
            Some(false) => ", another result",
        };
        let (at, of) = (divergence.index, what_if.recorded.len());
        format!("departs at entry {at} of {of}: {calls}{result}")
    }

    /// The report for people.
    pub fn describe(&self) -> String {
        let what_if = &self.what_if;
        let of = |(agent, digest): &(String, Digest)| {
            format!("{}@{}", text::line(agent, 63), digest.short())
        };
        let title = format!("{} · {}", text::line(&self.run, 64), of(&self.recorded));
        let against = format!("against {}", of(&self.against));
        let took = format!(
            "{}, {} taken from the record, no tool was called",
            text::duration(self.took.as_micros() as u64),
            text::plural(answers(&what_if.found), "answer", "answers"),
        );
        let Some(divergence) = &what_if.divergence else {
            let head = format!("{} {title} {against}: {}", style::good("✓"), self.verdict());
            let end = what_if.found_end().map_or_else(|| "none on record".to_owned(), end_of);
            return format!("{head}\n{}", pairs([("end", end), ("took", took)]));
        };
        let head = format!(
            "{} {title} {against} departs at entry {} of {}",
            style::bad("✗"),
            divergence.index,
            what_if.recorded.len()
        );
        let mut parts = vec![head, describe_divergence(divergence)];
        let followed = self.followed();
        if !followed.is_empty() {
            parts.push(format!("\n{}\n{followed}", style::strong("what followed")));
        }
        parts.push(format!(
            "\n{}",
            pairs([("calls", self.calls()), ("result", self.result()), ("took", took)])
        ));
        parts.join("\n")
    }

    /// What the other revision did from the divergence on, one entry a line.
    fn followed(&self) -> String {
        let what_if = &self.what_if;
        if let [Entry { body: Body::Ended(_), .. }] = what_if.followed() {
            // It only ended, and how, its result tells.
            return String::new();
        }
        let mut lines = Lines::new(Some(WIDTH));
        let from = what_if.found.len() - what_if.followed().len();
        for entry in &what_if.found[..from] {
            let _ = lines.line(entry);
        }
        let mut shown: Vec<String> =
            what_if.followed().iter().filter_map(|entry| lines.line(entry)).collect();
        let left_out = shown.len().saturating_sub(MAX_SHOWN);
        if left_out > 0 {
            let end = shown.split_off(shown.len() - MAX_SHOWN / 2);
            shown.truncate(MAX_SHOWN / 2);
            shown.push(format!("  … {} more …", text::count(left_out as u64)));
            shown.extend(end);
        }
        for called in what_if.unanswered().into_iter().take(MAX_SHOWN) {
            let call = text::line(&call_line(called), WIDTH);
            shown.push(format!("  {} {call}: the record holds no answer", style::warn("stopped")));
        }
        shown.join("\n")
    }

    /// The calls that only one of the two made.
    pub fn calls(&self) -> String {
        let changes = self.what_if.calls();
        let (mut same, mut others) = (0, Vec::new());
        for change in &changes {
            match change {
                CallChange::Same(_) => same += 1,
                CallChange::Gone(call) => {
                    others.push(format!(
                        "{} {}",
                        style::bad("-"),
                        text::line(&call_line(call), WIDTH)
                    ));
                }
                CallChange::New(call) => {
                    others.push(format!(
                        "{} {}",
                        style::good("+"),
                        text::line(&call_line(call), WIDTH)
                    ));
                }
            }
        }
        let count = text::plural(same, "call is the same", "calls are the same");
        if others.is_empty() {
            return count;
        }
        let more = others.len().saturating_sub(MAX_SHOWN);
        others.truncate(MAX_SHOWN);
        if more > 0 {
            others.push(format!("… and {more} more"));
        }
        format!("{count}, others are not\n{}", others.join("\n"))
    }

    /// The result beside the recorded one.
    pub fn result(&self) -> String {
        let what_if = &self.what_if;
        match (what_if.recorded_end(), what_if.found_end()) {
            (None, None) => "neither has one".to_owned(),
            (None, Some(found)) => format!("the record has none; {}", end_of(found)),
            (Some(recorded), None) => format!("none; recorded: {}", end_of(recorded)),
            (Some(_), Some(found)) if what_if.has_same_result() == Some(true) => {
                format!("the same: {}", end_of(found))
            }
            (Some(recorded), Some(found)) => compare_results(&recorded.outcome, &found.outcome),
        }
    }

    /// The report for machines.
    pub fn document(&self) -> Value {
        let what_if = &self.what_if;
        let calls = what_if.calls();
        let call = |call: &ToolCalled| json!({ "name": call.name, "arguments": call.arguments.to_value() });
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for change in &calls {
            match change {
                CallChange::Same(_) => {}
                CallChange::Gone(called) => gone.push(call(called)),
                CallChange::New(called) => new.push(call(called)),
            }
        }
        let outcome = |ended: Option<&Ended>| ended.map(|ended| value_of(&ended.outcome));
        json!({
            "run": self.run,
            "agent": self.recorded.0,
            "revision": self.recorded.1,
            "against": self.against.1,
            "same": self.is_same(),
            "entries": what_if.recorded.len(),
            "divergence": what_if.divergence.as_deref().map(divergence_document),
            "followed": value_of(&what_if.followed()),
            "stop": match what_if.stop {
                Stop::Ended => "ended",
                Stop::Unanswered => "unanswered",
                Stop::RecordOver => "record_over",
            },
            "unanswered": what_if.unanswered().into_iter().map(call).collect::<Vec<_>>(),
            "calls": { "same": what_if.has_same_calls(), "gone": gone, "new": new },
            "result": {
                "same": what_if.has_same_result(),
                "recorded": outcome(what_if.recorded_end()),
                "found": outcome(what_if.found_end()),
            },
            "seconds": self.took.as_secs_f64(),
        })
    }
}

/// A divergence for people: what was expected, what was found, and in what they differ.
pub fn describe_divergence(divergence: &Divergence) -> String {
    let expected = divergence.expected.as_ref().map(|expected| &expected.body);
    let found = found_body(divergence);
    let headline = |body: Option<&Body>| body.map(|body| text::line(&headline(body), WIDTH));
    let mut rows = vec![
        ("expected", headline(expected).unwrap_or_else(|| "the end of the journal".to_owned())),
        ("found", headline(found).unwrap_or_else(|| waiting(divergence))),
    ];
    if let (Some(Body::Ended(_)), Some(Body::Ended(_))) = (expected, found) {
        // In what they differ is told with their results.
        if rows[0].1 == rows[1].1 {
            rows[1].1 += ", with another result";
        }
        return pairs(rows);
    }
    if let (Some(expected), Some(found)) = (expected, found) {
        let changes = entry_changes(expected, found);
        if !changes.is_empty() {
            rows.push(("changed", diff::describe(&changes)));
        }
    }
    pairs(rows)
}

/// A divergence for machines.
pub fn divergence_document(divergence: &Divergence) -> Value {
    let expected = divergence.expected.as_ref().map(|expected| &expected.body);
    let found = found_body(divergence);
    let changes = match (expected, found) {
        (Some(expected), Some(found)) => entry_changes(expected, found),
        _ => Vec::new(),
    };
    json!({
        "index": divergence.index,
        "expected": expected.map(value_of),
        "found": found.map_or_else(|| json!(waiting(divergence)), value_of),
        "changes": changes.iter().map(diff::Change::document).collect::<Vec<_>>(),
    })
}

fn found_body(divergence: &Divergence) -> Option<&Body> {
    match &divergence.found {
        Found::Request(request) => Some(&request.body),
        Found::Waiting { .. } | Found::Sleeping { .. } => None,
    }
}

fn waiting(divergence: &Divergence) -> String {
    match &divergence.found {
        Found::Request(request) => headline(&request.body),
        Found::Waiting { calls, .. } => {
            let calls: Vec<String> = calls.iter().map(ToString::to_string).collect();
            format!("a wait for the answers of calls {}", calls.join(", "))
        }
        Found::Sleeping { .. } => "a wait for a time".to_owned(),
    }
}

/// An entry in one line.
fn headline(body: &Body) -> String {
    let plain = |json: &crate::json::Json| text::plain(&json.to_value());
    match body {
        Body::Started(started) => format!("the start of a run of {}", started.agent),
        Body::Event(event) => format!("{} {}", event.kind, plain(&event.data)),
        Body::SpanOpened(span) => format!("{} ▸ {}", span.kind, plain(&span.data)),
        Body::SpanClosed(span) => format!("◂ {}", plain(&span.data)),
        Body::Log(log) => format!("a line printed: {}", log.text),
        Body::ToolCalled(called) => format!("tool_call {}", call_line(called)),
        Body::ToolAnswered(answered) => match &answered.answer {
            Answer::Ok(output) => {
                format!("answer to call {}: {}", answered.call, plain(&output.content))
            }
            Answer::Error(error) => {
                format!("answer to call {}: ✗ {}", answered.call, error.message)
            }
        },
        Body::ApprovalAsked(asked) => format!("a person is asked about call {}", asked.call),
        Body::ApprovalAnswered(answered) => match &answered.decision {
            Approval::Approved | Approval::Edited(_) => format!("call {} approved", answered.call),
            Approval::Denied(_) | Approval::TimedOut => format!("call {} denied", answered.call),
        },
        Body::SleepStarted(sleep) => format!("sleep until {}", text::time(sleep.until)),
        Body::SleepEnded => "woke".to_owned(),
        Body::Ended(ended) => end_of(ended),
    }
}

fn call_line(called: &ToolCalled) -> String {
    format!("{} {}", called.name, text::plain(&called.arguments.to_value()))
}

fn end_of(ended: &Ended) -> String {
    match &ended.outcome {
        Outcome::Done(_) => "done".to_owned(),
        Outcome::Error(error) => format!("error: {}: {}", error.code, error.message),
    }
}

fn answers(entries: &[Entry]) -> u64 {
    entries.iter().filter(|entry| matches!(entry.body, Body::ToolAnswered(_))).count() as u64
}

fn compare_results(recorded: &Outcome, found: &Outcome) -> String {
    if let (Outcome::Done(a), Outcome::Done(b)) = (recorded, found) {
        let difference = match (&a.content, &b.content) {
            (Content::Document(a), Content::Document(b)) if a != b => diff::texts(a, b),
            (a, b) if a != b => diff::describe(&diff::changes(&value_of(a), &value_of(b))),
            _ => diff::describe(&diff::changes(&value_of(&a.sources), &value_of(&b.sources))),
        };
        return format!("another one\n{difference}");
    }
    let difference = diff::describe(&diff::changes(&value_of(recorded), &value_of(found)));
    format!("another one\n{difference}")
}

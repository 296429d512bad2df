//! One run as a document: for machines, and the parts of it for people.

use serde::Serialize;
use serde_json::{Value, json};

use super::table::pairs;
use super::{style, text};
use crate::journal::{
    Answer, Body, Content, Encoded, Ended, Entry, Outcome, Source, Started, verify_all,
};
use crate::revision::Digest;
use crate::runtime::now;
use crate::service::view::ErrorView;
use crate::storage::{RunRow, RunStatus, Waits};

/// A run and its whole journal.
pub struct Recorded {
    pub started: Started,
    pub entries: Vec<Entry>,
    pub head: Digest,
}

impl Recorded {
    /// Verifies and reads a journal.
    pub fn read(encoded: &[Encoded]) -> Result<Self, crate::journal::Damage> {
        let entries = verify_all(encoded)?;
        let (Some(Entry { body: Body::Started(started), .. }), Some(last)) =
            (entries.first(), encoded.last())
        else {
            let what = "it is not the start of a run".to_owned();
            return Err(crate::journal::Damage { index: 0, what });
        };
        Ok(Self { started: (**started).clone(), head: last.hash, entries })
    }

    pub fn ended(&self) -> Option<&Ended> {
        match &self.entries.last()?.body {
            Body::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    fn last(&self) -> &Entry {
        self.entries.last().expect("a journal that was read has an entry")
    }

    /// Microseconds from the run's beginning to its last entry.
    pub fn took(&self) -> u64 {
        self.last().at.saturating_sub(self.began())
    }

    /// When the run began; for a fork, when it was made.
    pub fn began(&self) -> u64 {
        self.started.began(self.entries[0].at)
    }

    /// The run as one document, in the words of the HTTP API.
    pub fn document(&self) -> Value {
        let outcome = self.ended().map(|ended| &ended.outcome);
        let (status, error, result) = match outcome {
            None => ("running", Value::Null, None),
            Some(Outcome::Error(error)) => ("error", value_of(error), None),
            Some(Outcome::Done(output)) => ("done", Value::Null, Some(output)),
        };
        let (result_type, content) = match result.map(|output| &output.content) {
            None => (Value::Null, Value::Null),
            Some(Content::Document(text)) => (json!("document"), json!(text)),
            Some(Content::Json(value)) => (json!("json"), value.to_value()),
        };
        json!({
            "id": self.started.run,
            "agentId": self.started.agent,
            "revisionId": self.started.revision,
            "status": status,
            "createdAt": text::timestamp(self.began()),
            "updatedAt": text::timestamp(self.last().at.max(self.began())),
            "forkedFrom": self.started.fork.as_ref().map(|fork| json!({
                "runId": fork.run,
                "entry": fork.at,
                "journalHash": fork.head,
                "setResult": fork.set_result,
            })),
            "input": self.started.input.to_value(),
            "error": error,
            "resultType": result_type,
            "resultData": result.map(|output| json!({
                "result": content,
                "sources": output.sources,
            })),
            "fuel": self.last().fuel,
            "limits": self.started.limits,
            "used": self.ended().map(|ended| ended.used),
            "engine": self.started.engine,
            "tools": self.started.tools.iter().map(|tool| &tool.name).collect::<Vec<_>>(),
            "entries": self.entries.len(),
            "journalHash": self.head,
        })
    }

    /// One line: how it ended and what it took.
    pub fn summary(&self) -> String {
        let took = self.took();
        let end = match self.ended().map(|ended| &ended.outcome) {
            None => style::warn("not ended"),
            Some(Outcome::Done(_)) => style::good("done"),
            Some(Outcome::Error(error)) => style::bad(format!("error: {}", error.code)),
        };
        let used = self.ended().map(|ended| ended.used).unwrap_or_default();
        let parts = [
            format!("{end} in {}", text::duration(took)),
            format!("fuel {}", text::fuel(self.last().fuel)),
            text::plural(used.events, "event", "events"),
            text::plural(used.tool_calls, "tool call", "tool calls"),
            format!("memory {}", text::bytes(used.memory_bytes)),
        ];
        let mut parts = parts.to_vec();
        if used.model_tokens > 0 {
            parts.push(text::plural(used.model_tokens, "token", "tokens"));
        }
        if used.model_cost_micros > 0 {
            parts.push(format!("cost {}", text::millionths(used.model_cost_micros)));
        }
        parts.join(" · ")
    }

    /// Limits and what was used of each.
    pub fn limits(&self) -> String {
        let used = self.ended().map(|ended| ended.used).unwrap_or_default();
        let most = Most::of(&self.entries);
        let rows = self.started.limits.rows().into_iter().map(|(info, limit)| {
            let used = match info.name {
                "fuel" => Some(self.last().fuel),
                "memory_bytes" => Some(used.memory_bytes),
                "table_elements" => Some(used.table_elements),
                "deadline_ms" => Some(self.took() / 1_000),
                "input_bytes" => Some(self.started.input.as_str().len() as u64),
                "output_bytes" => Some(used.output_bytes),
                "events" => Some(used.events),
                "event_bytes" => Some(most.event_bytes),
                "log_bytes" => Some(used.log_bytes),
                "log_lines" => Some(most.log_lines),
                "tool_calls" => Some(used.tool_calls),
                "calls_at_once" => Some(most.calls_at_once),
                "argument_bytes" => Some(most.argument_bytes),
                "answer_bytes" => Some(most.answer_bytes),
                "tool_timeout_ms" => Some(most.call_micros / 1_000),
                "sources" => Some(most.sources),
                "journal_bytes" => Some(used.journal_bytes),
                "model_tokens" => Some(used.model_tokens),
                "model_cost_micros" => Some(used.model_cost_micros),
                // Handles come and go unrecorded.
                _ => None,
            };
            let limit = text::count(limit);
            let value = match used {
                Some(used) => format!("{} of {limit}", text::count(used)),
                None => format!("at most {limit}"),
            };
            (info.name, value)
        });
        pairs(rows.collect::<Vec<_>>())
    }
}

/// The most that a run had of what its entries tell one by one.
#[derive(Default)]
struct Most {
    event_bytes: u64,
    log_lines: u64,
    calls_at_once: u64,
    argument_bytes: u64,
    answer_bytes: u64,
    call_micros: u64,
    sources: u64,
}

impl Most {
    fn of(entries: &[Entry]) -> Self {
        let mut most = Self::default();
        let mut called: Vec<u64> = Vec::new();
        let mut at_once = 0;
        let at_least = |most: &mut u64, n: usize| *most = (*most).max(n as u64);
        for entry in entries {
            let is_call = matches!(entry.body, Body::ToolCalled(_));
            at_once = if is_call { at_once + 1 } else { 0 };
            at_least(&mut most.calls_at_once, at_once);
            match &entry.body {
                Body::Event(event) => at_least(&mut most.event_bytes, event.data.as_str().len()),
                Body::SpanOpened(span) => at_least(&mut most.event_bytes, span.data.as_str().len()),
                Body::SpanClosed(span) => at_least(&mut most.event_bytes, span.data.as_str().len()),
                Body::Log(_) => most.log_lines += 1,
                Body::ToolCalled(call) => {
                    called.push(entry.at);
                    at_least(&mut most.argument_bytes, call.arguments.as_str().len());
                }
                Body::ToolAnswered(answered) => {
                    if let Answer::Ok(output) = &answered.answer {
                        at_least(&mut most.answer_bytes, output.content.as_str().len());
                    }
                    let at = called.get(answered.call as usize).copied().unwrap_or(entry.at);
                    most.call_micros = most.call_micros.max(entry.at.saturating_sub(at));
                }
                Body::Ended(ended) => {
                    if let Outcome::Done(output) = &ended.outcome {
                        at_least(&mut most.sources, output.sources.len());
                    }
                }
                Body::Started(_)
                | Body::ApprovalAsked(_)
                | Body::ApprovalAnswered(_)
                | Body::SleepStarted(_)
                | Body::SleepEnded => {}
            }
        }
        most
    }
}

/// JSON of a value that may hold foreign text; null if that is no JSON after all.
pub fn value_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// An error of a run with all that is known about it.
pub fn explain(error: &ErrorView) -> String {
    let code = style::bad(text::line(&error.code, 60));
    let mut text = format!("{code} {}", text::safe(&error.message));
    if let Some(details) = &error.details {
        let lines = |name: &str| details.get(name).and_then(|lines| lines.as_array());
        match (lines("stderr"), lines("traceback")) {
            (Some(stderr), _) => {
                text += "\n  the guest's last words on stderr:";
                text += &block(stderr);
            }
            (None, Some(traceback)) => text += &block(traceback),
            _ => text += &format!("\n  details: {}", text::line(&details.to_string(), 2_000)),
        }
    }
    if !error.backtrace.is_empty() {
        text += "\n  in the guest's functions, innermost first:";
        for frames in error.backtrace.chunk_by(|a, b| a == b) {
            let name = format!("{:#}", rustc_demangle::demangle(&frames[0]));
            let times =
                if frames.len() > 1 { format!(" ({} times)", frames.len()) } else { String::new() };
            text += &format!("\n    {}{times}", text::line(&name, 200));
        }
    }
    text
}

/// Lines below a heading, as they are indented.
fn block(lines: &[Value]) -> String {
    let lines = lines.iter().filter_map(|line| line.as_str());
    // QuickJS tells its calls within one line.
    let lines = lines.flat_map(|line| line.split("\\n  "));
    let lines = lines.filter(|line| !line.trim().is_empty());
    lines.map(|line| format!("\n    {}", text::indented(line, 400))).collect()
}

/// Sources, each a title and a URL, one a line.
pub fn sources<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let lines = sources.into_iter().map(|(title, url)| {
        let title = text::line(title, 80);
        let url = text::line(url, 200);
        if title == url { format!("  {url}") } else { format!("  {title}  {}", style::dim(url)) }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The titles and URLs of what a journal holds.
pub fn sources_of(sources: &[Source]) -> impl Iterator<Item = (&str, &str)> {
    sources.iter().map(|source| (source.title.as_str(), source.url.as_str()))
}

/// A run's status in one word, or two if its process has gone away.
pub fn status(row: &RunRow) -> String {
    match (&row.code, row.status) {
        (Some(code), _) => format!("error: {code}"),
        (None, RunStatus::Running) if row.lease_until < now() => match row.waits {
            Some(Waits::Approval) if row.wake_at > now() => "running (needs approval)".to_owned(),
            Some(Waits::Sleep) if row.wake_at > now() => "running (asleep)".to_owned(),
            Some(_) => "running (can go on)".to_owned(),
            None => "running (abandoned)".to_owned(),
        },
        (None, status) => status.to_string(),
    }
}

/// A run as a row of a machine-readable list.
pub fn row(row: &RunRow) -> impl Serialize {
    json!({
        "id": row.id,
        "agentId": row.agent,
        "revisionId": row.revision,
        "status": row.status.to_string(),
        "errorCode": row.code,
        "createdAt": text::timestamp(row.created_at),
        "updatedAt": text::timestamp(row.updated_at),
        "forkedFrom": row.parent.as_ref().map(|parent| json!({
            "runId": parent.run,
            "entry": parent.at,
        })),
        "fuel": row.fuel,
        "entries": row.entries,
        "journalHash": row.head,
    })
}

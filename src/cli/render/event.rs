//! One event of the API as one line, in the looks of a journal's entries.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::entry::{Row, Tone, room};
use super::text;
use crate::journal::Micros;
use crate::service::events::ApiEvent;

/// Turns events into lines, in order.
#[derive(Debug)]
pub struct EventLines {
    started_at: Micros,
    width: usize,
    /// What spans said when they were opened, by the ids of their events.
    spans: BTreeMap<String, Value>,
}

impl EventLines {
    /// `width` is that of the terminal; without one, lines are not cut.
    pub fn new(width: Option<usize>) -> Self {
        Self { started_at: 0, width: room(width), spans: BTreeMap::new() }
    }

    /// The line for `event` as it is now, or `None` if it is shown in a later state.
    pub fn line(&mut self, event: &ApiEvent, is_last: bool) -> Option<String> {
        let (began, data) = (text::micros(&event.started_at), &event.data);
        if is_start(event) {
            self.started_at = began;
            return None;
        }
        let ended = event.finished_at.as_deref().map(text::micros);
        let took = ended.map(|ended| ended.saturating_sub(began));
        // What takes time comes twice, and names the entry that opened it.
        let is_instant = event.id == event.seq.to_string() && ended.is_some();
        let member = |name: &str| data.get(name).and_then(Value::as_str);
        let (kind, said, took, tone) = match (event.kind.as_str(), ended) {
            _ if is_last => {
                let took = Some(began.saturating_sub(self.started_at));
                match event.kind.as_str() {
                    "result" => ("done", String::new(), took, Tone::Good),
                    _ => (
                        member("code").unwrap_or("error"),
                        member("message").unwrap_or_default().to_owned(),
                        None,
                        Tone::Bad,
                    ),
                }
            }
            ("log", _) if is_log(data) => {
                let said = member("text").unwrap_or_default().to_owned();
                (member("stream").unwrap_or("stdout"), said, None, Tone::Log)
            }
            (kind, _) if is_instant => (kind, text::plain(data), None, Tone::Plain),
            ("tool_call", None) if member("tool").is_some() => return None,
            ("tool_call", Some(_)) if member("tool").is_some() => {
                ("tool_call", self.answered(data), took, Tone::Plain)
            }
            ("approval", None) => ("approval_asked", called(data), None, Tone::Plain),
            ("approval", Some(_)) => ("approval", decided(data), None, Tone::Plain),
            ("sleep", None) => {
                let until = text::micros(member("until").unwrap_or_default());
                let wait = text::duration(until.saturating_sub(began));
                ("sleep", format!("for {wait}, until {}", text::time(until)), None, Tone::Plain)
            }
            ("sleep", Some(_)) => ("woke", String::new(), took, Tone::Plain),
            (kind, None) => {
                self.spans.insert(event.id.clone(), data.clone());
                (kind, format!("▸ {}", text::plain(data)), None, Tone::Plain)
            }
            (kind, Some(_)) => {
                let said = match self.spans.remove(&event.id) {
                    Some(opened) => added(&opened, data),
                    None => data.clone(),
                };
                (kind, format!("◂ {}", text::plain(&said)), took, Tone::Plain)
            }
        };
        let at = ended.unwrap_or(began).saturating_sub(self.started_at);
        Some(Row { at, fuel: None, kind, said: &said, took, tone }.text(self.width))
    }

    /// A call and how it was answered.
    fn answered(&self, data: &Value) -> String {
        let message = data.get("error").and_then(|error| error.get("message"));
        let answer = match message.and_then(Value::as_str) {
            Some(message) => format!("✗ {message}"),
            None => {
                text::bytes(data.get("result").unwrap_or(&Value::Null).to_string().len() as u64)
            }
        };
        let room = self.width.saturating_sub(answer.chars().count() + 14).max(20);
        format!("{} → {answer}", text::line(&called(data), room))
    }

    /// A call that is under way, for a spinner.
    pub fn under_way(&self, data: &Value) -> String {
        text::line(&called(data), self.width)
    }
}

/// What a span says at its end beyond what it said at its beginning.
fn added(opened: &Value, both: &Value) -> Value {
    match (opened, both) {
        (opened, both) if opened == both => Value::Object(Map::new()),
        (Value::Object(opened), Value::Object(both)) => {
            let is_new = |(name, value): &(&String, &Value)| opened.get(*name) != Some(*value);
            let new = both.iter().filter(is_new);
            Value::Object(new.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        // Two values of which one is no object are shown side by side.
        (_, both) => both.get("closed").unwrap_or(both).clone(),
    }
}

/// Whether it is the first event, whatever agents call theirs.
pub fn is_start(event: &ApiEvent) -> bool {
    event.kind == "started" && event.seq == 0
}

fn is_log(data: &Value) -> bool {
    data.get("stream").is_some_and(Value::is_string)
        && data.get("text").is_some_and(Value::is_string)
}

/// A tool and what it is called with.
fn called(data: &Value) -> String {
    let tool = data.get("tool").and_then(Value::as_str).unwrap_or_default();
    format!("{tool} {}", text::plain(data.get("arguments").unwrap_or(&Value::Null)))
}

fn decided(data: &Value) -> String {
    let member =
        |name: &str| data.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let by = member("by").unwrap_or("nobody");
    match member("decision") {
        Some("approved") => format!("approved by {by}"),
        Some("edited") => {
            let arguments = text::plain(data.get("editedArguments").unwrap_or(&Value::Null));
            format!("approved by {by} as {arguments}")
        }
        Some("denied") => format!("denied by {by}: {}", member("reason").unwrap_or_default()),
        _ => "nobody answered in time: denied".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, id: u64, seq: u64, data: Value, finished: bool) -> ApiEvent {
        let at = |seq| crate::journal::rfc3339(1_700_000_000_000_000 + seq * 1_500_000);
        ApiEvent {
            id: id.to_string(),
            run_id: "run".to_owned(),
            kind: kind.to_owned(),
            data,
            started_at: at(id),
            finished_at: finished.then(|| at(seq)),
            seq,
        }
    }

    #[test]
    fn events_look_like_the_entries_that_they_come_from() {
        let call = json!({ "call": 0, "tool": "files.read", "arguments": { "path": "a" } });
        let mut answered = call.clone();
        answered["result"] = json!("text");
        let mut failed = call.clone();
        failed["error"] = json!({ "code": "denied", "message": "not allowed" });
        let mut decided = call.clone();
        decided["decision"] = json!("denied");
        decided["by"] = json!("ada");
        decided["reason"] = json!("no\u{1b}[2J");
        let until = crate::journal::rfc3339(1_700_000_060_000_000);
        let story = [
            event("started", 0, 0, json!({ "agentId": "x" }), true),
            event("planning", 1, 1, json!({ "goal": "find out", "steps": 2 }), true),
            event("reading", 2, 2, json!({ "path": "a" }), false),
            event("tool_call", 3, 3, call.clone(), false),
            event("tool_call", 3, 4, answered, true),
            event("reading", 2, 5, json!({ "path": "a", "words": 7 }), true),
            event("tool_call", 6, 6, call.clone(), false),
            event("approval", 7, 7, call, false),
            event("approval", 7, 8, decided, true),
            event("tool_call", 6, 9, failed, true),
            event("log", 10, 10, json!({ "stream": "stderr", "text": "  hm" }), true),
            event("sleep", 11, 11, json!({ "until": until }), false),
            event("sleep", 11, 12, json!({ "until": until }), true),
            // An agent may use our words for its own.
            event("tool_call", 13, 13, json!({ "mine": true }), true),
            event("result", 14, 14, json!("mine"), true),
            event("result", 15, 15, json!({ "result": "x" }), true),
        ];
        let mut lines = EventLines::new(None);
        let shown = story.iter().filter_map(|event| lines.line(event, event.seq == 15));
        let shown: Vec<String> =
            shown.map(|line| console::strip_ansi_codes(&line).into()).collect();
        let expected = [
            "   1.500s  planning            find out · steps: 2",
            "   3.000s  reading             ▸ path: a",
            "   6.000s  tool_call           files.read path: a → 6 B (1.50 s)",
            "   7.500s  reading             ◂ words: 7 (4.50 s)",
            "  10.500s  approval_asked      files.read path: a",
            "  12.000s  approval            denied by ada: no\\u{1b}[2J",
            "  13.500s  tool_call           files.read path: a → ✗ not allowed (4.50 s)",
            "  15.000s  stderr                hm",
            "  16.500s  sleep               for 43.50 s, until 2023-11-14 22:14:20 UTC",
            "  18.000s  woke                (1.50 s)",
            "  19.500s  tool_call           mine: true",
            "  21.000s  result              mine",
            "  22.500s  done                (22.50 s)",
        ];
        assert_eq!(shown, expected);
    }
}

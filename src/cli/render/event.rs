//! One event of the API as one line, in the looks of a journal's entries.

use serde_json::Value;

use super::entry::{Row, Tone, room};
use super::text;
use crate::journal::Micros;
use crate::service::events::ApiEvent;

/// Turns events into lines, in order.
#[derive(Debug)]
pub struct EventLines {
    started_at: Micros,
    width: usize,
}

impl EventLines {
    /// `width` is that of the terminal; without one, lines are not cut.
    pub fn new(width: Option<usize>) -> Self {
        Self { started_at: 0, width: room(width) }
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
            (kind, None) => (kind, format!("▸ {}", text::plain(data)), None, Tone::Plain),
            (kind, Some(_)) => (kind, format!("◂ {}", text::plain(data)), took, Tone::Plain),
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

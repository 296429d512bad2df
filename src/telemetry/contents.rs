//! What agents and models read and wrote, for those who ask for it: within bounds, and in
//! the shape of messages that the conventions give it.

use serde_json::{Value, json};

use super::spans::Open;
use crate::json::Json;

/// Bytes of one attribute. Backends cut or refuse longer ones.
const MAX_VALUE: usize = 32 << 10;

/// Bytes of all contents of one run.
const MAX_ALL: usize = 4 << 20;

/// Puts contents into spans, if that is wanted.
pub struct Contents {
    wanted: bool,
    left: usize,
}

impl Contents {
    pub fn new(wanted: bool) -> Self {
        Self { wanted, left: MAX_ALL }
    }

    pub fn are_wanted(&self) -> bool {
        self.wanted
    }

    pub fn json(&mut self, span: &mut Open, key: &'static str, value: &Json) {
        self.set(span, key, || value.as_str().to_owned());
    }

    pub fn set(&mut self, span: &mut Open, key: &'static str, text: impl FnOnce() -> String) {
        if !self.wanted || self.left == 0 {
            return;
        }
        let mut text = text();
        let room = MAX_VALUE.min(self.left);
        if text.len() > room {
            let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        self.left = self.left.saturating_sub(text.len());
        span.set(key, text);
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "text", "content": text })
}

/// What a run was given, as what a user says to an agent.
pub fn messages_of_input(text: &str) -> String {
    json!([{ "role": "user", "parts": [text_part(text)] }]).to_string()
}

/// What a run answered.
pub fn messages_of_output(text: &str) -> String {
    json!([{ "role": "assistant", "parts": [text_part(text)], "finish_reason": "stop" }])
        .to_string()
}

/// What a model was asked.
pub fn messages_of_chat(messages: &Value) -> String {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let message = |message: &Value| {
        let role = message["role"].as_str().unwrap_or("user");
        let parts = match (role, message["content"].as_str()) {
            ("tool", text) => vec![json!({
                "type": "tool_call_response",
                "id": message["tool_call_id"],
                "response": text,
            })],
            (_, text) => parts(text, &message["tool_calls"]),
        };
        json!({ "role": role, "parts": parts })
    };
    Value::Array(messages.iter().map(message).collect()).to_string()
}

/// What a model answered.
pub fn messages_of_answer(answer: &Value, reason: &str) -> String {
    let parts = parts(answer["text"].as_str(), &answer["tool_calls"]);
    json!([{ "role": "assistant", "parts": parts, "finish_reason": reason }]).to_string()
}

fn parts(text: Option<&str>, calls: &Value) -> Vec<Value> {
    let text = text.filter(|text| !text.is_empty()).map(text_part);
    let calls = calls.as_array().map(Vec::as_slice).unwrap_or_default();
    let call = |call: &Value| {
        json!({
            "type": "tool_call",
            "id": call["id"],
            "name": call["name"],
            "arguments": call["arguments"],
        })
    };
    text.into_iter().chain(calls.iter().map(call)).collect()
}

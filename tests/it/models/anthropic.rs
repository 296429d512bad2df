//! Anthropic's messages, streamed.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::{Asked, Says, Wire, event, header, is_function_name};

pub struct Anthropic;

impl Wire for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn base(&self) -> &'static str {
        "/v1/"
    }

    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn key(&self, headers: &HeaderMap) -> Option<String> {
        header(headers, "x-api-key")
    }

    fn refuses(&self, asked: &Asked) -> Option<String> {
        let body = &asked.body;
        if asked.path != "/v1/messages" {
            return Some("Not found".to_owned());
        }
        if header(&asked.headers, "anthropic-version").as_deref() != Some("2023-06-01") {
            return Some("anthropic-version: header is required".to_owned());
        }
        if !body["max_tokens"].is_u64() {
            return Some("max_tokens: Field required".to_owned());
        }
        for tool in body["tools"].as_array().into_iter().flatten() {
            if !is_function_name(tool["name"].as_str().unwrap_or(""))
                || !tool["input_schema"].is_object()
            {
                return Some("tools.0.custom.name: String should match pattern".to_owned());
            }
        }
        messages(body["messages"].as_array()?)
    }

    fn stream(&self, says: &Says) -> Vec<String> {
        let (input, output) = says.tokens.unwrap_or((0, 0));
        let mut pieces = vec![typed(
            "message_start",
            json!({ "message": {
            "id": "msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyY", "type": "message",
            "role": "assistant", "content": [], "model": "claude-opus-4-20250514",
            "stop_reason": null, "stop_sequence": null,
            "usage": { "input_tokens": input, "output_tokens": 1 },
        } }),
        )];
        let mut blocks = Blocks { pieces: &mut pieces, index: 0 };
        if !says.thoughts.is_empty() {
            let mut deltas: Vec<Value> = says
                .thoughts
                .iter()
                .map(|text| json!({ "type": "thinking_delta", "thinking": text }))
                .collect();
            deltas.push(json!({ "type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9" }));
            blocks.add(json!({ "type": "thinking", "thinking": "", "signature": "" }), deltas);
        }
        if !says.text.is_empty() {
            let deltas = says.text.iter().map(|text| json!({ "type": "text_delta", "text": text }));
            blocks.add(json!({ "type": "text", "text": "" }), deltas);
        }
        for (id, name, arguments) in &says.calls {
            let parts = arguments.split_inclusive(':').map(str::to_owned);
            let parts = std::iter::once(String::new()).chain(parts);
            let deltas =
                parts.map(|part| json!({ "type": "input_json_delta", "partial_json": part }));
            blocks.add(json!({ "type": "tool_use", "id": id, "name": name, "input": {} }), deltas);
        }
        let reason = match (says.is_cut, says.calls.is_empty()) {
            (true, _) => "max_tokens",
            (false, false) => "tool_use",
            (false, true) => "end_turn",
        };
        pieces.push(typed(
            "message_delta",
            json!({
                "delta": { "stop_reason": reason, "stop_sequence": null },
                "usage": { "output_tokens": output },
            }),
        ));
        pieces.push(typed("message_stop", json!({})));
        pieces
    }

    fn error(&self, status: u16, message: &str) -> String {
        let kind = match status {
            401 => "authentication_error",
            429 => "rate_limit_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        json!({ "type": "error", "error": { "type": kind, "message": message } }).to_string()
    }

    fn error_event(&self, message: &str) -> String {
        typed("error", json!({ "error": { "type": "overloaded_error", "message": message } }))
    }
}

/// Roles take turns (the same twice is taken together), and results of tools
/// answer exactly the calls before them.
fn messages(messages: &[Value]) -> Option<String> {
    let mut open: Vec<String> = Vec::new();
    for message in messages {
        let blocks = message["content"].as_array().cloned().unwrap_or_default();
        let of = |kind: &str, id: &str| -> Vec<String> {
            let blocks = blocks.iter().filter(|block| block["type"] == kind);
            blocks.filter_map(|block| block[id].as_str().map(str::to_owned)).collect()
        };
        if blocks.iter().any(|block| block["type"] == "text" && block["text"] == "") {
            return Some("messages: text content blocks must be non-empty".to_owned());
        }
        match message["role"].as_str() {
            Some("user") => {
                let results = of("tool_result", "tool_use_id");
                if results != open {
                    return Some(
                        "`tool_use` ids were found without `tool_result` blocks".to_owned(),
                    );
                }
                open = Vec::new();
            }
            Some("assistant") => {
                open = of("tool_use", "id");
                let uses = blocks.iter().filter(|block| block["type"] == "tool_use");
                let fits = |block: &Value| {
                    is_function_name(block["id"].as_str().unwrap_or(""))
                        && is_function_name(block["name"].as_str().unwrap_or(""))
                        && block["input"].is_object()
                };
                if !uses.clone().all(fits) {
                    return Some("messages.1.content.0.tool_use: invalid".to_owned());
                }
            }
            _ => return Some("messages: Unexpected role".to_owned()),
        }
    }
    None
}

struct Blocks<'a> {
    pieces: &'a mut Vec<String>,
    index: usize,
}

impl Blocks<'_> {
    fn add(&mut self, block: Value, deltas: impl IntoIterator<Item = Value>) {
        let index = self.index;
        let start = json!({ "index": index, "content_block": block });
        self.pieces.push(typed("content_block_start", start));
        self.pieces.push(typed("ping", json!({})));
        for delta in deltas {
            let delta = json!({ "index": index, "delta": delta });
            self.pieces.push(typed("content_block_delta", delta));
        }
        self.pieces.push(typed("content_block_stop", json!({ "index": index })));
        self.index += 1;
    }
}

fn typed(kind: &str, mut data: Value) -> String {
    data["type"] = kind.into();
    event(Some(kind), &data)
}

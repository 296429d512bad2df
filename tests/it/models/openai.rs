//! OpenAI's chat completions, streamed.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::{Asked, Says, Wire, event, header, is_function_name};

pub struct OpenAi;

impl Wire for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn base(&self) -> &'static str {
        "/v1/"
    }

    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn key(&self, headers: &HeaderMap) -> Option<String> {
        header(headers, "authorization")?.strip_prefix("Bearer ").map(str::to_owned)
    }

    fn refuses(&self, asked: &Asked) -> Option<String> {
        let body = &asked.body;
        if asked.path != "/v1/chat/completions" {
            return Some(format!("Invalid URL (POST {})", asked.path));
        }
        if body["stream"] != true || body["stream_options"]["include_usage"] != true {
            return Some("this server only streams, and counts".to_owned());
        }
        for tool in body["tools"].as_array().into_iter().flatten() {
            let name = tool["function"]["name"].as_str().unwrap_or("");
            if tool["type"] != "function" || !is_function_name(name) {
                return Some(format!("Invalid 'tools[0].function.name': '{name}'."));
            }
        }
        messages(body["messages"].as_array()?)
    }

    fn stream(&self, says: &Says) -> Vec<String> {
        let mut pieces =
            vec![delta(json!({ "role": "assistant", "content": "", "refusal": null }))];
        // Not OpenAI's, but what many that speak its format do.
        pieces.extend(says.thoughts.iter().map(|text| delta(json!({ "reasoning_content": text }))));
        pieces.extend(says.text.iter().map(|text| delta(json!({ "content": text }))));
        for (index, (id, name, _)) in says.calls.iter().enumerate() {
            pieces.push(call(json!({
                "index": index, "id": id, "type": "function",
                "function": { "name": name, "arguments": "" },
            })));
        }
        // The calls grow side by side.
        for at in 0..says.calls.iter().map(|(_, _, text)| text.len()).max().unwrap_or(0) {
            for (index, (_, _, text)) in says.calls.iter().enumerate() {
                if let Some(text) = text.get(at..=at) {
                    pieces.push(call(json!({ "index": index, "function": { "arguments": text } })));
                }
            }
        }
        let reason = match (says.is_cut, says.calls.is_empty()) {
            (true, _) => "length",
            (false, false) => "tool_calls",
            (false, true) => "stop",
        };
        pieces.push(chunk(
            json!([{
                "index": 0, "delta": {}, "logprobs": null, "finish_reason": reason,
            }]),
            Value::Null,
        ));
        if let Some((input, output)) = says.tokens {
            pieces.push(chunk(json!([]), json!({
                "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
                "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
                "completion_tokens_details": { "reasoning_tokens": 0, "audio_tokens": 0 },
            })));
        }
        pieces.push("data: [DONE]\n\n".to_owned());
        pieces
    }

    fn error(&self, _: u16, message: &str) -> String {
        let error = json!({ "message": message, "type": "x", "param": null, "code": null });
        json!({ "error": error }).to_string()
    }

    fn error_event(&self, message: &str) -> String {
        event(None, &json!({ "error": { "message": message, "type": "server_error" } }))
    }
}

/// Every call must be answered at once, and nothing else.
fn messages(messages: &[Value]) -> Option<String> {
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        if message["role"] == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or("");
            if !open.contains(&id) {
                return Some(format!("No tool call found for tool_call_id '{id}'."));
            }
            open.retain(|known| *known != id);
            continue;
        }
        if !open.is_empty() {
            return Some("tool_call_ids did not have response messages".to_owned());
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let arguments = call["function"]["arguments"].as_str();
            let is_json = arguments.is_some_and(|text| serde_json::from_str::<Value>(text).is_ok());
            if !is_json || !is_function_name(call["function"]["name"].as_str().unwrap_or("")) {
                return Some("Invalid 'messages[].tool_calls[].function'.".to_owned());
            }
            open.extend(call["id"].as_str());
        }
    }
    None
}

fn delta(delta: Value) -> String {
    let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": null });
    chunk(json!([choice]), Value::Null)
}

fn call(call: Value) -> String {
    delta(json!({ "tool_calls": [call] }))
}

fn chunk(choices: Value, usage: Value) -> String {
    event(
        None,
        &json!({
            "id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1_694_268_190,
            "model": "gpt-5-mini-2025-08-07", "service_tier": "default",
            "system_fingerprint": "fp_44709d6fcb", "choices": choices, "usage": usage,
        }),
    )
}

//! Gemini's `streamGenerateContent`.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::{Asked, Says, Wire, header, is_function_name};

pub struct Gemini;

impl Wire for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn base(&self) -> &'static str {
        "/v1beta/"
    }

    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn key(&self, headers: &HeaderMap) -> Option<String> {
        header(headers, "x-goog-api-key")
    }

    fn refuses(&self, asked: &Asked) -> Option<String> {
        let model = asked.path.strip_prefix("/v1beta/models/")?;
        if model.strip_suffix(":streamGenerateContent?alt=sse").is_none_or(|m| m.contains('/')) {
            return Some(format!("unknown path {}", asked.path));
        }
        let tools = asked.body["tools"].as_array().into_iter().flatten();
        for tool in tools.flat_map(|tool| tool["functionDeclarations"].as_array()).flatten() {
            if !is_function_name(tool["name"].as_str().unwrap_or("")) {
                return Some("Invalid function name.".to_owned());
            }
        }
        contents(asked.body["contents"].as_array()?)
    }

    fn stream(&self, says: &Says) -> Vec<String> {
        let thoughts = says.thoughts.iter().map(|text| json!({ "text": text, "thought": true }));
        let texts = says.text.iter().map(|text| json!({ "text": text }));
        let mut chunks: Vec<Value> = thoughts.chain(texts).map(|part| json!([part])).collect();
        // Calls have no ids of their own, and come whole.
        for (_, name, arguments) in &says.calls {
            let args: Value = serde_json::from_str(arguments).unwrap();
            let call = json!({ "name": name, "args": args });
            chunks.push(json!([{ "functionCall": call, "thoughtSignature": "CiQB4/H/XsukhG" }]));
        }
        let last = chunks.len().saturating_sub(1);
        let pieces = chunks.into_iter().enumerate();
        let mut pieces: Vec<String> =
            pieces.map(|(index, parts)| chunk(says, parts, index == last && says.is_cut)).collect();
        if !says.is_cut {
            pieces.push(end(says));
        }
        pieces
    }

    fn error(&self, status: u16, message: &str) -> String {
        let status_name = if status == 429 { "RESOURCE_EXHAUSTED" } else { "INVALID_ARGUMENT" };
        let error = json!({ "code": status, "message": message, "status": status_name });
        json!([{ "error": error }]).to_string()
    }

    fn error_event(&self, message: &str) -> String {
        let error = json!({ "code": 503, "message": message, "status": "UNAVAILABLE" });
        frame(json!({ "error": error }))
    }
}

/// The responses to the functions of one turn stand in the next one, by name.
fn contents(contents: &[Value]) -> Option<String> {
    let mut open: Vec<&str> = Vec::new();
    for content in contents {
        let parts: Vec<&Value> = content["parts"].as_array().into_iter().flatten().collect();
        let of = |kind: &str| -> Vec<&str> {
            parts.iter().filter_map(|part| part[kind]["name"].as_str()).collect()
        };
        if of("functionResponse") != open {
            return Some("function response parts do not match the function call parts".to_owned());
        }
        open = of("functionCall");
    }
    None
}

fn usage(says: &Says) -> Value {
    let Some((input, output)) = says.tokens else { return json!({}) };
    let thoughts = says.thoughts.len() as u64;
    json!({
        "promptTokenCount": input, "candidatesTokenCount": output - thoughts,
        "thoughtsTokenCount": thoughts, "totalTokenCount": input + output,
        "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": input }],
    })
}

fn chunk(says: &Says, parts: Value, is_last: bool) -> String {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    if is_last {
        candidate["finishReason"] = "MAX_TOKENS".into();
    }
    frame(json!({ "candidates": [candidate], "usageMetadata": usage(says) }))
}

fn end(says: &Says) -> String {
    let content = json!({ "parts": [{ "text": "" }], "role": "model" });
    let candidate = json!({ "content": content, "finishReason": "STOP", "index": 0 });
    frame(json!({ "candidates": [candidate], "usageMetadata": usage(says) }))
}

fn frame(mut data: Value) -> String {
    data["modelVersion"] = "gemini-2.5-flash".into();
    data["responseId"] = "mAitaLmkHPPlz7IPvtfUqQ4".into();
    format!("data: {data}\r\n\r\n")
}

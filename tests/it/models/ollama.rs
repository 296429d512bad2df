//! Ollama's `/api/chat`.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::{Asked, Says, Wire, header};

pub struct Ollama;

impl Wire for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn base(&self) -> &'static str {
        "/"
    }

    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn key(&self, headers: &HeaderMap) -> Option<String> {
        header(headers, "authorization")?.strip_prefix("Bearer ").map(str::to_owned)
    }

    fn refuses(&self, asked: &Asked) -> Option<String> {
        if asked.path != "/api/chat" || asked.body["stream"] != true {
            return Some("404 page not found".to_owned());
        }
        let format = &asked.body["format"];
        if !(format.is_null() || format.is_object() || *format == "json") {
            return Some("invalid format".to_owned());
        }
        let messages = asked.body["messages"].as_array()?;
        let roles = ["system", "user", "assistant", "tool"];
        let is_known = |message: &Value| roles.iter().any(|role| message["role"] == *role);
        (!messages.iter().all(is_known)).then(|| "invalid role".to_owned())
    }

    fn stream(&self, says: &Says) -> Vec<String> {
        let thoughts = says.thoughts.iter().map(|text| json!({ "content": "", "thinking": text }));
        let texts = says.text.iter().map(|text| json!({ "content": text }));
        let mut pieces: Vec<String> = thoughts.chain(texts).map(message).collect();
        for (_, name, arguments) in &says.calls {
            let arguments: Value = serde_json::from_str(arguments).unwrap();
            let function = json!({ "name": name, "arguments": arguments });
            let calls = json!([{ "function": function }]);
            pieces.push(message(json!({ "content": "", "tool_calls": calls })));
        }
        let mut end = json!({
            "model": "qwen3", "created_at": "2025-07-07T20:22:19.184789Z",
            "message": { "role": "assistant", "content": "" }, "done": true,
            "done_reason": if says.is_cut { "length" } else { "stop" },
            "total_duration": 182_242_375, "load_duration": 41_295_167,
            "prompt_eval_duration": 24_573_709, "eval_duration": 115_959_084,
        });
        if let Some((input, output)) = says.tokens {
            end["prompt_eval_count"] = input.into();
            end["eval_count"] = output.into();
        }
        pieces.push(format!("{end}\n"));
        pieces
    }

    fn error(&self, _: u16, message: &str) -> String {
        json!({ "error": message }).to_string()
    }

    fn error_event(&self, message: &str) -> String {
        format!("{}\n", self.error(500, message))
    }
}

fn message(mut message: Value) -> String {
    message["role"] = "assistant".into();
    let line = json!({
        "model": "qwen3", "created_at": "2025-07-07T20:22:19.178321Z", "message": message,
        "done": false,
    });
    format!("{line}\n")
}

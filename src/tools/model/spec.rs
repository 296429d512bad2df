//! How `model.chat` is described to agents.

use serde_json::{Value, json};

use crate::tools::ToolSpec;

pub(super) const CHAT: &str = "model.chat";

pub(super) fn chat() -> ToolSpec {
    ToolSpec {
        name: CHAT.to_owned(),
        description: "Asks a language model for the next message of a conversation. Answers its \
            `text`, the `tool_calls` it asks for, why it stopped (`end`, `tool_calls`, `length` or \
            `other`) and the tokens used. The model calls nothing itself: call the tools and send \
            their answers as messages with the role `tool`."
            .to_owned(),
        parameters: parameters(),
        // It changes nothing but what was spent, so after a crash asking again does
        // no harm: the first answer is lost, and the run needs one.
        read_only: false,
        idempotent: true,
    }
}

fn parameters() -> Value {
    json!({
        "type": "object",
        "required": ["messages"],
        "additionalProperties": false,
        "properties": {
            "model": {
                "type": "string",
                "maxLength": 300,
                "description": "`PROVIDER:MODEL`; without it the operator's default",
            },
            "messages": { "type": "array", "minItems": 1, "maxItems": 10_000, "items": message() },
            "tools": { "type": "array", "maxItems": 1_000, "items": tool() },
            "output": {
                "type": "object",
                "required": ["schema"],
                "additionalProperties": false,
                "description": "Makes the model answer JSON that fits the schema",
                "properties": {
                    "name": { "type": "string", "maxLength": 200 },
                    "schema": { "type": "object" },
                },
            },
            "max_tokens": {
                "type": "integer",
                "minimum": 1,
                "maximum": u32::MAX,
                "description": "Of the answer; without it the model's own limit",
            },
            "temperature": { "type": "number", "minimum": 0, "maximum": 2 },
        },
    })
}

fn message() -> Value {
    json!({
        "type": "object",
        "required": ["role"],
        "additionalProperties": false,
        "properties": {
            "role": { "enum": ["system", "user", "assistant", "tool"] },
            "content": { "type": "string" },
            "tool_calls": {
                "type": "array",
                "maxItems": 1_000,
                "description": "What an `assistant` asked for, as it was answered",
                "items": {
                    "type": "object",
                    "required": ["id", "name"],
                    "additionalProperties": false,
                    "properties": {
                        "id": { "type": "string", "maxLength": 1_000 },
                        "name": { "type": "string", "minLength": 1, "maxLength": 1_000 },
                        "arguments": true,
                    },
                },
            },
            "tool_call_id": {
                "type": "string",
                "maxLength": 1_000,
                "description": "Which call a message of a `tool` answers",
            },
        },
    })
}

fn tool() -> Value {
    json!({
        "type": "object",
        "required": ["name"],
        "additionalProperties": false,
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 1_000 },
            "description": { "type": "string" },
            "parameters": { "type": "object", "description": "JSON Schema of the arguments" },
        },
    })
}

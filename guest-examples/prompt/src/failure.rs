//! How the agent gives up: a message for people, details for programs.

use serde_json::{Value, json};

use crate::exports::reenact::agent::guest::Failure;
use crate::reenact::agent::tools::{ToolError, ToolErrorCode};

pub fn failure(message: impl Into<String>) -> Failure {
    Failure { message: message.into(), details: None }
}

pub fn with_details(message: impl Into<String>, details: Value) -> Failure {
    Failure { message: message.into(), details: Some(details.to_string()) }
}

/// The failure of a run whose model cannot be asked, after `turns` turns that
/// it did answer.
pub fn of_model(error: &ToolError, turns: u32, last_text: &str) -> Failure {
    let message = match error.code {
        ToolErrorCode::Denied => format!(
            "this agent needs the tool `model.chat`, and the run was not granted it: {}",
            error.message
        ),
        _ => format!("`model.chat` failed: {}", error.message),
    };
    let details = json!({
        "tool": "model.chat",
        "code": code_name(error.code),
        "message": error.message,
        "turns": turns,
        "last_text": last_text,
    });
    with_details(message, details)
}

pub fn code_name(code: ToolErrorCode) -> &'static str {
    match code {
        ToolErrorCode::Denied => "denied",
        ToolErrorCode::UnknownTool => "unknown-tool",
        ToolErrorCode::InvalidArguments => "invalid-arguments",
        ToolErrorCode::Failed => "failed",
        ToolErrorCode::Timeout => "timeout",
        ToolErrorCode::TooLarge => "too-large",
        ToolErrorCode::Interrupted => "interrupted",
    }
}

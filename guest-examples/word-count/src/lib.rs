//! Counts the lines, words and bytes of a text file, and answers JSON.

mod count;

wit_bindgen::generate!({ path: "../../wit", world: "agent" });

use count::{Counts, count};
use exports::reenact::agent::guest::{Content, Failure, Guest, Output};
use reenact::agent::tools::{ToolError, ToolErrorCode};
use reenact::agent::{events, tools};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Deserialize)]
struct Input {
    path: String,
}

/// What `files.read` answers.
#[derive(Deserialize)]
struct Read {
    text: String,
    truncated: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    path: &'a str,
    #[serde(flatten)]
    counts: Counts<'a>,
}

struct Agent;

impl Guest for Agent {
    fn run(input: String) -> Result<Output, Failure> {
        let Input { path } = serde_json::from_str(&input).expect("the input fits its schema");
        let text = read_whole(&path)?;

        let span = events::open("counting", &json!({ "path": path }).to_string());
        let counts = count(&text);
        events::close(span, &json!({ "words": counts.words }).to_string());

        let report = Report { path: &path, counts };
        Ok(Output { content: Content::Json(to_json(&report)), sources: vec![] })
    }
}

/// Reads a file to its end, in as many calls as the tool needs.
fn read_whole(path: &str) -> Result<String, Failure> {
    let mut text = String::new();
    loop {
        let arguments = json!({ "path": path, "offset": text.len() }).to_string();
        let answer =
            tools::call("files.read", &arguments).map_err(|error| tool_failed(path, error))?;
        let read: Read = serde_json::from_str(&answer).map_err(|error| Failure {
            message: format!("`files.read` answered something unexpected: {error}"),
            details: None,
        })?;
        text.push_str(&read.text);
        if !read.truncated {
            return Ok(text);
        }
        // Without this, a tool that makes no progress would be asked for ever.
        if read.text.is_empty() {
            return Err(Failure {
                message: format!("`files.read` stopped in the middle of `{path}`"),
                details: Some(json!({ "path": path, "bytes": text.len() }).to_string()),
            });
        }
    }
}

fn tool_failed(path: &str, error: ToolError) -> Failure {
    let details = json!({
        "tool": "files.read",
        "path": path,
        "code": code_name(error.code),
        "message": error.message,
    });
    Failure {
        message: format!("`{path}` could not be read: {}", error.message),
        details: Some(details.to_string()),
    }
}

fn code_name(code: ToolErrorCode) -> &'static str {
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

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain structs are JSON")
}

export!(Agent);

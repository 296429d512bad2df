//! The two tools that the agent calls, and what their errors mean to it.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::exports::reenact::agent::guest::Failure;
use crate::rank::{Candidate, Match};
use crate::reenact::agent::tools::{self, ToolCall, ToolError, ToolErrorCode};
use crate::write::FileReport;

const MAX_RESULTS: usize = 20;

/// What `files.search` answers.
#[derive(Deserialize)]
pub struct Found {
    pub matches: Vec<Match>,
    /// There are more matches than these.
    pub truncated: bool,
    pub files_searched: u64,
}

/// What `files.read` answers. Of a large file `text` is the beginning, of
/// `size` bytes in all.
#[derive(Deserialize)]
pub struct Read {
    pub text: String,
    pub size: u64,
}

/// Without a search there is nothing to do, so any error is a failure.
pub fn search(topic: &str) -> Result<Found, Failure> {
    let arguments = json!({ "query": topic, "max_results": MAX_RESULTS }).to_string();
    let answer =
        tools::call("files.search", &arguments).map_err(|error| failure("files.search", error))?;
    parse(&answer)
        .map_err(|message| Failure { message: format!("`files.search` {message}"), details: None })
}

/// Reads the files at the same time. The answers are in the order of the
/// files; an error that concerns one file is the reason in words.
pub fn read(files: &[Candidate]) -> Result<Vec<Result<Read, String>>, Failure> {
    let calls: Vec<ToolCall> = files
        .iter()
        .map(|file| ToolCall {
            name: "files.read".to_string(),
            arguments: json!({ "path": file.path }).to_string(),
        })
        .collect();
    tools::call_all(&calls)
        .into_iter()
        .map(|answer| match answer {
            Ok(answer) => Ok(parse(&answer)),
            Err(error) if error.code == ToolErrorCode::Denied => Err(failure("files.read", error)),
            Err(error) => Ok(Err(error.message)),
        })
        .collect()
}

/// The failure of a run that found files and could read none of them.
pub fn none_readable(files: &[FileReport]) -> Failure {
    let reasons: Vec<_> = files
        .iter()
        .map(|file| json!({ "path": file.path, "reason": file.outcome.as_ref().err() }))
        .collect();
    Failure {
        message: "none of the files that mention the topic could be read".to_string(),
        details: Some(json!({ "files": reasons }).to_string()),
    }
}

fn parse<T: DeserializeOwned>(answer: &str) -> Result<T, String> {
    serde_json::from_str(answer).map_err(|error| format!("answered something unexpected: {error}"))
}

fn failure(tool: &str, error: ToolError) -> Failure {
    let message = match error.code {
        ToolErrorCode::Denied => format!(
            "this agent needs the tool `{tool}`, and the run was not granted it: {}",
            error.message
        ),
        _ => format!("`{tool}` failed: {}", error.message),
    };
    let details = json!({
        "tool": tool,
        "code": code_name(error.code),
        "message": error.message,
    });
    Failure { message, details: Some(details.to_string()) }
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

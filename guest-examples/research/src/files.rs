//! The two tools that the agent calls, and what their errors mean to it.

use reenact_agent::Failure;
use reenact_agent::tools::{self, Call, Code, ToolError};
use serde::Deserialize;
use serde_json::json;

use crate::rank::{Candidate, Match};
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
pub fn search(topic: &str) -> Result<Found, ToolError> {
    tools::call("files.search", &json!({ "query": topic, "max_results": MAX_RESULTS }))
}

/// Reads the files at the same time. The answers are in the order of the
/// files; an error that concerns one file is the reason in words.
pub fn read(files: &[Candidate]) -> Result<Vec<Result<Read, String>>, ToolError> {
    let calls: Vec<Call> =
        files.iter().map(|file| Call::new("files.read", &json!({ "path": file.path }))).collect();
    tools::call_all(&calls)
        .into_iter()
        .map(|answer| match answer {
            Err(error) if error.code == Code::Denied => Err(error),
            other => Ok(other.map_err(|error| error.message)),
        })
        .collect()
}

/// The failure of a run that found files and could read none of them.
pub fn none_readable(files: &[FileReport]) -> Failure {
    let reasons: Vec<_> = files
        .iter()
        .map(|file| json!({ "path": file.path, "reason": file.outcome.as_ref().err() }))
        .collect();
    Failure::new("none of the files that mention the topic could be read")
        .with(json!({ "files": reasons }))
}

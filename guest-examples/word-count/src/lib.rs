//! Counts the lines, words and bytes of a text file, and answers JSON.

mod count;

use count::{Counts, count};
use reenact_agent::tools::ToolError;
use reenact_agent::{Failure, Json, events, tools};
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
struct Report {
    path: String,
    #[serde(flatten)]
    counts: Counts,
}

fn run(Input { path }: Input) -> Result<Json<Report>, Failure> {
    let text = read_whole(&path)?;

    let span = events::open("counting", &json!({ "path": path }));
    let counts = count(&text);
    span.close(&json!({ "words": counts.words }));

    Ok(Json(Report { path, counts }))
}

/// Reads a file to its end, in as many calls as the tool needs.
fn read_whole(path: &str) -> Result<String, Failure> {
    let mut text = String::new();
    loop {
        let arguments = json!({ "path": path, "offset": text.len() });
        let read: Read =
            tools::call("files.read", &arguments).map_err(|error| tool_failed(path, error))?;
        text.push_str(&read.text);
        if !read.truncated {
            return Ok(text);
        }
        // Without this, a tool that makes no progress would be asked for ever.
        if read.text.is_empty() {
            let message = format!("`files.read` stopped in the middle of `{path}`");
            return Err(Failure::new(message)
                .with(json!({ "path": path, "bytes": text.len() })));
        }
    }
}

fn tool_failed(path: &str, ToolError { tool, code, message }: ToolError) -> Failure {
    Failure::new(format!("`{path}` could not be read: {message}")).with(json!({
        "tool": tool,
        "path": path,
        "code": code.name(),
        "message": message,
    }))
}

reenact_agent::agent!(run);

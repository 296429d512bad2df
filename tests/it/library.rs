//! A provider of the tests' own that plays `files`: it always answers the same,
//! and remembers what it was asked.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use reenact::tools::{
    CallContext, Provider, Source, Success, ToolError, ToolErrorCode, ToolSpec, Usage,
};
use serde_json::{Value, json};

/// Bytes that one `files.read` answers.
const PAGE: usize = 32 << 10;

pub struct Library {
    repeatable: bool,
    asked: Mutex<Vec<String>>,
}

impl Library {
    /// Its tools only read.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { repeatable: true, asked: Mutex::default() })
    }

    /// Its tools are neither read-only nor idempotent.
    pub fn of_deeds() -> Arc<Self> {
        Arc::new(Self { repeatable: false, asked: Mutex::default() })
    }

    /// Every call so far, as `TOOL ARGUMENTS`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The files of the library. A text of 80 KiB keeps a guest busy for several yields.
fn text(path: &str) -> Option<String> {
    match path {
        "a.md" => Some("Fuel is counted.\n\nIt is spent on instructions.\n".to_owned()),
        "b.md" => Some("No fuel, no run.\nMore fuel, more run.\n".to_owned()),
        "c.md" => Some("The clock of progress is fuel.\n".to_owned()),
        "long.txt" => Some("every word counts, and costs some fuel\n".repeat(2_100)),
        _ => None,
    }
}

impl Provider for Library {
    fn tools(&self) -> Vec<ToolSpec> {
        let spec = |name: &str| ToolSpec {
            name: name.to_owned(),
            description: "a tool of the tests".to_owned(),
            parameters: json!({ "properties": { "query": { "type": "string" } } }),
            read_only: self.repeatable,
            idempotent: false,
        };
        ["files.list", "files.read", "files.search"].map(spec).to_vec()
    }

    fn call(
        &self,
        tool: &str,
        arguments: Value,
        context: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        if tool == "files.list" {
            // As if it were a model.
            let cost_micros = Some(100);
            context.report.used(Usage { input_tokens: 7, output_tokens: 3, cost_micros });
        }
        self.asked.lock().unwrap().push(format!("{tool} {arguments}"));
        let tool = tool.to_owned();
        async move {
            // The first of a batch is the slowest, so that answers arrive in another order.
            let turns = if arguments["path"] == "b.md" { 20 } else { 0 };
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            answer(&tool, &arguments)
        }
        .boxed()
    }
}

fn answer(tool: &str, arguments: &Value) -> Result<Success, ToolError> {
    match tool {
        "files.read" => read(arguments),
        "files.search" => Ok(search(arguments["query"].as_str().unwrap())),
        _ => Ok(Success { content: json!({ "entries": ["a.md", "b.md"] }), sources: vec![] }),
    }
}

fn read(arguments: &Value) -> Result<Success, ToolError> {
    let path = arguments["path"].as_str().unwrap();
    let Some(text) = text(path) else {
        let message = format!("there is no file `{path}`");
        return Err(ToolError { code: ToolErrorCode::Failed, message });
    };
    let offset = arguments["offset"].as_u64().unwrap_or(0) as usize;
    let end = text.len().min(offset + PAGE);
    let content = json!({
        "text": &text[offset..end],
        "size": text.len(),
        "truncated": end < text.len(),
    });
    let source = Source { url: format!("library:{path}"), title: path.to_owned() };
    Ok(Success { content, sources: vec![source] })
}

fn search(query: &str) -> Success {
    let mut matches = Vec::new();
    for path in ["a.md", "b.md", "c.md"] {
        let text = text(path).unwrap();
        for (line, text) in (1..).zip(text.lines()) {
            if text.to_lowercase().contains(query) {
                matches.push(json!({ "path": path, "line": line, "text": text }));
            }
        }
    }
    let content = json!({ "matches": matches, "truncated": false, "files_searched": 3 });
    Success { content, sources: vec![] }
}

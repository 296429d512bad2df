//! Deeds that abuse the `tools` interface.

use serde_json::{Value, json};

use crate::reenact::agent::tools::{ToolCall, ToolError, ToolErrorCode, call, call_all};
use crate::{large_json, times};

const LIST: &str = "files.list";
const LIST_ALL: &str = r#"{"path":""}"#;

/// Makes the calls `TOOL JSON`, one after the other; says all of how each went.
pub fn each(calls: &str) -> Value {
    json!({ "calls": calls.lines().map(one).collect::<Vec<_>>() })
}

pub fn many(n: Option<u64>) -> Value {
    let results = times(n).map(|_| call(LIST, LIST_ALL));
    tally(results)
}

pub fn at_once(n: u64) -> Value {
    let calls: Vec<ToolCall> = (0..n)
        .map(|_| ToolCall { name: LIST.to_string(), arguments: LIST_ALL.to_string() })
        .collect();
    tally(call_all(&calls).into_iter())
}

pub fn big_arguments(mib: u64) -> Value {
    let arguments = large_json("{\"query\":", mib, "}");
    attempt("files.search", &arguments)
}

/// Calls a tool that an operator may withhold, one that is none, and one with
/// arguments that are not JSON or do not fit.
pub fn deny() -> Value {
    let attempts = [
        ("files.read", r#"{"path":"README.md"}"#),
        ("no.such-tool", "{}"),
        ("files.search", r#"{"query":7}"#),
        ("files.search", "not json {"),
    ];
    let outcomes: Vec<Value> =
        attempts.iter().map(|(name, arguments)| attempt(name, arguments)).collect();
    json!({ "calls": outcomes })
}

/// Makes the call `TOOL JSON`; says all of how it went.
pub fn one(text: &str) -> Value {
    let (name, arguments) = text.split_once(' ').unwrap_or((text, "{}"));
    match call(name, arguments) {
        Ok(answer) => json!({ "ok": serde_json::from_str::<Value>(&answer).expect("JSON") }),
        Err(error) => json!({ "code": code_name(error.code), "message": error.message }),
    }
}

/// Makes one call; says how it went and leaves the answer out.
fn attempt(name: &str, arguments: &str) -> Value {
    match call(name, arguments) {
        Ok(answer) => json!({ "tool": name, "answered": answer.len() }),
        Err(error) => json!({
            "tool": name,
            "code": code_name(error.code),
            "message": error.message,
        }),
    }
}

/// Counts the answers and the errors, and tells the last of the errors.
fn tally(results: impl Iterator<Item = Result<String, ToolError>>) -> Value {
    let (mut answers, mut errors) = (0, 0);
    let mut last = Value::Null;
    for result in results {
        match result {
            Ok(_) => answers += 1,
            Err(error) => {
                errors += 1;
                last = json!({ "code": code_name(error.code), "message": error.message });
            }
        }
    }
    json!({ "answers": answers, "errors": errors, "last_error": last })
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

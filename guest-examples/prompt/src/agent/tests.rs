//! The agent with a model that answers what a test wrote down.

use std::collections::VecDeque;

use super::*;
use crate::reenact::agent::tools::{Tool, ToolError, ToolErrorCode};

/// Plays the host: the model answers `script` in turn, every other tool echoes.
struct Script {
    script: VecDeque<Value>,
    asked: Vec<Value>,
    events: Vec<(String, Value)>,
    calls: Vec<usize>,
}

impl Script {
    fn of(answers: &[Value]) -> Self {
        let script = answers.iter().cloned().collect();
        Self { script, asked: vec![], events: vec![], calls: vec![] }
    }

    fn kinds(&self) -> Vec<&str> {
        self.events.iter().map(|(kind, _)| kind.as_str()).collect()
    }
}

impl Host for Script {
    fn emit(&mut self, kind: &str, data: &Value) {
        self.events.push((kind.to_owned(), data.clone()));
    }

    fn available(&mut self) -> Vec<Tool> {
        let tool = |name: &str| Tool {
            name: name.to_owned(),
            description: "says it again".to_owned(),
            parameters: r#"{"type":"object"}"#.to_owned(),
        };
        vec![tool("echo.say"), tool("model.chat")]
    }

    fn call_all(&mut self, calls: &[ToolCall]) -> Vec<Result<String, ToolError>> {
        if calls[0].name != chat::TOOL {
            self.calls.push(calls.len());
            return calls.iter().map(|call| Ok(call.arguments.clone())).collect();
        }
        self.asked.push(serde_json::from_str(&calls[0].arguments).unwrap());
        let Some(answer) = self.script.pop_front() else {
            let message = "the script is over".to_owned();
            return vec![Err(ToolError { code: ToolErrorCode::Failed, message })];
        };
        vec![Ok(answer.to_string())]
    }
}

fn manifest(change: Value) -> Manifest {
    let mut manifest = json!({
        "name": "tester", "output": { "type": "document" },
        "config": { "goal": "Look into {{topic}}" },
    });
    for (name, value) in change.as_object().unwrap() {
        manifest[name] = value.clone();
    }
    Manifest::read(&manifest.to_string()).unwrap()
}

fn text(text: &str) -> Value {
    json!({ "text": text, "stop": "end" })
}

fn says(n: usize, text: &str) -> Value {
    let call =
        |n| json!({ "id": format!("c{n}"), "name": "echo.say", "arguments": { "text": text } });
    json!({ "text": "", "tool_calls": (0..n).map(call).collect::<Vec<_>>(), "stop": "tool_calls" })
}

fn ends(manifest: &Manifest, script: &mut Script) -> Result<Content, Failure> {
    run(manifest, r#"{"topic":"fuel"}"#, script)
}

fn document(result: Result<Content, Failure>) -> String {
    match result {
        Ok(Content::Document(text)) => text,
        Ok(Content::Json(json)) => panic!("{json}"),
        Err(failure) => panic!("{failure:?}"),
    }
}

#[test]
fn it_plans_works_and_answers() {
    let mut script = Script::of(&[text("- look\n2. tell"), says(2, "hi"), text("# Done\n")]);
    assert_eq!(document(ends(&manifest(json!({})), &mut script)), "# Done");
    assert_eq!(script.events[0].1, json!({ "goal": "Look into fuel", "steps": ["look", "tell"] }));
    assert!(script.asked[0].get("tools").is_none());
    assert_eq!(script.asked[1]["tools"].as_array().unwrap().len(), 1);
    let roles: Vec<&Value> =
        script.asked[2]["messages"].as_array().unwrap().iter().map(|m| &m["role"]).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant", "tool", "tool"]);
    assert_eq!(script.asked[2]["messages"][6]["content"], r#"{"text":"hi"}"#);
    assert_eq!(script.asked[2]["messages"][6]["tool_call_id"], "c1");
}

#[test]
fn a_long_document_comes_in_several_messages() {
    let cut = json!({ "text": "one ", "stop": "length" });
    let mut script = Script::of(&[text("- x"), cut, text("two")]);
    assert_eq!(document(ends(&manifest(json!({})), &mut script)), "one two");
}

#[test]
fn more_calls_than_a_turn_may_have_are_not_made() {
    let mut script = Script::of(&[text(""), says(40, "x"), text("done")]);
    document(ends(&manifest(json!({ "limits": { "calls_at_once": 10 } })), &mut script));
    assert_eq!(script.calls, [10, 10, 10, 2]);
    let messages = script.asked[2]["messages"].as_array().unwrap();
    assert_eq!(
        messages.last().unwrap()["content"],
        "Only the first 32 of your 40 calls were made."
    );
}

#[test]
fn the_limit_of_tool_calls_is_told_not_run_into() {
    let mut script = Script::of(&[text("- x"), says(3, "x"), says(1, "x")]);
    let limited = manifest(json!({ "limits": { "tool_calls": 4 } }));
    let failure = ends(&limited, &mut script).unwrap_err();
    assert_eq!(script.calls, [1]);
    let told = &script.asked[2]["messages"];
    assert_eq!(told[6]["content"], "error: denied: this run may call no more tools");
    assert!(failure.message.ends_with("`tool_calls` are used up"), "{}", failure.message);
}

#[test]
fn an_event_is_never_larger_than_its_limit() {
    let limited = manifest(json!({ "limits": { "event_bytes": 200 } }));
    let long = "- \u{1}ä\n".repeat(1_000);
    let mut script = Script::of(&[text(&long), text("done")]);
    document(ends(&limited, &mut script));
    assert_eq!(script.kinds(), ["planning"]);
    assert!(script.events[0].1.to_string().len() <= 200, "{}", script.events[0].1);
}

#[test]
fn nothing_said_is_asked_again_and_then_given_up() {
    let mut script = Script::of(&[text("- x"), text(" "), text(""), text("\n")]);
    let failure = ends(&manifest(json!({})), &mut script).unwrap_err();
    assert_eq!(failure.message, "the model answered nothing, 3 times (`output_retries`)");
}

#[test]
fn goals_larger_than_the_conversation_are_refused() {
    let config = json!({ "goal": "x".repeat(2_000), "context_bytes": 2_000 });
    let failure = ends(&manifest(json!({ "config": config })), &mut Script::of(&[])).unwrap_err();
    assert!(failure.message.contains("`context_bytes` is 2000"), "{}", failure.message);
}

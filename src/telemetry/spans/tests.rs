//! Journals that were recorded, and some that are made up, as traces.

use std::path::Path;

use serde_json::{Value as JsonValue, json};

use super::*;
use crate::journal::{
    Answer, ApprovalAnswered, ApprovalAsked, Attempt, ErrorCode, Output, RunError, SleepStarted,
    SpanClosed, SpanOpened, ToolAnswered, ToolError, ToolErrorCode, ToolOutput, Used,
};

fn golden(name: &str) -> Vec<Entry> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = std::fs::read_to_string(folder.join(format!("{name}.jsonl"))).unwrap();
    let line = |line: &str| {
        let line: JsonValue = serde_json::from_str(line).unwrap();
        serde_json::from_str(&line["entry"].to_string()).unwrap()
    };
    text.lines().map(line).collect()
}

/// A run with these entries between its first and its last, a second apart.
fn run(bodies: Vec<Body>, outcome: Outcome) -> Vec<Entry> {
    let mut entries = vec![golden("compute").remove(0)];
    let at = entries[0].at;
    let ended = Ended { outcome, used: Used::default(), interrupted_at: None };
    let bodies = bodies.into_iter().chain([Body::Ended(Box::new(ended))]);
    entries.extend((1..).zip(bodies).map(|(seq, body)| Entry {
        seq,
        at: at + seq * 1_000_000,
        fuel: 7,
        body,
    }));
    entries
}

fn done() -> Outcome {
    let content = Content::Document("# Otters".to_owned());
    Outcome::Done(Output { content, sources: vec![] })
}

fn failed(code: ErrorCode) -> Outcome {
    Outcome::Error(RunError::new(code, "no secret otters".to_owned()))
}

fn called(call: u64, name: &str, arguments: JsonValue) -> Body {
    let arguments = Json::from_value(&arguments);
    Body::ToolCalled(ToolCalled { call, name: name.to_owned(), arguments })
}

fn answer(call: u64, content: JsonValue) -> ToolAnswered {
    let content = Json::from_value(&content);
    let answer = Answer::Ok(ToolOutput { content, sources: vec![] });
    ToolAnswered { call, answer, usage: None, attempts: vec![] }
}

fn find<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {names:?}"))
}

fn attributes(span: &SpanData) -> BTreeMap<String, String> {
    let attributes = span.attributes.iter();
    attributes.map(|one| (one.key.to_string(), one.value.to_string())).collect()
}

fn seconds(span: &SpanData) -> u64 {
    span.end_time.duration_since(span.start_time).unwrap().as_secs()
}

fn ask() -> JsonValue {
    json!({
        "model": "openai:gpt-4o",
        "temperature": 0.5,
        "max_tokens": 100,
        "messages": [
            { "role": "system", "content": "You know otters." },
            { "role": "assistant", "tool_calls": [{ "id": "c1", "name": "files.read", "arguments": {} }] },
            { "role": "tool", "tool_call_id": "c1", "content": "otters swim" },
        ],
    })
}

fn said() -> JsonValue {
    json!({
        "model": "openai:gpt-4o",
        "text": "They swim.",
        "tool_calls": [{ "id": "c2", "name": "files.read", "arguments": { "path": "a" } }],
        "stop": "tool_calls",
        "usage": { "input_tokens": 11, "output_tokens": 5 },
    })
}

#[test]
fn every_recorded_run_is_one_trace_with_a_root() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let entries = golden(name);
        let spans = spans(&entries, true);
        let Body::Started(started) = &entries[0].body else { panic!() };
        let id = started.run.replace('-', "");
        assert!(spans.iter().all(|span| span.span_context.trace_id().to_string() == id), "{name}");
        let roots: Vec<_> =
            spans.iter().filter(|span| span.parent_span_id == SpanId::INVALID).collect();
        let [root] = roots[..] else { panic!("{name}: {roots:?}") };
        assert_eq!(root.name, "invoke_agent hostile");
        for span in &spans {
            assert!(span.start_time <= span.end_time, "{name}");
            assert!(root.start_time <= span.start_time && span.end_time <= root.end_time, "{name}");
        }
        let own = entries.iter().filter(|entry| entry.seq >= started.shared());
        let calls = own.filter(|entry| matches!(entry.body, Body::ToolCalled(_)));
        let tools = spans.iter().filter(|span| span.name.starts_with("execute_tool"));
        assert_eq!(calls.count(), tools.count(), "{name}");
    }
}

#[test]
fn the_same_run_gives_the_same_trace_again() {
    let entries = golden("calls-at-once");
    let (once, again) = (spans(&entries, true), spans(&entries, true));
    assert_eq!(once, again);
    let mut ids: Vec<_> = once.iter().map(|span| span.span_context.span_id()).collect();
    ids.sort_by_key(|id| id.to_bytes());
    ids.dedup();
    assert_eq!(ids.len(), once.len(), "each span has an id of its own");
}

#[test]
fn a_run_that_goes_on_has_no_trace() {
    let mut entries = golden("tool-calls");
    entries.pop();
    assert!(spans(&entries, false).is_empty());
    assert!(spans(&[], false).is_empty());
}

#[test]
fn the_root_tells_which_agent_ran_and_what_its_models_cost() {
    let mut first = answer(0, said());
    first.usage = Some(Usage { input_tokens: 11, output_tokens: 5, cost_micros: Some(30) });
    let mut second = answer(1, said());
    second.usage = Some(Usage { input_tokens: 1, output_tokens: 1, cost_micros: None });
    let bodies = vec![
        called(0, "model.chat", ask()),
        Body::ToolAnswered(first),
        called(1, "model.chat", ask()),
        Body::ToolAnswered(second),
    ];
    let spans = spans(&run(bodies, done()), false);
    let root = find(&spans, "invoke_agent hostile");
    assert_eq!(root.status, Status::Unset);
    assert_eq!(root.span_kind, SpanKind::Internal);
    assert_eq!(seconds(root), 5);
    let told = attributes(root);
    assert_eq!(told["gen_ai.operation.name"], "invoke_agent");
    assert_eq!(told["gen_ai.agent.name"], "hostile");
    assert!(told["gen_ai.agent.version"].starts_with("sha256:"));
    assert_eq!(told["gen_ai.usage.input_tokens"], "12");
    assert_eq!(told["gen_ai.usage.output_tokens"], "6");
    assert_eq!(told["reenact.usage.cost_micros"], "30");
    assert_eq!(told["gen_ai.output.type"], "text");
}

#[test]
fn a_call_of_a_model_is_a_chat() {
    let mut answer = answer(0, said());
    answer.usage = Some(Usage { input_tokens: 11, output_tokens: 5, cost_micros: None });
    answer.attempts = vec![Attempt { error: "busy".to_owned(), waited_ms: 5 }];
    let bodies = vec![called(0, "model.chat", ask()), Body::ToolAnswered(answer)];
    let spans = spans(&run(bodies, done()), false);
    let chat = find(&spans, "chat gpt-4o");
    assert_eq!(chat.span_kind, SpanKind::Client);
    assert_eq!(chat.parent_span_id, find(&spans, "invoke_agent hostile").span_context.span_id());
    assert_eq!(
        json!(attributes(chat)),
        json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.request.max_tokens": "100",
            "gen_ai.request.temperature": "0.5",
            "gen_ai.response.finish_reasons": "[\"tool_call\"]",
            "gen_ai.usage.input_tokens": "11",
            "gen_ai.usage.output_tokens": "5",
            "reenact.failed_attempts": "1",
        })
    );
}

#[test]
fn the_operators_default_model_is_named_by_the_answer() {
    let mut asked = ask();
    asked.as_object_mut().unwrap().remove("model");
    let mut said = said();
    said["model"] = json!("gemini:flash");
    let bodies = vec![called(0, "model.chat", asked), Body::ToolAnswered(answer(0, said))];
    let spans = spans(&run(bodies, done()), false);
    let chat = attributes(find(&spans, "chat flash"));
    assert_eq!(chat["gen_ai.provider.name"], "gcp.gemini");
}

#[test]
fn a_call_that_fails_says_how_but_not_what_about() {
    let error =
        ToolError { code: ToolErrorCode::Timeout, message: "`secret.md` took long".to_owned() };
    let answered =
        ToolAnswered { call: 0, answer: Answer::Error(error), usage: None, attempts: vec![] };
    let bodies = || vec![called(0, "files.read", json!({})), Body::ToolAnswered(answered.clone())];
    let quiet = spans(&run(bodies(), failed(ErrorCode::AgentFailure)), false);
    let call = find(&quiet, "execute_tool files.read");
    assert_eq!(attributes(call)["error.type"], "timeout");
    assert_eq!(call.status, Status::error("timeout"));
    let root = find(&quiet, "invoke_agent hostile");
    assert_eq!(attributes(root)["error.type"], "agent_failure");
    assert_eq!(root.status, Status::error("the agent itself gave up"));
    assert!(!format!("{quiet:?}").contains("secret"));
    let open = spans(&run(bodies(), failed(ErrorCode::AgentFailure)), true);
    assert_eq!(
        find(&open, "execute_tool files.read").status,
        Status::error("`secret.md` took long")
    );
}

#[test]
fn contents_are_there_only_if_they_are_asked_for() {
    let bodies = || {
        vec![
            called(0, "model.chat", ask()),
            Body::ToolAnswered(answer(0, said())),
            called(1, "files.read", json!({ "path": "secret.md" })),
            Body::ToolAnswered(answer(1, json!("otters swim"))),
        ]
    };
    let quiet = format!("{:?}", spans(&run(bodies(), done()), false));
    for content in ["swim", "secret.md", "You know", "Otters"] {
        assert!(!quiet.contains(content), "{content}");
    }
    let open = spans(&run(bodies(), done()), true);
    let parsed = |span: &str, key: &str| -> JsonValue {
        serde_json::from_str(&attributes(find(&open, span))[key]).unwrap()
    };
    assert_eq!(
        parsed("chat gpt-4o", "gen_ai.input.messages"),
        json!([
            { "role": "system", "parts": [{ "type": "text", "content": "You know otters." }] },
            { "role": "assistant", "parts": [
                { "type": "tool_call", "id": "c1", "name": "files.read", "arguments": {} },
            ] },
            { "role": "tool", "parts": [
                { "type": "tool_call_response", "id": "c1", "response": "otters swim" },
            ] },
        ])
    );
    assert_eq!(
        parsed("chat gpt-4o", "gen_ai.output.messages"),
        json!([{
            "role": "assistant",
            "parts": [
                { "type": "text", "content": "They swim." },
                { "type": "tool_call", "id": "c2", "name": "files.read", "arguments": { "path": "a" } },
            ],
            "finish_reason": "tool_call",
        }])
    );
    let tool = "execute_tool files.read";
    assert_eq!(parsed(tool, "gen_ai.tool.call.arguments"), json!({ "path": "secret.md" }));
    assert_eq!(parsed(tool, "gen_ai.tool.call.result"), json!("otters swim"));
    let output = parsed("invoke_agent hostile", "gen_ai.output.messages");
    assert_eq!(output[0]["parts"][0]["content"], "# Otters");
}

#[test]
fn long_contents_are_cut_and_a_run_has_a_bound_for_all() {
    let long = "ä".repeat(40_000);
    let bodies = (0..200).flat_map(|call| {
        [called(call, "a.b", json!(&long)), Body::ToolAnswered(answer(call, json!(&long)))]
    });
    let spans = spans(&run(bodies.collect(), done()), true);
    let lengths = spans.iter().flat_map(|span| span.attributes.iter());
    let lengths: Vec<usize> = lengths.map(|one| one.value.as_str().len()).collect();
    assert!(lengths.iter().all(|length| *length <= (32 << 10) + 3));
    let all: usize = lengths.iter().sum();
    assert!((4 << 20..5 << 20).contains(&all), "{all}");
}

#[test]
fn waits_are_spans_and_a_person_is_asked_within_the_call() {
    let bodies = vec![
        called(0, "files.write", json!({ "path": "a" })),
        Body::ApprovalAsked(ApprovalAsked { call: 0, until: 1 }),
        Body::ApprovalAnswered(ApprovalAnswered {
            call: 0,
            decision: Approval::Edited(Json::from_value(&json!({ "path": "b" }))),
            by: "ada".to_owned(),
        }),
        Body::ToolAnswered(answer(0, json!("ok"))),
        Body::SleepStarted(SleepStarted { until: 1 }),
        Body::SleepEnded,
    ];
    let spans = spans(&run(bodies, done()), true);
    let call = find(&spans, "execute_tool files.write");
    assert_eq!(attributes(call)["gen_ai.tool.call.arguments"], "{\"path\":\"b\"}");
    let asked = find(&spans, "approval files.write");
    assert_eq!(asked.parent_span_id, call.span_context.span_id());
    assert_eq!(attributes(asked)["reenact.approval.decision"], "edited");
    assert_eq!((seconds(asked), seconds(call), seconds(find(&spans, "sleep"))), (1, 3, 1));
}

#[test]
fn what_a_run_leaves_open_ends_with_it_and_fails_with_it() {
    let bodies = vec![
        Body::SpanOpened(SpanOpened {
            span: 0,
            kind: "planning".to_owned(),
            data: Json::from_value(&json!({})),
        }),
        Body::SpanOpened(SpanOpened {
            span: 1,
            kind: "reasoning".to_owned(),
            data: Json::from_value(&json!({})),
        }),
        Body::SpanClosed(SpanClosed { span: 1, data: Json::from_value(&json!({})) }),
        called(0, "files.read", json!({})),
    ];
    let spans = spans(&run(bodies, failed(ErrorCode::Cancelled)), false);
    assert_eq!(find(&spans, "reasoning").status, Status::Unset);
    for name in ["planning", "execute_tool files.read"] {
        assert_eq!(attributes(find(&spans, name))["error.type"], "cancelled", "{name}");
    }
}

#[test]
fn a_run_with_too_many_spans_says_how_many_are_missing() {
    let sleeps = (0..MAX_SPANS + 5)
        .flat_map(|_| [Body::SleepStarted(SleepStarted { until: 1 }), Body::SleepEnded]);
    let spans = spans(&run(sleeps.collect(), done()), false);
    assert_eq!(spans.len(), MAX_SPANS + 1);
    assert_eq!(attributes(spans.last().unwrap())["reenact.spans.dropped"], "5");
}

#[test]
fn what_a_fork_shares_with_its_parent_is_in_the_parents_trace() {
    let entries = golden("forked");
    let Body::Started(started) = &entries[0].body else { panic!() };
    let fork = started.fork.as_ref().expect("a fork");
    let spans = spans(&entries, false);
    let tools = spans.iter().filter(|span| span.name.starts_with("execute_tool"));
    assert_eq!(tools.count(), 1, "of three calls two are shared");
    let root = find(&spans, "invoke_agent hostile");
    let made_at = UNIX_EPOCH + Duration::from_micros(fork.made_at);
    assert!(spans.iter().all(|span| span.start_time >= made_at));
    assert_eq!(root.start_time, made_at);
    let attribute = |key: &str| root.attributes.iter().find(|one| one.key.as_str() == key);
    assert_eq!(attribute("reenact.fork.run.id").unwrap().value.to_string(), fork.run);
    assert_eq!(attribute("reenact.fork.entry").unwrap().value.to_string(), fork.at.to_string());
}

//! What readers see of journals that were really recorded, and of some that are made up.

use std::path::Path;

use super::*;
use crate::journal::{
    Content, Ended, Output, RunError, Source, SpanClosed, SpanOpened, ToolCalled, ToolError,
    ToolErrorCode, ToolOutput, Used,
};
use crate::journal::{ErrorCode, SleepStarted};
use crate::json::Json;

/// The entries of a committed journal.
fn golden(name: &str) -> Vec<Entry> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = std::fs::read_to_string(folder.join(format!("{name}.jsonl"))).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        serde_json::from_str(&line["entry"].to_string()).unwrap()
    };
    text.lines().map(line).collect()
}

/// A journal with the beginning of a recorded one, and these entries a second apart.
fn journal(bodies: Vec<Body>) -> Vec<Entry> {
    let first = golden("compute").remove(0);
    let entries = (1..).zip(bodies).map(|(seq, body)| Entry {
        seq,
        at: first.at + seq * 1_000_000,
        fuel: 0,
        body,
    });
    let mut journal: Vec<Entry> = entries.collect();
    journal.insert(0, first);
    journal
}

fn json_of(value: Value) -> Json {
    Json::from_value(&value)
}

fn opened(span: u64, data: Value) -> Body {
    Body::SpanOpened(SpanOpened { span, kind: "planning".to_owned(), data: json_of(data) })
}

fn closed(span: u64, data: Value) -> Body {
    Body::SpanClosed(SpanClosed { span, data: json_of(data) })
}

fn called(call: u64) -> Body {
    let arguments = json_of(json!({ "path": "a.md" }));
    Body::ToolCalled(ToolCalled { call, name: "files.read".to_owned(), arguments })
}

fn answered(call: u64, answer: Answer) -> Body {
    Body::ToolAnswered(ToolAnswered { call, answer, usage: None, attempts: vec![] })
}

fn text(text: &str) -> Answer {
    let source = Source { url: "file:a.md".to_owned(), title: "a".to_owned() };
    Answer::Ok(ToolOutput { content: json_of(json!(text)), sources: vec![source] })
}

fn types(events: &[ApiEvent]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

#[test]
fn every_recorded_journal_becomes_events_that_begin_with_the_start_and_end_with_the_outcome() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut journals = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        journals += 1;
        let name = path.file_stem().unwrap().to_str().unwrap();
        let entries = golden(name);
        let events = events(&entries);
        assert_eq!(events[0].kind, "started", "{name}");
        assert!(["result", "error"].contains(&&*events.last().unwrap().kind), "{name}");
        assert!(events.iter().all(|event| event.run_id == events[0].run_id), "{name}");
        let ids: Vec<u64> = events.iter().map(|event| event.id.parse().unwrap()).collect();
        assert!(ids.is_sorted(), "{name}: {ids:?}");
    }
    assert!(journals > 20, "the journals were not found");
}

#[test]
fn reading_on_the_way_comes_to_the_same_as_reading_at_the_end() {
    for name in ["calls-at-once", "tool-calls", "open-spans", "sleep", "panic", "events"] {
        let entries = golden(name);
        let mut reader = EventReader::default();
        let mut newest = BTreeMap::new();
        for entry in &entries {
            let update = reader.feed(entry).unwrap();
            assert_eq!(update.seq, entry.seq, "{name}");
            assert_eq!(update.event.seq, entry.seq, "{name}");
            assert_eq!(update.terminal, matches!(entry.body, Body::Ended(_)), "{name}");
            newest.insert(update.event.id.parse::<u64>().unwrap(), update.event);
        }
        assert_eq!(events(&entries), newest.into_values().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn a_start_tells_what_runs_and_a_log_which_stream() {
    let events = events(&golden("stdout"));
    assert_eq!(types(&events), ["started", "log", "log", "log", "log", "result"]);
    let started = serde_json::to_value(&events[0]).unwrap();
    assert_eq!(started["type"], "started");
    assert_eq!(started["id"], "0");
    assert_eq!(started["data"]["agentId"], "hostile");
    assert_eq!(started["startedAt"], started["finishedAt"]);
    assert!(started["startedAt"].as_str().unwrap().ends_with('Z'), "{started}");
    assert!(["stdout", "stderr"].contains(&events[1].data["stream"].as_str().unwrap()));
    assert!(events[1].data["text"].is_string());
}

#[test]
fn a_call_is_one_event_that_its_answer_completes() {
    let entries = journal(vec![called(0), called(1), answered(1, text("# A")), {
        let code = ToolErrorCode::Denied;
        answered(0, Answer::Error(ToolError { code, message: "no".to_owned() }))
    }]);
    let mut reader = EventReader::default();
    let updates: Vec<Update> = entries.iter().map(|entry| reader.feed(entry).unwrap()).collect();
    assert_eq!(updates[1].event.finished_at, None);
    assert_eq!(
        updates[1].event.data,
        json!({ "call": 0, "tool": "files.read", "arguments": { "path": "a.md" } })
    );
    let (second, first) = (&updates[3].event, &updates[4].event);
    assert_eq!((&*second.id, second.seq), ("2", 3));
    assert!(second.finished_at.is_some());
    assert_eq!(second.data["result"], "# A");
    assert_eq!(second.data["sources"], json!([{ "url": "file:a.md", "title": "a" }]));
    assert_eq!((&*first.id, first.seq), ("1", 4));
    assert_eq!(first.data["error"], json!({ "code": "denied", "message": "no" }));
}

#[test]
fn what_a_model_cost_and_what_failed_before_is_shown_with_the_answer() {
    let mut answer = ToolAnswered { call: 0, answer: text("hi"), usage: None, attempts: vec![] };
    answer.usage = Some(Usage { input_tokens: 5, output_tokens: 2, cost_micros: Some(70) });
    answer.attempts = vec![Attempt { error: "busy".to_owned(), waited_ms: 250 }];
    let events = events(&journal(vec![called(0), Body::ToolAnswered(answer)]));
    let data = &events[1].data;
    assert_eq!(data["usage"], json!({ "inputTokens": 5, "outputTokens": 2, "costMicros": 70 }));
    assert_eq!(data["attempts"], json!([{ "error": "busy", "waitedMs": 250 }]));
}

#[test]
fn a_span_shows_what_the_agent_said_at_both_ends() {
    for (at_open, at_close, shown) in [
        (json!({ "goal": "x" }), json!({ "steps": 3 }), json!({ "goal": "x", "steps": 3 })),
        (json!({ "state": "thinking" }), json!({ "state": "sure" }), json!({ "state": "sure" })),
        (json!({ "goal": "x" }), json!(null), json!({ "goal": "x" })),
        (json!("x"), json!({}), json!("x")),
        (json!(null), json!("done"), json!("done")),
        (json!("x"), json!("y"), json!({ "opened": "x", "closed": "y" })),
    ] {
        let events = events(&journal(vec![opened(0, at_open), closed(0, at_close)]));
        assert_eq!(types(&events), ["started", "planning"]);
        assert_eq!(events[1].data, shown);
        assert_ne!(Some(&events[1].started_at), events[1].finished_at.as_ref());
    }
}

#[test]
fn a_person_is_shown_the_call_and_the_call_what_the_person_made_of_it() {
    let asked = |call, until| Body::ApprovalAsked(ApprovalAsked { call, until });
    let decided = |call, decision, by: &str| {
        Body::ApprovalAnswered(ApprovalAnswered { call, decision, by: by.to_owned() })
    };
    let edited = Approval::Edited(json_of(json!({ "path": "b.md" })));
    let events = events(&journal(vec![
        called(0),
        called(1),
        asked(0, 1_700_000_000_000_000),
        asked(1, 1_700_000_000_000_000),
        decided(1, Approval::TimedOut, ""),
        decided(0, edited, "ada"),
        answered(0, text("B")),
    ]));
    assert_eq!(types(&events), ["started", "tool_call", "tool_call", "approval", "approval"]);
    assert_eq!(
        events[3].data,
        json!({
            "call": 0,
            "tool": "files.read",
            "arguments": { "path": "a.md" },
            "until": "2023-11-14T22:13:20.000000Z",
            "decision": "edited",
            "by": "ada",
            "editedArguments": { "path": "b.md" },
        })
    );
    assert_eq!(events[4].data["decision"], "timed_out");
    assert_eq!(events[4].data["by"], Value::Null);
    assert_eq!(events[1].data["arguments"], json!({ "path": "a.md" }));
    assert_eq!(events[1].data["editedArguments"], json!({ "path": "b.md" }));
    assert!(events[1].finished_at.is_some() && events[2].finished_at.is_none());
}

#[test]
fn a_sleep_is_open_until_the_run_wakes() {
    let sleep = Body::SleepStarted(SleepStarted { until: 1_700_000_000_000_000 });
    let asleep = events(&journal(vec![sleep.clone()]));
    assert_eq!(asleep[1].data, json!({ "until": "2023-11-14T22:13:20.000000Z" }));
    assert_eq!(asleep[1].finished_at, None);
    let awake = events(&journal(vec![sleep, Body::SleepEnded]));
    assert!(awake[1].finished_at.is_some());
    assert_eq!(awake.len(), 2);
}

#[test]
fn the_last_event_is_the_result_or_the_error() {
    let end = |outcome| {
        let ended = Ended { outcome, used: Used::default(), interrupted_at: None };
        let events = events(&journal(vec![Body::Ended(Box::new(ended))]));
        let last = events.last().unwrap();
        (last.kind.clone(), last.data.clone())
    };
    let content = Content::Document("# Hi".to_owned());
    let (kind, data) = end(Outcome::Done(Output { content, sources: vec![] }));
    assert_eq!(kind, "result");
    assert_eq!(data, json!({ "resultType": "document", "result": "# Hi", "sources": [] }));
    let (kind, data) =
        end(Outcome::Error(RunError::new(ErrorCode::Deadline, "too late".to_owned())));
    assert_eq!(kind, "error");
    assert_eq!(data, json!({ "code": "deadline", "message": "too late" }));
}

#[test]
fn what_a_run_leaves_open_stays_open() {
    let events = events(&golden("open-spans"));
    assert_eq!(types(&events), ["started", "span", "span", "result"]);
    assert!(events[1].finished_at.is_none() && events[3].finished_at.is_some());
}

#[test]
fn a_reader_keeps_only_what_is_not_finished() {
    let mut reader = EventReader::default();
    let mut bodies = vec![called(0), opened(0, json!({}))];
    bodies.extend([answered(0, text("x")), closed(0, json!({}))]);
    for entry in journal(bodies) {
        reader.feed(&entry);
    }
    assert!(reader.calls.is_empty() && reader.spans.is_empty());
    // The end of what has no beginning is passed over.
    let stray = Entry { seq: 5, at: 0, fuel: 0, body: answered(7, text("x")) };
    assert_eq!(reader.feed(&stray), None);
}

//! Every way in which a run can end as `error`, on a guest that a toolchain
//! made and on guests that none would make; and that each replays.

use std::collections::HashSet;
use std::sync::Arc;

use reenact::journal::ErrorCode::{self, *};
use reenact::revision::{Limits, Revision};
use serde_json::{Value, json};

use crate::hosts;
use crate::library::Library;
use crate::support::{Lab, Record, guest};
use crate::wat::Parts;

/// Small, so that every end is near.
fn small(limits: &mut Limits) {
    *limits = Limits {
        fuel: 20_000_000,
        memory_bytes: 8 << 20,
        table_elements: 300,
        handles: 20,
        output_bytes: 100 << 10,
        events: 10,
        event_bytes: 10 << 10,
        tool_calls: 8,
        calls_at_once: 4,
        ..*limits
    };
}

/// Room to compute until something else ends it.
fn endless(limits: &mut Limits) {
    limits.deadline_ms = 60;
}

fn roomy(_: &mut Limits) {}

fn few_tokens(limits: &mut Limits) {
    limits.model_tokens = 35;
}

fn little_money(limits: &mut Limits) {
    limits.model_cost_micros = 250;
}

type Change = fn(&mut Limits);

/// Runs under these limits and replays. A run that is to be cancelled is
/// cancelled before it begins.
async fn ends(
    lab: &Lab,
    revision: &Arc<Revision>,
    input: Value,
    code: ErrorCode,
    limits: Change,
) -> Record {
    let mut most = Limits::DEFAULT;
    limits(&mut most);
    let start = lab.run(revision, input.clone()).limits(limits).provider("files", Library::new());
    let start = start.at_start(move |canceller| {
        if code == Cancelled {
            canceller.cancel();
        }
    });
    let record = start.ends().await;
    assert_eq!(record.code(), code, "{input} {:?}", record.ran.ended);
    lab.proves(&record).await;
    within_limits(&record, &most);
    record
}

fn within_limits(record: &Record, most: &Limits) {
    let used = record.ran.ended.used;
    assert!(record.ran.fuel <= most.fuel, "{}", record.ran.fuel);
    assert!(used.memory_bytes <= most.memory_bytes, "{used:?}");
    assert!(used.table_elements <= most.table_elements, "{used:?}");
    assert!(used.events <= most.events, "{used:?}");
    assert!(used.tool_calls <= most.tool_calls, "{used:?}");
    assert!(used.log_bytes <= most.log_bytes, "{used:?}");
    assert!(used.journal_bytes <= most.journal_bytes, "{used:?}");
}

/// The end, the deed, the limits, and words of the message.
#[rustfmt::skip]
fn deeds() -> Vec<(ErrorCode, Value, Change, &'static str)> {
    let fuel = "the guest used up its 20000000 of fuel";
    let full: Change = |limits| limits.journal_bytes = 20_000;
    vec![
        (AgentFailure, json!({ "do": "fail", "text": "enough" }), small, "enough"),
        (AgentFailure, json!({ "do": "exit" }), small, "the guest called exit("),
        (InvalidOutput, json!({ "do": "not-json" }), small, "not valid JSON"),
        (InvalidOutput, json!({ "do": "nested-output", "n": 1_000 }), small, "not valid JSON"),
        (InvalidOutput, json!({ "do": "wrong-type" }), small, "the manifest declares `json`"),
        (InvalidOutput, json!({ "do": "wrong-schema" }), small, "does not fit the output schema"),
        (OutputTooLarge, json!({ "do": "huge-output", "n": 1 }), small, "the limit is 102400"),
        (Trap, json!({ "do": "panic" }), small, "unreachable"),
        (Trap, json!({ "do": "trap" }), small, "unreachable"),
        (OutOfFuel, json!({ "do": "loop" }), small, fuel),
        (OutOfFuel, json!({ "do": "spin-clock" }), small, fuel),
        (OutOfFuel, json!({ "do": "flood-stdout" }), small, fuel),
        (OutOfMemory, json!({ "do": "memory" }), small, "the limit is 8388608"),
        (OutOfMemory, json!({ "do": "memory", "n": 100 }), small, "the limit is 8388608"),
        (OutOfMemory, json!({ "do": "trap" }), |limits| limits.memory_bytes = 65_536, "memory"),
        (OutOfMemory, json!({ "do": "trap" }), |limits| limits.table_elements = 1, "table"),
        (StackOverflow, json!({ "do": "recursion" }), small, "nest deeper"),
        (Deadline, json!({ "do": "loop" }), endless, "the run took longer than 60 ms"),
        (Deadline, json!({ "do": "sleep" }), endless, "the run took longer than 60 ms"),
        (Cancelled, json!({ "do": "loop" }), roomy, "the run was cancelled"),
        (Cancelled, json!({ "do": "sleep" }), roomy, "the run was cancelled"),
        (Cancelled, json!({ "do": "spin-clock" }), roomy, "the run was cancelled"),
        (Cancelled, json!({ "do": "tool-calls" }), roomy, "the run was cancelled"),
        (TooManyEvents, json!({ "do": "events" }), small, "more than 10 events"),
        (TooManyEvents, json!({ "do": "open-spans", "n": 11 }), small, "more than 10 events"),
        (TooManyToolCalls, json!({ "do": "tool-calls" }), small, "more than 8 tool calls"),
        (TooManyToolCalls, json!({ "do": "calls-at-once", "n": 5 }), small, "5 tool calls at once"),
        (TooManyHandles, json!({ "do": "pollables" }), small, "more than 20 handles"),
        (InvalidEvent, json!({ "do": "invalid-event" }), small, "an event's data is"),
        (InvalidEvent, json!({ "do": "deep-json", "n": 1_000 }), small, "an event's data is"),
        (InvalidEvent, json!({ "do": "bad-kind" }), small, "is not a kind of event"),
        (InvalidEvent, json!({ "do": "unknown-span" }), small, "span 999"),
        (PayloadTooLarge, json!({ "do": "huge-event", "n": 1 }), small, "the limit is 10240"),
        (PayloadTooLarge, json!({ "do": "deep-json" }), small, "the limit is 10240"),
        (PayloadTooLarge, json!({ "do": "huge-event", "n": 90 }), roomy, "one host call"),
        (PayloadTooLarge, json!({ "do": "big-arguments", "n": 90 }), roomy, "one host call"),
        (JournalTooLarge, json!({ "do": "events" }), full, "the journal outgrew 20000 bytes"),
        (JournalTooLarge, json!({ "do": "tool-calls" }), full, "the journal outgrew 20000 bytes"),
        (TooManyTokens, json!({ "do": "tool-calls" }), few_tokens, "models used 40 tokens"),
        (TooManyTokens, json!({ "do": "calls-at-once", "n": 4 }), few_tokens, "the limit is 35"),
        (TooExpensive, json!({ "do": "tool-calls" }), little_money, "models cost 300 millionths"),
    ]
}

#[tokio::test]
async fn every_deed_comes_to_its_end() {
    let lab = Lab::new();
    for (code, input, limits, message) in deeds() {
        let record = ends(&lab, &guest("hostile"), input.clone(), code, limits).await;
        assert!(record.error().message.contains(message), "{input} {:?}", record.error());
    }
}

/// The end, what the guest does before it would answer `done`, and the limits.
#[rustfmt::skip]
fn tiny_deeds() -> Vec<(ErrorCode, Parts<'static>, Change)> {
    let does = |run| Parts { run, ..Parts::default() };
    let emits = "(loop
        (call $emit (i32.const 52) (i32.const 4) (i32.const 56) (i32.const 2)) (br 0))
        unreachable";
    let full: Change = |limits| limits.journal_bytes = 5_000;
    vec![
        // A failure whose message is `done`.
        (AgentFailure, does("
            (i32.store8 (i32.const 600) (i32.const 1))
            (i32.store (i32.const 604) (i32.const 48))
            (i32.store (i32.const 608) (i32.const 4))
            (i32.const 600)"), small),
        // JSON, where the manifest declares a document.
        (InvalidOutput, does("(i32.store8 (i32.const 20) (i32.const 1)) (i32.const 16)"), small),
        (OutputTooLarge, Parts { memory: "3", ..does("
            (i32.store (i32.const 24) (i32.const 2048))
            (i32.store (i32.const 28) (i32.const 150000))
            (i32.const 16)") }, small),
        (Trap, does("unreachable"), small),
        (OutOfFuel, does("(loop (br 0)) unreachable"), small),
        (OutOfMemory, does("(drop (memory.grow (i32.const 200))) unreachable"), small),
        (OutOfMemory, Parts { memory: "200", ..Parts::default() }, small),
        (OutOfMemory, Parts { fields: "(table $t 0 funcref)", ..does("
            (drop (table.grow $t (ref.null func) (i32.const 301))) unreachable") }, small),
        (OutOfMemory, Parts { fields: "(table 301 funcref)", ..Parts::default() }, small),
        (StackOverflow, Parts {
            fields: "(func $deep (result i32) (i32.add (call $deep) (i32.const 1)))",
            run: "(call $deep)",
            ..Parts::default()
        }, small),
        (Deadline, does("(loop (br 0)) unreachable"), endless),
        (Cancelled, does("(loop (br 0)) unreachable"), roomy),
        (TooManyEvents, does(emits), small),
        (TooManyEvents, does("
            (loop (call $block (call $timer (i64.const 1000000))) (br 0)) unreachable"),
            |limits| limits.events = 5),
        (TooManyToolCalls, does("(loop
            (call $call_all (i32.const 96) (i32.const 3) (i32.const 512)) (br 0))
            unreachable"), small),
        (TooManyToolCalls, does("
            (call $call_all (i32.const 4096) (i32.const 3000) (i32.const 512))
            unreachable"), roomy),
        (TooManyHandles, does("
            (loop (drop (call $timer (i64.const 1))) (br 0)) unreachable"), small),
        (InvalidEvent, does("
            (call $emit (i32.const 52) (i32.const 4) (i32.const 48) (i32.const 4))
            unreachable"), small),
        (InvalidEvent, does("
            (call $emit (i32.const 52) (i32.const 0) (i32.const 56) (i32.const 2))
            unreachable"), small),
        (InvalidEvent, does("
            (call $close (i64.const -1) (i32.const 56) (i32.const 2)) unreachable"), small),
        (PayloadTooLarge, does("
            (call $emit (i32.const 52) (i32.const 4) (i32.const 2048) (i32.const 20000))
            unreachable"), small),
        (PayloadTooLarge, Parts { memory: "1500", ..does("
            (call $emit (i32.const 52) (i32.const 4) (i32.const 2048) (i32.const 90000000))
            unreachable") }, roomy),
        (JournalTooLarge, does(emits), full),
        (TooManyTokens, does("(loop
            (call $call_all (i32.const 96) (i32.const 3) (i32.const 512)) (br 0))
            unreachable"), few_tokens),
        (TooExpensive, does("(loop
            (call $call_all (i32.const 96) (i32.const 3) (i32.const 512)) (br 0))
            unreachable"), little_money),
    ]
}

#[tokio::test]
async fn every_tiny_guest_comes_to_its_end() {
    let lab = Lab::new();
    for (code, guest, limits) in tiny_deeds() {
        ends(&lab, &guest.seal(), json!({}), code, limits).await;
    }
}

#[test]
fn no_end_is_left_out() {
    let all: HashSet<_> = ErrorCode::ALL.iter().copied().collect();
    let reached: HashSet<_> = deeds().iter().map(|(code, ..)| *code).collect();
    assert_eq!(reached, all);
    let reached: HashSet<_> = tiny_deeds().iter().map(|(code, ..)| *code).collect();
    assert_eq!(reached, all);
}

#[tokio::test]
async fn a_panic_leaves_its_last_words() {
    let lab = Lab::new();
    let input = json!({ "do": "panic", "text": "the sky is falling" });
    let record = ends(&lab, &guest("hostile"), input, Trap, small).await;
    let error = record.error();
    let details = error.details.as_ref().unwrap().to_value();
    let said = details["stderr"].as_array().unwrap();
    assert!(said.iter().any(|line| line == "the sky is falling"), "{details}");
    assert!(error.backtrace.iter().any(|frame| frame.contains("panic")), "{error:?}");
}

#[tokio::test]
async fn a_failure_keeps_its_message_and_details() {
    let lab = Lab::new();
    let input = json!({ "do": "fail", "text": "x".repeat(20 << 10) });
    let record = ends(&lab, &guest("hostile"), input, AgentFailure, small).await;
    let error = record.error();
    assert!(error.message.starts_with("xxx") && error.message.len() < 17 << 10);
    assert_eq!(error.details.as_ref().unwrap().to_value(), json!({ "deed": "fail" }));
}

#[tokio::test]
async fn large_answers_fill_the_journal() {
    let lab = Lab::new();
    let start = lab.run(&guest("hostile"), json!({ "do": "tool-calls" }));
    let host = hosts::that(|_| async { hosts::success("x".repeat(100 << 10).into()) });
    let start = start.limits(|limits| limits.journal_bytes = 1 << 20).provider("files", host);
    let record = start.ends().await;
    assert_eq!(record.code(), JournalTooLarge);
    let used = record.ran.ended.used;
    assert!(used.journal_bytes <= 1 << 20 && used.tool_calls == 11, "{used:?}");
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_spent_budget_leaves_what_it_was_spent_on() {
    let lab = Lab::new();
    let input = json!({ "do": "tool-calls" });
    let record = ends(&lab, &guest("hostile"), input, TooManyTokens, few_tokens).await;
    let details = record.error().details.as_ref().unwrap().to_value();
    assert_eq!(details["partial"], json!([{ "entries": ["a.md", "b.md"] }]));
    let used = record.ran.ended.used;
    assert_eq!((used.model_tokens, used.model_cost_micros), (40, 400));
}

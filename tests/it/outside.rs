//! Cancels and deadlines: they can come at any moment, and a replay stops at
//! the very same instruction.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::future::pending;
use reenact::journal::{Body, ErrorCode, Place};
use reenact::runtime::Canceller;
use serde_json::{Value, json};

use crate::hosts;
use crate::library::Library;
use crate::support::{Lab, Record, Start, guest};
use crate::wat::Parts;

fn hostile(lab: &Lab, input: Value) -> Start<'_> {
    lab.run(&guest("hostile"), input)
}

/// Cancels from another thread.
fn after(time: Duration) -> impl FnOnce(Canceller) {
    move |canceller| {
        std::thread::spawn(move || {
            std::thread::sleep(time);
            canceller.cancel();
        });
    }
}

/// The newest entry but the end.
fn last(record: &Record) -> Body {
    record.entries().iter().rev().nth(1).unwrap().body.clone()
}

fn random_micros(below: u64) -> Duration {
    Duration::from_micros(RandomState::new().hash_one(0) % below)
}

#[tokio::test]
async fn a_computation_is_cancelled_at_any_moment() {
    let lab = Lab::new();
    let mut places = BTreeSet::new();
    for _ in 0..100 {
        if places.len() == 20 {
            return;
        }
        let time = random_micros(50_000);
        let record = hostile(&lab, json!({ "do": "loop" })).at_start(after(time)).ends().await;
        assert_eq!(record.code(), ErrorCode::Cancelled, "{time:?}");
        lab.proves(&record).await;
        // On its way into the computation the guest still calls the host.
        if let Some(Place::Yield(place)) = record.ran.ended.interrupted_at {
            places.insert(place);
        }
    }
    panic!("not 20 different places: {places:?}");
}

#[tokio::test]
async fn a_guest_is_cancelled_in_its_first_and_in_its_hidden_computations() {
    let lab = Lab::new();
    let start = Parts { fields: "(start $s) (func $s (loop (br 0)))", ..Parts::default() };
    // Making room for the answers of its tool calls; for the input there is room.
    let realloc = "(if (i32.gt_u (global.get $next) (i32.const 1024)) (then (loop (br 0))))
        (global.set $next (i32.const 2048)) (i32.const 1024)";
    let run = "(call $call_all (i32.const 96) (i32.const 3) (i32.const 512)) (i32.const 16)";
    let making_room = Parts { realloc, run, ..Parts::default() };
    for guest in [start, making_room].map(|parts| parts.seal()) {
        for _ in 0..5 {
            let start = lab.run(&guest, json!({})).provider("files", Library::new());
            let record = start.at_start(after(random_micros(20_000))).ends().await;
            assert_eq!(record.code(), ErrorCode::Cancelled);
            lab.proves(&record).await;
        }
    }
}

#[tokio::test]
async fn a_guest_that_calls_the_host_without_end_is_cancelled_at_any_moment() {
    let lab = Lab::new();
    for deed in ["spin-clock", "flood-stdout", "tool-calls", "events"] {
        for _ in 0..5 {
            let start = hostile(&lab, json!({ "do": deed })).at_start(after(random_micros(5_000)));
            let start = start.limits(|limits| {
                limits.tool_calls = 100_000;
                limits.events = 1_000_000;
            });
            let record = start.ends().await;
            assert_eq!(record.code(), ErrorCode::Cancelled, "{deed}");
            lab.proves(&record).await;
        }
    }
}

#[tokio::test]
async fn a_tool_call_that_hangs_is_cancelled() {
    let lab = Lab::new();
    let canceller: Arc<OnceLock<Canceller>> = Arc::default();
    let slot = Arc::clone(&canceller);
    // It is the tool that cancels the run, so that the call is under way.
    let host = hosts::that(move |_| {
        canceller.get().unwrap().cancel();
        pending()
    });
    let start = hostile(&lab, json!({ "do": "tool-calls" })).provider("files", host);
    let start = start.at_start(move |canceller| slot.set(canceller).unwrap());
    let record = start.ends().await;
    assert_eq!(record.code(), ErrorCode::Cancelled);
    assert!(matches!(last(&record), Body::ToolCalled(_)));
    assert_eq!(record.tool_calls(), 1);
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_sleep_is_cancelled() {
    let lab = Lab::new();
    let start = hostile(&lab, json!({ "do": "sleep" })).at_start(after(Duration::from_millis(300)));
    let begun = Instant::now();
    let record = start.ends().await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(record.code(), ErrorCode::Cancelled);
    assert!(matches!(last(&record), Body::SleepStarted(_)));
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_deadline_ends_a_computation() {
    let lab = Lab::new();
    let start = hostile(&lab, json!({ "do": "loop" })).limits(|limits| limits.deadline_ms = 50);
    let begun = Instant::now();
    let record = start.ends().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(record.code(), ErrorCode::Deadline);
    assert!(matches!(record.ran.ended.interrupted_at, Some(Place::Yield(_))));
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_deadline_ends_a_tool_call() {
    let lab = Lab::new();
    let start = hostile(&lab, json!({ "do": "tool-calls" })).provider("files", hosts::that_hangs());
    let record = start.limits(|limits| limits.deadline_ms = 200).ends().await;
    assert_eq!(record.code(), ErrorCode::Deadline);
    assert!(matches!(last(&record), Body::ToolCalled(_)));
    assert_eq!(record.tool_calls(), 1);
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_deadline_ends_a_sleep() {
    let lab = Lab::new();
    let start = hostile(&lab, json!({ "do": "sleep" })).limits(|limits| limits.deadline_ms = 200);
    let record = start.ends().await;
    assert_eq!(record.code(), ErrorCode::Deadline);
    assert!(matches!(last(&record), Body::SleepStarted(_)));
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_cancel_comes_too_late_for_a_run_that_is_done() {
    let lab = Lab::new();
    let start = hostile(&lab, json!({ "do": "compute", "n": 1 }));
    let record = start.at_start(after(Duration::from_secs(1))).ends().await;
    assert_eq!(record.json()["n"], 1);
    lab.proves(&record).await;
}

//! Lines without an end: what a guest printed last is told when the guest ends
//! by itself, and never stands between a wait and the end that came to it from
//! outside.

use reenact::journal::{Body, ErrorCode};
use serde_json::json;

use crate::hosts;
use crate::support::{Lab, Record, Start};
use crate::wat;

/// The text `done` without a line end.
const PRINTS: &str = "(call $print (i32.const 48) (i32.const 4))";
const CALLS: &str = "(call $call_all (i32.const 96) (i32.const 3) (i32.const 512))";

fn prints_and<'a>(lab: &'a Lab, instructions: &str) -> Start<'a> {
    lab.run(&wat::does(&format!("{PRINTS} {instructions}")), json!({}))
}

fn printed(record: &Record) -> Vec<String> {
    let log = |body| match body {
        Body::Log(log) => Some(log.text),
        _ => None,
    };
    record.entries().into_iter().filter_map(|entry| log(entry.body)).collect()
}

#[tokio::test]
async fn a_guest_that_ends_by_itself_is_heard_out() {
    let lab = Lab::new();
    for end in ["", "unreachable"] {
        let record = prints_and(&lab, end).ends().await;
        assert_eq!(printed(&record), ["done"]);
        lab.proves(&record).await;
    }
}

#[tokio::test]
async fn a_guest_that_is_interrupted_in_a_wait() {
    let lab = Lab::new();
    for wait in [CALLS, "(call $block (call $timer (i64.const 3600000000000)))"] {
        let start = prints_and(&lab, wait).provider("files", hosts::that_hangs());
        let record = start.limits(|limits| limits.deadline_ms = 50).ends().await;
        assert_eq!(record.code(), ErrorCode::Deadline);
        lab.proves(&record).await;
    }
}

#[tokio::test]
async fn a_guest_that_is_cancelled_before_a_wait() {
    let lab = Lab::new();
    let start = prints_and(&lab, CALLS).at_start(|canceller| canceller.cancel());
    let record = start.ends().await;
    assert_eq!(record.code(), ErrorCode::Cancelled);
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_guest_that_is_interrupted_while_it_computes() {
    let lab = Lab::new();
    // With room for the line, and with none.
    for bytes in [1 << 20, 100] {
        let start = prints_and(&lab, "(loop (br 0))").limits(|limits| {
            limits.deadline_ms = 50;
            limits.journal_bytes = bytes;
        });
        let record = start.ends().await;
        assert_eq!(record.code(), ErrorCode::Deadline);
        lab.proves(&record).await;
    }
}

#[tokio::test]
async fn a_guest_whose_journal_is_full() {
    let lab = Lab::new();
    // An answer does not fit any more, but the line would.
    let host = hosts::that(|_| async { hosts::success("x".repeat(100 << 10).into()) });
    let start = prints_and(&lab, CALLS).provider("files", host);
    let record = start.limits(|limits| limits.journal_bytes = 10_000).ends().await;
    assert_eq!(record.code(), ErrorCode::JournalTooLarge);
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_long_line_that_does_not_fit_before_a_short_one_that_would() {
    // One write of 4,000 zeros, a line end, `ab` and another.
    let guest = wat::does(
        "(i32.store (i32.const 6048) (i32.const 0x0a62610a))
        (call $print (i32.const 2048) (i32.const 4004))",
    );
    let lab = Lab::new();
    let start = lab.run(&guest, json!({})).limits(|limits| limits.journal_bytes = 6_000);
    let record = start.ends().await;
    assert_eq!(record.code(), ErrorCode::JournalTooLarge);
    assert!(printed(&record).is_empty());
    lab.proves(&record).await;
}

//! Guests that no toolchain would make: whatever they hand to the host, it is
//! they who trap.

use std::sync::Arc;

use reenact::journal::{Content, ErrorCode, Outcome};
use reenact::revision::Revision;
use serde_json::json;

use crate::support::{Lab, Record};
use crate::wat::{self, Parts};

/// Runs with a little fuel, and replays.
async fn ends(guest: &Arc<Revision>) -> Record {
    let lab = Lab::new();
    let record = lab.run(guest, json!({})).limits(|limits| limits.fuel = 5_000_000).ends().await;
    lab.proves(&record).await;
    record
}

async fn is_done(guest: &Arc<Revision>) {
    let record = ends(guest).await;
    let Outcome::Done(output) = &record.ran.ended.outcome else { panic!("{:?}", record.ran.ended) };
    assert_eq!(output.content, Content::Document("done".to_owned()));
}

async fn traps(guest: &Arc<Revision>, message: &str) {
    let record = ends(guest).await;
    assert_eq!(record.code(), ErrorCode::Trap, "{:?}", record.error());
    let said = &record.error().message;
    assert!(said.contains(message), "`{said}` is not `{message}`");
}

#[tokio::test]
async fn the_smallest_guest_is_done() {
    is_done(&wat::does("")).await;
}

#[tokio::test]
async fn text_that_is_not_utf_8() {
    let guest = wat::does(
        "(i32.store (i32.const 56) (i32.const -1))
        (call $emit (i32.const 52) (i32.const 4) (i32.const 56) (i32.const 2))",
    );
    traps(&guest, "invalid utf-8").await;
    // The answer's own text.
    traps(&wat::does("(i32.store (i32.const 48) (i32.const -1))"), "invalid utf-8").await;
}

#[tokio::test]
async fn text_outside_of_the_memory() {
    for (pointer, length) in [(65_535, 2), (65_536, 1), (-1, 1), (0, -1), (-1, -1)] {
        let guest = wat::does(&format!(
            "(call $emit (i32.const 52) (i32.const 4) (i32.const {pointer}) (i32.const {length}))"
        ));
        traps(&guest, "string pointer/length out of bounds").await;
    }
    traps(&wat::does("(i32.store (i32.const 28) (i32.const -1))"), "out of bounds").await;
}

#[tokio::test]
async fn a_list_outside_of_the_memory() {
    for length in [-1, 4_097, 1 << 28] {
        let guest = wat::does(&format!(
            "(call $call_all (i32.const 0) (i32.const {length}) (i32.const 512))"
        ));
        traps(&guest, "list pointer/length out of bounds").await;
    }
}

#[tokio::test]
async fn a_long_list_of_the_same_long_text() {
    // 64 calls whose arguments are the same 2 MB of zeros.
    let guest = Parts {
        memory: "32",
        run: "(local $call i32)
            (local.set $call (i32.const 4096))
            (loop
                (i32.store offset=8 (local.get $call) (i32.const 8192))
                (i32.store offset=12 (local.get $call) (i32.const 2000000))
                (local.set $call (i32.add (local.get $call) (i32.const 16)))
                (br_if 0 (i32.lt_u (local.get $call) (i32.const 5120))))
            (call $call_all (i32.const 4096) (i32.const 64) (i32.const 512))
            (i32.const 16)",
        ..Parts::default()
    };
    assert_eq!(ends(&guest.seal()).await.code(), ErrorCode::PayloadTooLarge);
}

#[tokio::test]
async fn an_answer_that_is_none() {
    traps(&wat::does("(i32.store8 (i32.const 16) (i32.const 7))"), "").await;
    traps(&wat::does("(i32.store8 (i32.const 20) (i32.const 7))"), "").await;
    traps(&wat::answers("(i32.const 65532)"), "out of bounds").await;
    traps(&wat::answers("(i32.const 17)"), "not aligned").await;
}

#[tokio::test]
async fn memory_that_can_never_be() {
    // More than 32 bits can address, and more than the module declares: the
    // guest is told -1, and what it does then is its own doing.
    let grow = |memory, pages: u32| {
        let run = format!(
            "(if (i32.ne (memory.grow (i32.const {pages})) (i32.const -1))
            (then (loop (br 0))))"
        );
        let run = |then: &str| format!("{run} {then}");
        let guest = |run: &str| Parts { memory, run, ..Parts::default() }.seal();
        (guest(&run(wat::DONE)), guest(&run("unreachable")))
    };
    for (memory, pages) in [("1", 65_536), ("1", u32::MAX), ("1 3", 3), ("1 3", 65_536)] {
        let (done, traps_then) = grow(memory, pages);
        is_done(&done).await;
        traps(&traps_then, "unreachable").await;
    }
}

#[tokio::test]
async fn a_table_that_can_never_be() {
    // Growing a table costs fuel for each element, had or not.
    for elements in [3, 1_000_000] {
        let run = |then: &str| {
            format!(
                "(if (i32.ne (table.grow $t (ref.null func) (i32.const {elements})) (i32.const -1))
                (then (loop (br 0)))) {then}"
            )
        };
        let guest =
            |run: &str| Parts { fields: "(table $t 1 3 funcref)", run, ..Parts::default() }.seal();
        is_done(&guest(&run(wat::DONE))).await;
        traps(&guest(&run("unreachable")), "unreachable").await;
    }
}

#[tokio::test]
async fn a_guest_that_can_do_with_less_memory_is_done() {
    is_done(&wat::does("(drop (memory.grow (i32.const 65535)))")).await;
}

#[tokio::test]
async fn a_guest_that_never_gets_to_run() {
    let start = |body| Parts { fields: body, ..Parts::default() };
    let endless = start("(start $s) (func $s (loop (br 0)))").seal();
    assert_eq!(ends(&endless).await.code(), ErrorCode::OutOfFuel);
    let deep = start("(start $s) (func $s (call $s) (call $s))").seal();
    assert_eq!(ends(&deep).await.code(), ErrorCode::StackOverflow);
    traps(&start("(start $s) (func $s unreachable)").seal(), "unreachable").await;
    traps(&start("(data (i32.const 65535) \"xx\")").seal(), "out of bounds").await;
    let table = "(table 1 funcref) (elem (i32.const 1) func $f) (func $f)";
    traps(&start(table).seal(), "out of bounds").await;
}

#[tokio::test]
async fn a_guest_that_errs_before_it_is_asked() {
    // Not a trap of its own, but a call that the host refuses.
    let bad_text = "(start $s) (func $s (i32.store (i32.const 56) (i32.const -1))
        (call $emit (i32.const 52) (i32.const 4) (i32.const 56) (i32.const 2)))";
    traps(&Parts { fields: bad_text, ..Parts::default() }.seal(), "invalid utf-8").await;
    let bad_handle = "(start $s) (func $s (call $block (i32.const 7)))";
    traps(&Parts { fields: bad_handle, ..Parts::default() }.seal(), "handle").await;
    let bad_drop = "(start $s) (func $s (call $drop (i32.const 7)))";
    traps(&Parts { fields: bad_drop, ..Parts::default() }.seal(), "handle").await;
}

#[tokio::test]
async fn a_guest_that_calls_the_host_before_it_is_asked() {
    let emits = "(start $s) (func $s
        (call $emit (i32.const 52) (i32.const 4) (i32.const 56) (i32.const 2)))";
    let guest = Parts { fields: emits, ..Parts::default() };
    let record = ends(&guest.seal()).await;
    assert_eq!(record.ran.ended.used.events, 1);
}

#[tokio::test]
async fn an_allocator_that_lies() {
    for (realloc, message) in [
        ("unreachable", "unreachable"),
        ("(i32.const -1)", "beyond end of memory"),
        ("(i32.const 65536)", "beyond end of memory"),
        ("(i32.div_u (i32.const 1) (i32.const 0))", "divide by zero"),
    ] {
        traps(&Parts { realloc, ..Parts::default() }.seal(), message).await;
    }
    let endless = Parts { realloc: "(loop (br 0)) unreachable", ..Parts::default() };
    assert_eq!(ends(&endless.seal()).await.code(), ErrorCode::OutOfFuel);
    // It has room for the input, and none for the answers of tool calls.
    let realloc = "(if (i32.gt_u (global.get $next) (i32.const 1024)) (then unreachable))
        (global.set $next (i32.const 2048)) (i32.const 1024)";
    let calls = "(call $call_all (i32.const 96) (i32.const 3) (i32.const 512)) (i32.const 16)";
    traps(&Parts { realloc, run: calls, ..Parts::default() }.seal(), "unreachable").await;
    // Where the input goes is the guest's own affair, as long as it is inside.
    is_done(&Parts { realloc: "(i32.const 65000)", ..Parts::default() }.seal()).await;
    // A list has to be aligned.
    let guest = Parts { realloc: "(i32.const 2049)", run: calls, ..Parts::default() };
    traps(&guest.seal(), "not aligned").await;
}

#[tokio::test]
async fn arithmetic_that_has_no_answer() {
    traps(&wat::does("(drop (i32.div_s (i32.const 1) (i32.const 0)))"), "divide by zero").await;
    let guest = wat::does("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))");
    traps(&guest, "integer overflow").await;
    let guest = wat::does("(drop (i32.trunc_f64_s (f64.const nan)))");
    traps(&guest, "invalid conversion").await;
    traps(&wat::does("(drop (i32.load (i32.const 65533)))"), "out of bounds").await;
}

#[tokio::test]
async fn handles_that_are_none() {
    for handle in [0, 1, -1] {
        traps(&wat::does(&format!("(call $block (i32.const {handle}))")), "handle").await;
        traps(&wat::does(&format!("(call $drop (i32.const {handle}))")), "handle").await;
    }
    let twice = "(local $timer i32)
        (local.set $timer (call $timer (i64.const 0)))
        (call $drop (local.get $timer))
        (call $drop (local.get $timer))";
    traps(&wat::does(twice), "handle").await;
}

#[tokio::test]
async fn handles_that_are_given_back_do_not_count() {
    let guest = wat::does(
        "(local $n i32)
        (loop
            (call $drop (call $timer (i64.const 0)))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $n) (i32.const 5000))))",
    );
    is_done(&guest).await;
}

#[tokio::test]
async fn endless_recursion() {
    let fields = "(func $deep (param i64) (result i64)
        (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (local.get 0)))";
    let run = "(drop (call $deep (i64.const 0))) (i32.const 16)";
    let record = ends(&Parts { fields, run, ..Parts::default() }.seal()).await;
    assert_eq!(record.code(), ErrorCode::StackOverflow);
    assert!(record.error().backtrace.len() <= 20);
}

#[tokio::test]
async fn a_guest_that_calls_the_host_from_the_end_of_its_stack() {
    // Each call nests JSON as deeply as it may, and the host has to parse it.
    let emit = "(call $emit (i32.const 52) (i32.const 4) (i32.const 2000) (i32.const 240))";
    let calls = "(call $call_all (i32.const 96) (i32.const 1) (i32.const 512))";
    for last in [emit, calls] {
        // The deeper half of the stack makes the calls.
        let fields = format!(
            "(func $deep (param $n i32)
                (if (i32.gt_u (local.get $n) (i32.const 8000))
                    (then (i32.store (i32.const 900) (i32.const 1024)) {last}))
                (call $deep (i32.add (local.get $n) (i32.const 1)))
                (i32.store (i32.const 904) (local.get $n)))"
        );
        let run = "(memory.fill (i32.const 2000) (i32.const 91) (i32.const 120))
            (memory.fill (i32.const 2120) (i32.const 93) (i32.const 120))
            (call $deep (i32.const 0)) (i32.const 16)";
        let guest = Parts { memory: "64", fields: &fields, run, ..Parts::default() }.seal();
        let lab = Lab::new();
        let start = lab.run(&guest, json!({})).limits(|limits| {
            limits.events = 1_000_000;
            limits.tool_calls = 100_000;
            limits.memory_bytes = 64 << 20;
        });
        let record = start.ends().await;
        assert_eq!(record.code(), ErrorCode::StackOverflow, "{:?}", record.error());
        let used = record.ran.ended.used;
        assert!(used.events + used.tool_calls > 100, "{used:?}");
        lab.proves(&record).await;
    }
}

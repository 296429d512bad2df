//! Runs that end where nobody planned it: what was half said, half waited for
//! or half recorded.

use std::time::Duration;

use reenact::journal::{Body, Chain, ErrorCode, Outcome, Place};
use reenact::runtime::{Executor, Fault, Halt, PrepareError, Verdict};
use reenact::sandbox::{LoadError, Sandbox};
use serde_json::{Value, json};

use crate::support::{Lab, Record, guest};

async fn hostile(lab: &Lab, input: Value) -> Record {
    lab.run(&guest("hostile"), input).ends().await
}

#[tokio::test]
async fn half_a_line_before_a_cancelled_wait_is_not_recorded_after_it() {
    let lab = Lab::new();
    let start = lab.run(&guest("hostile"), json!({ "do": "half-line" }));
    let start = start.at_start(|canceller| {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            canceller.cancel();
        });
    });
    let record = start.ends().await;
    assert_eq!(record.code(), ErrorCode::Cancelled);
    let kinds = record.entries();
    assert!(!kinds.iter().any(|entry| matches!(entry.body, Body::Log(_))), "{kinds:?}");
    lab.proves(&record).await;
}

#[tokio::test]
async fn half_a_line_before_a_deadline_too() {
    let lab = Lab::new();
    let start = lab.run(&guest("hostile"), json!({ "do": "half-line" }));
    let record = start.limits(|limits| limits.deadline_ms = 100).ends().await;
    assert_eq!(record.code(), ErrorCode::Deadline);
    lab.proves(&record).await;
}

#[tokio::test]
async fn half_a_line_of_a_run_that_goes_on_is_recorded() {
    let lab = Lab::new();
    let record = hostile(&lab, json!({ "do": "half-line", "n": 0 })).await;
    let said = |entry: &reenact::journal::Entry| match &entry.body {
        Body::Log(log) => log.text.starts_with("working"),
        _ => false,
    };
    assert!(record.entries().iter().any(said));
    lab.proves(&record).await;
}

#[tokio::test]
async fn one_write_has_a_limit_and_empty_lines_are_not_free() {
    let lab = Lab::new();
    let record = hostile(&lab, json!({ "do": "big-write", "n": 16 })).await;
    assert_eq!(record.code(), ErrorCode::Trap);
    lab.proves(&record).await;
}

#[tokio::test]
async fn http_is_refused_at_every_step() {
    let lab = Lab::new();
    let record = hostile(&lab, json!({ "do": "http" })).await;
    let answer = record.json();
    for step in ["set-method", "set-authority", "body"] {
        assert_eq!(answer[step], "Err(())", "{step}");
    }
    let sent = answer["handle"].as_str().unwrap();
    assert!(sent.to_lowercase().contains("denied"), "{sent}");
    lab.proves(&record).await;
}

/// A record that stops in the middle of a computation proves what it holds; the
/// replay does not compute on to the end of the fuel.
#[tokio::test]
async fn a_replay_stops_where_an_unfinished_record_does() {
    let lab = Lab::new();
    let start = lab.run(&guest("hostile"), json!({ "do": "loop" }));
    let record = start.limits(|limits| limits.fuel = 1 << 53).at_start(|canceller| {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            canceller.cancel();
        });
    });
    let record = record.ends().await;
    let beginning = record.journal[..1].to_vec();
    let replay = lab.replay_entries(&record.revision, beginning).await;
    assert!(matches!(replay.verdict, Verdict::SameSoFar), "{:?}", replay.verdict);

    let mut damaged = record.journal.clone();
    damaged[1].bytes[10] ^= 1;
    let replay = lab.replay_entries(&record.revision, damaged).await;
    assert!(matches!(&replay.verdict, Verdict::Damaged(damage) if damage.index == 1));
}

#[tokio::test]
async fn no_other_code_passes_as_an_interruption() {
    let lab = Lab::new();
    let record = hostile(&lab, json!({ "do": "compute", "n": 10 })).await;
    let last = record.journal.len() - 1;
    for code in [ErrorCode::OutOfMemory, ErrorCode::JournalTooLarge, ErrorCode::Trap] {
        let journal = record.forged(last, |entry| {
            let Body::Ended(ended) = &mut entry.body else { panic!() };
            ended.interrupted_at = Some(Place::HostCall(1));
            ended.outcome = Outcome::Error(reenact::journal::RunError {
                code,
                message: "the run was cancelled".to_owned(),
                details: None,
                backtrace: vec![],
            });
        });
        let replay = lab.replay_entries(&record.revision, journal).await;
        assert!(matches!(replay.verdict, Verdict::Diverged(_)), "{code}: {:?}", replay.verdict);
    }
}

#[tokio::test]
async fn limits_that_nobody_can_have_set_are_damage() {
    let lab = Lab::new();
    let record = hostile(&lab, json!({ "do": "compute", "n": 10 })).await;
    let mut first = record.entries().remove(0);
    let Body::Started(started) = &mut first.body else { panic!() };
    started.limits.fuel = u64::MAX;
    let journal = vec![Chain::default().push(&first)];
    let replay = lab.replay_entries(&record.revision, journal).await;
    assert!(matches!(&replay.verdict, Verdict::Damaged(damage) if damage.index == 0));
}

#[test]
fn compiling_is_bounded_in_time() {
    let sandbox = Sandbox::new(None).unwrap().with_compile_timeout(Duration::from_micros(1));
    let refused = Executor::with_sandbox(sandbox).prepare(guest("research"));
    let Err(PrepareError::Load(LoadError::CompileTimeout(limit))) = refused else {
        panic!("the revision was compiled in no time")
    };
    assert_eq!(limit, Duration::from_micros(1));
}

#[tokio::test]
async fn a_journal_without_a_start_is_no_run() {
    let lab = Lab::new();
    let prepared = lab.prepare(&guest("minimal"));
    let fault = lab.executor.replay(&prepared, vec![]).await.unwrap_err();
    assert!(matches!(fault, Fault::NoStart), "{fault:?}");
    let halt: Fault = Halt::JournalOver.into();
    assert_eq!(halt.to_string(), "the journal ends before the run does");
}

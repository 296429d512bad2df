//! Guests that wait for long, and hosts that stop: unloaded, let go of, and
//! brought back by a replay of what is on record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reenact::journal::{Encoded, ErrorCode};
use reenact::revision::Limits;
use reenact::runtime::{
    Canceller, Control, Fault, Halt, Journal, Memory, NewRun, Park, Prepared, Progress, now,
};
use reenact::tools::{Provider, RunTools};
use serde_json::{Value, json};

use crate::hosts;
use crate::support::{Lab, Record, guest};

/// A run of the hostile guest, executed step by step.
struct Story {
    lab: Lab,
    prepared: Arc<Prepared>,
    tools: RunTools,
    journal: Vec<Encoded>,
}

impl Story {
    fn of(input: Value, files: Arc<dyn Provider>) -> Self {
        let lab = Lab::new();
        let prepared = lab.prepare(&guest("hostile"));
        let tools = lab.run(&guest("hostile"), input.clone()).provider("files", files).tools();
        let plan = NewRun::plan(&prepared, &input.to_string(), Limits::DEFAULT, &tools).unwrap();
        Self { lab, prepared, tools, journal: vec![plan.first] }
    }

    /// Goes on until the run ends, is unloaded or let go of; settles what is unloaded.
    async fn advances(&mut self, control: &Control) -> Result<Option<Record>, Fault> {
        let memory = Memory::default();
        let journal = Journal::open(self.journal.clone(), Box::new(memory.clone()));
        let (tools, control) = (Some(self.tools.clone()), control.clone());
        let progress = self.lab.executor.advance(&self.prepared, journal, tools, control).await;
        let ended = match progress {
            Ok(Progress::Ended(ran)) => Ok(Some(*ran)),
            Ok(Progress::Unloaded(unloaded)) => {
                unloaded.settle().await.map(|()| None).map_err(Fault::from)
            }
            Err(fault) => Err(fault),
        };
        self.journal.extend(memory.entries());
        let (revision, journal) = (guest("hostile"), self.journal.clone());
        Ok(ended?.map(|ran| Record { revision, journal, ran }))
    }
}

fn control() -> (Canceller, Control) {
    Control::live(now(), 60_000)
}

const IMPATIENT: Duration = Duration::from_millis(20);

/// A host that takes its time, and counts.
fn slow(made: &Arc<AtomicU64>) -> Arc<dyn Provider> {
    let made = Arc::clone(made);
    hosts::that(move |_| {
        made.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            hosts::success(json!("late"))
        }
    })
}

#[tokio::test]
async fn a_guest_that_waits_for_a_slow_tool_is_unloaded_and_brought_back() {
    let made = Arc::default();
    let mut story = Story::of(json!({ "do": "calls-at-once", "n": 3 }), slow(&made));
    let control = control().1.with_patience(IMPATIENT);
    assert!(story.advances(&control).await.unwrap().is_none(), "it stayed loaded");
    assert_eq!(story.journal.len(), 1 + 3 + 3, "calls and answers are on record");
    let record = story.advances(&control).await.unwrap().expect("the end");
    assert_eq!((&record.json()["answers"], made.load(Ordering::Relaxed)), (&json!(3), 3));
    story.lab.proves(&record).await;
}

#[tokio::test]
async fn an_unloaded_run_that_is_cancelled_ends_where_it_waited() {
    let mut story = Story::of(json!({ "do": "tool-calls", "n": 1 }), hosts::that_hangs());
    let (canceller, control) = control();
    let control = control.with_patience(IMPATIENT);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        canceller.cancel();
    });
    assert!(story.advances(&control).await.unwrap().is_none(), "it stayed loaded");
    let record = story.advances(&control).await.unwrap().expect("the end");
    assert_eq!(record.code(), ErrorCode::Cancelled);
    story.lab.proves(&record).await;
}

#[tokio::test]
async fn a_guest_that_sleeps_is_unloaded_at_once() {
    let made = Arc::default();
    let mut story = Story::of(json!({ "do": "sleep", "n": 1 }), slow(&made));
    let impatient = control().1.with_patience(IMPATIENT);
    let parked = story.advances(&impatient).await.map(|_| ());
    let Err(Fault::Journal(Halt::Parked(Park { until, calls }))) = parked else {
        panic!("{parked:?}")
    };
    assert!(until > now() && calls.is_empty());
    assert!(story.lab.replay_entries(&guest("hostile"), story.journal.clone()).await.is_proof());
    let record = story.advances(&control().1).await.unwrap().expect("the end");
    assert!(now() >= until, "the time has passed");
    story.lab.proves(&record).await;
}

#[tokio::test]
async fn a_run_that_is_let_go_of_keeps_the_answers_that_come_in_time() {
    let made = Arc::default();
    let mut story = Story::of(json!({ "do": "tool-calls", "n": 2 }), slow(&made));
    let (canceller, control) = control();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        canceller.leave(Duration::from_secs(30));
    });
    let left = story.advances(&control).await.map(|_| ());
    assert!(matches!(left, Err(Fault::Journal(Halt::Left))), "{left:?}");
    assert_eq!(made.load(Ordering::Relaxed), 1);
    let record = story.advances(&self::control().1).await.unwrap().expect("the end");
    assert_eq!((&record.json()["answers"], made.load(Ordering::Relaxed)), (&json!(2), 2));
    story.lab.proves(&record).await;
}

#[tokio::test]
async fn a_guest_that_computes_is_let_go_of_too() {
    let made = Arc::default();
    let mut story = Story::of(json!({ "do": "loop" }), slow(&made));
    let (canceller, control) = control();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        canceller.leave(Duration::from_secs(30));
    });
    let left = story.advances(&control).await.map(|_| ());
    assert!(matches!(left, Err(Fault::Journal(Halt::Left))), "{left:?}");
    let (canceller, control) = self::control();
    canceller.cancel();
    let record = story.advances(&control).await.unwrap().expect("the end");
    assert_eq!(record.code(), ErrorCode::Cancelled);
    story.lab.proves(&record).await;
}

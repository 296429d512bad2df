//! A run that stopped anywhere goes on from its journal as if it had not.

use std::ops::Range;
use std::sync::Arc;

use reenact::journal::{Body, Encoded, Entry, ErrorCode, Outcome};
use reenact::runtime::Control;
use serde_json::{Value, json};

use crate::library::Library;
use crate::support::{Lab, Record, guest};

struct Story {
    lab: Lab,
    name: &'static str,
    input: Value,
}

impl Story {
    fn of(name: &'static str, input: Value) -> Self {
        Self { lab: Lab::new(), name, input }
    }

    async fn runs(&self, library: &Arc<Library>) -> Record {
        let start = self.lab.run(&guest(self.name), self.input.clone());
        let record = start.provider("files", library.clone()).ends().await;
        self.lab.proves(&record).await;
        record
    }

    async fn goes_on(&self, beginning: &[Encoded], library: &Arc<Library>) -> Record {
        let at = reenact::runtime::now();
        let (_canceller, control) = Control::live(at, 60_000);
        self.goes_on_under(control, beginning, library).await
    }

    async fn goes_on_under(
        &self,
        control: Control,
        beginning: &[Encoded],
        library: &Arc<Library>,
    ) -> Record {
        let revision = guest(self.name);
        let start = self.lab.run(&revision, self.input.clone());
        let tools = start.provider("files", library.clone()).tools();
        let prepared = self.lab.prepare(&revision);
        let record = self.lab.goes_on(&prepared, beginning.to_vec(), tools, control).await;
        assert_eq!(&record.journal[..beginning.len()], beginning);
        self.lab.proves(&record).await;
        record
    }
}

fn is_call(entry: &&Entry) -> bool {
    matches!(entry.body, Body::ToolCalled(_))
}

fn is_answer(entry: &&Entry) -> bool {
    matches!(entry.body, Body::ToolAnswered(_))
}

/// Numbers of the calls that `entries` holds without their answers.
fn under_way(entries: &[Entry]) -> Range<usize> {
    entries.iter().filter(is_answer).count()..entries.iter().filter(is_call).count()
}

/// Cuts a run's journal at every entry, and goes on from each place.
async fn resumes_anywhere(story: Story) {
    let library = Library::new();
    let record = story.runs(&library).await;
    let entries = record.entries();
    for cut in 1..=entries.len() {
        let library_again = Library::new();
        let resumed = story.goes_on(&record.journal[..cut], &library_again).await;
        assert_eq!(resumed.ran.ended, record.ran.ended, "cut at {cut}");
        assert_eq!(resumed.ran.fuel, record.ran.fuel, "cut at {cut}");
        assert_eq!(resumed.ran.entries, record.ran.entries, "cut at {cut}");

        // What was answered is not asked again; all else is asked once.
        let answered = entries[..cut].iter().filter(is_answer).count();
        let asked = library_again.asked();
        assert_eq!(asked.len(), library.asked().len() - answered, "cut at {cut}: {asked:?}");
        assert!(asked.iter().all(|call| library.asked().contains(call)));
    }
}

#[tokio::test]
async fn a_run_with_events_and_a_batch_of_calls_resumes_anywhere() {
    resumes_anywhere(Story::of("research", json!({ "topic": "fuel" }))).await;
}

#[tokio::test]
async fn a_run_with_spans_and_long_answers_resumes_anywhere() {
    resumes_anywhere(Story::of("word-count", json!({ "path": "long.txt" }))).await;
}

#[tokio::test]
async fn a_run_that_prints_resumes_anywhere() {
    resumes_anywhere(Story::of("hostile", json!({ "do": "stdout", "n": 5 }))).await;
}

#[tokio::test]
async fn a_run_that_fails_resumes_anywhere() {
    resumes_anywhere(Story::of("hostile", json!({ "do": "panic" }))).await;
}

#[tokio::test]
async fn a_sleep_goes_on_to_its_own_end() {
    let story = Story::of("hostile", json!({ "do": "sleep", "n": 1 }));
    let record = story.runs(&Library::new()).await;
    let Body::SleepStarted(sleep) = record.entries()[1].body.clone() else { panic!() };
    for cut in 1..=record.journal.len() {
        let resumed = story.goes_on(&record.journal[..cut], &Library::new()).await;
        assert!(resumed.json()["elapsed_ms"].as_u64().unwrap() >= 1_000);
        // A sleep on record is not slept anew.
        if cut >= 2 {
            assert_eq!(resumed.entries()[1], record.entries()[1]);
            assert!(resumed.entries()[2].at >= sleep.until);
        }
    }
}

/// Cuts a run of three calls, none of which may be repeated, at every entry.
/// `lost` says which of the calls under way are lost.
async fn deeds_are_not_done_twice(deed: &str, lost: impl Fn(Range<usize>) -> usize) {
    let story = Story::of("hostile", json!({ "do": deed, "n": 3 }));
    let record = story.runs(&Library::of_deeds()).await;
    let entries = record.entries();
    for cut in 1..=entries.len() {
        let library = Library::of_deeds();
        let resumed = story.goes_on(&record.journal[..cut], &library).await;
        let under_way = under_way(&entries[..cut]);
        let (answered, lost) = (under_way.start, lost(under_way));
        assert_eq!(library.asked().len(), 3 - answered - lost, "cut at {cut}");
        let told = resumed.json();
        assert_eq!(told["errors"], lost, "cut at {cut}");
        if lost > 0 {
            assert_eq!(told["last_error"]["code"], "interrupted");
        }
    }
}

#[tokio::test]
async fn a_call_under_way_that_may_not_be_repeated_is_interrupted() {
    deeds_are_not_done_twice("tool-calls", |under_way| under_way.len()).await;
}

#[tokio::test]
async fn calls_of_a_batch_are_made_only_after_all_are_on_record() {
    // Before the third call is on record, none can have been made.
    let lost = |under_way: Range<usize>| if under_way.end == 3 { under_way.len() } else { 0 };
    deeds_are_not_done_twice("calls-at-once", lost).await;
}

#[tokio::test]
async fn an_agent_can_handle_an_interrupted_call() {
    let story = Story::of("word-count", json!({ "path": "long.txt" }));
    let record = story.runs(&Library::of_deeds()).await;
    let resumed = story.goes_on(&record.journal[..2], &Library::of_deeds()).await;
    assert_eq!(resumed.code(), ErrorCode::AgentFailure);
    let details = resumed.error().details.as_ref().unwrap().to_value();
    assert_eq!(details["code"], "interrupted");
}

/// The deadline may pass, or somebody may cancel, while a run is not under way.
/// It takes hold where the record ends, never within it.
#[tokio::test]
async fn an_interruption_from_outside_waits_for_the_end_of_the_record() {
    let story = Story::of("word-count", json!({ "path": "long.txt" }));
    let library = Library::new();
    let record = story.runs(&library).await;
    let closed = record.entries().len() - 1;
    assert!(record.ran.fuel > 3_000_000, "the guest never yields within the record");
    for cut in 1..=closed {
        let (_canceller, late) = Control::live(record.entries()[0].at, 0);
        let resumed = story.goes_on_under(late, &record.journal[..cut], &library).await;
        // What the guest still has to compute can be too little to be interrupted.
        let done = matches!(resumed.ran.ended.outcome, Outcome::Done(_));
        assert!(done && cut == closed || resumed.code() == ErrorCode::Deadline, "cut at {cut}");

        let (canceller, cancelled) = Control::live(reenact::runtime::now(), 60_000);
        canceller.cancel();
        let resumed = story.goes_on_under(cancelled, &record.journal[..cut], &library).await;
        let done = matches!(resumed.ran.ended.outcome, Outcome::Done(_));
        assert!(done && cut == closed || resumed.code() == ErrorCode::Cancelled, "cut at {cut}");
    }
}

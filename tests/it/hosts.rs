//! Tools that misbehave: whatever they do, the guest gets an answer of bounded
//! size in bounded time, and the replay gets the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, pending};
use reenact::journal::{Answer, Body, ErrorCode, ToolAnswered};
use reenact::tools::{CallContext, Provider, Source, Success, ToolError, ToolErrorCode, ToolSpec};
use serde_json::{Value, json};

use crate::support::{Lab, Record, guest};
use crate::wat;

type Answered = BoxFuture<'static, Result<Success, ToolError>>;

/// A provider that plays `files`; what a call does is the test's to say.
struct Host<F>(F);

impl<F: Fn(Value) -> Answered + Send + Sync> Provider for Host<F> {
    fn tools(&self) -> Vec<ToolSpec> {
        let spec = |name: &str| ToolSpec {
            name: name.to_owned(),
            description: String::new(),
            parameters: json!({}),
            read_only: false,
            idempotent: false,
        };
        ["files.list", "files.search"].map(spec).to_vec()
    }

    fn call(&self, _: &str, arguments: Value, _: CallContext) -> Answered {
        (self.0)(arguments)
    }
}

/// A host whose tools do this with their arguments.
pub fn that<F>(answer: impl Fn(Value) -> F + Send + Sync + 'static) -> Arc<dyn Provider>
where
    F: Future<Output = Result<Success, ToolError>> + Send + 'static,
{
    Arc::new(Host(move |arguments| answer(arguments).boxed()))
}

/// A host that never answers.
pub fn that_hangs() -> Arc<dyn Provider> {
    that(|_| pending())
}

pub fn success(content: Value) -> Result<Success, ToolError> {
    Ok(Success { content, sources: vec![] })
}

/// The guest makes one call and tells how it went.
async fn one_call(lab: &Lab, host: Arc<dyn Provider>) -> Record {
    let start = lab.run(&guest("hostile"), json!({ "do": "tool-calls", "n": 1 }));
    start.limits(|limits| limits.tool_timeout_ms = 2_000).provider("files", host).ends().await
}

/// The answers to tool calls, in the order of the journal.
fn answers(record: &Record) -> Vec<ToolAnswered> {
    let answered = |body| match body {
        Body::ToolAnswered(answered) => Some(answered),
        _ => None,
    };
    record.entries().into_iter().filter_map(|entry| answered(entry.body)).collect()
}

#[tokio::test]
async fn a_host_that_never_answers_is_not_waited_for() {
    let lab = Lab::new();
    let start = lab.run(&guest("hostile"), json!({ "do": "tool-calls", "n": 3 }));
    let start = start.limits(|limits| limits.tool_timeout_ms = 20);
    let record = start.provider("files", that_hangs()).ends().await;
    assert_eq!(record.json()["errors"], 3);
    assert_eq!(record.json()["last_error"]["code"], "timeout");
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_call_that_timed_out_is_abandoned() {
    struct Gone(Arc<AtomicBool>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let gone = Arc::new(AtomicBool::new(false));
    let witness = Arc::clone(&gone);
    let host = that(move |_| {
        let gone = Gone(Arc::clone(&witness));
        async move {
            pending::<()>().await;
            drop(gone);
            success(json!(null))
        }
    });
    let lab = Lab::new();
    let start = lab.run(&guest("hostile"), json!({ "do": "tool-calls", "n": 1 }));
    start.limits(|limits| limits.tool_timeout_ms = 20).provider("files", host).ends().await;
    tokio::task::yield_now().await;
    assert!(gone.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_host_that_panics_fails_the_call_and_nothing_else() {
    let lab = Lab::new();
    let record = one_call(&lab, that(|_| async { panic!("the tool has had enough") })).await;
    let error = &record.json()["last_error"];
    assert_eq!(error["code"], "failed");
    assert_eq!(error["message"], "the tool broke: the tool has had enough");
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_host_that_panics_before_it_begins_fails_the_call_too() {
    let lab = Lab::new();
    let refuses = |_| -> std::future::Ready<_> { panic!("not even a future") };
    let record = one_call(&lab, that(refuses)).await;
    assert_eq!(record.json()["last_error"]["message"], "the tool broke: not even a future");
    lab.proves(&record).await;
}

#[tokio::test]
async fn an_answer_of_100_mb_is_too_large() {
    let lab = Lab::new();
    let record = one_call(&lab, that(|_| async { success("x".repeat(100 << 20).into()) })).await;
    assert_eq!(record.json()["last_error"]["code"], "too-large");
    assert!(record.ran.ended.used.journal_bytes < 10_000);
    lab.proves(&record).await;
}

#[tokio::test]
async fn an_answer_that_nests_too_deep_is_a_failure() {
    let lab = Lab::new();
    let deep = || (0..500).fold(json!(1), |inner, _| json!([inner]));
    let record = one_call(&lab, that(move |_| async move { success(deep()) })).await;
    assert_eq!(record.json()["last_error"]["code"], "failed");
    lab.proves(&record).await;
}

#[tokio::test]
async fn an_error_of_100_mb_is_cut() {
    let lab = Lab::new();
    let host = that(|_| async {
        let message = "x".repeat(100 << 20);
        Err(ToolError { code: ToolErrorCode::Failed, message })
    });
    let record = one_call(&lab, host).await;
    assert!(record.json()["last_error"]["message"].as_str().unwrap().len() <= 8 << 10);
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_million_sources_are_cut() {
    let lab = Lab::new();
    let source = |n| Source { url: format!("x:{n}"), title: String::new() };
    let host = that(move |_| async move {
        Ok(Success { content: json!(1), sources: (0..1_000_000).map(source).collect() })
    });
    let record = one_call(&lab, host).await;
    let [ToolAnswered { answer: Answer::Ok(output), .. }] = &answers(&record)[..] else {
        panic!("{:?}", record.ran.ended)
    };
    assert_eq!(output.sources.len(), 1_000);
    lab.proves(&record).await;
}

/// Makes three calls at once, then emits what each of them was answered.
const TELLS_ANSWERS: &str = "
    (local $answer i32)
    (call $call_all (i32.const 96) (i32.const 3) (i32.const 512))
    (local.set $answer (i32.load (i32.const 512)))
    (loop
        (call $emit (i32.const 52) (i32.const 4)
            (i32.load offset=4 (local.get $answer)) (i32.load offset=8 (local.get $answer)))
        (local.set $answer (i32.add (local.get $answer) (i32.const 16)))
        (br_if 0 (i32.lt_u (local.get $answer)
            (i32.add (i32.load (i32.const 512)) (i32.const 48)))))";

#[tokio::test]
async fn answers_are_journaled_as_they_arrive_and_handed_over_in_the_order_of_the_calls() {
    let lab = Lab::new();
    let last_first = that(|arguments| async move {
        let n = arguments["n"].as_u64().unwrap();
        tokio::time::sleep(Duration::from_millis(110 - 50 * n)).await;
        success(arguments)
    });
    let start = lab.run(&wat::does(TELLS_ANSWERS), json!({}));
    let record = start.provider("files", last_first).ends().await;
    let journaled: Vec<u64> = answers(&record).iter().map(|answered| answered.call).collect();
    assert_eq!(journaled, [2, 1, 0]);
    let entries = record.entries();
    let told: Vec<&str> = entries.iter().filter_map(|entry| event(&entry.body)).collect();
    assert_eq!(told, [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":2}"#]);
    lab.proves(&record).await;
}

fn event(body: &Body) -> Option<&str> {
    match body {
        Body::Event(event) => Some(event.data.as_str()),
        _ => None,
    }
}

#[tokio::test]
async fn a_batch_that_is_half_answered_when_time_is_up_replays() {
    let lab = Lab::new();
    let only_the_second = that(|arguments| async move {
        if arguments["n"] != 1 {
            pending::<()>().await;
        }
        success(arguments)
    });
    let start = lab.run(&wat::does(TELLS_ANSWERS), json!({}));
    let start = start.limits(|limits| limits.deadline_ms = 300);
    let record = start.provider("files", only_the_second).ends().await;
    assert_eq!(record.code(), ErrorCode::Deadline);
    assert_eq!(answers(&record).len(), 1);
    lab.proves(&record).await;
}

#[tokio::test]
async fn an_answer_that_the_guest_has_no_room_for() {
    let lab = Lab::new();
    let host = that(|_| async { success("x".repeat(3 << 20).into()) });
    let start = lab.run(&guest("hostile"), json!({ "do": "tool-calls", "n": 1 }));
    let start = start.limits(|limits| limits.memory_bytes = 2 << 20).provider("files", host);
    let record = start.ends().await;
    assert_eq!(record.code(), ErrorCode::OutOfMemory, "{:?}", record.error());
    assert_eq!(answers(&record).len(), 1);
    lab.proves(&record).await;
}

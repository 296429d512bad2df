//! One call: its checks in order, and providers that misbehave.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::future::{pending, ready};
use serde_json::json;

use super::*;
use crate::tools::ToolErrorCode as Code;

/// Its tools do what their names say.
struct Odd {
    dropped: Arc<AtomicBool>,
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Provider for Odd {
    fn tools(&self) -> Vec<ToolSpec> {
        ["echo", "deep", "fail", "hang", "block", "large", "panic", "panic_early", "sources"]
            .map(|name| ToolSpec {
                name: format!("odd.{name}"),
                description: String::new(),
                parameters: json!({
                    "type": "object",
                    "properties": { "text": { "type": "string", "pattern": "^[a-z ]*$" } },
                    "additionalProperties": false,
                }),
                read_only: true,
                idempotent: true,
            })
            .into()
    }

    fn call(
        &self,
        tool: &str,
        arguments: Value,
        _: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        let answer = |content| ready(Ok(Success { content, sources: vec![] })).boxed();
        match tool {
            "odd.echo" => answer(arguments),
            "odd.deep" => answer((0..128).fold(Value::Null, |inner, _| json!([inner]))),
            "odd.fail" => ready(Err(error(Code::Failed, "é".repeat(100_000)))).boxed(),
            "odd.hang" => {
                let guard = SetOnDrop(self.dropped.clone());
                async move {
                    let _guard = guard;
                    pending().await
                }
                .boxed()
            }
            "odd.block" => async {
                std::thread::sleep(Duration::from_millis(500));
                Ok(Success { content: Value::Null, sources: vec![] })
            }
            .boxed(),
            "odd.large" => answer(Value::from("x".repeat(2_000))),
            "odd.panic" => async { panic!("no {}", "luck") }.boxed(),
            "odd.panic_early" => panic!("early"),
            "odd.sources" => {
                let source = |url: String, title: &str| Source { url, title: title.into() };
                let mut sources = vec![
                    source(String::new(), "no address"),
                    source("x".repeat(3_000), "too long"),
                    source("a\nb".into(), "two lines"),
                    source("https://x.org/".into(), &"t\n".repeat(3_000)),
                ];
                sources.extend((0..2_000).map(|n| source(format!("files:{n}"), "n")));
                ready(Ok(Success { content: Value::Null, sources })).boxed()
            }
            other => unreachable!("{other}"),
        }
    }
}

const LIMITS: ToolLimits =
    ToolLimits { argument_bytes: 100, answer_bytes: 1_000, timeout: Duration::from_millis(100) };

fn odd() -> (RunTools, Arc<AtomicBool>) {
    let dropped = Arc::new(AtomicBool::new(false));
    let provider: Arc<dyn Provider> = Arc::new(Odd { dropped: dropped.clone() });
    let catalogue = Catalogue::of(BTreeMap::from([("odd".to_owned(), provider)])).unwrap();
    (catalogue.for_run(|name| name != "odd.fail", LIMITS), dropped)
}

fn plain<'a>(name: &'a str, arguments: &'a str) -> Call<'a> {
    Call { key: "run/0".to_owned(), name, arguments, budget: Budget::UNLIMITED }
}

async fn call(tool: &str, arguments: &str) -> Result<ToolOutput, (Code, String)> {
    match odd().0.call(plain(tool, arguments)).await.answer {
        Answer::Ok(output) => Ok(output),
        Answer::Error(ToolError { code, message }) => Err((code, message)),
    }
}

async fn fails(tool: &str, arguments: &str) -> (Code, String) {
    call(tool, arguments).await.unwrap_err()
}

#[tokio::test]
async fn a_call_answers_compact_json() {
    let output = call("odd.echo", " { \"text\" : \"a b\" } ").await.unwrap();
    assert_eq!(output.content.as_str(), r#"{"text":"a b"}"#);
}

#[tokio::test]
async fn the_first_check_that_fails_answers() {
    // Too large, not asked for and not JSON: the size is looked at first.
    assert_eq!(fails("odd.fail", &"x".repeat(101)).await.0, Code::TooLarge);
    assert_eq!(fails("odd.fail", "not JSON").await.0, Code::Denied);
    assert_eq!(fails("files.read", "not JSON").await.0, Code::Denied);
    assert_eq!(fails("odd.none", "not JSON").await.0, Code::UnknownTool);
    assert_eq!(fails("web.get", "not JSON").await.0, Code::UnknownTool);
    assert_eq!(fails("", "{}").await.0, Code::UnknownTool);
    assert_eq!(fails("odd", "{}").await.0, Code::UnknownTool);
    assert_eq!(fails("odd.echo", "not JSON").await.0, Code::InvalidArguments);
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_told_where() {
    assert_eq!(
        fails("odd.echo", r#"{"text":5}"#).await,
        (
            Code::InvalidArguments,
            "the arguments of `odd.echo` do not fit its schema: at `/text`: 5 is not of type \"string\"".into()
        )
    );
    let (code, message) = fails("odd.echo", "[]").await;
    assert_eq!(code, Code::InvalidArguments);
    assert!(message.contains("is not of type \"object\""), "{message}");
    assert_eq!(fails("odd.echo", r#"{"text":"A"}"#).await.0, Code::InvalidArguments);
}

#[tokio::test]
async fn arguments_and_answers_may_be_exactly_as_large_as_the_limit() {
    let text = format!("{{\"text\":\"{}\"}}", "x".repeat(89));
    assert_eq!(text.len() as u64, LIMITS.argument_bytes);
    assert_eq!(call("odd.echo", &text).await.unwrap().content.as_str(), text);
    assert_eq!(fails("odd.echo", &format!("{text} ")).await.0, Code::TooLarge);
    let (code, message) = fails("odd.large", "{}").await;
    assert_eq!(code, Code::TooLarge);
    assert_eq!(message, "the answer of `odd.large` has 2002 bytes, but `answer_bytes` is 1000");
}

#[tokio::test]
async fn a_tool_that_panics_is_an_error_of_the_tool() {
    assert_eq!(fails("odd.panic", "{}").await, (Code::Failed, "the tool broke: no luck".into()));
    assert_eq!(
        fails("odd.panic_early", "{}").await,
        (Code::Failed, "the tool broke: early".into())
    );
}

#[tokio::test]
async fn a_tool_that_never_answers_times_out_and_is_dropped() {
    let (tools, dropped) = odd();
    let Answer::Error(failure) = tools.call(plain("odd.hang", "{}")).await.answer else { panic!() };
    assert_eq!(failure.code, Code::Timeout);
    assert_eq!(failure.message, "`odd.hang` took longer than 100 ms (`tool_timeout_ms`)");
    wait_for(&dropped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_blocks_its_thread_times_out_too() {
    let start = Instant::now();
    assert_eq!(fails("odd.block", "{}").await.0, Code::Timeout);
    assert!(start.elapsed() < Duration::from_millis(400));
}

#[tokio::test]
async fn a_call_whose_caller_has_gone_is_dropped() {
    let (tools, dropped) = odd();
    let abandoned =
        tokio::time::timeout(Duration::from_millis(10), tools.call(plain("odd.hang", "{}")));
    assert!(abandoned.await.is_err());
    wait_for(&dropped).await;
}

async fn wait_for(flag: &AtomicBool) {
    for _ in 0..200 {
        if flag.load(Ordering::SeqCst) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the call goes on");
}

#[tokio::test]
async fn an_answer_that_could_not_be_read_back_is_refused() {
    let (code, message) = fails("odd.deep", "{}").await;
    assert_eq!(code, Code::Failed);
    assert!(message.contains("nests deeper"), "{message}");
}

#[test]
fn what_is_not_too_deep_can_be_read_back() {
    let deep = (0..MAX_NESTING).fold(Value::Null, |inner, _| json!([inner]));
    assert!(nests_within(&deep, MAX_NESTING));
    assert!(Json::parse(Json::from_value(&deep).as_str()).is_ok());
    assert!(!nests_within(&json!([deep]), MAX_NESTING));
}

#[tokio::test]
async fn sources_are_bounded_and_fit_on_a_line() {
    let sources = call("odd.sources", "{}").await.unwrap().sources;
    assert_eq!(sources.len(), MAX_SOURCES);
    assert_eq!(sources[0].url, "https://x.org/");
    assert!(sources[0].title.starts_with("t t ") && sources[0].title.len() <= MAX_SOURCE_TEXT);
    assert_eq!(sources[1].url, "files:0");
}

#[tokio::test]
async fn a_failure_has_a_message_of_bounded_size() {
    let provider: Arc<dyn Provider> = Arc::new(Odd { dropped: Arc::default() });
    let all = Catalogue::of(BTreeMap::from([("odd".to_owned(), provider)])).unwrap();
    let Answer::Error(failure) =
        all.for_run(|_| true, LIMITS).call(plain("odd.fail", "{}")).await.answer
    else {
        panic!()
    };
    assert!(failure.message.len() <= MAX_MESSAGE && failure.message.ends_with("é…"));
}

#[test]
fn a_run_is_granted_what_its_manifest_asks_for() {
    let names: Vec<_> = odd().0.granted().into_iter().map(|tool| tool.name).collect();
    let expected = ["block", "deep", "echo", "hang", "large", "panic", "panic_early", "sources"];
    assert_eq!(names, expected.map(|name| format!("odd.{name}")));
}

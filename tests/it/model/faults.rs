//! Providers that are busy, broken, wrong or hostile.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use reenact::journal::ToolErrorCode;
use serde_json::json;

use super::{KEY, all, answer, ask, error, grant, hello, limits, open, says, tools};
use crate::models::{OpenAi, Reply, Says, Server};

fn busy(status: u16) -> Reply {
    Reply::Refuses(status, None, "Please try again.".to_owned())
}

fn fine() -> Reply {
    Reply::Says(Says::text(&["fine"]))
}

#[tokio::test]
async fn one_answer_is_recorded_with_the_attempts_before_it() {
    let begun = || Says::text(&["begun ", "but not"]);
    let script = [
        busy(429),
        busy(500),
        Reply::Drops(begun()),
        Reply::Fails(begun(), "Overloaded".to_owned()),
        fine(),
    ];
    for server in all(&script) {
        let name = server.wire.name();
        let called = ask(&tools(&server).await, hello()).await;
        assert_eq!(answer(&called)["text"], "fine", "{name}");
        assert_eq!(called.usage.unwrap().input_tokens, 12, "one answer is counted");
        let errors: Vec<&str> = called.attempts.iter().map(|a| a.error.as_str()).collect();
        let model = format!("`{name}:m`");
        assert_eq!(errors.len(), 4, "{errors:#?}");
        assert_eq!(errors[0], format!("{model} answered 429 Too Many Requests: Please try again."));
        let expected = format!("{model} answered 500 Internal Server Error: Please try again.");
        assert_eq!(errors[1], expected);
        assert!(errors[2].starts_with(&format!("{model} broke off its answer: ")), "{errors:#?}");
        assert_eq!(errors[3], format!("{model} answered an error: Overloaded"));
        let waits: Vec<u64> = called.attempts.iter().map(|attempt| attempt.waited_ms).collect();
        assert_eq!(waits, [1, 2, 4, 8], "{name}");
        assert_eq!(server.times(), 5, "{name}");
    }
}

#[tokio::test]
async fn a_stream_without_end_is_no_answer() {
    let begun = Says::text(&["It is important never to "]);
    for server in all(&[Reply::Ends(begun), fine()]) {
        let called = ask(&tools(&server).await, hello()).await;
        assert_eq!(answer(&called)["text"], "fine", "{}", server.wire.name());
        assert!(called.attempts[0].error.contains("ended early"), "{called:?}");
    }
}

#[tokio::test]
async fn a_provider_says_when_to_come_again() {
    let asks = |header, value: &str| {
        Reply::Refuses(429, Some((header, value.to_owned())), "slow down".to_owned())
    };
    let server =
        Server::start(OpenAi, [asks("retry-after", "1"), asks("retry-after-ms", "30"), fine()]);
    let began = Instant::now();
    let called = ask(&tools(&server).await, hello()).await;
    assert_eq!(answer(&called)["text"], "fine");
    let waits: Vec<u64> = called.attempts.iter().map(|attempt| attempt.waited_ms).collect();
    assert_eq!(waits, [1_000, 30]);
    assert!(began.elapsed() >= Duration::from_millis(1_030));
}

#[tokio::test]
async fn there_is_a_last_attempt() {
    let server = Server::start(OpenAi, [busy(503)]);
    let config = grant(&server).replace("retry_ms = 1", "retry_ms = 1\nretries = 2");
    let called = ask(&open(&config, limits()).await, hello()).await;
    let failure = error(&called);
    assert_eq!(failure.code, ToolErrorCode::Failed);
    let expected = "`openai:m` answered 503 Service Unavailable: Please try again. (attempt 3)";
    assert_eq!(failure.message, expected);
    assert_eq!((server.times(), called.attempts.len(), called.usage), (3, 2, None));
}

#[tokio::test]
async fn what_will_not_pass_is_told_at_once() {
    for (status, code) in [
        (400, ToolErrorCode::InvalidArguments),
        (422, ToolErrorCode::InvalidArguments),
        (401, ToolErrorCode::Failed),
        (404, ToolErrorCode::Failed),
        (302, ToolErrorCode::Failed),
    ] {
        let message = "Unsupported parameter.".to_owned();
        for server in all(&[Reply::Refuses(status, None, message)]) {
            let called = ask(&tools(&server).await, hello()).await;
            let failure = error(&called);
            assert_eq!(failure.code, code, "{failure:?}");
            assert!(failure.message.ends_with(": Unsupported parameter."), "{failure:?}");
            assert_eq!((server.times(), called.attempts.len()), (1, 0));
        }
    }
}

#[tokio::test]
async fn a_redirect_does_not_take_the_key_along() {
    let elsewhere = Server::start(OpenAi, [fine()]);
    let to = format!("http://{}/v1/chat/completions", elsewhere.address);
    for server in all(&[Reply::Refuses(307, Some(("location", to)), "moved".to_owned())]) {
        let called = ask(&tools(&server).await, hello()).await;
        assert!(error(&called).message.contains("307"), "{called:?}");
    }
    assert_eq!(elsewhere.times(), 0);
}

#[tokio::test]
async fn nobody_there_is_tried_again_and_told() {
    for server in all(&[fine()]) {
        let tools = tools(&server).await;
        let name = server.wire.name();
        drop(server);
        let called = ask(&tools, hello()).await;
        let expected = format!("`{name}:m` did not answer: ");
        assert!(error(&called).message.starts_with(&expected), "{called:?}");
        assert_eq!((error(&called).code, called.attempts.len()), (ToolErrorCode::Failed, 4));
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_left_when_the_time_is_over_or_the_caller_goes() {
    let begun = Reply::Slowly(Says::text(&["one", "two", "three"]), Duration::from_secs(10));
    for reply in [Reply::Hangs, begun] {
        for server in all(&[reply]) {
            let mut limits = limits();
            limits.timeout = Duration::from_millis(200);
            let called = ask(&open(&grant(&server), limits).await, hello()).await;
            assert_eq!(error(&called).code, ToolErrorCode::Timeout);
            server.is_left_alone().await;

            let tools = tools(&server).await;
            let abandoned = tokio::time::timeout(Duration::from_millis(200), ask(&tools, hello()));
            assert!(abandoned.await.is_err());
            server.is_left_alone().await;
        }
    }
}

#[tokio::test]
async fn a_server_without_end_is_cut_off() {
    for server in all(&[fine()]) {
        let name = server.wire.name();
        let text = server.line_of_text();
        let ok = StatusCode::OK;
        for (status, piece, code) in [
            (ok, &*text, ToolErrorCode::TooLarge),
            (ok, "x", ToolErrorCode::TooLarge),
            (ok, "data: x\n", ToolErrorCode::TooLarge),
            (StatusCode::BAD_REQUEST, "xy", ToolErrorCode::InvalidArguments),
        ] {
            // Ollama has lines, and this one is none of its.
            let code = match (name, piece) {
                ("ollama", "data: x\n") => ToolErrorCode::Failed,
                _ => code,
            };
            let endless = server.script([Reply::Endless(status, piece.to_owned())]);
            let mut limits = limits();
            limits.timeout = Duration::from_secs(300);
            let called = ask(&open(&grant(endless), limits).await, hello()).await;
            let failure = error(&called);
            assert_eq!(failure.code, code, "{name} {piece}: {failure:?}");
            assert!(failure.message.len() < 2_000, "{failure:?}");
            assert!(called.attempts.is_empty(), "{called:?}");
            server.is_left_alone().await;
        }
    }
}

#[tokio::test]
async fn nonsense_is_told_and_not_repeated() {
    for server in all(&[fine()]) {
        let page = ("text/html", "<html>Welcome to the router</html>".to_owned());
        let garbage = match server.wire.name() {
            "anthropic" => "event: content_block_delta\ndata: {nonsense}\n\n",
            _ => "data: {nonsense}\n\n",
        };
        for (kind, body) in [page, (server.wire.content_type(), garbage.to_owned())] {
            let odd = server.script([Reply::Raw(kind, body)]);
            let called = ask(&tools(odd).await, hello()).await;
            let expected = "did not answer as its API is documented";
            assert!(error(&called).message.contains(expected), "{called:?}");
            assert_eq!(called.attempts.len(), 0);
        }
    }
}

#[tokio::test]
async fn calls_with_absurd_indices_take_no_memory() {
    let call = |index: u32| {
        let call =
            json!({ "index": index, "id": "a", "function": { "name": "f", "arguments": "{}" } });
        json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] })
    };
    let body = format!("data: {}\n\ndata: [DONE]\n\n", call(u32::MAX));
    let server = Server::start(OpenAi, [Reply::Raw("text/event-stream", body)]);
    assert_eq!(says(&server, hello()).await["tool_calls"][0]["name"], "f");
}

#[tokio::test]
async fn a_blocked_prompt_is_told() {
    let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" }, "usageMetadata": {} });
    let server = Server::start(
        crate::models::Gemini,
        [Reply::Raw("text/event-stream", format!("data: {blocked}\r\n\r\n"))],
    );
    let called = ask(&tools(&server).await, hello()).await;
    assert_eq!(error(&called).message, "`gemini:m` answered an error: SAFETY");
    assert_eq!(server.times(), 1);
}

#[tokio::test]
async fn a_key_that_comes_back_is_taken_out() {
    for server in all(&[Reply::EchoesKey]) {
        let called = ask(&tools(&server).await, hello()).await;
        assert_eq!(answer(&called)["text"], "Your key is [secret].", "{}", server.wire.name());
        server.script([Reply::Drops(Says::text(&[KEY])), Reply::RefusesKey]);
        let called = ask(&tools(&server).await, hello()).await;
        assert!(error(&called).message.contains("provided: [secret]."), "{called:?}");
        assert!(!format!("{called:?}").contains("canary"), "{called:?}");
    }
}

#[tokio::test]
async fn arguments_that_no_schema_refuses_are_refused() {
    let server = Server::start(OpenAi, [fine()]);
    let tools = tools(&server).await;
    let user = json!({ "role": "user", "content": "x" });
    let tool = json!({ "name": "f" });
    for (arguments, expected) in [
        (json!({ "messages": [{ "role": "system", "content": "x" }] }), "nothing but `system`"),
        (json!({ "messages": [{ "role": "tool", "content": "x" }] }), "lacks a `tool_call_id`"),
        (json!({ "messages": [user], "tools": [tool, tool] }), "has `f` twice"),
        (
            json!({ "messages": [{ "role": "user", "tool_calls": [{ "id": "a", "name": "f" }] }] }),
            "is no `assistant`",
        ),
        (json!({ "messages": [user], "model": "mine:x" }), "is not granted, only `openai:*`"),
        (json!({ "messages": [] }), "do not fit its schema"),
        (json!({ "messages": [user], "max_tokens": 0 }), "do not fit its schema"),
        (json!({ "messages": [user], "stream": true }), "do not fit its schema"),
    ] {
        let called = ask(&tools, arguments).await;
        assert_eq!(error(&called).code, ToolErrorCode::InvalidArguments);
        assert!(error(&called).message.contains(expected), "{called:?}");
    }
    assert_eq!(server.times(), 0);
}

//! Servers that misbehave. Each ends as an error of one call, and the next call
//! is answered.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;

use super::*;

async fn odd() -> (Servers, Catalogue) {
    let servers = Servers::odd(&[]);
    let catalogue = servers.open().await;
    (servers, catalogue)
}

/// The call ends as this error, with these words, and the server still answers.
async fn ends_as(tool: &str, code: ToolErrorCode, words: &str) {
    let (_servers, catalogue) = odd().await;
    let name = format!("odd.{tool}");
    let told = call(&tools(&catalogue), &name, json!({})).await.unwrap_err();
    assert_eq!(told.0, code, "{told:?}");
    assert!(told.1.contains(words), "{}", told.1);
    answer(&tools(&catalogue), "odd.echo", json!({})).await;
}

#[tokio::test]
async fn a_call_carries_its_key_and_its_arguments() {
    let (_servers, catalogue) = odd().await;
    let said = answer(&tools(&catalogue), "odd.echo", json!({ "a": [1] })).await;
    let said: Value = serde_json::from_str(said.as_str().unwrap()).unwrap();
    assert_eq!(said["arguments"], json!({ "a": [1] }));
    assert_eq!(said["meta"]["reenact/idempotency-key"], "run/1");
}

#[tokio::test]
async fn a_server_that_dies_is_started_anew_by_the_next_call() {
    let words = "the MCP server `odd` hung up (exit status: 7); it wrote last: the last straw";
    ends_as("die", ToolErrorCode::Failed, words).await;
}

#[tokio::test]
async fn a_server_that_keeps_dying_is_left_alone_for_a_while() {
    let (_servers, catalogue) = odd().await;
    let tools = tools(&catalogue);
    for _ in 0..4 {
        let told = call(&tools, "odd.die", json!({})).await.unwrap_err();
        assert!(told.1.contains("hung up"), "{}", told.1);
    }
    let told = call(&tools, "odd.echo", json!({})).await.unwrap_err();
    assert_eq!(told.0, ToolErrorCode::Failed);
    assert!(told.1.contains("ended 4 times within 60 s"), "{}", told.1);
}

#[tokio::test]
async fn an_answer_that_is_no_message_fails_its_call() {
    ends_as("malformed", ToolErrorCode::Failed, "no message of MCP").await;
}

#[tokio::test]
async fn an_error_of_the_protocol_is_told() {
    ends_as("fail", ToolErrorCode::Failed, "`odd` answers with an error: out of luck").await;
}

#[tokio::test]
async fn noise_before_an_answer_does_no_harm() {
    let (_servers, catalogue) = odd().await;
    assert_eq!(answer(&tools(&catalogue), "odd.noise", json!({})).await, "after the noise");
}

#[tokio::test]
async fn an_answer_of_100_mb_is_too_large() {
    ends_as("huge", ToolErrorCode::TooLarge, "more than 16777216 bytes").await;
}

#[tokio::test]
async fn an_answer_of_a_million_values_is_too_large() {
    ends_as("crowded", ToolErrorCode::TooLarge, "500000 values").await;
}

/// The call runs out of time, soon; a second call is answered.
async fn times_out(tool: &str) -> (Servers, Catalogue) {
    let (servers, catalogue) = odd().await;
    let hasty = hasty(&catalogue, Duration::from_millis(300));
    let started = Instant::now();
    let name = format!("odd.{tool}");
    let told = call(&hasty, &name, json!({})).await.unwrap_err();
    assert_eq!(told.0, ToolErrorCode::Timeout, "{told:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    (servers, catalogue)
}

#[tokio::test]
async fn a_server_that_never_answers_is_told_that_nobody_waits() {
    let (servers, _catalogue) = times_out("never").await;
    let asked = |message: &Value| message["method"] == "tools/call";
    let id = servers.heard().into_iter().find(asked).unwrap()["id"].clone();
    let is_cancelled = |message: &Value| {
        message["method"] == "notifications/cancelled" && message["params"]["requestId"] == id
    };
    soon("it is told", || servers.heard().iter().any(is_cancelled)).await;
}

#[tokio::test]
async fn an_answer_to_somebody_else_is_none() {
    times_out("wrong-id").await;
}

#[tokio::test]
async fn an_answer_without_end_is_none() {
    times_out("endless").await;
}

#[tokio::test]
async fn a_server_that_stops_reading_takes_no_more_than_one_large_message() {
    let (_servers, catalogue) = odd().await;
    let hasty = hasty(&catalogue, Duration::from_millis(300));
    let told = call(&hasty, "odd.deaf", json!({})).await.unwrap_err();
    assert_eq!(told.0, ToolErrorCode::Timeout);
    // More than a pipe holds, so it waits in the host until that gives up.
    let large = json!({ "text": "x".repeat(1 << 19) });
    assert_eq!(call(&hasty, "odd.echo", large).await.unwrap_err().0, ToolErrorCode::Timeout);
    let tools = tools(&catalogue);
    for _ in 0..15 {
        if call(&tools, "odd.echo", json!({})).await.is_ok() {
            return;
        }
    }
    panic!("it was not started anew");
}

#[tokio::test]
async fn nobody_reaches_into_the_host() {
    let (_servers, catalogue) = odd().await;
    let said = answer(&tools(&catalogue), "odd.ask", json!({})).await;
    let said: Value = serde_json::from_str(said.as_str().unwrap()).unwrap();
    for method in ["sampling/createMessage", "roots/list", "elicitation/create"] {
        assert_eq!(said[method]["error"]["code"], -32601, "{said}");
    }
}

#[tokio::test]
async fn progress_is_shown_to_whoever_watches() {
    let (_servers, catalogue) = odd().await;
    let shown = Arc::new(Mutex::new(String::new()));
    let copy = Arc::clone(&shown);
    let tools = tools(&catalogue).with_watcher(Arc::new(move |key: &str, text: &str| {
        assert_eq!(key, "run/1");
        *copy.lock().unwrap() = text.to_owned();
    }));
    assert_eq!(answer(&tools, "odd.progress", json!({})).await, "done");
    assert_eq!(*shown.lock().unwrap(), "step 1 (1 of 2)\nstep 2 (2 of 2)\n");
}

#[tokio::test]
async fn odd_names_and_too_many_tools_are_left_out() {
    let servers = Servers::odd(&["--tools", "1000"]);
    let catalogue = servers.open().await;
    let names: Vec<&str> = catalogue.specs().iter().map(|spec| &*spec.name).collect();
    assert_eq!(names.len(), 500);
    assert!(names.contains(&"odd.wrong-id") && !names.contains(&"odd.bad schema"));
}

#[tokio::test]
async fn a_list_of_tools_without_end_is_cut_off() {
    let servers = Servers::odd(&["--pages"]);
    let pages = servers.open().await.specs().len();
    assert_eq!(pages, 100);
}

#[tokio::test]
async fn a_server_of_the_newest_protocol_alone_is_understood() {
    let servers = Servers::odd(&["--modern"]);
    let said = answer(&tools(&servers.open().await), "odd.echo", json!({})).await;
    let said: Value = serde_json::from_str(said.as_str().unwrap()).unwrap();
    assert_eq!(said["meta"]["reenact/idempotency-key"], "run/1");
}

async fn refusal(options: &[&str], start_timeout_ms: u64) -> String {
    let servers = Servers::odd(&[]);
    let options: Vec<String> = options.iter().map(|option| format!("{option:?}")).collect();
    let config = format!(
        "[grants.mcp.servers.odd]\ncommand = {:?}\nargs = [{:?}, {:?}, {}]\nstart_timeout_ms = {start_timeout_ms}",
        python(),
        odd_server(),
        servers.log(),
        options.join(", ")
    );
    let opened = servers.try_open(&config).await;
    opened.err().expect("it started")
}

#[tokio::test]
async fn a_server_that_does_not_start_tells_why() {
    let told = refusal(&["--crash"], 10_000).await;
    let words = "the MCP server `odd` (`";
    assert!(told.contains(words) && told.contains("odd.py"), "{told}");
    let words = "hung up before it answered (exit status: 1); it wrote last: \
                 odd: cannot find the configuration";
    assert!(told.contains(words), "{told}");
}

#[tokio::test]
async fn a_server_gets_only_so_long_to_start() {
    let started = Instant::now();
    for options in [["--slow-start", "30"].as_slice(), &["--silent"]] {
        let told = refusal(options, 1_000).await;
        assert!(told.contains("did not answer within 1000 ms"), "{told}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn several_servers_start_at_the_same_time() {
    let servers = Servers::odd(&[]);
    let server = |name: &str| {
        let args = json!([odd_server(), servers.folder().join(name), "--slow-start", "2"]);
        (name.to_owned(), json!({ "command": python(), "args": args }))
    };
    let all = ["a", "b", "c", "d", "e", "f"].map(server).into_iter().collect::<Value>();
    std::fs::write(servers.file(), json!({ "mcpServers": all }).to_string()).unwrap();
    let started = Instant::now();
    servers.open().await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

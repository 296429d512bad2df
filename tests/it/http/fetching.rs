//! What is sent, and what is answered.

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse};
use axum::routing::{any, get};
use reenact::journal::Source;
use reenact::tools::ToolErrorCode;
use serde_json::{Value, json};

use super::{Agent, Server};

/// A PNG of one pixel, so far as anybody looks.
const PIXEL: &[u8] = b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR";

/// `hello` in gzip.
const GZIPPED: &[u8] =
    b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\x48\xcd\xc9\xc9\x07\0\x86\xa6\x10\x36\x05\0\0\0";

fn typed(content_type: &'static str, body: &'static [u8]) -> impl IntoResponse {
    ([("content-type", content_type)], body)
}

fn site() -> Router {
    const PAGE: &str =
        "<!doctype html><html><head><title>Fuel &amp;\n clocks</title></head></html>";
    Router::new()
        .route("/page", get(|| async { Html(PAGE) }))
        .route("/json", get(|| async { typed("application/json", b"{\"a\":1}") }))
        .route("/latin", get(|| async { typed("text/plain; charset=iso-8859-1", b"caf\xE9") }))
        .route("/pixel", get(|| async { typed("image/png", PIXEL) }))
        .route("/gzip", get(|| async { ([("content-encoding", "gzip")], GZIPPED) }))
        .route("/text", get(|| async { "aé€😀".repeat(100) }))
        .route("/nothing", get(|| async { StatusCode::NO_CONTENT }))
        .route("/gone", get(|| async { (StatusCode::GONE, Html("<title>Gone</title>")) }))
        .route("/broken", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .route(
            "/twice",
            get(|| async {
                let mut headers = HeaderMap::new();
                headers.append("set-cookie", "a=1; Expires=Thu, 1 Jan".parse().unwrap());
                headers.append("set-cookie", "b=2".parse().unwrap());
                headers.append("x-once", "c".parse().unwrap());
                headers
            }),
        )
        .route("/echo", any(|| async { "heard" }))
}

#[tokio::test]
async fn a_page_is_answered_with_its_title_as_a_source() {
    let server = Server::start(site()).await;
    let agent = Agent::of_servers(&[&server]).await;
    let url = server.url("/page");
    let output = agent.call("http.fetch", json!({ "url": format!("{url}#part") })).await.unwrap();
    let mut answer = output.content.to_value();
    let headers = answer["headers"].take();
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(
        answer,
        json!({
            "status": 200,
            "url": url,
            "headers": null,
            "content_type": "text/html; charset=utf-8",
            "text": "<!doctype html><html><head><title>Fuel &amp;\n clocks</title></head></html>",
            "truncated": false,
        })
    );
    assert_eq!(output.sources, [Source { url, title: "Fuel & clocks".into() }]);
}

#[tokio::test]
async fn what_has_no_title_is_named_by_its_url() {
    let server = Server::start(site()).await;
    let agent = Agent::of_servers(&[&server]).await;
    let url = server.url("/json?q=1");
    let output = agent.call("http.get", json!({ "url": url })).await.unwrap();
    assert_eq!(output.content.to_value()["text"], "{\"a\":1}");
    assert_eq!(output.sources, [Source { url: url.clone(), title: url }]);
}

#[tokio::test]
async fn an_error_status_is_an_answer_but_no_source() {
    let server = Server::start(site()).await;
    let agent = Agent::of_servers(&[&server]).await;
    for (path, status) in [("/gone", 410), ("/broken", 500), ("/none", 404)] {
        let output = agent.call("http.fetch", json!({ "url": server.url(path) })).await.unwrap();
        assert_eq!(output.content.to_value()["status"], status);
        assert_eq!(output.sources, [], "{path}");
    }
}

#[tokio::test]
async fn every_method_arrives_with_its_headers_and_its_body() {
    let server = Server::start(site()).await;
    let agent = Agent::of_servers(&[&server]).await;
    let url = server.url("/echo?a=b");
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
        let mut arguments = json!({ "url": url, "method": method, "headers": { "X-Mine": "yes" } });
        let has_body = !["GET", "HEAD"].contains(&method);
        if has_body {
            arguments["json"] = json!({ "n": [1, null] });
        }
        let answer = agent.fetch(arguments).await;
        assert_eq!(answer["status"], 200, "{method}");
        assert_eq!(answer["text"], if method == "HEAD" { "" } else { "heard" }, "{method}");
        let seen = server.seen().pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.path.as_str()), (method, "/echo?a=b"));
        assert_eq!(seen.header("x-mine"), Some("yes"));
        let body: &[u8] = if has_body { b"{\"n\":[1,null]}" } else { b"" };
        assert_eq!(seen.body, body, "{method}");
        assert_eq!(seen.header("content-type"), has_body.then_some("application/json"));
        // A deed that is sent twice is to be done once.
        assert_eq!(seen.header("idempotency-key"), has_body.then_some("run/7"), "{method}");
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        assert!(seen.header("user-agent").unwrap().starts_with("reenact/"));
        assert_eq!(seen.header("host"), Some(server.entry().as_str()));
    }
}

#[tokio::test]
async fn an_agent_says_how_its_body_is_to_be_read_and_brings_its_own_key() {
    let server = Server::start(site()).await;
    let agent = Agent::of_servers(&[&server]).await;
    let form = "application/x-www-form-urlencoded";
    agent
        .fetch(json!({
            "url": server.url("/echo"), "method": "POST", "body": "a=ü",
            "headers": { "Content-Type": form, "Idempotency-Key": "mine", "User-Agent": "me" },
        }))
        .await;
    let seen = server.seen().pop().unwrap();
    assert_eq!(seen.body, "a=ü");
    assert_eq!(seen.header("content-type"), Some(form));
    assert_eq!(seen.header("idempotency-key"), Some("mine"));
    assert_eq!(seen.header("user-agent"), Some("me"));
}

#[tokio::test]
async fn a_body_is_text_or_bytes() {
    let server = Server::start(site()).await;
    let agent = Agent::of_servers(&[&server]).await;
    let latin = agent.get(&server.url("/latin")).await;
    assert_eq!((&latin["text"], latin.get("base64")), (&json!("café"), None));
    let pixel = agent.get(&server.url("/pixel")).await;
    assert_eq!((&pixel["base64"], pixel.get("text")), (&json!("iVBORw0KGgoAAAANSUhEUg=="), None));
    // Nothing is inflated, so nothing can explode.
    let gzip = agent.get(&server.url("/gzip")).await;
    assert_eq!(gzip["headers"]["content-encoding"], "gzip");
    assert!(gzip["base64"].as_str().unwrap().starts_with("H4sI"), "{gzip}");
    let nothing = agent.get(&server.url("/nothing")).await;
    assert_eq!((&nothing["status"], &nothing["text"]), (&json!(204), &json!("")));
    assert_eq!(nothing.get("content_type"), None);
}

#[tokio::test]
async fn a_header_that_is_sent_twice_is_a_list() {
    let server = Server::start(site()).await;
    let answer = Agent::of_servers(&[&server]).await.get(&server.url("/twice")).await;
    assert_eq!(answer["headers"]["set-cookie"], json!(["a=1; Expires=Thu, 1 Jan", "b=2"]));
    assert_eq!(answer["headers"]["x-once"], "c");
}

#[tokio::test]
async fn a_body_is_cut_where_the_agent_or_the_operator_says() {
    let server = Server::start(site()).await;
    let grant = format!("hosts = ['{}']\nmax_bytes = 25", server.entry());
    let agent = Agent::with(&grant, &[&server.entry()]).await;
    let url = server.url("/text");
    let cut = async |max: Value| {
        let answer = agent.fetch(json!({ "url": url, "max_bytes": max })).await;
        (answer["text"].as_str().unwrap().to_owned(), answer["truncated"].as_bool().unwrap())
    };
    for (max, text) in [
        (0, ""),
        (1, "a"),
        // Half a character is none.
        (2, "a"),
        (5, "aé"),
        (10, "aé€😀"),
        (25, "aé€😀aé€😀aé"),
        (1_000_000, "aé€😀aé€😀aé"),
    ] {
        assert_eq!(cut(json!(max)).await, (text.to_owned(), true), "{max}");
    }
    let whole = Agent::of_servers(&[&server]).await;
    for (max, truncated) in [(999, true), (1_000, false), (1_001, false)] {
        let answer = whole.fetch(json!({ "url": url, "max_bytes": max })).await;
        assert_eq!(answer["truncated"], truncated, "{max}");
    }
}

#[tokio::test]
async fn getting_is_a_tool_of_its_own_that_changes_nothing() {
    let server = Server::start(site()).await;
    let agent = Agent::of_servers(&[&server]).await;
    let url = server.url("/echo");
    for forbidden in [
        json!({ "url": url, "method": "POST" }),
        json!({ "url": url, "method": "DELETE" }),
        json!({ "url": url, "body": "x" }),
        json!({ "url": url, "json": {} }),
    ] {
        let error = agent.call("http.get", forbidden.clone()).await.unwrap_err();
        assert_eq!(error.code, ToolErrorCode::InvalidArguments, "{forbidden}: {error:?}");
    }
    let head = agent.call("http.get", json!({ "url": url, "method": "HEAD" })).await.unwrap();
    assert_eq!(head.content.to_value()["status"], 200);
    assert_eq!(server.log(), ["HEAD /echo"]);
    let kinds: Vec<_> = agent
        .0
        .granted()
        .into_iter()
        .map(|tool| (tool.name, tool.read_only, tool.idempotent))
        .collect();
    let expected = [("http.fetch".to_owned(), false, false), ("http.get".to_owned(), true, true)];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn arguments_that_make_no_request_are_told_why() {
    let server = Server::start(site()).await;
    let agent = Agent::of_servers(&[&server]).await;
    let url = server.url("/echo");
    for (arguments, why) in [
        (json!({}), "\"url\" is a required property"),
        (json!({ "url": "" }), "shorter than 1 character"),
        (json!({ "url": "/x" }), "relative URL without a base"),
        (json!({ "url": url, "method": "TRACE" }), "\"TRACE\""),
        (json!({ "url": url, "method": "CONNECT" }), "\"CONNECT\""),
        (json!({ "url": url, "body": "x" }), "a GET request has no body"),
        (json!({ "url": url, "max_bytes": -1 }), "less than the minimum"),
        (json!({ "url": url, "headers": { "a": 5 } }), "is not of type \"string\""),
        (
            json!({ "url": url, "headers": { "Host": "x" } }),
            "`Host` is a header that the host sets itself",
        ),
        (json!({ "url": url, "headers": { "a": "x\r\nb: c" } }), "it must be ASCII on one line"),
        (json!({ "url": format!("http://u:p@{}/", server.entry()) }), "a user name or a password"),
    ] {
        let (code, message) = agent.fails(arguments.clone()).await;
        assert_eq!(code, ToolErrorCode::InvalidArguments, "{arguments}: {message}");
        assert!(message.contains(why), "{arguments}: {message}");
        assert!(!message.contains("u:p"), "{message}");
    }
    assert_eq!(server.log(), [""; 0]);
}

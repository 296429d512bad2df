//! Bad input of every kind: a problem of the 400s, and nothing else happens.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{Server, answer, configured, home};

const RUNS: &str = "/v0.1/agents/minimal/runs";

async fn sends(server: &Server, path: &str, body: impl Into<reqwest::Body>) -> super::Answer {
    let request = server.request(Method::POST, path).header("content-type", "application/json");
    answer(request.body(body)).await
}

#[tokio::test]
async fn bodies_that_are_none_are_refused() {
    let server = Server::keeping(home());
    let deep =
        |levels: usize| format!("{{\"input\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    for (body, status, kind) in [
        (b"".to_vec(), 400, "bad-json"),
        (b"{".to_vec(), 400, "bad-json"),
        (b"{\"input\":{}} trailing".to_vec(), 400, "bad-json"),
        (b"{\"input\":\"\xff\xfe\"}".to_vec(), 400, "bad-json"),
        (b"\xff".to_vec(), 400, "bad-json"),
        (b"null".to_vec(), 422, "invalid-body"),
        (b"[{\"name\":\"Ada\"},null]".to_vec(), 422, "invalid-body"),
        (b"{}".to_vec(), 422, "invalid-body"),
        (b"{\"input\":{\"name\":\"Ada\"},\"revision\":7}".to_vec(), 422, "invalid-body"),
        (b"{\"input\":{\"name\":\"Ada\"},\"more\":7}".to_vec(), 422, "invalid-body"),
        (b"{\"input\":1,\"input\":{\"name\":\"Ada\"}}".to_vec(), 422, "invalid-body"),
        (b"{\"input\":{\"name\":7}}".to_vec(), 422, "invalid-input"),
        (b"{\"input\":{\"name\":\"\"}}".to_vec(), 422, "invalid-input"),
        (b"{\"input\":{\"name\":\"\\ud800\"}}".to_vec(), 400, "bad-input"),
        (deep(100_000).into_bytes(), 400, "bad-input"),
        (
            format!("{{\"input\":{{\"name\":\"{}\"}}}}", "x".repeat(1 << 20)).into_bytes(),
            413,
            "input-too-large",
        ),
        (vec![b' '; 3 << 20], 413, "body-too-large"),
    ] {
        let told = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = sends(&server, RUNS, body).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json["type"]),
            (status, &json!(format!("urn:reenact:problem:{kind}"))),
            "{told}: {answer:#?}"
        );
        answer.is_problem(status, kind);
    }
    let listed = server.get(RUNS).await.json;
    assert_eq!(listed["items"], json!([]), "nothing was started");
}

#[tokio::test]
async fn routes_methods_and_ids_that_are_none_are_refused() {
    let server = Server::keeping(home());
    let run = "01a2155c-2b99-727d-84c8-9e80ba4b35b4";
    for (method, path, status, kind) in [
        (Method::GET, "/".to_owned(), 404, "unknown-route"),
        (Method::GET, "/v0.1".to_owned(), 404, "unknown-route"),
        (Method::GET, "/v0.1/agents/".to_owned(), 404, "unknown-route"),
        (Method::DELETE, "/v0.1/agents".to_owned(), 405, "method-not-allowed"),
        (Method::POST, "/openapi.json".to_owned(), 405, "method-not-allowed"),
        (Method::GET, "/v0.1/agents/nobody".to_owned(), 404, "unknown-agent"),
        (Method::GET, "/v0.1/agents/nobody/runs".to_owned(), 404, "unknown-agent"),
        (Method::GET, "/v0.1/agents/%00".to_owned(), 404, "unknown-agent"),
        (Method::GET, "/v0.1/agents/..%2f..%2fetc".to_owned(), 404, "unknown-agent"),
        (Method::GET, "/v0.1/agents/%ff".to_owned(), 400, "bad-path"),
        (Method::GET, format!("/v0.1/runs/{run}"), 404, "unknown-run"),
        (Method::GET, format!("/v0.1/runs/{run}/events"), 404, "unknown-run"),
        (Method::GET, format!("/v0.1/runs/{run}/export"), 404, "unknown-run"),
        (Method::POST, format!("/v0.1/runs/{run}/replay"), 404, "unknown-run"),
        (Method::POST, format!("/v0.1/runs/{run}/cancel"), 404, "unknown-run"),
        (Method::GET, "/v0.1/agents/minimal/revisions/xyz".to_owned(), 400, "bad-revision-id"),
        (Method::GET, "/v0.1/agents/minimal/revisions/0000".to_owned(), 404, "unknown-revision"),
        (Method::GET, "/v0.1/agents?limit=101".to_owned(), 400, "bad-query"),
        (Method::GET, "/v0.1/agents?limit=-1".to_owned(), 400, "bad-query"),
        (Method::GET, "/v0.1/agents?limit=1&limit=2".to_owned(), 400, "bad-query"),
        (Method::GET, "/v0.1/agents?limit=%ff".to_owned(), 400, "bad-query"),
        (Method::GET, format!("{RUNS}?limit=99999999999999999999"), 400, "bad-query"),
        (Method::GET, format!("/v0.1/runs/{run}/events?offset=10000001"), 400, "bad-query"),
    ] {
        let told = answer(server.request(method.clone(), &path)).await;
        assert_eq!(told.status.as_u16(), status, "{method} {path}: {told:#?}");
        told.is_problem(status, kind);
    }
}

#[tokio::test]
async fn a_component_that_is_none_is_refused() {
    let home = home();
    let server = Server::on(&home);
    let upload = async |bytes: Vec<u8>, kind: &str| {
        let path = "/v0.1/agents/minimal/revisions";
        answer(server.request(Method::POST, path).header("content-type", kind).body(bytes)).await
    };
    let wasm = "application/wasm";
    upload(b"".to_vec(), wasm).await.is_problem(422, "invalid-revision");
    upload(b"not wasm at all".to_vec(), wasm).await.is_problem(422, "invalid-revision");
    upload(b"\0asm\x01\0\0\0".to_vec(), wasm).await.is_problem(422, "invalid-revision");
    let mut cut = crate::support::guest("minimal").bytes.to_vec();
    cut.truncate(cut.len() / 2);
    upload(cut, wasm).await.is_problem(422, "invalid-revision");
    let other = crate::support::guest("hostile").bytes.to_vec();
    upload(other.clone(), wasm).await.is_problem(422, "revision-of-another-agent");
    upload(other, "application/json").await.is_problem(415, "unsupported-media-type");
    let mut too_large = format!(
        "POST /v0.1/agents/minimal/revisions HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/wasm\r\ncontent-length: {}\r\n\r\n",
        (64 << 20) + 1
    );
    too_large.push_str("\0asm");
    let too_large = raw(&server, too_large.as_bytes());
    assert!(too_large.starts_with("HTTP/1.1 413 ") && too_large.contains("body-too-large"));
    assert_eq!(home.json(&["revisions", "minimal", "--json"]).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn decisions_that_make_no_sense_are_refused() {
    let server = Server::keeping(home());
    let run = server.starts("minimal", json!({ "name": "Ada" })).await;
    server.ended(&run).await;
    let approve = format!("/v0.1/runs/{run}/approve");
    for (body, status, kind) in [
        (json!({ "decision": "approve" }), 409, "nothing-to-approve"),
        (json!({ "decision": "approve", "call": 3 }), 409, "nothing-to-approve"),
        (json!({ "decision": "maybe" }), 422, "invalid-body"),
        (json!({ "decision": "deny", "arguments": {} }), 422, "invalid-body"),
        (json!({ "decision": "approve", "reason": "x" }), 422, "invalid-body"),
        (json!({ "decision": "approve", "call": -1 }), 422, "invalid-body"),
    ] {
        server.post(&approve, body).await.is_problem(status, kind);
    }
}

/// Sends bytes as they are; answers what comes back until the server closes.
fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn clients_that_take_their_time_are_cut_off() {
    let home = configured("[server]\nrequest_timeout_ms = 300");
    let server = Server::on(&home);
    let begun = std::time::Instant::now();
    let head = raw(&server, b"POST /v0.1/agents HTTP/1.1\r\nhost: localhost\r\n");
    assert_eq!(head, "", "half a head");
    let body = raw(
        &server,
        b"POST /v0.1/agents HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
    );
    assert!(body.starts_with("HTTP/1.1 408 ") && body.contains("body-too-slow"), "{body}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let garbage = raw(&server, b"what is this\r\n\r\n");
    assert!(garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
    let huge = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let huge = raw(&server, huge.as_bytes());
    assert!(huge.starts_with("HTTP/1.1 431 "), "{huge}");
    assert_eq!(server.get("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn more_runs_than_may_wait_are_refused() {
    let home = configured("[server]\nparallel = 1\nparallel_per_agent = 1\nqueue = 2");
    let server = Server::on(&home);
    let busy = server.starts("hostile", json!({ "do": "loop" })).await;
    server.run_that(&busy, |run| run["status"] == "running").await;
    for _ in 0..2 {
        server.starts("minimal", json!({ "name": "Ada" })).await;
    }
    let refused = server.post(RUNS, json!({ "input": { "name": "Ada" } })).await;
    refused.is_problem(503, "queue-full");
    assert_eq!(refused.headers["retry-after"], "1");
    let waiting = server.get(&format!("{RUNS}?status=pending")).await.json;
    assert_eq!(waiting["items"].as_array().unwrap().len(), 2);
}

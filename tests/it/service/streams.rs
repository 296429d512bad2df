//! Events as they happen: pages of them, and streams that break and go on.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Server, answer, configured, home};

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    id: u64,
    name: String,
    data: Value,
}

/// Follows a stream until `enough` or its end.
async fn follow(
    server: &Server,
    run: &str,
    after: Option<u64>,
    enough: impl Fn(&[Sent]) -> bool,
) -> Vec<Sent> {
    let path = format!("/v0.1/runs/{run}/events");
    let mut request = server.request(Method::GET, &path).header("accept", "text/event-stream");
    if let Some(after) = after {
        request = request.header("last-event-id", after.to_string());
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut bytes = response.bytes_stream();
    let (mut text, mut sent) = (String::new(), Vec::new());
    while let Some(Ok(piece)) = bytes.next().await {
        text.push_str(std::str::from_utf8(&piece).unwrap());
        while let Some(end) = text.find("\n\n") {
            let block: String = text.drain(..end + 2).collect();
            sent.extend(read(&block));
        }
        if enough(&sent) {
            break;
        }
    }
    sent
}

/// An event; a heartbeat is none.
fn read(block: &str) -> Option<Sent> {
    let field = |name: &str| {
        let mut values =
            block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        values.next()
    };
    let id = field("id")?.parse().unwrap();
    let name = field("event").unwrap_or("message").to_owned();
    Some(Sent { id, name, data: serde_json::from_str(field("data").unwrap()).unwrap() })
}

fn all(_: &[Sent]) -> bool {
    false
}

/// The newest state of each event.
fn newest(sent: &[Sent]) -> Vec<Value> {
    let mut states = BTreeMap::new();
    for event in sent {
        let id: u64 = event.data["id"].as_str().unwrap().parse().unwrap();
        states.insert(id, event.data.clone());
    }
    states.into_values().collect()
}

#[tokio::test]
async fn a_stream_and_the_pages_say_the_same() {
    let home = configured("[grants.files]\nroot = 'x'");
    std::fs::create_dir(home.path().join("x")).unwrap();
    std::fs::write(home.path().join("x/a.txt"), "text").unwrap();
    let server = Server::on(&home);
    let run = server.starts("hostile", json!({ "do": "tool-calls", "n": 30 })).await;
    let sent = follow(&server, &run, None, all).await;
    let ids: Vec<u64> = sent.iter().map(|event| event.id).collect();
    assert_eq!(ids, (0..ids.len() as u64).collect::<Vec<_>>(), "no gap and no double");
    assert_eq!(sent.last().unwrap().name, "end");
    assert!(sent[..sent.len() - 1].iter().all(|event| event.name == "message"));
    let calls = sent.iter().filter(|event| event.data["type"] == "tool_call").count();
    assert_eq!(calls, 60, "each when it begins and when it has finished");

    let mut paged = Vec::new();
    let mut offset = 0;
    loop {
        let path = format!("/v0.1/agents/hostile/runs/{run}/events?limit=7&offset={offset}");
        let page = server.get(&path).await.json;
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_u64() {
            Some(next) => offset = next,
            None => break,
        }
    }
    assert_eq!(paged, newest(&sent));
    for event in &paged {
        assert_eq!(event["runId"], run);
        assert!(event["finishedAt"].is_string(), "{event:#}");
    }
    assert_eq!(paged[1]["type"], "tool_call");
    assert_eq!(paged[1]["data"]["tool"], "files.list");

    let path = format!("/v0.1/agents/minimal/runs/{run}/events");
    server.get(&path).await.is_problem(404, "unknown-run");
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke_also_after_a_restart() {
    let home = home();
    let server = Server::on(&home);
    let run = server.starts("hostile", json!({ "do": "sleep", "n": 4 })).await;
    let first = follow(&server, &run, None, |sent| sent.len() == 2).await;
    assert_eq!(first[1].data["type"], "sleep");
    assert_eq!(first[1].data["finishedAt"], Value::Null);
    let (code, _) = server.stop();
    assert_eq!(code, Some(0));

    let server = Server::on(&home);
    let last = first.last().map(|event| event.id);
    let rest = follow(&server, &run, last, all).await;
    let whole: Vec<Sent> = first.into_iter().chain(rest).collect();
    let ids: Vec<u64> = whole.iter().map(|event| event.id).collect();
    assert_eq!(ids, [0, 1, 2, 3]);
    assert!(whole[2].data["finishedAt"].is_string());
    assert_eq!(whole, follow(&server, &run, None, all).await, "it is the same from the start");
    server.proves(&run).await;

    let path = format!("/v0.1/runs/{run}/events");
    let at_end = server.request(Method::GET, &path).header("accept", "text/event-stream");
    let at_end = answer(at_end.header("last-event-id", "3")).await;
    assert_eq!(at_end.status, StatusCode::NO_CONTENT);
    let nonsense = server.request(Method::GET, &path).header("accept", "text/event-stream");
    answer(nonsense.header("last-event-id", "x")).await.is_problem(400, "bad-last-event-id");
}

#[tokio::test]
async fn a_server_that_stops_ends_its_streams() {
    let server = Server::keeping(home());
    let run = server.starts("hostile", json!({ "do": "sleep", "n": 3_600 })).await;
    let path = format!("{}/v0.1/runs/{run}/events", server.url);
    let request = reqwest::Client::new().get(path).header("accept", "text/event-stream");
    let response = request.send().await.unwrap();
    let begun = std::time::Instant::now();
    let (code, log) = tokio::task::spawn_blocking(|| server.stop()).await.unwrap();
    assert_eq!(code, Some(0), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let text = response.text().await.unwrap();
    assert!(!text.contains("event: end"), "the run has not ended: {text}");
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_nobody() {
    let server = Server::keeping(home());
    let run = server.starts("hostile", json!({ "do": "events", "n": 9_000 })).await;
    let path = format!("{}/v0.1/runs/{run}/events", server.url);
    let mut lazy = Vec::new();
    for _ in 0..50 {
        let request = reqwest::Client::new().get(&path).header("accept", "text/event-stream");
        lazy.push(request.send().await.unwrap());
    }
    let ended = server.ended(&run).await;
    let entries = ended["entries"].as_u64().unwrap();
    assert!(entries > 9_000, "{ended:#}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = server.resident();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = server.resident();
    assert!(after < before + (8 << 20), "{before} {after}");
    // Who reads at last gets all of it.
    let text = lazy.pop().unwrap().text().await.unwrap();
    assert_eq!(text.matches("\nid: ").count() as u64 + 1, entries, "every entry is an event");
    assert!(text.contains("event: end"));
}

#[tokio::test]
async fn a_stream_says_that_it_is_alive() {
    let server = Server::keeping(configured("[server]\nheartbeat_ms = 50"));
    let run = server.starts("hostile", json!({ "do": "sleep", "n": 2 })).await;
    let path = format!("/v0.1/runs/{run}/events");
    let request = server.request(Method::GET, &path).header("accept", "text/event-stream");
    let text = request.send().await.unwrap().text().await.unwrap();
    assert!(text.matches(": alive\n\n").count() > 5, "{text}");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_for_too_long_is_cut_off() {
    let server = Server::keeping(configured("[server]\nwrite_timeout_ms = 300"));
    // More than the buffers between the two can hold: 4 MiB, as a rule.
    for _ in 0..16 {
        let input = json!({ "do": "fail", "text": "x".repeat(900_000) });
        server.ended(&server.starts("hostile", input).await).await;
    }
    let address = server.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /v0.1/agents/hostile/runs HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut answer = Vec::new();
    // It may end by a reset, too.
    let read = tokio::time::timeout(super::PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stayed open");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    assert!(answer.len() < 16 * 900_000, "it got all of it, {} bytes", answer.len());
}

#[tokio::test]
async fn a_stream_ends_before_what_was_changed() {
    let home = home();
    let server = Server::on(&home);
    let run = server.starts("hostile", json!({ "do": "events", "n": 3 })).await;
    server.ended(&run).await;
    let db = rusqlite::Connection::open(home.path().join("reenact.db")).unwrap();
    // None of the first entries, which are read on their own, but one in the middle.
    db.execute("UPDATE entries SET hash = randomblob(32) WHERE seq = 2", []).unwrap();
    let path = format!("/v0.1/runs/{run}/events");
    let request = server.request(Method::GET, &path).header("accept", "text/event-stream");
    let text = request.send().await.unwrap().text().await.unwrap();
    assert!(!text.contains("id: 2\n") && !text.contains("event: end"), "{text}");
    server.get(&path).await.is_problem(422, "damaged-journal");
}

//! Servers that are slow, endless, broken or gone: each ends as an answer of
//! bounded size, or as an error, in bounded time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reenact::tools::ToolErrorCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Agent, Server};

/// Reads what was asked, so that closing the connection does not reset it.
async fn asked(stream: &mut TcpStream) {
    let mut request = [0; 4096];
    let mut end = 0;
    while !request[..end].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[end..]).await {
            Ok(more) if more > 0 => end += more,
            _ => return,
        }
    }
}

/// A server that answers every request with these bytes and closes.
async fn answering(bytes: Vec<u8>) -> Server {
    Server::raw(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            asked(&mut stream).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// A server that sends `head` and then `piece` again and again, until nobody reads.
async fn endless(
    head: &'static [u8],
    piece: Vec<u8>,
    pause: Duration,
) -> (Server, Arc<AtomicBool>) {
    let left = Arc::new(AtomicBool::new(false));
    let noticed = left.clone();
    let server = Server::raw(move |mut stream| {
        let (noticed, piece) = (noticed.clone(), piece.clone());
        async move {
            asked(&mut stream).await;
            let _ = stream.write_all(head).await;
            while stream.write_all(&piece).await.is_ok() {
                if pause.is_zero() {
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(pause).await;
                }
            }
            noticed.store(true, Ordering::SeqCst);
        }
    })
    .await;
    (server, left)
}

async fn wait_for(flag: &AtomicBool) {
    for _ in 0..400 {
        if flag.load(Ordering::SeqCst) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the connection is still open");
}

/// An agent of one server that is given half a second.
async fn hurried(server: &Server) -> Agent {
    let entry = server.entry();
    Agent::with(&format!("hosts = ['{entry}']\ntimeout_ms = 500"), &[&entry]).await
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn an_endless_body_is_cut_and_the_connection_closed() {
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    for (head, piece) in [(HEAD, vec![b'x'; 8192]), (CHUNKED, chunk.into_bytes())] {
        let (server, left) = endless(head, piece, Duration::ZERO).await;
        let agent = Agent::of_servers(&[&server]).await;
        let answer = agent.get(&server.url("/")).await;
        assert_eq!(answer["text"].as_str().unwrap(), "x".repeat(1 << 20));
        assert_eq!(answer["truncated"], true);
        wait_for(&left).await;
    }
}

#[tokio::test]
async fn a_body_that_claims_to_be_huge_costs_nothing() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\nabc".to_vec();
    let server = answering(head).await;
    let agent = Agent::of_servers(&[&server]).await;
    let answer = agent.fetch(json!({ "url": server.url("/"), "max_bytes": 2 })).await;
    assert_eq!((&answer["text"], &answer["truncated"]), (&json!("ab"), &json!(true)));
}

#[tokio::test]
async fn slow_servers_time_out() {
    let silent: &[u8] = b"";
    let ticking = Duration::from_millis(20);
    for (head, piece, what) in [
        (silent, silent, "nothing"),
        (b"HTTP/1.1 200 OK\r\n", &b"x: y\r\n"[..], "headers"),
        (HEAD, b"x", "body"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", "patience"),
    ] {
        let (server, left) = endless(head, piece.to_vec(), ticking).await;
        let start = Instant::now();
        let (code, why) = hurried(&server).await.fails(json!({ "url": server.url("/") })).await;
        // So slow that the client's bound on the number of headers is not reached.
        let message = format!(
            "`{}` took longer than 500 ms (`timeout_ms` of `[grants.http]`)",
            server.url("/")
        );
        assert_eq!((code, why), (ToolErrorCode::Timeout, message), "{what}");
        assert!(start.elapsed() < Duration::from_secs(5), "{what}");
        if !piece.is_empty() {
            wait_for(&left).await;
        }
    }
}

#[tokio::test]
async fn a_redirect_does_not_start_the_time_anew() {
    let server = Server::raw(|mut stream| async move {
        asked(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _ = stream
            .write_all(b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n")
            .await;
        let _ = stream.shutdown().await;
    })
    .await;
    let start = Instant::now();
    let (code, why) = hurried(&server).await.fails(json!({ "url": server.url("/") })).await;
    assert_eq!(code, ToolErrorCode::Timeout, "{why}");
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
}

#[tokio::test]
async fn answers_that_are_none_are_failures() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(66_000));
    for (bytes, word) in [
        (&b""[..], "connection closed before message completed"),
        (b"garbage\r\n\r\n", "invalid HTTP version parsed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "invalid HTTP version parsed"),
        (b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n", "invalid HTTP header parsed"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
            "end of file before message length reached",
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "Invalid chunk size line"),
        (many.as_bytes(), "message head is too large"),
        (long.as_bytes(), "message head is too large"),
        (large.as_bytes(), "the answer's headers have 66001 bytes, at most 65536 are taken"),
    ] {
        let server = answering(bytes.to_vec()).await;
        let agent = Agent::of_servers(&[&server]).await;
        let (code, why) = agent.fails(json!({ "url": server.url("/") })).await;
        assert_eq!(code, ToolErrorCode::Failed, "{why}");
        assert!(why.starts_with(&format!("cannot fetch `{}`: ", server.url("/"))), "{why}");
        assert!(why.contains(word), "{word}: {why}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure() {
    let server = answering(vec![]).await;
    let (agent, url) = (Agent::of_servers(&[&server]).await, server.url("/"));
    drop(server);
    // Its port is free as soon as its task is gone.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (code, why) = agent.fails(json!({ "url": url })).await;
    assert_eq!(code, ToolErrorCode::Failed);
    assert!(why.to_lowercase().contains("connection refused"), "{why}");
}

#[tokio::test]
async fn a_call_that_is_abandoned_leaves_the_server() {
    for head in [&b""[..], HEAD] {
        let gone = Arc::new(AtomicBool::new(false));
        let noticed = gone.clone();
        let server = Server::raw(move |mut stream| {
            let noticed = noticed.clone();
            async move {
                asked(&mut stream).await;
                let _ = stream.write_all(head).await;
                let _ = stream.read(&mut [0; 1]).await;
                noticed.store(true, Ordering::SeqCst);
            }
        })
        .await;
        let agent = Agent::of_servers(&[&server]).await;
        let call = agent.call("http.fetch", json!({ "url": server.url("/") }));
        assert!(tokio::time::timeout(Duration::from_millis(200), call).await.is_err());
        wait_for(&gone).await;
    }
}

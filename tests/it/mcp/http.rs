//! Servers of streamable HTTP that misbehave, and a real one for other tests.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::servers::node_server;

/// `server-everything` over HTTP.
pub struct Everything {
    child: Child,
    pub port: u16,
}

impl Everything {
    pub async fn start() -> Self {
        // Somebody else could take the port until the server does; that is rare.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        Self::start_at(port).await
    }

    pub async fn start_at(port: u16) -> Self {
        let mut command = Command::new("node");
        command.args([&node_server("everything"), "streamableHttp"]);
        command.env("PORT", port.to_string()).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not listen at {port}");
    }
}

impl Drop for Everything {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the odd server was sent: the headers and the method.
type Heard = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

/// Serves an odd server on a port of its own until the test ends.
async fn serve(heard: Heard) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let respond = move |headers: HeaderMap, body: Bytes| {
        let message: Value = serde_json::from_slice(&body).unwrap();
        heard.lock().unwrap().push((headers, message.clone()));
        async move { respond(&message) }
    };
    let app = Router::new()
        .route("/mcp", post(respond))
        .route("/moved", post(|| async { Redirect::temporary("/mcp") }))
        .route("/away", post(|| async { Redirect::temporary("http://localhost:9/mcp") }))
        .route("/closed", post(|| async { (StatusCode::UNAUTHORIZED, "who are you?") }))
        .route("/page", post(|| async { "<html>a page</html>" }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

fn respond(message: &Value) -> Response {
    let id = &message["id"];
    let result = |result: Value| result_of(id, result);
    match message["method"].as_str() {
        Some("initialize") => result(json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "odd", "version": "1" },
        })),
        Some("tools/list") => {
            let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
            let names = ["echo", "huge", "huge-event", "never", "garbage", "broken", "half-stream"];
            result(json!({ "tools": names.map(tool) }))
        }
        Some("tools/call") => respond_to_call(message, id),
        _ => StatusCode::ACCEPTED.into_response(),
    }
}

fn result_of(id: &Value, result: Value) -> Response {
    let message = json!({ "jsonrpc": "2.0", "id": id, "result": result });
    ([("content-type", "application/json")], message.to_string()).into_response()
}

fn respond_to_call(message: &Value, id: &Value) -> Response {
    let text = |text: &str| json!({ "content": [{ "type": "text", "text": text }] });
    let stream = |body: Body| ([("content-type", "text/event-stream")], body).into_response();
    match message["params"]["name"].as_str().unwrap() {
        "echo" => result_of(id, text("here")),
        "huge" => ([("content-type", "application/json")], endless("{\"x\":\"")).into_response(),
        "huge-event" => stream(endless("data: {\"x\":\"")),
        "never" => {
            stream(Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>()))
        }
        "garbage" => ([("content-type", "application/json")], "{]").into_response(),
        "broken" => (StatusCode::INTERNAL_SERVER_ERROR, "it broke").into_response(),
        "half-stream" => stream(Body::from("data: {\"jsonrpc\"")),
        other => panic!("{other}"),
    }
}

/// 100 MB.
fn endless(start: &'static str) -> Body {
    let pieces = std::iter::repeat_n(Bytes::from_static(&[b'x'; 100_000]), 1_000);
    let pieces = std::iter::once(Bytes::from_static(start.as_bytes())).chain(pieces);
    Body::from_stream(futures::stream::iter(pieces.map(Ok::<_, std::io::Error>)))
}

async fn odd() -> (Catalogue, Heard) {
    let heard = Heard::default();
    let url = format!("{}/mcp", serve(Arc::clone(&heard)).await);
    let servers = Servers::new(json!({ "odd": { "url": url } }));
    (servers.open().await, heard)
}

async fn ends_as(tool: &str, code: ToolErrorCode, words: &str) {
    let (catalogue, _) = odd().await;
    let name = format!("odd.{tool}");
    let told = call(&tools(&catalogue), &name, json!({})).await.unwrap_err();
    assert_eq!(told.0, code, "{told:?}");
    assert!(told.1.contains(words), "{}", told.1);
    assert_eq!(answer(&tools(&catalogue), "odd.echo", json!({})).await, "here");
}

#[tokio::test]
async fn a_body_of_100_mb_is_too_large() {
    ends_as("huge", ToolErrorCode::TooLarge, "more than 16777216 bytes").await;
}

#[tokio::test]
async fn an_event_of_100_mb_is_too_large() {
    ends_as("huge-event", ToolErrorCode::TooLarge, "more than 16777216 bytes").await;
}

#[tokio::test]
async fn garbage_fails_the_call() {
    ends_as("garbage", ToolErrorCode::Failed, "could not parse JSON response").await;
}

#[tokio::test]
async fn an_error_of_http_fails_the_call() {
    ends_as("broken", ToolErrorCode::Failed, "HTTP 500").await;
}

#[tokio::test]
async fn a_stream_that_ends_early_fails_the_call() {
    ends_as("half-stream", ToolErrorCode::Failed, "the MCP server `odd` hung up").await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_told_that_nobody_waits() {
    let (catalogue, heard) = odd().await;
    let hasty = hasty(&catalogue, Duration::from_millis(300));
    let told = call(&hasty, "odd.never", json!({})).await.unwrap_err();
    assert_eq!(told.0, ToolErrorCode::Timeout);
    let method = |method: &str| {
        let heard = heard.lock().unwrap();
        heard.iter().map(|(_, message)| message.clone()).find(|it| it["method"] == method)
    };
    soon("it is told", || method("notifications/cancelled").is_some()).await;
    let cancelled = method("notifications/cancelled").unwrap();
    assert_eq!(cancelled["params"]["requestId"], method("tools/call").unwrap()["id"]);
}

#[tokio::test]
async fn headers_are_sent_and_kept_secret() {
    let heard = Heard::default();
    let url = format!("{}/mcp", serve(Arc::clone(&heard)).await);
    let headers = json!({ "Authorization": "Bearer ${CANARY_TOKEN}", "Accept": "text/html" });
    let servers = Servers::new(json!({ "odd": { "url": url, "headers": headers } }));
    let vault = Vault::new(BTreeMap::from([("CANARY_TOKEN".to_owned(), "sk-canary-1".to_owned())]));
    let config = "[grants.mcp]\nfile = '.mcp.json'";
    let catalogue = servers.open_wanted(config, vault, &|_| true).await.unwrap();
    assert_eq!(answer(&tools(&catalogue), "odd.echo", json!({})).await, "here");
    for (headers, message) in heard.lock().unwrap().iter() {
        assert_eq!(headers["authorization"], "Bearer sk-canary-1", "{message}");
        assert!(headers["accept"].to_str().unwrap().contains("text/event-stream"));
    }
    assert_eq!(catalogue.vault().scrub_text("sk-canary-1"), "[secret]");
}

#[tokio::test]
async fn redirections_are_followed_only_within_the_server() {
    let base = serve(Heard::default()).await;
    let open = |path: &str| {
        let url = format!("{base}/{path}?key=${{CANARY_KEY}}");
        let servers = Servers::new(json!({ "odd": { "url": url } }));
        let vault = Vault::new(BTreeMap::from([("CANARY_KEY".to_owned(), "canary-2".to_owned())]));
        async move {
            let config = "[grants.mcp]\nfile = '.mcp.json'";
            servers.open_wanted(config, vault, &|_| true).await
        }
    };
    let catalogue = open("moved").await.unwrap();
    assert_eq!(answer(&tools(&catalogue), "odd.echo", json!({})).await, "here");
    for (path, why) in [
        ("away", "HTTP 307"),
        ("closed", "HTTP 401"),
        ("page", "nexpected content type"),
        ("none", "HTTP 404"),
    ] {
        let told = open(path).await.err().unwrap();
        assert!(
            told.contains("the MCP server `odd` (`http") && told.contains(why),
            "{path}: {told}"
        );
        assert!(!told.contains("canary-2"), "{told}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let servers = Servers::new(json!({ "gone": { "url": "http://127.0.0.1:9/mcp" } }));
    let told = servers.try_open("[grants.mcp]\nfile = '.mcp.json'").await.err().unwrap();
    let words = "the MCP server `gone` (`http://127.0.0.1:9/mcp`) cannot be reached: ";
    assert!(told.contains(words), "{told}");
}

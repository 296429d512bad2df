//! Traces, exported to a collector on this machine that reads them as any would.

use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use reenact::config::Config;
use reenact::journal::Entry;
use reenact::telemetry::Telemetry;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::http::{Seen, Server};
use crate::support::root;

fn golden(name: &str) -> Vec<Entry> {
    let file = root().join("tests/golden").join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(file).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        serde_json::from_str(&line["entry"].to_string()).unwrap()
    };
    text.lines().map(line).collect()
}

/// What `[telemetry]` with these lines means.
fn open(lines: &str) -> Telemetry {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("reenact.toml");
    let text = format!("[telemetry]\n{lines}\n[secrets]\nTOKEN = 'canary'\n");
    std::fs::write(&file, text).unwrap();
    let config = Config::load(Path::new(&file), true).unwrap();
    Telemetry::open(config.telemetry(&config.vault()).unwrap()).unwrap()
}

async fn collector(answer: StatusCode) -> Server {
    let take = move || std::future::ready(answer);
    Server::start(Router::new().route("/v1/traces", post(take))).await
}

fn decoded(seen: &Seen) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(&*seen.body).unwrap()
}

fn spans(server: &Server) -> Vec<Span> {
    let requests = server.seen().iter().map(decoded).collect::<Vec<_>>();
    let resources = requests.into_iter().flat_map(|request| request.resource_spans);
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[tokio::test]
async fn a_run_arrives_as_a_trace_with_its_own_id_and_times() {
    let server = collector(StatusCode::OK).await;
    let headers = "headers = { authorization = 'Bearer ${TOKEN}' }";
    let telemetry = open(&format!("otlp = '{}'\n{headers}", server.url("")));
    let entries = golden("tool-calls");
    assert!(telemetry.is_on());
    telemetry.run_ended(&entries);
    telemetry.shutdown().await;
    let request = server.seen().remove(0);
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(request.header("authorization"), Some("Bearer canary"));
    let resource = decoded(&request).resource_spans.remove(0).resource.unwrap();
    assert_eq!(text(&resource.attributes, "service.name"), Some("reenact"));
    assert!(text(&resource.attributes, "service.version").is_some());
    let spans = spans(&server);
    let root = spans.iter().find(|span| span.parent_span_id.is_empty()).unwrap();
    let run: Value = serde_json::to_value(&entries[0].body).unwrap();
    let run = run["started"]["run"].as_str().unwrap().replace('-', "");
    assert_eq!(root.name, "invoke_agent hostile");
    assert_eq!(root.start_time_unix_nano, entries[0].at * 1_000);
    assert_eq!(root.end_time_unix_nano, entries.last().unwrap().at * 1_000);
    assert!(spans.len() > 3);
    for span in &spans {
        assert_eq!(span.trace_id.iter().map(|b| format!("{b:02x}")).collect::<String>(), run);
        assert!(span.parent_span_id.is_empty() || span.parent_span_id == root.span_id);
    }
    let tool = spans.iter().find(|span| span.name.starts_with("execute_tool ")).unwrap();
    assert_eq!(text(&tool.attributes, "gen_ai.operation.name"), Some("execute_tool"));
    assert_eq!(text(&tool.attributes, "gen_ai.tool.call.arguments"), None);
}

#[tokio::test]
async fn contents_travel_only_if_the_operator_says_so() {
    let server = collector(StatusCode::OK).await;
    let telemetry = open(&format!("otlp = '{}'\ncontents = true", server.url("")));
    telemetry.run_ended(&golden("tool-calls"));
    telemetry.shutdown().await;
    let spans = spans(&server);
    let tool = spans.iter().find(|span| span.name.starts_with("execute_tool ")).unwrap();
    assert!(text(&tool.attributes, "gen_ai.tool.call.arguments").is_some());
}

#[tokio::test]
async fn many_runs_share_requests_and_none_is_lost() {
    let server = collector(StatusCode::OK).await;
    let telemetry = open(&format!("otlp = '{}'", server.url("")));
    let entries = golden("compute");
    for _ in 0..2_000 {
        telemetry.run_ended(&entries);
    }
    telemetry.shutdown().await;
    assert_eq!(spans(&server).len(), 2_000);
    assert!(server.seen().len() < 200, "{}", server.seen().len());
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_no_time_and_bounded_memory() {
    let telemetry = open("otlp = 'http://127.0.0.1:9'\ncontents = true");
    let entries = golden("too-many-events");
    let start = Instant::now();
    for _ in 0..30_000 {
        telemetry.run_ended(&entries);
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let start = Instant::now();
    telemetry.shutdown().await;
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    // Whoever is late is no error.
    telemetry.run_ended(&entries);
    telemetry.shutdown().await;
}

#[tokio::test]
async fn a_collector_that_hangs_keeps_nobody_from_stopping() {
    let holds_on = |socket: TcpStream| async move {
        let _socket = socket;
        std::future::pending::<()>().await;
    };
    let server = Server::raw(holds_on).await;
    let telemetry = open(&format!("otlp = '{}'", server.url("")));
    telemetry.run_ended(&golden("compute"));
    let start = Instant::now();
    telemetry.shutdown().await;
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_what_waited() {
    let place = Server::start(Router::new()).await.entry();
    let telemetry = open(&format!("otlp = 'http://{place}'"));
    telemetry.run_ended(&golden("compute"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let take = || std::future::ready(StatusCode::OK);
    let server = Server::at(&place, Router::new().route("/v1/traces", post(take))).await;
    let start = Instant::now();
    while server.seen().is_empty() && start.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    telemetry.shutdown().await;
    assert_eq!(spans(&server).len(), 1);
}

#[tokio::test]
async fn without_a_collector_there_is_nothing_to_do() {
    let telemetry = Telemetry::open(None).unwrap();
    assert!(!telemetry.is_on());
    telemetry.run_ended(&golden("compute"));
    telemetry.shutdown().await;
}

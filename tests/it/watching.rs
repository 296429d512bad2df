//! A service whose operator watches it: webhooks and traces of runs that it executes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use reenact::config::Config;
use reenact::registry::{Home, Registry};
use reenact::revision::Revision;
use reenact::runtime::now;
use reenact::service::{Ask, Places, Service, ServiceError, ServiceLimits, store};
use reenact::storage::{DeliveryFilter, DeliveryState, Storage};
use serde_json::{Value, json};

use crate::http::Server;
use crate::service::{Server as Reenact, configured};
use crate::support::root;

/// A service on a home with this configuration, with one agent, `hostile`.
async fn service(folder: &Path, config: &str) -> Result<Service, ServiceError> {
    let file = folder.join("reenact.toml");
    std::fs::write(&file, config).unwrap();
    let home = Home::at(folder);
    home.create().unwrap();
    let storage = Storage::open(&home.database()).unwrap();
    let registry = Registry::open(&home, storage.clone(), now()).unwrap();
    let bytes = std::fs::read(root().join("tests/golden/hostile.wasm")).unwrap();
    store(&registry, &Revision::open(bytes).unwrap(), true).unwrap();
    let places = Places { loaded: 4, per_agent: 4, held: 16 };
    let limits = ServiceLimits { places, queue: 16, patience: Duration::from_secs(1) };
    let config = Config::load(&file, true).unwrap();
    Service::open(&home, storage, registry, config, limits).await
}

async fn submits(service: &Service, input: Value) -> String {
    let input = input.to_string();
    let agent = "hostile".to_owned();
    let ask = Ask { agent, revision: None, input, submission: None };
    service.submit(ask).await.unwrap().run
}

#[tokio::test]
async fn the_runs_of_a_service_are_told_to_hooks_and_exported_as_traces() {
    let take = || std::future::ready(StatusCode::OK);
    let router = Router::new().route("/hook", post(take)).route("/v1/traces", post(take));
    let server = Server::start(router).await;
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[telemetry]\notlp = '{}'\n[[webhooks]]\nurl = '{}'\nsecret = '${{HOOK}}'\n[secrets]\n\
         HOOK = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'\n",
        server.url(""),
        server.url("/hook"),
    );
    let service = service(folder.path(), &config).await.unwrap();
    let tasks = service.start().await.unwrap();
    let good = submits(&service, json!({ "do": "events", "n": 2 })).await;
    let bad = submits(&service, json!({ "do": "panic" })).await;
    for run in [&good, &bad] {
        service.wait_for_end(service.subscribe(run), Duration::from_secs(120)).await.unwrap();
    }
    let seen = |path: &str| {
        let seen = server.seen().into_iter().filter(|seen| seen.path == path);
        seen.collect::<Vec<_>>()
    };
    for _ in 0..500 {
        if seen("/hook").len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    service.stop(Duration::from_secs(1)).await;
    tasks.iter().for_each(|task| task.abort());
    let mut told: Vec<_> = seen("/hook")
        .iter()
        .map(|seen| {
            let message: Value = serde_json::from_slice(&seen.body).unwrap();
            (message["data"]["id"].as_str().unwrap().to_owned(), message["type"].clone())
        })
        .collect();
    told.sort_by_key(|(run, _)| *run == bad);
    assert_eq!(told, [(good.clone(), json!("run.done")), (bad.clone(), json!("run.error"))]);
    let delivered = DeliveryFilter {
        state: Some(DeliveryState::Delivered),
        limit: 10,
        ..DeliveryFilter::default()
    };
    assert_eq!(service.storage().deliveries(&delivered).unwrap().len(), 2);
    let mut traces: Vec<String> = seen("/v1/traces")
        .iter()
        .map(|seen| ExportTraceServiceRequest::decode(&*seen.body).unwrap())
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .map(|span| span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    traces.sort();
    traces.dedup();
    let mut runs = [good.replace('-', ""), bad.replace('-', "")];
    runs.sort();
    assert_eq!(traces, runs);
}

#[tokio::test]
async fn a_service_does_not_start_without_the_secrets_of_its_hooks() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[webhooks]]\nurl = 'http://localhost/'\nsecret = '${REENACT_NO_SUCH_HOOK}'";
    let Err(error) = service(folder.path(), config).await else { panic!("it starts") };
    assert!(error.to_string().contains("no secret `REENACT_NO_SUCH_HOOK`"), "{error}");
}

#[tokio::test]
async fn what_a_killed_server_could_not_tell_is_told_by_the_next_one() {
    let count = Arc::new(AtomicUsize::new(0));
    let answer = move || {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        let status = if first { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        std::future::ready(status)
    };
    let receiver = Server::start(Router::new().route("/hook", post(answer))).await;
    let home = configured(&format!(
        "[[webhooks]]\nurl = '{}'\nsecret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'\n",
        receiver.url("/hook")
    ));
    let server = Reenact::on(&home);
    let run = server.starts("minimal", json!({ "name": "Ada" })).await;
    let listed = || home.json(&["webhooks", "list", "--run", &run, "--json"]);
    let error = "it answered `503 Service Unavailable`";
    for _ in 0..500 {
        if listed()[0]["error"] == error {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.kill();
    let waiting = listed();
    assert_eq!(waiting[0]["state"], "pending");
    assert_eq!(waiting[0]["error"], error);
    // Nobody is there, and still nothing is lost.
    let alone = home.json(&["run", "minimal", "--input", r#"{"name":"Ben"}"#, "--json"]);
    let alone = alone["id"].as_str().unwrap().to_owned();
    let server = Reenact::on(&home);
    for _ in 0..1_000 {
        if receiver.seen().len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    let told: Vec<String> = receiver
        .seen()
        .iter()
        .map(|seen| serde_json::from_slice::<Value>(&seen.body).unwrap())
        .map(|message| message["data"]["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, [run.clone(), alone, run.clone()]);
    assert_eq!(listed()[0]["state"], "delivered");
    assert_eq!(listed()[0]["attempts"], 2);
    let nothing = home.fails(1, &["webhooks", "retry", &run]);
    assert!(nothing.contains("was given up that can be sent"), "{nothing}");
}

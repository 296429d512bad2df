//! Runs that begin as soon as they are asked for, and clients that wait for their end.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reenact::revision::Limits;
use reenact::runtime::{DurableRun, NewRun};
use reenact::storage::{Storage, Submission, Submitted};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Answer, Server, answer, configured, home, killed};
use crate::support::{Lab, guest};

const WAITS: &str = "/v0.1/agents/hostile/runs?wait=60";

async fn named(server: &Server, name: &str, path: &str, input: &Value) -> Answer {
    let request = server.request(Method::POST, path).header("idempotency-key", name);
    answer(request.json(&json!({ "input": input }))).await
}

/// Waits until no run has a place any more, or waits for one.
async fn comes_to_rest(server: &Server) {
    let begun = Instant::now();
    loop {
        let metrics = server.get("/metrics").await.json;
        let metrics = metrics.as_str().unwrap();
        let none = |state| metrics.contains(&format!("reenact_runs{{state=\"{state}\"}} 0"));
        if ["queued", "loaded", "unloaded"].into_iter().all(none) {
            return;
        }
        assert!(begun.elapsed() < super::PATIENCE, "{metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_waits_is_told_what_is_told_later() {
    // Where the second finds no place, it waits for its turn like those of old.
    for config in ["", "[server]\nparallel = 1\n"] {
        let server = Server::keeping(configured(config));
        let inputs =
            [json!({ "do": "events", "n": 3 }), json!({ "do": "fail" }), json!({ "do": "panic" })];
        let waits = inputs.iter().map(|input| server.post(WAITS, json!({ "input": input })));
        for answer in join_all(waits).await {
            assert_eq!(answer.status, StatusCode::CREATED, "{answer:#?}");
            let run = answer.json["id"].as_str().unwrap();
            assert!(["done", "error"].contains(&answer.json["status"].as_str().unwrap()));
            assert_eq!(server.run(run).await, answer.json);
            let path = format!("/v0.1/runs/{run}?wait=60");
            assert_eq!(server.get(&path).await.json, answer.json, "it has ended already");
            server.proves(run).await;
        }
    }
}

#[tokio::test]
async fn a_request_sent_many_times_at_once_makes_one_run_and_all_hear_its_end() {
    let server = Server::keeping(home());
    let input = json!({ "do": "events", "n": 3 });
    let answers = join_all((0..16).map(|_| named(&server, "one", WAITS, &input))).await;
    let new = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
    assert_eq!(new, 1, "{answers:#?}");
    assert_eq!(answers[0].json["status"], "done");
    assert!(answers.iter().all(|answer| answer.json == answers[0].json), "{answers:#?}");
    let listed = server.get("/v0.1/agents/hostile/runs").await.json;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    comes_to_rest(&server).await;
}

// Several threads: the counter answers while a server is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_run_of_another_process_is_told_too() {
    let counter = killed::Counter { takes: Duration::from_millis(1_500), ..Default::default() };
    let home = killed::home(&counter.serve().await);
    let (first, second) = (Server::on(&home), Server::on(&home));
    let run = first.starts("hostile", killed::input("other", 1)).await;
    let waited = second.get(&format!("/v0.1/runs/{run}?wait=60")).await.json;
    assert_eq!(waited["status"], "done", "{waited:#}");
    assert_eq!(first.run(&run).await, waited);
}

#[tokio::test]
async fn who_waits_is_told_when_the_time_is_over_or_the_server_stops() {
    let server = Server::keeping(home());
    let asleep = json!({ "input": { "do": "sleep", "n": 3_600 } });
    let short = server.post("/v0.1/agents/hostile/runs?wait=1", asleep.clone()).await;
    assert_eq!((short.status, &short.json["status"]), (StatusCode::CREATED, &json!("running")));
    let waits = server.request(Method::POST, WAITS).json(&asleep);
    let waits = tokio::spawn(answer(waits));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (code, log) = tokio::task::spawn_blocking(|| server.stop()).await.unwrap();
    assert_eq!(code, Some(0), "{log}");
    let answer = waits.await.unwrap();
    assert_eq!((answer.status, &answer.json["status"]), (StatusCode::CREATED, &json!("running")));
}

#[tokio::test]
async fn a_run_can_be_cancelled_as_soon_as_it_is_known() {
    let server = Server::keeping(home());
    let begun = Instant::now();
    for _ in 0..5 {
        let run = server.starts("hostile", json!({ "do": "loop" })).await;
        let path = format!("/v0.1/runs/{run}/cancel");
        assert_eq!(answer(server.request(Method::POST, &path)).await.status, StatusCode::OK);
        assert_eq!(server.ended(&run).await["error"]["code"], "cancelled");
    }
    // Well before leases are renewed, which would find it in the database.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Runs that have just been entered are given back with all others, and those that are
/// still in line are entered all the same.
#[tokio::test]
async fn a_server_that_stops_while_runs_are_entered_keeps_no_lease() {
    let home = configured("[server]\nparallel = 20\n");
    let server = Server::on(&home);
    let body = json!({ "input": { "do": "loop" } });
    let starts = (0..40).map(|_| {
        let request = server.request(Method::POST, "/v0.1/agents/hostile/runs").json(&body);
        // The server may be gone before it has answered.
        tokio::spawn(async move { request.send().await.map(|answer| answer.status()) })
    });
    let starts: Vec<_> = starts.collect();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let (code, log) = tokio::task::spawn_blocking(|| server.stop()).await.unwrap();
    assert_eq!(code, Some(0), "{log}");
    let acknowledged = join_all(starts).await.into_iter().filter(|status| {
        status.as_ref().is_ok_and(|status| matches!(status, Ok(StatusCode::CREATED)))
    });
    let acknowledged = acknowledged.count();
    let db = rusqlite::Connection::open(home.path().join("reenact.db")).unwrap();
    let count = |condition: &str| -> usize {
        let sql = format!("SELECT count(*) FROM runs WHERE {condition}");
        db.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert!(count("true") >= acknowledged.max(1), "{acknowledged}");
    assert_eq!(count("lease_until > 0 OR status NOT IN ('pending', 'running')"), 0);
}

#[tokio::test]
async fn clients_that_go_away_take_no_place_with_them() {
    let server = Server::keeping(configured("[server]\nparallel = 2\n"));
    let address = server.url.trim_start_matches("http://");
    let body = json!({ "input": { "do": "events", "n": 3 } }).to_string();
    let request = format!(
        "POST {WAITS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    for moment in 0..40 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(moment % 8)).await;
    }
    let last = server.post(WAITS, json!({ "input": { "do": "events", "n": 3 } })).await;
    assert_eq!(last.json["status"], "done", "{last:#?}");
    let listed = server.get("/v0.1/agents/hostile/runs?limit=100").await.json;
    for run in listed["items"].as_array().unwrap() {
        assert_eq!(server.ended(run["id"].as_str().unwrap()).await["status"], "done");
    }
    comes_to_rest(&server).await;
}

/// As if the process had died between the two: its lease has to run out first.
#[tokio::test]
async fn a_run_that_was_entered_and_never_executed_is_gone_on_with() {
    let home = home();
    let server = Server::on(&home);
    let lab = Lab::new();
    let (revision, input) = (guest("minimal"), json!({ "name": "Ada" }));
    let tools = lab.run(&revision, input.clone()).tools();
    let prepared = lab.prepare(&revision);
    let limits = Limits::effective(&revision.manifest.limits, &Default::default());
    let plan = NewRun::plan(&prepared, &input.to_string(), limits, &tools).unwrap();
    let submission =
        Submission { owner: String::new(), name: "order-7".to_owned(), digest: revision.digest };
    let storage = Storage::open(&home.path().join("reenact.db")).unwrap();
    let start = async || {
        let submission = Some(submission.clone());
        DurableRun::start(&storage, &plan, submission, None).await.unwrap()
    };
    assert!(matches!(start().await, Submitted::New(_)));
    let run = &plan.started.run;
    assert!(matches!(start().await, Submitted::Known(known) if known == *run));

    tokio::time::sleep(Duration::from_secs(3)).await;
    let found = server.run(run).await;
    assert_eq!((&found["status"], &found["entries"]), (&json!("running"), &json!(1)));
    killed::leases_lapse(&home);
    assert_eq!(server.ended(run).await["status"], "done");
    server.proves(run).await;
    assert!(matches!(start().await, Submitted::Known(known) if known == *run));
}

//! Runs that wait: for a person, for a time, for a tool; and servers that stop meanwhile.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Server, answer, configured, home};
use crate::support::Home;

/// A home in which listing files has to be approved.
fn home_that_asks() -> Home {
    let home =
        configured("[grants.files]\nroot = 'x'\n[[policy]]\ntool = 'files.list'\naction = 'ask'\n");
    std::fs::create_dir(home.path().join("x")).unwrap();
    home
}

async fn waits_for(server: &Server, run: &str, what: &str) -> Value {
    server.run_that(run, |run| run["waits"]["for"] == what).await
}

#[tokio::test]
async fn a_call_is_approved_denied_or_changed_by_a_person() {
    let server = Server::keeping(home_that_asks());
    let decide = async |body: Value| {
        let run = server.starts("hostile", json!({ "do": "tool-calls", "n": 1 })).await;
        waits_for(&server, &run, "approval").await;
        let waiting = server.get(&format!("/v0.1/runs/{run}/approvals")).await.json;
        assert_eq!((&waiting[0]["call"], &waiting[0]["tool"]), (&json!(0), &json!("files.list")));
        let decided = server.post(&format!("/v0.1/runs/{run}/approve"), body.clone()).await;
        assert_eq!(decided.status, StatusCode::OK, "{decided:#?}");
        let ended = server.ended(&run).await;
        server.proves(&run).await;
        let again = server.post(&format!("/v0.1/runs/{run}/approve"), body).await;
        again.is_problem(409, "nothing-to-approve");
        let events = server.get(&format!("/v0.1/runs/{run}/events")).await.json;
        (ended, events)
    };
    let (approved, _) = decide(json!({ "decision": "approve" })).await;
    assert_eq!(approved["resultData"]["result"]["answers"], 1, "{approved:#}");
    let (denied, events) = decide(json!({ "decision": "deny", "reason": "not today" })).await;
    assert_eq!(denied["resultData"]["result"]["answers"], 0, "{denied:#}");
    let events = events["items"].as_array().unwrap();
    let approval = events.iter().find(|event| event["type"] == "approval").unwrap();
    assert_eq!(
        (&approval["data"]["decision"], &approval["data"]["reason"]),
        (&json!("denied"), &json!("not today"))
    );
    let edited = json!({ "decision": "approve", "call": 0, "arguments": { "path": "" } });
    assert_eq!(decide(edited).await.0["resultData"]["result"]["answers"], 1);
}

#[tokio::test]
async fn a_decision_counts_while_no_server_runs() {
    let home = home_that_asks();
    let server = Server::on(&home);
    let run = server.starts("hostile", json!({ "do": "tool-calls", "n": 1 })).await;
    waits_for(&server, &run, "approval").await;
    server.kill();
    home.ok(&["approve", &run, "--no-resume"]);
    let server = Server::on(&home);
    let ended = server.ended(&run).await;
    assert_eq!(ended["resultData"]["result"]["answers"], 1, "{ended:#}");
    server.proves(&run).await;
}

#[tokio::test]
async fn a_decision_of_the_command_line_reaches_the_server() {
    let home = home_that_asks();
    let server = Server::on(&home);
    let run = server.starts("hostile", json!({ "do": "tool-calls", "n": 1 })).await;
    waits_for(&server, &run, "approval").await;
    home.ok(&["approve", &run, "--no-resume"]);
    assert_eq!(server.ended(&run).await["status"], "done");
}

#[tokio::test]
async fn a_run_sleeps_across_restarts() {
    let home = home();
    let server = Server::on(&home);
    let begun = Instant::now();
    let run = server.starts("hostile", json!({ "do": "sleep", "n": 5 })).await;
    waits_for(&server, &run, "sleep").await;
    server.kill();
    let server = Server::on(&home);
    waits_for(&server, &run, "sleep").await;
    assert_eq!(server.stop().0, Some(0));
    let server = Server::on(&home);
    let ended = server.ended(&run).await;
    assert!(begun.elapsed() >= Duration::from_secs(5), "it did not wake before its time");
    assert!(ended["resultData"]["result"]["elapsed_ms"].as_u64() >= Some(5_000), "{ended:#}");
    server.proves(&run).await;
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_lets_go_of_runs_at_once() {
    let home = home();
    let server = Server::on(&home);
    let busy = server.starts("hostile", json!({ "do": "loop" })).await;
    let asleep = server.starts("hostile", json!({ "do": "sleep", "n": 3_600 })).await;
    server.run_that(&busy, |run| run["status"] == "running").await;
    waits_for(&server, &asleep, "sleep").await;
    let begun = Instant::now();
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}\n{log}", begun.elapsed());

    let listed = home.json(&["runs", "--json"]);
    let statuses: Vec<&str> =
        listed.as_array().unwrap().iter().map(|run| run["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["running", "running"], "nothing has failed");
    for run in [&busy, &asleep] {
        assert_eq!(home.json(&["replay", run, "--json"])["same"], true);
    }
    let server = Server::on(&home);
    for run in [&busy, &asleep] {
        answer(server.request(Method::POST, &format!("/v0.1/runs/{run}/cancel"))).await;
        assert_eq!(server.ended(run).await["error"]["code"], "cancelled");
        server.proves(run).await;
    }
}

#[tokio::test]
async fn a_run_belongs_to_one_process() {
    let home = home();
    let first = Server::on(&home);
    let second = Server::on(&home);
    let busy = first.starts("hostile", json!({ "do": "loop" })).await;
    first.run_that(&busy, |run| run["status"] == "running").await;
    let refused = home.fails(1, &["resume", &busy]);
    assert!(refused.contains("belongs to another process"), "{refused}");
    // Longer than the other one looks for runs that it could take.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let metrics = second.get("/metrics").await.json;
    assert!(metrics.as_str().unwrap().contains("reenact_runs{state=\"loaded\"} 0"), "{metrics}");

    // Each of the two can be asked about it, and asked to cancel it.
    home.ok(&["cancel", &busy]);
    assert_eq!(second.ended(&busy).await["error"]["code"], "cancelled");
    first.proves(&busy).await;
}

#[tokio::test]
async fn one_agent_leaves_places_to_others() {
    let home = configured("[server]\nparallel = 3\nparallel_per_agent = 2");
    let server = Server::on(&home);
    for _ in 0..4 {
        server.starts("hostile", json!({ "do": "loop" })).await;
    }
    let run = server.starts("minimal", json!({ "name": "Ada" })).await;
    assert_eq!(server.ended(&run).await["status"], "done", "in spite of guests that compute");
    let pending = server.get("/v0.1/agents/hostile/runs?status=pending").await.json;
    assert_eq!(pending["items"].as_array().unwrap().len(), 2);
}

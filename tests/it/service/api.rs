//! The API as a client uses it, from an agent to a proof.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Server, answer, configured, home};
use crate::support::{Home, guest, resealed};

const RUNS: &str = "/v0.1/agents/minimal/runs";

#[tokio::test]
async fn a_run_is_started_and_answers() {
    let home = home();
    let server = Server::on(&home);
    let body = json!({ "input": { "name": "Ada" } });
    let started = server.post(&format!("{RUNS}?wait=60"), body).await;
    assert_eq!(started.status, StatusCode::CREATED, "{started:#?}");
    let run = &started.json;
    assert_eq!((&run["status"], &run["agentId"]), (&json!("done"), &json!("minimal")));
    assert_eq!(run["revisionId"], guest("minimal").digest.to_string());
    assert_eq!(run["input"], json!({ "name": "Ada" }));
    assert_eq!(run["error"], Value::Null);
    assert_eq!(
        (&run["resultType"], &run["resultData"]["result"]),
        (&json!("document"), &json!("Hello, Ada!"))
    );
    assert_eq!(run["resultData"]["sources"], json!([]));
    assert_eq!(*run, server.run(run["id"].as_str().unwrap()).await);
    server.proves(run["id"].as_str().unwrap()).await;

    let short = &run["id"].as_str().unwrap()[..20];
    assert_eq!(server.run(short).await["id"], run["id"], "a beginning of the id is enough");
    let listed = home.json(&["runs", "--json"]);
    assert_eq!(listed[0]["id"], run["id"], "the command line sees the same run");
}

#[tokio::test]
async fn a_run_that_fails_says_why() {
    let server = Server::keeping(home());
    let run = server.starts("hostile", json!({ "do": "fail", "text": "not today" })).await;
    let run = server.ended(&run).await;
    assert_eq!((&run["status"], &run["resultData"]), (&json!("error"), &Value::Null));
    assert_eq!(run["error"]["code"], "agent_failure");
    assert_eq!(run["error"]["message"], "not today");
}

#[tokio::test]
async fn the_published_revision_is_taken_unless_another_is_named() {
    let home = Home::new();
    let server = Server::on(&home);
    let first = guest("minimal");
    let second = resealed(&first, |manifest| manifest.description = "another one".into());
    let upload = async |bytes: &[u8], query: &str| {
        let path = format!("/v0.1/agents/minimal/revisions{query}");
        let request =
            server.request(Method::POST, &path).header("content-type", "application/wasm");
        answer(request.body(bytes.to_vec())).await
    };
    let draft = upload(&first.bytes, "").await;
    assert_eq!(draft.status, StatusCode::CREATED, "{draft:#?}");
    assert_eq!(draft.json["id"], first.digest.to_string());
    assert_eq!(draft.json["isPublished"], false);
    assert_eq!(upload(&first.bytes, "").await.status, StatusCode::OK, "it is there already");

    let body = json!({ "input": { "name": "Ada" } });
    let refused = server.post(RUNS, body.clone()).await;
    refused.is_problem(409, "nothing-published");
    assert_eq!(refused.json["hint"], "name a revision, or publish one first");
    let named = json!({ "input": { "name": "Ada" }, "revision": first.digest.hex()[..8] });
    assert_eq!(server.post(RUNS, named).await.json["revisionId"], first.digest.to_string());

    let published = upload(&second.bytes, "?publish=true").await;
    assert_eq!(published.json["isPublished"], true, "{published:#?}");
    let agent = server.get("/v0.1/agents/minimal").await.json;
    assert_eq!((&agent["isPublished"], &agent["hasChanges"]), (&json!(true), &json!(false)));
    assert_eq!(server.post(RUNS, body.clone()).await.json["revisionId"], second.digest.to_string());

    let publish = json!({ "revision": first.digest.to_string() });
    let rolled = server.post("/v0.1/agents/minimal/publish", publish).await;
    assert_eq!(rolled.status, StatusCode::OK, "{rolled:#?}");
    let agent = server.get("/v0.1/agents/minimal").await.json;
    assert_eq!((&agent["isPublished"], &agent["hasChanges"]), (&json!(true), &json!(true)));
    assert_eq!(server.post(RUNS, body).await.json["revisionId"], first.digest.to_string());

    let path = format!("/v0.1/agents/minimal/revisions/{}", second.digest);
    let diff = server.get(&format!("{path}/diff?from={}", first.digest)).await.json;
    assert_eq!(diff["changes"][0]["path"], "/description");
    assert_eq!(diff["changes"][0]["to"], "another one");
    let file = server.request(Method::GET, &format!("{path}/component")).send().await.unwrap();
    assert_eq!(file.headers()["content-type"], "application/wasm");
    assert_eq!(file.bytes().await.unwrap(), second.bytes[..]);
}

#[tokio::test]
async fn more_tools_have_to_be_wanted() {
    let server = Server::keeping(home());
    let greedy = resealed(&guest("minimal"), |manifest| {
        manifest.tools = vec!["http.get".parse().unwrap()];
    });
    let upload = async |query: &str| {
        let path = format!("/v0.1/agents/minimal/revisions?publish=true{query}");
        let request =
            server.request(Method::POST, &path).header("content-type", "application/wasm");
        answer(request.body(greedy.bytes.to_vec())).await
    };
    let refused = upload("").await;
    refused.is_problem(409, "asks-for-more");
    assert!(refused.json["detail"].as_str().unwrap().contains("http.get"), "{refused:#?}");
    assert_eq!(upload("&allowNewTools=true").await.json["isPublished"], true);
}

#[tokio::test]
async fn an_agent_can_be_named_without_a_new_revision() {
    let server = Server::keeping(home());
    let path = "/v0.1/agents/minimal";
    let patch = server.request(Method::PATCH, path).json(&json!({ "name": "The counter" }));
    let agent = answer(patch).await.json;
    assert_eq!((&agent["id"], &agent["name"]), (&json!("minimal"), &json!("The counter")));
    let revisions = server.get(&format!("{path}/revisions")).await.json;
    assert_eq!(revisions["items"].as_array().unwrap().len(), 1);

    let new = json!({ "id": "later", "description": "To come" });
    let created = server.post("/v0.1/agents", new.clone()).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:#?}");
    assert_eq!(created.json["isPublished"], false);
    server.post("/v0.1/agents", new).await.is_problem(409, "agent-exists");
    let bad = server.post("/v0.1/agents", json!({ "id": "No Good" })).await;
    bad.is_problem(422, "bad-agent-id");
    let run = server.post("/v0.1/agents/later/runs", json!({ "input": {} })).await;
    run.is_problem(409, "nothing-published");
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|agent| agent["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = server.get("/v0.1/agents?limit=2").await.json;
    assert_eq!(ids(&first), ["hostile", "later"]);
    let next = first["next"].as_str().unwrap();
    let second = server.get(&format!("/v0.1/agents?limit=2&cursor={next}")).await.json;
    assert_eq!((ids(&second), &second["next"]), (vec!["minimal".to_owned()], &Value::Null));
}

#[tokio::test]
async fn a_request_sent_twice_makes_one_run() {
    let server = Server::keeping(home());
    let send = async |name: &str, text: &str| {
        let body = json!({ "input": { "name": text } });
        answer(server.request(Method::POST, RUNS).header("idempotency-key", name).json(&body)).await
    };
    let first = send("order-7", "a").await;
    let again = send("order-7", "a").await;
    assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::OK));
    assert_eq!(first.json["id"], again.json["id"]);
    send("order-7", "b").await.is_problem(422, "idempotency-key-of-another-request");
    assert_ne!(send("order-8", "a").await.json["id"], first.json["id"]);
    send("", "a").await.is_problem(400, "bad-idempotency-key");
    send(&"x".repeat(256), "a").await.is_problem(400, "bad-idempotency-key");

    let at_once = futures::future::join_all((0..16).map(|_| send("order-9", "a"))).await;
    let new = at_once.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
    assert_eq!(new, 1, "{at_once:#?}");
    assert!(at_once.iter().all(|answer| answer.json["id"] == at_once[0].json["id"]));
}

#[tokio::test]
async fn runs_are_listed_in_pages_and_by_filter() {
    let server = Server::keeping(home());
    let mut runs = Vec::new();
    for n in 0..5 {
        let run = server.starts("minimal", json!({ "name": n.to_string() })).await;
        server.ended(&run).await;
        runs.push(run);
    }
    let failed = server.starts("hostile", json!({ "do": "fail" })).await;
    server.ended(&failed).await;
    runs.reverse();
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = server.get(&format!("{RUNS}?limit=3")).await.json;
    assert_eq!(ids(&first), runs[..3]);
    let cursor = first["next"].as_str().unwrap();
    let second = server.get(&format!("{RUNS}?limit=3&cursor={cursor}")).await.json;
    assert_eq!((ids(&second), &second["next"]), (runs[3..].to_vec(), &Value::Null));
    let errors = server.get("/v0.1/agents/hostile/runs?status=error").await.json;
    assert_eq!(ids(&errors), std::slice::from_ref(&failed));
    assert_eq!(ids(&server.get(&format!("{RUNS}?status=error")).await.json), [""; 0]);
    let revision = guest("minimal").digest.to_string();
    let of_it = server.get(&format!("{RUNS}?revision={}&limit=100", &revision[..20])).await.json;
    assert_eq!(ids(&of_it).len(), 5);
    server.get(&format!("{RUNS}?status=waiting")).await.is_problem(400, "bad-query");
    server.get(&format!("{RUNS}?nonsense=1")).await.is_problem(400, "bad-query");
    server.get(&format!("{RUNS}?cursor=none")).await.is_problem(404, "unknown-run");
}

#[tokio::test]
async fn a_run_is_cancelled_where_it_is() {
    let server = Server::keeping(home());
    let cancel = async |run: &str| {
        answer(server.request(Method::POST, &format!("/v0.1/runs/{run}/cancel"))).await
    };
    let asleep = server.starts("hostile", json!({ "do": "sleep", "n": 3_600 })).await;
    server.run_that(&asleep, |run| run["waits"]["for"] == "sleep").await;
    let busy = server.starts("hostile", json!({ "do": "loop" })).await;
    server.run_that(&busy, |run| run["status"] == "running").await;
    for run in [&asleep, &busy] {
        assert_eq!(cancel(run).await.status, StatusCode::OK);
        let ended = server.ended(run).await;
        assert_eq!(ended["error"]["code"], "cancelled", "{ended:#}");
        server.proves(run).await;
        let again = cancel(run).await;
        assert_eq!((again.status, &again.json), (StatusCode::OK, &ended), "it stays as it is");
    }
    cancel("nothing").await.is_problem(404, "unknown-run");
}

#[tokio::test]
async fn a_run_is_exported_and_replayed_anywhere() {
    let home = home();
    let server = Server::on(&home);
    let run = server.starts("minimal", json!({ "name": "Ada" })).await;
    server.ended(&run).await;
    let request = server.request(Method::GET, &format!("/v0.1/runs/{run}/export"));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let file = home.path().join("run.reenact");
    std::fs::write(&file, response.bytes().await.unwrap()).unwrap();
    let said = crate::support::replays_offline(&file);
    assert!(said.stdout.contains(&run), "{said:?}");
}

#[tokio::test]
async fn a_record_that_was_changed_does_not_prove_itself() {
    let home = home();
    let server = Server::on(&home);
    let run = server.starts("minimal", json!({ "name": "Ada" })).await;
    server.ended(&run).await;
    let db = rusqlite::Connection::open(home.path().join("reenact.db")).unwrap();
    db.execute("DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)", []).unwrap();
    let proof = answer(server.request(Method::POST, &format!("/v0.1/runs/{run}/replay"))).await;
    assert_eq!((proof.status, &proof.json["same"]), (StatusCode::OK, &json!(false)), "{proof:#?}");
    assert!(proof.json["damage"]["what"].as_str().unwrap().contains("the run ended with"));
}

#[tokio::test]
async fn it_says_how_it_is() {
    let server = Server::keeping(home());
    let run = server.starts("minimal", json!({ "name": "Ada" })).await;
    server.ended(&run).await;
    assert_eq!(server.get("/healthz").await.json, "ok\n");
    assert_eq!(server.get("/readyz").await.json, "ready\n");
    let metrics = server.get("/metrics").await.json;
    let metrics = metrics.as_str().unwrap();
    for line in [
        r#"reenact_runs_ended_total{agent="minimal",status="done",code=""} 1"#,
        r#"reenact_runs{state="queued"} 0"#,
        r#"reenact_run_duration_seconds_count{agent="minimal"} 1"#,
        "reenact_run_memory_bytes_count 1",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn the_log_is_text_or_json() {
    let home = home();
    for (form, is_json) in [("text", false), ("json", true)] {
        let server = Server::with(&home, "127.0.0.1:0", &["--log", form]);
        let run = server.starts("minimal", json!({ "name": "Ada" })).await;
        server.ended(&run).await;
        let (_, log) = server.stop();
        let line = log.lines().find(|line| line.contains(&run)).unwrap_or_else(|| panic!("{log}"));
        let parsed: Option<Value> = serde_json::from_str(line).ok();
        assert_eq!(parsed.is_some_and(|line| line["message"] == "ended"), is_json, "{line}");
    }
}

#[tokio::test]
async fn a_run_is_forked_and_goes_on_with_another_answer() {
    let home = configured("[grants.files]\nroot = 'x'");
    std::fs::create_dir(home.path().join("x")).unwrap();
    let server = Server::keeping(home);
    let calls = "files.list {\"path\":\"\"}\nfiles.list {\"path\":\"\"}";
    let parent = server.starts("hostile", json!({ "do": "calls", "text": calls })).await;
    server.ended(&parent).await;
    // The start, a call and its answer.
    let wish = json!({ "at": 2, "setResult": { "entries": ["made up"] } });
    let path = format!("/v0.1/runs/{parent}/fork");
    let request = server.request(Method::POST, &format!("{path}?wait=60")).json(&wish);
    let fork = answer(request.header("idempotency-key", "fork-1")).await;
    assert_eq!(fork.status, StatusCode::CREATED, "{fork:#?}");
    assert_eq!(fork.json["status"], "done", "{fork:#?}");
    assert_eq!(fork.json["forkedFrom"], json!({ "runId": parent, "at": 2 }));
    assert!(fork.json["resultData"].to_string().contains("made up"), "{fork:#?}");
    let id = fork.json["id"].as_str().unwrap();
    server.proves(id).await;
    assert_eq!(server.run(&parent).await["forkedFrom"], Value::Null);
    let again = server.request(Method::POST, &path).json(&wish);
    let again = answer(again.header("idempotency-key", "fork-1")).await;
    assert_eq!((again.status, &again.json["id"]), (StatusCode::OK, &fork.json["id"]));

    for (wish, status, kind) in [
        (json!({ "at": 99 }), 422, "impossible-fork"),
        (json!({ "at": 1, "setResult": 1 }), 422, "impossible-fork"),
        (json!({ "at": 2, "revision": "0000" }), 404, "unknown-revision"),
        (json!({ "at": -1 }), 422, "invalid-body"),
    ] {
        server.post(&path, wish).await.is_problem(status, kind);
    }
}

//! `SIGKILL` to the real server: nothing that was acknowledged is lost, and no call that
//! was answered is made twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::future::join_all;
use reenact::revision::Manifest;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Server;
use crate::support::{Home, guest, resealed};

/// A real tool server, over MCP. It counts each call by what it is given, takes its time,
/// and says of one of its tools that repeating it does no harm.
#[derive(Clone, Default)]
pub struct Counter {
    pub calls: Arc<Mutex<HashMap<String, u64>>>,
    pub takes: Duration,
}

impl Counter {
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counter = self.clone();
        let answer = move |body: Bytes| {
            let counter = counter.clone();
            async move { counter.answer(&serde_json::from_slice(&body).unwrap()).await }
        };
        let app = Router::new().route("/mcp", post(answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/mcp")
    }

    async fn answer(&self, message: &Value) -> Response {
        let tool = |name: &str, idempotent: bool| {
            json!({
                "name": name,
                "inputSchema": { "type": "object" },
                "annotations": { "idempotentHint": idempotent, "readOnlyHint": false },
            })
        };
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "counter", "version": "1" },
            }),
            Some("tools/list") => json!({ "tools": [tool("add", false), tool("set", true)] }),
            Some("tools/call") => {
                let params = &message["params"];
                let call = format!("{} {}", params["name"].as_str().unwrap(), params["arguments"]);
                *self.calls.lock().unwrap().entry(call).or_default() += 1;
                tokio::time::sleep(self.takes).await;
                json!({ "content": [{ "type": "text", "text": "done" }] })
            }
            _ => return StatusCode::ACCEPTED.into_response(),
        };
        let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
        ([("content-type", "application/json")], answer.to_string()).into_response()
    }

    pub fn made(&self, tool: &str, id: &str) -> u64 {
        let call = format!("{tool} {}", json!({ "id": id }));
        self.calls.lock().unwrap().get(&call).copied().unwrap_or(0)
    }
}

/// A home with an agent that may call the counter, and no time to lose over leases.
pub fn home(url: &str) -> Home {
    let home = Home::new();
    let may_count = |manifest: &mut Manifest| manifest.tools = vec!["counter.*".parse().unwrap()];
    home.publishes(&resealed(&guest("hostile"), may_count));
    let config = format!("[grants.mcp.servers.counter]\nurl = '{url}'\ntrusted = true\n");
    std::fs::write(home.path().join("reenact.toml"), config).unwrap();
    home
}

/// The calls of one run: `add` is not to be repeated, `set` may be.
pub fn input(run: &str, calls: usize) -> Value {
    let call = |index: usize| {
        let tool = if index.is_multiple_of(2) { "add" } else { "set" };
        format!("counter.{tool} {}", json!({ "id": format!("{run}-{index}") }))
    };
    let calls: Vec<String> = (0..calls).map(call).collect();
    json!({ "do": "calls", "text": calls.join("\n") })
}

/// As if the time of every lease had gone by: a killed process cannot give them back.
pub fn leases_lapse(home: &Home) {
    let db = rusqlite::Connection::open(home.path().join("reenact.db")).unwrap();
    db.busy_timeout(Duration::from_secs(30)).unwrap();
    db.execute("UPDATE runs SET lease_until = 0", []).unwrap();
}

/// Holds what the counter saw against the rule, for a run that has ended.
///
/// `kills` is how often the server died while the run was under way.
fn check_calls(counter: &Counter, ended: &Value, run: &str, calls: usize, kills: u64) {
    assert_eq!(ended["status"], "done", "{ended:#}");
    let told = ended["resultData"]["result"]["calls"].as_array().unwrap();
    assert_eq!(told.len(), calls, "{ended:#}");
    for (index, told) in told.iter().enumerate() {
        let tool = if index.is_multiple_of(2) { "add" } else { "set" };
        let made = counter.made(tool, &format!("{run}-{index}"));
        let was_lost = told.to_string().contains("interrupted");
        match tool {
            "add" if was_lost => assert!(made <= 1, "`add` was repeated: {made} {ended:#}"),
            "add" => assert_eq!(made, 1, "{ended:#}"),
            _ => {
                assert!(!was_lost, "`set` may be repeated: {ended:#}");
                assert!((1..=1 + kills).contains(&made), "{made} {ended:#}");
            }
        }
    }
}

/// Waits until so many entries of a run are durable, or it has ended.
async fn grows_to(server: &Server, run: &str, entries: u64) -> bool {
    let is_there =
        |run: &Value| run["entries"].as_u64() >= Some(entries) || run["status"] == "done";
    let found = server.run_that(run, is_there).await;
    found["status"] != "done"
}

// Several threads: the counter answers while a server is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn at_every_entry_of_a_run() {
    const CALLS: usize = 4;
    let counter = Counter { takes: Duration::from_millis(120), ..Counter::default() };
    let home = home(&counter.serve().await);
    // The start, a call and its answer each, the end.
    let entries = 2 + 2 * CALLS as u64;
    let mut killed = 0;
    for at in 1..entries {
        let server = Server::on(&home);
        let name = format!("at-{at}");
        let run = server.starts("hostile", input(&name, CALLS)).await;
        let is_under_way = grows_to(&server, &run, at).await;
        server.kill();
        killed += u64::from(is_under_way);
        leases_lapse(&home);

        let server = Server::on(&home);
        let ended = server.ended(&run).await;
        check_calls(&counter, &ended, &name, CALLS, 1);
        server.proves(&run).await;
    }
    assert!(killed >= entries - 2, "only {killed} of the runs were under way");
    let all = home.json(&["replay", "--all", "--json"]);
    assert_eq!((&all["failed"], &all["runs"]), (&json!([]), &json!(entries - 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_again_and_again() {
    const CALLS: usize = 6;
    let counter = Counter { takes: Duration::from_millis(100), ..Counter::default() };
    let home = home(&counter.serve().await);
    let server = Server::on(&home);
    let run = server.starts("hostile", input("again", CALLS)).await;
    server.kill();
    let mut kills = 1;
    let ended = loop {
        leases_lapse(&home);
        let server = Server::on(&home);
        let entries = server.run(&run).await["entries"].as_u64().unwrap();
        if !grows_to(&server, &run, entries + 1).await {
            server.proves(&run).await;
            break server.run(&run).await;
        }
        server.kill();
        kills += 1;
    };
    assert!(kills >= 5, "{kills}");
    check_calls(&counter, &ended, "again", CALLS, kills);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_random_moments_under_load() {
    const CALLS: usize = 3;
    const KILLS: u64 = 6;
    let counter = Counter { takes: Duration::from_millis(20), ..Counter::default() };
    let home = home(&counter.serve().await);
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    for kill in 0..KILLS {
        let server = Arc::new(Server::on(&home));
        let begun = Instant::now();
        // Odd lives, so that it dies at all kinds of moments.
        let life = Duration::from_millis(300 + 173 * kill);
        let clients = (0..8).map(|client| {
            let server = Arc::clone(&server);
            async move {
                let mut started = Vec::new();
                for number in 0.. {
                    if begun.elapsed() > life {
                        break;
                    }
                    let name = format!("{kill}-{client}-{number}");
                    let body = json!({ "input": input(&name, CALLS) });
                    let path = "/v0.1/agents/hostile/runs";
                    let request = server.request(reqwest::Method::POST, path).json(&body);
                    // Whoever hears nothing does not know, and is owed nothing.
                    let Ok(response) = request.send().await else { break };
                    let Ok(run) = response.json::<Value>().await else { break };
                    started.push((run["id"].as_str().unwrap().to_owned(), name));
                }
                started
            }
        });
        let killed = async {
            tokio::time::sleep(life - Duration::from_millis(50)).await;
            let pid = server.pid().to_string();
            std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        };
        let (started, ()) = tokio::join!(join_all(clients), killed);
        acknowledged.extend(started.into_iter().flatten());
        drop(server);
        leases_lapse(&home);
    }
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());

    let server = Server::on(&home);
    for (run, name) in &acknowledged {
        let ended = server.ended(run).await;
        check_calls(&counter, &ended, name, CALLS, KILLS);
    }
    assert_eq!(server.stop().0, Some(0));
    let all = home.json(&["replay", "--all", "--json"]);
    assert_eq!(all["failed"], json!([]));
    assert!(all["runs"].as_u64().unwrap() >= acknowledged.len() as u64);
}

/// Nobody puts the leases back this time: they run out.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_waits_for_the_leases_of_the_dead() {
    let counter = Counter { takes: Duration::from_millis(500), ..Counter::default() };
    let home = home(&counter.serve().await);
    let server = Server::on(&home);
    let run = server.starts("hostile", input("lease", 2)).await;
    grows_to(&server, &run, 2).await;
    server.kill();
    let begun = Instant::now();
    let server = Server::on(&home);
    let ended = server.ended(&run).await;
    check_calls(&counter, &ended, "lease", 2, 1);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(40), "{took:?}");
    server.proves(&run).await;
}

//! Many runs at once: all of them end, and memory has an end too.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};

use super::killed::{self, Counter};
use super::{Server, answer, configured, home};

/// A number that the server counts.
async fn counted(server: &Server, name: &str) -> u64 {
    let metrics = server.get("/metrics").await.json;
    let line = metrics.as_str().unwrap().lines().find(|line| line.starts_with(name));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_thousand_runs_wait_at_once() {
    const RUNS: usize = 1_000;
    let home = home();
    let server = Server::on(&home);
    let before = server.resident();
    let start = |_| server.starts("hostile", json!({ "do": "sleep", "n": 30 }));
    let begun = Instant::now();
    let runs: Vec<String> = stream::iter(0..RUNS).map(start).buffer_unordered(16).collect().await;
    let asleep = r#"reenact_runs{state="sleeping"}"#;
    while counted(&server, asleep).await < RUNS as u64 {
        let waiting = counted(&server, asleep).await;
        assert!(begun.elapsed() < Duration::from_secs(29), "only {waiting} have come to wait");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let loaded = counted(&server, r#"reenact_runs{state="loaded"}"#).await;
    assert_eq!(loaded, 0, "what waits is not loaded");
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 200 << 20, "{grown}");

    for run in &runs {
        let ended = server.ended(run).await;
        assert_eq!(ended["status"], "done", "{ended:#}");
    }
    for run in runs.iter().step_by(100) {
        server.proves(run).await;
    }
}

/// A tool server that takes its time: the guests that wait for it are unloaded.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_runs_wait_for_a_slow_tool() {
    const RUNS: usize = 1_000;
    let counter = Counter { takes: Duration::from_secs(10), ..Counter::default() };
    let home = killed::home(&counter.serve().await);
    let config = home.path().join("reenact.toml");
    let granted = std::fs::read_to_string(&config).unwrap();
    let server = "[server]\nparallel = 8\nparallel_per_agent = 8\npatience_ms = 100\n";
    std::fs::write(&config, format!("{server}{granted}")).unwrap();
    let server = Server::on(&home);
    let before = server.resident();
    let start =
        |number: usize| server.starts("hostile", killed::input(&format!("slow-{number}"), 1));
    let runs: Vec<String> = stream::iter(0..RUNS).map(start).buffer_unordered(16).collect().await;
    let mut most = 0;
    for run in &runs {
        most = most.max(counted(&server, r#"reenact_runs{state="unloaded"}"#).await);
        let ended = server.ended(run).await;
        assert_eq!(ended["status"], "done", "{ended:#}");
    }
    assert!(most > 100, "{most} waited at once, with 8 places");
    assert!(server.resident().saturating_sub(before) < 300 << 20);
    for number in 0..RUNS {
        assert_eq!(counter.made("add", &format!("slow-{number}-0")), 1);
    }
    server.proves(&runs[0]).await;
}

#[tokio::test]
async fn a_minute_of_short_runs_loses_none() {
    let home = configured("[server]\nrequests_per_second = 100_000\nburst = 100_000");
    let server = Server::on(&home);
    let begun = Instant::now();
    let minute = Duration::from_secs(60);
    let mut memory = Vec::new();
    let mut started: Vec<String> = Vec::new();
    let mut refused = 0;
    while begun.elapsed() < minute {
        let start = |number: usize| {
            let body = json!({ "input": { "name": number.to_string() } });
            let request = server.request(Method::POST, "/v0.1/agents/minimal/runs").json(&body);
            answer(request)
        };
        let answers =
            stream::iter(0..500).map(start).buffer_unordered(32).collect::<Vec<_>>().await;
        for answer in answers {
            match answer.status.as_u16() {
                201 => started.push(answer.json["id"].as_str().unwrap().to_owned()),
                503 => refused += 1,
                _ => panic!("{answer:#?}"),
            }
        }
        memory.push(server.resident());
    }
    assert!(started.len() > 1_000, "{} started, {refused} refused", started.len());
    let ended = r#"reenact_runs_ended_total{agent="minimal",status="done"#;
    let patience = Instant::now();
    while counted(&server, ended).await < started.len() as u64 {
        assert!(patience.elapsed() < super::PATIENCE, "{}", counted(&server, ended).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Measured once all caches are warm, then at the end.
    let (early, last) = (memory[memory.len() / 3], memory[memory.len() - 1]);
    assert!(last < early + (64 << 20), "{memory:?}");
    for run in started.iter().step_by(started.len() / 20) {
        let run: Value = server.run(run).await;
        assert_eq!(run["status"], "done", "{run:#}");
    }
}

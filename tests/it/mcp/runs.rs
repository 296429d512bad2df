//! Runs of a guest that calls tools of servers: recorded, and replayed without them.

use std::sync::Arc;

use reenact::journal::Body;
use reenact::revision::{Digest, Revision};
use serde_json::json;

use super::*;
use crate::servers::{node_server, time_server};
use crate::support::{Home, Lab, Record, guest, replays_offline, resealed};

/// A guest that calls what it is told to.
fn guest_that_asks_for(tools: &[&str]) -> Arc<Revision> {
    resealed(&guest("hostile"), |manifest| {
        manifest.tools = tools.iter().map(|tool| tool.parse().unwrap()).collect();
    })
}

/// The same guest as a sealed file.
pub fn caller(tools: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("caller.wasm");
    std::fs::write(&file, &guest_that_asks_for(tools).bytes).unwrap();
    (folder, file)
}

async fn run(catalogue: Catalogue, tools: &[&str], calls: &[&str], timeout_ms: u64) -> Record {
    let input = json!({ "do": "calls", "text": calls.join("\n") });
    let lab = Lab::new();
    let revision = guest_that_asks_for(tools);
    let start = lab.run(&revision, input).limits(|limits| limits.tool_timeout_ms = timeout_ms);
    start.catalogue(catalogue).ends().await
}

fn outcomes(record: &Record) -> Vec<String> {
    let json = record.json();
    let outcome = |call: &Value| match call["code"].as_str() {
        Some(code) => code.to_owned(),
        None => "answered".to_owned(),
    };
    json["calls"].as_array().unwrap().iter().map(outcome).collect()
}

#[tokio::test]
async fn a_run_is_recorded_with_schemas_and_sources_and_replays_without_its_servers() {
    let servers = Servers::new(json!({
        "everything": { "command": "node", "args": [node_server("everything"), "stdio"] },
        "time": { "command": time_server() },
    }));
    let catalogue = servers.open().await;
    let calls = [
        r#"everything.get-resource-links {"count":2}"#,
        r#"time.get_current_time {"timezone":"UTC"}"#,
        r#"everything.get-sum {"a":"no number"}"#,
        r#"time.convert_time {}"#,
        r#"everything.echo {"message":"not asked for"}"#,
    ];
    let asked = ["everything.get-resource-links", "everything.get-sum", "time.*"];
    let record = run(catalogue, &asked, &calls, 30_000).await;
    let invalid = "invalid-arguments";
    assert_eq!(outcomes(&record), ["answered", "answered", invalid, invalid, "denied"]);

    let entries = record.entries();
    let Body::Started(started) = &entries[0].body else { panic!("{:?}", entries[0]) };
    let granted: Vec<&str> = started.tools.iter().map(|tool| &*tool.name).collect();
    let expected = [
        "everything.get-resource-links",
        "everything.get-sum",
        "time.convert_time",
        "time.get_current_time",
    ];
    assert_eq!(granted, expected);
    for tool in &started.tools {
        let schema = serde_json_canonicalizer::to_vec(&tool.parameters.to_value()).unwrap();
        assert_eq!(tool.schema, Some(Digest::of(&schema)), "{}", tool.name);
    }
    let answers = entries.iter().filter_map(|entry| match &entry.body {
        Body::ToolAnswered(answered) => Some(&answered.answer),
        _ => None,
    });
    let sources = answers.flat_map(|answer| match answer {
        Answer::Ok(output) => output.sources.clone(),
        Answer::Error(_) => Vec::new(),
    });
    assert_eq!(
        sources.map(|source| source.url).collect::<Vec<_>>()[1],
        "demo://resource/dynamic/text/2"
    );

    drop(servers);
    Lab::new().proves(&record).await;
}

#[tokio::test]
async fn a_run_goes_on_whatever_a_server_does() {
    let servers = Servers::odd(&[]);
    let catalogue = servers.open().await;
    let deeds = ["die", "malformed", "huge", "never", "wrong-id", "noise", "fail", "echo"];
    let calls = deeds.map(|deed| format!("odd.{deed} {{}}"));
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    let record = run(catalogue, &["odd.*"], &calls, 5_000).await;
    let expected =
        ["failed", "failed", "too-large", "timeout", "timeout", "answered", "failed", "answered"];
    assert_eq!(outcomes(&record), expected);
    drop(servers);
    Lab::new().proves(&record).await;
}

#[test]
fn a_run_from_the_command_line_exports_and_replays_elsewhere() {
    let servers = Servers::new(json!({
        "everything": {
            "command": "node",
            "args": [node_server("everything"), "stdio"],
            "env": { "CANARY": "${CANARY_TOKEN}" },
        },
    }));
    let home = Home::new();
    let (folder, agent) = caller(&["everything.*"]);
    let text = "everything.get-env {}\neverything.get-resource-links {}\n\
                everything.echo {\"message\":\"sk-canary-4711\"}";
    let input = json!({ "do": "calls", "text": text }).to_string();
    // The guest knows the canary from its input, so only what the tools say is clean.
    let input = input.replace("sk-canary-4711", "hello");
    let agent = agent.to_str().unwrap();
    let args = ["run", agent, "--input", &input, "--grant", &servers.flag(), "--json"];
    let ran = home.command(&args).env("CANARY_TOKEN", "sk-canary-4711").output().unwrap();
    let said = format!("{ran:?}");
    assert!(ran.status.success(), "{said}");
    let document: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert!(!said.contains("sk-canary-4711"));
    let id = document["id"].as_str().unwrap_or_else(|| panic!("{document}"));
    let exported = folder.path().join("run.reenact");
    home.ok(&["export", id, "-o", exported.to_str().unwrap()]);
    for file in walk(home.path()).into_iter().chain([exported.clone()]) {
        let bytes = std::fs::read(&file).unwrap();
        let holds = bytes.windows(14).any(|window| window == b"sk-canary-4711");
        assert!(!holds, "{}", file.display());
    }
    drop(servers);
    replays_offline(&exported);
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

//! The document that describes the API, and a program that holds the server to it.

use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Server, answer, home};
use crate::servers::schemathesis;
use crate::support::{Home, root};

#[tokio::test]
async fn the_committed_document_is_the_served_one() {
    let path = root().join("docs/openapi.json");
    let printed = Home::new().ok(&["serve", "--openapi"]);
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        printed == committed,
        "docs/openapi.json is not current: `reenact serve --openapi > docs/openapi.json` mends it"
    );
    let document: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let server = Server::keeping(home());
    assert_eq!(server.get("/openapi.json").await.json, document);
}

/// `schemathesis` makes requests of every kind that the document allows, and of many that
/// it does not, and looks whether the answers are as it says: first to whatever ids it makes
/// up, then to a run, an agent and a revision that are there.
#[tokio::test]
async fn schemathesis_finds_nothing() {
    let home = home();
    let key = home.ok(&["keys", "create", "schemathesis", "--scope", "admin"]);
    let server = Server::on(&home);
    let body = json!({ "input": { "name": "Ada" } });
    let request = server.request(Method::POST, "/v0.1/agents/minimal/runs?wait=60");
    let run = answer(request.bearer_auth(key.trim()).json(&body)).await.json;
    let text = |name: &str| run[name].as_str().unwrap().to_owned();
    let ids = format!(
        "[parameters]\n\"path.agentId\" = \"minimal\"\n\"path.runId\" = \"{}\"\n\
         \"path.revisionId\" = \"{}\"\n",
        text("id"),
        text("revisionId")
    );
    let folder = root().join("tests/servers");
    let settings = std::fs::read_to_string(folder.join("schemathesis.toml")).unwrap();
    let hooks = folder.join("schemathesis_hooks.py");
    for (name, more) in [("made-up.toml", ""), ("real.toml", &ids)] {
        let config = home.path().join(name);
        std::fs::write(&config, format!("hooks = {hooks:?}\n{settings}\n{more}")).unwrap();
        let mut command = Command::new(schemathesis());
        command.arg("--config-file").arg(config);
        command.args(["run", &format!("{}/openapi.json", server.url)]);
        command.args(["--header", &format!("X-API-Key: {}", key.trim())]);
        command.args(["--checks", "all", "--max-examples", "25", "--workers", "1"]);
        command.args(["--generation-deterministic", "--no-color", "--request-timeout", "60"]);
        command.current_dir(home.path()).env("PYTHONDONTWRITEBYTECODE", "1");
        let said = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let report = String::from_utf8_lossy(&said.stdout);
        assert!(said.status.success(), "{report}\n{}", String::from_utf8_lossy(&said.stderr));
    }
    assert_eq!(server.get("/readyz").await.json, "ready\n");
}

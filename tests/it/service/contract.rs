//! The document that describes the API, and a program that holds the server to it.

use std::process::Command;

use serde_json::Value;

use super::{Server, home};
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
/// it does not, and looks whether the answers are as it says.
#[tokio::test]
async fn schemathesis_finds_nothing() {
    let home = home();
    let server = Server::on(&home);
    let document = format!("{}/openapi.json", server.url);
    let mut command = Command::new(schemathesis());
    command.args(["run", &document, "--max-examples", "40", "--workers", "2"]);
    command.args(["--checks", "all", "--no-color", "--generation-deterministic"]);
    command.args(["--request-timeout", "30", "--wait-for-schema", "10"]);
    command.current_dir(home.path());
    let said = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let report = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{report}\n{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(server.get("/readyz").await.json, "ready\n");
}

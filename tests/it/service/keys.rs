//! Keys: who may do what, how often, and who is not served at all.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{Server, answer, configured, home, refusal};
use crate::support::Home;

/// Makes a key with these scopes; answers the key and its id.
fn key(home: &Home, scopes: &str) -> (String, String) {
    let key = home.json(&["keys", "create", "test", "--scope", scopes, "--json"]);
    let text = |name: &str| key[name].as_str().unwrap().to_owned();
    (text("key"), text("id"))
}

#[tokio::test]
async fn without_keys_only_this_machine_is_served() {
    let home = home();
    let refused = refusal(home.command(&["serve", "--listen", "0.0.0.0:0"]).output().unwrap());
    assert!(
        refused.contains("there are no keys, so `0.0.0.0:0` would serve everybody"),
        "{refused}"
    );
    assert!(refused.contains("keys create NAME"), "{refused}");

    let server = Server::on(&home);
    assert_eq!(server.get("/v0.1/agents").await.status, StatusCode::OK);
    let foreign = server.request(Method::GET, "/v0.1/agents").header("host", "evil.example");
    answer(foreign).await.is_problem(403, "foreign-host");
    let (_, log) = server.stop();
    assert!(log.contains("there are no keys, so only this machine is served"), "{log}");

    key(&home, "admin");
    drop(Server::at(&home, "0.0.0.0:0"));
}

#[tokio::test]
async fn each_request_needs_a_key_once_there_is_one() {
    let home = home();
    let (good, id) = key(&home, "admin");
    let server = Server::on(&home);
    let none = server.get("/v0.1/agents").await;
    none.is_problem(401, "no-key");
    assert!(none.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    server.get("/metrics").await.is_problem(401, "no-key");
    assert_eq!(server.get("/healthz").await.status, StatusCode::OK, "probes have no key");

    let with = async |name: &str, value: &str| {
        answer(server.request(Method::GET, "/v0.1/agents").header(name, value)).await
    };
    assert_eq!(with("authorization", &format!("Bearer {good}")).await.status, StatusCode::OK);
    assert_eq!(with("x-api-key", &good).await.status, StatusCode::OK);
    let other_home = crate::support::Home::new();
    let (foreign, _) = key(&other_home, "admin");
    let cut = &good[..good.len() - 1];
    for wrong in [foreign.as_str(), cut, &id, "nonsense", ""] {
        with("x-api-key", wrong).await.is_problem(401, "unknown-key");
        let bearer = with("authorization", &format!("Bearer {wrong}")).await;
        bearer.is_problem(401, "unknown-key");
    }
    with("authorization", &format!("Basic {good}")).await.is_problem(401, "unknown-key");
    with("authorization", "Bearer").await.is_problem(401, "unknown-key");
    let both = server.request(Method::GET, "/v0.1/agents").header("x-api-key", &good);
    answer(both.bearer_auth(&foreign)).await.is_problem(401, "two-keys");

    home.ok(&["keys", "revoke", &id]);
    with("x-api-key", &good).await.is_problem(401, "revoked-key");
    server.get("/v0.1/agents").await.is_problem(401, "no-key");
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say() {
    let home = home();
    let server = Server::on(&home);
    let (read, run, publish) = (key(&home, "read").0, key(&home, "run").0, key(&home, "publish").0);
    let does = async |key: &str, method: Method, path: &str| {
        let request = server.request(method, path).header("x-api-key", key);
        answer(request.json(&json!({ "input": { "name": "Ada" } }))).await.status
    };
    let runs = "/v0.1/agents/minimal/runs";
    assert_eq!(does(&read, Method::GET, runs).await, StatusCode::OK);
    assert_eq!(does(&read, Method::POST, runs).await, StatusCode::FORBIDDEN);
    assert_eq!(does(&run, Method::POST, runs).await, StatusCode::CREATED);
    assert_eq!(does(&run, Method::GET, runs).await, StatusCode::FORBIDDEN);
    assert_eq!(does(&run, Method::POST, "/v0.1/agents").await, StatusCode::FORBIDDEN);
    let accepted = does(&publish, Method::POST, "/v0.1/agents").await;
    assert_eq!(accepted, StatusCode::UNPROCESSABLE_ENTITY, "it is allowed, but is no agent");
}

#[tokio::test]
async fn a_key_is_not_used_without_end() {
    let home = configured("[server]\nrequests_per_second = 1\nburst = 3");
    let (first, second) = (key(&home, "read").0, key(&home, "read").0);
    let server = Server::on(&home);
    let get = async |key: &str| {
        answer(server.request(Method::GET, "/v0.1/agents").header("x-api-key", key)).await
    };
    for _ in 0..3 {
        assert_eq!(get(&first).await.status, StatusCode::OK);
    }
    let refused = get(&first).await;
    refused.is_problem(429, "too-many-requests");
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&seconds), "{seconds}");
    assert_eq!(get(&second).await.status, StatusCode::OK, "each key has its own");
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    assert_eq!(get(&first).await.status, StatusCode::OK);
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let home = Home::new();
    assert!(home.says(&["keys", "list"]).stderr.contains("no keys yet"));
    let said = home.says(&["keys", "create", "ci"]);
    let key = said.stdout.trim().to_owned();
    assert!(key.starts_with("rk_") && key.len() == 59, "{key}");
    let id = &key[..15];
    assert!(said.stderr.contains(&format!("key {id} may read,run")), "{}", said.stderr);
    let listed = home.ok(&["keys", "list"]);
    assert!(listed.contains(id) && listed.contains("ci") && !listed.contains(&key), "{listed}");
    let refused = home.fails(2, &["keys", "create", "x", "--scope", "read,write"]);
    assert!(refused.contains("`write` is no scope"), "{refused}");
    home.ok(&["keys", "revoke", &key]);
    assert!(home.fails(1, &["keys", "revoke", id]).contains("is revoked already"));
    assert!(home.fails(1, &["keys", "revoke", "rk_nothing"]).contains("there is no key"));

    let db = std::fs::read(home.path().join("reenact.db")).unwrap();
    let secret = &key.as_bytes()[16..];
    assert!(!db.windows(secret.len()).any(|window| window == secret), "only a hash is kept");
}

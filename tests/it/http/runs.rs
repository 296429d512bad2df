//! Whole runs: an agent fetches, its sources land in the result, and the run
//! replays with the server gone.

use std::fs;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use reenact::revision::ToolPattern;
use serde_json::{Value, json};

use super::Server;
use crate::support::{Home, Said, guest, resealed};

fn site() -> Router {
    Router::new()
        .route("/page", get(|| async { Html("<title>Fuel</title> is counted") }))
        .fallback(|| async { "other" })
}

/// A home, and an agent in it that asks for the tools of `http` and names `hosts`.
fn home(hosts: &[String]) -> (Home, String) {
    let home = Home::new();
    let file = home.path().join("fetcher.wasm");
    let revision = resealed(&guest("hostile"), |manifest| {
        manifest.tools = vec!["http.*".parse::<ToolPattern>().unwrap()];
        manifest.needs = [("http".to_owned(), json!({ "hosts": hosts }))].into_iter().collect();
    });
    fs::write(&file, &revision.bytes).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (home, file)
}

fn input(tool: &str, arguments: &Value) -> String {
    json!({ "do": "call", "text": format!("{tool} {arguments}") }).to_string()
}

/// The program blocks this thread, and the server must go on meanwhile.
async fn says(home: &Home, args: &[&str], environment: &[(&str, &str)]) -> Said {
    let mut command = home.command(args);
    command.envs(environment.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    output.into()
}

async fn run(home: &Home, args: &[&str]) -> Value {
    let said = says(home, args, &[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    serde_json::from_str(&said.stdout).unwrap()
}

#[tokio::test]
async fn a_run_that_fetches_replays_without_the_server() {
    let server = Server::start(site()).await;
    let (home, agent) = home(&[server.entry()]);
    let url = server.url("/page");
    let call = input("http.get", &json!({ "url": url }));
    let grant = format!("http={}", server.entry());
    let run = run(&home, &["run", &agent, "--input", &call, "--grant", &grant, "--json"]).await;
    let result = &run["resultData"]["result"];
    assert_eq!(result["ok"]["text"], "<title>Fuel</title> is counted", "{run}");
    assert_eq!(run["resultData"]["sources"], json!([{ "url": url, "title": "Fuel" }]));
    assert_eq!(server.log(), ["GET /page"]);

    let log = server.log();
    drop(server);
    let id = run["id"].as_str().unwrap();
    assert!(home.ok(&["replay", id]).contains("came out the same"));
    home.exports_and_replays_offline(id);
    assert_eq!(log, ["GET /page"]);
}

#[tokio::test]
async fn a_refusal_is_recorded_like_any_other_answer() {
    let server = Server::start(site()).await;
    let (home, agent) = home(&["example.com".to_owned()]);
    let call = input("http.fetch", &json!({ "url": server.url("/page") }));
    let grant = format!("http={},example.com", server.entry());
    let run = run(&home, &["run", &agent, "--input", &call, "--grant", &grant, "--json"]).await;
    let result = &run["resultData"]["result"];
    assert_eq!(result["code"], "denied");
    assert!(result["message"].as_str().unwrap().contains("the manifest does not name"), "{result}");
    assert_eq!(run["resultData"]["sources"], json!([]));
    assert_eq!(server.log(), [""; 0]);
    home.ok(&["replay", run["id"].as_str().unwrap()]);
}

#[tokio::test]
async fn what_the_configuration_injects_is_nowhere_in_the_home() {
    let echo = async |headers: axum::http::HeaderMap| format!("{headers:?}");
    let server = Server::start(Router::new().fallback(echo)).await;
    let (home, agent) = home(&[server.entry()]);
    let config = home.path().join("reenact.toml");
    let entry = server.entry();
    let text = format!(
        "[grants.http]\nhosts = ['{entry}']\nheaders.'http://{entry}'.X-Key = 'key ${{CANARY}}'\n"
    );
    fs::write(&config, text).unwrap();
    let call = input("http.fetch", &json!({ "url": server.url("/"), "method": "POST" }));
    let canary = "canary-5b1e77";
    let args = ["run", agent.as_str(), "--input", &call, "--json"];
    let said = says(&home, &args, &[("CANARY", canary)]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    let seen = server.seen().pop().unwrap();
    assert_eq!(seen.header("x-key"), Some("key canary-5b1e77"));
    let run: Value = serde_json::from_str(&said.stdout).unwrap();
    // One deed has one key, whenever it is sent.
    assert_eq!(
        seen.header("idempotency-key"),
        Some(format!("{}/0", run["id"].as_str().unwrap()).as_str())
    );
    let told = run["resultData"]["result"]["ok"]["text"].as_str().unwrap();
    assert!(told.contains("key [secret]"), "{told}");
    assert!(!said.stdout.contains(canary) && !said.stderr.contains(canary), "{said:#?}");
    for entry in fs::read_dir(home.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = if path.is_file() { fs::read(&path).unwrap() } else { continue };
        let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
        assert!(!found, "{}", path.display());
    }
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_not_asked() {
    let (server, proxy) = (Server::start(site()).await, Server::start(site()).await);
    let (home, agent) = home(&[server.entry()]);
    let call = input("http.get", &json!({ "url": server.url("/page") }));
    let grant = format!("http={}", server.entry());
    let proxy_url = proxy.url("");
    let names =
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let environment: Vec<_> = names.iter().map(|name| (*name, proxy_url.as_str())).collect();
    let args = ["run", agent.as_str(), "--input", &call, "--grant", &grant, "--json"];
    let said = says(&home, &args, &environment).await;
    assert!(said.stdout.contains("is counted"), "{said:#?}");
    assert_eq!((server.log(), proxy.log()), (vec!["GET /page".to_owned()], vec![]));
}

#[tokio::test]
async fn a_grant_that_is_wrong_names_itself() {
    let (home, agent) = home(&["example.com".to_owned()]);
    let call = input("http.get", &json!({ "url": "http://example.com/" }));
    let args = ["run", agent.as_str(), "--input", &call, "--grant", "http=https://example.com"];
    let said = says(&home, &args, &[]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(
        said.stderr
            .contains("cannot grant `http`: in `hosts`, `https://example.com` is not a host")
    );
    assert!(said.stderr.contains("grant it as `--grant http=HOST[,HOST…]`"), "{}", said.stderr);
}

//! Headers that the host adds: they reach their own host and nobody else, and no
//! answer tells them.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse};
use axum::routing::any;
use reenact::tools::{ToolErrorCode, Vault};
use serde_json::{Value, json};

use super::{Agent, Server, table};

const CANARY: &str = "sk-canary-7d1f0c";

fn heard(headers: &HeaderMap) -> String {
    headers.get("authorization").map_or("nothing", |value| value.to_str().unwrap()).to_owned()
}

/// A server that tells everybody what it was told.
fn gossip() -> Router {
    let text = async |headers: HeaderMap| format!("you said {}!", heard(&headers));
    let page = async |headers: HeaderMap| Html(format!("<title>{}</title>", heard(&headers)));
    let bytes =
        async |headers: HeaderMap| [b"\0\xFF", heard(&headers).as_bytes(), b"\xFE"].concat();
    let header = async |headers: HeaderMap| [("x-heard", heard(&headers))];
    let away = async |headers: HeaderMap, RawQuery(to): RawQuery| {
        let to = format!("{}?{}", to.unwrap(), heard(&headers).replace(' ', "+"));
        (StatusCode::FOUND, [("location", to)]).into_response()
    };
    Router::new()
        .route("/text", any(text))
        .route("/page", any(page))
        .route("/bytes", any(bytes))
        .route("/header", any(header))
        .route("/away", any(away))
        .fallback(|| async { ([("set-cookie", "session=1")], "hello") })
}

fn vault() -> Vault {
    Vault::new(BTreeMap::from([("TOKEN".to_owned(), CANARY.to_owned())]))
}

/// An agent of both servers; requests to `server` get the secret.
async fn agent(server: &Server, other: &Server) -> Agent {
    let hosts = [server.entry(), other.entry()];
    let grant = format!(
        "hosts = {hosts:?}\nheaders.'http://{}' = {{ Authorization = 'Bearer ${{TOKEN}}' }}",
        server.entry()
    );
    Agent::of(table(&grant), json!({ "hosts": hosts }), vault()).await
}

async fn servers() -> (Server, Server) {
    (Server::start(gossip()).await, Server::start(gossip()).await)
}

#[tokio::test]
async fn the_secret_reaches_its_host_and_no_answer_tells_it() {
    let (server, other) = servers().await;
    let agent = agent(&server, &other).await;
    for path in ["/text", "/page", "/bytes", "/header", "/none"] {
        let output = agent.call("http.fetch", json!({ "url": server.url(path) })).await.unwrap();
        assert_eq!(
            server.seen().pop().unwrap().header("authorization"),
            Some(format!("Bearer {CANARY}").as_str())
        );
        let all = format!("{output:?}");
        assert!(!all.contains("canary"), "{all}");
        let answer = output.content.to_value();
        match path {
            "/text" => assert_eq!(answer["text"], "you said Bearer [secret]!"),
            "/page" => assert_eq!(output.sources[0].title, "Bearer [secret]"),
            // `\0\xFFBearer [secret]\xFE`
            "/bytes" => assert_eq!(answer["base64"], "AP9CZWFyZXIgW3NlY3JldF3+"),
            "/header" => assert_eq!(answer["headers"]["x-heard"], "Bearer [secret]"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn no_cut_leaves_a_part_of_the_secret() {
    let (server, other) = servers().await;
    let agent = agent(&server, &other).await;
    for path in ["/text", "/bytes"] {
        for max in 0..60 {
            let answer = agent.fetch(json!({ "url": server.url(path), "max_bytes": max })).await;
            // `sk-` in base64, wherever it stands.
            for part in ["sk-", "c2st", "NrL", "zay"] {
                let told = answer.get("text").or(answer.get("base64")).unwrap().as_str().unwrap();
                assert!(!told.contains(part), "{max}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn another_host_never_gets_the_secret() {
    let (server, other) = servers().await;
    let agent = agent(&server, &other).await;
    let plain = agent.get(&other.url("/text")).await;
    assert_eq!(plain["text"], "you said nothing!");
    // From its own host to another, from there back, and within the other.
    let away = server.url(&format!("/away?{}", other.url("/text")));
    assert_eq!(agent.get(&away).await["text"], "you said nothing!");
    let back = other.url(&format!("/away?{}", server.url("/text")));
    assert_eq!(agent.get(&back).await["text"], "you said Bearer [secret]!");
    for seen in other.seen() {
        assert_eq!(seen.header("authorization"), None, "{seen:?}");
        assert_eq!(seen.header("referer"), None, "{seen:?}");
    }
}

#[tokio::test]
async fn an_agent_can_neither_set_nor_see_what_the_operator_sets() {
    let (server, other) = servers().await;
    let agent = agent(&server, &other).await;
    let arguments = |url: String| json!({ "url": url, "headers": { "AUTHORIZATION": "mine" } });
    let (code, why) = agent.fails(arguments(server.url("/text"))).await;
    assert_eq!(code, ToolErrorCode::InvalidArguments);
    let expected = format!(
        "the operator sets the header `authorization` for `{}`; leave it out",
        server.entry()
    );
    assert_eq!(why, expected);
    assert_eq!(server.log(), [""; 0]);
    // Where nobody sets it the agent may; and it stays behind on the way to another host.
    let own = agent.fetch(arguments(other.url("/text"))).await;
    assert_eq!(own["text"], "you said mine!");
    let away = other.url(&format!("/away?{}", server.url("/text")));
    assert_eq!(agent.fetch(arguments(away)).await["text"], "you said Bearer [secret]!");
}

#[tokio::test]
async fn an_agents_own_credentials_stay_with_the_host_they_were_given_to() {
    let (server, other) = servers().await;
    let agent = Agent::of_servers(&[&server, &other]).await;
    let fetch = async |to: String| -> Value {
        let url = server.url(&format!("/away?{to}"));
        let headers = json!({
            "Authorization": "mine", "Cookie": "a=b", "X-Api-Key": "mine",
            "Accept": "text/html", "Accept-Language": "de",
        });
        agent.fetch(json!({ "url": url, "headers": headers })).await
    };
    fetch(other.url("/x")).await;
    let seen = other.seen().pop().unwrap();
    for name in ["authorization", "cookie", "x-api-key", "referer"] {
        assert_eq!(seen.header(name), None);
    }
    assert_eq!(
        (seen.header("accept"), seen.header("accept-language")),
        (Some("text/html"), Some("de"))
    );
    fetch("/x".into()).await;
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.header("authorization"), seen.header("cookie")), (Some("mine"), Some("a=b")));
}

#[tokio::test]
async fn no_cookie_is_kept() {
    let (server, other) = servers().await;
    let agent = agent(&server, &other).await;
    for _ in 0..2 {
        assert_eq!(agent.get(&server.url("/")).await["headers"]["set-cookie"], "session=1");
    }
    assert!(server.seen().iter().all(|seen| seen.header("cookie").is_none()));
}

#[tokio::test]
async fn an_error_does_not_tell_the_secret_either() {
    let (server, other) = servers().await;
    let agent = agent(&server, &other).await;
    let to = "http://127.0.0.9:1/";
    let why = agent.denied(&server.url(&format!("/away?{to}"))).await;
    assert!(why.contains("redirects to `http://127.0.0.9:1/?Bearer+[secret]`"), "{why}");
}

//! Names that change where they lead: what counts is the address that is
//! connected to, each time.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use reenact::tools::ToolErrorCode;
use reenact::tools::http::Lookup;
use serde_json::json;

use super::{Agent, Server};

/// A name server that answers each question about a name with the next of its
/// answers; the last one stays.
pub struct Script(Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>);

impl Script {
    pub fn of(names: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|it| it.parse().unwrap()).collect();
        let names = names.iter().map(|(name, answers)| {
            (name.to_string(), answers.iter().map(parse).collect::<VecDeque<Vec<IpAddr>>>())
        });
        Arc::new(Self(Mutex::new(names.collect())))
    }
}

impl Lookup for Script {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut names = self.0.lock().unwrap();
        let Some(answers) = names.get_mut(&host) else {
            return ready(Err(io::Error::other("no such name"))).boxed();
        };
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        ready(Ok(next.unwrap())).boxed()
    }
}

/// Says who it is, and closes the connection, so that the next request looks the
/// name up again.
fn named(name: &'static str) -> Router {
    Router::new()
        .route(
            "/over",
            get(|| async { (StatusCode::FOUND, [("connection", "close"), ("location", "/")]) }),
        )
        .fallback(move || async move { ([("connection", "close")], name) })
}

/// Two servers on one port: one at an address that is granted, one at an address
/// that is not.
async fn granted_and_forbidden() -> (Server, Server) {
    loop {
        let granted = Server::at("127.0.0.2:0", named("granted")).await;
        let there = format!("127.0.0.1:{}", granted.port());
        // Somebody else may have the port there.
        if std::net::TcpListener::bind(&there).is_ok() {
            return (granted, Server::at(&there, named("forbidden")).await);
        }
    }
}

fn agent(granted: &Server, lookup: Arc<Script>) -> Agent {
    let host = format!("name.test:{}", granted.port());
    let grant = format!("hosts = ['{host}']\nallow_addresses = ['127.0.0.2/32']");
    Agent::looking_up(&grant, &[&host], lookup)
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_later_is_refused_then() {
    let (granted, forbidden) = granted_and_forbidden().await;
    let lookup = Script::of(&[("name.test", &[&["127.0.0.2"], &["127.0.0.1"], &["127.0.0.2"]])]);
    let agent = agent(&granted, lookup);
    let url = format!("http://name.test:{}/", granted.port());
    assert_eq!(agent.get(&url).await["text"], "granted");
    assert_eq!(
        agent.denied(&url).await,
        format!(
            "cannot fetch `{url}`: `name.test` leads to a loopback address, which the operator does \
             not grant; ask for it in `allow_addresses` of `[grants.http]`"
        )
    );
    assert_eq!(agent.get(&url).await["text"], "granted");
    assert_eq!((granted.log().len(), forbidden.log().len()), (2, 0));
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_after_a_redirect_is_refused_there() {
    let (granted, forbidden) = granted_and_forbidden().await;
    let lookup = Script::of(&[("name.test", &[&["127.0.0.2"], &["127.0.0.1"]])]);
    let agent = agent(&granted, lookup);
    let why = agent.denied(&format!("http://name.test:{}/over", granted.port())).await;
    assert!(why.contains("` redirects to `") && why.contains("a loopback address"), "{why}");
    assert_eq!((granted.log().len(), forbidden.log().len()), (1, 0));
}

#[tokio::test]
async fn of_several_addresses_only_those_that_are_granted_are_connected_to() {
    let (granted, forbidden) = granted_and_forbidden().await;
    let mixed: &[&str] = &["127.0.0.1", "::1", "169.254.169.254", "127.0.0.2", "10.0.0.1"];
    let agent = agent(&granted, Script::of(&[("name.test", &[mixed])]));
    for _ in 0..3 {
        let url = format!("http://name.test:{}/", granted.port());
        assert_eq!(agent.get(&url).await["text"], "granted");
    }
    assert_eq!((granted.log().len(), forbidden.log().len()), (3, 0));
}

#[tokio::test]
async fn a_dead_address_is_no_reason_to_try_a_forbidden_one() {
    let (granted, forbidden) = granted_and_forbidden().await;
    let agent = agent(&granted, Script::of(&[("name.test", &[&["127.0.0.2", "127.0.0.1"]])]));
    let url = format!("http://name.test:{}/", granted.port());
    drop(granted);
    let (code, why) = agent.fails(json!({ "url": url })).await;
    assert_eq!(code, ToolErrorCode::Failed, "{why}");
    assert!(why.contains("refused"), "{why}");
    assert_eq!(forbidden.log(), [""; 0]);
}

#[tokio::test]
async fn every_kind_of_forbidden_address_is_refused_behind_a_name() {
    let server = Server::at("[::]:0", named("reached")).await;
    let host = format!("*.test:{}", server.port());
    for (address, what) in [
        ("127.0.0.1", "a loopback address"),
        ("::1", "a loopback address"),
        ("::ffff:127.0.0.1", "a loopback address"),
        ("0.0.0.0", "an address of this very host"),
        ("::", "an address of this very host"),
        ("10.0.0.1", "a private address"),
        ("169.254.169.254", "the address of a cloud's metadata service"),
        ("fd00:ec2::254", "the address of a cloud's metadata service"),
        ("64:ff9b::7f00:1", "a loopback address"),
        ("2002:7f00:1::", "a loopback address"),
    ] {
        let lookup = Script::of(&[("a.test", &[&[address]])]);
        let agent = Agent::looking_up(&format!("hosts = ['{host}']"), &[&host], lookup);
        let why = agent.denied(&format!("http://a.test:{}/", server.port())).await;
        assert!(why.contains(&format!("`a.test` leads to {what}")), "{why}");
    }
    assert_eq!(server.log(), [""; 0]);
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_a_failure() {
    let grant = "hosts = ['*.test']";
    let lookup = Script::of(&[("empty.test", &[&[]])]);
    let agent = Agent::looking_up(grant, &["*.test"], lookup);
    for (host, word) in
        [("empty.test", "`empty.test` has no address"), ("none.test", "no such name")]
    {
        let (code, why) = agent.fails(json!({ "url": format!("http://{host}/") })).await;
        assert_eq!(code, ToolErrorCode::Failed);
        assert!(why.contains(word), "{why}");
    }
}

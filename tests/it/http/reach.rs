//! Where no request may go: other hosts, and addresses that are not public.

use axum::Router;
use axum::response::Redirect;
use axum::routing::{any, get};
use reenact::tools::{ToolErrorCode, Vault};
use serde_json::{Value, json};

use super::{Agent, Server, table};

fn anything() -> Router {
    Router::new().fallback(|| async { "reached" })
}

#[tokio::test]
async fn a_loopback_address_is_refused_in_every_spelling() {
    let server = Server::start(anything()).await;
    let all = format!("*:{}", server.port());
    let agent = Agent::with(&format!("hosts = ['{all}']"), &[&all]).await;
    for host in [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "127.000.000.001",
        "2130706433",
        "0x7f000001",
        "0X7F.1",
        "0x7f.0x0.0x0.0x1",
        "017700000001",
        "0177.0.0.1",
        "0177.0x0.0.1.",
        "127.255.255.254",
        "0",
        "0.0.0.0",
        "0x0",
        "127%2e0%2e0%2e1",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[0000::0001]",
        "[::]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::FFFF:7F00:0001]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "loc%61lhost",
        "ｌｏｃａｌｈｏｓｔ",
        "lo\tcal\nhost",
    ] {
        for url in [
            format!("http://{host}:{}/", server.port()),
            format!("HTTP://{host}:0{}", server.port()),
            format!("http:\\\\{host}:{}\\x", server.port()),
            format!("http:{host}:{}", server.port()),
        ] {
            let why = agent.denied(&url).await;
            assert!(why.contains("which the operator does not grant"), "{url}: {why}");
            assert!(why.contains("ask for it in `allow_addresses` of `[grants.http]`"), "{why}");
        }
    }
    assert_eq!(server.log(), [""; 0]);
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_by_what_they_are() {
    let agent = Agent::with("hosts = ['*', '*:8080']", &["*", "*:8080"]).await;
    for (host, what) in [
        ("10.0.0.1", "a private address"),
        ("172.16.0.1:8080", "a private address"),
        ("192.168.1.1", "a private address"),
        ("169.254.1.1", "a link-local address"),
        ("169.254.169.254", "the address of a cloud's metadata service"),
        ("0xa9fea9fe", "the address of a cloud's metadata service"),
        ("[::ffff:a9fe:a9fe]", "the address of a cloud's metadata service"),
        ("[64:ff9b::169.254.169.254]", "the address of a cloud's metadata service"),
        ("[fd00:ec2::254]", "the address of a cloud's metadata service"),
        ("100.100.100.200", "the address of a cloud's metadata service"),
        ("100.64.0.1", "a shared address of a provider's network"),
        ("0.1.2.3", "an address of this very host"),
        ("224.0.0.1", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
        ("240.0.0.1", "a reserved address"),
        ("198.18.0.1", "an address for benchmarks"),
        ("203.0.113.7", "an address for documentation"),
        ("[fe80::1]", "a link-local address"),
        ("[fd12:3456::1]", "a unique local address"),
        ("[ff02::1]", "a multicast address"),
        ("[2001:db8::1]", "an address for documentation"),
        ("[2002:a00:1::]", "a private address"),
        ("[2001:0:4136:e378:8000:63bf:f7f7:f7f7]", "an address of a tunnel to IPv4"),
    ] {
        let url = format!("http://{host}/latest/meta-data/");
        let why = agent.denied(&url).await;
        assert!(why.contains(&format!("it is {what}, which the operator does not grant")), "{why}");
    }
}

#[tokio::test]
async fn a_host_must_be_named_by_both_the_operator_and_the_manifest() {
    let server = Server::start(anything()).await;
    let (here, port) = (server.entry(), server.port());
    let url = server.url("/");
    let both = Agent::with(&format!("hosts = ['{here}']"), &[&here]).await;
    assert_eq!(both.get(&url).await["text"], "reached");

    let manifest_only = Agent::with("hosts = ['example.com']", &[&here]).await;
    assert_eq!(
        manifest_only.denied(&url).await,
        format!(
            "cannot fetch `{url}`: the operator does not grant `{here}`; ask for it in `hosts` of \
             `[grants.http]`"
        )
    );
    let operator_only = Agent::with(&format!("hosts = ['{here}']"), &["example.com"]).await;
    assert_eq!(
        operator_only.denied(&url).await,
        format!(
            "cannot fetch `{url}`: the manifest does not name `{here}`; add it to `hosts` under \
             `[needs.http]`"
        )
    );
    for needs in [json!(null), json!({}), json!({ "hosts": [] })] {
        let grant = table(&format!("hosts = ['{here}']"));
        let none = Agent::of(grant, needs, Vault::default()).await;
        let why = none.denied(&url).await;
        assert!(why.contains("the manifest names no hosts; name them as `hosts` under"), "{why}");
    }
    // Another port, and another name for the same place, are other hosts.
    both.denied(&format!("http://127.0.0.1:{}/", port ^ 1)).await;
    both.denied(&format!("http://localhost:{port}/")).await;
    both.denied(&format!("http://[::ffff:127.0.0.1]:{port}/")).await;
    both.denied("http://127.0.0.1/").await;
    assert_eq!(server.log(), ["GET /"]);
}

#[tokio::test]
async fn malformed_needs_are_a_clear_error() {
    let server = Server::start(anything()).await;
    for (needs, what) in [
        (json!(["a.com"]), "it is no table"),
        (json!({ "hosts": "a.com" }), "`hosts` is no list"),
        (json!({ "host": ["a.com"] }), "unknown key `host`"),
        (json!({ "hosts": ["*.*"] }), "`*.*` is not a host"),
        (json!({ "hosts": [server.entry(), 1] }), "`hosts` holds more than texts"),
    ] {
        let grant = table(&format!("hosts = ['{}']", server.entry()));
        let agent = Agent::of(grant, needs, Vault::default()).await;
        let why = agent.denied(&server.url("/")).await;
        assert!(why.starts_with("the manifest's `[needs.http]` is malformed: "), "{why}");
        assert!(why.contains(what), "{why}");
    }
    assert_eq!(server.log(), [""; 0]);
}

#[tokio::test]
async fn a_name_needs_its_address_granted_too() {
    let server = Server::start(anything()).await;
    let (entry, url) =
        (format!("localhost:{}", server.port()), format!("http://localhost:{}/", server.port()));
    let grant = format!("hosts = ['{entry}']");
    let why = Agent::with(&grant, &[&entry]).await.denied(&url).await;
    assert_eq!(
        why,
        format!(
            "cannot fetch `{url}`: `localhost` leads to a loopback address, which the operator \
             does not grant; ask for it in `allow_addresses` of `[grants.http]`"
        )
    );
    let grant = format!("{grant}\nallow_addresses = ['127.0.0.1/32']");
    let agent = Agent::with(&grant, &[&entry]).await;
    assert_eq!(agent.get(&url).await["text"], "reached");
    // A granted address is no granted host.
    agent.denied(&server.url("/")).await;
    assert_eq!(server.log(), ["GET /"]);
}

#[tokio::test]
async fn a_scheme_can_be_withheld_and_others_do_not_exist() {
    let server = Server::start(anything()).await;
    let entry = server.entry();
    let grant = format!("hosts = ['{entry}']\nschemes = ['https']");
    let why = Agent::with(&grant, &[&entry]).await.denied(&server.url("/")).await;
    assert!(why.ends_with("the scheme `http` is not granted, only `https`"), "{why}");
    let agent = Agent::of_servers(&[&server]).await;
    for url in
        ["file:///etc/passwd", "ftp://127.0.0.1/", "data:,x", "ws://127.0.0.1/", "unix:/run/x"]
    {
        let why = agent.denied(url).await;
        assert!(why.ends_with("is not granted, only `https`, `http`"), "{why}");
    }
    assert_eq!(server.log(), [""; 0]);
}

/// `/to?URL` redirects to URL with a 302.
fn redirects() -> Router {
    use axum::extract::RawQuery;
    use axum::http::StatusCode;
    let to =
        async |RawQuery(to): RawQuery| (StatusCode::FOUND, [("location", to.unwrap_or_default())]);
    Router::new()
        .route("/to", any(to))
        .route("/loop", get(|| async { Redirect::temporary("/loop") }))
        .route("/post/303", any(|| async { Redirect::to("/here") }))
        .route("/post/307", any(|| async { Redirect::temporary("/here") }))
        .route("/post/308", any(|| async { Redirect::permanent("/here") }))
        .fallback(|| async { "reached" })
}

#[tokio::test]
async fn redirects_are_followed_to_granted_places() {
    let (server, other) = (Server::start(redirects()).await, Server::start(anything()).await);
    let agent = Agent::of_servers(&[&server, &other]).await;
    let there = other.url("/there?q");
    let output =
        agent.call("http.get", json!({ "url": server.url(&format!("/to?{there}")) })).await;
    let output = output.unwrap();
    let answer = output.content.to_value();
    assert_eq!((&answer["status"], &answer["url"]), (&json!(200), &json!(there)));
    assert_eq!(output.sources[0].url, there);
    assert_eq!(other.log(), ["GET /there?q"]);
    let relative = agent.get(&server.url("/to?here")).await;
    assert_eq!(relative["url"], server.url("/here"));
}

#[tokio::test]
async fn no_redirect_leads_to_a_place_that_is_not_granted() {
    let (server, other) = (Server::start(redirects()).await, Server::start(anything()).await);
    let agent = Agent::of_servers(&[&server]).await;
    let (port, elsewhere) = (server.port(), other.port());
    for (to, why) in [
        (other.url("/"), "the manifest does not name"),
        (format!("//127.0.0.1:{elsewhere}/"), "the manifest does not name"),
        (format!("http://localhost:{port}/"), "the manifest does not name"),
        (format!("http://[::ffff:127.0.0.1]:{port}/"), "the manifest does not name"),
        ("http://169.254.169.254/latest/meta-data/".into(), "the manifest does not name"),
        ("file:///etc/passwd".into(), "the scheme `file` is not granted"),
        ("gopher://127.0.0.1/".into(), "the scheme `gopher` is not granted"),
        ("http://[::1".into(), "invalid IPv6 address"),
        (format!("http://user:pass@127.0.0.1:{port}/"), "a user name or a password"),
    ] {
        let from = server.url(&format!("/to?{to}"));
        let denied = agent.denied(&from).await;
        assert!(denied.contains(why) && denied.contains(" redirects"), "{to}: {denied}");
        assert!(!server.log().contains(&"GET /".to_owned()), "{to}");
    }
    assert_eq!(other.log(), [""; 0]);
    // Everybody is granted, but the addresses still are not.
    let all = ["*".to_owned(), format!("*:{elsewhere}"), server.entry()];
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let agent = Agent::with(&format!("hosts = {all:?}"), &all).await;
    for (to, what) in [
        (other.url("/"), "a loopback address"),
        (format!("http://0x7f.1:{elsewhere}/"), "a loopback address"),
        (format!("http://localhost:{elsewhere}/"), "a loopback address"),
        (format!("//[::ffff:7f00:1]:{elsewhere}/"), "a loopback address"),
        ("http://169.254.169.254/latest/".into(), "the address of a cloud's metadata service"),
        ("http://2852039166/latest/".into(), "the address of a cloud's metadata service"),
    ] {
        let denied = agent.denied(&server.url(&format!("/to?{to}"))).await;
        assert!(denied.contains(what) && denied.contains(" redirects to "), "{to}: {denied}");
    }
    assert_eq!(other.log(), [""; 0]);
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let server = Server::start(redirects()).await;
    let agent = Agent::of_servers(&[&server]).await;
    let url = server.url("/loop");
    let (code, why) = agent.fails(json!({ "url": url })).await;
    assert_eq!(
        (code, why),
        (ToolErrorCode::Failed, format!("`{url}` redirects more than 5 times"))
    );
    assert_eq!(server.log().len(), 6);
}

#[tokio::test]
async fn a_redirect_changes_the_method_as_it_should() {
    let server = Server::start(redirects()).await;
    let agent = Agent::of_servers(&[&server]).await;
    for (status, method, body) in [(303, "GET", ""), (307, "POST", "text"), (308, "POST", "text")] {
        let url = server.url(&format!("/post/{status}"));
        let arguments: Value = json!({ "url": url, "method": "POST", "body": "text" });
        assert_eq!(agent.fetch(arguments).await["url"], server.url("/here"));
        let seen = server.seen().pop().unwrap();
        assert_eq!((seen.method.as_str(), &seen.body[..]), (method, body.as_bytes()), "{status}");
        assert_eq!(seen.header("content-type").is_some(), !body.is_empty());
        assert_eq!(seen.header("idempotency-key"), (method == "POST").then_some("run/7"));
    }
}

//! HTTPS: who is trusted, HTTP/2, and no way back to plain HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{StatusCode, Version};
use axum::routing::get;
use axum::serve::Listener;
use reenact::tools::ToolErrorCode;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use super::rebinding::Script;
use super::{Agent, AllSeen, Server, noting};
use crate::support::root;

/// Accepts connections that are encrypted.
struct Encrypted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            // Who does not trust the certificate hangs up.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Makes a listener one for `localhost`, with a certificate of the tests' own authority.
pub fn acceptor(protocols: &[&[u8]]) -> TlsAcceptor {
    let file = |name: &str| root().join("tests/tls").join(name);
    let chain = CertificateDer::pem_file_iter(file("server.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn encrypted(protocols: &[&[u8]]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), AllSeen::default());
    let to = async |RawQuery(to): RawQuery| (StatusCode::FOUND, [("location", to.unwrap())]);
    let router = Router::new().route("/to", get(to)).fallback(|| async { "private" });
    let router = noting(router, &seen);
    let listener = Encrypted { listener, acceptor: acceptor(protocols) };
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Server { address, seen, tasks: vec![task.abort_handle()] }
}

fn grant(servers: &[&Server]) -> (String, Vec<String>) {
    let hosts: Vec<_> = servers.iter().map(|it| format!("localhost:{}", it.port())).collect();
    let authority = root().join("tests/tls/authority.pem");
    let grant = format!(
        "hosts = {hosts:?}\nallow_addresses = ['127.0.0.1/32']\nca_file = {:?}",
        authority.display().to_string()
    );
    (grant, hosts)
}

async fn agent(servers: &[&Server]) -> Agent {
    let (grant, hosts) = grant(servers);
    Agent::with(&grant, &hosts.iter().map(String::as_str).collect::<Vec<_>>()).await
}

#[tokio::test]
async fn a_trusted_server_is_fetched_from_with_either_version() {
    for (protocols, version) in [
        (&[&b"h2"[..], b"http/1.1"][..], Version::HTTP_2),
        (&[b"http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let server = encrypted(protocols).await;
        let agent = agent(&[&server]).await;
        let url = format!("https://localhost:{}/", server.port());
        let post = json!({ "url": url, "method": "POST", "json": [1] });
        for arguments in [json!({ "url": url }), post] {
            assert_eq!(agent.fetch(arguments).await["text"], "private");
            assert_eq!(server.seen().pop().unwrap().version, version);
        }
        assert_eq!(server.seen()[1].body, "[1]");
    }
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_refused() {
    let server = encrypted(&[]).await;
    let url = format!("https://localhost:{}/", server.port());
    let (with_authority, hosts) = grant(&[&server]);
    let without: Vec<_> = with_authority.lines().filter(|it| !it.starts_with("ca_")).collect();
    let (code, why) =
        Agent::with(&without.join("\n"), &[&hosts[0]]).await.fails(json!({ "url": url })).await;
    assert_eq!(code, ToolErrorCode::Failed);
    assert!(why.contains("invalid peer certificate: UnknownIssuer"), "{why}");
    // Trusted, but the certificate is for other names.
    let other = format!("other.test:{}", server.port());
    let lookup = Script::of(&[("other.test", &[&["127.0.0.1"]])]);
    let agent = Agent::looking_up(&with_authority.replace(&hosts[0], &other), &[&other], lookup);
    let (code, why) = agent.fails(json!({ "url": format!("https://{other}/") })).await;
    assert_eq!(code, ToolErrorCode::Failed);
    assert!(why.contains("certificate not valid for name \"other.test\""), "{why}");
    assert_eq!(server.log(), [""; 0]);
}

#[tokio::test]
async fn a_redirect_does_not_lead_back_to_plain_http() {
    let server = encrypted(&[]).await;
    let plain = Server::start(Router::new().fallback(|| async { "reached" })).await;
    let agent = agent(&[&server, &plain]).await;
    let to = format!("http://localhost:{}/", plain.port());
    assert_eq!(agent.get(&to).await["text"], "reached");
    let url = format!("https://localhost:{}/to?{to}", server.port());
    let why = agent.denied(&url).await;
    assert_eq!(why, format!("`{url}` redirects, but it leads from `https` to `http`"));
    assert_eq!(plain.log().len(), 1);
    let within = format!("https://localhost:{}/to?/x", server.port());
    assert_eq!(agent.get(&within).await["text"], "private");
}

#[tokio::test]
async fn plain_http_to_an_encrypted_port_is_a_failure() {
    let server = encrypted(&[]).await;
    let agent = agent(&[&server]).await;
    let url = format!("http://localhost:{}/", server.port());
    assert_eq!(agent.fails(json!({ "url": url })).await.0, ToolErrorCode::Failed);
}

//! A server behind a proxy that encrypts, as it is where other machines reach it.

use tokio::net::{TcpListener, TcpStream};

use super::{Server, User};
use crate::http::tls::acceptor;
use crate::support::{Home, guest, root};

/// Takes encrypted connections for a server that takes none; answers its URL.
async fn encrypting(server: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (acceptor, server) = (acceptor(&[]), server.to_owned());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_encrypted_to_a_server_that_the_machine_trusts() {
    let home = Home::new();
    home.publishes(&guest("minimal"));
    let key = home.ok(&["keys", "create", "tester"]).trim().to_owned();
    let server = Server::on(&home);
    let url = encrypting(&server.address()).await;
    let user = User::of(&url).with_key(&key);
    let run = ["run", "minimal", "--input", r#"{"name":"Ada"}"#, "--events", "none"];
    let mut command = user.command(&run);
    command.env("SSL_CERT_FILE", root().join("tests/tls/authority.pem"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Hello, Ada!\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "nothing to remark");

    let said = tokio::task::spawn_blocking(move || user.fails(1, &run)).await.unwrap();
    assert!(said.contains(&format!("cannot connect to `{url}`: ")), "{said}");
    assert!(said.contains("invalid peer certificate"), "{said}");
}

//! Networks that cut, servers that restart, refuse for a while or lose an answer:
//! nothing is lost, shown twice or done twice.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;

use super::proxy::Proxy;
use super::{Server, User, newest_run};
use crate::support::{Home, guest};

/// The numbers of the entries that a stream has shown.
fn numbers(stdout: &str) -> Vec<u64> {
    let events = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.map(|event| event["seq"].as_u64().unwrap()).collect()
}

fn home_with_files() -> Home {
    let home = Home::new();
    let docs = home.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("a.md"), "text").unwrap();
    let config = format!("[grants.files]\nroot = '{}'\n", docs.display());
    std::fs::write(home.path().join("reenact.toml"), config).unwrap();
    home.publishes(&guest("hostile"));
    home
}

#[test]
fn a_stream_that_is_cut_again_and_again_has_no_gap_and_nothing_twice() {
    let home = home_with_files();
    let server = Server::on(&home);
    // In the middle of lines, too: no event has this many bytes or a divisor of it.
    let proxy = Proxy::before(&server.address(), |number| if number == 0 { 2_000 } else { 7_919 });
    let user = User::of(&proxy.url);
    let input = r#"{"do":"tool-calls","n":60}"#;
    let said = user.says(&["run", "hostile", "--input", input, "--events", "ndjson"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let seen = numbers(&said.stdout);
    assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>(), "{}", said.stderr);
    let run = newest_run(&User::of(&server.url));
    assert_eq!(run["entries"], seen.len(), "all that is recorded was shown");
    assert!(proxy.cuts() >= 3, "{} cuts", proxy.cuts());
    let (lost, back) =
        (said.stderr.matches("lost the server"), said.stderr.matches("server is back"));
    let (lost, back) = (lost.count(), back.count());
    assert!(lost >= 3 && lost == back, "{lost} lost, {back} back: {}", said.stderr);
}

#[test]
fn a_run_is_followed_over_a_restart_of_the_server() {
    let home = home_with_files();
    let server = Server::on(&home);
    let (address, user) = (server.address(), User::of(&server.url));
    let input = r#"{"do":"sleep","n":4}"#;
    let mut running = user.starts(&["run", "hostile", "--input", input, "--events", "ndjson"]);
    running.prints("\"sleep\"");
    server.stop();
    running.notes("lost the server");
    let _server = Server::at(&home, &address);
    let said = running.ends();
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stderr.contains("the server is back"), "{said:#?}");
    assert_eq!(numbers(&said.stdout), [0, 1, 2, 3], "{}", said.stdout);
    assert_eq!(newest_run(&user)["status"], "done");
}

#[test]
fn an_answer_that_gets_lost_starts_no_second_run() {
    let home = home_with_files();
    let server = Server::on(&home);
    // The run is started, and nobody hears of it.
    let proxy = Proxy::before(&server.address(), |number| if number == 0 { 0 } else { usize::MAX });
    let user = User::of(&proxy.url);
    let said = user.says(&["run", "hostile", "--input", r#"{"do":"stdout"}"#]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stderr.contains("trying again in 500.0 ms"), "{said:#?}");
    assert_eq!(proxy.cuts(), 1);
    assert_eq!(user.json(&["runs", "--json"]).as_array().unwrap().len(), 1);
}

/// Answers each connection with the next of `answers`.
fn scripted(answers: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0)
            {
                head.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn a_server_that_is_busy_is_asked_again_when_it_says() {
    let busy = r#"{"type":"urn:reenact:problem:queue-full","title":"queue full","status":503,"detail":"wait"}"#;
    let url = scripted(vec![
        answer("503 Service Unavailable", "retry-after: 1\r\n", busy),
        answer("502 Bad Gateway", "", "<html>"),
        answer("200 OK", "", r#"{"items":[],"next":null}"#),
    ]);
    let said = User::of(&url).says(&["runs", "--json"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "[]\n"), "{said:#?}");
    assert!(said.stderr.contains("queue full: wait: trying again in 1.00 s"), "{said:#?}");
    assert!(said.stderr.contains("502 Bad Gateway: trying again in 1.00 s"), "{said:#?}");
}

#[test]
fn a_server_does_not_choose_where_files_go() {
    let home = home_with_files();
    let server = Server::on(&home);
    let user = User::of(&server.url);
    user.ok(&["run", "hostile", "--input", r#"{"do":"stdout"}"#]);
    let mut run = newest_run(&user);
    run["id"] = "../../evil".into();
    let lying = scripted(vec![answer("200 OK", "", &run.to_string())]);
    let said = User::of(&lying).fails(1, &["export", "0193"]);
    assert!(said.contains("a run has an id that is none"), "{said}");
}

#[test]
fn what_is_no_reenact_server_is_told() {
    let url = scripted(vec![answer("200 OK", "", "<html>hello</html>")]);
    let said = User::of(&url).fails(1, &["runs"]);
    assert!(said.contains(&format!("`{url}` does not answer as a Reenact server does")), "{said}");
    let moved = answer("301 Moved Permanently", "location: http://elsewhere.test/\r\n", "");
    let said = User::of(&scripted(vec![moved])).fails(1, &["runs"]);
    assert!(said.contains("301 Moved Permanently"), "nobody follows with a key at hand: {said}");
}

//! Each verb, on a server.

use std::fs;

use serde_json::{Value, json};

use super::{Server, User, masked, newest_run, signal};
use crate::approvals::home_that_asks;
use crate::support::{Home, guest, guest_folder, put, replays_offline, resealed};

const ADA: &str = r#"{"name":"Ada"}"#;

#[test]
fn an_agent_is_published_run_shown_proved_and_taken_along() {
    let home = Home::new();
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let file = put(user.folder(), &guest("minimal"));
    let id = guest("minimal").digest.to_string();
    assert_eq!(user.ok(&["publish", &file]), format!("published minimal@{id}\n"));

    let said = user.says(&["run", "minimal", "--input", ADA]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "Hello, Ada!\n"));
    let short = guest("minimal").digest.short();
    let program = env!("CARGO_BIN_EXE_reenact");
    let expected = format!(
        "run RUN · minimal@{short} · no tools\n\
         T greeting name: Ada\n\
         T done (T)\n\
         \n\
         done in T · fuel N k · N entries\n\
         replay it: {program} replay RUN\n"
    );
    assert_eq!(masked(&said.stderr), expected, "{}", said.stderr);

    let run = newest_run(&user);
    let run = run["id"].as_str().unwrap();
    let shown = user.ok(&["show", &run[..30]]);
    assert_eq!(shown, home.ok(&["show", run]).replace(" --home", ""), "as on the server itself");
    assert_eq!(user.json(&["show", run, "--json"]), home.json(&["show", run, "--json"]));

    let (mut here, mut there) = (user.ok(&["replay", run]), home.ok(&["replay", run]));
    for report in [&mut here, &mut there] {
        report.truncate(report.find("\ntook").unwrap());
    }
    assert_eq!(here, there, "the same report");
    let mut proofs = [user.json(&["replay", run, "--json"]), home.json(&["replay", run, "--json"])];
    proofs.iter_mut().for_each(|proof| drop(proof.as_object_mut().unwrap().remove("seconds")));
    assert_eq!(proofs[0], proofs[1]);
    let all = user.json(&["replay", "--all", "--agent", "minimal", "--json"]);
    assert_eq!((&all["runs"], &all["same"], &all["failed"]), (&json!(1), &json!(1), &json!([])));

    let exported = user.folder().join("run.reenact");
    let said = user.says(&["export", run, "-o", exported.to_str().unwrap()]);
    assert!(said.code == Some(0) && said.stderr.contains("exported"), "{said:#?}");
    assert!(said.stderr.contains(" replay /"), "and no server: {said:#?}");
    drop(server);
    replays_offline(&exported);
    assert!(user.ok(&["replay", exported.to_str().unwrap()]).contains("came out the same"));
}

#[test]
fn a_folder_or_a_file_is_uploaded_as_a_draft_once_and_run() {
    let home = Home::new();
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let folder = guest_folder("minimal");
    let run = ["run", folder.to_str().unwrap(), "--input", ADA, "--events", "none"];
    let said = user.says(&run);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "Hello, Ada!\n"), "{said:#?}");
    assert!(said.stderr.contains("uploaded minimal@sha256:"), "{said:#?}");
    let listed = user.json(&["revisions", "minimal", "--json"]);
    assert_eq!(listed[0]["isPublished"], false);
    assert!(!user.says(&run).stderr.contains("uploaded"), "it is there already");
    assert_eq!(user.json(&["revisions", "minimal", "--json"]).as_array().unwrap().len(), 1);

    let failed = user.fails(1, &["run", "minimal", "--input", ADA]);
    assert!(failed.contains("nothing published") && failed.contains("hint: "), "{failed}");
    let prefix = &listed[0]["id"].as_str().unwrap()[..20];
    let one = format!("minimal@{prefix}");
    assert_eq!(user.ok(&["run", &one, "--input", ADA]), "Hello, Ada!\n");
    let published = user.json(&["publish", &one, "--json"]);
    assert_eq!((&published["agent"], &published["published"]), (&json!("minimal"), &json!(true)));
    assert_eq!(user.ok(&["run", "minimal", "--input", ADA]), "Hello, Ada!\n");
    let listed = user.ok(&["agents"]);
    assert!(listed.contains("minimal  Published  sha256:"), "{listed}");
}

#[test]
fn events_and_the_run_come_as_json() {
    let home = Home::new();
    let server = Server::on(&home);
    let user = User::of(&server.url);
    user.ok(&["publish", &put(user.folder(), &guest("minimal"))]);
    let said = user.says(&["run", "minimal", "--input", ADA, "--events", "ndjson"]);
    assert_eq!(said.stderr, "");
    let events: Vec<Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["started", "greeting", "result"]);
    assert_eq!(events[2]["data"]["result"], "Hello, Ada!");

    let said = user.says(&["run", "minimal", "--input", ADA, "--json", "--events", "none"]);
    assert_eq!(said.stderr, "");
    let run: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&run["status"], &run["agentId"]), (&json!("done"), &json!("minimal")));
    assert_eq!(run["resultData"], json!({ "result": "Hello, Ada!", "sources": [] }));
    user.fails(2, &["run", "minimal", "--input", ADA, "--json", "--events", "ndjson"]);
}

#[test]
fn tools_and_sources_look_as_they_do_at_home() {
    let home = home_that_asks();
    let config = fs::read_to_string(home.path().join("reenact.toml")).unwrap();
    fs::write(home.path().join("reenact.toml"), config.split("[[policy]]").next().unwrap())
        .unwrap();
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let said = user.says(&["run", "hostile", "--input", r#"{"do":"tool-calls","n":1}"#]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let masked = masked(&said.stderr);
    let lines: Vec<&str> = masked.lines().collect();
    assert!(lines[0].ends_with(" · files.list, files.read, files.search"), "{masked}");
    assert!(lines[1].starts_with("T tool_call files.list path: → N B ("), "{masked}");
    assert!(masked.contains("\nsources\n"), "{masked}");
}

#[test]
fn runs_are_listed_by_agent_and_status() {
    let home = Home::new();
    for agent in ["minimal", "hostile"] {
        home.publishes(&guest(agent));
    }
    let server = Server::on(&home);
    let user = User::of(&server.url);
    assert!(user.says(&["runs"]).stderr.contains("no such runs"));
    user.ok(&["run", "minimal", "--input", ADA]);
    let said = user.says(&["run", "hostile", "--input", r#"{"do":"fail","text":"no luck"}"#]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(3), ""));
    assert!(said.stderr.contains("\nagent_failure no luck\n"), "{said:#?}");
    user.ok(&["run", "minimal", "--input", ADA]);

    let listed = |args: &[&str]| {
        let listed = user.json(&[&["runs", "--json"], args].concat());
        let agents = listed.as_array().unwrap().iter().map(|run| run["agentId"].clone());
        agents.collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]), ["minimal", "hostile", "minimal"], "the newest first");
    assert_eq!(listed(&["--agent", "minimal"]), ["minimal", "minimal"]);
    assert_eq!(listed(&["--status", "error"]), ["hostile"]);
    assert_eq!(listed(&["--agent", "minimal", "--status", "error"]), [""; 0]);
    let said = user.says(&["runs", "--limit", "2"]);
    assert_eq!(said.stdout.lines().count(), 3, "{said:#?}");
    assert!(said.stderr.contains("the newest 2"), "{said:#?}");
    assert!(user.ok(&["runs"]).contains("error: agent_failure"));
    assert!(user.fails(1, &["runs", "--agent", "nobody"]).contains("unknown agent"));
}

/// Sends a request by hand; answers the status and the JSON.
fn send(address: &str, request: &str, body: &str) -> (String, Value) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

fn get(address: &str, path: &str) -> (String, Value) {
    send(address, &format!("GET {path}"), "")
}

#[test]
fn a_list_of_many_runs_comes_page_by_page() {
    let home = Home::new();
    home.publishes(&guest("minimal"));
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let input = format!(r#"{{"input":{ADA}}}"#);
    for _ in 0..120 {
        assert_eq!(send(&server.address(), "POST /v0.1/agents/minimal/runs", &input).0, "201");
    }
    assert_eq!(user.json(&["runs", "--limit", "1000", "--json"]).as_array().unwrap().len(), 120);
    assert_eq!(user.json(&["runs", "--limit", "110", "--json"]).as_array().unwrap().len(), 110);
}

#[test]
fn more_tools_are_published_only_if_somebody_says_so() {
    let home = Home::new();
    home.publishes(&guest("minimal"));
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let asks_more = resealed(&guest("minimal"), |manifest| {
        manifest.tools.push("http.fetch".parse().unwrap());
    });
    let (file, id) = (put(user.folder(), &asks_more), asks_more.digest.to_string());
    let said = user.fails(1, &["publish", &file]);
    assert!(said.contains("asks for more than its published revision: http.fetch"), "{said}");
    assert!(said.contains("`--allow-new-tools` publishes it all the same"), "{said}");
    assert_eq!(user.json(&["revisions", "minimal", "--json"]).as_array().unwrap().len(), 1);

    let said = user.ok(&["publish", &file, "--draft"]);
    assert_eq!(said, format!("stored as a draft minimal@{id}\n"));
    let one = format!("minimal@{id}");
    assert!(user.fails(1, &["publish", &one]).contains("asks for more"));
    assert!(user.fails(1, &["publish", &one, "--draft"]).contains("is stored already"));
    assert!(user.fails(1, &["publish", "minimal"]).contains("does not say which revision"));
    user.ok(&["publish", &one, "--allow-new-tools"]);
    assert_eq!(user.json(&["agents", "--json"])[0]["publishedRevisionId"], id.as_str());
}

#[test]
fn a_run_is_cancelled_from_another_window() {
    let home = Home::new();
    home.publishes(&guest("hostile"));
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let running =
        user.starts(&["run", "hostile", "--input", r#"{"do":"loop"}"#, "--events", "ndjson"]);
    let mut running = running;
    running.prints("\"started\"");
    let run = newest_run(&user)["id"].as_str().unwrap().to_owned();
    assert!(user.says(&["cancel", &run]).stderr.contains("cancelling run"));
    let said = running.ends();
    assert_eq!(said.code, Some(130), "{said:#?}");
    assert_eq!(newest_run(&user)["error"]["code"], "cancelled");
    let said = user.fails(1, &["cancel", &run]);
    assert!(said.contains("has ended: it is `error`"), "{said}");
}

#[test]
fn ctrl_c_cancels_the_run_on_the_server() {
    let home = Home::new();
    home.publishes(&guest("hostile"));
    let server = Server::on(&home);
    let user = User::of(&server.url);
    // One computes without end, the other waits for longer than anybody does.
    for (input, sign) in [(r#"{"do":"loop"}"#, "run "), (r#"{"do":"sleep"}"#, " sleep ")] {
        let mut running = user.starts(&["run", "hostile", "--input", input]);
        running.notes(sign);
        signal(running.pid(), "INT");
        let said = running.ends();
        assert_eq!(said.code, Some(130), "{said:#?}");
        assert!(said.stderr.contains("cancelling (again to leave at once)"), "{said:#?}");
        assert_eq!(newest_run(&user)["error"]["code"], "cancelled");
    }
}

#[test]
fn a_second_ctrl_c_leaves_though_the_server_says_nothing() {
    let home = Home::new();
    home.publishes(&guest("hostile"));
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let mut running = user.starts(&["run", "hostile", "--input", r#"{"do":"loop"}"#]);
    running.notes("run ");
    signal(server.pid(), "STOP");
    signal(running.pid(), "INT");
    running.notes("cancelling");
    signal(running.pid(), "INT");
    let said = running.ends();
    signal(server.pid(), "CONT");
    assert_eq!(said.code, Some(130), "{said:#?}");
}

#[test]
fn the_list_of_all_runs_can_be_of_one_revision() {
    let home = Home::new();
    home.publishes(&guest("minimal"));
    let server = Server::on(&home);
    let user = User::of(&server.url);
    user.ok(&["run", "minimal", "--input", ADA]);
    let of = |query: &str| get(&server.address(), &format!("/v0.1/runs?{query}"));
    let id = guest("minimal").digest.to_string();
    assert_eq!(of(&format!("revision={id}")).1["items"].as_array().unwrap().len(), 1);
    let other = id.replace(&id[7..9], if &id[7..9] == "00" { "11" } else { "00" });
    assert_eq!(of(&format!("agent=minimal&revision={other}")).1["items"], json!([]));
    let (status, problem) = of(&format!("revision={}", &id[..20]));
    assert_eq!((status.as_str(), &problem["title"]), ("400", &json!("bad revision id")));
    assert_eq!(of("agent=nobody").0, "404");
    assert_eq!(of("limit=0").0, "400");
}

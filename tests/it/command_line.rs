//! What a person at a terminal and a script behind a pipe can rely on.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Home, guest, resealed};

const ADA: &str = r#"{"name":"Ada"}"#;

/// What would rename the reader's terminal window, if it came through.
const ESCAPE: &str = "\u{1b}]0;owned\u{7}";

/// A home in which the example agent of this name is published.
fn home_with(agent: &str) -> Home {
    let home = Home::new();
    let file = home.path().join(format!("{agent}.wasm"));
    fs::write(&file, &guest(agent).bytes).unwrap();
    home.ok(&["publish", file.to_str().unwrap()]);
    home
}

fn newest_run(home: &Home) -> String {
    home.json(&["runs", "--json"])[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn the_result_goes_to_stdout_and_all_else_to_stderr() {
    let home = home_with("minimal");
    let said = home.says(&["run", "minimal", "--input", ADA]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "Hello, Ada!\n"));
    let id = newest_run(&home);
    let lines: Vec<&str> = said.stderr.lines().collect();
    assert!(lines[0].starts_with(&format!("run {id} · minimal@sha256:")), "{said:#?}");
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert!(words[0].ends_with('s') && words[0].contains('.'), "a time: {words:?}");
    assert!(words[1].parse::<f64>().is_ok(), "fuel: {words:?}");
    assert_eq!(words[3..], ["greeting", "name:", "Ada"]);
    assert!(said.stderr.contains("\ndone in "), "{said:#?}");
    assert!(said.stderr.trim_end().ends_with(&format!(" replay {id}")), "{said:#?}");
}

#[test]
fn json_is_one_document() {
    let home = home_with("minimal");
    let said = home.says(&["run", "minimal", "--input", ADA, "--json", "--events", "none"]);
    assert_eq!(said.stderr, "");
    let run: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(run["status"], "done");
    assert_eq!(run["input"], json!({ "name": "Ada" }));
    assert_eq!(run["resultData"], json!({ "result": "Hello, Ada!", "sources": [] }));
    let shown = home.json(&["show", &newest_run(&home), "--json"]);
    assert_eq!(shown["entryList"].as_array().unwrap().len(), 3);
    for (name, value) in run.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
}

#[test]
fn ndjson_is_the_journal_line_by_line() {
    let home = home_with("minimal");
    let said = home.says(&["run", "minimal", "--input", ADA, "--events", "ndjson"]);
    assert_eq!(said.stderr, "");
    let lines = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let entries: Vec<Value> = lines.collect();
    assert_eq!(entries[0]["body"]["started"]["run"], newest_run(&home));
    let ended = &entries.last().unwrap()["body"]["ended"]["outcome"];
    assert_eq!(ended["done"]["content"], json!({ "document": "Hello, Ada!" }));
    let shown = home.json(&["show", &newest_run(&home), "--json"]);
    assert_eq!(shown["entryList"], json!(entries));
}

#[test]
fn the_input_comes_from_a_file_or_from_stdin_too() {
    let home = home_with("minimal");
    let file = home.path().join("input.json");
    fs::write(&file, "{\"name\": \"Grace\"}\n").unwrap();
    let from_file = format!("@{}", file.display());
    assert_eq!(home.ok(&["run", "minimal", "--input", &from_file]), "Hello, Grace!\n");

    let mut command = home.command(&["run", "minimal", "--input", "-"]);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(br#"{"name":"Mary"}"#).unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"Hello, Mary!\n");
}

#[test]
fn an_input_that_does_not_fit_is_told_where() {
    let home = home_with("minimal");
    assert_eq!(
        home.fails(1, &["run", "minimal", "--input", r#"{"name":7}"#]),
        "error: the input does not fit the input schema of `minimal`\n  \
         at `/name`: 7 is not of type \"string\"\n"
    );
    let said = home.fails(1, &["run", "minimal", "--input", "{nam"]);
    assert_eq!(
        said,
        "error: the input is not valid JSON: key must be a string at line 1 column 2\n"
    );
    let said = home.fails(1, &["run", "minimal", "--input", "@no-such.json"]);
    assert!(said.starts_with("error: cannot read the input from `no-such.json`\n"), "{said}");
    assert_eq!(home.json(&["runs", "--json"]), json!([]));
}

#[test]
fn colour_is_for_terminals_and_for_who_insists() {
    let home = home_with("minimal");
    let run = ["run", "minimal", "--input", ADA];
    let coloured = [&run[..], &["--color", "always"]].concat();
    assert!(!home.says(&run).stderr.contains('\u{1b}'));
    assert!(home.says(&coloured).stderr.contains("\u{1b}["));
    let never = home.command(&run).env("NO_COLOR", "1").output().unwrap();
    assert!(!never.stderr.contains(&0x1b));
}

#[test]
fn exit_codes_tell_the_endings_apart() {
    let home = home_with("hostile");
    let stdout = home.ok(&["run", "hostile", "--input", r#"{"do":"stdout"}"#]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap(), json!({ "lines": 3 }));
    home.fails(1, &["run", "nobody"]);
    let both = ["run", "hostile", "--json", "--events", "ndjson"];
    for wrong in [&["rnu"][..], &["run"], &["runs", "--status", "odd"], &["replay"], &both] {
        let said = home.fails(2, wrong);
        assert!(said.starts_with("error: ") && said.contains("--help"), "{said}");
    }
    let said = home.says(&["run", "hostile", "--input", r#"{"do":"fail","text":"no luck"}"#]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(3), ""));
    assert!(said.stderr.contains("agent_failure no luck"), "{said:#?}");
    home.fails(3, &["run", "hostile", "--input", r#"{"do":"trap"}"#, "--json"]);

    // The record of the last run is made to say something else.
    let id = newest_run(&home);
    let db = rusqlite::Connection::open(home.path().join("reenact.db")).unwrap();
    let change =
        "UPDATE entries SET body = CAST(replace(CAST(body AS TEXT), 'trap', 'trip') AS BLOB)";
    assert!(db.execute(change, []).unwrap() > 0);
    drop(db);
    let said = home.says(&["replay", &id]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    assert!(said.stdout.contains("damaged entry"), "{said:#?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_panic() {
    let home = home_with("hostile");
    let input = r#"{"do":"events","n":3000}"#;
    home.ok(&["run", "hostile", "--input", input, "--events", "none"]);
    let id = newest_run(&home);
    for args in [
        &["run", "hostile", "--input", input, "--events", "ndjson"][..],
        &["show", &id, "--full"],
        &["show", &id, "--json"],
        &["--help"],
    ] {
        let mut command = home.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // `| head -1` does this.
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        child.wait().unwrap();
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
    assert_eq!(home.json(&["runs", "--status", "done", "--json"]).as_array().unwrap().len(), 2);
}

#[test]
fn runs_are_listed_filtered_and_shown() {
    let home = home_with("hostile");
    assert!(home.fails(0, &["runs"]).starts_with("no such runs"));
    home.fails(3, &["run", "hostile", "--input", r#"{"do":"trap"}"#]);
    home.ok(&["run", "hostile", "--input", r#"{"do":"stdout"}"#]);
    home.ok(&["run", "guest-examples/minimal", "--input", ADA]);
    let count = |filter: &[&str]| {
        let rows = home.ok(&[&["runs"], filter].concat());
        rows.lines().count().saturating_sub(1)
    };
    assert_eq!(count(&[]), 3);
    assert_eq!(count(&["--agent", "hostile"]), 2);
    assert_eq!(count(&["--status", "error"]), 1);
    assert_eq!(count(&["--agent", "minimal", "--status", "error"]), 0);
    assert_eq!(count(&["-n", "2"]), 2);
    assert!(home.ok(&["runs", "--status", "error"]).contains("error: trap"));

    let shown = home.ok(&["show", &newest_run(&home)]);
    for part in ["input ", r#"{"name":"Ada"}"#, "events\n", "greeting", "result\nHello, Ada!"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.contains(" of 10,000,000,000"), "{shown}");
}

#[test]
fn hostile_text_does_not_drive_the_terminal() {
    let home = home_with("hostile");
    let input = json!({ "do": "fail", "text": ESCAPE }).to_string();
    let description = format!("nice {ESCAPE}");
    let odd = resealed(&guest("minimal"), |manifest| manifest.description = description);
    let file = home.path().join("odd.wasm");
    fs::write(&file, &odd.bytes).unwrap();
    let file = file.to_str().unwrap();
    let unknown = json!({ "do": "stdout", (ESCAPE): 1 }).to_string();
    let run = home.says(&["--color", "always", "run", "hostile", "--input", &input]);
    let id = newest_run(&home);
    let mut said = vec![run];
    for args in [
        &["run", "hostile", "--input", &unknown][..],
        &["show", &id],
        &["show", &id, "--full"],
        &["publish", file],
        &["agents"],
        &["inspect", file],
        &["run", ESCAPE],
        &["show", ESCAPE],
        &["replay", &id],
        &["replay", "--all"],
    ] {
        said.push(home.says(&[&["--color", "always"], args].concat()));
    }
    for said in said {
        let text = said.stdout + &said.stderr;
        assert!(!text.contains("\u{1b}]") && !text.contains('\u{7}'), "{text:?}");
    }
    assert!(home.ok(&["show", &id]).contains("\\u{1b}]0;owned\\u{7}"));
}

#[test]
fn without_a_grant_the_agent_is_told_and_the_user_too() {
    let home = home_with("research");
    let input = r#"{"topic":"sandbox"}"#;
    let said = home.says(&["run", "research", "--input", input]);
    assert_eq!(said.code, Some(3));
    assert!(said.stderr.contains("`research` asks for tools of `files`"), "{said:#?}");
    assert!(said.stderr.contains("`--grant files=DIR`"), "{said:#?}");
    // The agent's own words: it was not stopped, it gave up.
    assert!(said.stderr.contains("agent_failure this agent needs the tool"), "{said:#?}");

    let folder = home.path().join("papers");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.md"), "A sandbox keeps the guest in.\n").unwrap();
    let grant = format!("files={}", folder.display());
    let by_flag = home.json(&["run", "research", "--input", input, "--grant", &grant, "--json"]);
    let sources = by_flag["resultData"]["sources"].as_array().unwrap();
    assert_eq!(sources[0]["title"], "a.md");
    let grant = format!("[grants.files]\nroot = '{}'\n", folder.display());
    fs::write(home.path().join("reenact.toml"), grant).unwrap();
    let by_file = home.json(&["run", "research", "--input", input, "--json"]);
    assert_eq!(by_file["resultData"]["result"], by_flag["resultData"]["result"]);
    assert_eq!(by_file["tools"], json!(["files.read", "files.search"]));

    let bad = ["run", "research", "--input", input, "--grant"];
    for (grant, reason) in [
        ("files=", "`--grant files=` lacks a name or a value"),
        ("http", "`--grant http` names nothing that is granted: the configuration grants `files`"),
        ("web=x", "`--grant web=…` names no provider"),
        ("files=/no/such/folder", "cannot grant `files`: cannot open `/no/such/folder`"),
    ] {
        let said = home.fails(1, &[&bad[..], &[grant]].concat());
        assert!(said.contains(reason), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_cancels_and_the_replay_stops_at_the_same_instruction() {
    let home = Home::new();
    let patient = resealed(&guest("hostile"), |manifest| {
        manifest.limits.fuel = Some(1 << 52);
    });
    home.publishes(&patient);
    let mut command = home.command(&["run", "hostile", "--input", r#"{"do":"loop"}"#]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let header = lines.find(|line| line.as_ref().unwrap().starts_with("run ")).unwrap().unwrap();
    interrupt(child.id());
    let rest: String = lines.map(|line| line.unwrap() + "\n").collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("cancelling"), "{rest}");

    let id = header.split(' ').nth(1).unwrap();
    let shown = home.json(&["show", id, "--json"]);
    assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("error"), &json!("cancelled")));
    let replay = home.json(&["replay", id, "--json"]);
    assert_eq!((&replay["same"], &replay["ended"]), (&json!(true), &json!(true)));
    assert_eq!(replay["fuel"], shown["fuel"]);
    assert!(home.ok(&["replay", id]).contains("error: cancelled, the same"));
}

#[cfg(unix)]
fn interrupt(process: u32) {
    let kill = format!("kill -INT {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

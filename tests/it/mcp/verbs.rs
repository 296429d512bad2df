//! `reenact tools` and `reenact tools call`.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use super::*;
use crate::servers::{node_server, time_server};
use crate::support::{Home, Said};

fn servers() -> Servers {
    Servers::new(json!({
        "everything": { "command": "node", "args": [node_server("everything"), "stdio"] },
        "time": { "command": time_server() },
        "broken": { "command": "/no/such/program" },
    }))
}

#[test]
fn all_tools_are_listed_with_what_they_change() {
    let home = Home::new();
    let servers = Servers::new(json!({ "time": { "command": time_server() } }));
    let config = format!(
        "[grants.files]\nroot = {:?}\n[grants.mcp]\nfile = {:?}\ntrusted = ['time']",
        servers.folder(),
        servers.file()
    );
    std::fs::write(home.path().join("reenact.toml"), config).unwrap();
    let listed = home.ok(&["tools"]);
    let names: Vec<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = [
        "TOOL",
        "files.list",
        "files.read",
        "files.search",
        "time.convert_time",
        "time.get_current_time",
    ];
    assert_eq!(names, expected);
    assert!(listed.lines().nth(5).unwrap().contains("nothing"), "{listed}");

    let json = home.json(&["tools", "--json"]);
    assert_eq!(json.as_array().unwrap().len(), 5);
    assert_eq!(json[4]["parameters"]["required"], json!(["timezone"]));
    let full = home.ok(&["tools", "--full"]);
    assert!(full.contains("\"timezone\": {"), "{full}");
}

#[test]
fn one_tool_or_one_provider_is_shown_and_only_its_server_is_started() {
    let (home, servers) = (Home::new(), servers());
    let flag = servers.flag();
    let tool = home.ok(&["tools", "time.convert_time", "--grant", &flag]);
    assert!(tool.starts_with("time.convert_time\nmay change something"), "{tool}");
    assert!(tool.contains("\"source_timezone\": {"), "{tool}");
    let time = home.ok(&["tools", "time", "--grant", &flag]);
    assert_eq!(time.lines().count(), 3, "{time}");
    let told = home.fails(1, &["tools", "--grant", &flag]);
    assert!(
        told.contains("the MCP server `broken` (`/no/such/program`) cannot be started"),
        "{told}"
    );
    for name in ["time.no_such_tool", "nobody"] {
        let told = home.fails(1, &["tools", name, "--grant", &flag]);
        assert!(told.contains(&format!("there is no tool or provider `{name}`")), "{told}");
    }
    let told = home.fails(1, &["tools", "time.convert_time"]);
    assert!(told.contains("nothing is granted"), "{told}");
    assert_eq!(home.ok(&["tools"]), "");
}

#[test]
fn a_call_prints_its_answer_and_tells_its_sources() {
    let (home, servers) = (Home::new(), servers());
    let flag = servers.flag();
    let call = |name: &str, arguments: &str| {
        home.says(&["tools", "call", name, arguments, "--grant", &flag])
    };
    let echo = call("everything.echo", r#"{"message":"hello"}"#);
    assert_eq!((echo.code, &*echo.stdout), (Some(0), "Echo: hello\n"), "{echo:?}");
    let now = call("time.get_current_time", r#"{"timezone":"UTC"}"#);
    let now: Value = serde_json::from_str(&now.stdout).unwrap();
    assert_eq!(now["timezone"], "UTC");
    let links = call("everything.get-resource-links", r#"{"count":2}"#);
    assert!(links.stderr.contains("sources\n  Blob Resource 1  demo://"), "{links:?}");
    assert!(serde_json::from_str::<Value>(&links.stdout).is_ok(), "{links:?}");

    let whole = home.json(&[
        "tools",
        "call",
        "everything.get-resource-links",
        "{}",
        "--json",
        "--grant",
        &flag,
    ]);
    assert_eq!(whole["sources"].as_array().unwrap().len(), 3);
}

#[test]
fn a_call_that_fails_says_how() {
    let (home, servers) = (Home::new(), servers());
    let flag = servers.flag();
    for (name, arguments, words) in [
        ("time.get_current_time", r#"{"timezone":"Nowhere"}"#, "failed: "),
        ("time.get_current_time", "{}", "invalid-arguments: "),
        ("time.get_current_time", "no JSON", "invalid-arguments: "),
        ("time.none", "{}", "unknown-tool: there is no tool `time.none`; its provider has "),
        ("nobody.none", "{}", "unknown-tool: there is no tool `nobody.none`"),
        ("files.read", "{}", "denied: the operator grants no `files`"),
    ] {
        let told = home.fails(1, &["tools", "call", name, arguments, "--grant", &flag]);
        assert!(told.contains(&format!("error: {words}")), "{name} {arguments}: {told}");
    }
}

#[test]
fn arguments_come_from_a_file_or_from_stdin() {
    let (home, servers) = (Home::new(), servers());
    let flag = servers.flag();
    let file = servers.folder().join("arguments.json");
    std::fs::write(&file, r#"{"message":"filed"}"#).unwrap();
    let at = format!("@{}", file.display());
    let filed = home.ok(&["tools", "call", "everything.echo", &at, "--grant", &flag]);
    assert_eq!(filed, "Echo: filed\n");
    let mut command = home.command(&["tools", "call", "everything.echo", "-", "--grant", &flag]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut piping = command.spawn().unwrap();
    piping.stdin.take().unwrap().write_all(br#"{"message":"piped"}"#).unwrap();
    let piped = Said::from(piping.wait_with_output().unwrap());
    assert_eq!(piped.stdout, "Echo: piped\n", "{piped:?}");
}

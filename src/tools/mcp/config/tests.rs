//! What operators write, and what is said to them.

use super::*;

fn vault() -> Vault {
    let named = [("API_KEY", "sk-canary"), ("PLACE", "garden")];
    Vault::new(BTreeMap::from(named.map(|(name, value)| (name.into(), value.into()))))
}

/// A folder with an `.mcp.json` that holds `servers`.
fn folder(servers: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{{\"mcpServers\":{{{servers}}},\"other\":1}}");
    std::fs::write(folder.path().join(".mcp.json"), text).unwrap();
    folder
}

fn flag(servers: &str) -> Result<Vec<Configured>, String> {
    let folder = folder(servers);
    let path = folder.path().join(".mcp.json").to_str().unwrap().to_owned();
    read(&Grant::Flag(path)).map_err(|error| error.to_string())
}

fn table(text: &str, servers: &str) -> Result<Vec<Configured>, String> {
    let folder = folder(servers);
    let file = folder.path().join("reenact.toml");
    read(&Grant::Table { table: text.parse().unwrap(), file }).map_err(|error| error.to_string())
}

fn target(server: &str) -> Result<Target, String> {
    let mut servers = flag(&format!("\"s\":{server}")).unwrap();
    servers.remove(0).target(&vault())
}

fn launch(server: &str) -> Launch {
    match target(server).unwrap().reach {
        Reach::Stdio(launch) => launch,
        Reach::Http(_) => panic!("http"),
    }
}

#[test]
fn an_existing_file_is_read_as_it_is() {
    let servers = flag(
        r#""b": { "command": "x", "disabled": false, "autoApprove": ["t"] },
           "a": { "type": "http", "url": "https://x.org/mcp" }"#,
    );
    let names: Vec<String> = servers.unwrap().into_iter().map(|server| server.name).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn variables_are_replaced_in_every_place() {
    let launch = launch(
        r#"{ "command": "${PLACE}", "args": ["--in=${PLACE}", "${NO_SUCH:-none}"],
             "env": { "IN": "${PLACE}" }, "cwd": "${PLACE}" }"#,
    );
    assert_eq!(launch.program, Path::new("garden"));
    assert_eq!(launch.args, ["--in=garden", "none"]);
    assert_eq!(launch.env["IN"], "garden");
    assert!(launch.dir.ends_with("garden"));
    // A message shows what is written, not what it stands for.
    assert_eq!(launch.shown, "${PLACE} --in=${PLACE} ${NO_SUCH:-none}");
}

#[test]
fn a_relative_command_starts_where_it_is_written_and_a_name_is_looked_for() {
    assert!(launch(r#"{ "command": "./run" }"#).program.is_absolute());
    assert_eq!(launch(r#"{ "command": "npx" }"#).program, Path::new("npx"));
    let dir = launch(r#"{ "command": "npx" }"#).dir;
    assert!(dir.is_absolute(), "the folder of the file: {dir:?}");
}

#[test]
fn a_server_that_cannot_be_reached_says_why() {
    for (server, why) in [
        (
            r#"{ "type": "sse", "url": "https://x.org" }"#,
            "has the type `sse`, which MCP has replaced",
        ),
        (r#"{ "type": "ws", "url": "https://x.org" }"#, "has the type `ws`"),
        (r#"{}"#, "has neither `command` nor `url`"),
        (r#"{ "command": "x", "url": "https://x.org" }"#, "has a `command` and a `url`"),
        (r#"{ "type": "stdio" }"#, "has no `command`"),
        (r#"{ "type": "streamable-http" }"#, "has no `url`"),
        (r#"{ "url": "ftp://x.org" }"#, "neither `http` nor `https`"),
        (r#"{ "url": "x" }"#, "has an unusable `url`"),
        (r#"{ "url": "https://x.org", "headers": { "a b": "c" } }"#, "`a b` in `headers`"),
        (r#"{ "url": "https://x.org", "headers": { "a": "\n" } }"#, "a value of `headers.a`"),
        (r#"{ "command": "x", "env": { "A=B": "c" } }"#, "has `A=B` in `env`"),
        (r#"{ "command": "x\u0000" }"#, "NUL"),
        (
            r#"{ "command": "x", "env": { "A": "${NO_SUCH}" } }"#,
            "has `env.A` that needs the variable `NO_SUCH`",
        ),
    ] {
        let told = target(server).err().unwrap_or_else(|| panic!("{server}"));
        assert!(told.contains(why), "{server}: {told}");
    }
}

#[test]
fn names_must_leave_room_for_tools_and_be_no_kinds() {
    for name in ["a b", "1a", "", "a.b", &"x".repeat(65)] {
        let told = flag(&format!("\"{name}\": {{}}")).unwrap_err();
        assert!(told.contains("needs another name"), "{name}: {told}");
    }
    let told = flag(r#""files": { "command": "x" }"#).unwrap_err();
    assert!(told.contains("built-in provider `files`"), "{told}");
}

#[test]
fn what_is_no_file_of_servers_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &Path| read(&Grant::Flag(path.to_str().unwrap().to_owned())).unwrap_err();
    assert!(at(folder.path()).to_string().contains("is not a file"));
    assert!(at(&folder.path().join("none")).to_string().starts_with("cannot open"));
    let file = folder.path().join("file");
    for (text, why) in [
        ("{", "is no `.mcp.json`: EOF"),
        ("{}", "missing field `mcpServers`"),
        (r#"{"mcpServers":{"a":{"args":"x"}}}"#, "invalid type: string"),
        (&" ".repeat(MAX_FILE as usize + 1), "has more than 1048576 bytes"),
    ] {
        std::fs::write(&file, text).unwrap();
        let told = at(&file).to_string();
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn a_table_names_a_file_and_servers_of_its_own() {
    let text = "file = '.mcp.json'\ntrusted = ['a']\n\
                [servers.c]\ncommand = 'x'\ntrusted = true\nstart_timeout_ms = 5\n\
                [servers.d]\nurl = 'https://x.org'";
    let servers = table(text, r#""a": { "command": "x" }, "b": { "command": "x" }"#).unwrap();
    let told: Vec<_> = servers.iter().map(|server| (&*server.name, server.trusted)).collect();
    assert_eq!(told, [("a", true), ("b", false), ("c", true), ("d", false)]);
    assert_eq!(servers[2].start_timeout, Duration::from_millis(5));
    assert_eq!(servers[0].start_timeout, START_TIMEOUT);
}

#[test]
fn mistakes_in_a_table_are_named() {
    for (text, why) in [
        ("", "it names no server"),
        ("file = 5", "invalid type: integer `5`"),
        ("file = '.mcp.json'\ntrusted = ['z']", "`trusted` names `z`"),
        ("[servers.x]\ncomand = 'y'", "unknown key `comand` of the MCP server `x`"),
        ("[servers.x]\ncommand = 5", "the MCP server `x` is misconfigured: invalid type"),
        ("[servers.x]\ncommand = 'y'\nstart_timeout_ms = 0", "`start_timeout_ms`"),
        ("file = '.mcp.json'\n[servers.a]\ncommand = 'y'", "`a` is configured twice"),
    ] {
        let told = table(text, r#""a": { "command": "x" }"#).unwrap_err();
        assert!(told.contains(why), "{text}: {told}");
    }
}

#[test]
fn a_file_cannot_say_that_its_servers_are_trusted() {
    let servers = flag(r#""a": { "command": "x", "trusted": true }"#).unwrap();
    assert!(!servers[0].trusted);
}

#[test]
fn secrets_in_headers_and_environment_are_remembered() {
    let servers = flag(
        r#""a": { "url": "https://x.org", "headers": {
               "Authorization": "Bearer literal-token", "X-Place": "to ${PLACE}", "X-Plain": "plain-value",
               "Accept": "text/html" } },
           "b": { "command": "x", "args": ["${API_KEY}"], "env": { "DB_PASSWORD": "hunter2!", "MODE": "verbose" } }"#,
    );
    let vault = vault();
    for server in servers.unwrap() {
        server.target(&vault).unwrap();
    }
    for (text, scrubbed) in [
        ("Bearer literal-token", "[secret]"),
        ("a literal-token", "a [secret]"),
        ("to garden", "[secret]"),
        ("plain-value", "plain-value"),
        ("sk-canary", "[secret]"),
        ("hunter2!", "[secret]"),
        ("verbose", "verbose"),
    ] {
        assert_eq!(vault.scrub_text(text), scrubbed, "{text}");
    }
}

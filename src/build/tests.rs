//! Building an agent's folder: what is read, and what is told of mistakes.

use super::*;
use crate::revision::{OutputType, Revision};

const AGENT: &str = r#"(component
    (core module $m (func (export "run")))
    (core instance $i (instantiate $m))
    (func $run (canon lift (core func $i "run")))
    (instance $guest (export "run" (func $run)))
    (export "reenact:agent/guest@0.1.0" (instance $guest)))"#;

const HEAD: &str = "name = \"a\"\ncomponent = \"a.wasm\"\n";

const COMPLETE: &str = r#"
name = "research"
version = "0.1.0"
description = "Finds things"
authors = ["The Reenact authors"]
license = "Apache-2.0"
component = "out/../a.wasm"
tools = ["files.search", "web.*"]
[build]
command = "mkdir -p out && cp plain.wasm a.wasm && echo built"
[input]
schema = "input.schema.json"
[output]
type = "json"
[output.schema]
type = "object"
[limits]
fuel = 1000
[config]
max_files = 3
since = 2024-01-01
"#;

fn folder(toml: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(AGENT_TOML), toml).unwrap();
    fs::write(folder.path().join("plain.wasm"), wat::parse_str(AGENT).unwrap()).unwrap();
    fs::write(folder.path().join("input.schema.json"), r#"{"type":"object"}"#).unwrap();
    folder
}

fn error(toml: &str) -> BuildError {
    let folder = folder(toml);
    match load(folder.path()) {
        Ok(project) => project.build(BuildOutput::Discard).unwrap_err(),
        Err(error) => error,
    }
}

#[test]
fn a_folder_becomes_a_revision() {
    let folder = folder(COMPLETE);
    let project = load(folder.path()).unwrap();
    let sealed = project.build(BuildOutput::Discard).unwrap();
    assert_eq!(project.build(BuildOutput::Discard).unwrap(), sealed);
    let path = folder.path().join("research.wasm");
    write_atomically(&path, b"old").unwrap();
    write_atomically(&path, &sealed).unwrap();
    let manifest = Revision::open(fs::read(path).unwrap()).unwrap().manifest;
    assert_eq!(manifest, project.manifest);
    assert_eq!(manifest.output.kind, OutputType::Json);
    assert_eq!(manifest.input, serde_json::json!({ "type": "object" }));
    assert_eq!(manifest.config["since"], "2024-01-01");
    assert_eq!(manifest.limits.fuel, Some(1000));
}

#[test]
fn a_program_without_a_shell_builds_too() {
    let toml = format!("{HEAD}build.command = [\"cp\", \"plain.wasm\", \"a.wasm\"]");
    let folder = folder(&toml);
    let sealed = load(folder.path()).unwrap().build(BuildOutput::Discard).unwrap();
    let manifest = Revision::open(sealed).unwrap().manifest;
    assert_eq!((manifest.input, manifest.output.kind), (true.into(), OutputType::Document));
}

#[test]
fn each_refusal_names_file_and_place() {
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(load(empty.path()), Err(BuildError::NoAgentToml(_))));
    for (more, text) in [
        ("nam = 1", "agent.toml` is malformed: TOML parse error at line 3, column 1"),
        ("tools = [\"files\"]", "line 3, column 9"),
        ("limits.fuel = 0", "agent.toml`: limit `fuel` is `0`"),
        ("config.a.b = nan", "`config.a.b` in `"),
        ("input.schema = 3", "expected a table, or the path of a JSON file"),
        ("input.schema = \"../x.json\"", "cannot read `"),
        ("input.schema = \"/etc/passwd\"", "schema `/etc/passwd` is outside of the agent's folder"),
        ("input.schema = \"plain.wasm\"", "plain.wasm` is not JSON: "),
        (
            "input.schema.type = \"text\"",
            "agent.toml`: the input schema is not a valid JSON Schema: at `/type`",
        ),
        ("", "there is no component `"),
        ("build.command = \"true\"", "a.wasm` after the build"),
        ("build.command = \"exit 3\"", "the build command `exit 3` failed: exit status: 3"),
        ("build.command = [\"/no/such\"]", "cannot start the build command `/no/such`: "),
        ("build.command = []", "cannot start the build command ``: "),
        ("build.command = \"echo x > a.wasm\"", "a.wasm`: the file is not WebAssembly"),
    ] {
        let error = error(&format!("{HEAD}{more}\n")).to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_missing_rust_target_is_told_from_other_failures() {
    let installed = !rust_target_is_missing(Path::new("."));
    let error = error(&format!("{HEAD}build.command = \"false --target wasm32-wasip2\"\n"));
    let hint = (!installed).then_some("run `rustup target add wasm32-wasip2`");
    assert_eq!(error.hint(), hint);
}

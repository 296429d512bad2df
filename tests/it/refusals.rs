//! What is not an agent is refused: with its own message, exit code 1, and a
//! home that is as it was.

use std::fs;
use std::path::Path;

use wasm_encoder::ComponentSection;

use crate::support::{Home, guest, root};

/// A component with the world's export, whose `run` takes and gives nothing.
const WRONG_RUN: &str = r#"
    (core module $m (func (export "run")))
    (core instance $i (instantiate $m))
    (func $run (canon lift (core func $i "run")))
    (instance $guest (export "run" (func $run)))
    (export "reenact:agent/guest@0.1.0" (instance $guest))"#;

/// A manifest that nothing is wrong with.
const MANIFEST: &str =
    r#"{"format":1,"name":"odd","input":true,"output":{"type":"document"},"tools":[]}"#;

fn component(body: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {body})")).unwrap()
}

/// The component of the minimal agent before sealing.
fn plain() -> Vec<u8> {
    guest("minimal");
    let path = "guest-examples/target/wasm32-wasip2/release/minimal.wasm";
    fs::read(root().join(path)).unwrap()
}

fn with_manifest(mut component: Vec<u8>, manifest: &str) -> Vec<u8> {
    let name = reenact::revision::MANIFEST_SECTION.into();
    wasm_encoder::CustomSection { name, data: manifest.as_bytes().into() }
        .append_to_component(&mut component);
    component
}

/// A home in which nothing is, and a folder to make mistakes in.
struct Scene {
    home: Home,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { home: Home::new(), dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// What the command says when it refuses. The scene's folder is `DIR` in it.
    fn refuses(&self, args: &[&str]) -> String {
        let said = self.home.says(args);
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{args:?}: {said:#?}");
        assert_eq!(self.home.json(&["agents", "--json"]), serde_json::json!([]), "{args:?}");
        assert_eq!(self.home.json(&["runs", "--json"]), serde_json::json!([]), "{args:?}");
        assert_eq!(files(&self.home.path().join("blobs")), 0, "{args:?}");
        said.stderr.replace(self.dir.path().to_str().unwrap(), "DIR")
    }

    /// What every verb that takes a file says to this one.
    fn refuses_file(&self, content: &[u8]) -> String {
        let file = self.write("odd.wasm", content);
        let inspect = self.refuses(&["inspect", &file]);
        assert_eq!(self.refuses(&["publish", &file]), inspect);
        assert_eq!(self.refuses(&["run", &file]), inspect);
        inspect
    }

    /// What every verb that takes a folder says to this `agent.toml`.
    fn refuses_folder(&self, toml: &str) -> String {
        self.write("agent.toml", toml);
        let dir = self.dir.path().to_str().unwrap();
        let build = self.refuses(&["build", dir]);
        assert_eq!(self.refuses(&["run", dir]), build);
        assert!(!Path::new(&self.path("odd.wasm")).exists(), "nothing is written");
        build
    }
}

fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

#[test]
fn a_file_that_is_no_component() {
    let scene = Scene::new();
    assert_eq!(
        scene.refuses_file(b"MZ\x90\0"),
        "error: `DIR/odd.wasm` is refused\n  caused by: the file is not WebAssembly\n\n\
         hint: give the `.wasm` file that `reenact build` wrote\n"
    );
    assert_eq!(
        scene.refuses_file(b"(component)"),
        "error: `DIR/odd.wasm` is refused\n  \
         caused by: the file is WebAssembly text, not a binary\n\n\
         hint: `wasm-tools parse FILE.wat -o FILE.wasm` makes a binary of it\n"
    );
    assert_eq!(
        scene.refuses_file(&wat::parse_str("(module)").unwrap()),
        "error: `DIR/odd.wasm` is refused\n  \
         caused by: the file is a core module, not a component\n\n\
         hint: build for the target `wasm32-wasip2`, or make a component of it with \
         `wasm-tools component new`\n"
    );
    let mut cut = plain();
    cut.truncate(5_000);
    let said = scene.refuses_file(&cut);
    assert!(said.contains("caused by: the component is not valid: "), "{said}");
}

#[test]
fn a_component_that_is_no_agent() {
    let scene = Scene::new();
    assert_eq!(
        scene.refuses_file(&plain()),
        "error: `DIR/odd.wasm` is refused\n  caused by: the component has no manifest\n\n\
         hint: run `reenact build` in the agent's folder\n"
    );
    assert_eq!(
        scene.refuses_file(&with_manifest(component(""), MANIFEST)),
        "error: `DIR/odd.wasm` is refused\n  \
         caused by: the component does not export `reenact:agent/guest@0.1.0`: \
         it exports nothing\n\n\
         hint: implement the world `agent` of wit/agent.wit\n"
    );
    let import = format!("(import \"acme:db/query@1.0.0\" (instance)) {WRONG_RUN}");
    assert_eq!(
        scene.refuses_file(&with_manifest(component(&import), MANIFEST)),
        "error: `DIR/odd.wasm` is refused\n  \
         caused by: the component imports `acme:db/query@1.0.0`, which the host does not give\n\n\
         hint: an agent may import `reenact:agent` and WASI 0.2; reach all else through tools\n"
    );
}

#[test]
fn what_only_comes_out_when_a_run_is_prepared() {
    let scene = Scene::new();
    let file = scene.write("odd.wasm", with_manifest(component(WRONG_RUN), MANIFEST));
    for verb in ["publish", "run"] {
        let said = scene.refuses(&[verb, &file]);
        let reason =
            "the revision does not fit the world `reenact:agent`: `run` has the wrong type";
        assert!(said.contains(reason), "{said}");
    }
    // Nor is a revision kept whose input was refused.
    let sound = scene.write("sound.wasm", &guest("minimal").bytes);
    let said = scene.refuses(&["run", &sound, "--input", "[]"]);
    assert!(said.contains("the input does not fit"), "{said}");

    scene.write("plain.wasm", component(WRONG_RUN));
    scene.write("agent.toml", "name = \"typed\"\ncomponent = \"plain.wasm\"");
    scene.refuses(&["build", scene.dir.path().to_str().unwrap()]);
    assert!(!Path::new(&scene.path("typed.wasm")).exists());
}

#[test]
fn a_manifest_that_is_malformed() {
    let scene = Scene::new();
    let says = |manifest: &str| {
        let said = scene.refuses_file(&with_manifest(plain(), manifest));
        said.strip_prefix("error: `DIR/odd.wasm` is refused\n  caused by: ").unwrap().to_owned()
    };
    assert_eq!(
        says("{\"format\":1,"),
        "the manifest is malformed: EOF while parsing a value at line 1 column 12\n"
    );
    let unknown = says(&MANIFEST.replace("\"tools\"", "\"tolls\""));
    assert!(unknown.starts_with("the manifest is malformed: unknown field `tolls`, "), "{unknown}");
    assert_eq!(
        says(&MANIFEST.replace("\"format\":1", "\"format\":9")),
        "the manifest has format `9`, but this version of reenact reads format `1`\n\n\
         hint: a newer version of reenact sealed this revision\n"
    );
    let schema = says(&MANIFEST.replace("true", r#"{"type":"text"}"#));
    assert!(
        schema.starts_with("the input schema is not a valid JSON Schema: at `/type`: "),
        "{schema}"
    );
    let output = r#"{"type":"json","schema":{"minimum":"a"}}"#;
    let schema = says(&MANIFEST.replace(r#"{"type":"document"}"#, output));
    assert!(
        schema.starts_with("the output schema is not a valid JSON Schema: at `/minimum`: "),
        "{schema}"
    );
    let twice = with_manifest(with_manifest(plain(), MANIFEST), MANIFEST);
    let said = scene.refuses_file(&twice);
    assert!(said.contains("caused by: the component has 2 manifests\n"), "{said}");
}

#[test]
fn an_agent_toml_with_a_mistake() {
    let scene = Scene::new();
    let dir = scene.dir.path().to_str().unwrap();
    assert_eq!(
        scene.refuses(&["build", dir]),
        "error: there is no `agent.toml` in `DIR`\n\n\
         hint: give the folder that holds the agent's `agent.toml`\n"
    );
    let head = "name = \"odd\"\ncomponent = \"plain.wasm\"\n";
    let says = |more: &str| scene.refuses_folder(&format!("{head}{more}"));
    for (toml, place, reason) in [
        ("tools = [", "line 3", ""),
        ("nam = 1", "line 3, column 1", "unknown field `nam`"),
        ("build.cmd = \"true\"", "line 3, column 7", "unknown field `cmd`"),
        ("tools = [\"files\"]", "line 3", "`files` is not a tool: expected `provider.tool`"),
    ] {
        let said = says(toml);
        assert!(said.starts_with("error: `DIR/agent.toml` is malformed: "), "{said}");
        assert!(said.contains(place) && said.contains(reason), "{said}");
    }
    let said = scene.refuses_folder("name = \"Odd One\"\ncomponent = \"plain.wasm\"");
    assert!(said.contains("line 1") && said.contains("`Odd One` is not an agent's name"), "{said}");
    assert_eq!(
        says("limits.fuel = 0"),
        "error: `DIR/agent.toml`: limit `fuel` is `0`, but must be from 1 to 9007199254740992\n"
    );
    let said = says("output.type = \"json\"\noutput.schema.type = \"obj\"");
    assert!(said.contains("the output schema is not a valid JSON Schema: at `/type`"), "{said}");
}

#[test]
fn a_build_that_comes_to_nothing() {
    let scene = Scene::new();
    let head = "name = \"odd\"\ncomponent = \"plain.wasm\"\nbuild.command = ";
    let says = |command: &str| scene.refuses_folder(&format!("{head}\"{command}\""));
    assert_eq!(
        says("true"),
        "building true\nerror: there is no component `DIR/plain.wasm` after the build\n\n\
         hint: `component` in `agent.toml` names the file that the build command writes\n"
    );
    assert_eq!(
        says("echo broken; exit 3"),
        "building echo broken; exit 3\nbroken\n\
         error: the build command `echo broken; exit 3` failed: exit status: 3\n"
    );
    let said = scene.refuses_folder("name = \"odd\"\ncomponent = \"plain.wasm\"");
    assert!(said.contains("hint: build the component first"), "{said}");
}

/// Without the target, cargo says so at length; the way out stands at the end.
#[cfg(unix)]
#[test]
fn a_missing_rust_target() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    let rustc = scene.write("rustc", "#!/bin/sh\necho /no/such/folder\n");
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();
    let toml = "name = \"odd\"\ncomponent = \"plain.wasm\"\n\
                build.command = \"false --target wasm32-wasip2\"";
    scene.write("agent.toml", toml);
    let dir = scene.dir.path().to_str().unwrap();
    let path = format!("{dir}:{}", std::env::var("PATH").unwrap());
    let output = scene.home.command(&["build", dir]).env("PATH", path).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.ends_with("\n\nhint: run `rustup target add wasm32-wasip2`\n"), "{stderr}");
}

#[test]
fn a_file_that_is_too_large() {
    let scene = Scene::new();
    let file = scene.path("odd.wasm");
    let size = reenact::revision::MAX_COMPONENT_BYTES as u64 + 1;
    fs::File::create(&file).unwrap().set_len(size).unwrap();
    let expected = "error: `DIR/odd.wasm` has 67108865 bytes, a revision has at most 67108864\n";
    for verb in ["inspect", "publish", "run"] {
        assert_eq!(scene.refuses(&[verb, &file]), expected);
    }
    scene.write("agent.toml", "name = \"a\"\ncomponent = \"odd.wasm\"");
    assert_eq!(
        scene.refuses(&["build", scene.dir.path().to_str().unwrap()]),
        "error: `DIR/odd.wasm` has more than 67108864 bytes\n"
    );
}

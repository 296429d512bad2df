//! Whole runs on the command line that ask a model: what is recorded, what is
//! replayed, and that no key is ever written.

use std::fs;
use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{KEY, hello};
use crate::models::{OpenAi, Reply, Says, Server};
use crate::support::{Home, Said, guest, resealed};

/// Another one, from the environment.
const OTHER_KEY: &str = "sk-canary-e4a7d05f31";

/// A home with an agent that makes the calls it is told to, and a configuration
/// outside of it that grants a model.
struct Desk {
    home: Home,
    outside: tempfile::TempDir,
    server: Option<Server>,
}

impl Desk {
    fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        let desk = Self {
            home: Home::new(),
            outside: tempfile::tempdir().unwrap(),
            server: Some(Server::start(OpenAi, script)),
        };
        let agent = resealed(&guest("hostile"), |manifest| {
            manifest.tools = vec!["model.*".parse().unwrap()];
        });
        fs::write(desk.path("agent.wasm"), &agent.bytes).unwrap();
        desk.configure(&format!("[secrets]\nCANARY = '{KEY}'\n"));
        desk
    }

    fn configure(&self, more: &str) {
        let grant = super::grant(self.server.as_ref().unwrap());
        fs::write(self.path("config.toml"), format!("{more}{grant}")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.outside.path().join(name)
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.home.command(args);
        command.arg("--config").arg(self.path("config.toml")).env("CANARY", OTHER_KEY);
        command
    }

    /// Runs the agent, which makes this one call.
    fn runs(&self, arguments: &Value, more: &[&str]) -> Said {
        let input = json!({ "do": "call", "text": format!("model.chat {arguments}") }).to_string();
        let agent = self.path("agent.wasm");
        let args = ["run", agent.to_str().unwrap(), "--input", &input];
        self.command(&[&args, more].concat()).output().unwrap().into()
    }

    fn run_json(&self, arguments: &Value) -> Value {
        let said = self.runs(arguments, &["--json"]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        serde_json::from_str(&said.stdout).unwrap()
    }

    fn show(&self, run: &Value) -> Value {
        self.home.json(&["show", run["id"].as_str().unwrap(), "--json"])
    }
}

/// Every file below a folder that holds any of the canaries.
fn singing(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(singing(&path));
        } else if sings(&fs::read(&path).unwrap_or_default()) {
            found.push(path);
        }
    }
    found
}

fn sings(bytes: &[u8]) -> bool {
    bytes.windows(9).any(|window| window == b"sk-canary")
}

fn is_silent(said: &Said) {
    assert!(!sings(said.stdout.as_bytes()) && !sings(said.stderr.as_bytes()), "{said:#?}");
}

#[test]
fn no_key_is_ever_written() {
    let quoting = |status| {
        let message = format!("The key {KEY} or {OTHER_KEY} is over its quota");
        Reply::Refuses(status, None, message)
    };
    let scripts: [&[Reply]; 5] = [
        &[Reply::EchoesKey],
        &[Reply::RefusesKey],
        &[quoting(429), quoting(500), Reply::EchoesKey],
        &[Reply::Fails(Says::text(&["so "]), format!("bad {KEY} {OTHER_KEY}")), Reply::EchoesKey],
        &[Reply::Says(Says::calls(&[(KEY, KEY, &format!("{{\"{KEY}\":[\"{KEY}\"]}}"))]))],
    ];
    // Once from the configuration, once from the environment.
    for secrets in [format!("[secrets]\nCANARY = '{KEY}'\n"), String::new()] {
        let desk = Desk::new([Reply::EchoesKey]);
        desk.configure(&secrets);
        let key = if secrets.is_empty() { OTHER_KEY } else { KEY };
        let server = desk.server.as_ref().unwrap();
        for script in scripts {
            // What is not this run's secret is nobody's: the server must not know it.
            let script: Vec<Reply> = script.iter().map(|reply| reply.only(key)).collect();
            for form in [&["--json"][..], &["--events", "ndjson"], &[]] {
                server.script(script.clone());
                let mut command = desk.command(&["run"]);
                let input = json!({ "do": "call", "text": format!("model.chat {}", hello()) });
                command.arg(desk.path("agent.wasm")).args(["--input", &input.to_string()]);
                let said: Said =
                    command.args(form).env("REENACT_LOG", "trace").output().unwrap().into();
                assert_eq!(said.code, Some(0), "{said:#?}");
                is_silent(&said);
            }
            assert_eq!(server.wire.key(&server.last().headers).as_deref(), Some(key));
        }
        let runs = desk.home.json(&["runs", "--json"]);
        assert_eq!(runs.as_array().unwrap().len(), scripts.len() * 3);
        let mut scrubbed = 0;
        for run in runs.as_array().unwrap() {
            let id = run["id"].as_str().unwrap();
            let exported = desk.home.path().join(format!("{id}.reenact"));
            for args in [
                &["show", id][..],
                &["show", id, "--json"],
                &["export", id, "-o", exported.to_str().unwrap()],
                &["replay", id],
                &["replay", id, "--json"],
            ] {
                let said = desk.home.says(args);
                assert_eq!(said.code, Some(0), "{said:#?}");
                is_silent(&said);
                scrubbed += said.stdout.matches("[secret]").count();
            }
        }
        assert!(scrubbed > 30, "the answers came with keys: {scrubbed}");
        assert_eq!(singing(desk.home.path()), Vec::<PathBuf>::new());
        assert!(!singing(desk.outside.path()).is_empty() || secrets.is_empty(), "it finds them");
    }
}

impl Reply {
    /// The same reply with one key at most.
    fn only(&self, key: &str) -> Self {
        let text = |text: &str| text.replace(KEY, key).replace(OTHER_KEY, key);
        let mut reply = self.clone();
        match &mut reply {
            Self::Refuses(_, _, message) | Self::Fails(_, message) => *message = text(message),
            Self::Says(says) => {
                for (id, name, arguments) in &mut says.calls {
                    (*id, *name, *arguments) = (text(id), text(name), text(arguments));
                }
            }
            _ => {}
        }
        reply
    }
}

#[test]
fn a_run_replays_when_the_model_is_gone() {
    let busy = Reply::Refuses(429, None, "Slow down.".to_owned());
    let mut desk = Desk::new([busy, Reply::Says(Says::text(&["It ", "depends."]))]);
    let run = desk.run_json(&hello());
    let answer = &run["resultData"]["result"]["ok"];
    assert_eq!((&answer["text"], &answer["model"]), (&json!("It depends."), &json!("openai:m")));
    let shown = desk.show(&run).to_string();
    let attempt = "`openai:m` answered 429 Too Many Requests: Slow down.";
    for recorded in [attempt, "\"input_tokens\":12", "\"cost_micros\":9"] {
        assert!(shown.contains(recorded), "{recorded}: {shown}");
    }
    assert_eq!(desk.server.as_ref().unwrap().times(), 2);

    drop(desk.server.take());
    let id = run["id"].as_str().unwrap();
    desk.home.ok(&["replay", id]);
    desk.home.exports_and_replays_offline(id);
}

#[test]
fn the_prompt_agent_asks_a_model_and_reads_files() {
    let says = |text: &str, calls: &[(&str, &str)]| {
        let call = |(number, (name, arguments)): (usize, &(&str, &str))| {
            (format!("call-{number}"), (*name).to_owned(), (*arguments).to_owned())
        };
        Reply::Says(Says {
            text: vec![text.to_owned()],
            calls: calls.iter().enumerate().map(call).collect(),
            tokens: Some((100, 10)),
            ..Says::default()
        })
    };
    let mut desk = Desk::new([
        says("1. Search the files. 2. Answer.", &[]),
        says(
            "Both at once.",
            &[("files_search", r#"{"query":"fuel"}"#), ("files_read", r#"{"path":"a.md"}"#)],
        ),
        says("# Fuel\n\nIt is counted (a.md).", &[]),
    ]);
    let docs = desk.path("docs");
    fs::create_dir(&docs).unwrap();
    fs::write(docs.join("a.md"), "Fuel is counted.\n").unwrap();
    desk.configure(&format!(
        "[secrets]\nCANARY = '{KEY}'\n[grants.files]\nroot = '{}'\n",
        docs.display()
    ));
    let agent = desk.path("prompt.wasm");
    fs::write(&agent, &guest("prompt").bytes).unwrap();
    let input = json!({ "question": "What is fuel?" }).to_string();
    let args = ["run", agent.to_str().unwrap(), "--input", &input, "--json"];
    let said: Said = desk.command(&args).output().unwrap().into();
    assert_eq!(said.code, Some(0), "{said:#?}");
    let run: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(run["resultData"]["result"], "# Fuel\n\nIt is counted (a.md).", "{run:#}");
    assert_eq!(run["resultData"]["sources"][0]["title"], "a.md");
    assert_eq!(
        (&run["used"]["tool_calls"], &run["used"]["model_tokens"]),
        (&json!(5), &json!(330))
    );
    drop(desk.server.take());
    desk.home.exports_and_replays_offline(run["id"].as_str().unwrap());
}

#[test]
fn a_missing_key_is_told_before_the_run_starts() {
    let desk = Desk::new([Reply::Hangs]);
    let agent = desk.path("agent.wasm");
    let agent = agent.to_str().unwrap();
    let input = json!({ "do": "call", "text": "model.chat {}" }).to_string();
    for (model, name) in [
        ("openai:gpt-5-mini", "OPENAI_API_KEY"),
        ("anthropic:claude-sonnet-4-5", "ANTHROPIC_API_KEY"),
        ("gemini:gemini-2.5-flash", "GEMINI_API_KEY"),
    ] {
        let grant = format!("model={model}");
        let mut command = desk.home.command(&["run", agent, "--input", &input, "--grant", &grant]);
        let said: Said = command.env_remove(name).output().unwrap().into();
        assert_eq!(said.code, Some(1), "{said:#?}");
        let expected =
            format!("there is no secret `{name}`: neither `[secrets]` nor the environment");
        assert!(said.stderr.contains(&expected), "{said:#?}");
    }
    // Who asks for no model needs no key.
    let minimal = desk.path("minimal.wasm");
    fs::write(&minimal, &guest("minimal").bytes).unwrap();
    let args = ["run", minimal.to_str().unwrap(), "--input", r#"{"name":"Ada"}"#];
    let grant = ["--grant", "model=openai:gpt-5-mini"];
    let mut command = desk.home.command(&[&args[..], &grant].concat());
    let said: Said = command.env_remove("OPENAI_API_KEY").output().unwrap().into();
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "Hello, Ada!\n"), "{said:#?}");
}

#[test]
fn a_budget_bounds_the_request_and_ends_a_run_that_exceeds_it() {
    let desk = Desk::new([Reply::Says(Says::text(&["x"]))]);
    desk.configure(&format!("[limits]\nmodel_tokens = 14\n[secrets]\nCANARY = '{KEY}'\n"));
    let said = desk.runs(&hello(), &["--json"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    let run: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(run["error"]["code"], "too_many_tokens", "{run}");
    let server = desk.server.as_ref().unwrap();
    assert_eq!(server.last().body["max_tokens"], 14, "no more was asked for than is left");
}

#[cfg(target_os = "linux")]
#[test]
fn a_hostile_server_takes_no_memory() {
    let desk = Desk::new([Reply::Says(Says::text(&["x"]))]);
    let server = desk.server.as_ref().unwrap();
    let (base, code) = peak(&desk);
    assert_eq!(code, Some(0));
    let (ok, bad) = (StatusCode::OK, StatusCode::BAD_REQUEST);
    let text = server.line_of_text();
    for (status, piece) in
        [(ok, "x"), (ok, "data: x\n"), (ok, &text), (ok, ": keep-alive\n\n"), (bad, "x")]
    {
        server.script([Reply::Endless(status, piece.to_owned())]);
        let (peak, code) = peak(&desk);
        assert_eq!(code, Some(0), "{piece}");
        let more = peak.saturating_sub(base);
        assert!(more < 64 << 20, "{piece} took {} MiB", more >> 20);
        let newest = desk.home.json(&["runs", "--json"])[0]["id"].take();
        let run = desk.home.json(&["show", newest.as_str().unwrap(), "--json"]);
        let code = &run["resultData"]["result"]["code"];
        assert_eq!(code, if status == ok { "too-large" } else { "invalid-arguments" }, "{run}");
    }
}

/// The most memory that a run had, in bytes, and how the program exited.
#[cfg(target_os = "linux")]
fn peak(desk: &Desk) -> (u64, Option<i32>) {
    let input = json!({ "do": "call", "text": format!("model.chat {}", hello()) }).to_string();
    let mut command = desk.command(&["run", "--input", &input, "--events", "none"]);
    command.arg(desk.path("agent.wasm")).stdout(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        // The kernel keeps the peak, so only the very last moments can be missed.
        let status = fs::read_to_string(&status).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(kib.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().unwrap() {
            return (most, status.code());
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

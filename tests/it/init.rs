//! `reenact init`: every template becomes an agent that builds, runs and
//! replays as it stands, outside of the checkout.

use std::fs;
use std::path::Path;
use std::process::Command;

use reenact::build::{self, BuildOutput};
use reenact::journal::{Body, Entry, Outcome};
use reenact::revision::Revision;
use serde_json::{Value, json};

use crate::scripted_model::{ScriptedModel, calls, text};
use crate::support::{Home, Lab, Said, guest, resealed, root};

const NAME: &str = "my-agent";

/// Makes an agent of the template beside `home`'s files; answers what init said as JSON.
fn init(home: &Home, template: &str) -> Value {
    let folder = home.path().join(NAME);
    home.json(&["init", folder.to_str().unwrap(), "--template", template, "--json"])
}

/// Does one of the commands that init names, as a person would who copies it.
fn does(home: &Home, command: &Value) -> Said {
    let mut shell = Command::new("sh");
    shell.args(["-c", command.as_str().unwrap()]).current_dir(home.path());
    shell.env("REENACT_HOME", home.path()).env_remove("REENACT_CONFIG");
    shell.output().unwrap().into()
}

fn newest_run(home: &Home) -> Value {
    let id = home.json(&["runs", "--json"])[0]["id"].as_str().unwrap().to_owned();
    home.json(&["show", &id, "--json"])
}

/// Follows init's own words to the end: builds, runs, and replays the run.
fn stands_by_its_word(template: &str) {
    let home = Home::new();
    let said = init(&home, template);
    assert_eq!((&said["agent"], &said["template"]), (&json!(NAME), &json!(template)));
    for file in said["files"].as_array().unwrap() {
        assert!(home.path().join(NAME).join(file.as_str().unwrap()).is_file(), "{file}");
    }
    let next = said["next"].as_array().unwrap();
    for command in next {
        let said = does(&home, command);
        assert_eq!(said.code, Some(0), "{command}: {said:#?}");
    }
    let run = newest_run(&home);
    assert_eq!((&run["status"], &run["agentId"]), (&json!("done"), &json!(NAME)));
    // The folder was granted: its own agent.toml speaks of tools.
    let result = run["resultData"]["result"].as_str().unwrap();
    assert!(result.contains("agent.toml"), "{result}");
    let entries = run["entryList"].as_array().unwrap();
    for (kind, part) in [("event", "kind"), ("tool_called", "name"), ("tool_answered", "call")] {
        assert!(entries.iter().any(|entry| entry["body"][kind].get(part).is_some()), "{kind}");
    }
    let id = run["id"].as_str().unwrap();
    assert!(home.ok(&["replay", id]).contains("came out the same"));
    home.exports_and_replays_offline(id);

    // Without the grant it does without.
    let folder = home.path().join(NAME);
    let said = home.ok(&["run", folder.to_str().unwrap(), "--input", r#"{"topic":"tools"}"#]);
    assert!(said.starts_with("There are no files to search for tools: "), "{said}");
}

#[test]
fn the_rust_template_stands_by_its_word() {
    stands_by_its_word("rust");
}

#[test]
fn the_python_template_stands_by_its_word() {
    stands_by_its_word("python");
}

#[test]
fn the_javascript_template_stands_by_its_word() {
    stands_by_its_word("javascript");
}

#[tokio::test]
async fn the_prompt_template_works_with_the_component_that_it_carries() {
    let home = Home::new();
    let said = init(&home, "prompt");
    assert_eq!(said["files"], json!(["agent.toml", "prompt.wasm"]));
    let said = does(&home, &said["next"][0]);
    assert_eq!(said.code, Some(0), "{said:#?}");

    let folder = home.path().join(NAME);
    let project = build::load(&folder).unwrap();
    let revision = Revision::open(project.build(BuildOutput::Discard).unwrap()).unwrap().into();
    let model = ScriptedModel::new([
        text("- Search"),
        calls("", [("files.search", json!({ "query": "tools" }))]),
        text("`agent.toml` speaks of tools."),
    ]);
    let lab = Lab::new();
    let start = lab.run(&revision, json!({ "topic": "tools" }));
    let record = start.providers(model.with_files(&folder)).ends().await;
    lab.proves(&record).await;
    assert!(matches!(record.ran.ended.outcome, Outcome::Done(_)), "{:?}", record.ran.ended);
    assert!(model.messages()[5]["content"].as_str().unwrap().contains("agent.toml"));

    // On the command line, without a model.
    let said = home.says(&["run", folder.to_str().unwrap(), "--input", r#"{"topic":"tools"}"#]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    assert!(
        said.stderr.contains("agent_failure") && said.stderr.contains("`model.chat`"),
        "{said:#?}"
    );
    let id = newest_run(&home)["id"].as_str().unwrap().to_owned();
    assert!(home.ok(&["replay", &id]).contains("came out the same"));
}

/// What a run recorded, without what differs from build to build.
fn story(entries: Vec<Entry>) -> Vec<Body> {
    let after_start = entries.into_iter().skip(1).map(|entry| entry.body);
    let of_content = |body| match body {
        Body::Ended(mut ended) => {
            ended.used.memory_bytes = 0;
            ended.used.table_elements = 0;
            ended.used.journal_bytes = 0;
            Body::Ended(ended)
        }
        other => other,
    };
    let mut story: Vec<Body> = after_start.map(of_content).collect();
    // Answers of one batch are recorded in the order in which they happen to arrive.
    let call = |body: &Body| match body {
        Body::ToolAnswered(answered) => Some(answered.call),
        _ => None,
    };
    for batch in story.chunk_by_mut(|a, b| call(a).is_some() && call(b).is_some()) {
        batch.sort_by_key(call);
    }
    story
}

/// `templates/prompt/build.sh` makes the component that the program carries.
#[tokio::test]
async fn the_component_in_the_program_does_what_the_example_does() {
    let built = guest("prompt");
    let carried = fs::read(root().join("templates/prompt/prompt.wasm")).unwrap();
    let carried = reenact::revision::seal(&carried, &built.manifest).unwrap();
    let carried = std::sync::Arc::new(Revision::open(carried).unwrap());
    assert_eq!((&carried.imports, &carried.exports), (&built.imports, &built.exports));

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.md"), "fuel\n".repeat(2_000)).unwrap();
    let lab = Lab::new();
    let mut stories = vec![];
    for revision in [built, carried] {
        let revision = resealed(&revision, |manifest| {
            manifest.config.insert("context_bytes".into(), json!(8_000));
            manifest.output.kind = reenact::revision::OutputType::Json;
            manifest.output.schema = Some(json!({ "type": "string", "pattern": "^ä+$" }));
        });
        let read = || {
            calls(
                "On.",
                [
                    ("files.read", json!({ "path": "a.md" })),
                    ("files.none", json!("{")),
                    ("files.search", json!({ "query": "fuel" })),
                ],
            )
        };
        // Wherever notes are asked for, what stands there is some.
        let mut script = vec![text("1. Read")];
        script.extend((0..8).map(|_| read()));
        script.extend(["\"o\"", "\"o\"", "\"ää\""].map(text));
        let model = ScriptedModel::new(script);
        let start = lab.run(&revision, json!({ "question": "?" })).seed([7; 32]);
        let record = start.providers(model.with_files(folder.path())).ends().await;
        assert_eq!(record.json(), "ää");
        for kind in ["planning", "context_compression", "output_rejected"] {
            let is_one = |body: &Body| matches!(body, Body::Event(event) if event.kind == kind);
            assert!(record.entries().iter().any(|entry| is_one(&entry.body)), "{kind}");
        }
        stories.push(story(record.entries()));
    }
    assert_eq!(stories[0], stories[1], "run templates/prompt/build.sh");
}

#[test]
fn the_component_in_the_program_names_no_machine() {
    let bytes = fs::read(root().join("templates/prompt/prompt.wasm")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for word in ["/root/", "/home/", "/Users/", ".cargo", "/tmp/", "crates.io", "guest-examples"] {
        let at = text.find(word);
        let near = at.map(|at| text[at..].chars().take(80).collect::<String>());
        assert_eq!(near, None, "run templates/prompt/build.sh");
    }
}

#[test]
fn names_that_no_agent_can_have_are_refused() {
    let home = Home::new();
    for name in ["My-Agent", "my agent", "agent_1", "1st", "..", "a/..", "/"] {
        let said = home.fails(1, &["init", name]);
        assert!(said.starts_with("error: "), "{said}");
        assert!(said.contains("hint: give the path of a folder to make"), "{said}");
    }
    let long = "a".repeat(64);
    assert!(home.fails(1, &["init", &long]).contains("expected 1 to 63 of `a-z 0-9 -`"));
    let said = home.fails(2, &["init", "x", "--template", "cobol"]);
    assert!(said.contains("[possible values: prompt, rust, python, javascript]"), "{said}");
    home.fails(2, &["init"]);
}

#[test]
fn what_is_there_already_is_not_touched() {
    let home = Home::new();
    let folder = home.path().join(NAME);
    let path = folder.to_str().unwrap();
    fs::create_dir(&folder).unwrap();
    // An empty folder is as good as none.
    assert_eq!(home.ok(&["init", path]).trim_end(), path);
    assert!(!fs::metadata(&folder).unwrap().permissions().readonly());
    fs::write(folder.join("agent.toml"), "mine").unwrap();
    let said = home.fails(1, &["init", path]);
    assert_eq!(
        said,
        format!(
            "error: `{path}` is a folder that is not empty\n\n\
             hint: give another name, or remove it first\n"
        )
    );
    assert_eq!(fs::read_to_string(folder.join("agent.toml")).unwrap(), "mine");

    let file = home.path().join("a-file");
    fs::write(&file, "mine").unwrap();
    let said = home.fails(1, &["init", file.to_str().unwrap()]);
    assert!(said.contains("is there already, and is not a folder"), "{said}");
    let said = home.fails(1, &["init", file.join("sub").to_str().unwrap()]);
    assert!(said.starts_with("error: cannot "), "{said}");
    assert_eq!(left_over(home.path()), [""; 0]);
}

#[test]
fn folders_on_the_way_are_made_and_the_usual_permissions_given() {
    let home = Home::new();
    let folder = home.path().join("some where").join("else").join("counter");
    let said = home.json(&["init", folder.to_str().unwrap(), "-t", "rust", "--json"]);
    let toml = fs::read_to_string(folder.join("agent.toml")).unwrap();
    assert!(toml.lines().any(|line| line == "name = \"counter\""), "{toml}");
    assert!(build::load(&folder).is_ok());
    // The path has a space; the commands hold all the same.
    let command = said["next"][0].as_str().unwrap();
    assert!(command.ends_with(&format!(" build '{}'", folder.display())), "{command}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let plain = home.path().join("plain");
        fs::create_dir(&plain).unwrap();
        assert_eq!(mode(&folder), mode(&plain));
    }
    assert_eq!(left_over(&home.path().join("some where").join("else")), [""; 0]);
}

/// Drafts that were not cleaned up.
fn left_over(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".reenact-init")).collect()
}

#[test]
fn help_says_what_there_is() {
    let said = Home::new().ok(&["init", "--help"]);
    for part in ["--template <TEMPLATE>", "prompt", "rust", "python", "javascript", "Examples:"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

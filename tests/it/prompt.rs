//! The prompt agent with a model that a test has written the answers of.

use std::fs;
use std::sync::Arc;

use reenact::journal::{Body, ErrorCode, Outcome};
use reenact::revision::{Manifest, OutputType, Revision};
use reenact::tools::ToolErrorCode;
use serde_json::{Value, json};

use crate::scripted_model::{Providers, ScriptedModel, answer, calls, text};
use crate::support::{Lab, Record, guest, resealed};

const QUESTION: &str = "What is fuel?";

/// A folder that knows something.
fn papers() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("fuel.md"), "Fuel counts instructions.\n").unwrap();
    fs::write(folder.path().join("clock.md"), "The clock of progress is fuel.\n").unwrap();
    fs::write(folder.path().join("long.txt"), "on and on it goes\n".repeat(2_000)).unwrap();
    folder
}

fn agent(change: impl FnOnce(&mut Manifest)) -> Arc<Revision> {
    resealed(&guest("prompt"), change)
}

fn configured(config: Value) -> Arc<Revision> {
    agent(|manifest| {
        for (name, value) in config.as_object().unwrap() {
            manifest.config.insert(name.clone(), value.clone());
        }
    })
}

/// Runs the agent and proves that the run replays.
async fn run(revision: &Arc<Revision>, providers: Providers) -> Record {
    let lab = Lab::new();
    let input = json!({ "question": QUESTION });
    let record = lab.run(revision, input).providers(providers).ends().await;
    lab.proves(&record).await;
    record
}

/// The data of the events of this kind.
fn events(record: &Record, kind: &str) -> Vec<Value> {
    let of_kind = |entry: reenact::journal::Entry| match entry.body {
        Body::Event(event) if event.kind == kind => Some(event.data.to_value()),
        _ => None,
    };
    record.entries().into_iter().filter_map(of_kind).collect()
}

fn document(record: &Record) -> String {
    match &record.ran.ended.outcome {
        Outcome::Done(output) => serde_json::to_value(&output.content).unwrap()["document"]
            .as_str()
            .expect("a document")
            .to_owned(),
        Outcome::Error(error) => panic!("{error:?}"),
    }
}

fn details(record: &Record) -> Value {
    record.error().details.as_ref().expect("details").to_value()
}

fn message_texts(messages: &[Value], role: &str) -> Vec<String> {
    let of_role = messages.iter().filter(|message| message["role"] == role);
    of_role.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn it_plans_looks_things_up_at_once_and_answers_with_sources() {
    let folder = papers();
    let model = ScriptedModel::new([
        text("- Search for fuel\n- Read what is found"),
        calls("I search first.", [("files.search", json!({ "query": "fuel" }))]),
        calls(
            "",
            [
                ("files.read", json!({ "path": "fuel.md" })),
                ("files.read", json!({ "path": "clock.md" })),
            ],
        ),
        text("# Fuel\n\nIt counts instructions (`fuel.md`).\n"),
    ]);
    let record = run(&guest("prompt"), model.with_files(folder.path())).await;

    assert_eq!(document(&record), "# Fuel\n\nIt counts instructions (`fuel.md`).");
    let Outcome::Done(output) = &record.ran.ended.outcome else { unreachable!() };
    let titles: Vec<&str> = output.sources.iter().map(|source| &*source.title).collect();
    assert_eq!(titles, ["clock.md", "fuel.md"]);

    let plan = &events(&record, "planning")[0];
    assert_eq!(plan["steps"], json!(["Search for fuel", "Read what is found"]));
    assert!(plan["goal"].as_str().unwrap().contains(QUESTION));
    assert_eq!(events(&record, "reasoning"), [json!({ "text": "I search first." })]);

    // Both files were asked for before either answered.
    let kinds: Vec<bool> = record
        .entries()
        .iter()
        .filter_map(|entry| match entry.body {
            Body::ToolCalled(_) => Some(true),
            Body::ToolAnswered(_) => Some(false),
            _ => None,
        })
        .collect();
    let at_once = [true, true, false, false];
    assert_eq!(kinds.windows(4).filter(|window| *window == at_once).count(), 1, "{kinds:?}");

    let asked = model.asked();
    assert!(asked[0].get("tools").is_none(), "a plan is made without tools");
    let names = |request: &Value| -> Vec<String> {
        let tools = request["tools"].as_array().unwrap().iter();
        tools.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&asked[1]), ["files.read", "files.search"]);
    let told = message_texts(&model.messages(), "tool");
    assert_eq!(told.len(), 3);
    assert!(told[1].contains("Fuel counts instructions."), "{}", told[1]);
}

#[tokio::test]
async fn json_that_does_not_fit_is_asked_for_again_with_what_is_wrong() {
    let model = ScriptedModel::new([
        text("- Answer"),
        text("{\"answer\": 7}"),
        text("```json\n{\"answer\": \"a count\", \"sure\": 1.0}\n```"),
    ]);
    let schema = json!({
        "type": "object",
        "required": ["answer", "sure"],
        "properties": { "answer": { "type": "string" }, "sure": { "type": "number" } },
    });
    let revision = agent(|manifest| {
        manifest.output.kind = OutputType::Json;
        manifest.output.schema = Some(schema.clone());
    });
    let record = run(&revision, model.alone()).await;
    assert_eq!(record.json(), json!({ "answer": "a count", "sure": 1.0 }));

    let rejected = &events(&record, "output_rejected")[0];
    assert_eq!(rejected["violations"].as_array().unwrap().len(), 2);
    let asked = model.asked();
    assert!(asked[0].get("output").is_none());
    assert_eq!(asked[1]["output"], json!({ "name": "prompt", "schema": schema }));
    let told = message_texts(&model.messages(), "user");
    let told = told.last().unwrap();
    assert!(told.contains("at `/answer`") && told.contains("\"sure\""), "{told}");
}

#[tokio::test]
async fn json_that_never_fits_is_given_up_with_what_was_wrong() {
    let model = ScriptedModel::new(["- Try", "7", "No.", "true"].map(text));
    let revision = agent(|manifest| {
        manifest.output.kind = OutputType::Json;
        manifest.output.schema = Some(json!({ "type": "string" }));
    });
    let record = run(&revision, model.alone()).await;
    assert_eq!(record.code(), ErrorCode::AgentFailure);
    let message = "the model's answer does not fit the output schema, 3 times (`output_retries`)";
    assert_eq!(record.error().message, message);
    assert_eq!(details(&record)["answer"], "true");
    assert!(details(&record)["violations"][0].as_str().unwrap().contains("string"));
}

#[tokio::test]
async fn calls_that_go_wrong_are_told_to_the_model() {
    let folder = papers();
    let model = ScriptedModel::new([
        text("- Try everything"),
        calls(
            "",
            [
                ("files.grep", json!({ "query": "fuel" })),
                ("files.read", json!({ "path": "missing.md" })),
                ("files.read", json!({ "file": "fuel.md" })),
                ("files.read", json!("{\"path\": \"fuel.md\"")),
                ("files.read", json!(["fuel.md"])),
                ("model.chat", json!({ "messages": [] })),
                // A name as some models write it, arguments as text.
                ("files_read", json!("{\"path\": \"fuel.md\"}")),
            ],
        ),
        text("Enough."),
    ]);
    let record = run(&guest("prompt"), model.with_files(folder.path())).await;
    assert_eq!(document(&record), "Enough.");
    let told = message_texts(&model.messages(), "tool");
    for (told, start) in told.iter().zip([
        "error: unknown-tool: there is no tool `files.grep`; there are: files.read, files.search",
        "error: failed: ",
        "error: invalid-arguments: the arguments of `files.read` do not fit its schema: ",
        "error: invalid-arguments: the arguments of `files.read` are not JSON: EOF",
        "error: invalid-arguments: the arguments of `files.read` are not an object",
        "error: unknown-tool: there is no tool `model.chat`; ",
        "{\"path\":\"fuel.md\"",
    ]) {
        assert!(told.starts_with(start), "{told}");
    }
    assert_eq!(told.len(), 7);
    // What no tool could take was not called: two models, three files.
    assert_eq!(record.tool_calls(), 3 + 3);
}

#[tokio::test]
async fn a_large_answer_is_cut_with_a_note() {
    let folder = papers();
    let model = ScriptedModel::new([
        text("- Read"),
        calls("", [("files.read", json!({ "path": "long.txt" }))]),
        text("Long."),
    ]);
    let revision = configured(json!({ "context_bytes": 20_000 }));
    run(&revision, model.with_files(folder.path())).await;
    let told = &message_texts(&model.messages(), "tool")[0];
    assert!(told.len() < 5_100, "{}", told.len());
    assert!(told.contains("\n[cut: the first 5000 of "), "{told}");
}

#[tokio::test]
async fn a_conversation_that_grows_becomes_notes() {
    let folder = papers();
    let read = || calls("Next part.", [("files.read", json!({ "path": "long.txt" }))]);
    let model = ScriptedModel::new([
        text("- Read"),
        read(),
        read(),
        read(),
        read(),
        text("The file repeats one line."),
        read(),
        text("It goes on."),
    ]);
    let revision = configured(json!({ "context_bytes": 12_000 }));
    let record = run(&revision, model.with_files(folder.path())).await;
    assert_eq!(document(&record), "It goes on.");

    let compressed = events(&record, "context_compression");
    assert_eq!(compressed.len(), 1);
    let event = &compressed[0];
    assert_eq!(event["text"], "The file repeats one line.");
    let bytes = |name: &str| event[name].as_u64().unwrap();
    assert!(bytes("bytes_before") > 12_000 && bytes("bytes_after") < 8_000, "{event}");

    // The notes were asked for without tools, and stand with the plan's last message.
    let asked = model.asked();
    assert!(asked[5].get("tools").is_none());
    assert!(
        asked[5]["messages"][1]["content"].as_str().unwrap().contains("agent calls files.read")
    );
    let messages = asked[6]["messages"].as_array().unwrap();
    assert_eq!(messages[0]["role"], "system");
    assert!(messages[1]["content"].as_str().unwrap().contains(QUESTION));
    assert!(messages[3]["content"].as_str().unwrap().ends_with("The file repeats one line."));
    // No call is parted from its answer.
    for (n, message) in messages.iter().enumerate() {
        if message["role"] == "tool" {
            assert_eq!(messages[n - 1]["tool_calls"][0]["id"], message["tool_call_id"]);
        }
    }
    assert_eq!(message_texts(messages, "tool").len() as u64, bytes("turns_kept"));
}

#[tokio::test]
async fn the_last_turn_is_for_the_answer() {
    let folder = papers();
    let search = || calls("Once more.", [("files.search", json!({ "query": "fuel" }))]);
    let model = ScriptedModel::new([text("- Search"), search(), search(), search()]);
    let revision = configured(json!({ "max_turns": 3 }));
    let record = run(&revision, model.with_files(folder.path())).await;
    assert_eq!(record.code(), ErrorCode::AgentFailure);
    assert_eq!(record.error().message, "there was no answer after 3 turns (`max_turns`)");
    assert_eq!(details(&record), json!({ "turns": 3, "last_text": "Once more." }));
    let last = message_texts(&model.messages(), "user").pop().unwrap();
    assert!(last.starts_with("This is your last turn."), "{last}");
    // What it asked for on its last turn was not done: nobody would have read it.
    assert_eq!(record.tool_calls(), 4 + 2);
}

#[tokio::test]
async fn without_a_model_it_gives_up_and_says_why() {
    let record = run(&guest("prompt"), Providers::new()).await;
    assert_eq!(record.code(), ErrorCode::AgentFailure);
    assert_eq!(details(&record)["tool"], "model.chat");

    let folder = papers();
    let model = ScriptedModel::new([
        text("- Search"),
        calls("I search.", [("files.search", json!({ "query": "fuel" }))]),
    ]);
    model.then_fails(ToolErrorCode::Denied, "this model is not for you");
    let record = run(&guest("prompt"), model.with_files(folder.path())).await;
    assert_eq!(
        record.error().message,
        "this agent needs the tool `model.chat`, and the run was not granted it: this model is not \
         for you"
    );
    assert_eq!(details(&record)["last_text"], "I search.");

    let model = ScriptedModel::new([]);
    model.then_fails(ToolErrorCode::Timeout, "it took too long");
    let record = run(&guest("prompt"), model.alone()).await;
    assert_eq!(record.error().message, "`model.chat` failed: it took too long");
    assert_eq!(details(&record)["code"], "timeout");
}

#[tokio::test]
async fn a_refusal_is_no_answer() {
    let model = ScriptedModel::new([text("- Think"), answer("I can't help.", json!([]), "other")]);
    let record = run(&guest("prompt"), model.alone()).await;
    assert_eq!(record.code(), ErrorCode::AgentFailure);
    assert!(record.error().message.contains("such as a refusal"));
    assert_eq!(details(&record)["text"], "I can't help.");
}

#[tokio::test]
async fn what_the_model_answers_may_be_anything() {
    for odd in [json!(7), json!("text"), json!({ "text": 7 }), json!({ "tool_calls": "none" })] {
        let model = ScriptedModel::new([text("- Think"), odd]);
        let record = run(&guest("prompt"), model.alone()).await;
        assert_eq!(record.code(), ErrorCode::AgentFailure);
        assert!(record.error().message.starts_with("`model.chat` answered something unexpected: "));
    }
    let model = ScriptedModel::new([json!({}), json!({}), json!({}), json!({})]);
    let record = run(&guest("prompt"), model.alone()).await;
    let message = "the model answered nothing, 3 times (`output_retries`)";
    assert_eq!(record.error().message, message);
}

#[tokio::test]
async fn the_config_reaches_the_model() {
    let model = ScriptedModel::new([text("- Answer"), text("Done.")]);
    let revision = configured(json!({
        "goal": "Answer {{question}}",
        "system": "You answer {{question}} in verse.",
        "model": "some:model",
        "temperature": 0.5,
        "max_tokens": 900,
    }));
    run(&revision, model.alone()).await;
    let asked = model.asked();
    for request in &asked {
        assert_eq!(request["model"], "some:model");
        assert_eq!((&request["temperature"], &request["max_tokens"]), (&json!(0.5), &json!(900)));
        let system = request["messages"][0]["content"].as_str().unwrap();
        assert!(system.starts_with("You answer What is fuel? in verse.\n"), "{system}");
    }
    assert_eq!(asked[1]["messages"][1]["content"], "Answer What is fuel?");
}

#[tokio::test]
async fn a_config_that_makes_no_agent_is_told_as_such() {
    for (config, problem) in [
        (json!({ "goal": "" }), "`goal` is empty"),
        (json!({ "goal": "About {{subject}}" }), "refers to `{{subject}}`"),
        (json!({ "turns": 3 }), "unknown field `turns`"),
        (json!({ "max_tokens": "many" }), "invalid type"),
    ] {
        let model = ScriptedModel::new([]);
        let record = run(&configured(config), model.alone()).await;
        assert_eq!(record.code(), ErrorCode::AgentFailure);
        assert!(record.error().message.contains(problem), "{:?}", record.error());
        assert!(model.asked().is_empty());
    }
}

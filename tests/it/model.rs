//! Models, each through a server that speaks its provider's own wire format.

mod faults;
mod runs;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reenact::journal::{Answer, ToolError, ToolErrorCode, Usage};
use reenact::tools::{Budget, Call, Called, Catalogue, Grant, RunTools, ToolLimits, Vault};
use serde_json::{Value, json};

use crate::models::{Anthropic, Gemini, Ollama, OpenAi, Reply, Says, Server};

/// No other test has a secret like it.
const KEY: &str = "sk-canary-6f1c9b2d7a";

/// What is granted of a server: its model `m`, and a retry without much waiting.
fn grant(server: &Server) -> String {
    let model = format!("{}:m", server.wire.name());
    format!(
        "[grants.model]\ndefault = '{model}'\nretry_ms = 1\n{}\
         [grants.model.prices.'{model}']\ninput = 0.25\noutput = 2.0\n",
        server.provider()
    )
}

fn limits() -> ToolLimits {
    let timeout = Duration::from_secs(30);
    ToolLimits { argument_bytes: 1 << 20, answer_bytes: 64 << 20, timeout }
}

async fn open(config: &str, limits: ToolLimits) -> RunTools {
    let config: toml::Table = config.parse().unwrap();
    let table = config["grants"]["model"].as_table().unwrap().clone();
    let grant = Grant::Table { table, file: "reenact.toml".into() };
    let vault = Vault::new(BTreeMap::from([("CANARY".to_owned(), KEY.to_owned())]));
    let grants = BTreeMap::from([("model".to_owned(), grant)]);
    let catalogue = Catalogue::open(&grants, vault, &|_| true).await.unwrap();
    catalogue.for_run(|_| true, limits)
}

async fn tools(server: &Server) -> RunTools {
    open(&grant(server), limits()).await
}

async fn spend(tools: &RunTools, arguments: Value, budget: Budget) -> Called {
    let arguments = arguments.to_string();
    let key = "run/1".to_owned();
    tools.call(Call { key, name: "model.chat", arguments: &arguments, budget }).await
}

async fn ask(tools: &RunTools, arguments: Value) -> Called {
    spend(tools, arguments, Budget::UNLIMITED).await
}

/// Asks a server once.
async fn says(server: &Server, arguments: Value) -> Value {
    answer(&ask(&tools(server).await, arguments).await)
}

fn answer(called: &Called) -> Value {
    match &called.answer {
        Answer::Ok(output) => output.content.to_value(),
        Answer::Error(error) => panic!("{error:?} after {:?}", called.attempts),
    }
}

fn error(called: &Called) -> &ToolError {
    match &called.answer {
        Answer::Error(error) => error,
        Answer::Ok(output) => panic!("{output:?}"),
    }
}

fn hello() -> Value {
    json!({ "messages": [{ "role": "user", "content": "Say hello." }] })
}

/// A server for each provider, all with the same script.
fn all(script: &[Reply]) -> [Server; 4] {
    let script = || script.to_vec();
    [
        Server::start(OpenAi, script()),
        Server::start(Anthropic, script()),
        Server::start(Gemini, script()),
        Server::start(Ollama, script()),
    ]
}

#[tokio::test]
async fn every_provider_answers_text() {
    let thoughts = vec!["The user wants".to_owned(), " a greeting.".to_owned()];
    let reply = Says { thoughts, ..Says::text(&["Hel", "lo, ", "wörld! ", "🦀"]) };
    for server in all(&[Reply::Says(reply)]) {
        let name = server.wire.name();
        let tools = tools(&server).await;
        let called = ask(
            &tools,
            json!({
                "messages": [
                    { "role": "system", "content": "Be brief." },
                    { "role": "user", "content": "Say hello." },
                ],
                "max_tokens": 99,
                "temperature": 0.5,
            }),
        )
        .await;
        let expected = json!({
            "model": format!("{name}:m"), "text": "Hello, wörld! 🦀", "tool_calls": [],
            "stop": "end", "usage": { "input_tokens": 12, "output_tokens": 3 },
        });
        assert_eq!(answer(&called), expected, "{name}");
        // Twelve times 0.25 and three times 2 for a million.
        let usage = Usage { input_tokens: 12, output_tokens: 3, cost_micros: Some(9) };
        assert_eq!((called.usage, called.attempts.len()), (Some(usage), 0), "{name}");
        let asked = server.last();
        assert_eq!(server.wire.key(&asked.headers).as_deref(), Some(KEY), "{name}");
        let body = asked.body.to_string();
        assert!(body.contains("Be brief.") && body.contains("Say hello."), "{name}: {body}");
        let (max, temperature) = match name {
            "gemini" => ("/generationConfig/maxOutputTokens", "/generationConfig/temperature"),
            "ollama" => ("/options/num_predict", "/options/temperature"),
            _ => ("/max_tokens", "/temperature"),
        };
        assert_eq!(asked.body.pointer(max), Some(&json!(99)), "{name}: {body}");
        assert_eq!(asked.body.pointer(temperature), Some(&json!(0.5)), "{name}: {body}");
    }
}

#[tokio::test]
async fn every_provider_calls_tools_and_gets_their_answers() {
    let script = [
        Reply::Says(Says {
            text: vec!["I will look. ".to_owned()],
            ..Says::calls(&[
                ("toolu_1", "files_search", r#"{"query":"fuel","max_results":2}"#),
                ("toolu_2", "files_search_2", r#"{}"#),
            ])
        }),
        Reply::Says(Says::text(&["Done."])),
    ];
    let tool = |name: &str| {
        let parameters =
            json!({ "type": "object", "properties": { "query": { "type": "string" } } });
        json!({ "name": name, "description": "Finds lines.", "parameters": parameters })
    };
    for server in all(&script) {
        let name = server.wire.name();
        let tools = tools(&server).await;
        let mut arguments = hello();
        arguments["tools"] = json!([tool("files.search"), tool("files_search")]);
        let first = answer(&ask(&tools, arguments.clone()).await);
        assert_eq!(
            (&first["stop"], &first["text"]),
            (&json!("tool_calls"), &json!("I will look. "))
        );
        let calls = first["tool_calls"].as_array().unwrap();
        let said: Vec<_> = calls.iter().map(|call| (&call["name"], &call["arguments"])).collect();
        let query = json!({ "query": "fuel", "max_results": 2 });
        let expected = [(&json!("files.search"), &query), (&json!("files_search"), &json!({}))];
        assert_eq!(said, expected, "{name}");
        assert_ne!(calls[0]["id"], calls[1]["id"], "{name}");

        // Their answers go back; the server refuses what does not fit together.
        let messages = arguments["messages"].as_array_mut().unwrap();
        let (text, calls) = (&first["text"], &first["tool_calls"]);
        messages.push(json!({ "role": "assistant", "content": text, "tool_calls": calls }));
        for (call, answer) in calls.as_array().unwrap().iter().zip(["two lines", "none"]) {
            messages.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": answer }));
        }
        let second = answer(&ask(&tools, arguments).await);
        assert_eq!((&second["text"], &second["stop"]), (&json!("Done."), &json!("end")), "{name}");
        let body = server.last().body.to_string();
        for sent in ["two lines", "none", "files_search_2"] {
            assert!(body.contains(sent), "{name}: {body}");
        }
        assert!(!body.contains("files.search"), "{name}: {body}");
    }
}

#[tokio::test]
async fn every_provider_is_asked_for_json_that_fits_a_schema() {
    let reply = Reply::Says(Says::text(&["{\"title\":", "\"Fuel\"}"]));
    let schema = json!({
        "type": "object", "required": ["title"], "additionalProperties": false,
        "properties": { "title": { "type": "string" } },
    });
    for server in all(&[reply]) {
        let name = server.wire.name();
        let mut arguments = hello();
        arguments["output"] = json!({ "name": "a report", "schema": schema });
        let text = says(&server, arguments).await["text"].take();
        assert_eq!(text, "{\"title\":\"Fuel\"}", "{name}");
        let body = server.last().body;
        let sent = match name {
            "openai" => {
                assert_eq!(body["response_format"]["json_schema"]["name"], "a_report");
                &body["response_format"]["json_schema"]["schema"]
            }
            "anthropic" => &body["output_config"]["format"]["schema"],
            "gemini" => &body["generationConfig"]["responseJsonSchema"],
            _ => &body["format"],
        };
        assert_eq!(*sent, schema, "{name}: {body}");
    }
}

#[tokio::test]
async fn an_answer_that_ran_out_of_tokens_says_so() {
    for server in all(&[Reply::Says(Says { is_cut: true, ..Says::text(&["Once upon a"]) })]) {
        let answer = says(&server, hello()).await;
        assert_eq!(answer["stop"], "length", "{}", server.wire.name());
    }
}

#[tokio::test]
async fn what_a_model_writes_as_arguments_need_not_be_json() {
    let call = |arguments| Says::calls(&[("a", "never_offered", arguments)]);
    let script = [Reply::Says(call("{\"query\": \"fu")), Reply::Says(call(""))];
    let server = Server::start(OpenAi, script.clone());
    let anthropic = Server::start(Anthropic, script);
    for server in [server, anthropic] {
        let tools = tools(&server).await;
        let first = answer(&ask(&tools, hello()).await)["tool_calls"].take();
        let expected =
            json!([{ "id": "a", "name": "never_offered", "arguments": "{\"query\": \"fu" }]);
        assert_eq!(first, expected);
        let second = answer(&ask(&tools, hello()).await);
        assert_eq!(second["tool_calls"][0]["arguments"], json!({}));
        // And it can be sent back.
        let mut arguments = hello();
        let messages = arguments["messages"].as_array_mut().unwrap();
        messages.push(json!({ "role": "assistant", "tool_calls": first }));
        messages.push(json!({ "role": "tool", "tool_call_id": "a", "content": "no JSON" }));
        answer(&ask(&tools, arguments).await);
    }
}

#[tokio::test]
async fn a_conversation_can_go_on_with_another_provider() {
    // Ids such as genai makes for Gemini, which Anthropic refuses.
    let call = |n: u8| json!({ "id": format!("call#f#{n}"), "name": "f", "arguments": {} });
    let result =
        |n: u8| json!({ "role": "tool", "tool_call_id": format!("call#f#{n}"), "content": "x" });
    let mut arguments = hello();
    let messages = arguments["messages"].as_array_mut().unwrap();
    messages.push(json!({ "role": "assistant", "tool_calls": [call(0), call(1)] }));
    messages.extend([result(0), result(1)]);
    for server in all(&[Reply::Says(Says::text(&["ok"]))]) {
        assert_eq!(says(&server, arguments.clone()).await["text"], "ok");
    }
}

#[tokio::test]
async fn names_of_models_are_sent_as_they_are() {
    let server = Server::start(OpenAi, [Reply::Says(Says::text(&["ok"]))]);
    let config = grant(&server).replace("default = 'openai:m'", "models = ['openai:*']");
    let tools = open(&config, limits()).await;
    for name in ["qwen3-max", "ft:gpt-4o:org::7p4lURel", "org/model@v1", "gpt-5-mini-high"] {
        let mut arguments = hello();
        arguments["model"] = format!("openai:{name}").into();
        answer(&ask(&tools, arguments).await);
        let body = server.last().body;
        assert_eq!(body["model"], name);
        assert_eq!(body.get("reasoning_effort"), None, "{body}");
    }
}

#[tokio::test]
async fn budgets_are_kept_before_anybody_is_asked() {
    let server =
        Server::start(OpenAi, [Reply::Says(Says { tokens: None, ..Says::text(&["12345678"]) })]);
    let tools = tools(&server).await;
    let budget = |tokens, cost_micros| Budget { tokens, cost_micros };
    for broke in [budget(0, u64::MAX), budget(u64::MAX, 0), budget(5, 1)] {
        let called = spend(&tools, hello(), broke).await;
        assert_eq!(error(&called).code, ToolErrorCode::Denied, "{broke:?}");
        assert_eq!(called.usage, None);
    }
    let config = grant(&server).replace("prices.'openai:m'", "prices.'openai:other'");
    let unpriced = open(&config, limits()).await;
    let called = spend(&unpriced, hello(), budget(u64::MAX, 1_000)).await;
    assert_eq!(error(&called).code, ToolErrorCode::Denied);
    assert!(error(&called).message.contains("no price for `openai:m`"), "{called:?}");
    assert_eq!(server.times(), 0, "nobody was asked");

    let mut long = hello();
    long["max_tokens"] = 50_000.into();
    for (arguments, budget, expected) in [
        (hello(), Budget::UNLIMITED, Value::Null),
        (hello(), budget(70, u64::MAX), 70.into()),
        // Twenty micros buy ten tokens of output.
        (hello(), budget(70, 20), 10.into()),
        // A bound above what a model has would be refused.
        (hello(), budget(1_000_000, u64::MAX), Value::Null),
        (long, budget(10_000, u64::MAX), 10_000.into()),
    ] {
        let called = spend(&tools, arguments, budget).await;
        assert_eq!(server.last().body.get("max_tokens").unwrap_or(&Value::Null), &expected);
        // The server counts nothing: a token is taken to have four bytes.
        let usage = Usage { input_tokens: 3, output_tokens: 2, cost_micros: Some(5) };
        assert_eq!(called.usage, Some(usage));
    }
}

#[tokio::test]
async fn tokens_are_shown_while_they_come() {
    for server in
        all(&[Reply::Slowly(Says::text(&["one ", "two ", "three"]), Duration::from_millis(120))])
    {
        let shown: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let watched = shown.clone();
        let tools = tools(&server).await.with_watcher(Arc::new(move |call, text| {
            watched.lock().unwrap().push((call.to_owned(), text.to_owned()));
        }));
        answer(&ask(&tools, hello()).await);
        let shown = shown.lock().unwrap().clone();
        let expected = ["one ", "one two ", "one two three"];
        assert_eq!(shown, expected.map(|text| ("run/1".to_owned(), text.to_owned())));
    }
}

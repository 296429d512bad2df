//! A model of the tests' own: it answers what a test wrote down, in turn, and
//! remembers what it was asked. Requests that are not as `model.chat` takes
//! them do not get this far: the host checks them against its schema.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use reenact::tools::{
    self, CallContext, Grant, Opening, Provider, Success, ToolError, ToolErrorCode, ToolSpec, Vault,
};
use serde_json::{Value, json};

pub struct ScriptedModel {
    script: Mutex<VecDeque<Result<Value, ToolError>>>,
    asked: Mutex<Vec<Value>>,
}

/// Providers by name, as a run is granted them.
pub type Providers = BTreeMap<String, Arc<dyn Provider>>;

impl ScriptedModel {
    pub fn new(script: impl IntoIterator<Item = Value>) -> Arc<Self> {
        let script = Mutex::new(script.into_iter().map(Ok).collect());
        Arc::new(Self { script, asked: Mutex::default() })
    }

    /// After its script, it fails with `message`.
    pub fn then_fails(self: &Arc<Self>, code: ToolErrorCode, message: &str) {
        let error = ToolError { code, message: message.to_owned() };
        self.script.lock().unwrap().push_back(Err(error));
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    /// The messages of the last request.
    pub fn messages(&self) -> Vec<Value> {
        self.asked().last().unwrap()["messages"].as_array().unwrap().clone()
    }

    /// Grants this model, and the folder as `files`.
    pub fn with_files(self: &Arc<Self>, folder: &Path) -> Providers {
        let grant = Grant::Flag(folder.to_str().unwrap().to_owned());
        let opening = Opening { vault: &Vault::default(), wanted: &|_| true };
        let opened = (tools::kind("files").unwrap().open)(&grant, &opening).now_or_never();
        let mut providers = self.alone();
        providers.extend(opened.expect("a folder opens at once").unwrap());
        providers
    }

    pub fn alone(self: &Arc<Self>) -> Providers {
        BTreeMap::from([("model".to_owned(), Arc::clone(self) as Arc<dyn Provider>)])
    }
}

/// A text as an answer.
pub fn text(text: &str) -> Value {
    answer(text, json!([]), "end")
}

/// Tool calls as an answer: names with arguments.
pub fn calls<const N: usize>(text: &str, calls: [(&str, Value); N]) -> Value {
    let calls = calls.into_iter().enumerate();
    let calls = calls.map(|(n, (name, arguments))| json!({ "id": format!("c{n}"), "name": name, "arguments": arguments }));
    answer(text, calls.collect(), "tool_calls")
}

pub fn answer(text: &str, tool_calls: Value, stop: &str) -> Value {
    json!({
        "model": "scripted:model",
        "text": text,
        "tool_calls": tool_calls,
        "stop": stop,
        "usage": { "input_tokens": 10, "output_tokens": 5 },
    })
}

fn parameters() -> Value {
    let object = |required: Value, properties: Value| {
        json!({
            "type": "object", "required": required, "properties": properties,
            "additionalProperties": false,
        })
    };
    let (string, any_object) = (json!({ "type": "string" }), json!({ "type": "object" }));
    let call = object(
        json!(["id", "name", "arguments"]),
        json!({ "id": { "type": "string", "minLength": 1 }, "name": string, "arguments": any_object }),
    );
    let message = object(
        json!(["role", "content"]),
        json!({
            "role": { "enum": ["system", "user", "assistant", "tool"] },
            "content": string,
            "tool_calls": { "type": "array", "items": call, "minItems": 1 },
            "tool_call_id": string,
        }),
    );
    let tool = object(
        json!(["name", "description", "parameters"]),
        json!({ "name": string, "description": string, "parameters": any_object }),
    );
    object(
        json!(["messages"]),
        json!({
            "model": string,
            "messages": { "type": "array", "items": message, "minItems": 1 },
            "tools": { "type": "array", "items": tool },
            "output": object(
                json!(["name", "schema"]),
                json!({ "name": string, "schema": true }),
            ),
            "max_tokens": { "type": "integer", "minimum": 1 },
            "temperature": { "type": "number" },
        }),
    )
}

impl Provider for ScriptedModel {
    fn tools(&self) -> Vec<ToolSpec> {
        vec![ToolSpec {
            name: "model.chat".to_owned(),
            description: "a model of the tests".to_owned(),
            parameters: parameters(),
            read_only: true,
            idempotent: false,
        }]
    }

    fn call(
        &self,
        _: &str,
        arguments: Value,
        _: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        self.asked.lock().unwrap().push(arguments);
        let next = self.script.lock().unwrap().pop_front();
        let over = || {
            let message = "the script is over".to_owned();
            Err(ToolError { code: ToolErrorCode::Failed, message })
        };
        let answer = next.unwrap_or_else(over);
        ready(answer.map(|content| Success { content, sources: vec![] })).boxed()
    }
}

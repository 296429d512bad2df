//! The smallest agent: it greets by name.

wit_bindgen::generate!({ path: "../../wit", world: "agent" });

use exports::reenact::agent::guest::{Content, Failure, Guest, Output};
use reenact::agent::events;
use serde_json::{Value, json};

struct Agent;

impl Guest for Agent {
    fn run(input: String) -> Result<Output, Failure> {
        // The host has checked the input against the manifest's schema.
        let input: Value = serde_json::from_str(&input).expect("the input is JSON");
        let name = input["name"].as_str().expect("the input has a name");

        events::emit("greeting", &json!({ "name": name }).to_string());

        Ok(Output { content: Content::Document(format!("Hello, {name}!")), sources: vec![] })
    }
}

export!(Agent);

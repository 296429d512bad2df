//! The smallest agent: it greets by name.

use reenact_agent::{Failure, events};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Input {
    name: String,
}

fn run(Input { name }: Input) -> Result<String, Failure> {
    events::emit("greeting", &json!({ "name": name }));
    Ok(format!("Hello, {name}!"))
}

reenact_agent::agent!(run);

//! The prompt agent: an agent without code of its own. What it is for, which
//! model it asks and what it answers stand in the sealed manifest, which it
//! reads; see `docs/prompt-agent.md`.
//!
//! It has the model write a plan, then lets it work: each turn is one call of
//! `model.chat`, followed by the tool calls that the model asks for. The first
//! turn without any holds the answer.

mod agent;
mod answer;
mod chat;
mod compress;
mod conversation;
mod failure;
mod host;
mod manifest;
mod template;
mod toolbox;
mod words;

wit_bindgen::generate!({ path: "../../wit", world: "agent" });

use exports::reenact::agent::guest::{Failure, Guest, Output};
use host::Sandbox;
use manifest::Manifest;
use reenact::agent::context;

struct Agent;

impl Guest for Agent {
    fn run(input: String) -> Result<Output, Failure> {
        let manifest = Manifest::read(&context::manifest())?;
        let content = agent::run(&manifest, &input, &mut Sandbox)?;
        // The host collects the sources of the tools; the agent knows no others.
        Ok(Output { content, sources: vec![] })
    }
}

export!(Agent);

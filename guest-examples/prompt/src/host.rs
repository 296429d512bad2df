//! What the agent reaches outside of itself: as the sandbox gives it, or as a
//! test plays it.

use serde_json::Value;

use crate::reenact::agent::events;
use crate::reenact::agent::tools::{self, Tool, ToolCall, ToolError};

pub trait Host {
    fn emit(&mut self, kind: &str, data: &Value);
    fn available(&mut self) -> Vec<Tool>;
    fn call_all(&mut self, calls: &[ToolCall]) -> Vec<Result<String, ToolError>>;
}

/// The world of `wit/agent.wit`.
pub struct Sandbox;

impl Host for Sandbox {
    fn emit(&mut self, kind: &str, data: &Value) {
        events::emit(kind, &data.to_string());
    }

    fn available(&mut self) -> Vec<Tool> {
        tools::available()
    }

    fn call_all(&mut self, calls: &[ToolCall]) -> Vec<Result<String, ToolError>> {
        tools::call_all(calls)
    }
}

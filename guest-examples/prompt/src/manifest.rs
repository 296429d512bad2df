//! The manifest as this agent reads it, and its `config` with defaults.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::exports::reenact::agent::guest::Failure;
use crate::failure::{failure, with_details};

const DEFAULT_MAX_TURNS: u32 = 30;
const DEFAULT_OUTPUT_RETRIES: u32 = 2;

/// Some 50,000 tokens.
const DEFAULT_CONTEXT_BYTES: usize = 200_000;

/// Less holds neither a goal nor an answer of a tool.
const MIN_CONTEXT_BYTES: usize = 2_000;

/// The host's defaults, for limits that the manifest does not set.
const DEFAULT_ARGUMENT_BYTES: u64 = 1 << 20;
const DEFAULT_EVENT_BYTES: u64 = 64 << 10;
const DEFAULT_TOOL_CALLS: u64 = 1_000;
const DEFAULT_CALLS_AT_ONCE: u64 = 64;

#[derive(Debug, Deserialize)]
pub struct Manifest {
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub output: OutputSpec,
    #[serde(default)]
    pub limits: SomeLimits,
    #[serde(default)]
    config: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub struct OutputSpec {
    #[serde(rename = "type")]
    pub kind: OutputType,
    pub schema: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    Document,
    Json,
}

/// The limits that the agent must not run into. An operator's cap can be lower;
/// then the host ends the run, as it would any other.
#[derive(Debug, Default, Deserialize)]
pub struct SomeLimits {
    argument_bytes: Option<u64>,
    event_bytes: Option<u64>,
    tool_calls: Option<u64>,
    calls_at_once: Option<u64>,
}

impl SomeLimits {
    pub fn argument_bytes(&self) -> u64 {
        self.argument_bytes.unwrap_or(DEFAULT_ARGUMENT_BYTES)
    }

    pub fn event_bytes(&self) -> u64 {
        self.event_bytes.unwrap_or(DEFAULT_EVENT_BYTES)
    }

    pub fn tool_calls(&self) -> u64 {
        self.tool_calls.unwrap_or(DEFAULT_TOOL_CALLS)
    }

    pub fn calls_at_once(&self) -> u64 {
        self.calls_at_once.unwrap_or(DEFAULT_CALLS_AT_ONCE)
    }
}

/// The table `[config]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the agent is to do. May refer to the input, as `{{topic}}`.
    pub goal: String,
    /// Who the agent is; may refer to the input too.
    pub system: Option<String>,
    /// `PROVIDER:MODEL`. Without it the operator's default model is asked.
    pub model: Option<String>,
    /// Answers of the model, the plan not counted.
    #[serde(default = "max_turns")]
    pub max_turns: u32,
    /// Bytes of the conversation; beyond them its older turns are put in short.
    #[serde(default = "context_bytes")]
    pub context_bytes: usize,
    pub temperature: Option<f64>,
    /// Tokens of one answer.
    pub max_tokens: Option<u64>,
    /// How often a useless answer may be given again: one that is not of the
    /// sealed schema, or empty.
    #[serde(default = "output_retries")]
    pub output_retries: u32,
}

fn max_turns() -> u32 {
    DEFAULT_MAX_TURNS
}

fn context_bytes() -> usize {
    DEFAULT_CONTEXT_BYTES
}

fn output_retries() -> u32 {
    DEFAULT_OUTPUT_RETRIES
}

impl Manifest {
    pub fn read(text: &str) -> Result<Self, Failure> {
        serde_json::from_str(text)
            .map_err(|error| failure(format!("this agent cannot read its manifest: {error}")))
    }

    pub fn config(&self) -> Result<Config, Failure> {
        let refuse = |problem: String| {
            let message =
                format!("`[config]` of the manifest is not what this agent reads: {problem}");
            with_details(message, json!({ "config": self.config }))
        };
        let value = Value::Object(self.config.clone());
        let mut config: Config =
            serde_json::from_value(value).map_err(|error| refuse(error.to_string()))?;
        if config.goal.trim().is_empty() {
            return Err(refuse("`goal` is empty".to_owned()));
        }
        if config.max_turns == 0 {
            return Err(refuse("`max_turns` is 0, but an answer takes a turn".to_owned()));
        }
        if config.context_bytes < MIN_CONTEXT_BYTES {
            let least = format!("`context_bytes` is less than {MIN_CONTEXT_BYTES}");
            return Err(refuse(least));
        }
        // As JSON text a conversation is larger than it is.
        let most = usize::try_from(self.limits.argument_bytes() / 2).unwrap_or(usize::MAX);
        config.context_bytes = config.context_bytes.min(most);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml_like: Value) -> Result<Config, Failure> {
        let manifest = json!({
            "format": 1, "name": "a", "input": true, "output": { "type": "document" },
            "config": toml_like,
        });
        Manifest::read(&manifest.to_string()).unwrap().config()
    }

    #[test]
    fn a_goal_is_enough() {
        let config = config(json!({ "goal": "count" })).unwrap();
        assert_eq!((config.max_turns, config.output_retries), (30, 2));
        assert_eq!(config.context_bytes, DEFAULT_CONTEXT_BYTES);
    }

    #[test]
    fn a_config_that_makes_no_agent_is_refused() {
        for (value, problem) in [
            (json!({}), "missing field `goal`"),
            (json!({ "goal": " " }), "`goal` is empty"),
            (json!({ "goal": "x", "max_turn": 3 }), "unknown field `max_turn`, expected one of"),
            (json!({ "goal": "x", "max_turns": "3" }), "invalid type: string \"3\""),
            (json!({ "goal": "x", "max_turns": 0 }), "`max_turns` is 0"),
            (json!({ "goal": "x", "context_bytes": 10 }), "`context_bytes` is less than"),
        ] {
            let message = config(value).err().unwrap().message;
            assert!(message.contains(problem), "{message}");
        }
    }
}

//! What a journal holds of tools: what was granted, calls, approvals, answers.
//!
//! Like the rest of the entries these types are a wire format: see `entry`.

use serde::{Deserialize, Serialize};

use super::entry::{Micros, present};
use crate::json::Json;
use crate::revision::Digest;

/// A tool that the run may call, as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantedTool {
    pub name: String,
    pub description: String,
    /// JSON Schema of the arguments.
    pub parameters: Json,
    pub read_only: bool,
    pub idempotent: bool,
    /// SHA-256 of `parameters` as canonical JSON (RFC 8785). Since format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Digest>,
    /// What the operator says about calls of it: the first that fits decides; if
    /// there are some and none fits, the call is denied. Since format 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// The operator's word about some calls of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub action: Action,
    /// JSON Schema that the arguments must fit for the rule to hold; without it
    /// the rule holds for all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub when: Option<Json>,
    /// For `ask`: how long a person has to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Allow,
    /// A person decides about each call.
    Ask,
    Deny,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCalled {
    pub call: u64,
    pub name: String,
    /// What the guest passed; text that is not JSON is kept as a JSON string.
    pub arguments: Json,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalAsked {
    pub call: u64,
    /// When the call is denied if nobody has answered.
    pub until: Micros,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalAnswered {
    pub call: u64,
    pub decision: Approval,
    /// Who decided, as far as the host knows; empty if nobody did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// What a person decided about a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    Approved,
    /// Approved with these arguments instead of the guest's.
    Edited(Json),
    /// Denied, for this reason.
    Denied(String),
    /// Nobody answered in time.
    TimedOut,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolAnswered {
    pub call: u64,
    pub answer: Answer,
    /// What the tool charged for, whether it succeeded or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The attempts that failed before this answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

impl Usage {
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

/// What a call of a model cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Millionths of the unit of the operator's price table; none if it has no
    /// price for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
}

/// An attempt at a call that failed and was made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    pub error: String,
    /// Milliseconds from the failure to the next attempt.
    pub waited_ms: u64,
}

/// What came back from a tool call, whether or not a tool was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ok(ToolOutput),
    Error(ToolError),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolOutput {
    pub content: Json,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
}

/// Where something that the agent was told comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub url: String,
    pub title: String,
}

/// An error that the guest can handle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct ToolError {
    pub code: ToolErrorCode,
    pub message: String,
}

/// The same closed set as `tool-error-code` in the guest's world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolErrorCode {
    Denied,
    UnknownTool,
    InvalidArguments,
    Failed,
    Timeout,
    TooLarge,
    Interrupted,
}

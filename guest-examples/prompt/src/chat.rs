//! What `model.chat` takes and answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The tool that is a model.
pub const TOOL: &str = "model.chat";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolUse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A tool call that a model asks for. Models write all three, so nothing of it
/// can be relied on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolUse {
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub arguments: Value,
}

/// A tool as a model is told of it.
#[derive(Debug, Clone, Serialize)]
pub struct ToolDefinition {
    pub name: String,
    pub description: String,
    pub parameters: Value,
}

/// The form that an answer has to have.
#[derive(Debug, Clone, Serialize)]
pub struct OutputForm<'a> {
    pub name: &'a str,
    pub schema: &'a Value,
}

#[derive(Debug, Serialize)]
pub struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    pub messages: &'a [&'a Message],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub tools: &'a [ToolDefinition],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputForm<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub struct Answer {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    pub tool_calls: Vec<ToolUse>,
    #[serde(default)]
    pub stop: Stop,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    #[default]
    End,
    ToolCalls,
    /// The answer is as long as it may be, and not complete.
    Length,
    /// For a reason of its provider's, such as a refusal.
    #[serde(other)]
    Other,
}

impl Message {
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: vec![], tool_call_id: None }
    }

    pub fn calls(content: impl Into<String>, tool_calls: Vec<ToolUse>) -> Self {
        Self { tool_calls, ..Self::new(Role::Assistant, content) }
    }

    pub fn answers(call: &ToolUse, content: String) -> Self {
        Self { tool_call_id: Some(call.id.clone()), ..Self::new(Role::Tool, content) }
    }

    /// How much it adds to a conversation, roughly.
    pub fn bytes(&self) -> usize {
        let of_call = |call: &ToolUse| call.name.len() + call.arguments.to_string().len();
        self.content.len() + self.tool_calls.iter().map(of_call).sum::<usize>()
    }
}

impl Answer {
    /// What the model wrote, without white space around it.
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default().trim()
    }

    /// What the model wrote, to the letter.
    pub fn verbatim(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_lack_what_it_does_not_need() {
        let answer: Answer =
            serde_json::from_str(r#"{"text":null,"stop":"content_filter"}"#).unwrap();
        assert_eq!((answer.text(), answer.stop), ("", Stop::Other));
        let answer: Answer = serde_json::from_str(r#"{"tool_calls":[{"name":"a"}]}"#).unwrap();
        assert_eq!((answer.stop, answer.tool_calls.len()), (Stop::End, 1));
        for (text, stop) in [("tool_calls", Stop::ToolCalls), ("length", Stop::Length)] {
            let answer = format!(r#"{{"text":"x","stop":"{text}"}}"#);
            assert_eq!(serde_json::from_str::<Answer>(&answer).unwrap().stop, stop);
        }
    }
}

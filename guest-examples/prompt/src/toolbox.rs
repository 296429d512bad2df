//! The tools that the model is offered, and the calls that it asks for: what
//! they have to look like, and what the model is told of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::chat::{self, ToolDefinition, ToolUse};
use crate::failure::code_name;
use crate::host::Host;
use crate::reenact::agent::tools::{Tool, ToolCall, ToolError};

/// The most that a model provider takes.
const MAX_TOOLS: usize = 128;

/// Calls of one turn. A model that asks for more has lost its way.
pub const MAX_CALLS: usize = 32;

/// Calls that the host makes at the same time; the limit of the run may be lower.
const CALLS_AT_ONCE: u64 = 16;

/// Levels that arguments may nest. The request that repeats them adds its own,
/// and JSON nests 127 at most.
const MAX_DEPTH: usize = 100;

/// Characters of what a model wrote, where it is repeated in an error.
const SHOWN: usize = 200;

pub struct Toolbox {
    pub definitions: Vec<ToolDefinition>,
    /// Tools that were granted and cannot be offered.
    pub left_out: Vec<String>,
}

/// What a run may still do.
pub struct Room {
    pub calls: u64,
    pub at_once: u64,
    /// Bytes that the answers may have together.
    pub bytes: usize,
}

impl Toolbox {
    /// All tools but the model itself.
    pub fn of(available: Vec<Tool>) -> Self {
        let (mut definitions, mut left_out) = (vec![], vec![]);
        for Tool { name, description, parameters } in available {
            if name == chat::TOOL {
                continue;
            }
            match serde_json::from_str::<Value>(&parameters) {
                Ok(parameters) if parameters.is_object() && definitions.len() < MAX_TOOLS => {
                    definitions.push(ToolDefinition { name, description, parameters });
                }
                _ => left_out.push(name),
            }
        }
        Self { definitions, left_out }
    }

    /// The tool that a model means. Some write `_` where a name has another sign.
    fn find(&self, name: &str) -> Option<&str> {
        let names = || self.definitions.iter().map(|tool| tool.name.as_str());
        if let Some(exact) = names().find(|known| *known == name) {
            return Some(exact);
        }
        let mut alike = names().filter(|known| plain(known) == plain(name));
        alike.next().filter(|_| alike.next().is_none())
    }

    fn call(&self, wanted: &ToolUse) -> Result<ToolCall, String> {
        let name = self.find(&wanted.name).ok_or_else(|| {
            let names: Vec<&str> = self.definitions.iter().map(|tool| &*tool.name).collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            format!(
                "error: unknown-tool: there is no tool `{}`; there are: {there}",
                shown(&wanted.name)
            )
        })?;
        if let Some(text) = wanted.arguments.get(NOT_AN_OBJECT).and_then(Value::as_str) {
            let why = match serde_json::from_str::<Value>(text) {
                Err(error) => format!("are not JSON: {error}"),
                Ok(_) => "are not an object".to_owned(),
            };
            return Err(format!("error: invalid-arguments: the arguments of `{name}` {why}"));
        }
        Ok(ToolCall { name: name.to_owned(), arguments: wanted.arguments.to_string() })
    }

    /// Makes the calls at once, in batches, and answers what the model is told
    /// of each, in their order; and how many calls were made.
    pub fn perform(
        &self,
        wanted: &[ToolUse],
        room: &Room,
        host: &mut impl Host,
    ) -> (Vec<String>, u64) {
        let most = room.bytes / wanted.len().max(1);
        let mut told: Vec<Option<String>> = vec![None; wanted.len()];
        let mut calls: Vec<(usize, ToolCall)> = vec![];
        for (index, wanted) in wanted.iter().enumerate() {
            match self.call(wanted) {
                Ok(_) if calls.len() as u64 >= room.calls => {
                    told[index] = Some("error: denied: this run may call no more tools".to_owned());
                }
                Ok(call) => calls.push((index, call)),
                Err(why) => told[index] = Some(cut(&why, most)),
            }
        }
        let made = calls.len() as u64;
        let batch = usize::try_from(room.at_once.clamp(1, CALLS_AT_ONCE)).unwrap_or(1);
        for batch in calls.chunks(batch) {
            let (indices, calls): (Vec<usize>, Vec<ToolCall>) = batch.iter().cloned().unzip();
            for (index, answer) in indices.into_iter().zip(host.call_all(&calls)) {
                told[index] = Some(cut(&said(answer), most));
            }
        }
        let unanswered = || "error: failed: there was no answer".to_owned();
        (told.into_iter().map(|told| told.unwrap_or_else(unanswered)).collect(), made)
    }
}

/// Member that holds arguments which no tool can take.
const NOT_AN_OBJECT: &str = "$notAnObject";

/// Makes what a model asked for fit to be repeated to it: few calls, each with an
/// id of its own and an object as arguments.
pub fn tidy(mut wanted: Vec<ToolUse>, turn: u32) -> Vec<ToolUse> {
    wanted.truncate(MAX_CALLS);
    let mut ids = BTreeSet::new();
    for (index, call) in wanted.iter_mut().enumerate() {
        if call.id.is_empty() || !ids.insert(call.id.clone()) {
            call.id = format!("call_{turn}_{index}");
            ids.insert(call.id.clone());
        }
        call.arguments = match std::mem::take(&mut call.arguments) {
            Value::Null => json!({}),
            Value::Object(members) if depth_is_within(members.values(), MAX_DEPTH) => {
                Value::Object(members)
            }
            Value::String(text) => match serde_json::from_str(&text) {
                Ok(Value::Object(members)) if depth_is_within(members.values(), MAX_DEPTH) => {
                    Value::Object(members)
                }
                _ => json!({ NOT_AN_OBJECT: shown(&text) }),
            },
            other => json!({ NOT_AN_OBJECT: shown(&other.to_string()) }),
        };
    }
    wanted
}

fn depth_is_within<'a>(mut values: impl Iterator<Item = &'a Value>, levels: usize) -> bool {
    values.all(|value| match value {
        Value::Array(items) => levels > 0 && depth_is_within(items.iter(), levels - 1),
        Value::Object(members) => levels > 0 && depth_is_within(members.values(), levels - 1),
        _ => true,
    })
}

/// What the model reads of an answer: text as it is, all else as JSON.
fn said(answer: Result<String, ToolError>) -> String {
    match answer {
        Ok(json) if json.starts_with('"') => serde_json::from_str(&json).unwrap_or(json),
        Ok(json) => json,
        Err(error) => format!("error: {}: {}", code_name(error.code), error.message),
    }
}

/// At most `max` bytes and a note of what is missing.
pub fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let kept = text.floor_char_boundary(max);
    let bytes = text.len();
    format!(
        "{}\n[cut: the first {kept} of {bytes} bytes; ask for less, or for a part]",
        &text[..kept]
    )
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn plain(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, parameters: &str) -> Tool {
        Tool { name: name.into(), description: String::new(), parameters: parameters.into() }
    }

    fn wants(id: &str, name: &str, arguments: Value) -> ToolUse {
        ToolUse { id: id.into(), name: name.into(), arguments }
    }

    #[test]
    fn the_model_is_not_offered_itself_nor_what_no_model_takes() {
        let mut tools = vec![tool("a.b", "{}"), tool("model.chat", "{}"), tool("a.c", "true")];
        tools.push(tool("a.d", "{"));
        tools.extend((0..200).map(|n| tool(&format!("m.t{n}"), "{}")));
        let toolbox = Toolbox::of(tools);
        assert_eq!(toolbox.definitions.len(), MAX_TOOLS);
        assert_eq!(toolbox.left_out[..2], ["a.c", "a.d"]);
        assert!(toolbox.definitions.iter().all(|tool| tool.name != chat::TOOL));
    }

    #[test]
    fn names_that_models_mangle_are_known() {
        let toolbox = Toolbox::of(["a.b", "m.x-y", "m.x_y"].map(|name| tool(name, "{}")).to_vec());
        assert_eq!(toolbox.find("a_b"), Some("a.b"));
        assert_eq!(toolbox.find("m.x-y"), Some("m.x-y"));
        assert_eq!(toolbox.find("m_x_y"), None);
        assert_eq!(toolbox.find("b"), None);
    }

    #[test]
    fn calls_get_ids_and_objects() {
        let mut deep = json!(1);
        for _ in 0..=MAX_DEPTH {
            deep = json!([deep]);
        }
        let tidied = tidy(
            vec![
                wants("", "a", Value::Null),
                wants("x", "a", json!("{\"n\":1}")),
                wants("x", "a", json!("{\"n\":")),
                wants("z", "a", json!([1])),
                wants("y", "a", json!({ "deep": deep })),
            ],
            7,
        );
        let ids: Vec<&str> = tidied.iter().map(|call| &*call.id).collect();
        assert_eq!(ids, ["call_7_0", "x", "call_7_2", "z", "y"]);
        assert_eq!(tidied[0].arguments, json!({}));
        assert_eq!(tidied[1].arguments, json!({ "n": 1 }));
        for call in &tidied[2..] {
            assert!(call.arguments.get(NOT_AN_OBJECT).is_some(), "{:?}", call.arguments);
        }
        assert_eq!(tidy(vec![wants("", "a", Value::Null); 100], 1).len(), MAX_CALLS);
    }

    #[test]
    fn a_cut_says_what_is_missing() {
        assert_eq!(cut("short", 5), "short");
        let text = cut(&"ä".repeat(100), 51);
        assert!(
            text.starts_with("ä")
                && text.ends_with("[cut: the first 50 of 200 bytes; ask for less, or for a part]")
        );
    }
}

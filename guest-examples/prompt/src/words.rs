//! Everything that the agent itself says to the model.

use serde_json::Value;

use crate::chat::ToolDefinition;
use crate::manifest::{Manifest, OutputType};

/// The system message: who the agent is, unless `system` says it, and what its
/// answer has to look like.
pub fn system(manifest: &Manifest, own: Option<&str>) -> String {
    let who = match own {
        Some(own) => own.trim().to_owned(),
        None if manifest.description.is_empty() => {
            format!("You are the agent `{}`.", manifest.name)
        }
        None => format!("You are the agent `{}`: {}.", manifest.name, described(manifest)),
    };
    let work = "Work step by step. Use the tools that you are given when they help, several at \
        once where they do not depend on each other. Rest your answer on what the tools answered, \
        and say so where something could not be found out.";
    let answer = match (&manifest.output.kind, &manifest.output.schema) {
        (OutputType::Json, Some(schema)) => format!(
            "Your answer, once you call no more tools, is one JSON value and nothing else: no \
             words around it and no code fence. It fits this JSON Schema:\n{schema}"
        ),
        _ => "Your answer, once you call no more tools, is the whole document and nothing else: \
              Markdown for a person who has not seen your work."
            .to_owned(),
    };
    format!("{who}\n\n{work}\n\n{answer}")
}

fn described(manifest: &Manifest) -> &str {
    manifest.description.trim().trim_end_matches('.')
}

/// The goal with what the run was given, if the goal does not refer to it.
pub fn goal(goal: &str, input: &Value, refers: bool) -> String {
    let is_empty = input.as_object().is_some_and(|members| members.is_empty());
    if refers || is_empty { goal.to_owned() } else { format!("{goal}\n\nInput:\n{input}") }
}

/// Asks for the plan, before any tool can be called.
pub fn plan(tools: &[ToolDefinition]) -> String {
    let mut text = "Before you begin, write a short plan: at most six steps, one a line, each \
        beginning with `- `. Do not carry it out yet."
        .to_owned();
    text += match tools {
        [] => " There are no tools.",
        _ => " These tools will be there:",
    };
    for tool in tools {
        let first = tool.description.lines().next().unwrap_or_default();
        text += &format!("\n{}: {first}", tool.name);
    }
    text
}

pub const BEGIN: &str = "Now carry out the plan. Change it where what you find asks for it.";

pub const LAST_TURN: &str =
    "This is your last turn. Call no more tools: answer now, with what you have found out.";

pub const EMPTY: &str = "You wrote nothing and called no tool. Go on with the work, or answer.";

pub const GO_ON: &str = "You reached the limit of one message. Go on exactly where you stopped, \
    without repeating anything.";

pub const CUT_JSON: &str =
    "Your answer reached the limit of one message and is cut. Answer again, shorter.";

/// Asks for another answer, in place of one that does not fit.
pub fn does_not_fit(violations: &[String]) -> String {
    let listed: String = violations.iter().map(|violation| format!("\n- {violation}")).collect();
    format!(
        "Your answer does not fit the JSON Schema:{listed}\nAnswer again, with all of it mended."
    )
}

/// Has older turns written down in short.
pub fn summarise(bytes: usize) -> String {
    format!(
        "You keep the notes of an agent that works on a goal. Write down what its work so far has \
         shown: facts with where they come from, decisions, what failed, and what is left to do. \
         Leave out what no later step needs. At most {bytes} characters; no greeting."
    )
}

/// The notes, as the model reads them in place of the turns.
pub fn notes(summary: &str) -> String {
    format!("Notes of your work so far, in place of its first turns:\n\n{summary}")
}

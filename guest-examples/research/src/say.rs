//! What the agent tells those who watch it.

use reenact_agent::events::emit;
use serde::Serialize;

use crate::plan::Plan;
use crate::rank::Candidate;
use crate::write::{Report, count};

/// The data of a `reasoning` event: a sentence, and the facts it rests on.
#[derive(Serialize)]
struct Thought<T> {
    text: String,
    files: Vec<T>,
}

#[derive(Serialize)]
struct Mentions<'a> {
    path: &'a str,
    matches: usize,
}

#[derive(Serialize)]
struct Passages<'a> {
    path: &'a str,
    passages: usize,
}

#[derive(Serialize)]
struct Unreadable<'a> {
    path: &'a str,
    reason: &'a str,
}

pub fn planning(plan: &Plan) {
    emit("planning", plan);
}

/// Which files will be read, of how many that were found.
pub fn choice(chosen: &[Candidate], found: usize) {
    let text = match (chosen.len(), found) {
        (_, 0) => "No file mentions the topic: there is nothing to read.".to_string(),
        (1, 1) => "One file mentions the topic: I read it.".to_string(),
        (n, all) if n == all => format!("All {n} files that mention the topic are worth reading."),
        (n, all) => {
            format!("Of {all} files that mention the topic, I read the {n} with the most mentions.")
        }
    };
    let files =
        chosen.iter().map(|file| Mentions { path: file.path, matches: file.lines.len() }).collect();
    emit("reasoning", &Thought { text, files });
}

pub fn unreadable(path: &str, reason: &str) {
    let text = format!("I go on without `{path}`, which could not be read.");
    let files = vec![Unreadable { path, reason }];
    emit("reasoning", &Thought { text, files });
}

/// How many passages were found in the files that were read.
pub fn extraction(report: &Report) {
    let files: Vec<_> = report
        .read()
        .map(|(path, reading)| Passages { path, passages: reading.passages.len() })
        .collect();
    if files.is_empty() {
        return;
    }
    let passages = files.iter().map(|file| file.passages).sum();
    let text = format!(
        "Found {} about the topic in {}.",
        count(passages, "passage"),
        count(files.len(), "file")
    );
    emit("reasoning", &Thought { text, files });
}

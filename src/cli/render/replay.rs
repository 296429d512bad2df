//! What a replay found, for people and for machines.

use std::time::Duration;

use serde_json::{Value, json};

use super::table::pairs;
use super::{style, text};
use crate::revision::Digest;
use crate::runtime::{Divergence, Found, Replay, Request, Verdict};

/// What there is to say about a replayed run.
pub struct Report {
    pub run: String,
    pub agent: String,
    pub revision: Digest,
    /// Entries that the journal should have.
    pub entries: u64,
    pub replay: Replay,
    pub replay_took: Duration,
}

impl Report {
    /// The verdict in one line.
    pub fn verdict(&self) -> String {
        match &self.replay.verdict {
            Verdict::Same(_) => "the same".to_owned(),
            Verdict::SameSoFar => "the same as far as the record goes".to_owned(),
            Verdict::Diverged(divergence) => {
                format!("diverged at entry {} of {}", divergence.index, self.entries)
            }
            Verdict::Damaged(damage) => {
                format!("entry {} is damaged: {}", damage.index, text::safe(&damage.what))
            }
        }
    }

    /// The report for people.
    pub fn describe(&self) -> String {
        let replay = &self.replay;
        // An exported file comes from anywhere, and says what it likes.
        let run = text::line(&self.run, 64);
        let title = format!("{run} · {}@{}", self.agent, self.revision.short());
        let entries = text::plural(self.entries, "entry", "entries");
        let answers = text::plural(replay.answers, "answer", "answers");
        let took = format!(
            "{} (the run: {})",
            text::duration(self.replay_took.as_micros() as u64),
            text::duration(self.replay.took)
        );
        let mut rows = Vec::new();
        if replay.is_proof() {
            let same = "each the same in content, order and hash";
            rows.push(("entries", format!("{entries} made again, {same}")));
            let answers = format!("{answers} taken from the journal, no tool was called");
            rows.push(("answers", answers));
            rows.push(("fuel", self.fuel_line()));
        }
        let head = match &replay.verdict {
            Verdict::Same(ran) => {
                rows.push(("end", end_of(ran)));
                rows.push(("hash", ran.head.to_string()));
                format!("{} {title} came out the same", style::good("✓"))
            }
            Verdict::SameSoFar => {
                rows.push(("end", "none: the record stops before the run ended".to_owned()));
                format!("{} {title} came out the same as far as the record goes", style::good("✓"))
            }
            Verdict::Diverged(divergence) => {
                rows.push(("expected", expected(divergence)));
                rows.push(("found", found(divergence)));
                format!(
                    "{} {title} diverged at entry {} of {}",
                    style::bad("✗"),
                    divergence.index,
                    self.entries
                )
            }
            Verdict::Damaged(damage) => {
                rows.push(("damage", damage.what.clone()));
                format!("{} {title} has a damaged entry {}", style::bad("✗"), damage.index)
            }
        };
        rows.push(("took", took));
        if let Some(engine) = &replay.other_engine {
            let engine = format!(
                "recorded under wasmtime {} on {}: fuel and backtraces were not compared",
                engine.wasmtime, engine.arch
            );
            rows.push(("engine", engine));
        }
        format!("{head}\n{}", pairs(rows.iter().map(|(name, value)| (*name, text::safe(value)))))
    }

    fn fuel_line(&self) -> String {
        let fuel = text::count(self.replay.fuel);
        let end = match &self.replay.verdict {
            Verdict::Same(ran) => ran.fuel,
            _ => self.replay.fuel,
        };
        match &self.replay.other_engine {
            Some(_) => format!("{fuel}, not compared"),
            None if end == self.replay.fuel => format!("{fuel}, equal at every entry"),
            None => format!(
                "{fuel} when the stack overflowed, {} in this build; equal at every other entry",
                text::count(end)
            ),
        }
    }

    /// The report for machines.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "run": self.run,
            "agent": self.agent,
            "revision": self.revision,
            "same": self.replay.is_proof(),
            "entries": self.entries,
            "answers": self.replay.answers,
            "fuel": self.replay.fuel,
            "fuelCompared": self.replay.other_engine.is_none(),
            "seconds": self.replay_took.as_secs_f64(),
        });
        match &self.replay.verdict {
            Verdict::Same(ran) => {
                document["ended"] = json!(true);
                document["journalHash"] = json!(ran.head);
            }
            Verdict::SameSoFar => document["ended"] = json!(false),
            Verdict::Diverged(divergence) => {
                document["divergence"] = json!({
                    "index": divergence.index,
                    "expected": expected(divergence),
                    "found": found(divergence),
                });
            }
            Verdict::Damaged(damage) => {
                document["damage"] = json!({ "index": damage.index, "what": damage.what });
            }
        }
        document
    }
}

fn end_of(ran: &crate::runtime::Ran) -> String {
    use crate::journal::Outcome;
    match &ran.ended.outcome {
        Outcome::Done(_) => "done, with the same result".to_owned(),
        Outcome::Error(error) => format!("error: {}, the same", error.code),
    }
}

fn expected(divergence: &Divergence) -> String {
    divergence.expected.as_ref().map_or_else(|| "the end of the journal".to_owned(), request)
}

fn found(divergence: &Divergence) -> String {
    match &divergence.found {
        Found::Request(found) => request(found),
        Found::Waiting { fuel, calls } => {
            let calls: Vec<String> = calls.iter().map(ToString::to_string).collect();
            format!(
                "fuel {}, waiting for the answers of calls {}",
                text::count(*fuel),
                calls.join(", ")
            )
        }
        Found::Sleeping { fuel } => format!("fuel {}, waiting for a time", text::count(*fuel)),
    }
}

fn request(request: &Request) -> String {
    let body = serde_json::to_string(&request.body).unwrap_or_default();
    format!("fuel {}, {}", text::count(request.fuel), text::line(&body, 2_000))
}

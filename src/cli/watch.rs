//! A run while it happens: its entries as they become durable, and a spinner
//! for what is under way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc::UnboundedReceiver;

use super::render::entry::{Lines, terminal_width};
use super::render::{style, text};
use super::{note, say};
use crate::journal::{Body, Encoded, Entry, Outcome, Started};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Events {
    /// Lines for people, on stderr
    Pretty,
    /// One JSON document per entry, on stdout
    Ndjson,
    /// Nothing
    None,
}

pub fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is valid");
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Prints entries as they become durable, until the run is over. Those that are
/// `known` were shown before.
pub async fn print(
    mut entries: UnboundedReceiver<Arc<Encoded>>,
    form: Events,
    spinner: ProgressBar,
    known: Vec<Entry>,
) {
    let mut lines = Lines::new(terminal_width());
    let mut under_way = BTreeSet::new();
    for entry in &known {
        let _ = lines.line(entry);
        note_call(&mut under_way, &entry.body);
    }
    while let Some(encoded) = entries.recv().await {
        match form {
            Events::None => {}
            Events::Ndjson => say(String::from_utf8_lossy(&encoded.bytes)),
            Events::Pretty => {
                let Ok(entry) = serde_json::from_slice::<Entry>(&encoded.bytes) else { continue };
                if let Body::Started(started) = &entry.body {
                    spinner.suspend(|| note(header(started)));
                }
                if let Some(line) = lines.line(&entry)
                    && !is_failure(&entry)
                {
                    spinner.suspend(|| note(line));
                }
                note_call(&mut under_way, &entry.body);
                let message = match under_way.first() {
                    Some(call) => format!("tool_call {}", lines.under_way(*call)),
                    None => format!("running, fuel {}", text::fuel(entry.fuel)),
                };
                spinner.set_message(message);
            }
        }
    }
    spinner.finish_and_clear();
}

fn note_call(under_way: &mut BTreeSet<u64>, body: &Body) {
    match body {
        Body::ToolCalled(call) => drop(under_way.insert(call.call)),
        Body::ToolAnswered(answer) => drop(under_way.remove(&answer.call)),
        _ => {}
    }
}

/// The entry that ends a failed run; the error is printed whole after the run.
fn is_failure(entry: &Entry) -> bool {
    let Body::Ended(ended) = &entry.body else { return false };
    matches!(ended.outcome, Outcome::Error(_))
}

fn header(started: &Started) -> String {
    let tools: Vec<&str> = started.tools.iter().map(|tool| tool.name.as_str()).collect();
    let tools = if tools.is_empty() { "no tools".to_owned() } else { tools.join(", ") };
    format!(
        "{} {} · {}@{} · {tools}",
        style::label("run"),
        style::strong(&started.run),
        started.agent,
        started.revision.short(),
    )
}

//! A run while it happens: its entries as they become durable, and a spinner
//! for what is under way.
//!
//! What a call says before it has answered is shown with the spinner, and only
//! there: it is no part of the record, and where nobody watches it is not taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;

use super::render::entry::{Lines, terminal_width};
use super::render::{style, text};
use super::{note, say};
use crate::journal::{Body, Encoded, Entry, Outcome, Started};
use crate::tools::RunTools;

/// Rows of what a call says.
const ROWS: usize = 3;
/// Of what a call says, the part that is kept: more than the rows of any terminal.
const MAX_TAIL: usize = 4 << 10;

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

/// What calls say that have not answered yet, by their numbers.
#[derive(Default)]
pub struct Live {
    tails: Mutex<BTreeMap<u64, String>>,
    changed: Notify,
}

impl Live {
    /// Listens to calls if there is a terminal to show them on.
    pub fn listen(self: &Arc<Self>, tools: RunTools, form: Events) -> RunTools {
        if form != Events::Pretty || terminal_width().is_none() {
            return tools;
        }
        let live = Arc::clone(self);
        tools.with_watcher(Arc::new(move |call, text| live.hear(call, text)))
    }

    /// Takes note of the text so far, without ever waiting for the terminal.
    fn hear(&self, call: &str, text: &str) {
        let number = call.rsplit_once('/').and_then(|(_, number)| number.parse().ok());
        let Some(number) = number else { return };
        let start = text.ceil_char_boundary(text.len().saturating_sub(MAX_TAIL));
        self.tails().insert(number, text[start..].to_owned());
        self.changed.notify_one();
    }

    fn tails(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last rows of what the call says, each on a line of its own.
    fn rows(&self, call: u64, width: usize) -> String {
        let tail = self.tails().get(&call).cloned().unwrap_or_default();
        let rows = wrap(&text::safe(&tail), width.saturating_sub(4).max(20));
        let rows = rows[rows.len().saturating_sub(ROWS)..].iter();
        rows.map(|row| format!("\n  {}", style::dim(row))).collect()
    }
}

/// The lines of `text`, cut into rows of at most `width` columns.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (mut row, mut columns) = (String::new(), 0);
        for c in line.chars().map(|c| if c == '\t' { ' ' } else { c }) {
            let taken = console::measure_text_width(c.encode_utf8(&mut [0; 4]));
            if columns + taken > width {
                rows.push(std::mem::take(&mut row));
                columns = 0;
            }
            row.push(c);
            columns += taken;
        }
        rows.push(row);
    }
    rows
}

/// Prints entries as they become durable, until the run is over.
pub async fn print(
    mut entries: UnboundedReceiver<Arc<Encoded>>,
    form: Events,
    live: Arc<Live>,
) {
    let spinner = match form {
        Events::Pretty => spinner(),
        Events::Ndjson | Events::None => ProgressBar::hidden(),
    };
    let width = terminal_width();
    let mut lines = Lines::new(width);
    let mut under_way = BTreeSet::new();
    loop {
        let encoded = tokio::select! {
            encoded = entries.recv() => encoded,
            () = live.changed.notified() => {
                if let Some(call) = under_way.first() {
                    spinner.set_message(calling(*call, &lines, &live, width));
                }
                continue;
            }
        };
        let Some(encoded) = encoded else { break };
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
                match &entry.body {
                    Body::ToolCalled(call) => drop(under_way.insert(call.call)),
                    Body::ToolAnswered(answer) => {
                        under_way.remove(&answer.call);
                        live.tails().remove(&answer.call);
                    }
                    _ => {}
                }
                let message = match under_way.first() {
                    Some(call) => calling(*call, &lines, &live, width),
                    None => format!("running, fuel {}", text::fuel(entry.fuel)),
                };
                spinner.set_message(message);
            }
        }
    }
    spinner.finish_and_clear();
}

/// What is under way, with what it says.
fn calling(call: u64, lines: &Lines, live: &Live, width: Option<usize>) -> String {
    let rows = width.map(|width| live.rows(call, width)).unwrap_or_default();
    format!("tool_call {}{rows}", lines.under_way(call))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rows_of_a_text_are_kept_and_no_more() {
        let live = Live::default();
        live.hear("run/7", &"é".repeat(1_000_000));
        assert!(live.tails()[&7].len() <= MAX_TAIL);
        assert_eq!(live.rows(7, 44).matches('é').count(), ROWS * 40);
        live.hear("run/7", "first\n\nsecond\tone\nthird \u{1b}[2J\nfourth\n");
        let rows = live.rows(7, 80);
        assert!(!rows.contains("first") && rows.contains("second one"), "{rows:?}");
        assert!(!rows.contains("\u{1b}[2J"), "{rows:?}");
        assert_eq!(live.rows(8, 80), "");
        live.hear("no number", "x");
        assert_eq!(live.tails().len(), 1);
    }

    #[test]
    fn rows_fit_the_terminal() {
        assert_eq!(wrap("abcdef\n\ngh", 4), ["abcd", "ef", "gh"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
    }
}

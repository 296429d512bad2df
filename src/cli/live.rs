//! What calls say before they have answered, such as the tokens of a model.
//!
//! It is shown with the spinner and nowhere else: it is no part of the record, and
//! where nobody can see it, it is not even taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::render::entry::terminal_width;
use super::render::{style, text};
use super::watch::Events;
use crate::tools::RunTools;

/// Rows of what a call says.
const ROWS: usize = 3;
/// The part of it that is kept: more than the rows of any terminal.
const MAX_TAIL: usize = 4 << 10;

/// What is being said, by the numbers of the calls.
#[derive(Default)]
pub struct Live {
    tails: Mutex<BTreeMap<u64, String>>,
    changed: Notify,
}

impl Live {
    /// Listens to calls, if there is a terminal to show them on.
    pub fn listen(self: &Arc<Self>, tools: RunTools, form: Events) -> RunTools {
        if form != Events::Pretty || terminal_width().is_none() {
            return tools;
        }
        let live = Arc::clone(self);
        tools.with_watcher(Arc::new(move |call, text| live.hear(call, text)))
    }

    /// Takes note of the text so far. It never waits for the terminal.
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

    /// Waits until something more is said.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub fn forget(&self, call: u64) {
        self.tails().remove(&call);
    }

    /// The last rows of what the call says, each on a line of its own.
    pub fn rows(&self, call: u64) -> String {
        let Some(width) = terminal_width() else { return String::new() };
        self.rows_within(call, width.saturating_sub(4).max(20))
    }

    fn rows_within(&self, call: u64, width: usize) -> String {
        let tail = self.tails().get(&call).cloned().unwrap_or_default();
        let rows = wrap(&text::safe(&tail), width);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rows_of_a_text_are_kept_and_no_more() {
        let live = Live::default();
        live.hear("run/7", &"é".repeat(1_000_000));
        assert!(live.tails()[&7].len() <= MAX_TAIL);
        let shown = live.rows_within(7, 40).matches('é').count();
        assert!(shown > (ROWS - 1) * 40 && shown <= ROWS * 40, "{shown}");
        live.hear("run/7", "first\n\nsecond\tone\nthird \u{1b}[2J\nfourth\n");
        let rows = live.rows_within(7, 80);
        assert!(!rows.contains("first") && rows.contains("second one"), "{rows:?}");
        assert!(!rows.contains("\u{1b}[2J"), "{rows:?}");
        assert_eq!(live.rows_within(8, 80), "");
        live.hear("no number", "x");
        assert_eq!(live.tails().len(), 1);
        live.forget(7);
        assert!(live.tails().is_empty());
    }

    #[test]
    fn rows_fit_the_terminal() {
        assert_eq!(wrap("abcdef\n\ngh", 4), ["abcd", "ef", "gh"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
    }
}

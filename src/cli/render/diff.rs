//! How two JSON values or two texts differ, for people.

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::{style, text};
use crate::journal::Body;

/// Changes of one comparison that are shown.
const MAX_CHANGES: usize = 20;
/// Lines of one text's difference that are shown.
const MAX_LINES: usize = 40;
/// Characters of a value, or of one line of a text, that are shown.
const WIDTH: usize = 160;
/// Lines that are compared one by one. Texts with more are compared as a whole.
const MAX_COMPARED: usize = 5_000;

/// A place in a JSON value where two of them differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Such as `arguments.messages[0].content`; empty for the whole value.
    pub path: String,
    pub expected: Option<Value>,
    pub found: Option<Value>,
}

impl Change {
    pub fn document(&self) -> Value {
        json!({ "path": self.path, "expected": self.expected, "found": self.found })
    }
}

/// Where two values differ, the order of keys aside.
pub fn changes(expected: &Value, found: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(String::new(), Some(expected), Some(found), &mut changes);
    changes
}

/// Where two entries of the same kind differ; nothing if they are of two kinds.
pub fn entry_changes(expected: &Body, found: &Body) -> Vec<Change> {
    if let (Body::Ended(expected), Body::Ended(found)) = (expected, found) {
        // What a run used of its limits is not what it did.
        let [expected, found] = [expected, found].map(|ended| super::run::value_of(&ended.outcome));
        return changes(&expected, &found);
    }
    let [expected, found] = [expected, found].map(super::run::value_of);
    let kind = |body: &Value| body.as_object().and_then(|body| body.keys().next().cloned());
    match (kind(&expected), kind(&found)) {
        (Some(a), Some(b)) if a == b => changes(&expected[&a], &found[&b]),
        _ => Vec::new(),
    }
}

fn compare(path: String, a: Option<&Value>, b: Option<&Value>, changes: &mut Vec<Change>) {
    match (a, b) {
        (Some(a), Some(b)) if a == b => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let added = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(added) {
                let dot = if path.is_empty() { "" } else { "." };
                compare(format!("{path}{dot}{key}"), a.get(key), b.get(key), changes);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                compare(format!("{path}[{index}]"), a.get(index), b.get(index), changes);
            }
        }
        (a, b) => changes.push(Change { path, expected: a.cloned(), found: b.cloned() }),
    }
}

/// Changes, one below the other.
pub fn describe(changes: &[Change]) -> String {
    let shown = changes.iter().take(MAX_CHANGES).map(describe_one);
    let mut lines: Vec<String> = shown.collect();
    if changes.len() > MAX_CHANGES {
        lines.push(format!("… and {} more", changes.len() - MAX_CHANGES));
    }
    lines.join("\n")
}

fn describe_one(change: &Change) -> String {
    let path = style::label(text::line(&change.path, WIDTH));
    match (&change.expected, &change.found) {
        (Some(Value::String(a)), Some(Value::String(b))) if is_long(a) || is_long(b) => {
            format!("{path}\n{}", texts(a, b))
        }
        (Some(a), Some(b)) => format!("{path}  {} → {}", value(a), value(b)),
        (Some(a), None) => format!("{path}  {} {}", style::bad("-"), value(a)),
        (None, Some(b)) => format!("{path}  {} {}", style::good("+"), value(b)),
        (None, None) => path,
    }
}

fn is_long(text: &str) -> bool {
    text.contains('\n') || text.chars().nth(WIDTH / 2).is_some()
}

fn value(value: &Value) -> String {
    text::line(&value.to_string(), WIDTH)
}

/// The lines in which two texts differ.
pub fn texts(expected: &str, found: &str) -> String {
    let lines = expected.lines().count() + found.lines().count();
    let mut shown = Vec::new();
    let mut left_out = 0;
    if lines > MAX_COMPARED {
        shown = vec![removed(expected, found), added(found, expected)];
    } else {
        let diff = TextDiff::from_lines(expected, found);
        for operation in diff.ops() {
            let changes: Vec<_> = diff.iter_changes(operation).collect();
            let of = |tag| changes.iter().filter(move |change| change.tag() == tag);
            let gone: Vec<&str> = of(ChangeTag::Delete).map(|change| change.value()).collect();
            let new: Vec<&str> = of(ChangeTag::Insert).map(|change| change.value()).collect();
            let beside =
                |lines: &[&str], index: usize| lines.get(index).copied().unwrap_or("").to_owned();
            let gone_lines =
                gone.iter().enumerate().map(|(at, line)| removed(line, &beside(&new, at)));
            let new_lines =
                new.iter().enumerate().map(|(at, line)| added(line, &beside(&gone, at)));
            for line in gone_lines.chain(new_lines) {
                if shown.len() < MAX_LINES { shown.push(line) } else { left_out += 1 }
            }
        }
    }
    if left_out > 0 {
        shown.push(format!("… and {}", text::plural(left_out, "more line", "more lines")));
    }
    shown.join("\n")
}

fn removed(line: &str, other: &str) -> String {
    format!("{} {}", style::bad("-"), window(line, other)).trim_end().to_owned()
}

fn added(line: &str, other: &str) -> String {
    format!("{} {}", style::good("+"), window(line, other)).trim_end().to_owned()
}

/// The part of a long line in which it differs from the other one.
fn window(line: &str, other: &str) -> String {
    let line = line.trim_end_matches(['\n', '\r']);
    let same = line.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    if line.chars().nth(WIDTH).is_none() || same < WIDTH / 2 {
        return text::indented(line, WIDTH);
    }
    let from: String = line.chars().skip(same - WIDTH / 4).collect();
    format!("…{}", text::indented(&from, WIDTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: String) -> String {
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn values_differ_at_places() {
        let a = json!({ "a": 1, "b": { "c": [1, 2], "gone": null }, "same": "x" });
        let b = json!({ "same": "x", "b": { "c": [1, 3, 4] }, "a": 1, "new": true });
        let changes = changes(&a, &b);
        let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["b.c[1]", "b.c[2]", "b.gone", "new"]);
        let text = plain(describe(&changes));
        assert_eq!(text, "b.c[1]  2 → 3\nb.c[2]  + 4\nb.gone  - null\nnew  + true");
    }

    #[test]
    fn texts_differ_in_lines() {
        let text = plain(texts("one\ntwo\nthree\n", "one\n2\nthree\nfour\n"));
        assert_eq!(text, "- two\n+ 2\n+ four");
        let many = |word: &str| (0..100).map(|n| format!("{word} {n}\n")).collect::<String>();
        let text = plain(texts(&many("a"), &many("b")));
        assert_eq!(text.lines().count(), MAX_LINES + 1);
        assert!(text.ends_with("… and 160 more lines"), "{text}");
    }

    #[test]
    fn a_long_line_is_shown_where_it_differs() {
        let long = |end: &str| format!("{}{end}", "same ".repeat(2_000));
        let text = plain(texts(&long("old"), &long("new")));
        assert!(text.contains("same old") && text.contains("same new"), "{text}");
        assert!(text.len() < 500, "{text}");
    }
}

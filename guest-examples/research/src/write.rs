//! The document: figures, quotations and limits, in Markdown. Every statement
//! in it comes from the tools' answers.

use std::fmt::Write;

use crate::passages::{MAX_CHARS, Passage};

/// Passages beyond those quoted that are named by their line numbers.
const MAX_PLACES: usize = 10;

/// All that the document tells.
pub struct Report<'a> {
    pub topic: &'a str,
    /// The files that were chosen, in the order of their ranks.
    pub files: Vec<FileReport<'a>>,
    pub files_searched: u64,
    pub files_found: usize,
    pub lines_found: usize,
    /// The search found more than it answered.
    pub search_truncated: bool,
    /// Files that were found and not chosen.
    pub passed_over: Vec<&'a str>,
    /// How many passages of each file are quoted.
    pub max_passages: usize,
}

pub struct FileReport<'a> {
    pub path: &'a str,
    /// What was read, or why the file could not be.
    pub outcome: Result<Reading, String>,
}

pub struct Reading {
    pub passages: Vec<Passage>,
    pub bytes_read: u64,
    pub bytes: u64,
}

impl Report<'_> {
    /// The files that could be read.
    pub fn read(&self) -> impl Iterator<Item = (&str, &Reading)> {
        self.files.iter().filter_map(|file| Some((file.path, file.outcome.as_ref().ok()?)))
    }
}

pub fn document(report: &Report) -> String {
    let mut sections = vec![format!("# Research: {}\n", escape(report.topic))];
    sections.push(summary(report));
    for (path, reading) in report.read() {
        sections.push(file(path, reading, report.max_passages));
    }
    sections.push(limits(report));
    sections.join("\n")
}

fn summary(report: &Report) -> String {
    if report.files_found == 0 {
        return format!(
            "Searched {}: no line mentions “{}”.\n",
            count(report.files_searched as usize, "file"),
            escape(report.topic)
        );
    }
    let at_least = if report.search_truncated { "at least " } else { "" };
    let passages: usize = report.read().map(|(_, file)| file.passages.len()).sum();
    let quoted: usize =
        report.read().map(|(_, file)| file.passages.len().min(report.max_passages)).sum();
    format!(
        "\
| Files searched | Files found | Lines found | Files read | Passages quoted |
| ---: | ---: | ---: | ---: | ---: |
| {searched} | {at_least}{files} | {at_least}{lines} | {read} | {quoted} of {passages} |
",
        searched = report.files_searched,
        files = report.files_found,
        lines = report.lines_found,
        read = report.read().count(),
    )
}

fn file(path: &str, reading: &Reading, max_passages: usize) -> String {
    let (quoted, rest) = reading.passages.split_at(max_passages.min(reading.passages.len()));
    let mut section = format!("## `{path}`\n");
    for passage in quoted {
        section.push('\n');
        section.push_str(&quote(passage));
    }
    if !rest.is_empty() {
        let places: Vec<_> = rest.iter().take(MAX_PLACES).map(place).collect();
        let more = match rest.len() - places.len() {
            0 => String::new(),
            n => format!(" and {} more", count(n, "place")),
        };
        let places = places.join(", ");
        _ = writeln!(section, "\nAlso mentioned at {places}{more}.");
    }
    section
}

/// A fenced block, so that the file's own markup is shown and not obeyed.
fn quote(passage: &Passage) -> String {
    let fence = fence(&passage.lines);
    let width = passage.last().to_string().len();
    let mut block = format!("{fence}text\n");
    for (number, line) in (passage.first..).zip(&passage.lines) {
        _ = writeln!(block, "{number:width$}  {line}");
    }
    block + &fence + "\n"
}

/// A fence longer than any run of backticks within.
fn fence(lines: &[String]) -> String {
    let longest =
        lines.iter().flat_map(|line| line.split(|c| c != '`')).map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

fn limits(report: &Report) -> String {
    let mut limits = vec![
        "The search is for these very words on one line: other words for the same thing, \
         and mentions that run over a line's end, are not found."
            .to_string(),
    ];
    if report.search_truncated {
        limits.push("The search was cut short: there are more matches, or may be.".to_string());
    }
    if !report.passed_over.is_empty() {
        limits.push(format!(
            "Found and not read, for having fewer mentions: {}.",
            code_list(&report.passed_over)
        ));
    }
    for file in &report.files {
        match &file.outcome {
            Err(reason) => limits.push(format!("`{}` could not be read ({reason}).", file.path)),
            Ok(reading) if reading.bytes_read < reading.bytes => limits.push(format!(
                "Of `{}`, the first {} of {} bytes were read.",
                file.path, reading.bytes_read, reading.bytes
            )),
            Ok(_) => {}
        }
    }
    let cut = |line: &String| line.chars().count() > MAX_CHARS;
    if report.read().any(|(_, file)| file.passages.iter().flat_map(|p| &p.lines).any(cut)) {
        limits.push(format!(
            "Lines of more than {MAX_CHARS} characters are cut around the mention, at each “…”."
        ));
    }
    let list: String = limits.iter().map(|limit| format!("- {limit}\n")).collect();
    format!("## Limits of this research\n\n{list}")
}

/// `12–14`, or `12`.
fn place(passage: &Passage) -> String {
    match (passage.first, passage.last()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}–{last}"),
    }
}

fn code_list(paths: &[&str]) -> String {
    let quoted: Vec<_> = paths.iter().map(|path| format!("`{path}`")).collect();
    quoted.join(", ")
}

/// `1 file`, `2 files`, `2 matches`.
pub fn count(n: usize, noun: &str) -> String {
    match (n, noun.ends_with("ch")) {
        (1, _) => format!("1 {noun}"),
        (n, true) => format!("{n} {noun}es"),
        (n, false) => format!("{n} {noun}s"),
    }
}

/// Text as Markdown that shows it as it is.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if "\\`*_[]<>&#|~".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(first: usize, lines: &[&str]) -> Passage {
        Passage { first, lines: lines.iter().map(|line| line.to_string()).collect() }
    }

    fn report<'a>(files: Vec<FileReport<'a>>) -> Report<'a> {
        Report {
            topic: "fuel",
            files_searched: 12,
            files_found: files.len(),
            lines_found: 3,
            search_truncated: false,
            passed_over: vec![],
            max_passages: 1,
            files,
        }
    }

    #[test]
    fn a_document_holds_figures_quotations_and_limits() {
        let reading = Reading {
            passages: vec![passage(9, &["## Fuel", "burns"]), passage(20, &["more fuel"])],
            bytes_read: 100,
            bytes: 250,
        };
        let mut report = report(vec![
            FileReport { path: "a.md", outcome: Ok(reading) },
            FileReport { path: "b.md", outcome: Err("not a text file".to_string()) },
        ]);
        report.passed_over = vec!["c.md"];
        report.search_truncated = true;
        let expected = "\
# Research: fuel

| Files searched | Files found | Lines found | Files read | Passages quoted |
| ---: | ---: | ---: | ---: | ---: |
| 12 | at least 2 | at least 3 | 1 | 1 of 2 |

## `a.md`

```text
 9  ## Fuel
10  burns
```

Also mentioned at 20.

## Limits of this research

- The search is for these very words on one line: other words for the same thing, and mentions that run over a line's end, are not found.
- The search was cut short: there are more matches, or may be.
- Found and not read, for having fewer mentions: `c.md`.
- Of `a.md`, the first 100 of 250 bytes were read.
- `b.md` could not be read (not a text file).
";
        assert_eq!(document(&report), expected);
    }

    #[test]
    fn a_document_about_nothing_says_so() {
        let document = document(&report(vec![]));
        assert!(document.contains("Searched 12 files: no line mentions “fuel”."));
    }

    #[test]
    fn a_quotation_cannot_leave_its_block() {
        assert_eq!(fence(&["a ```` b `".to_string()]), "`````");
        assert_eq!(fence(&["plain".to_string()]), "```");
    }

    #[test]
    fn a_topic_is_shown_as_it_is() {
        assert_eq!(escape("a_b <i>"), "a\\_b \\<i\\>");
    }
}

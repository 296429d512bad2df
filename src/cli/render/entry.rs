//! One journal entry as one line: time, kind, what it says, fuel.

use super::{style, text};
use crate::journal::{Answer, Approval, Body, Entry, Fork, Micros, Outcome, Stream};

/// Width of the column for kinds; the longest of the standard ones fits.
const KIND: usize = 19;

/// Turns entries into lines, in order. Remembers what later entries refer to.
#[derive(Debug)]
pub struct Lines {
    started_at: Micros,
    /// Characters for what an entry says.
    width: usize,
    calls: Vec<(Micros, String)>,
    spans: Vec<(Micros, String)>,
    slept_at: Micros,
    fork: Option<Fork>,
}

impl Lines {
    /// `width` is that of the terminal; without one, lines are not cut.
    pub fn new(width: Option<usize>) -> Self {
        let width = room(width);
        Self { started_at: 0, width, calls: vec![], spans: vec![], slept_at: 0, fork: None }
    }

    /// The line for `entry`, or `None` if it is shown with a later one. Where a fork
    /// goes on by itself, a line before it says so.
    pub fn line(&mut self, entry: &Entry) -> Option<String> {
        let parting = self.fork.take_if(|fork| entry.seq >= fork.shared).map(|fork| {
            self.started_at = fork.made_at;
            style::dim(parting(&fork))
        });
        let line = self.line_of(entry);
        match (parting, line) {
            (Some(parting), Some(line)) => Some(format!("{parting}\n{line}")),
            (parting, line) => parting.or(line),
        }
    }

    fn line_of(&mut self, entry: &Entry) -> Option<String> {
        let (kind, said, took) = match &entry.body {
            Body::Started(started) => {
                self.started_at = entry.at;
                self.fork = started.fork.clone();
                return None;
            }
            Body::Event(event) => (event.kind.as_str(), text::plain(&event.data.to_value()), None),
            Body::SpanOpened(span) => {
                self.spans.push((entry.at, span.kind.clone()));
                (span.kind.as_str(), format!("▸ {}", text::plain(&span.data.to_value())), None)
            }
            Body::SpanClosed(span) => {
                let (at, kind) = self.spans.get(span.span as usize)?.clone();
                let said = format!("◂ {}", text::plain(&span.data.to_value()));
                return Some(self.format(entry, &kind, &said, Some(entry.at.saturating_sub(at))));
            }
            Body::Log(log) => {
                let kind = if log.stream == Stream::Stderr { "stderr" } else { "stdout" };
                (kind, log.text.clone(), None)
            }
            Body::ToolCalled(call) => {
                let arguments = text::plain(&call.arguments.to_value());
                self.calls.push((entry.at, format!("{} {arguments}", call.name)));
                return None;
            }
            Body::ApprovalAsked(asked) => {
                let (_, called) = self.calls.get(asked.call as usize)?.clone();
                ("approval_asked", called, None)
            }
            Body::ApprovalAnswered(answered) => {
                let by = if answered.by.is_empty() { "nobody" } else { &answered.by };
                let said = match &answered.decision {
                    Approval::Approved => format!("approved by {by}"),
                    Approval::Edited(arguments) => {
                        format!("approved by {by} as {}", text::plain(&arguments.to_value()))
                    }
                    Approval::Denied(reason) => format!("denied by {by}: {reason}"),
                    Approval::TimedOut => "nobody answered in time: denied".to_owned(),
                };
                return Some(self.format(entry, "approval", &said, None));
            }
            Body::ToolAnswered(answered) => {
                let (at, called) = self.calls.get(answered.call as usize)?.clone();
                let answer = match &answered.answer {
                    Answer::Ok(output) => text::bytes(output.content.as_str().len() as u64),
                    Answer::Error(error) => format!("✗ {}", error.message),
                };
                let room = self.width.saturating_sub(answer.chars().count() + 14).max(20);
                let said = format!("{} → {answer}", text::line(&called, room));
                return Some(self.format(
                    entry,
                    "tool_call",
                    &said,
                    Some(entry.at.saturating_sub(at)),
                ));
            }
            Body::SleepStarted(sleep) => {
                self.slept_at = entry.at;
                let wait = text::duration(sleep.until.saturating_sub(entry.at));
                ("sleep", format!("for {wait}, until {}", text::time(sleep.until)), None)
            }
            Body::SleepEnded => {
                ("woke", String::new(), Some(entry.at.saturating_sub(self.slept_at)))
            }
            Body::Ended(ended) => match &ended.outcome {
                Outcome::Done(_) => {
                    ("done", String::new(), Some(entry.at.saturating_sub(self.started_at)))
                }
                Outcome::Error(error) => (error.code.as_str(), error.message.clone(), None),
            },
        };
        Some(self.format(entry, kind, &said, took))
    }

    /// What is under way: the newest tool call, for a spinner.
    pub fn under_way(&self, call: u64) -> String {
        let said = self.calls.get(call as usize).map_or("", |(_, said)| said);
        text::line(said, self.width)
    }

    fn format(&self, entry: &Entry, kind: &str, said: &str, took: Option<u64>) -> String {
        let tone = match &entry.body {
            Body::Ended(ended) if matches!(ended.outcome, Outcome::Error(_)) => Tone::Bad,
            Body::Ended(_) => Tone::Good,
            Body::Log(_) => Tone::Log,
            _ => Tone::Plain,
        };
        let at = entry.at.saturating_sub(self.started_at);
        Row { at, fuel: Some(entry.fuel), kind, said, took, tone }.text(self.width)
    }
}

/// What a line is about, which decides its looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Log,
    Good,
    Bad,
}

/// One line.
pub(super) struct Row<'a> {
    /// Microseconds since the run began.
    pub at: u64,
    /// Left out where it is not known.
    pub fuel: Option<u64>,
    pub kind: &'a str,
    pub said: &'a str,
    /// Microseconds.
    pub took: Option<u64>,
    pub tone: Tone,
}

impl Row<'_> {
    /// `width` is that of what is said.
    pub fn text(&self, width: usize) -> String {
        let gap = if self.said.is_empty() { "" } else { " " };
        let took = self.took.map(|took| format!("{gap}({})", text::duration(took)));
        let took = took.unwrap_or_default();
        let width = width.saturating_sub(took.chars().count());
        let said = match self.tone {
            Tone::Log => text::indented(self.said, width),
            _ => text::line(self.said, width),
        };
        let kind = format!("{:KIND$}", text::line(self.kind, KIND));
        let kind = match self.tone {
            Tone::Bad => style::bad(kind),
            Tone::Good => style::good(kind),
            Tone::Log => style::dim(kind),
            Tone::Plain => style::label(kind),
        };
        let at = style::dim(format!("{:8.3}s", self.at as f64 / 1e6));
        let fuel = self.fuel.map(|fuel| style::dim(format!(" {:>7}", text::fuel(fuel))));
        format!("{at}{}  {kind} {said}{}", fuel.unwrap_or_default(), style::dim(took))
    }
}

/// Characters for what is said, on a terminal of so many columns; without one, all.
pub(super) fn room(width: Option<usize>) -> usize {
    width.map_or(usize::MAX, |width| width.saturating_sub(KIND + 24).max(30))
}

fn parting(fork: &Fork) -> String {
    let run = text::line(&fork.run, 64);
    let set = if fork.set_result { ", whose result was set by hand" } else { "" };
    format!("── up to here entry {} of {run}{set}; from here on live ──", fork.at)
}

/// Width of the terminal on stderr, if it is one.
pub fn terminal_width() -> Option<usize> {
    console::Term::stderr().size_checked().map(|(_, columns)| columns.into())
}

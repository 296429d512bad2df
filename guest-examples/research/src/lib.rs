//! Finds what a folder of text files says about a topic: searches, reads the
//! files with the most mentions, and writes a document of their own words.

mod files;
mod passages;
mod plan;
mod rank;
mod say;
mod write;

use passages::extract;
use plan::Plan;
use rank::{Candidate, rank};
use reenact_agent::{Failure, context};
use serde::Deserialize;
use write::{FileReport, Report};

#[derive(Deserialize)]
struct Input {
    topic: String,
}

#[derive(Deserialize)]
#[serde(default)]
struct Config {
    max_files: usize,
    max_passages: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { max_files: 3, max_passages: 3 }
    }
}

/// Answers a document. The host collects the sources that the tools answered from.
fn run(input: Input) -> Result<String, Failure> {
    research(&one_line(&input.topic), &context::config()?)
}

fn research(topic: &str, config: &Config) -> Result<String, Failure> {
    say::planning(&Plan::new(topic, config.max_files));

    let found = files::search(topic)?;
    let ranked = rank(&found.matches);
    let (chosen, passed_over) = ranked.split_at(config.max_files.min(ranked.len()));
    say::choice(chosen, ranked.len());

    let report = Report {
        topic,
        files: read_all(chosen, topic)?,
        files_searched: found.files_searched,
        files_found: ranked.len(),
        lines_found: found.matches.len(),
        search_truncated: found.truncated,
        passed_over: passed_over.iter().map(|file| file.path).collect(),
        max_passages: config.max_passages,
    };
    say::extraction(&report);
    Ok(write::document(&report))
}

/// Reads the chosen files at once. One that cannot be read stays in the
/// report, with the reason; that none can be read is a failure.
fn read_all<'a>(chosen: &[Candidate<'a>], topic: &str) -> Result<Vec<FileReport<'a>>, Failure> {
    if chosen.is_empty() {
        return Ok(vec![]);
    }
    let mut reports = Vec::new();
    for (file, answer) in chosen.iter().zip(files::read(chosen)?) {
        let outcome = match answer {
            Ok(read) => {
                let passages = extract(&read.text, topic, &file.lines);
                Ok(write::Reading {
                    passages,
                    bytes_read: read.text.len() as u64,
                    bytes: read.size,
                })
            }
            Err(reason) => {
                say::unreadable(file.path, &reason);
                Err(reason)
            }
        };
        reports.push(FileReport { path: file.path, outcome });
    }
    if reports.iter().all(|file| file.outcome.is_err()) {
        return Err(files::none_readable(&reports));
    }
    Ok(reports)
}

/// A topic of several lines would match no line of any file.
fn one_line(topic: &str) -> String {
    topic.split_whitespace().collect::<Vec<_>>().join(" ")
}

reenact_agent::agent!(run);

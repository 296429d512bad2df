//! `reenact replay … --against`: what another revision would have done.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::context::Context;
use super::render::run::Recorded;
use super::render::what_if::Report;
use super::render::{style, text};
use super::replay::{all_rows, open_file, progress};
use super::{Failure, Global, exit, say, say_json, target};
use crate::journal::Encoded;
use crate::revision::Revision;
use crate::runtime::{Executor, Prepared};

/// What is held against what.
pub struct Against<'a> {
    /// The revision, as the command line names it.
    pub revision: &'a str,
    pub json: bool,
}

impl Against<'_> {
    /// An exported run; only a revision that is named by its agent needs a home.
    pub async fn file(&self, path: &Path, global: &Global) -> Result<ExitCode, Failure> {
        let run = open_file(path)?;
        let recorded = Recorded::read(&run.journal)?;
        let (executor, revision) = self.load(global, &recorded.started.agent)?;
        let prepared = executor.prepare(revision)?;
        self.finish(&what_if(&executor, &prepared, &run.journal).await?)
    }

    /// A run of this home.
    pub async fn one(&self, run: &str, global: &Global) -> Result<ExitCode, Failure> {
        let context = Context::open(global)?;
        let row = context.storage.run_by_prefix(run)?;
        let named = target::of_agent(self.revision, &row.agent);
        let revision = target::resolve(&context, &named)?.revision;
        let executor = context.executor()?;
        let prepared = executor.prepare(revision)?;
        let journal = context.storage.entries(&row.id)?;
        self.finish(&what_if(&executor, &prepared, &journal).await?)
    }

    /// Every run of an agent, which is the revision's if none is named.
    pub async fn all(&self, agent: Option<String>, global: &Global) -> Result<ExitCode, Failure> {
        let context = Context::open(global)?;
        let named = agent.as_deref().map(|agent| target::of_agent(self.revision, agent));
        let named = named.unwrap_or_else(|| self.revision.to_owned());
        let revision = target::resolve(&context, &named)?.revision;
        let executor = context.executor()?;
        let prepared = executor.prepare(revision)?;
        let of = agent.unwrap_or_else(|| prepared.revision.manifest.name.to_string());
        let rows = all_rows(&context, Some(of))?;
        let bar = progress(rows.len() as u64);
        let begun = Instant::now();
        let mut same = 0;
        let mut others: Vec<(String, String)> = Vec::new();
        let mut documents = Vec::new();
        for row in &rows {
            bar.set_message(row.id.clone());
            let journal = context.storage.entries(&row.id)?;
            match what_if(&executor, &prepared, &journal).await {
                Ok(report) => {
                    match report.is_same() {
                        true => same += 1,
                        false => others.push((row.id.clone(), report.verdict())),
                    }
                    documents.push(report.document());
                }
                Err(failure) => {
                    let why = failure.one_line();
                    documents.push(json!({ "run": row.id, "same": false, "why": why }));
                    others.push((row.id.clone(), why));
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        if self.json {
            say_json(&json!({
                "against": prepared.revision.digest,
                "runs": rows.len(),
                "same": same,
                "reports": documents,
                "seconds": begun.elapsed().as_secs_f64(),
            }))?;
        } else {
            let mark = if others.is_empty() { style::good("✓") } else { style::bad("✗") };
            say(format!(
                "{mark} {same} of {} the same against {} · {}",
                text::plural(rows.len() as u64, "run is", "runs are"),
                prepared.revision.digest.short(),
                text::duration(begun.elapsed().as_micros() as u64),
            ));
            for (run, verdict) in &others {
                say(format!("  {run}  {}", text::safe(verdict)));
            }
        }
        Ok(code(others.is_empty()))
    }

    fn load(&self, global: &Global, agent: &str) -> Result<(Executor, Arc<Revision>), Failure> {
        if let Some(revision) = target::from_path(self.revision)? {
            return Ok((Executor::new(None)?, revision));
        }
        let context = Context::open(global)?;
        let named = target::of_agent(self.revision, agent);
        Ok((context.executor()?, target::resolve(&context, &named)?.revision))
    }

    fn finish(&self, report: &Report) -> Result<ExitCode, Failure> {
        if self.json {
            say_json(&report.document())?;
        } else {
            say(report.describe());
        }
        Ok(code(report.is_same()))
    }
}

fn code(is_same: bool) -> ExitCode {
    ExitCode::from(if is_same { 0 } else { exit::NOT_THE_SAME })
}

/// Holds a revision against a record.
pub async fn what_if(
    executor: &Executor,
    prepared: &Prepared,
    journal: &[Encoded],
) -> Result<Report, Failure> {
    let begun = Instant::now();
    let what_if = executor.what_if(prepared, journal).await?;
    let started = Recorded::read(journal)?.started;
    let manifest = &prepared.revision.manifest;
    let against = (manifest.name.to_string(), prepared.revision.digest);
    Ok(Report::new(&started, against, what_if, begun.elapsed()))
}

//! `reenact replay`: one run, an exported file, or every run in the home.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::against::Against;
use super::context::Context;
use super::render::replay::Report;
use super::render::run::Recorded;
use super::render::{style, text};
use super::target::registered_digest;
use super::{Failure, Global, exit, note, say, say_json};
use crate::journal::{Encoded, PortableRun};
use crate::revision::{Digest, Revision};
use crate::runtime::{Executor, Prepared};
use crate::service::{Tail, check_row};
use crate::storage::{RunFilter, RunRow};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A replay calls no tool, reads no clock and needs no network: every answer comes from the journal.
It compares each entry with the record and stops at the first difference.

Examples:
  reenact replay 0193c1f2            a run of this home
  reenact replay run.reenact         an exported run, on any machine
  reenact replay --all               every run of this home
  reenact replay 0193c1f2 --against ./my-agent
                                     what another revision would have done")]
pub struct Args {
    /// Id of a run (a unique beginning is enough) or an exported file
    #[arg(value_name = "RUN|FILE", required_unless_present = "all", conflicts_with = "all")]
    pub(super) target: Option<String>,
    /// Replay every run
    #[arg(long)]
    pub(super) all: bool,
    /// With --all: only runs of this agent
    #[arg(long, value_name = "NAME", requires = "all")]
    pub(super) agent: Option<String>,
    /// Execute another revision against the record, and tell where it departs and what follows:
    /// @DIGEST, AGENT, AGENT@DIGEST, a folder or a sealed file
    #[arg(long, value_name = "REVISION")]
    pub(super) against: Option<String>,
    /// Print the outcome as JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    if let Some(revision) = &args.against {
        let against = Against { revision, json: args.json };
        return match &args.target {
            None => against.all(args.agent, global).await,
            Some(target) => match exported(target)? {
                Some(path) => against.file(path, global).await,
                None => against.one(target, global).await,
            },
        };
    }
    match &args.target {
        None => all(&args, global).await,
        Some(target) => match exported(target)? {
            Some(path) => file(path, &args).await,
            None => one(target, &args, global).await,
        },
    }
}

/// The exported file that is meant, or `None` for the id of a run.
pub fn exported(target: &str) -> Result<Option<&Path>, Failure> {
    let path = Path::new(target);
    if path.is_file() {
        return Ok(Some(path));
    }
    if target.contains(['/', '\\', '.']) {
        return Err(Failure::new(format!("there is no file `{target}`")));
    }
    Ok(None)
}

async fn one(target: &str, args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let row = context.storage.run_by_prefix(target)?;
    let executor = context.executor()?;
    let revision = registered_digest(&context, row.revision)?;
    let prepared = executor.prepare(revision)?;
    let report = replay_row(&context, &executor, &prepared, &row).await?;
    finish(&report, args)
}

/// Reads an exported run, all of which is verified.
pub fn open_file(path: &Path) -> Result<PortableRun, Failure> {
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::from(error).context(format!("cannot read `{}`", path.display()))
    })?;
    PortableRun::from_bytes(&bytes)
        .map_err(|error| Failure::from(error).context(format!("`{}` is refused", path.display())))
}

async fn file(path: &Path, args: &Args) -> Result<ExitCode, Failure> {
    let run = open_file(path)?;
    let revision = Revision::open(run.revision).map_err(|error| {
        Failure::from(error).context(format!("`{}` is refused", path.display()))
    })?;
    // Without a home there is no cache: the file proves itself with nothing else.
    let executor = Executor::new(None)?;
    let prepared = executor.prepare(Arc::new(revision))?;
    let recorded = Recorded::read(&run.journal)?;
    let report = replay_journal(&executor, &prepared, run.journal, &recorded.started.run).await?;
    finish(&report, args)
}

async fn replay_row(
    context: &Context,
    executor: &Executor,
    prepared: &Prepared,
    row: &RunRow,
) -> Result<Report, Failure> {
    let journal = context.storage.entries(&row.id)?;
    let tail = Tail::of(&journal);
    let mut report = replay_journal(executor, prepared, journal, &row.id).await?;
    report.entries = report.entries.max(row.entries);
    check_row(row, &tail, &mut report.replay);
    Ok(report)
}

async fn replay_journal(
    executor: &Executor,
    prepared: &Prepared,
    journal: Vec<Encoded>,
    run: &str,
) -> Result<Report, Failure> {
    let begun = Instant::now();
    let entries = journal.len() as u64;
    let replay = executor.replay(prepared, journal).await?;
    Ok(Report {
        run: run.to_owned(),
        agent: prepared.revision.manifest.name.to_string(),
        revision: prepared.revision.digest,
        entries,
        replay,
        replay_took: begun.elapsed(),
    })
}

fn finish(report: &Report, args: &Args) -> Result<ExitCode, Failure> {
    if args.json {
        say_json(&report.document())?;
    } else {
        say(report.describe());
    }
    let code = if report.replay.is_proof() { 0 } else { exit::NOT_THE_SAME };
    Ok(ExitCode::from(code))
}

/// Replays every run, compiling each revision once.
async fn all(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let executor = context.executor()?;
    let rows = all_rows(&context, args.agent.clone())?;
    let bar = progress(rows.len() as u64);
    let mut revisions: HashMap<Digest, Result<Prepared, String>> = HashMap::new();
    let (mut same, mut answers, mut entries) = (0, 0, 0);
    let mut failed = Vec::new();
    let begun = Instant::now();
    for row in &rows {
        bar.set_message(row.id.clone());
        let prepared = revisions.entry(row.revision).or_insert_with(|| {
            let prepare =
                || Ok::<_, Failure>(executor.prepare(registered_digest(&context, row.revision)?)?);
            prepare().map_err(|failure| failure.one_line())
        });
        let outcome = match prepared {
            Ok(prepared) => replay_row(&context, &executor, prepared, row).await,
            Err(message) => Err(Failure::new(message.clone())),
        };
        match outcome {
            Ok(report) if report.replay.is_proof() => {
                same += 1;
                answers += report.replay.answers;
                entries += report.entries;
            }
            Ok(report) => {
                bar.suspend(|| note(report.describe()));
                failed.push((row.id.clone(), report.verdict()));
            }
            Err(failure) => {
                let message = failure.one_line();
                bar.suspend(|| note(format!("{} {}: {message}", style::bad("✗"), row.id)));
                failed.push((row.id.clone(), message));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (runs, took) = (rows.len(), begun.elapsed());
    Total { runs, same, failed, entries, answers, took }.report(args.json)
}

/// What came of many replays.
pub(super) struct Total {
    pub runs: usize,
    pub same: u64,
    /// Each with what was wrong.
    pub failed: Vec<(String, String)>,
    pub entries: u64,
    pub answers: u64,
    pub took: Duration,
}

impl Total {
    pub fn report(&self, json: bool) -> Result<ExitCode, Failure> {
        let Self { runs, same, failed, entries, answers, took } = self;
        let code = if failed.is_empty() { 0 } else { exit::NOT_THE_SAME };
        if json {
            let failed: Vec<Value> =
                failed.iter().map(|(run, why)| json!({ "run": run, "why": why })).collect();
            say_json(&json!({
                "runs": runs,
                "same": same,
                "failed": failed,
                "entries": entries,
                "answers": answers,
                "seconds": took.as_secs_f64(),
            }))?;
        } else {
            let mark = if failed.is_empty() { style::good("✓") } else { style::bad("✗") };
            say(format!(
                "{mark} {same} of {} came out the same · {} compared · {} from the journal · {}",
                text::plural(*runs as u64, "run", "runs"),
                text::plural(*entries, "entry", "entries"),
                text::plural(*answers, "answer", "answers"),
                text::duration(took.as_micros() as u64),
            ));
            for (run, why) in failed {
                say(format!("  {run}  {why}"));
            }
        }
        Ok(ExitCode::from(code))
    }
}

pub fn all_rows(context: &Context, agent: Option<String>) -> Result<Vec<RunRow>, Failure> {
    const PAGE: u32 = 1_000;
    if let Some(agent) = &agent {
        context.registry.agent(agent)?;
    }
    let mut filter = RunFilter { agent, limit: PAGE, ..RunFilter::default() };
    let mut rows = Vec::new();
    loop {
        let page = context.storage.runs(&filter)?;
        let is_last = page.len() < PAGE as usize;
        filter.before = page.last().map(|row| row.id.clone());
        rows.extend(page);
        if is_last {
            return Ok(rows);
        }
    }
}

pub fn progress(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} runs  {msg}  {eta} left");
    ProgressBar::new(length).with_style(style.expect("the template is valid"))
}

//! `reenact runs`: the list of runs, newest first.

use std::process::ExitCode;

use super::context::Context;
use super::render::table::table;
use super::render::{run as render, text};
use super::{Failure, Global, note, say, say_json};
use crate::storage::{RunFilter, RunRow, RunStatus};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only runs of this agent
    #[arg(long, value_name = "NAME")]
    pub(super) agent: Option<String>,
    /// Only runs of this status
    #[arg(long, value_name = "STATUS")]
    pub(super) status: Option<Status>,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub(super) limit: u32,
    /// Print the list as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Status {
    Pending,
    Running,
    Done,
    Error,
}

impl From<Status> for RunStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Running => Self::Running,
            Status::Done => Self::Done,
            Status::Error => Self::Error,
        }
    }
}

pub fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    if let Some(agent) = &args.agent {
        context.registry.agent(agent)?;
    }
    let filter = RunFilter {
        agent: args.agent,
        status: args.status.map(RunStatus::from),
        limit: args.limit.saturating_add(1),
        ..RunFilter::default()
    };
    let mut runs = context.storage.runs(&filter)?;
    let are_more = runs.len() > args.limit as usize;
    runs.truncate(args.limit as usize);
    if args.json {
        say_json(&runs.iter().map(render::row).collect::<Vec<_>>())?;
    } else if runs.is_empty() {
        note("no such runs: `reenact run AGENT` makes one");
    } else {
        let cells = |run: &RunRow| {
            [
                run.id.clone(),
                text::line(&run.agent, 63),
                run.revision.short(),
                render::status(run),
                text::time(run.created_at),
                text::duration(run.updated_at.saturating_sub(run.created_at)),
                text::fuel(run.fuel),
                text::count(run.entries),
            ]
        };
        let header = ["run", "agent", "revision", "status", "started", "took", "fuel", "entries"];
        if runs.iter().any(|run| run.parent.is_some()) {
            let with_parent = |run: &RunRow| more(cells(run), parent(run));
            let header = more(header, "forked from");
            say(table(header, runs.iter().map(with_parent)));
        } else {
            say(table(header, runs.iter().map(cells)));
        }
        if are_more {
            note(format!("the newest {}: `--limit N` shows more", args.limit));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The run that a fork comes from, as a cell.
fn parent(run: &RunRow) -> String {
    let parent = run.parent.as_ref();
    parent.map(|parent| format!("{} at {}", parent.run, parent.at)).unwrap_or_default()
}

/// A row with one more cell.
fn more<T>(row: [T; 8], cell: T) -> [T; 9] {
    let [a, b, c, d, e, f, g, h] = row;
    [a, b, c, d, e, f, g, h, cell]
}

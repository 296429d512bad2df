//! `reenact show`: all about one run.

use std::process::ExitCode;

use super::context::Context;
use super::desk;
use super::render::entry::{Lines, terminal_width};
use super::render::run::{Recorded, explain, sources, sources_of, status, value_of};
use super::render::table::pairs;
use super::render::{style, text};
use super::{Failure, Global, say, say_json};
use crate::journal::{Content, Fork, Micros, Outcome};
use crate::service::pending;
use crate::storage::RunRow;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the run; a unique beginning is enough
    pub(super) run: String,
    /// Do not cut lines
    #[arg(long)]
    full: bool,
    /// Print the run and its entries as one JSON document
    #[arg(long)]
    json: bool,
}

/// Width of the column for the numbers of entries, which `reenact fork --at` takes.
const NUMBER: usize = 5;

/// Forks of a run that are listed with it.
const MAX_FORKS: usize = 20;

pub fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let row = context.storage.run_by_prefix(&args.run)?;
    let recorded = Recorded::read(&context.storage.entries(&row.id)?)
        .map_err(|damage| Failure::from(damage).context(format!("cannot show run {}", row.id)))?;
    let most = if args.json { u32::MAX } else { MAX_FORKS as u32 + 1 };
    let fork = recorded.started.fork.as_ref();
    let about = About {
        status: status(&row),
        created_at: row.created_at,
        forks: context.storage.forks_of(&row.id, most)?,
        has_other_parent: fork.is_some_and(|fork| is_other(&context, fork)),
    };
    print(&recorded, about, &args, global)
}

/// What is said of a run that its journal does not tell.
pub struct About {
    pub status: String,
    pub created_at: Micros,
    /// The newest first.
    pub forks: Vec<RunRow>,
    /// The run that it was forked from has another journal here.
    pub has_other_parent: bool,
}

/// Prints all about a run.
pub fn print(
    recorded: &Recorded,
    about: About,
    args: &Args,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let About { status: own_status, created_at, mut forks, has_other_parent } = about;
    if args.json {
        let mut document = recorded.document();
        document["entryList"] = value_of(&recorded.entries);
        document["forks"] = forks.iter().map(|fork| fork.id.clone()).collect();
        say_json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = if args.full { None } else { Some(terminal_width().unwrap_or(120)) };
    let started = &recorded.started;
    let tools: Vec<&str> = started.tools.iter().map(|tool| tool.name.as_str()).collect();
    let input = started.input.to_value();
    let mut rows = vec![
        ("run", text::line(&started.run, 64)),
        ("agent", started.agent.clone()),
        ("revision", started.revision.to_string()),
        ("status", own_status),
        ("started", text::time(created_at)),
        (
            "input",
            text::line(
                &input.to_string(),
                width.map_or(usize::MAX, |width| width.saturating_sub(14)),
            ),
        ),
        ("tools", if tools.is_empty() { "none granted".to_owned() } else { tools.join(", ") }),
        ("engine", format!("wasmtime {}, {}", started.engine.wasmtime, started.engine.arch)),
        ("journal", format!("{}, {}", entries(recorded), recorded.head)),
    ];
    if let Some(fork) = &started.fork {
        let set = if fork.set_result { ", whose result was set by hand" } else { "" };
        let other = if has_other_parent { ", which is another one here" } else { "" };
        rows.push(("forked from", format!("{} at entry {}{set}{other}", fork.run, fork.at)));
    }
    if !forks.is_empty() {
        let are_more = forks.len() > MAX_FORKS;
        forks.truncate(MAX_FORKS);
        let fork = |fork: &RunRow| {
            let at = fork.parent.as_ref().map_or(0, |parent| parent.at);
            format!("{} at entry {at}: {}", fork.id, status(fork))
        };
        let more = are_more.then(|| "… and older ones".to_owned());
        let forks: Vec<String> = forks.iter().map(fork).chain(more).collect();
        rows.push(("forks", forks.join("\n")));
    }
    if recorded.ended().is_none() {
        rows.push(("", "the run has not ended: this is what is durable of it".to_owned()));
    }
    say(pairs(rows));
    say(format!("\n{}", style::strong("events")));
    let mut lines = Lines::new(width.map(|width| width.saturating_sub(NUMBER + 1)));
    for entry in &recorded.entries {
        let Some(line) = lines.line(entry) else { continue };
        let (parting, line) = line.rsplit_once('\n').unwrap_or(("", &line));
        if !parting.is_empty() {
            say(parting);
        }
        say(format!("{} {line}", style::dim(format!("{:NUMBER$}", entry.seq))));
    }
    for pending in pending(&recorded.entries) {
        say(desk::ask(&pending.question(&started.run)));
        say(format!("decide: {}", global.again(&format!("approve {}", started.run))));
    }
    match recorded.ended().map(|ended| &ended.outcome) {
        None => {}
        Some(Outcome::Error(error)) => {
            say(format!("\n{}\n{}", style::strong("error"), explain(&error.into())));
        }
        Some(Outcome::Done(output)) => {
            let result = match &output.content {
                Content::Document(text) => text::safe(text).trim_end().to_owned(),
                Content::Json(json) => text::safe(&serde_json::to_string_pretty(&json.to_value())?),
            };
            say(format!("\n{}\n{result}", style::strong("result")));
            if !output.sources.is_empty() {
                say(format!(
                    "\n{}\n{}",
                    style::strong("sources"),
                    sources(sources_of(&output.sources))
                ));
            }
        }
    }
    say(format!("\n{}\n{}", style::strong("limits"), recorded.limits()));
    say(format!(
        "\n{}\nreplay it: {}",
        recorded.summary(),
        global.again(&format!("replay {}", started.run))
    ));
    Ok(ExitCode::SUCCESS)
}

/// Whether the parent is in this home, and its journal is not the one that was shared.
fn is_other(context: &Context, fork: &Fork) -> bool {
    let parent = context.storage.entries_from(&fork.run, fork.at, 1);
    parent.is_ok_and(|entries| entries.first().is_none_or(|entry| entry.hash != fork.head))
}

fn entries(recorded: &Recorded) -> String {
    text::plural(recorded.entries.len() as u64, "entry", "entries")
}

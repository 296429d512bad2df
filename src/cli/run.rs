//! `reenact run`: one run, watched.

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::mpsc::unbounded_channel;

use super::context::Context;
use super::render::run::{Recorded, explain, sources};
use super::render::{style, text};
use super::watch::{Events, print, spinner};
use super::{Failure, Global, exit, note, say, say_json, target};
use crate::journal::{Content, ErrorCode, Outcome};
use crate::revision::{Limits, Manifest, Revision, ToolPattern};
use crate::runtime::{Canceller, Control, DurableRun, NewRun};
use crate::tools::{self, Catalogue, RunTools, ToolLimits};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The result goes to stdout, all else to stderr. With `--events ndjson` the journal's entries
go to stdout instead, one a line; the last one holds the result.

Examples:
  reenact run research --input '{\"topic\":\"fuel\"}' --grant files=docs
  reenact run research@sha256:3f2a --input @input.json --json
  reenact run ./my-agent < input.json --input -")]
pub struct Args {
    /// AGENT (its published revision), AGENT@DIGEST, a folder with `agent.toml`, or a sealed file
    #[arg(value_name = "AGENT|DIR|FILE")]
    target: String,
    /// The input: JSON, @FILE, or - for stdin
    #[arg(short, long, value_name = "JSON|@FILE|-", default_value = "{}")]
    input: String,
    /// Grant tools: files=DIR lets the agent read that folder
    #[arg(long = "grant", value_name = "NAME=VALUE")]
    grants: Vec<String>,
    /// How to show the run's entries as they happen
    #[arg(long, value_name = "FORM", default_value = "pretty")]
    events: Events,
    /// Print the finished run as one JSON document instead of its result alone
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    if args.json && args.events == Events::Ndjson {
        use clap::{CommandFactory, error::ErrorKind};
        let both = "`--json` and `--events ndjson` both want stdout: \
                    the last line of `--events ndjson` holds the result too";
        super::Cli::command().error(ErrorKind::ArgumentConflict, both).exit();
    }
    let context = Context::open(global)?;
    let config = context.config(global, &args.grants)?;
    let input = read_input(&args.input)?;
    let target = target::resolve(&context, &args.target)?;
    let executor = context.executor()?;
    let prepared = prepare(&executor, Arc::clone(&target.revision))?;

    let manifest = &prepared.revision.manifest;
    let limits = Limits::effective(&manifest.limits, &config.limits);
    let revision = Arc::clone(&prepared.revision);
    let asks = move |name: &str| revision.manifest.asks_for(name);
    let wanted = |provider: &str| manifest.asks_for_any_of(provider);
    let catalogue = Catalogue::open(&config.grants, config.vault(), &wanted).await?;
    let tools = catalogue.for_run(asks, ToolLimits::from(&limits));
    let tools = tools.with_needs(manifest.needs.clone());
    hint_at_grants(manifest, &tools);
    let plan = NewRun::plan(&prepared, &input, limits, &tools)?;
    let id = plan.started.run.clone();
    target.keep(&context)?;

    let (canceller, control) = Control::live(plan.at, limits.deadline_ms);
    let watch = tokio::spawn(cancel_on_ctrl_c(canceller));
    let (follower, entries) = unbounded_channel();
    let printer = tokio::spawn(print(entries, args.events));
    let run = DurableRun::create(&context.storage, &plan, Some(follower)).await?;
    let ran = run.execute(&executor, &prepared, tools, control).await;
    watch.abort();
    printer.await?;
    ran.map_err(|fault| {
        Failure::from(fault).context(format!("run {id} could not go on")).with_hint(format!(
            "what happened until then is recorded: `{}`",
            global.again(&format!("show {id}"))
        ))
    })?;

    let recorded = Recorded::read(&context.storage.entries(&id)?)?;
    report(&recorded, &args, global)
}

/// Compiles the revision if need be; says so when it takes long enough to notice.
fn prepare(
    executor: &crate::runtime::Executor,
    revision: Arc<Revision>,
) -> Result<crate::runtime::Prepared, Failure> {
    let spinner = spinner();
    spinner.set_message(format!("loading {}", revision.manifest.name));
    let prepared = executor.prepare(revision);
    spinner.finish_and_clear();
    Ok(prepared?)
}

/// Says which of the tools that the agent asks for it will not get.
fn hint_at_grants(manifest: &Manifest, tools: &RunTools) {
    let granted = tools.granted();
    let is_granted =
        |pattern: &&ToolPattern| granted.iter().any(|tool| pattern.matches(&tool.name));
    let refused: Vec<&ToolPattern> =
        manifest.tools.iter().filter(|pattern| !is_granted(pattern)).collect();
    for kind in tools::KINDS {
        let prefix = format!("{}.", kind.name);
        let mut asked = refused.iter().map(|pattern| pattern.as_str());
        if asked.any(|pattern| pattern.starts_with(&prefix)) {
            note(format!(
                "{}: `{}` asks for tools of `{}`, which nothing grants: `--grant {}={}` does",
                style::warn("note"),
                manifest.name,
                kind.name,
                kind.name,
                kind.flag_value
            ));
        }
    }
}

/// JSON from the command line itself, a file or stdin.
pub(super) fn read_input(argument: &str) -> Result<String, Failure> {
    /// Larger than any input limit; keeps a wrong file from filling the memory.
    const MAX_INPUT: u64 = 256 << 20;
    let read = |name: &str, reader: &mut dyn Read| {
        let mut text = String::new();
        reader.take(MAX_INPUT).read_to_string(&mut text).map_err(|error| {
            Failure::from(error).context(format!("cannot read the input from {name}"))
        })?;
        Ok(text)
    };
    match argument.strip_prefix('@') {
        None if argument == "-" => read("stdin", &mut std::io::stdin()),
        None => Ok(argument.to_owned()),
        Some(path) => {
            let mut file = std::fs::File::open(path).map_err(|error| {
                Failure::from(error).context(format!("cannot read the input from `{path}`"))
            })?;
            read(&format!("`{path}`"), &mut file)
        }
    }
}

/// The first Ctrl-C cancels the run, which is recorded; the second one ends
/// the process at once.
async fn cancel_on_ctrl_c(canceller: Canceller) {
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    note(format!("\n{} (again to leave at once)", style::warn("cancelling")));
    canceller.cancel();
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(i32::from(exit::CANCELLED));
    }
}

/// Prints the result and the way back to the run.
fn report(recorded: &Recorded, args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let Some(ended) = recorded.ended() else {
        return Err(Failure::new(format!("run {} has not ended", recorded.started.run)));
    };
    if args.json {
        say_json(&recorded.document())?;
    }
    let plain = !args.json && args.events != Events::Ndjson;
    let code = match &ended.outcome {
        Outcome::Done(output) => {
            if plain {
                say_content(&output.content)?;
            }
            0
        }
        Outcome::Error(error) => {
            if plain {
                note(format!("\n{}", explain(error)));
            }
            match error.code {
                ErrorCode::Cancelled => exit::CANCELLED,
                _ => exit::RUN_ERROR,
            }
        }
    };
    if args.events == Events::Pretty {
        note("");
        if let Outcome::Done(output) = &ended.outcome
            && !output.sources.is_empty()
        {
            note(format!("{}\n{}\n", style::label("sources"), sources(&output.sources)));
        }
        note(recorded.summary());
        let replay = global.again(&format!("replay {}", recorded.started.run));
        note(format!("replay it: {}", style::strong(replay)));
    }
    Ok(ExitCode::from(code))
}

/// A document as it is; on a terminal without what could drive it.
fn say_content(content: &Content) -> Result<(), Failure> {
    use std::io::IsTerminal;
    let is_terminal = std::io::stdout().is_terminal();
    match content {
        Content::Document(text) if is_terminal => say(text::safe(text).trim_end()),
        Content::Document(text) => {
            // Written directly: a document may hold bytes that look like styles.
            use std::io::Write;
            let _ = std::io::stdout().write_all(text.as_bytes());
            if !text.ends_with('\n') {
                let _ = std::io::stdout().write_all(b"\n");
            }
        }
        Content::Json(value) => say_json(&value.to_value())?,
    }
    Ok(())
}

//! `reenact run`: one run, watched.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;

use super::context::Context;
use super::execute::{Form, Session, prepare, tools};
use super::render::style;
use super::{Failure, Global, note, target};
use crate::config::Config;
use crate::revision::{Limits, Manifest, ToolPattern};
use crate::runtime::NewRun;
use crate::tools::{self, RunTools};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The result goes to stdout, all else to stderr. With `--events ndjson` the journal's entries
go to stdout instead, one a line; the last one holds the result.

With `--server` the run is executed there, with the tools that are granted there; its events are
followed from here, over dropped connections too, and `--events ndjson` prints those of the API.
Ctrl-C cancels it there.

Examples:
  reenact run research --input '{\"topic\":\"fuel\"}' --grant files=docs
  reenact run research@sha256:3f2a --input @input.json --json
  reenact run ./my-agent < input.json --input -
  reenact run research --server https://agents.example.org --key @key")]
pub struct Args {
    /// AGENT (its published revision), AGENT@DIGEST, a folder with `agent.toml`, or a sealed file
    #[arg(value_name = "AGENT|DIR|FILE")]
    pub(super) target: String,
    /// The input: JSON, @FILE, or - for stdin
    #[arg(short, long, value_name = "JSON|@FILE|-", default_value = "{}")]
    pub(super) input: String,
    /// Grant tools: files=DIR lets the agent read that folder, model=PROVIDER:MODEL ask that model;
    /// NAME or NAME.TOOL takes only that of what the configuration grants
    #[arg(long = "grant", value_name = "NAME[=VALUE]")]
    pub(super) grants: Vec<String>,
    #[command(flatten)]
    pub(super) form: Form,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    args.form.check();
    let context = Context::open(global)?;
    let config = context.config(global, &args.grants)?;
    let input = read_input(&args.input)?;
    let target = target::resolve(&context, &args.target)?;
    let executor = context.executor()?;
    let prepared = prepare(&executor, Arc::clone(&target.revision))?;

    let manifest = &prepared.revision.manifest;
    let limits = Limits::effective(&manifest.limits, &config.limits);
    let tools = tools(&config, &prepared.revision, &limits).await?;
    hint_at_grants(manifest, &config, &tools);
    let plan = NewRun::plan(&prepared, &input, limits, &tools)?;
    target.keep(&context)?;
    let form = &args.form;
    let session =
        Session { context: &context, global, executor: &executor, prepared: &prepared, form };
    session.start(&plan, tools).await
}

/// Says which of the tools that the agent asks for it will not get.
pub fn hint_at_grants(manifest: &Manifest, config: &Config, tools: &RunTools) {
    let granted = tools.granted();
    let is_granted =
        |pattern: &&ToolPattern| granted.iter().any(|tool| pattern.matches(&tool.name));
    let refused = manifest.tools.iter().filter(|pattern| !is_granted(pattern));
    let providers: BTreeSet<&str> = refused.map(|pattern| pattern.provider()).collect();
    for name in providers {
        let way_out = match tools::kind(name) {
            // Its grant is there: the policy or the flags leave the tools out.
            Some(kind) if config.grants.contains_key(kind.name) => continue,
            Some(kind) => format!("`--grant {name}={}` does", kind.flag_value),
            None if tools.has_provider(name) => continue,
            None => "no provider of that name is configured".to_owned(),
        };
        note(format!(
            "{}: `{}` asks for tools of `{name}`, which nothing grants: {way_out}",
            style::warn("note"),
            manifest.name,
        ));
    }
}

/// The input from the command line itself, a file or stdin.
pub fn read_input(argument: &str) -> Result<String, Failure> {
    read_argument("the input", argument)
}

/// JSON from the command line itself, a file or stdin. Errors call it `what`.
pub fn read_argument(what: &str, argument: &str) -> Result<String, Failure> {
    /// Larger than any input limit; keeps a wrong file from filling the memory.
    const MAX_INPUT: u64 = 256 << 20;
    let read = |name: &str, reader: &mut dyn Read| {
        let mut text = String::new();
        reader.take(MAX_INPUT).read_to_string(&mut text).map_err(|error| {
            Failure::from(error).context(format!("cannot read {what} from {name}"))
        })?;
        Ok(text)
    };
    match argument.strip_prefix('@') {
        None if argument == "-" => read("stdin", &mut std::io::stdin()),
        None => Ok(argument.to_owned()),
        Some(path) => {
            let mut file = std::fs::File::open(path).map_err(|error| {
                Failure::from(error).context(format!("cannot read {what} from `{path}`"))
            })?;
            read(&format!("`{path}`"), &mut file)
        }
    }
}

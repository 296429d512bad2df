//! `reenact publish`: store a revision, or point an agent at an older one.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use super::render::style;
use super::target::{self, Source};
use super::{Failure, Global, say, say_json};
use crate::registry::Target;
use crate::revision::{Digest, Revision};
use crate::runtime;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  reenact publish .                      build this folder and publish what comes out
  reenact publish research.wasm --draft  store a sealed file without publishing it
  reenact publish research@sha256:3f2a   publish a stored revision (again)")]
pub struct Args {
    /// A folder with `agent.toml`, a sealed file, or AGENT@DIGEST
    #[arg(value_name = "DIR|FILE|AGENT@DIGEST")]
    target: String,
    /// Only store the revision
    #[arg(long)]
    draft: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let (agent, digest) = match Source::of(&args.target) {
        Source::Folder(dir) => store(&context, target::build_folder(&dir)?, !args.draft)?,
        Source::File(path) => store(&context, target::read_file(&path)?, !args.draft)?,
        Source::Registered(text) => point_at(&context, &text, args.draft)?,
    };
    if args.json {
        say_json(&json!({ "agent": agent, "revision": digest, "published": !args.draft }))?;
    } else {
        let done = if args.draft { "stored as a draft" } else { "published" };
        say(format!("{} {agent}@{digest}", style::good(done)));
    }
    Ok(ExitCode::SUCCESS)
}

fn store(
    context: &Context,
    revision: Revision,
    publish: bool,
) -> Result<(String, Digest), Failure> {
    let revision = std::sync::Arc::new(revision);
    // A revision that no sandbox takes is not stored, and the first run starts at once.
    context.executor()?.prepare(revision.clone())?;
    target::store(context, &revision, publish)?;
    Ok((revision.manifest.name.to_string(), revision.digest))
}

fn point_at(context: &Context, text: &str, draft: bool) -> Result<(String, Digest), Failure> {
    let target = Target::from(text);
    if target.prefix.is_none() {
        let newest = context.registry.agent(&target.agent)?.newest;
        let example = format!("{}@{}", target.agent, newest.short());
        return Err(Failure::new(format!("`{text}` does not say which revision to publish"))
            .with_hint(format!("`reenact publish {example}` publishes the newest one")));
    }
    let row = context.registry.resolve(&target)?;
    if draft {
        return Err(Failure::new(format!(
            "`{text}` is stored already, so there is no draft to make"
        ))
        .with_hint("without `--draft` it becomes the published revision"));
    }
    // The bytes must be whole before anybody is pointed at them.
    target::registered(context, &row)?;
    context.registry.publish(&row.agent, row.digest, runtime::now())?;
    Ok((row.agent, row.digest))
}

//! `reenact publish`: store a revision, or point an agent at an older one.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::context::Context;
use super::render::{style, text};
use super::target::{self, Source};
use super::{Failure, Global, note, say, say_json};
use crate::registry::{RegistryError, RevisionRow, Target};
use crate::revision::{Revision, asks, widening};
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
    /// Publish even if the revision asks for tools that the published one does not
    #[arg(long)]
    allow_new_tools: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let revision = match Source::of(&args.target) {
        Source::Folder(dir) => target::build_folder(&dir)?,
        Source::File(path) => target::read_file(&path)?,
        Source::Registered(text) => {
            let row = stored(&context, &text, args.draft)?;
            // The bytes must be whole before anybody is pointed at them.
            let revision = target::registered(&context, &row)?;
            let widened = check_asks(&context, &revision, &args)?;
            context.registry.publish(&row.agent, row.digest, runtime::now())?;
            return report(&revision, &widened, &args);
        }
    };
    let revision = Arc::new(revision);
    // A revision that no sandbox takes is not stored, and the first run starts at once.
    context.executor()?.prepare(revision.clone())?;
    let widened = if args.draft { vec![] } else { check_asks(&context, &revision, &args)? };
    target::store(&context, &revision, !args.draft)?;
    report(&revision, &widened, &args)
}

fn report(revision: &Revision, widened: &[String], args: &Args) -> Result<ExitCode, Failure> {
    let (agent, digest) = (&revision.manifest.name, revision.digest);
    if args.json {
        say_json(&json!({
            "agent": agent,
            "revision": digest,
            "published": !args.draft,
            "asks": asks(&revision.manifest),
            "asksNew": widened,
        }))?;
    } else {
        let done = if args.draft { "stored as a draft" } else { "published" };
        say(format!("{} {agent}@{digest}", style::good(done)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what the revision asks for, and lets somebody decide if that is more
/// than the published one does. Answers what is new.
fn check_asks(context: &Context, revision: &Revision, args: &Args) -> Result<Vec<String>, Failure> {
    let manifest = &revision.manifest;
    let all = asks(manifest);
    let Some(published) = published(context, revision)? else {
        if !all.is_empty() {
            note(format!("{} {}", style::label("asks for"), safe_list(&all)));
        }
        return Ok(vec![]);
    };
    let new = match &published {
        // The same file again: that mends a damaged one.
        Published::Same => vec![],
        Published::Other(published) => widening(&published.manifest, manifest),
        // What cannot be read tells nothing.
        Published::Damaged => all.clone(),
    };
    let known: Vec<String> = all.into_iter().filter(|ask| !new.contains(ask)).collect();
    if !known.is_empty() {
        note(format!("{} {}", style::label("asks for"), safe_list(&known)));
    }
    if new.is_empty() {
        return Ok(new);
    }
    note(format!(
        "{} {}",
        style::warn("asks for more than the published revision:"),
        safe_list(&new)
    ));
    if args.allow_new_tools || (!args.json && is_confirmed()) {
        return Ok(new);
    }
    Err(Failure::new(format!(
        "`{}` asks for more than its published revision: {}",
        manifest.name,
        safe_list(&new)
    ))
    .with_hint("`--allow-new-tools` publishes it all the same, `--draft` only stores it"))
}

/// The published revision of an agent, next to another one.
enum Published {
    Same,
    Other(Arc<Revision>),
    Damaged,
}

/// What is published of the agent that `revision` is one of.
fn published(context: &Context, revision: &Revision) -> Result<Option<Published>, Failure> {
    let agent = match context.registry.agent(revision.manifest.name.as_str()) {
        Ok(agent) => agent,
        Err(RegistryError::UnknownAgent { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(agent.published.map(|digest| match digest == revision.digest {
        true => Published::Same,
        false => {
            target::registered_digest(context, digest).map_or(Published::Damaged, Published::Other)
        }
    }))
}

fn safe_list(asks: &[String]) -> String {
    let asks: Vec<String> = asks.iter().map(|ask| text::line(ask, 200)).collect();
    asks.join(", ")
}

/// Asks at the terminal; where there is none, nobody confirms anything.
fn is_confirmed() -> bool {
    use std::io::IsTerminal;
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    note("publish it? [y]es or [n]o:");
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.is_ok() && matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

/// The stored revision that is to be published.
fn stored(context: &Context, text: &str, draft: bool) -> Result<RevisionRow, Failure> {
    let target = Target::from(text);
    if target.prefix.is_none() {
        let newest = context.registry.agent(&target.agent)?.newest;
        let failure = Failure::new(format!("`{text}` does not say which revision to publish"));
        return Err(match newest {
            Some(newest) => failure.with_hint(format!(
                "`reenact publish {}@{}` publishes the newest one",
                target.agent,
                newest.short()
            )),
            None => failure.with_hint("the agent has none yet: `reenact publish DIR` stores one"),
        });
    }
    let row = context.registry.resolve(&target)?;
    if draft {
        return Err(Failure::new(format!(
            "`{text}` is stored already, so there is no draft to make"
        ))
        .with_hint("without `--draft` it becomes the published revision"));
    }
    Ok(row)
}

//! `reenact fork`: a new run that shares the beginning of another one.

use std::process::ExitCode;
use std::sync::Arc;

use super::context::Context;
use super::execute::{Form, Session, prepare, tools};
use super::render::what_if::describe_divergence;
use super::run::{hint_at_grants, read_argument};
use super::target::{self, Resolved, registered_digest};
use super::{Failure, Global};
use crate::json::Json;
use crate::revision::Limits;
use crate::runtime::{ForkError, ForkWish};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The new run has the parent's input, seed and times up to entry SEQ, and does none of it again: what
was answered stays answered. A call that had no answer by then is made, by the new run. From there
on all is live. `reenact show RUN` tells the numbers of the entries.

Examples:
  reenact fork 0193c1f2 --at 7 --grant files=docs
  reenact fork 0193c1f2 --at 7 --set-result '{\"matches\":[]}' --grant files=docs
  reenact fork 0193c1f2 --at 0 --revision ./my-agent --grant files=docs")]
pub struct Args {
    /// Id of the parent; a unique beginning is enough
    run: String,
    /// Number of the last entry that is shared
    #[arg(long, value_name = "SEQ")]
    at: u64,
    /// Go on with another revision of the agent: @DIGEST, AGENT, AGENT@DIGEST, a folder or a sealed file
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Replace the answer of a tool that entry SEQ holds: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON|@FILE|-")]
    set_result: Option<String>,
    /// Grant tools as in `reenact run`
    #[arg(long = "grant", value_name = "NAME[=VALUE]")]
    grants: Vec<String>,
    #[command(flatten)]
    form: Form,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    args.form.check();
    let context = Context::open(global)?;
    let parent = context.storage.run_by_prefix(&args.run)?;
    let config = context.config(global, &args.grants)?;
    let wish = ForkWish { at: args.at, set_result: set_result(args.set_result.as_deref())? };
    let target = match &args.revision {
        None => Resolved::stored(registered_digest(&context, parent.revision)?),
        Some(text) => target::resolve(&context, &target::of_agent(text, &parent.agent))?,
    };
    let executor = context.executor()?;
    let prepared = prepare(&executor, Arc::clone(&target.revision))?;
    let manifest = &prepared.revision.manifest;
    let limits = Limits::effective(&manifest.limits, &config.limits);
    let tools = tools(&config, &prepared.revision, &limits).await?;
    let entries = context.storage.entries(&parent.id)?;
    let plan = executor.plan_fork(&prepared, &entries, wish, limits, &tools).await;
    let plan = plan.map_err(refused)?;
    hint_at_grants(manifest, &config, &tools);
    target.keep(&context)?;
    let form = &args.form;
    let session =
        Session { context: &context, global, executor: &executor, prepared: &prepared, form };
    session.fork(&plan, tools).await
}

fn set_result(argument: Option<&str>) -> Result<Option<Json>, Failure> {
    let Some(argument) = argument else { return Ok(None) };
    let text = read_argument("the result", argument)?;
    let result = Json::parse(&text)
        .map_err(|error| Failure::from(error).context("cannot use `--set-result`"))?;
    Ok(Some(result))
}

/// What is refused because another revision does something else is shown with both.
fn refused(error: ForkError) -> Failure {
    match &error {
        ForkError::Diverged { divergence, .. } => {
            let shown = anstream::adapter::strip_str(&describe_divergence(divergence)).to_string();
            let failure = Failure::new(format!("{error}\n{shown}"));
            match error.hint() {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            }
        }
        _ => Failure::from(error),
    }
}

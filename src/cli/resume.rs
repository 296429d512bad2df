//! `reenact resume`: go on with a run that has stopped half-way.

use std::process::ExitCode;

use super::context::Context;
use super::execute::{Form, Session, prepare, tools};
use super::target::registered_digest;
use super::{Failure, Global};
use crate::journal::{Body, Entry, Started, verify_all};
use crate::storage::RunRow;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A run stops half-way when its process dies, or when it waits for an approval and nobody waits with
it. What its journal holds is not done again; what comes after it happens live. The tools that it
may call were settled when it started; `--grant` and the configuration open them again.

Examples:
  reenact resume 0193c1f2
  reenact resume 0193c1f2 --grant files=docs")]
pub struct Args {
    /// Id of the run; a unique beginning is enough
    run: String,
    /// Open tools as in `reenact run`
    #[arg(long = "grant", value_name = "NAME[=VALUE]")]
    grants: Vec<String>,
    #[command(flatten)]
    form: Form,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    args.form.check();
    let context = Context::open(global)?;
    let row = context.storage.run_by_prefix(&args.run)?;
    resume(&context, global, &row, &args.grants, &args.form).await
}

/// Takes the run over and executes it to its end.
pub async fn resume(
    context: &Context,
    global: &Global,
    row: &RunRow,
    grants: &[String],
    form: &Form,
) -> Result<ExitCode, Failure> {
    if row.status.has_ended() {
        return Err(Failure::new(format!("run {} has ended: it is `{}`", row.id, row.status))
            .with_hint(format!("`{}` shows it", global.again(&format!("show {}", row.id)))));
    }
    let config = context.config(global, grants)?;
    let executor = context.executor()?;
    let prepared = prepare(&executor, registered_digest(context, row.revision)?)?;
    let limits = started(context, row)?.limits;
    let tools = tools(&config, &prepared.revision, &limits).await?;
    let session = Session { context, global, executor: &executor, prepared: &prepared, form };
    session.resume(&row.id, tools).await
}

/// How the run began.
pub fn started(context: &Context, row: &RunRow) -> Result<Started, Failure> {
    let first = context.storage.entries_from(&row.id, 0, 1)?;
    match verify_all(&first)?.pop() {
        Some(Entry { body: Body::Started(started), .. }) => Ok(*started),
        _ => Err(Failure::new(format!("run {} has no beginning", row.id))),
    }
}

//! `reenact cancel`: ask for a run to be cancelled.

use std::process::ExitCode;

use super::context::Context;
use super::render::style;
use super::{Failure, Global, note};
use crate::runtime;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The process that executes the run ends it within seconds, as soon as its guest can be stopped. A
run that nobody executes ends when somebody goes on with it: a server does that by itself.

Examples:
  reenact cancel 0193c1f2")]
pub struct Args {
    /// Id of the run; a unique beginning is enough
    pub(super) run: String,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let row = context.storage.run_by_prefix(&args.run)?;
    let row = context.storage.cancel_run(&row.id).await?;
    if row.status.has_ended() {
        return Err(Failure::new(format!("run {} has ended: it is `{}`", row.id, row.status))
            .with_hint(format!("`{}` shows it", global.again(&format!("show {}", row.id)))));
    }
    note(format!("{} run {}", style::good("cancelling"), row.id));
    if row.lease_until < runtime::now() {
        note(format!(
            "nobody executes it: `{}` ends it, and so does a server on this home",
            global.again(&format!("resume {}", row.id))
        ));
    }
    Ok(ExitCode::SUCCESS)
}

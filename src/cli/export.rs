//! `reenact export`: a run and its revision as one file.

use std::path::PathBuf;
use std::process::ExitCode;

use super::context::Context;
use super::render::{style, text};
use super::{Failure, Global, note};
use crate::build::write_atomically;
use crate::journal::{PortableRun, verify_all};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the run; a unique beginning is enough
    pub(super) run: String,
    /// Where to write the file [default: RUN.reenact]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

pub fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let row = context.storage.run_by_prefix(&args.run)?;
    let cannot = || format!("cannot export run {}", row.id);
    let journal = context.storage.entries(&row.id)?;
    verify_all(&journal).map_err(|damage| Failure::from(damage).context(cannot()))?;
    let revision = context
        .registry
        .read(row.revision)
        .map_err(|error| Failure::from(error).context(cannot()))?;
    let bytes = PortableRun { revision, journal }.to_bytes()?;
    let path = args.output.unwrap_or_else(|| PathBuf::from(format!("{}.reenact", row.id)));
    write_atomically(&path, &bytes)?;
    note(format!(
        "{} {} ({})",
        style::good("exported"),
        path.display(),
        text::bytes(bytes.len() as u64)
    ));
    note(format!("replay it: {}", global.again(&format!("replay {}", path.display()))));
    Ok(ExitCode::SUCCESS)
}

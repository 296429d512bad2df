//! `reenact build`: from an agent's folder to one sealed file.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::render::{style, text};
use super::target::build_folder;
use super::{Failure, note, say, say_json};
use crate::build::write_atomically;
use crate::runtime::Executor;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder that holds `agent.toml`
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Where to write the revision [default: DIR/NAME.wasm]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let revision = std::sync::Arc::new(build_folder(&args.dir)?);
    // Compiling finds imports and exports of the wrong type before anybody runs it.
    Executor::new(None)?.prepare(revision.clone())?;
    let path =
        args.output.unwrap_or_else(|| args.dir.join(format!("{}.wasm", revision.manifest.name)));
    write_atomically(&path, &revision.bytes)?;
    let size = revision.bytes.len() as u64;
    if args.json {
        say_json(&json!({
            "revision": revision.digest,
            "agent": revision.manifest.name,
            "file": path,
            "bytes": size,
        }))?;
    } else {
        note(format!("{} {} ({})", style::label("sealed"), path.display(), text::bytes(size)));
        say(revision.digest);
    }
    Ok(ExitCode::SUCCESS)
}

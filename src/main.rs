//! The `reenact` command.

use std::process::ExitCode;

use clap::Parser;

/// Serving runs means many small pieces of memory from many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = reenact::cli::Cli::parse();
    cli.prepare_output();
    match cli.run() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

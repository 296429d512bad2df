//! The `reenact` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = reenact::cli::Cli::parse();
    cli.prepare_output();
    match cli.run() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

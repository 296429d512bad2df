//! `reenact approve --server`: decide about a call of a server's run, which goes on there.

use std::process::ExitCode;

use super::desk::{decision, question};
use super::refuse_grants;
use crate::cli::approve::Args;
use crate::cli::desk;
use crate::cli::render::{style, text};
use crate::cli::{Failure, approve, note, say_json};
use crate::client::{Client, Decision};
use crate::server::PendingCall;

pub async fn run(args: Args, client: &Client) -> Result<ExitCode, Failure> {
    refuse_grants(&args.grants)?;
    let run = client.run(&args.run).await?.id;
    let waiting = client.approvals(&run).await?;
    if args.list {
        return list(&run, &waiting, args.json);
    }
    let call = approve::choose(args.call, &run, &waiting, |one| one.call)?;
    let decision = decision(approve::decision(&args)?);
    note(desk::ask(&question(&run, call)));
    let view = client.decide(&run, call.call, &decision).await?;
    let word = match decision {
        Decision::Deny(_) => style::bad("denied"),
        Decision::Approve | Decision::ApproveAs(_) => style::good("approved"),
    };
    note(format!("{word} call {} of run {run}: it goes on at the server", call.call));
    if args.json {
        say_json(&view)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(run: &str, waiting: &[PendingCall], json: bool) -> Result<ExitCode, Failure> {
    if json {
        say_json(&waiting)?;
    } else if waiting.is_empty() {
        note(format!("run {run} waits for no approval"));
    }
    for call in waiting.iter().filter(|_| !json) {
        note(desk::ask(&question(run, call)));
        let until = text::time(text::micros(&call.until));
        note(format!("denied if nobody answers until {until}"));
    }
    Ok(ExitCode::SUCCESS)
}

//! Runs that a server has: listed, shown, cancelled, and taken along as files.

use std::path::PathBuf;
use std::process::ExitCode;

use super::report::{short, status, took};
use crate::build::write_atomically;
use crate::cli::render::run::Recorded;
use crate::cli::render::table::table;
use crate::cli::render::{style, text};
use crate::cli::show::About;
use crate::cli::{Failure, Global, cancel, export, note, runs, say, say_json, show};
use crate::client::{Client, ListRuns};
use crate::journal::PortableRun;
use crate::service::view::Status;
use crate::storage::RunStatus;

pub async fn list(args: runs::Args, client: &Client) -> Result<ExitCode, Failure> {
    let status_asked = args.status.map(|status| Status::from(RunStatus::from(status)));
    let which = ListRuns { agent: args.agent, status: status_asked };
    let limit = args.limit as usize;
    let mut found = client.runs(&which, limit.saturating_add(1)).await?;
    let are_more = found.len() > limit;
    found.truncate(limit);
    if args.json {
        say_json(&found)?;
    } else if found.is_empty() {
        note("no such runs: `reenact run AGENT` makes one");
    } else {
        let rows = found.iter().map(|run| {
            [
                text::line(&run.id, 64),
                text::line(&run.agent_id, 63),
                short(&run.revision_id),
                status(run),
                text::time(text::micros(&run.created_at)),
                text::duration(took(run)),
                text::fuel(run.fuel),
                text::count(run.entries),
            ]
        });
        let header = ["run", "agent", "revision", "status", "started", "took", "fuel", "entries"];
        say(table(header, rows));
        if are_more {
            note(format!("the newest {limit}: `--limit N` shows more"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows a run from its export: the journal is verified here, not believed.
pub async fn show(args: show::Args, client: &Client, global: &Global) -> Result<ExitCode, Failure> {
    let run = client.run(&args.run).await?;
    let cannot = || format!("cannot show run {}", run.id);
    let portable = PortableRun::from_bytes(&client.export(&run.id).await?)
        .map_err(|error| Failure::from(error).context(cannot()))?;
    let recorded = Recorded::read(&portable.journal)
        .map_err(|damage| Failure::from(damage).context(cannot()))?;
    let about = About {
        status: status(&run),
        created_at: recorded.entries[0].at,
        forks: Vec::new(),
        has_other_parent: false,
    };
    show::print(&recorded, about, &args, global)
}

pub async fn cancel(
    args: cancel::Args,
    client: &Client,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let run = client.run(&args.run).await?;
    if matches!(run.status, Status::Done | Status::Error) {
        let status = RunStatus::from(run.status);
        return Err(Failure::new(format!("run {} has ended: it is `{status}`", run.id))
            .with_hint(format!("`{}` shows it", global.again(&format!("show {}", run.id)))));
    }
    client.cancel(&run.id).await?;
    note(format!("{} run {}", style::good("cancelling"), run.id));
    Ok(ExitCode::SUCCESS)
}

pub async fn export(
    args: export::Args,
    client: &Client,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let run = client.run(&args.run).await?;
    let bytes = client.export(&run.id).await?;
    // What does not prove itself is not kept.
    PortableRun::from_bytes(&bytes)
        .map_err(|error| Failure::from(error).context(format!("cannot export run {}", run.id)))?;
    let path = args.output.unwrap_or_else(|| PathBuf::from(format!("{}.reenact", run.id)));
    write_atomically(&path, &bytes)?;
    let size = text::bytes(bytes.len() as u64);
    note(format!("{} {} ({size})", style::good("exported"), path.display()));
    note(format!("replay it: {}", global.here(&format!("replay {}", path.display()))));
    Ok(ExitCode::SUCCESS)
}

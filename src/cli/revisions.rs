//! `reenact revisions`: the revisions of one agent, newest first.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use super::render::table::table;
use super::render::text;
use super::{Failure, Global, say, say_json};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the agent
    pub(super) agent: String,
    /// Print the list as JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let agent = context.registry.agent(&args.agent)?;
    let revisions = context.registry.revisions(&args.agent)?;
    let state = |digest| if agent.published == Some(digest) { "published" } else { "draft" };
    if args.json {
        let revisions: Vec<_> = revisions
            .iter()
            .map(|revision| {
                json!({
                    "id": revision.digest,
                    "version": revision.version,
                    "state": state(revision.digest),
                    "bytes": revision.size,
                    "createdAt": text::timestamp(revision.created_at),
                })
            })
            .collect();
        say_json(&revisions)?;
    } else {
        let rows = revisions.iter().map(|revision| {
            [
                revision.digest.to_string(),
                revision.version.as_deref().map_or("-".to_owned(), |v| text::line(v, 20)),
                state(revision.digest).to_owned(),
                text::bytes(revision.size),
                text::time(revision.created_at),
            ]
        });
        say(table(["revision", "version", "state", "size", "added"], rows));
    }
    Ok(ExitCode::SUCCESS)
}

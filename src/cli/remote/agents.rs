//! `reenact agents --server` and `reenact revisions --server`.

use std::process::ExitCode;

use super::report::short;
use crate::cli::agents::state;
use crate::cli::render::table::table;
use crate::cli::render::text;
use crate::cli::{Failure, agents, note, revisions, say, say_json};
use crate::client::Client;
use crate::registry::AgentState;
use crate::service::AgentView;

pub async fn list(args: agents::Args, client: &Client) -> Result<ExitCode, Failure> {
    let agents = client.agents().await?;
    if args.json {
        say_json(&agents)?;
    } else if agents.is_empty() {
        note("no agents yet: `reenact publish DIR` stores one");
    } else {
        let rows = agents.iter().map(|agent| {
            [
                text::line(&agent.id, 63),
                state(state_of(agent)).to_owned(),
                agent.published_revision_id.as_deref().map_or_else(|| "-".to_owned(), short),
                text::line(&agent.description, 60),
            ]
        });
        say(table(["name", "state", "published", "description"], rows));
    }
    Ok(ExitCode::SUCCESS)
}

fn state_of(agent: &AgentView) -> AgentState {
    match (agent.is_published, agent.has_changes) {
        (false, _) => AgentState::Unpublished,
        (true, false) => AgentState::Published,
        (true, true) => AgentState::UnpublishedChanges,
    }
}

pub async fn revisions(args: revisions::Args, client: &Client) -> Result<ExitCode, Failure> {
    let revisions = client.revisions(&args.agent).await?;
    if args.json {
        say_json(&revisions)?;
    } else {
        let rows = revisions.iter().map(|revision| {
            [
                text::line(&revision.id, 80),
                revision.version.as_deref().map_or("-".to_owned(), |v| text::line(v, 20)),
                if revision.is_published { "published" } else { "draft" }.to_owned(),
                text::bytes(revision.size),
                text::time(text::micros(&revision.created_at)),
            ]
        });
        say(table(["revision", "version", "state", "size", "added"], rows));
    }
    Ok(ExitCode::SUCCESS)
}

//! `reenact agents`: the list of agents.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use super::render::table::table;
use super::render::text;
use super::{Failure, Global, note, say, say_json};
use crate::registry::AgentState;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let registry = Context::open(global)?.registry;
    let mut agents = Vec::new();
    for agent in registry.agents()? {
        let totals = registry.totals(&agent.name)?;
        agents.push((agent, totals));
    }
    if args.json {
        let agents: Vec<_> = agents
            .iter()
            .map(|(agent, totals)| {
                json!({
                    "name": agent.name,
                    "description": agent.description,
                    "state": state(AgentState::of(agent)),
                    "published": agent.published,
                    "newest": agent.newest,
                    "revisions": totals.revisions,
                    "runs": totals.runs,
                    "updatedAt": text::timestamp(agent.updated_at),
                })
            })
            .collect();
        say_json(&agents)?;
    } else if agents.is_empty() {
        note("no agents yet: `reenact publish DIR` stores one");
    } else {
        let rows = agents.iter().map(|(agent, totals)| {
            [
                text::line(&agent.name, 63),
                state(AgentState::of(agent)).to_owned(),
                agent.published.map_or_else(|| "-".to_owned(), |digest| digest.short()),
                text::count(totals.revisions),
                text::count(totals.runs),
                text::line(&agent.description, 60),
            ]
        });
        say(table(["name", "state", "published", "revisions", "runs", "description"], rows));
    }
    Ok(ExitCode::SUCCESS)
}

fn state(state: AgentState) -> &'static str {
    match state {
        AgentState::Unpublished => "Unpublished",
        AgentState::Published => "Published",
        AgentState::UnpublishedChanges => "Unpublished changes",
    }
}

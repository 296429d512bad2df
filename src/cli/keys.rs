//! `reenact keys`: the keys of a server's clients.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::render::table::table;
use super::render::{style, text};
use super::{Failure, Global, note, say, say_json};
use crate::runtime;
use crate::service::keys::{self, Scope};
use crate::storage::KeyRow;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key and print it; it cannot be shown again
    Create(Create),
    /// List the keys: what they are for and what they may
    List(List),
    /// Make a key useless, at once
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Scopes:
  read     see agents, revisions and runs
  run      start, cancel, approve, replay and fork runs
  publish  create and change agents, upload and publish revisions
  admin    all of it

Only a hash of the key is kept. Clients send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

Examples:
  reenact keys create ci
  reenact keys create deploy --scope read,publish")]
struct Create {
    /// What the key is for
    name: String,
    /// What it may
    #[arg(
        long = "scope",
        value_name = "SCOPE,…",
        value_delimiter = ',',
        default_value = "read,run"
    )]
    scopes: Vec<Scope>,
    /// Print the key and what is kept of it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// The key's id, as `reenact keys list` shows it
    id: String,
}

pub fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    match args.verb {
        Verb::Create(args) => create(&context, &args),
        Verb::List(args) => list(&context, &args),
        Verb::Revoke(args) => revoke(&context, global, &args),
    }
}

fn create(context: &Context, args: &Create) -> Result<ExitCode, Failure> {
    const MAX_NAME: usize = 100;
    let name = args.name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.contains(char::is_control) {
        return Err(Failure::new(format!(
            "`{}` is no name for a key: it has 1 to {MAX_NAME} characters on one line",
            args.name
        )));
    }
    let (key, row) = keys::create(&context.storage, name, &args.scopes, runtime::now())?;
    if args.json {
        let mut document = document(&row);
        document["key"] = json!(key);
        say_json(&document)?;
    } else {
        say(&key);
        note(format!("{} key {} may {}", style::good("created"), row.id, row.scopes));
        note("keep it now: only its hash is stored, so it cannot be shown again");
    }
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context, args: &List) -> Result<ExitCode, Failure> {
    let keys = context.storage.keys()?;
    if args.json {
        say_json(&keys.iter().map(document).collect::<Vec<_>>())?;
    } else if keys.is_empty() {
        note("no keys yet: `reenact keys create NAME` makes one");
    } else {
        let rows = keys.iter().map(|key| {
            [
                key.id.clone(),
                text::line(&key.name, 60),
                key.scopes.clone(),
                text::time(key.created_at),
                key.revoked_at.map_or_else(|| "-".to_owned(), text::time),
            ]
        });
        say(table(["key", "name", "scopes", "created", "revoked"], rows));
    }
    Ok(ExitCode::SUCCESS)
}

fn revoke(context: &Context, global: &Global, args: &Revoke) -> Result<ExitCode, Failure> {
    // Somebody may have the whole key at hand, and nothing else.
    let id = keys::id_of(&args.id).unwrap_or(&args.id);
    if context.storage.revoke_key(id, runtime::now())? {
        note(format!("{} key {id}", style::good("revoked")));
        return Ok(ExitCode::SUCCESS);
    }
    let what = match context.storage.key(id)? {
        Some(_) => format!("key `{id}` is revoked already"),
        None => format!("there is no key `{id}`"),
    };
    Err(Failure::new(what).with_hint(format!("`{}` lists them", global.again("keys list"))))
}

fn document(key: &KeyRow) -> serde_json::Value {
    json!({
        "id": key.id,
        "name": key.name,
        "scopes": key.scopes.split(',').collect::<Vec<_>>(),
        "createdAt": text::timestamp(key.created_at),
        "revokedAt": key.revoked_at.map(text::timestamp),
    })
}

//! `reenact publish --server`: upload a revision, or point an agent at an older one.

use std::process::ExitCode;

use serde_json::json;

use super::report::short;
use crate::cli::publish::{Args, is_confirmed, safe_list};
use crate::cli::render::{style, text};
use crate::cli::target::{self, Source};
use crate::cli::{Failure, note, say, say_json};
use crate::client::{Client, ClientError, Publishing};
use crate::registry::Target;
use crate::revision::{Manifest, Revision, asks};
use crate::service::RevisionView;

pub async fn run(args: Args, client: &Client) -> Result<ExitCode, Failure> {
    let published = match Source::of(&args.target) {
        Source::Folder(dir) => upload(client, target::build_folder(&dir)?, &args).await?,
        Source::File(path) => upload(client, target::read_file(&path)?, &args).await?,
        Source::Registered(text) => stored(client, &text, &args).await?,
    };
    let RevisionView { id, agent_id, manifest, .. } = published;
    if args.json {
        let manifest = Manifest::from_json(manifest.to_string().as_bytes());
        say_json(&json!({
            "agent": agent_id,
            "revision": id,
            "published": !args.draft,
            "asks": manifest.as_ref().map(asks).unwrap_or_default(),
        }))?;
    } else {
        let done = if args.draft { "stored as a draft" } else { "published" };
        let name = format!("{}@{}", text::line(&agent_id, 63), text::line(&id, 80));
        say(format!("{} {name}", style::good(done)));
    }
    Ok(ExitCode::SUCCESS)
}

async fn upload(client: &Client, revision: Revision, args: &Args) -> Result<RevisionView, Failure> {
    let agent = revision.manifest.name.to_string();
    let all = asks(&revision.manifest);
    if !all.is_empty() {
        note(format!("{} {}", style::label("asks for"), safe_list(&all)));
    }
    let how = Publishing { publish: !args.draft, allow_new_tools: args.allow_new_tools };
    match client.upload(&agent, revision.bytes.clone(), how).await {
        Err(error) if may_widen(&error, args) => {
            let how = Publishing { allow_new_tools: true, ..how };
            Ok(client.upload(&agent, revision.bytes, how).await?)
        }
        answered => Ok(answered?),
    }
}

/// Publishes what the server has.
async fn stored(client: &Client, text: &str, args: &Args) -> Result<RevisionView, Failure> {
    let Target { agent, prefix } = Target::from(text);
    let Some(prefix) = prefix else {
        let newest = client.agent(&agent).await?.newest_revision_id;
        let failure = Failure::new(format!("`{text}` does not say which revision to publish"));
        return Err(match newest {
            Some(newest) => failure.with_hint(format!(
                "`reenact publish {agent}@{}` publishes the newest one",
                short(&newest)
            )),
            None => failure.with_hint("the agent has none yet: `reenact publish DIR` stores one"),
        });
    };
    if args.draft {
        let already = format!("`{text}` is stored already, so there is no draft to make");
        return Err(
            Failure::new(already).with_hint("without `--draft` it becomes the published revision")
        );
    }
    match client.publish(&agent, &prefix, args.allow_new_tools).await {
        Err(error) if may_widen(&error, args) => Ok(client.publish(&agent, &prefix, true).await?),
        answered => Ok(answered?),
    }
}

/// Whether the revision asks for more than the published one, and somebody says yes to it.
fn may_widen(error: &ClientError, args: &Args) -> bool {
    let Some(problem) = error.problem().filter(|problem| problem.is("asks-for-more")) else {
        return false;
    };
    if args.json {
        return false;
    }
    note(format!("{}: {}", style::warn("note"), text::line(&problem.detail, 2_000)));
    is_confirmed()
}

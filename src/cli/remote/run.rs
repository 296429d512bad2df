//! `reenact run --server`: one run on a server, watched from here.

use std::process::ExitCode;

use tokio::sync::oneshot;

use super::refuse_grants;
use super::report::report;
use super::watch::{Left, Watcher};
use crate::cli::ctrl_c::CtrlC;
use crate::cli::render::style;
use crate::cli::run::{Args, read_input};
use crate::cli::target::{self, Source};
use crate::cli::{Failure, Global, exit, note};
use crate::client::{Client, ClientError, Publishing};
use crate::json::Json;
use crate::registry::Target;
use crate::revision::Revision;

pub async fn run(args: Args, client: &Client, global: &Global) -> Result<ExitCode, Failure> {
    args.form.check();
    refuse_grants(&args.grants)?;
    let input = read_input(&args.input)?;
    let input = Json::parse(&input)
        .map_err(|error| Failure::from(error).context("the input is not what a run takes"))?;
    let target = match Source::of(&args.target) {
        Source::Folder(dir) => upload(client, target::build_folder(&dir)?).await?,
        Source::File(path) => upload(client, target::read_file(&path)?).await?,
        Source::Registered(text) => Target::from(text.as_str()),
    };

    // Whoever presses Ctrl-C while the run starts means that run.
    let (started, starts) = oneshot::channel::<String>();
    let canceller = client.clone();
    let watch = tokio::spawn(CtrlC::listen().cancels(async move {
        if let Ok(run) = starts.await
            && let Err(error) = canceller.cancel(&run).await
        {
            note(format!("{}: cannot cancel run {run}: {error}", style::bad("error")));
        }
    }));
    let run = client.start(&target.agent, target.prefix.as_deref(), &input).await?;
    let _ = started.send(run.id.clone());
    let left = Watcher::new(client, global, &args.form, &run.id).watch().await;
    watch.abort();
    let left = left.map_err(|failure| {
        failure.with_hint(format!(
            "the run does not need you: `{}` shows how it goes",
            global.again(&format!("show {}", run.id))
        ))
    })?;
    if left == Left::Waiting {
        note(format!("{} run {} waits for an approval", style::warn("paused"), run.id));
        note(format!("approve it: {}", global.again(&format!("approve {}", run.id))));
        return Ok(ExitCode::from(exit::PAUSED));
    }
    report(&client.run(&run.id).await?, &args.form, global)
}

/// Sees to it that the server has the revision, as a draft if it is new there.
async fn upload(client: &Client, revision: Revision) -> Result<Target, Failure> {
    let (agent, id) = (revision.manifest.name.to_string(), revision.digest.to_string());
    match client.revision(&agent, &id).await {
        Ok(_) => {}
        Err(ClientError::Problem(problem)) if problem.status == 404 => {
            let how = Publishing { publish: false, allow_new_tools: false };
            client.upload(&agent, revision.bytes, how).await?;
            note(format!("{} {agent}@{}", style::label("uploaded"), revision.digest.short()));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Target { agent, prefix: Some(id) })
}

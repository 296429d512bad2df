//! A run of a server, told as a run of this machine is.

use std::process::ExitCode;

use crate::cli::execute::{Form, say_content};
use crate::cli::render::run::{explain, sources};
use crate::cli::render::{style, text};
use crate::cli::watch::Events;
use crate::cli::{Failure, Global, exit, note, say_json};
use crate::journal::Content;
use crate::json::Json;
use crate::service::view::{ResultType, RunView, Status, Waits};
use crate::storage::RunStatus;

/// Prints the result of a run that has ended, and the way back to it.
pub fn report(run: &RunView, form: &Form, global: &Global) -> Result<ExitCode, Failure> {
    if form.json {
        say_json(run)?;
    }
    let plain = !form.json && form.events != Events::Ndjson;
    let code = match (run.status, &run.error) {
        (Status::Done, _) => {
            if let Some(content) = content(run).filter(|_| plain) {
                say_content(&content)?;
            }
            0
        }
        (Status::Error, Some(error)) => {
            if plain {
                note(format!("\n{}", explain(error)));
            }
            if error.code == "cancelled" { exit::CANCELLED } else { exit::RUN_ERROR }
        }
        (Status::Error, None) => exit::RUN_ERROR,
        (Status::Pending | Status::Running, _) => {
            return Err(Failure::new(format!("run {} has not ended", run.id)));
        }
    };
    if form.events == Events::Pretty {
        note("");
        let result = run.result_data.as_ref().filter(|result| !result.sources.is_empty());
        if let Some(result) = result {
            let pairs = result.sources.iter().map(|one| (one.title.as_str(), one.url.as_str()));
            note(format!("{}\n{}\n", style::label("sources"), sources(pairs)));
        }
        note(summary(run));
        let replay = global.again(&format!("replay {}", run.id));
        note(format!("replay it: {}", style::strong(replay)));
    }
    Ok(ExitCode::from(code))
}

fn content(run: &RunView) -> Option<Content> {
    let result = &run.result_data.as_ref()?.result;
    Some(match (run.result_type?, result.as_str()) {
        (ResultType::Document, Some(text)) => Content::Document(text.to_owned()),
        _ => Content::Json(Json::from_value(result)),
    })
}

/// One line: how it ended and what it took.
fn summary(run: &RunView) -> String {
    let end = match run.status {
        Status::Done => style::good("done"),
        _ => style::bad(status(run)),
    };
    let took = text::duration(took(run));
    let entries = text::plural(run.entries, "entry", "entries");
    format!("{end} in {took} · fuel {} · {entries}", text::fuel(run.fuel))
}

/// Microseconds from the first entry to the last.
pub fn took(run: &RunView) -> u64 {
    text::micros(&run.updated_at).saturating_sub(text::micros(&run.created_at))
}

/// A run's status in a word or two.
pub fn status(run: &RunView) -> String {
    if let Some(error) = &run.error {
        return format!("error: {}", text::line(&error.code, 60));
    }
    match run.waits.as_ref().map(|waits| waits.r#for) {
        Some(Waits::Approval) => "running (needs approval)".to_owned(),
        Some(Waits::Sleep) => "running (asleep)".to_owned(),
        None => RunStatus::from(run.status).to_string(),
    }
}

/// The beginning of a revision's id, as it is enough to name it.
pub fn short(revision: &str) -> String {
    let digest = revision.parse::<crate::revision::Digest>();
    digest.map_or_else(|_| text::line(revision, 20), |digest| digest.short())
}

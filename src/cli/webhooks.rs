//! `reenact webhooks`: what a server has told others about runs, and what it could not.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::render::table::table;
use super::render::{style, text};
use super::{Failure, Global, note, say, say_json};
use crate::runtime;
use crate::storage::{DeliveryFilter, DeliveryRow, DeliveryState};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the messages about runs that ended, newest first
    List(List),
    /// Send what was given up about a run again
    Retry(Retry),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Webhooks are in the configuration, as `[[webhooks]]`; `reenact serve` sends their messages, also
about runs that a command line has ended. A message that is not taken is sent again for three days.
Messages are forgotten a month after they were settled.")]
struct List {
    /// Only messages of this state
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Only messages about this run
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Retry {
    /// The run, by its id or the beginning of it
    run: String,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum State {
    /// To be sent, perhaps again
    Pending,
    Delivered,
    /// Given up
    Failed,
}

impl From<State> for DeliveryState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Delivered => Self::Delivered,
            State::Failed => Self::Failed,
        }
    }
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    match args.verb {
        Verb::List(args) => list(&context, args),
        Verb::Retry(args) => retry(&context, global, &args).await,
    }
}

fn list(context: &Context, args: List) -> Result<ExitCode, Failure> {
    let run = args.run.map(|run| context.storage.run_by_prefix(&run)).transpose()?;
    let filter = DeliveryFilter {
        state: args.state.map(DeliveryState::from),
        run: run.map(|run| run.id),
        limit: args.limit,
    };
    let messages = context.storage.deliveries(&filter)?;
    if args.json {
        say_json(&messages.iter().map(document).collect::<Vec<_>>())?;
    } else if messages.is_empty() {
        note("no such messages: `[[webhooks]]` in the configuration says who is told of runs");
    } else {
        let rows = messages.iter().map(|message| {
            [
                message.run.clone(),
                text::line(&message.agent, 63),
                message.event.clone(),
                text::line(&message.origin, 60),
                message.state.as_str().to_owned(),
                message.attempts.to_string(),
                text::time(message.at),
                message
                    .error
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |error| text::line(error, 80)),
            ]
        });
        let header = ["run", "agent", "event", "to", "state", "attempts", "next or last", "error"];
        say(table(header, rows));
    }
    Ok(ExitCode::SUCCESS)
}

async fn retry(context: &Context, global: &Global, args: &Retry) -> Result<ExitCode, Failure> {
    let run = context.storage.run_by_prefix(&args.run)?.id;
    match context.storage.retry_deliveries(&run, runtime::now()).await? {
        0 => Err(Failure::new(format!("nothing about run `{run}` was given up that can be sent"))
            .with_hint(format!(
                "`{}` shows what became of it; a receiver that is gone is tried again when the \
                 server has been started anew",
                global.again(&format!("webhooks list --run {run}"))
            ))),
        count => {
            let messages = text::plural(count as u64, "message", "messages");
            note(format!(
                "{} {messages}: `reenact serve` sends what is due",
                style::good("due again")
            ));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn document(message: &DeliveryRow) -> serde_json::Value {
    json!({
        "runId": message.run,
        "agentId": message.agent,
        "type": message.event,
        "webhook": message.webhook,
        "to": message.origin,
        "state": message.state.as_str(),
        "attempts": message.attempts,
        "createdAt": text::timestamp(message.created_at),
        "at": text::timestamp(message.at),
        "error": message.error,
    })
}

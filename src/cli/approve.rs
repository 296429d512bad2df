//! `reenact approve`: decide about a call that waits for a person.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use super::desk::{self, OnAsk};
use super::execute::Form;
use super::render::{style, text};
use super::watch::Events;
use super::{Failure, Global, note, resume, say_json};
use crate::journal::{Approval, verify_all};
use crate::json::Json;
use crate::runtime;
use crate::service::{Pending, pending};
use crate::storage::{ApprovalRow, RunRow};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The decision is kept at once. If a process holds the run, the run goes on there; otherwise it goes
on here, to its end, as with `reenact resume`.

Examples:
  reenact approve 0193c1f2                              approve the call that waits
  reenact approve 0193c1f2 --deny 'not on a Friday'     deny it; the agent is told why
  reenact approve 0193c1f2 --arguments '{\"path\":\"a\"}'  approve it with other arguments
  reenact approve 0193c1f2 --list                       show what waits, decide nothing")]
pub struct Args {
    /// Id of the run; a unique beginning is enough
    run: String,
    /// Number of the call, where several wait
    #[arg(long, value_name = "N")]
    call: Option<u64>,
    /// Deny the call
    #[arg(long, value_name = "REASON", num_args = 0..=1, default_missing_value = "", conflicts_with = "arguments")]
    deny: Option<String>,
    /// Approve the call with these arguments instead of the agent's
    #[arg(long, value_name = "JSON|@FILE|-")]
    arguments: Option<String>,
    /// Only show what waits
    #[arg(long, conflicts_with_all = ["deny", "arguments", "call"])]
    list: bool,
    /// Keep the decision, but do not go on with the run here
    #[arg(long)]
    no_resume: bool,
    /// Open tools as in `reenact run`, if the run goes on here
    #[arg(long = "grant", value_name = "NAME[=VALUE]")]
    grants: Vec<String>,
    /// Print what waits, or the finished run, as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let row = context.storage.run_by_prefix(&args.run)?;
    let waiting = pending(&verify_all(&context.storage.entries(&row.id)?)?);
    if args.list {
        return list(&row, &waiting, args.json);
    }
    let call = choose(&args, &row, &waiting)?;
    let decision = decision(&args)?;
    note(desk::ask(&call.question(&row.id)));
    let decided = ApprovalRow {
        decision: serde_json::to_string(&decision)?,
        by: desk::user(),
        at: runtime::now(),
    };
    if !context.storage.decide(&row.id, call.call, decided)? {
        return Err(Failure::new(format!(
            "call {} of run {} is decided already",
            call.call, row.id
        )));
    }
    let word = match decision {
        Approval::Denied(_) | Approval::TimedOut => style::bad("denied"),
        Approval::Approved | Approval::Edited(_) => style::good("approved"),
    };
    note(format!("{word} call {} of run {}", call.call, row.id));
    go_on(&context, global, &row, &args).await
}

/// Lets the run go on: where it is held, or else here.
async fn go_on(
    context: &Context,
    global: &Global,
    row: &RunRow,
    args: &Args,
) -> Result<ExitCode, Failure> {
    // Whoever held the run may have left it meanwhile.
    let row = context.storage.run_by_prefix(&row.id)?;
    if row.lease_until >= runtime::now() {
        note("the process that holds the run goes on with it");
        return Ok(ExitCode::SUCCESS);
    }
    if args.no_resume {
        note(format!("go on with it: {}", global.again(&format!("resume {}", row.id))));
        return Ok(ExitCode::SUCCESS);
    }
    let events = if args.json { Events::None } else { Events::Pretty };
    let form = Form { events, on_ask: OnAsk::Leave, json: args.json };
    resume::resume(context, global, &row, &args.grants, &form).await
}

fn list(row: &RunRow, waiting: &[Pending], json: bool) -> Result<ExitCode, Failure> {
    if json {
        let calls = waiting.iter().map(|pending| {
            json!({
                "call": pending.call,
                "tool": pending.tool,
                "arguments": pending.arguments.to_value(),
                "until": text::timestamp(pending.until),
            })
        });
        say_json(&calls.collect::<Vec<_>>())?;
    } else if waiting.is_empty() {
        note(format!("run {} waits for no approval", row.id));
    }
    for pending in waiting.iter().filter(|_| !json) {
        note(desk::ask(&pending.question(&row.id)));
        note(format!("denied if nobody answers until {}", text::time(pending.until)));
    }
    Ok(ExitCode::SUCCESS)
}

fn choose<'a>(args: &Args, row: &RunRow, waiting: &'a [Pending]) -> Result<&'a Pending, Failure> {
    let numbers: Vec<String> = waiting.iter().map(|pending| pending.call.to_string()).collect();
    let numbers = numbers.join(", ");
    match (args.call, waiting) {
        (_, []) => Err(Failure::new(format!("run {} waits for no approval", row.id))
            .with_hint("`reenact runs` shows which runs wait")),
        (None, [one]) => Ok(one),
        (None, _) => Err(Failure::new(format!("calls {numbers} of run {} wait", row.id))
            .with_hint("`--call N` says which one is meant")),
        (Some(call), _) => waiting.iter().find(|pending| pending.call == call).ok_or_else(|| {
            Failure::new(format!("call {call} of run {} waits for no approval", row.id))
                .with_hint(format!("these wait: {numbers}"))
        }),
    }
}

fn decision(args: &Args) -> Result<Approval, Failure> {
    if let Some(reason) = &args.deny {
        return Ok(Approval::Denied(reason.clone()));
    }
    let Some(arguments) = &args.arguments else { return Ok(Approval::Approved) };
    let arguments = super::run::read_input(arguments)?;
    let arguments = Json::parse(&arguments)
        .map_err(|error| Failure::from(error).context("cannot use `--arguments`"))?;
    Ok(Approval::Edited(arguments))
}

//! `reenact tools`: what agents can be given, and a try at it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::context::Context;
use super::render::run::{sources, sources_of};
use super::render::table::table;
use super::render::{style, text};
use super::run::read_input;
use super::watch::spinner;
use super::{Failure, Global, exit, note, say, say_json};
use crate::config::Config;
use crate::journal::{Action, Answer, GrantedTool, Rule, ToolError, ToolOutput};
use crate::revision::{Limits, SomeLimits};
use crate::tools::policy::Policy;
use crate::tools::{Budget, Call, Catalogue, RunTools, ToolLimits};

/// How long a server that lives on gets to learn of a cancellation.
const FAREWELL: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
What is listed is what `[grants]` of the configuration and `--grant` give. An agent gets of it
what its manifest asks for by name, such as `files.read`, or all of a provider, `files.*`.

MCP servers are granted by an `.mcp.json`, as other programs use it, and are started for this:
a tool of the server `github` is named `github.…`.

Examples:
  reenact tools
  reenact tools --grant mcp=.mcp.json
  reenact tools files.read
  reenact tools call files.read '{\"path\":\"README.md\"}' --grant files=."
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// A tool, shown with its schema, or a provider, listed alone [default: list all]
    #[arg(value_name = "TOOL|PROVIDER")]
    name: Option<String>,
    /// Show descriptions whole, and the schema of each tool's arguments
    #[arg(long)]
    full: bool,
    /// Print the tools as JSON, with their schemas
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    grants: Grants,
}

#[derive(Debug, clap::Args)]
struct Grants {
    /// Grant tools: files=DIR, mcp=FILE, …; NAME or NAME.TOOL takes only that of what the
    /// configuration grants
    #[arg(long = "grant", value_name = "NAME[=VALUE]")]
    grants: Vec<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Call one tool, as a run would, and print its answer
    Call(CallArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The call really happens, and nothing of it is recorded. The rules of `[[policy]]` are for agents
and do not hold here; the limits on a call's time, arguments and answer do. The answer goes to stdout, its sources to
stderr; a text is printed as it is, all else as JSON. If the tool fails, the exit code is 1.

Examples:
  reenact tools call files.search '{\"query\":\"fuel\"}' --grant files=docs
  reenact tools call time.get_current_time @arguments.json --grant mcp=.mcp.json
  echo '{}' | reenact tools call memory.read_graph - --json")]
struct CallArgs {
    /// The tool's whole name, such as files.read
    #[arg(value_name = "TOOL")]
    name: String,
    /// The arguments: JSON, @FILE, or - for stdin
    #[arg(value_name = "JSON|@FILE|-", default_value = "{}")]
    arguments: String,
    /// Print answer and sources as one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    grants: Grants,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    match args.verb {
        Some(Verb::Call(args)) => call(args, global).await,
        None => list(args, global).await,
    }
}

/// Opens what is granted; of several providers only `provider`, if it is given.
async fn open(
    global: &Global,
    grants: &Grants,
    provider: Option<&str>,
) -> Result<(RunTools, Config), Failure> {
    let config = Context::open(global)?.config(global, &grants.grants)?;
    let wanted = |name: &str| provider.is_none_or(|provider| provider == name);
    let spinner = spinner();
    spinner.set_message("asking for tools");
    let catalogue = Catalogue::open(&config.grants, config.vault(), &wanted).await;
    spinner.finish_and_clear();
    let limits = Limits::effective(&SomeLimits::default(), &config.limits);
    let tools = catalogue?.for_run(|_| true, ToolLimits::from(&limits));
    // There is no manifest here: the operator's list of hosts alone decides.
    let needs = json!({ "http": { "hosts": ["*:*"] } });
    let Value::Object(needs) = needs else { unreachable!("it is an object") };
    Ok((tools.with_policy(config.policy.clone()).with_needs(needs), config))
}

async fn list(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let name = args.name.as_deref();
    let provider = name.map(provider_of);
    let (tools, config) = open(global, &args.grants, provider).await?;
    let is_asked_for = |tool: &GrantedTool| match name {
        None => true,
        Some(name) if name.contains('.') => tool.name == name,
        Some(provider) => provider_of(&tool.name) == provider,
    };
    let tools: Vec<_> = tools.granted().into_iter().filter(is_asked_for).collect();
    match (name, tools.as_slice()) {
        (Some(name), []) => return Err(unknown(name, &config, global)),
        _ if args.json => say_json(&tools)?,
        (None, []) => {
            note("no tools: `--grant files=DIR` or `[grants]` in `reenact.toml` gives some")
        }
        (Some(name), [tool]) if name.contains('.') => say(describe(tool)?),
        (_, tools) if args.full => {
            let tools: Result<Vec<_>, _> = tools.iter().map(describe).collect();
            say(tools?.join("\n\n"));
        }
        (_, tools) => {
            say(table(["tool", "changes", "calls", "description"], tools.iter().map(row)))
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn provider_of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn unknown(name: &str, config: &Config, global: &Global) -> Failure {
    let failure = Failure::new(format!("there is no tool or provider `{name}`"));
    match config.grants.is_empty() {
        true => failure.with_hint("nothing is granted: `--grant NAME=VALUE` or `[grants]` does"),
        false => failure.with_hint(format!("`{}` lists what there is", global.again("tools"))),
    }
}

/// What a call may do, as far as the provider is believed.
fn changes(tool: &GrantedTool) -> &'static str {
    match (tool.read_only, tool.idempotent) {
        (true, _) => "nothing",
        (false, true) => "once",
        (false, false) => "maybe",
    }
}

/// What the operator's rules do to an agent's calls.
fn calls(tool: &GrantedTool) -> &'static str {
    match tool.rules.as_slice() {
        [] => "allowed",
        [Rule { when: None, action: Action::Allow, .. }, ..] => "allowed",
        [Rule { when: None, action: Action::Ask, .. }, ..] => "asked",
        _ => "by rule",
    }
}

fn row(tool: &GrantedTool) -> [String; 4] {
    let first = tool.description.trim().lines().next().unwrap_or_default();
    let (changes, calls) = (changes(tool).to_owned(), calls(tool).to_owned());
    [text::line(&tool.name, 128), changes, calls, text::line(first, 72)]
}

fn describe(tool: &GrantedTool) -> Result<String, Failure> {
    let changes = match changes(tool) {
        "nothing" => "read only: after a crash it is called again",
        "once" => "idempotent: after a crash it is called again",
        _ => "may change something: after a crash it is not called again",
    };
    let schema = serde_json::to_string_pretty(&tool.parameters.to_value())?;
    let mut lines = vec![style::strong(text::line(&tool.name, 128)), style::dim(changes)];
    if !tool.description.trim().is_empty() {
        lines.push(text::safe(tool.description.trim()));
    }
    lines.push(format!("{} {}", style::label("arguments"), text::safe(&schema)));
    Ok(lines.join("\n"))
}

async fn call(args: CallArgs, global: &Global) -> Result<ExitCode, Failure> {
    let arguments = read_input(&args.arguments)?;
    let opening = open(global, &args.grants, Some(provider_of(&args.name)));
    let (tools, config) = tokio::select! {
        opened = opening => opened?,
        _ = tokio::signal::ctrl_c() => return Ok(cancelled()),
    };
    // Rules are for agents. Whoever types the call has decided about it.
    let tools = tools.with_policy(Policy { rules: Vec::new(), ..config.policy });
    let spinner = spinner();
    spinner.set_message(format!("calling {}", args.name));
    let shown = spinner.clone();
    let tools = tools.with_watcher(Arc::new(move |_: &str, so_far: &str| {
        let last = so_far.trim_end().lines().next_back().unwrap_or_default();
        shown.set_message(text::line(last, 100));
    }));
    let call = Call {
        // A key of its own: this is no repetition of any other call.
        key: format!("{}/0", crate::runtime::run_id()),
        name: &args.name,
        arguments: &arguments,
        budget: Budget::UNLIMITED,
    };
    let called = tokio::select! {
        called = tools.call(call) => Some(called),
        _ = tokio::signal::ctrl_c() => None,
    };
    spinner.finish_and_clear();
    let Some(called) = called else {
        tokio::time::sleep(FAREWELL).await;
        return Ok(cancelled());
    };
    match called.answer {
        Answer::Ok(output) => print(&output, args.json)?,
        Answer::Error(error) => return Err(Failure::new(told(&error))),
    }
    Ok(ExitCode::SUCCESS)
}

fn cancelled() -> ExitCode {
    note(style::warn("cancelled"));
    ExitCode::from(exit::CANCELLED)
}

fn print(output: &ToolOutput, as_json: bool) -> Result<(), Failure> {
    let content = output.content.to_value();
    if as_json {
        return say_json(&json!({ "content": content, "sources": output.sources }));
    }
    match &content {
        Value::String(answer) if std::io::stdout().is_terminal() => say(text::safe(answer)),
        Value::String(answer) => {
            // Written directly: it may hold bytes that look like styles.
            use std::io::Write;
            let _ = writeln!(std::io::stdout(), "{answer}");
        }
        content => say_json(content)?,
    }
    if !output.sources.is_empty() {
        note(format!("{}\n{}", style::label("sources"), sources(sources_of(&output.sources))));
    }
    Ok(())
}

/// An error as the guest's world names it.
fn told(error: &ToolError) -> String {
    let code = serde_json::to_value(error.code).unwrap_or_default();
    let code = code.as_str().unwrap_or_default().replace('_', "-");
    format!("{code}: {}", error.message)
}

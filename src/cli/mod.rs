//! The command line: one file per verb. The only place that prints.
//!
//! Results go to stdout; progress, events and errors go to stderr.

mod against;
mod agents;
mod approve;
mod build;
mod cancel;
mod context;
mod ctrl_c;
mod desk;
mod execute;
mod export;
mod failure;
mod fork;
mod init;
mod inspect;
mod junit;
mod keys;
mod live;
mod publish;
mod remote;
mod render;
mod replay;
mod resume;
mod revisions;
mod run;
mod runs;
mod serve;
mod show;
mod target;
mod test;
mod tools;
mod watch;
mod webhooks;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::Failure;

/// Exit codes, shown in `--help` and documented in the README.
pub mod exit {
    pub const FAILURE: u8 = 1;
    /// The run ended as `error`.
    pub const RUN_ERROR: u8 = 3;
    /// A replay did not come out the same, or a test failed.
    pub const NOT_THE_SAME: u8 = 4;
    /// The run waits for an approval, and was left.
    pub const PAUSED: u8 = 5;
    /// The run was cancelled with Ctrl-C.
    pub const CANCELLED: u8 = 130;
}

const EXIT_CODES: &str = "\
Exit codes:
  0    it worked
  1    it did not: the message says what, where and what to do
  2    the command line is wrong
  3    the run ended as `error`
  4    a replay did not come out the same as the record, or a test failed
  5    the run waits for an approval, and was left
  130  the run was cancelled with Ctrl-C";

/// Runs AI agents as sealed WebAssembly components and re-enacts any run from its journal.
#[derive(Debug, Parser)]
#[command(name = "reenact", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The folder that holds agents, revisions and runs [default: REENACT_HOME, else `reenact` in the user's data folder]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// The operator's configuration: grants and caps [default: REENACT_CONFIG, else `reenact.toml` in the home folder]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Let the server at this URL do it, instead of this machine [default: REENACT_SERVER, unless `--home` is given]
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The key for the server; others can see a KEY on a command line, but not what is in a FILE [default: REENACT_KEY]
    #[arg(long, global = true, value_name = "KEY|@FILE")]
    key: Option<String>,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a new agent's folder from a template
    Init(init::Args),
    /// Build an agent's folder and seal it into one revision file
    Build(build::Args),
    /// Show what is in a sealed file or a stored revision
    Inspect(inspect::Args),
    /// Store a revision and make it the agent's published one
    Publish(publish::Args),
    /// List the agents
    Agents(agents::Args),
    /// List the revisions of an agent
    Revisions(revisions::Args),
    /// Run an agent and record it
    Run(run::Args),
    /// Go on with a run that has stopped half-way
    Resume(resume::Args),
    /// Decide about a call that waits for a person
    Approve(approve::Args),
    /// Run again from the journal alone, and prove that nothing differs
    Replay(replay::Args),
    /// Start a new run that shares the beginning of another one
    Fork(fork::Args),
    /// Hold a revision against recorded runs: same calls, same results
    Test(test::Args),
    /// Write a run and its revision into one file that can be replayed anywhere
    Export(export::Args),
    /// List the runs
    Runs(runs::Args),
    /// Show one run: input, revision, events, result, limits
    Show(show::Args),
    /// Cancel a run, wherever it is executed
    Cancel(cancel::Args),
    /// Serve agents and runs over HTTP
    Serve(serve::Args),
    /// Make, list and revoke the keys of a server's clients
    Keys(keys::Args),
    /// Show what a server has told others about runs
    Webhooks(webhooks::Args),
    /// List the tools that are granted, or call one
    Tools(tools::Args),
}

impl Global {
    /// `--home`, else REENACT_HOME; `None` for the default.
    fn home(&self) -> Option<PathBuf> {
        self.home.clone().or_else(|| from_environment("REENACT_HOME"))
    }

    /// `--config`, else REENACT_CONFIG; `None` for the default.
    fn config(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| from_environment("REENACT_CONFIG"))
    }

    /// The command line that does `verb` with this very program and home.
    fn again(&self, verb: &str) -> String {
        let mut program = program();
        if let Some(home) = &self.home {
            program += &format!(" --home {}", home.display());
        }
        if let Some(server) = &self.server {
            program += &format!(" --server {server}");
        }
        match self.key.as_deref() {
            None => {}
            Some(file) if file.starts_with('@') => program += &format!(" --key {file}"),
            Some(_) => program += " --key KEY",
        }
        format!("{program} {verb}")
    }

    /// The command line that does `verb` with this very program and no server.
    fn here(&self, verb: &str) -> String {
        format!("{} {verb}", program())
    }
}

/// How this program was called.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "reenact".to_owned())
}

impl std::fmt::Debug for Global {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { home, config, server, key: _, color } = self;
        let mut shown = f.debug_struct("Global");
        shown.field("home", home).field("config", config).field("server", server);
        shown.field("color", color).finish_non_exhaustive()
    }
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Build(_) => "build",
            Self::Inspect(_) => "inspect",
            Self::Publish(_) => "publish",
            Self::Agents(_) => "agents",
            Self::Revisions(_) => "revisions",
            Self::Run(_) => "run",
            Self::Fork(_) => "fork",
            Self::Test(_) => "test",
            Self::Resume(_) => "resume",
            Self::Approve(_) => "approve",
            Self::Replay(_) => "replay",
            Self::Export(_) => "export",
            Self::Runs(_) => "runs",
            Self::Show(_) => "show",
            Self::Cancel(_) => "cancel",
            Self::Serve(_) => "serve",
            Self::Keys(_) => "keys",
            Self::Webhooks(_) => "webhooks",
            Self::Tools(_) => "tools",
        }
    }
}

/// A variable that is set but empty counts as not set.
fn from_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

impl Cli {
    /// Sets up colour and tracing, before anything is printed.
    pub fn prepare_output(&self) {
        match self.global.color {
            Color::Auto => {}
            Color::Always => anstream::ColorChoice::Always.write_global(),
            Color::Never => anstream::ColorChoice::Never.write_global(),
        }
        match &self.verb {
            Verb::Serve(args) => args.log.listen(),
            _ => tracing_subscriber::fmt()
                .with_env_filter(log_filter("reenact=warn"))
                .with_writer(anstream::stderr)
                .without_time()
                .with_target(false)
                .init(),
        }
    }

    /// Does what the command line says.
    pub fn run(self) -> Result<ExitCode, Failure> {
        let global = &self.global;
        if let Some(client) = remote::server(global, &self.verb)? {
            return block_on(remote::run(self.verb, &client, global));
        }
        match self.verb {
            Verb::Init(args) => init::run(args, global),
            Verb::Build(args) => build::run(args),
            Verb::Inspect(args) => inspect::run(args, global),
            Verb::Publish(args) => publish::run(args, global),
            Verb::Agents(args) => agents::run(args, global),
            Verb::Revisions(args) => revisions::run(args, global),
            Verb::Run(args) => block_on(run::run(args, global)),
            Verb::Resume(args) => block_on(resume::run(args, global)),
            Verb::Approve(args) => block_on(approve::run(args, global)),
            Verb::Replay(args) => block_on(replay::run(args, global)),
            Verb::Fork(args) => block_on(fork::run(args, global)),
            Verb::Test(args) => block_on(test::run(args, global)),
            Verb::Export(args) => export::run(args, global),
            Verb::Runs(args) => runs::run(args, global),
            Verb::Show(args) => show::run(args, global),
            Verb::Cancel(args) => block_on(cancel::run(args, global)),
            Verb::Serve(args) => block_on(serve::run(args, global)),
            Verb::Keys(args) => keys::run(args, global),
            Verb::Webhooks(args) => block_on(webhooks::run(args, global)),
            Verb::Tools(args) => block_on(tools::run(args, global)),
        }
    }
}

/// What is logged: what REENACT_LOG says, else `default`.
fn log_filter(default: &str) -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_env("REENACT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default))
        // It logs what providers answer, before secrets are taken out of it.
        .add_directive("genai=off".parse().expect("a constant directive"))
}

fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(future);
    // A tool that ignores its cancellation must not keep the process.
    runtime.shutdown_background();
    result
}

/// Prints a line to stdout; a reader that has gone away is no error.
fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(anstream::stdout(), "{text}");
}

/// Prints a line to stderr.
fn note(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints a value as JSON to stdout.
fn say_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    say(serde_json::to_string_pretty(value)?);
    Ok(())
}

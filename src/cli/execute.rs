//! A run under way on the command line: started or resumed, watched to its end,
//! reported.

use std::process::ExitCode;
use std::sync::Arc;

use indicatif::ProgressBar;

use super::context::Context;
use super::ctrl_c::CtrlC;
use super::desk::{Desk, OnAsk};
use super::live::Live;
use super::render::run::{Recorded, explain, sources, sources_of};
use super::render::{style, text};
use super::watch::{Events, print, spinner};
use super::{Failure, Global, exit, note, say, say_json};
use crate::config::Config;
use crate::journal::{Content, Entry, ErrorCode, Outcome, verify_all};
use crate::revision::{Limits, Revision};
use crate::runtime::{DurableRun, Executor, Fault, ForkPlan, Halt, NewRun, Prepared};
use crate::storage::{Follower, StorageError, follower};
use crate::tools::{Catalogue, RunTools};

/// How to show a run.
#[derive(Debug, Clone, clap::Args)]
pub struct Form {
    /// How to show the run's entries as they happen
    #[arg(long, value_name = "FORM", default_value = "pretty")]
    pub events: Events,
    /// What to do when a call needs a person's approval
    #[arg(long, value_name = "WHAT", default_value = "wait")]
    pub on_ask: OnAsk,
    /// Print the finished run as one JSON document instead of its result alone
    #[arg(long)]
    pub json: bool,
}

impl Form {
    /// Refuses two forms that both want stdout.
    pub fn check(&self) {
        if self.json && self.events == Events::Ndjson {
            use clap::{CommandFactory, error::ErrorKind};
            let both = "`--json` and `--events ndjson` both want stdout: \
                        the last line of `--events ndjson` holds the result too";
            super::Cli::command().error(ErrorKind::ArgumentConflict, both).exit();
        }
    }
}

/// What a run is executed with.
pub struct Session<'a> {
    pub context: &'a Context,
    pub global: &'a Global,
    pub executor: &'a Executor,
    pub prepared: &'a Prepared,
    pub form: &'a Form,
}

/// The tools that a run of `revision` gets.
pub async fn tools(
    config: &Config,
    revision: &Arc<Revision>,
    limits: &Limits,
) -> Result<RunTools, Failure> {
    let manifest = &revision.manifest;
    let wanted = |provider: &str| manifest.asks_for_any_of(provider);
    let catalogue = Catalogue::open(&config.grants, config.vault(), &wanted).await?;
    Ok(catalogue.for_revision(revision, limits, config.policy.clone()))
}

/// Compiles the revision if need be; says so when it takes long enough to notice.
pub fn prepare(executor: &Executor, revision: Arc<Revision>) -> Result<Prepared, Failure> {
    let spinner = spinner();
    spinner.set_message(format!("loading {}", revision.manifest.name));
    let prepared = executor.prepare(revision);
    spinner.finish_and_clear();
    Ok(prepared?)
}

impl Session<'_> {
    /// Executes a new run.
    pub async fn start(&self, plan: &NewRun, tools: RunTools) -> Result<ExitCode, Failure> {
        let storage = &self.context.storage;
        self.begin(tools, async |follower| DurableRun::create(storage, plan, follower).await).await
    }

    /// Executes a fork, and shows what it shares with its parent first.
    pub async fn fork(&self, plan: &ForkPlan, tools: RunTools) -> Result<ExitCode, Failure> {
        let storage = &self.context.storage;
        let create = async |follower| DurableRun::create_fork(storage, plan, follower).await;
        self.begin(tools, create).await
    }

    async fn begin(
        &self,
        tools: RunTools,
        create: impl AsyncFnOnce(Option<Follower>) -> Result<DurableRun, StorageError>,
    ) -> Result<ExitCode, Failure> {
        let ctrl_c = CtrlC::listen();
        let (follower, entries) = follower();
        let (spinner, live) = (self.spinner(), Arc::new(Live::default()));
        let tools = live.listen(tools, self.form.events);
        let known = Vec::new();
        let printer = tokio::spawn(print(entries, self.form.events, spinner.clone(), known, live));
        let run = create(Some(follower)).await?;
        self.execute(run, tools, printer, spinner, ctrl_c).await
    }

    /// Goes on with a run that has stopped half-way.
    pub async fn resume(&self, id: &str, tools: RunTools) -> Result<ExitCode, Failure> {
        let ctrl_c = CtrlC::listen();
        let (follower, entries) = follower();
        let run = DurableRun::resume(&self.context.storage, id, Some(follower)).await?;
        let known: Vec<Entry> = verify_all(run.recorded())
            .map_err(|damage| Failure::from(damage).context(format!("cannot resume run {id}")))?;
        let (spinner, live) = (self.spinner(), Arc::new(Live::default()));
        let tools = live.listen(tools, self.form.events);
        let printer = tokio::spawn(print(entries, self.form.events, spinner.clone(), known, live));
        self.execute(run, tools, printer, spinner, ctrl_c).await
    }

    fn spinner(&self) -> ProgressBar {
        match self.form.events {
            Events::Pretty => spinner(),
            Events::Ndjson | Events::None => ProgressBar::hidden(),
        }
    }

    async fn execute(
        &self,
        run: DurableRun,
        tools: RunTools,
        printer: tokio::task::JoinHandle<()>,
        spinner: ProgressBar,
        ctrl_c: CtrlC,
    ) -> Result<ExitCode, Failure> {
        let may_prompt = self.form.events == Events::Pretty;
        let storage = self.context.storage.clone();
        let desk = Desk::new(storage, self.form.on_ask, spinner, may_prompt);
        let tools = tools.with_approver(Arc::new(desk));
        let (canceller, control) = run.control()?;
        let id = run.id().to_owned();
        let watch = tokio::spawn(ctrl_c.cancels(async move { canceller.cancel() }));
        let ran = run.execute(self.executor, self.prepared, tools, control).await;
        watch.abort();
        printer.await?;
        match ran {
            Ok(_) => {}
            Err(Fault::Journal(Halt::Parked(_))) => return Ok(self.paused(&id)),
            Err(fault) => {
                let failure = Failure::from(fault).context(format!("run {id} could not go on"));
                return Err(failure.with_hint(format!(
                    "what happened until then is recorded: `{}`",
                    self.global.again(&format!("show {id}"))
                )));
            }
        }
        let recorded = Recorded::read(&self.context.storage.entries(&id)?)?;
        self.report(&recorded)
    }

    fn paused(&self, id: &str) -> ExitCode {
        note(format!("{} run {id} waits for an approval", style::warn("paused")));
        note(format!("approve it: {}", self.global.again(&format!("approve {id}"))));
        ExitCode::from(exit::PAUSED)
    }

    /// Prints the result and the way back to the run.
    fn report(&self, recorded: &Recorded) -> Result<ExitCode, Failure> {
        let Some(ended) = recorded.ended() else {
            return Err(Failure::new(format!("run {} has not ended", recorded.started.run)));
        };
        let Form { events, json, .. } = *self.form;
        if json {
            say_json(&recorded.document())?;
        }
        let plain = !json && events != Events::Ndjson;
        let code = match &ended.outcome {
            Outcome::Done(output) => {
                if plain {
                    say_content(&output.content)?;
                }
                0
            }
            Outcome::Error(error) => {
                if plain {
                    note(format!("\n{}", explain(&error.into())));
                }
                match error.code {
                    ErrorCode::Cancelled => exit::CANCELLED,
                    _ => exit::RUN_ERROR,
                }
            }
        };
        if events == Events::Pretty {
            note("");
            if let Outcome::Done(output) = &ended.outcome
                && !output.sources.is_empty()
            {
                note(format!(
                    "{}\n{}\n",
                    style::label("sources"),
                    sources(sources_of(&output.sources))
                ));
            }
            note(recorded.summary());
            let replay = self.global.again(&format!("replay {}", recorded.started.run));
            note(format!("replay it: {}", style::strong(replay)));
        }
        Ok(ExitCode::from(code))
    }
}

/// A document as it is; on a terminal without what could drive it.
pub fn say_content(content: &Content) -> Result<(), Failure> {
    use std::io::IsTerminal;
    let is_terminal = std::io::stdout().is_terminal();
    match content {
        Content::Document(text) if is_terminal => say(text::safe(text).trim_end()),
        Content::Document(text) => {
            // Written directly: a document may hold bytes that look like styles.
            use std::io::Write;
            let _ = std::io::stdout().write_all(text.as_bytes());
            if !text.ends_with('\n') {
                let _ = std::io::stdout().write_all(b"\n");
            }
        }
        Content::Json(value) => say_json(&value.to_value())?,
    }
    Ok(())
}

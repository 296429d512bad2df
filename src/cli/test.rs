//! `reenact test`: a revision held against recorded runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::against::what_if;
use super::context::Context;
use super::render::what_if::{Report, describe_divergence};
use super::render::{style, text};
use super::replay::{exported, open_file};
use super::{Failure, Global, exit, junit, say, say_json, target};
use crate::journal::Encoded;
use crate::revision::Revision;
use crate::runtime::{Executor, Prepared, WhatIfError};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A run passes if the revision makes the same calls of tools, with the same arguments and in the same
order, and comes to the same result. What it tells on the way may differ: that is only noted.
Recorded tools and models answer, so a test costs nothing and needs no network.

Examples:
  reenact test ./my-agent --runs tests/runs
  reenact test ./my-agent --runs good.reenact odd.reenact --junit report.xml
  reenact test research@sha256:3f2a --runs 0193c1f2")]
pub struct Args {
    /// The revision: a folder with `agent.toml`, a sealed file, AGENT (its published one), or AGENT@DIGEST
    #[arg(value_name = "DIR|FILE|AGENT")]
    target: String,
    /// The runs: exported files, folders of `.reenact` files, or ids of runs of this home
    #[arg(long, required = true, num_args = 1.., value_name = "FILE|DIR|RUN")]
    runs: Vec<String>,
    /// Write a JUnit report to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// A recorded run, and how the revision did against it.
pub struct Case {
    /// As it was named: the id of a run, or a file.
    pub name: String,
    pub took: Duration,
    /// The comparison, or why there is none.
    pub outcome: Result<Report, Trouble>,
}

/// Why a revision cannot be held against a run.
pub struct Trouble {
    pub why: String,
    /// The revision does not take the run's input. Otherwise there is something wrong
    /// with the record.
    pub is_refusal: bool,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        let is_input = |error: &WhatIfError| matches!(error, WhatIfError::Input(_));
        Self { why: failure.one_line(), is_refusal: failure.is(is_input) }
    }
}

/// A run to test against.
enum Named {
    File(PathBuf),
    Run(String),
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let named = named(&args.runs)?;
    let built = target::from_path(&args.target)?;
    let has_ids = named.iter().any(|named| matches!(named, Named::Run(_)));
    // Without ids and names nothing of a home is needed, and none is made.
    let context = match built.is_none() || has_ids {
        true => Some(Context::open(global)?),
        false => None,
    };
    let (executor, revision) = load(&args.target, built, context.as_ref())?;
    let prepared = executor.prepare(revision)?;
    let mut cases = Vec::new();
    for named in &named {
        cases.push(case(&executor, &prepared, named, context.as_ref()).await);
    }
    let manifest = &prepared.revision.manifest;
    let title = format!("{}@{}", manifest.name, prepared.revision.digest.short());
    if let Some(path) = &args.junit {
        junit::write(path, &manifest.name.to_string(), &title, &cases)?;
    }
    let passed = cases.iter().filter(|case| case.passes()).count();
    if args.json {
        let documents: Vec<Value> = cases.iter().map(Case::document).collect();
        say_json(&json!({
            "revision": prepared.revision.digest,
            "agent": manifest.name.to_string(),
            "runs": cases.len(),
            "passed": passed,
            "cases": documents,
        }))?;
    } else {
        cases.iter().for_each(|case| say(case.describe()));
        let mark = if passed == cases.len() { style::good("✓") } else { style::bad("✗") };
        let runs = text::plural(cases.len() as u64, "run", "runs");
        say(format!("{mark} {title} passes {passed} of {runs}"));
    }
    Ok(ExitCode::from(if passed == cases.len() { 0 } else { exit::NOT_THE_SAME }))
}

/// What the command line means, folders opened.
fn named(runs: &[String]) -> Result<Vec<Named>, Failure> {
    let mut named = Vec::new();
    for run in runs {
        let path = Path::new(run);
        if path.is_dir() {
            let files = exports_in(path).map_err(|error| {
                Failure::from(error).context(format!("cannot read the folder `{run}`"))
            })?;
            if files.is_empty() {
                return Err(Failure::new(format!("there is no exported run in `{run}`"))
                    .with_hint("`reenact export RUN -o FILE.reenact` makes one"));
            }
            named.extend(files.into_iter().map(Named::File));
        } else {
            named.push(match exported(run)? {
                Some(path) => Named::File(path.to_owned()),
                None => Named::Run(run.clone()),
            });
        }
    }
    Ok(named)
}

/// The exported runs of a folder, by name.
fn exports_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "reenact") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn load(
    named: &str,
    built: Option<Arc<Revision>>,
    context: Option<&Context>,
) -> Result<(Executor, Arc<Revision>), Failure> {
    let Some(context) = context else {
        let revision = built.ok_or_else(|| Failure::new("there is no revision"))?;
        return Ok((Executor::new(None)?, revision));
    };
    let revision = match built {
        Some(revision) => revision,
        None => target::resolve(context, named)?.revision,
    };
    Ok((context.executor()?, revision))
}

async fn case(
    executor: &Executor,
    prepared: &Prepared,
    named: &Named,
    context: Option<&Context>,
) -> Case {
    let begun = std::time::Instant::now();
    let name = match named {
        Named::File(path) => path.display().to_string(),
        Named::Run(run) => run.clone(),
    };
    let outcome = async {
        let journal = journal(named, context)?;
        what_if(executor, prepared, &journal).await
    };
    let outcome = outcome.await.map_err(Trouble::from);
    Case { name, took: begun.elapsed(), outcome }
}

fn journal(named: &Named, context: Option<&Context>) -> Result<Vec<Encoded>, Failure> {
    match (named, context) {
        (Named::File(path), _) => Ok(open_file(path)?.journal),
        (Named::Run(run), Some(context)) => {
            let row = context.storage.run_by_prefix(run)?;
            Ok(context.storage.entries(&row.id)?)
        }
        (Named::Run(run), None) => Err(Failure::new(format!("there is no run `{run}`"))),
    }
}

impl Case {
    pub fn passes(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|report| report.what_if.keeps_its_word())
    }

    /// In one line, what is wrong, or what is to be noted.
    pub fn verdict(&self) -> String {
        match &self.outcome {
            Err(trouble) => trouble.why.clone(),
            Ok(report) => report.verdict(),
        }
    }

    /// All that there is to say about a run that the revision departs from, plain.
    pub fn details(&self) -> Option<String> {
        let report = self.outcome.as_ref().ok()?;
        let divergence = report.what_if.divergence.as_ref()?;
        let text = match self.passes() {
            true => describe_divergence(divergence),
            false => report.describe(),
        };
        Some(anstream::adapter::strip_str(&text).to_string())
    }

    fn describe(&self) -> String {
        let mark = if self.passes() { style::good("✓") } else { style::bad("✗") };
        let line =
            format!("{mark} {}  {}", text::line(&self.name, 200), text::safe(&self.verdict()));
        match (self.passes(), &self.outcome) {
            (false, Ok(report)) => {
                let report = report.describe();
                let indented =
                    report.lines().map(|line| format!("    {line}").trim_end().to_owned());
                format!("{line}\n{}", indented.collect::<Vec<_>>().join("\n"))
            }
            _ => line,
        }
    }

    fn document(&self) -> Value {
        let passed = self.passes();
        match &self.outcome {
            Ok(report) => json!({
                "name": self.name, "passed": passed, "verdict": report.verdict(),
                "report": report.document(),
            }),
            Err(trouble) => {
                json!({ "name": self.name, "passed": passed, "verdict": trouble.why })
            }
        }
    }
}

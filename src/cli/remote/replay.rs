//! `reenact replay --server`: a server proves its own runs.

use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};

use super::report::{short, status, took};
use crate::cli::render::table::pairs;
use crate::cli::render::{style, text};
use crate::cli::replay::{Args, progress};
use crate::cli::{Failure, exit, note, say, say_json};
use crate::client::{ALL, Client, ListRuns};
use crate::service::ProofView;
use crate::service::view::RunView;

pub async fn run(args: Args, client: &Client) -> Result<ExitCode, Failure> {
    let Some(target) = &args.target else { return all(&args, client).await };
    if target.contains(['/', '\\', '.']) {
        return Err(Failure::new(format!("there is no file `{target}`")));
    }
    let run = client.run(target).await?;
    let report = Report::of(client, run).await?;
    if args.json {
        say_json(&report.document())?;
    } else {
        say(report.describe());
    }
    Ok(ExitCode::from(if report.proof.same { 0 } else { exit::NOT_THE_SAME }))
}

/// What a server found, and the run that it is about.
struct Report {
    run: RunView,
    proof: ProofView,
    seconds: f64,
}

impl Report {
    async fn of(client: &Client, run: RunView) -> Result<Self, Failure> {
        let begun = Instant::now();
        let proof = client.replay(&run.id).await?;
        Ok(Self { run, proof, seconds: begun.elapsed().as_secs_f64() })
    }

    fn verdict(&self) -> String {
        let proof = &self.proof;
        match (&proof.divergence, &proof.damage) {
            (Some(divergence), _) => {
                format!("diverged at entry {} of {}", divergence.index, proof.entries)
            }
            (None, Some(damage)) => {
                format!("entry {} is damaged: {}", damage.index, text::line(&damage.what, 300))
            }
            (None, None) if proof.ended => "the same".to_owned(),
            (None, None) => "the same as far as the record goes".to_owned(),
        }
    }

    /// The report for people.
    fn describe(&self) -> String {
        let Self { run, proof, seconds } = self;
        let agent = text::line(&proof.agent_id, 63);
        let run_id = text::line(&proof.run_id, 64);
        let title = format!("{run_id} · {agent}@{}", short(&proof.revision_id));
        let mut rows = Vec::new();
        if proof.same {
            let entries = text::plural(proof.entries, "entry", "entries");
            let same = "each the same in content, order and hash";
            rows.push(("entries", format!("{entries} made again, {same}")));
            let answers = text::plural(proof.answers, "answer", "answers");
            let from = "taken from the journal, no tool was called";
            rows.push(("answers", format!("{answers} {from}")));
            let compared =
                if proof.fuel_compared { "equal at every entry" } else { "not compared" };
            rows.push(("fuel", format!("{}, {compared}", text::count(proof.fuel))));
            rows.push(match (proof.ended, &run.error) {
                (false, _) => ("end", "none: the record stops before the run ended".to_owned()),
                (true, Some(_)) => ("end", format!("{}, the same", status(run))),
                (true, None) => ("end", "done, with the same result".to_owned()),
            });
            rows.push(("hash", text::line(&proof.journal_hash, 80)));
        }
        if let Some(divergence) = &proof.divergence {
            let expected = divergence.expected.as_ref();
            let end = || "the end of the journal".to_owned();
            rows.push(("expected", expected.map_or_else(end, request)));
            rows.push(("found", request(&divergence.found)));
        }
        if let Some(damage) = &proof.damage {
            rows.push(("damage", text::line(&damage.what, 2_000)));
        }
        let took_here = text::duration((seconds * 1e6) as u64);
        rows.push(("took", format!("{took_here} (the run: {})", text::duration(took(run)))));
        let mark = if proof.same { style::good("✓") } else { style::bad("✗") };
        let verdict = match (proof.same, &proof.damage) {
            (true, _) => format!("came out {}", self.verdict()),
            (false, Some(damage)) => format!("has a damaged entry {}", damage.index),
            (false, None) => self.verdict(),
        };
        format!("{mark} {title} {verdict}\n{}", pairs(rows))
    }

    /// The report for machines, with the members that a replay on this machine has.
    fn document(&self) -> Value {
        let proof = &self.proof;
        let mut document = json!({
            "run": proof.run_id,
            "agent": proof.agent_id,
            "revision": proof.revision_id,
            "same": proof.same,
            "entries": proof.entries,
            "answers": proof.answers,
            "fuel": proof.fuel,
            "fuelCompared": proof.fuel_compared,
            "seconds": self.seconds,
        });
        if proof.same {
            document["ended"] = json!(proof.ended);
        }
        if proof.same && proof.ended {
            document["journalHash"] = json!(proof.journal_hash);
        }
        if let Some(divergence) = &proof.divergence {
            document["divergence"] = json!({
                "index": divergence.index,
                "expected": divergence.expected,
                "found": divergence.found,
            });
        }
        if let Some(damage) = &proof.damage {
            document["damage"] = json!(damage);
        }
        document
    }
}

/// What a run did somewhere, as the server says it.
fn request(request: &Value) -> String {
    let fuel = request.get("fuel").and_then(Value::as_u64).unwrap_or_default();
    let what = request.get("entry").unwrap_or(request);
    format!("fuel {}, {}", text::count(fuel), text::line(&what.to_string(), 2_000))
}

/// Has every run replayed, one after the other.
async fn all(args: &Args, client: &Client) -> Result<ExitCode, Failure> {
    let begun = Instant::now();
    let which = ListRuns { agent: args.agent.clone(), status: None };
    let runs = client.runs(&which, ALL).await?;
    let bar = progress(runs.len() as u64);
    let (total, mut same, mut answers, mut entries) = (runs.len(), 0, 0, 0);
    let mut failed = Vec::new();
    for run in runs {
        bar.set_message(text::line(&run.id, 64));
        let id = run.id.clone();
        match Report::of(client, run).await {
            Ok(report) if report.proof.same => {
                same += 1;
                answers += report.proof.answers;
                entries += report.proof.entries;
            }
            Ok(report) => {
                bar.suspend(|| note(report.describe()));
                failed.push((id, report.verdict()));
            }
            Err(failure) => failed.push((id, failure.one_line())),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    crate::cli::replay::Total { runs: total, same, failed, entries, answers, took: begun.elapsed() }
        .report(args.json)
}

//! Every limit: reached by a run, set by the manifest, capped by the operator.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use reenact::build::{self, BuildOutput};
use reenact::journal::{Answer, Body, Entry, ErrorCode, Log, Outcome, ToolErrorCode};
use reenact::revision::{Limits, Manifest, Revision, SomeLimits};
use reenact::runtime::{InputError, NewRun};
use reenact::tools::Provider;
use serde_json::{Value, json};

use crate::hosts;
use crate::library::Library;
use crate::support::{Home, Lab, guest, resealed};
use crate::wat;

/// What happens at a limit.
enum End {
    /// The run ends with this error.
    Error(ErrorCode),
    /// The run is done, and this is to be seen in its journal.
    Done(fn(&[Entry]) -> bool),
    /// There is no run.
    Refused,
}

/// A limit, how low it is set, and the run that reaches it.
struct Row {
    limit: &'static str,
    low: u64,
    guest: &'static str,
    input: Value,
    end: End,
}

fn hostile(limit: &'static str, low: u64, input: Value, end: End) -> Row {
    Row { limit, low, guest: "hostile", input, end }
}

fn table() -> Vec<Row> {
    use End::*;
    use ErrorCode::*;
    let once = json!({ "do": "tool-calls", "n": 1 });
    let prints = json!({ "do": "stdout", "n": 100 });
    let sources = Row {
        limit: "sources",
        low: 1,
        guest: "research",
        input: json!({ "topic": "fuel" }),
        end: Done(|entries| sources(entries) == 1),
    };
    vec![
        hostile("fuel", 1_000_000, json!({ "do": "loop" }), Error(OutOfFuel)),
        hostile("memory_bytes", 4 << 20, json!({ "do": "memory" }), Error(OutOfMemory)),
        hostile("table_elements", 10, json!({ "do": "compute" }), Error(OutOfMemory)),
        hostile("handles", 10, json!({ "do": "pollables" }), Error(TooManyHandles)),
        hostile("deadline_ms", 50, json!({ "do": "loop" }), Error(Deadline)),
        hostile("input_bytes", 10, json!({ "do": "compute" }), Refused),
        hostile("output_bytes", 10, json!({ "do": "compute" }), Error(OutputTooLarge)),
        hostile("events", 5, json!({ "do": "events", "n": 6 }), Error(TooManyEvents)),
        hostile("event_bytes", 7, json!({ "do": "events" }), Error(PayloadTooLarge)),
        hostile("log_bytes", 200, prints.clone(), Done(|entries| is_cut(entries, 200))),
        hostile(
            "log_lines",
            5,
            prints,
            Done(|entries| logs(entries).len() == 6 && is_full(entries)),
        ),
        hostile("tool_calls", 3, json!({ "do": "tool-calls", "n": 4 }), Error(TooManyToolCalls)),
        hostile(
            "calls_at_once",
            2,
            json!({ "do": "calls-at-once", "n": 3 }),
            Error(TooManyToolCalls),
        ),
        hostile(
            "argument_bytes",
            100,
            json!({ "do": "big-arguments", "n": 1 }),
            Done(is_too_large),
        ),
        hostile("answer_bytes", 10, once.clone(), Done(is_too_large)),
        hostile(
            "tool_timeout_ms",
            20,
            once,
            Done(|entries| failures(entries) == [ToolErrorCode::Timeout]),
        ),
        sources,
        hostile("journal_bytes", 5_000, json!({ "do": "events" }), Error(JournalTooLarge)),
        hostile("model_tokens", 25, json!({ "do": "tool-calls", "n": 3 }), Error(TooManyTokens)),
        hostile(
            "model_cost_micros",
            250,
            json!({ "do": "tool-calls", "n": 3 }),
            Error(TooExpensive),
        ),
    ]
}

fn logs(entries: &[Entry]) -> Vec<&Log> {
    let log = |entry| match entry {
        &Entry { body: Body::Log(ref log), .. } => Some(log),
        _ => None,
    };
    entries.iter().filter_map(log).collect()
}

/// Whether the last line says that there would be more.
fn is_full(entries: &[Entry]) -> bool {
    logs(entries).last().is_some_and(|log| log.text.starts_with("the log is full"))
}

fn is_cut(entries: &[Entry], bytes: usize) -> bool {
    let logs = logs(entries);
    let kept = &logs[..logs.len() - 1];
    !kept.is_empty()
        && kept.iter().map(|log| log.text.len() + 1).sum::<usize>() <= bytes
        && is_full(entries)
}

fn failures(entries: &[Entry]) -> Vec<ToolErrorCode> {
    let failure = |entry: &Entry| match &entry.body {
        Body::ToolAnswered(answered) => match &answered.answer {
            Answer::Error(error) => Some(error.code),
            Answer::Ok(_) => None,
        },
        _ => None,
    };
    entries.iter().filter_map(failure).collect()
}

fn is_too_large(entries: &[Entry]) -> bool {
    failures(entries) == [ToolErrorCode::TooLarge]
}

fn outcome(entries: &[Entry]) -> &Outcome {
    match &entries.last().unwrap().body {
        Body::Ended(ended) => &ended.outcome,
        other => panic!("{other:?}"),
    }
}

fn sources(entries: &[Entry]) -> usize {
    match outcome(entries) {
        Outcome::Done(output) => output.sources.len(),
        Outcome::Error(error) => panic!("{error:?}"),
    }
}

impl Row {
    fn some_limits(&self) -> SomeLimits {
        some_limits(&[(self.limit, self.low)])
    }

    /// Holds the end of a run against what it should be.
    fn check(&self, entries: &[Entry]) {
        let outcome = outcome(entries);
        match (&self.end, outcome) {
            (End::Error(code), Outcome::Error(error)) if *code == error.code => {}
            (End::Done(seen), Outcome::Done(_)) if seen(entries) => {}
            _ => panic!("{}: {outcome:?} {entries:#?}", self.limit),
        }
        let Body::Started(started) = &entries[0].body else { panic!() };
        assert_eq!(value(&started.limits, self.limit), self.low);
    }

    fn host(&self) -> Arc<dyn Provider> {
        match self.limit {
            "tool_timeout_ms" => hosts::that_hangs(),
            _ => Library::new(),
        }
    }

    /// Runs in the lab up to the limit, and replays.
    async fn reach(&self, lab: &Lab, revision: &Arc<Revision>, caps: &SomeLimits) {
        let effective = Limits::effective(&revision.manifest.limits, caps);
        let start = lab.run(revision, self.input.clone()).limits(|limits| *limits = effective);
        let start = start.provider("files", self.host());
        if let End::Refused = self.end {
            let input = self.input.to_string();
            let plan = NewRun::plan(&lab.prepare(revision), &input, effective, &start.tools());
            let Err(InputError::TooLarge { limit, .. }) = plan else { panic!("{}", self.limit) };
            assert_eq!(limit, self.low);
            return;
        }
        let record = start.ends().await;
        self.check(&record.entries());
        lab.proves(&record).await;
    }
}

fn some_limits(limits: &[(&str, u64)]) -> SomeLimits {
    let limits: BTreeMap<_, _> = limits.iter().copied().collect();
    serde_json::from_value(json!(limits)).unwrap()
}

fn value(limits: &Limits, name: &str) -> u64 {
    limits.rows().iter().find(|(info, _)| info.name == name).unwrap().1
}

#[test]
fn no_limit_is_left_out() {
    let tested: Vec<_> = table().iter().map(|row| row.limit).collect();
    let all: Vec<_> = Limits::TABLE.iter().map(|info| info.name).collect();
    assert_eq!(tested, all);
}

#[tokio::test]
async fn a_manifest_sets_every_limit() {
    let lab = Lab::new();
    for row in table() {
        let revision = resealed(&guest(row.guest), |manifest| manifest.limits = row.some_limits());
        row.reach(&lab, &revision, &SomeLimits::default()).await;
    }
}

#[tokio::test]
async fn an_operator_caps_every_limit() {
    let lab = Lab::new();
    for row in table() {
        row.reach(&lab, &guest(row.guest), &row.some_limits()).await;
    }
}

#[test]
fn the_smaller_of_both_counts_for_every_limit() {
    for info in Limits::TABLE {
        let of = |limit| some_limits(&[(info.name, limit)]);
        for (asked, cap, got) in [(7, 5, 5), (5, 7, 5)] {
            assert_eq!(value(&Limits::effective(&of(asked), &of(cap)), info.name), got);
        }
        let all = Limits::effective(&of(info.ceiling), &SomeLimits::default());
        assert_eq!(value(&all, info.name), info.ceiling);
        for refused in [0, info.ceiling + 1] {
            assert_eq!(of(refused).check().unwrap_err().name, info.name);
        }
    }
}

#[test]
fn an_agent_toml_sets_every_limit() {
    let folder = tempfile::tempdir().unwrap();
    let names = Limits::TABLE.iter().map(|info| info.name);
    let limits: Vec<(&str, u64)> = names.zip(1_000..).collect();
    let lines: String = limits.iter().map(|(name, limit)| format!("{name} = {limit}\n")).collect();
    let toml = format!(
        "name = 'tiny'\ncomponent = 'tiny.wasm'\n\n[output]\ntype = 'document'\n\n[limits]\n{lines}"
    );
    fs::write(folder.path().join("agent.toml"), toml).unwrap();
    fs::write(folder.path().join("tiny.wasm"), &wat::does("").bytes).unwrap();
    let sealed = build::load(folder.path()).unwrap().build(BuildOutput::Stderr).unwrap();
    let Manifest { limits: found, .. } = Revision::open(sealed).unwrap().manifest;
    assert_eq!(found, some_limits(&limits));
}

#[test]
fn a_configuration_caps_every_limit() {
    let (home, folder) = (Home::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let docs = path("docs");
    fs::create_dir(&docs).unwrap();
    for name in ["a.md", "b.md"] {
        fs::write(format!("{docs}/{name}"), "Fuel is counted.\n").unwrap();
    }
    for name in ["hostile", "research"] {
        fs::write(path(name), &guest(name).bytes).unwrap();
        home.ok(&["publish", &path(name)]);
    }
    for row in table() {
        let config = path("reenact.toml");
        let (limit, low, input) = (row.limit, row.low, row.input.to_string());
        fs::write(
            &config,
            format!("[limits]\n{limit} = {low}\n\n[grants.files]\nroot = '{docs}'\n"),
        )
        .unwrap();
        let said = home.says(&[
            "--config", &config, "run", row.guest, "--input", &input, "--events", "ndjson",
        ]);
        if let End::Refused = row.end {
            assert_eq!(said.code, Some(1), "{said:#?}");
            assert!(said.stderr.contains("the input has 16 bytes, the limit is 10"), "{said:#?}");
            assert_eq!(said.stdout, "");
            continue;
        }
        let entry = |line| serde_json::from_str::<Entry>(line).unwrap();
        let entries: Vec<Entry> = said.stdout.lines().map(entry).collect();
        match limit {
            // No tool that reads files is so slow, or costs anything.
            "tool_timeout_ms" | "model_tokens" | "model_cost_micros" => {
                let Body::Started(started) = &entries[0].body else { panic!() };
                assert_eq!(value(&started.limits, limit), low);
            }
            _ => row.check(&entries),
        }
    }
}

#[tokio::test]
async fn what_reaches_a_limit_and_no_more_is_done() {
    let lab = Lab::new();
    let all = Limits::effective(&SomeLimits::default(), &SomeLimits::default());
    for (limit, exactly, input) in [
        ("input_bytes", 16, json!({ "do": "compute" })),
        ("output_bytes", 40, json!({ "do": "compute" })),
        ("events", 5, json!({ "do": "events", "n": 5 })),
        ("event_bytes", 7, json!({ "do": "events", "n": 10 })),
        ("tool_calls", 3, json!({ "do": "tool-calls", "n": 3 })),
        ("calls_at_once", 2, json!({ "do": "calls-at-once", "n": 2 })),
        ("handles", 20, json!({ "do": "pollables", "n": 10 })),
        ("log_lines", 4, json!({ "do": "stdout" })),
        ("model_tokens", 30, json!({ "do": "tool-calls", "n": 3 })),
        ("model_cost_micros", 300, json!({ "do": "tool-calls", "n": 3 })),
    ] {
        let limited = Limits::effective(&some_limits(&[(limit, exactly)]), &SomeLimits::default());
        assert_ne!(limited, all);
        let start = lab.run(&guest("hostile"), input).limits(|limits| *limits = limited);
        let record = start.provider("files", Library::new()).ends().await;
        let entries = record.entries();
        assert!(matches!(outcome(&entries), Outcome::Done(_)), "{limit}: {:?}", outcome(&entries));
        assert!(!is_full(&entries));
        lab.proves(&record).await;
    }
}

#[tokio::test]
async fn what_a_run_used_is_the_fuel_that_it_needs() {
    let lab = Lab::new();
    let revision = guest("hostile");
    let run = |fuel| {
        let start = lab.run(&revision, json!({ "do": "compute", "n": 1_000 }));
        start.limits(move |limits| limits.fuel = fuel).ends()
    };
    let fuel = run(1_000_000_000).await.ran.fuel;
    let enough = run(fuel).await;
    assert_eq!((enough.json()["n"].as_u64(), enough.ran.fuel), (Some(1_000), fuel));
    // The engine looks at loops and calls only, so a few instructions less may do.
    let short = run(fuel - 1_000).await;
    assert_eq!(short.code(), ErrorCode::OutOfFuel);
    for fuel in (fuel - 100..fuel).step_by(9) {
        lab.proves(&run(fuel).await).await;
    }
}

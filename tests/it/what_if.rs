//! What another revision would have done in a recorded run, and revisions held
//! against recorded runs as a test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_junit::{NonSuccessKind, TestCaseStatus};
use reenact::journal::{
    Answer, Body, Chain, Encoded, Entry, ErrorCode, Outcome, PortableRun, ToolErrorCode,
};
use reenact::json::Json;
use reenact::revision::{Revision, seal};
use reenact::runtime::{CallChange, Found, Stop, WhatIf, WhatIfError};
use serde_json::{Value, json};

use crate::library::Library;
use crate::scripted_model::{ScriptedModel, calls, text};
use crate::support::{Home, Lab, Record, guest, offline, put, resealed};
use crate::{golden, hosts};

/// The research agent with something else in its `config`.
fn research_with(key: &str, value: Value) -> Arc<Revision> {
    resealed(&guest("research"), |manifest| drop(manifest.config.insert(key.to_owned(), value)))
}

async fn researched(lab: &Lab, revision: &Arc<Revision>) -> Record {
    let start = lab.run(revision, json!({ "topic": "fuel" }));
    start.provider("files", Library::new()).ends().await
}

async fn what_if(lab: &Lab, revision: &Arc<Revision>, journal: &[Encoded]) -> WhatIf {
    lab.executor.what_if(&lab.prepare(revision), journal).await.unwrap()
}

fn rechained(entries: &[Entry]) -> Vec<Encoded> {
    let mut chain = Chain::default();
    entries.iter().map(|entry| chain.push(entry)).collect()
}

fn gone(what_if: &WhatIf) -> Vec<String> {
    let changes = what_if.calls().into_iter();
    let gone = changes.filter_map(|change| match change {
        CallChange::Gone(call) => Some(format!("{} {}", call.name, call.arguments)),
        CallChange::Same(_) | CallChange::New(_) => None,
    });
    gone.collect()
}

#[tokio::test]
async fn the_revision_that_made_the_record_does_the_same() {
    let lab = Lab::new();
    for (name, input) in [
        ("research", json!({ "topic": "fuel" })),
        ("word-count", json!({ "path": "long.txt" })),
        ("word-count", json!({ "path": "none.txt" })),
        ("hostile", json!({ "do": "panic" })),
    ] {
        let start = lab.run(&guest(name), input);
        let record = start.provider("files", Library::new()).ends().await;
        let same = what_if(&lab, &guest(name), &record.journal).await;
        assert_eq!((&same.divergence, &same.stop), (&None, &Stop::Ended), "{name}");
        assert_eq!(same.found[1..], record.entries()[1..], "{name}");
        assert!(same.keeps_its_word() && same.has_same_result() == Some(true), "{name}");
    }
}

#[tokio::test]
async fn what_follows_a_divergence_is_answered_by_the_record() {
    let lab = Lab::new();
    let record = researched(&lab, &guest("research")).await;
    let narrow = research_with("max_files", json!(2));
    let report = what_if(&lab, &narrow, &record.journal).await;
    let divergence = report.divergence.as_ref().expect("it plans otherwise");
    assert_eq!((divergence.index, &report.stop), (1, &Stop::Ended));
    assert!(
        matches!(&divergence.found, Found::Request(found) if matches!(found.body, Body::Event(_)))
    );

    // It searched and read two of the three files, all from the record.
    assert!(!report.has_same_calls());
    assert_eq!(gone(&report), [r#"files.read {"path":"c.md"}"#]);
    assert_eq!(report.has_same_result(), Some(false));
    let Outcome::Done(output) = &report.found_end().unwrap().outcome else { panic!() };
    assert_eq!(output.sources.len(), 2);

    // It did what it would have done with the very same answers.
    let truth = researched(&lab, &narrow).await;
    assert_eq!(report.found_end().unwrap().outcome, truth.ran.ended.outcome);
    assert_eq!(report.followed().len(), truth.journal.len() - 1);
}

#[tokio::test]
async fn a_call_to_which_the_record_holds_no_answer_is_the_end() {
    let lab = Lab::new();
    let record = researched(&lab, &research_with("max_files", json!(1))).await;
    let report = what_if(&lab, &guest("research"), &record.journal).await;
    assert_eq!((&report.stop, report.has_same_result()), (&Stop::Unanswered, Some(false)));
    let unanswered: Vec<String> =
        report.unanswered().iter().map(|call| call.arguments.to_string()).collect();
    assert_eq!(unanswered, [r#"{"path":"a.md"}"#, r#"{"path":"c.md"}"#]);
    assert!(report.found_end().is_none() && !report.keeps_its_word());
}

/// An answer serves one call. Another one with the same arguments was never answered.
#[tokio::test]
async fn an_answer_is_given_once() {
    let lab = Lab::new();
    let run = |n: u64| lab.run(&guest("hostile"), json!({ "do": "tool-calls", "n": n }));
    let record = run(2).provider("files", Library::new()).ends().await;
    let three = run(3).provider("files", Library::new()).ends().await;
    // The record of two calls, with the input of the run that made three.
    let mut entries = record.entries();
    entries[0] = Entry { at: entries[0].at, ..three.entries()[0].clone() };
    let report = what_if(&lab, &guest("hostile"), &rechained(&entries)).await;
    assert_eq!((report.stop.clone(), report.unanswered().len()), (Stop::Unanswered, 1));
    assert_eq!(report.divergence.as_ref().unwrap().index, 5, "where the record ends the run");
}

#[tokio::test]
async fn other_events_alone_break_no_promise() {
    let lab = Lab::new();
    let record = researched(&lab, &guest("research")).await;
    let forged = record.forged(1, |entry| {
        let Body::Event(event) = &mut entry.body else { panic!("{entry:?}") };
        event.data = Json::parse(r#"{"text":"an older plan"}"#).unwrap();
    });
    let report = what_if(&lab, &guest("research"), &forged).await;
    assert_eq!(report.divergence.as_ref().unwrap().index, 1);
    assert!(report.has_same_calls() && report.keeps_its_word());
    assert_eq!(report.has_same_result(), Some(true));
}

#[tokio::test]
async fn the_order_of_keys_is_no_difference() {
    let lab = Lab::new();
    let text = "files.search {\"query\":\"fuel\",\"path\":\"\"}";
    let start = lab.run(&guest("hostile"), json!({ "do": "calls", "text": text }));
    let record = start.provider("files", Library::new()).ends().await;
    let forged = record.forged(1, |entry| {
        let Body::ToolCalled(called) = &mut entry.body else { panic!("{entry:?}") };
        called.arguments = Json::parse(r#"{"path":"","query":"fuel"}"#).unwrap();
    });
    assert!(what_if(&lab, &guest("hostile"), &forged).await.divergence.is_none());
}

/// A live run of such a revision would be denied these calls.
#[tokio::test]
async fn tools_that_a_revision_does_not_ask_for_are_denied_to_it() {
    let lab = Lab::new();
    let record = researched(&lab, &guest("research")).await;
    let blind = resealed(&guest("research"), |m| m.tools = vec!["files.search".parse().unwrap()]);
    let report = what_if(&lab, &blind, &record.journal).await;
    let divergence = report.divergence.as_ref().expect("it may not read");
    let Found::Request(found) = &divergence.found else { panic!("{divergence:?}") };
    let Body::ToolAnswered(answered) = &found.body else { panic!("{found:?}") };
    let Answer::Error(error) = &answered.answer else { panic!("{answered:?}") };
    assert_eq!(error.code, ToolErrorCode::Denied);
    assert!(report.has_same_calls() && !report.keeps_its_word());
}

#[tokio::test]
async fn a_record_without_an_end_is_followed_as_far_as_it_goes() {
    let lab = Lab::new();
    let record = researched(&lab, &guest("research")).await;
    for cut in 1..record.journal.len() {
        let report = what_if(&lab, &guest("research"), &record.journal[..cut]).await;
        assert_eq!((&report.divergence, &report.stop), (&None, &Stop::RecordOver), "{cut}");
        assert!(report.keeps_its_word() && report.has_same_result().is_none(), "{cut}");
    }
    let narrow = research_with("max_files", json!(2));
    let report = what_if(&lab, &narrow, &record.journal[..4]).await;
    assert_eq!((&report.stop, report.unanswered().len()), (&Stop::Unanswered, 2));
    assert!(report.has_same_calls(), "as far as the record goes");
}

/// Who cancelled the run would not have known what another revision was about.
#[tokio::test]
async fn an_end_from_outside_is_no_end_of_the_agents() {
    let lab = Lab::new();
    let start = lab.run(&guest("hostile"), json!({ "do": "tool-calls", "n": 1 }));
    let start = start.provider("files", hosts::that_hangs()).at_start(|canceller| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            canceller.cancel();
        });
    });
    let record = start.ends().await;
    assert_eq!(record.code(), ErrorCode::Cancelled);
    let report = what_if(&lab, &guest("hostile"), &record.journal).await;
    assert_eq!((&report.divergence, &report.stop), (&None, &Stop::RecordOver));
    assert!(report.recorded_end().is_none() && report.keeps_its_word());
}

#[tokio::test]
async fn nothing_is_waited_for() {
    let lab = Lab::new();
    let start = lab.run(&guest("hostile"), json!({ "do": "sleep", "n": 1 }));
    let record = start.provider("files", Library::new()).ends().await;
    let mut entries = record.entries();
    // The recorded revision printed instead of sleeping; this one will sleep an hour.
    let hour = lab.run(&guest("hostile"), json!({ "do": "sleep", "n": 3600 }));
    let hour = hour.limits(|limits| limits.deadline_ms = 50).ends().await;
    entries[0] = Entry { at: entries[0].at, ..hour.entries()[0].clone() };
    let begun = Instant::now();
    let report = what_if(&lab, &guest("hostile"), &rechained(&entries)).await;
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!((report.divergence.as_ref().unwrap().index, &report.stop), (1, &Stop::Ended));
    let slept = report.found.last().unwrap().at - report.found[0].at;
    assert!(slept >= 3_600_000_000, "{slept}");
}

#[tokio::test]
async fn what_cannot_be_compared_is_an_error() {
    let lab = Lab::new();
    let record = researched(&lab, &guest("research")).await;
    let picky = resealed(&guest("research"), |m| {
        m.input = json!({ "type": "object", "required": ["subject"] });
    });
    let refused = lab.executor.what_if(&lab.prepare(&picky), &record.journal).await.unwrap_err();
    assert!(matches!(refused, WhatIfError::Input(_)), "{refused}");
    let prepared = lab.prepare(&guest("research"));
    let mut damaged = record.journal.clone();
    damaged[2].bytes[9] ^= 1;
    let refused = lab.executor.what_if(&prepared, &damaged).await.unwrap_err();
    assert!(matches!(&refused, WhatIfError::Damaged(damage) if damage.index == 2), "{refused}");
    let refused = lab.executor.what_if(&prepared, &[]).await.unwrap_err();
    assert!(matches!(refused, WhatIfError::Fault(_)), "{refused}");
}

/// A home with a run of the research agent over this checkout's documentation.
struct Story {
    home: Home,
    run: String,
    narrow: String,
}

impl Story {
    fn begins() -> Self {
        let home = Home::new();
        home.publishes(&guest("research"));
        let narrow = put(home.path(), &research_with("max_files", json!(1)));
        let input = ["--input", r#"{"topic":"fuel"}"#, "--grant", "files=docs", "--json"];
        let run = home.json(&[&["run", "research"][..], &input].concat());
        Self { run: run["id"].as_str().unwrap().to_owned(), home, narrow }
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    fn exported(&self, name: &str) -> String {
        let file = self.path(name);
        std::fs::create_dir_all(Path::new(&file).parent().unwrap()).unwrap();
        self.home.ok(&["export", &self.run, "-o", &file]);
        file
    }

    fn runs(&self) -> usize {
        self.home.json(&["runs", "--json"]).as_array().unwrap().len()
    }
}

#[test]
fn a_replay_against_another_revision_tells_where_it_departs_and_what_follows() {
    let story = Story::begins();
    let said = story.home.says(&["replay", &story.run, "--against", &story.narrow]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    for part in [
        "departs at entry 1 of",
        "expected  planning",
        "changed   data.steps[1]  \"Read the 3 files with the most mentions\" → \"Read the file with the most mentions\"",
        "what followed",
        "calls     2 calls are the same, others are not",
        "- files.read path: ",
        "result    another one",
        "no tool was called",
    ] {
        let spaced = part.replace("  ", " ");
        let squeezed =
            said.stdout.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let wanted =
            spaced.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(&wanted), "`{wanted}` in {}", said.stdout);
    }
    let report = story.home.says(&["replay", &story.run, "--against", &story.narrow, "--json"]);
    assert_eq!(report.code, Some(4));
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!((&report["same"], &report["divergence"]["index"]), (&json!(false), &json!(1)));
    assert_eq!(report["divergence"]["changes"][0]["path"], "data.steps[1]");
    assert_eq!(report["divergence"]["expected"]["event"]["kind"], "planning");
    assert_eq!((&report["stop"], &report["result"]["same"]), (&json!("ended"), &json!(false)));
    assert_eq!(report["calls"]["gone"].as_array().unwrap().len(), 2);
    assert_eq!(report["calls"]["new"], json!([]));
    assert_eq!(report["followed"][0]["seq"], 1);

    let same = story.home.ok(&["replay", &story.run, "--against", "research"]);
    assert!(same.contains(": the same"), "{same}");
    assert_eq!(story.runs(), 1, "a what-if leaves no run");
    assert_eq!(story.home.json(&["revisions", "research", "--json"]).as_array().unwrap().len(), 1);
}

#[test]
fn every_run_of_an_agent_is_held_against_another_revision() {
    let story = Story::begins();
    story.home.publishes(&guest("minimal"));
    story.home.ok(&["run", "minimal", "--input", r#"{"name":"Ada"}"#, "--json"]);
    let said = story.home.says(&["replay", "--all", "--against", &story.narrow]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    assert!(said.stdout.contains("0 of 1 run is the same"), "{said:#?}");
    assert!(said.stdout.contains("departs at entry 1 of"), "{said:#?}");
    let all = story.home.json(&["replay", "--all", "--against", "research", "--json"]);
    assert_eq!(
        (&all["runs"], &all["same"], &all["reports"][0]["same"]),
        (&json!(1), &json!(1), &json!(true))
    );
}

#[test]
fn an_exported_run_is_held_against_a_file_where_nothing_else_is() {
    let story = Story::begins();
    let file = story.exported("run.reenact");
    let said = offline(&["replay", &file, "--against", &story.narrow]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    assert!(said.stdout.contains("what followed"), "{said:#?}");
    let said = offline(&["test", &story.narrow, "--runs", &file]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    let good = put(story.home.path(), &guest("research"));
    let said = offline(&["test", &good, "--runs", &file, &file]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("passes 2 of 2 runs"), "{said:#?}");
}

#[test]
fn a_revision_is_tested_against_recorded_runs() {
    let story = Story::begins();
    story.exported("runs/a.reenact");
    let (runs, report) = (story.path("runs"), story.path("report.xml"));
    // A run whose events differ, and nothing else does.
    let bytes = std::fs::read(story.path("runs/a.reenact")).unwrap();
    let PortableRun { revision, journal } = PortableRun::from_bytes(&bytes).unwrap();
    let mut entries: Vec<Entry> =
        journal.iter().map(|entry| serde_json::from_slice(&entry.bytes).unwrap()).collect();
    let Body::Event(event) = &mut entries[1].body else { panic!() };
    event.data = Json::parse(r#"{"text":"an older plan"}"#).unwrap();
    let older = PortableRun { revision, journal: rechained(&entries) };
    std::fs::write(story.path("runs/b.reenact"), older.to_bytes().unwrap()).unwrap();
    std::fs::write(story.path("runs/notes.txt"), "not a run").unwrap();

    let said = story.home.says(&["test", "research", "--runs", &runs, "--junit", &report]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("departs at entry 1 of"), "it is noted: {said:#?}");
    assert!(said.stdout.contains("the same calls, the same result"), "{said:#?}");
    let suite = &junit(&report).test_suites[0];
    assert_eq!((suite.tests, suite.failures, suite.errors), (2, 0, 0));
    assert!(suite.name.starts_with("research@sha256:"));
    let note = suite.test_cases[1].system_out.as_ref().expect("what is noted");
    assert!(note.contains("an older plan"), "{note:?}");

    // A folder with an agent.toml, the id of a run, a file: all at once.
    let folder = story.path("agent");
    let sealed = story.path("component.wasm");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&sealed, &guest("research").bytes).unwrap();
    let id = story.run.clone();
    let tested = story.home.json(&["test", &sealed, "--runs", &id, &runs, "--json"]);
    assert_eq!((&tested["runs"], &tested["passed"]), (&json!(3), &json!(3)));
    assert_eq!(tested["cases"][0]["report"]["same"], true);
}

fn junit(path: &str) -> quick_junit::Report {
    let text = std::fs::read_to_string(path).unwrap();
    quick_junit::Report::deserialize_from_str(&text).unwrap()
}

#[test]
fn what_fails_is_told_to_people_and_to_machines() {
    let story = Story::begins();
    let good = story.exported("good.reenact");
    let bad = story.path("bad.reenact");
    let mut bytes = std::fs::read(&good).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&bad, bytes).unwrap();
    let report = story.path("report.xml");
    let said = story.home.says(&["test", &story.narrow, "--runs", &good, &bad, "--junit", &report]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    assert!(said.stdout.contains("other calls, another result"), "{said:#?}");
    assert!(said.stdout.contains("bad.reenact` is refused"), "{said:#?}");
    assert!(said.stdout.contains("passes 0 of 2 runs"), "{said:#?}");
    let report = junit(&report);
    let suite = &report.test_suites[0];
    assert_eq!((suite.tests, suite.failures, suite.errors), (2, 1, 1));
    let kinds: Vec<(NonSuccessKind, String)> = suite
        .test_cases
        .iter()
        .map(|case| {
            let TestCaseStatus::NonSuccess { kind, description, .. } = &case.status else {
                panic!()
            };
            (*kind, description.as_ref().map(|text| text.to_string()).unwrap_or_default())
        })
        .collect();
    assert!(
        matches!(kinds[0].0, NonSuccessKind::Failure)
            && matches!(kinds[1].0, NonSuccessKind::Error)
    );
    assert!(
        kinds[0].1.contains("what followed") && !kinds[0].1.contains('\u{1b}'),
        "{}",
        kinds[0].1
    );
    assert_eq!(suite.test_cases[0].classname.as_ref().unwrap().as_str(), "research");

    // An input that the revision does not take is a failure, with that reason.
    let picky = resealed(&guest("research"), |m| {
        m.input = json!({ "type": "object", "required": ["subject"] });
    });
    let picky = put(story.home.path(), &picky);
    let junit_file = story.path("picky.xml");
    let said = story.home.says(&["test", &picky, "--runs", &good, "--junit", &junit_file]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    assert!(said.stdout.contains("does not fit the input schema"), "{said:#?}");
    assert_eq!(junit(&junit_file).test_suites[0].failures, 1);
}

#[test]
fn what_is_no_test_is_refused() {
    let story = Story::begins();
    let empty: PathBuf = story.home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let empty = empty.to_str().unwrap();
    let said = story.home.fails(1, &["test", "research", "--runs", empty]);
    assert!(
        said.contains("there is no exported run in") && said.contains("reenact export"),
        "{said}"
    );
    let said = story.home.fails(1, &["test", "research", "--runs", "./none.reenact"]);
    assert!(said.contains("there is no file `./none.reenact`"), "{said}");
    story.home.fails(2, &["test", "research"]);
    let said = story.home.fails(1, &["test", "nobody", "--runs", &story.run]);
    assert!(said.contains("there is no agent `nobody`"), "{said}");
    let said = story.home.says(&["test", "research", "--runs", "ffffffff"]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    assert!(said.stdout.contains("there is no run `ffffffff`"), "{said:#?}");
}

/// Another agent's runs can be asked about too: a port to another language, say.
#[tokio::test]
async fn an_agent_is_held_against_the_runs_of_another_one() {
    let lab = Lab::new();
    let record = researched(&lab, &guest("research")).await;
    let mut manifest = guest("research").manifest.clone();
    manifest.name = "ported".parse().unwrap();
    let bytes = seal(&guest("research").bytes, &manifest).unwrap();
    let ported = Arc::new(Revision::open(bytes).unwrap());
    let report = what_if(&lab, &ported, &record.journal).await;
    assert!(report.divergence.is_none() && report.keeps_its_word());
}

/// Journals of every format, of runs that ended in every way.
#[tokio::test]
async fn every_golden_journal_can_be_asked_about() {
    let (lab, revision) = (Lab::new(), golden::revision());
    for (name, journal) in golden::journals() {
        let report = what_if(&lab, &revision, &journal).await;
        assert!(report.divergence.is_none(), "{name}: {:#?}", report.divergence);
        assert!(report.keeps_its_word(), "{name}");
    }
}

/// An agent without code, asked by a test with no model at hand.
async fn asked_a_model(lab: &Lab) -> Record {
    let script = [
        text("- Search for fuel"),
        calls("I search.", [("files.search", json!({ "query": "fuel" }))]),
        text("# Fuel\n\nIt is counted."),
    ];
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fuel.md"), "Fuel is counted.\n").unwrap();
    let providers = ScriptedModel::new(script).with_files(folder.path());
    let start = lab.run(&guest("prompt"), json!({ "question": "What is fuel?" }));
    start.providers(providers).ends().await
}

#[tokio::test]
async fn a_recorded_model_answers() {
    let lab = Lab::new();
    let record = asked_a_model(&lab).await;
    let report = what_if(&lab, &guest("prompt"), &record.journal).await;
    assert!(report.divergence.is_none() && report.keeps_its_word());
    // Other turns than it took are no other behaviour.
    let patient =
        resealed(&guest("prompt"), |m| drop(m.config.insert("max_turns".into(), json!(9))));
    assert!(what_if(&lab, &patient, &record.journal).await.keeps_its_word());

    // What a model would say to another prompt, nobody knows.
    let other = resealed(&guest("prompt"), |m| {
        m.config.insert("goal".into(), json!("Guess what {{question}} means."));
    });
    let report = what_if(&lab, &other, &record.journal).await;
    assert_eq!((&report.stop, report.unanswered().len()), (&Stop::Unanswered, 1));
    assert!(!report.has_same_calls());
    let asked = report.unanswered()[0].arguments.to_string();
    assert!(asked.contains("Guess what What is fuel? means."), "{asked}");
}

//! Agents in Rust, Python and JavaScript are held to the same tests: they do
//! the same work, reach the same limits, repeat and replay alike, and say what
//! went wrong in their own words.

use std::fs;
use std::process::Command;

use reenact::build::{self, BuildOutput};
use reenact::journal::{Body, Entry, ErrorCode, Event, Outcome};
use reenact::revision::SomeLimits;
use serde_json::{Value, json};

use crate::library::Library;
use crate::limits;
use crate::support::{Home, Lab, Record, guest, guest_folder, root};

const PYTHON: Language =
    Language { research: "research-python", misbehave: "misbehave-python", memory: 20 << 20 };
const JAVASCRIPT: Language = Language {
    research: "research-javascript",
    misbehave: "misbehave-javascript",
    memory: 8 << 20,
};
const INTERPRETERS: [Language; 2] = [PYTHON, JAVASCRIPT];
const LANGUAGES: [Language; 3] =
    [Language { research: "research", misbehave: "hostile", memory: 4 << 20 }, PYTHON, JAVASCRIPT];

/// A language's example agents.
struct Language {
    research: &'static str,
    misbehave: &'static str,
    /// Memory in which an agent starts, and not much more.
    memory: u64,
}

impl Language {
    async fn does(&self, lab: &Lab, input: Value, seed: u8) -> Record {
        let start = lab.run(&guest(self.misbehave), input).seed([seed; 32]);
        let record = start.provider("files", Library::new()).ends().await;
        lab.proves(&record).await;
        record
    }
}

fn events(record: &Record) -> Vec<Event> {
    let event = |entry: Entry| match entry.body {
        Body::Event(event) => Some(event),
        _ => None,
    };
    record.entries().into_iter().filter_map(event).collect()
}

/// The error's details, as text of several lines.
fn told(record: &Record, member: &str) -> String {
    let details = record.error().details.as_ref().unwrap().to_value();
    let lines = details[member].as_array().unwrap_or_else(|| panic!("{details}"));
    lines.iter().map(|line| line.as_str().unwrap().to_owned() + "\n").collect()
}

#[tokio::test]
async fn all_do_the_same_research() {
    let lab = Lab::new();
    for topic in ["fuel", " is\n ", "whales", "`more` <fuel>"] {
        let mut records = Vec::new();
        for language in LANGUAGES {
            let start = lab.run(&guest(language.research), json!({ "topic": topic }));
            let record = start.provider("files", Library::new()).ends().await;
            lab.proves(&record).await;
            records.push(record);
        }
        let Outcome::Done(expected) = &records[0].ran.ended.outcome else { panic!("{topic}") };
        for record in &records {
            let Outcome::Done(output) = &record.ran.ended.outcome else { panic!("{topic}") };
            assert_eq!(output, expected, "{topic}");
            assert_eq!(events(record), events(&records[0]), "{topic}");
            assert_eq!(record.tool_calls(), records[0].tool_calls(), "{topic}");
        }
    }
}

#[tokio::test]
async fn all_say_which_tool_they_miss() {
    let lab = Lab::new();
    let mut errors = Vec::new();
    for language in LANGUAGES {
        let record = lab.run(&guest(language.research), json!({ "topic": "fuel" })).ends().await;
        lab.proves(&record).await;
        let mut error = record.error().clone();
        error.details = error.details.map(|details| {
            let mut details = details.to_value();
            details.sort_all_objects();
            reenact::json::Json::from_value(&details)
        });
        errors.push(error);
    }
    assert!(errors[0].message.contains("this agent needs the tool `files.search`"), "{errors:?}");
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:#?}");
}

#[tokio::test]
async fn all_reach_every_limit() {
    let lab = Lab::new();
    for language in LANGUAGES {
        for mut row in limits::table() {
            row.guest =
                if row.guest == "research" { language.research } else { language.misbehave };
            if row.limit == "memory_bytes" {
                row.low = language.memory;
            }
            row.reach(&lab, &guest(row.guest), &row.some_limits()).await;
        }
    }
}

#[tokio::test]
async fn the_seed_decides_about_every_random_number() {
    let lab = Lab::new();
    for language in LANGUAGES {
        let look = |seed| language.does(&lab, json!({ "do": "look-around" }), seed);
        let (one, same, other) = (look(1).await.json(), look(1).await.json(), look(2).await.json());
        assert_eq!(one["random"], same["random"]);
        for (source, drawn) in one["random"].as_object().unwrap() {
            assert_ne!(*drawn, other["random"][source], "{} {source}", language.misbehave);
        }
        // The order of a set may follow from the seed, or from the build; it never varies.
        assert_eq!(one["hash_order"], same["hash_order"]);
    }
}

#[tokio::test]
async fn interpreters_know_what_time_it_is() {
    let lab = Lab::new();
    for language in INTERPRETERS {
        let record = language.does(&lab, json!({ "do": "look-around" }), 1).await;
        let started_ms = record.entries()[0].at as f64 / 1_000.0;
        let clock = &record.json()["clock"];
        for clock in [&clock["wall_ms"], &clock["date_ms"], &clock["monotonic_ms"]] {
            let off = clock.as_f64().unwrap() - started_ms;
            assert!(off.abs() < 1_000.0, "{} is {off} ms off: {clock}", language.misbehave);
        }
        let since_start = clock["performance_ms"].as_f64().unwrap();
        assert!((0.0..1_000.0).contains(&since_start), "{} {clock}", language.misbehave);
    }
}

#[tokio::test]
async fn interpreters_sleep_as_long_as_they_mean_to() {
    let lab = Lab::new();
    for language in INTERPRETERS {
        let record = language.does(&lab, json!({ "do": "sleep", "n": 300 }), 1).await;
        let slept = record.json()["elapsed_ms"].as_f64().unwrap();
        assert!((299.9..60_000.0).contains(&slept), "{} {slept}", language.misbehave);
        let woke = record.entries().into_iter().find(|entry| entry.body == Body::SleepEnded);
        let journal = (woke.unwrap().at - record.entries()[0].at) as f64 / 1_000.0;
        assert!((journal - slept).abs() < 1.0, "{slept} by its clock, {journal} by the journal");
    }
}

#[tokio::test]
async fn an_exception_ends_as_a_failure_with_its_traceback() {
    let lab = Lab::new();
    for language in INTERPRETERS {
        let record = language.does(&lab, json!({ "do": "throw" }), 1).await;
        assert_eq!(record.code(), ErrorCode::AgentFailure);
        assert_eq!(record.error().message, "TypeError: the sky is falling");
        let traceback = told(&record, "traceback");
        assert!(traceback.matches("climb").count() >= 4, "{traceback}");
        assert!(!traceback.contains("reenact."), "the library is no part of it: {traceback}");
    }
    // Python shows the very lines, though they are on no disk that it could read.
    let record = PYTHON.does(&lab, json!({ "do": "throw" }), 1).await;
    let traceback = told(&record, "traceback");
    assert!(traceback.starts_with("Traceback (most recent call last):\n  File \"/"), "{traceback}");
    assert!(traceback.contains("    raise TypeError(\"the sky is falling\")\n"), "{traceback}");
}

#[tokio::test]
async fn an_exception_past_the_library_is_a_trap_with_its_traceback() {
    let lab = Lab::new();
    for language in INTERPRETERS {
        let record = language.does(&lab, json!({ "do": "throw-past-the-library" }), 1).await;
        assert_eq!(record.code(), ErrorCode::Trap);
        let said = told(&record, "stderr");
        assert!(said.contains("the sky is falling"), "{said}");
        assert!(said.matches("climb").count() >= 4, "{said}");
    }
}

#[tokio::test]
async fn a_failure_of_the_agents_own_is_told_as_it_is() {
    let lab = Lab::new();
    for language in LANGUAGES {
        let record = language.does(&lab, json!({ "do": "fail" }), 1).await;
        assert_eq!(record.code(), ErrorCode::AgentFailure);
        assert_eq!(record.error().message, "the agent was told to");
        let details = record.error().details.as_ref().unwrap().to_value();
        assert_eq!(details, json!({ "deed": "fail" }));
    }
    for language in INTERPRETERS {
        let record = language.does(&lab, json!({ "do": "tool-error" }), 1).await;
        assert_eq!(record.code(), ErrorCode::AgentFailure);
        let words = "there is no file `there is none`";
        assert_eq!(record.error().message, format!("`files.read` failed: {words}"));
        let details = record.error().details.as_ref().unwrap().to_value();
        assert_eq!(details, json!({ "tool": "files.read", "code": "failed", "message": words }));
    }
}

#[tokio::test]
async fn all_are_held_to_what_their_manifests_declare() {
    let lab = Lab::new();
    for language in LANGUAGES {
        for deed in ["wrong-type", "wrong-schema"] {
            let record = language.does(&lab, json!({ "do": deed }), 1).await;
            assert_eq!(record.code(), ErrorCode::InvalidOutput, "{} {deed}", language.misbehave);
        }
    }
}

#[tokio::test]
async fn endless_recursion_ends() {
    let lab = Lab::new();
    let recursion = || json!({ "do": "recursion" });
    let record = PYTHON.does(&lab, recursion(), 1).await;
    assert_eq!(record.code(), ErrorCode::AgentFailure);
    assert_eq!(record.error().message, "RecursionError: maximum recursion depth exceeded");
    let traceback = told(&record, "traceback");
    assert!(traceback.lines().count() < 150, "{traceback}");

    // The record of a stack overflow replays to the same end, which `does` has seen.
    let record = JAVASCRIPT.does(&lab, recursion(), 1).await;
    assert_eq!(record.code(), ErrorCode::StackOverflow);
}

#[tokio::test]
async fn who_runs_out_of_memory_says_where() {
    let lab = Lab::new();
    for (language, word) in [(PYTHON, "MemoryError"), (JAVASCRIPT, "out of memory")] {
        let start = lab.run(&guest(language.misbehave), json!({ "do": "memory" }));
        let record = start.limits(|limits| limits.memory_bytes = 64 << 20).ends().await;
        assert_eq!(record.code(), ErrorCode::OutOfMemory);
        let said = told(&record, "stderr");
        assert!(said.contains(word) && said.contains("agent."), "{said}");
        lab.proves(&record).await;
    }
}

#[test]
fn what_is_up_to_date_is_not_built_again() {
    for language in INTERPRETERS {
        // Neither toolchain makes the same bytes twice.
        let before = guest(language.research);
        let project = build::load(&guest_folder(language.research)).unwrap();
        let again = project.build(BuildOutput::Discard).unwrap();
        assert!(again[..] == before.bytes[..], "{} was built again", language.research);
    }
}

#[test]
fn a_toolchain_that_is_missing_is_named() {
    for (language, program) in [("python", "Python 3"), ("javascript", "Node.js")] {
        let script = root().join("guest-libraries").join(language).join("build.sh");
        let nothing = tempfile::tempdir().unwrap();
        let mut build = Command::new("/bin/sh");
        let build = build.arg(script).env("PATH", nothing.path()).current_dir(nothing.path());
        let output = build.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("this agent needs {program}")), "{said}");
    }
}

#[test]
fn the_command_line_shows_a_traceback_line_by_line() {
    let home = Home::new();
    let file = home.path().join("misbehave.wasm");
    fs::write(&file, &guest(JAVASCRIPT.misbehave).bytes).unwrap();
    let file = file.to_str().unwrap();
    for deed in ["throw", "throw-past-the-library"] {
        let input = json!({ "do": deed }).to_string();
        let said = home.fails(3, &["run", file, "--input", &input]);
        let calls = said.lines().filter(|line| line.contains("  at climb (/"));
        assert!(calls.count() >= 4, "{said}");
    }
    assert_eq!(home.json(&["runs", "--json"]).as_array().unwrap().len(), 2);
}

/// The limits of an agent in an interpreter are the defaults, unless it asks.
#[test]
fn interpreters_ask_for_no_more_than_the_defaults() {
    for language in INTERPRETERS {
        assert_eq!(guest(language.misbehave).manifest.limits, SomeLimits::default());
    }
}

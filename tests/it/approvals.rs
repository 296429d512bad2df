//! Calls that a person decides about: asked durably, decided from anywhere,
//! recorded, and never made twice.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, pending};
use reenact::journal::{Approval, Body, Encoded, Entry, verify_all};
use reenact::json::Json;
use reenact::runtime::{Control, Fault, Halt};
use reenact::tools::{Approver, Decided, Question, Reply};
use serde_json::{Value, json};

use crate::library::Library;
use crate::support::{Home, Lab, Record, Start, guest};

/// A person of the tests': says the same to all, and remembers what was asked.
struct Person {
    says: Option<Reply>,
    asked: Mutex<Vec<Question>>,
}

impl Person {
    fn who_says(decision: Approval) -> Arc<Self> {
        Self::who(Some(Reply::Decided(Decided { decision, by: "ada".to_owned() })))
    }

    /// `None` never answers.
    fn who(says: Option<Reply>) -> Arc<Self> {
        Arc::new(Self { says, asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<Question> {
        self.asked.lock().unwrap().clone()
    }
}

impl Approver for Person {
    fn ask(&self, question: Question) -> BoxFuture<'static, Reply> {
        self.asked.lock().unwrap().push(question);
        match self.says.clone() {
            Some(reply) => async { reply }.boxed(),
            None => pending().boxed(),
        }
    }
}

fn ask_about_lists() -> Value {
    json!([{ "tool": "files.list", "action": "ask" }])
}

/// A guest that lists files once, and tells how that went.
fn one_call<'a>(lab: &'a Lab, library: &Arc<Library>, person: &Arc<Person>) -> Start<'a> {
    let start = lab.run(&guest("hostile"), json!({ "do": "tool-calls", "n": 1 }));
    let start = start.provider("files", library.clone()).rules(ask_about_lists());
    start.approver(person.clone())
}

/// The kinds of a run's entries, but the first and the last.
fn kinds(journal: &[Encoded]) -> Vec<&'static str> {
    let kind = |entry: &Entry| match entry.body {
        Body::ToolCalled(_) => Some("called"),
        Body::ApprovalAsked(_) => Some("asked"),
        Body::ApprovalAnswered(_) => Some("decided"),
        Body::ToolAnswered(_) => Some("answered"),
        _ => None,
    };
    verify_all(journal).unwrap().iter().filter_map(kind).collect()
}

async fn decided(decision: Approval) -> (Record, Vec<String>, Vec<Question>) {
    let (lab, library, person) = (Lab::new(), Library::of_deeds(), Person::who_says(decision));
    let record = one_call(&lab, &library, &person).ends().await;
    assert_eq!(kinds(&record.journal), ["called", "asked", "decided", "answered"]);
    lab.proves(&record).await;
    (record, library.asked(), person.asked())
}

#[tokio::test]
async fn an_approved_call_is_made() {
    let (record, made, asked) = decided(Approval::Approved).await;
    assert_eq!(record.json()["answers"], 1);
    assert_eq!(made, [r#"files.list {"path":""}"#]);
    assert_eq!((asked[0].tool.as_str(), asked[0].call), ("files.list", 0));
    assert_eq!(asked[0].arguments.as_str(), r#"{"path":""}"#);
}

#[tokio::test]
async fn a_call_is_made_with_the_arguments_that_a_person_gave() {
    let arguments = Json::parse(r#"{"path":"safe"}"#).unwrap();
    let (record, made, _) = decided(Approval::Edited(arguments)).await;
    assert_eq!(record.json()["answers"], 1);
    assert_eq!(made, [r#"files.list {"path":"safe"}"#]);
}

#[tokio::test]
async fn a_denied_call_is_not_made_and_the_agent_is_told_why() {
    let (record, made, _) = decided(Approval::Denied("not on a Friday".to_owned())).await;
    let error = &record.json()["last_error"];
    assert_eq!(error["code"], "denied");
    assert_eq!(error["message"], "a person denied the call of `files.list`: not on a Friday");
    assert!(made.is_empty());
}

#[tokio::test]
async fn a_call_that_nobody_decides_about_is_denied_in_time() {
    let (lab, library, person) = (Lab::new(), Library::of_deeds(), Person::who(None));
    let start = lab.run(&guest("hostile"), json!({ "do": "tool-calls", "n": 1 }));
    let rules = json!([{ "tool": "files.*", "action": "ask", "timeout_ms": 50 }]);
    let start = start.provider("files", library.clone()).rules(rules);
    // The time of people does not count as the run's.
    let start = start.limits(|limits| limits.deadline_ms = 40).approver(person);
    let record = start.ends().await;
    let message = &record.json()["last_error"]["message"];
    assert_eq!(message, "nobody approved the call of `files.list` in time");
    assert!(library.asked().is_empty());
    lab.proves(&record).await;
}

#[tokio::test]
async fn without_anybody_to_ask_a_call_is_denied() {
    let (lab, library) = (Lab::new(), Library::new());
    let start = lab.run(&guest("hostile"), json!({ "do": "tool-calls", "n": 1 }));
    let record = start.provider("files", library).rules(ask_about_lists()).ends().await;
    let message = record.json()["last_error"]["message"].to_string();
    assert!(message.contains("there is nobody to ask"), "{message}");
    lab.proves(&record).await;
}

#[tokio::test]
async fn a_run_that_waits_for_a_person_can_be_cancelled() {
    let (lab, library, person) = (Lab::new(), Library::new(), Person::who(None));
    let start = one_call(&lab, &library, &person).at_start(|canceller| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            canceller.cancel();
        });
    });
    let record = start.ends().await;
    assert_eq!(record.code(), reenact::journal::ErrorCode::Cancelled);
    assert_eq!(kinds(&record.journal), ["called", "asked"]);
    lab.proves(&record).await;
}

#[tokio::test]
async fn rules_hold_calls_to_their_arguments() {
    let (lab, library) = (Lab::new(), Library::new());
    let rules = json!([
        { "tool": "files.search", "action": "allow", "when": { "properties": { "query": { "const": "fuel" } } } },
    ]);
    for (topic, is_allowed) in [("fuel", true), ("clock", false)] {
        let start = lab.run(&guest("research"), json!({ "topic": topic }));
        let start = start.provider("files", library.clone()).rules(rules.clone());
        let record = start.ends().await;
        let refused = format!("{:?}", record.entries());
        assert_eq!(!refused.contains("no rule of the operator's policy"), is_allowed, "{refused}");
        lab.proves(&record).await;
    }
}

#[tokio::test]
async fn what_the_policy_forbids_is_not_granted() {
    let lab = Lab::new();
    let start = lab.run(&guest("hostile"), json!({ "do": "tool-calls", "n": 1 }));
    let rules = json!([{ "tool": "files.list", "action": "deny" }]);
    let start = start.provider("files", Library::new()).rules(rules);
    assert!(start.tools().granted().iter().all(|tool| tool.name != "files.list"));
    let record = start.ends().await;
    let message = &record.json()["last_error"]["message"];
    assert_eq!(message, "the operator's policy denies `files.list`");
}

/// A run left at its question, and what it takes to go on with it.
async fn left(lab: &Lab) -> Vec<Encoded> {
    let (library, person) = (Library::of_deeds(), Person::who(Some(Reply::Leave)));
    let start = one_call(lab, &library, &person);
    let prepared = lab.prepare(&guest("hostile"));
    let tools = start.tools();
    let limits = reenact::revision::Limits::DEFAULT;
    let input = json!({ "do": "tool-calls", "n": 1 }).to_string();
    let plan = reenact::runtime::NewRun::plan(&prepared, &input, limits, &tools).unwrap();
    let (_canceller, control) = Control::live(plan.at, limits.deadline_ms);
    let (journal, ran) = lab.goes_as_far(&prepared, vec![plan.first], tools, control).await;
    assert!(matches!(ran, Err(Fault::Journal(Halt::Parked(_)))), "{ran:?}");
    assert_eq!(kinds(&journal), ["called", "asked"]);
    assert!(library.asked().is_empty());
    journal
}

async fn goes_on(lab: &Lab, journal: &[Encoded], says: Approval) -> (Record, Vec<String>) {
    let (library, person) = (Library::of_deeds(), Person::who_says(says));
    let tools = one_call(lab, &library, &person).tools();
    let (_canceller, control) = Control::live(reenact::runtime::now(), 60_000);
    let prepared = lab.prepare(&guest("hostile"));
    let record = lab.goes_on(&prepared, journal.to_vec(), tools, control).await;
    assert_eq!(&record.journal[..journal.len()], journal);
    lab.proves(&record).await;
    (record, library.asked())
}

#[tokio::test]
async fn a_run_that_was_left_at_its_question_goes_on_when_it_is_decided() {
    let lab = Lab::new();
    let journal = left(&lab).await;
    // It is no end: a replay proves the record as far as it goes.
    assert!(lab.replay_entries(&guest("hostile"), journal.clone()).await.is_proof());
    let (record, made) = goes_on(&lab, &journal, Approval::Approved).await;
    assert_eq!(kinds(&record.journal), ["called", "asked", "decided", "answered"]);
    assert_eq!((record.json()["answers"].as_u64(), made.len()), (Some(1), 1));
    let (record, made) = goes_on(&lab, &journal, Approval::Denied(String::new())).await;
    assert_eq!((record.json()["errors"].as_u64(), made.len()), (Some(1), 0));
}

#[tokio::test]
async fn a_call_that_was_approved_before_a_crash_is_not_made_twice() {
    let lab = Lab::new();
    let (whole, _) = goes_on(&lab, &left(&lab).await, Approval::Approved).await;
    let decided = whole.journal.iter().position(|entry| {
        let entry: Entry = serde_json::from_slice(&entry.bytes).unwrap();
        matches!(entry.body, Body::ApprovalAnswered(_))
    });
    let (record, made) =
        goes_on(&lab, &whole.journal[..=decided.unwrap()], Approval::Approved).await;
    assert!(made.is_empty(), "it may have been made before the crash");
    assert_eq!(record.json()["last_error"]["code"], "interrupted");
    // Before the question was durable, nothing was made: it is asked again.
    let (record, made) =
        goes_on(&lab, &whole.journal[..decided.unwrap() - 1], Approval::Approved).await;
    assert_eq!((record.json()["answers"].as_u64(), made.len()), (Some(1), 1));
}

/// A home whose configuration asks about `files.list`, with the hostile guest.
pub fn home_that_asks() -> Home {
    let home = Home::new();
    let docs = home.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("a.md"), "text").unwrap();
    let config = format!(
        "[grants.files]\nroot = '{}'\n\n[[policy]]\ntool = 'files.list'\naction = 'ask'\n",
        docs.display()
    );
    std::fs::write(home.path().join("reenact.toml"), config).unwrap();
    home.publishes(&guest("hostile"));
    home
}

pub const RUN: [&str; 4] = ["run", "hostile", "--input", r#"{"do":"tool-calls","n":1}"#];

/// Runs up to the question, and answers the run's id.
fn paused(home: &Home) -> String {
    let said = home.fails(5, &[&RUN[..], &["--on-ask", "leave"]].concat());
    assert!(said.contains("waits for an approval"), "{said}");
    let runs = home.json(&["runs", "--json"]);
    runs[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_run_is_left_shown_approved_and_goes_on() {
    let home = home_that_asks();
    let run = paused(&home);
    assert!(home.ok(&["runs"]).contains("running (needs approval)"));
    let shown = home.ok(&["show", &run]);
    assert!(shown.contains("approval needed: the agent wants to call files.list"), "{shown}");
    let waiting = home.json(&["approve", &run, "--list", "--json"]);
    assert_eq!((&waiting[0]["tool"], &waiting[0]["call"]), (&json!("files.list"), &json!(0)));

    let done = home.json(&["approve", &run, "--json"]);
    assert_eq!(done["resultData"]["result"]["answers"], 1);
    home.exports_and_replays_offline(&run);
    let said = home.fails(1, &["approve", &run]);
    assert!(said.contains("waits for no approval"), "{said}");
}

#[test]
fn a_run_is_denied_or_approved_with_other_arguments() {
    let home = home_that_asks();
    let denied = home.json(&["approve", &paused(&home), "--deny", "too late", "--json"]);
    let error = &denied["resultData"]["result"]["last_error"];
    assert_eq!(error["message"], "a person denied the call of `files.list`: too late");
    let edit = ["--arguments", r#"{"path":"none"}"#, "--json"];
    let edited = home.json(&[&["approve", &paused(&home)][..], &edit].concat());
    let error = edited["resultData"]["result"]["last_error"]["message"].as_str().unwrap();
    assert!(error.contains("none"), "{error}");
    let run = paused(&home);
    let said = home.fails(1, &["approve", &run, "--arguments", "{"]);
    assert!(said.contains("cannot use `--arguments`"), "{said}");
    let said = home.fails(1, &["approve", &run, "--call", "7"]);
    assert!(said.contains("call 7") && said.contains("these wait: 0"), "{said}");
}

#[test]
fn a_decision_reaches_the_process_that_waits() {
    let home = home_that_asks();
    let mut command = home.command(&[&RUN[..], &["--json", "--events", "none"]].concat());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    let run = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        let runs = home.json(&["runs", "--json"]);
        let run = runs[0]["id"].as_str()?.to_owned();
        let waiting = home.json(&["approve", &run, "--list", "--json"]);
        (waiting != json!([])).then_some(run)
    });
    let said = home.says(&["approve", &run.unwrap()]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stderr.contains("the process that holds the run goes on"), "{said:#?}");
    let output = child.wait_with_output().unwrap();
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["resultData"]["result"]["answers"], 1);
}

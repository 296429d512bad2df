//! A new run shares the beginning of another one, does none of it again, and goes
//! its own way from there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reenact::journal::{
    Action, Answer, Approval, Body, Chain, Encoded, Entry, ErrorCode, Fork, Outcome, Started,
    ToolErrorCode, verify_all,
};
use reenact::json::Json;
use reenact::revision::{Limits, Revision};
use reenact::runtime::{
    Control, DurableRun, ForkError, ForkPlan, ForkWish, Journal, Memory, Ran, now,
};
use reenact::storage::{RunStatus, Storage};
use reenact::tools::{
    Approver, CallContext, Decided, Provider, Question, Reply, RunTools, Success, ToolError,
    ToolSpec,
};
use serde_json::{Value, json};

use crate::library::Library;
use crate::scripted_model::{ScriptedModel, text};
use crate::support::{Home, Lab, Record, Start, guest, put, resealed};
use crate::{approvals, golden, hosts, wat};

/// What a parent and its forks have in common.
struct Story {
    lab: Lab,
    revision: Arc<Revision>,
    input: Value,
}

fn at(at: u64) -> ForkWish {
    ForkWish { at, set_result: None }
}

fn with_result(seq: u64, result: Value) -> ForkWish {
    ForkWish { set_result: Some(Json::from_value(&result)), ..at(seq) }
}

impl Story {
    fn of(revision: Arc<Revision>, input: Value) -> Self {
        Self { lab: Lab::new(), revision, input }
    }

    fn start(&self, files: Arc<dyn Provider>) -> Start<'_> {
        self.lab.run(&self.revision, self.input.clone()).provider("files", files)
    }

    async fn runs(&self, library: &Arc<Library>) -> Record {
        self.start(library.clone()).ends().await
    }

    async fn plans(
        &self,
        revision: &Arc<Revision>,
        parent: &[Encoded],
        wish: ForkWish,
        tools: &RunTools,
    ) -> Result<ForkPlan, ForkError> {
        let limits = Limits::effective(&revision.manifest.limits, &Default::default());
        let prepared = self.lab.prepare(revision);
        self.lab.executor.plan_fork(&prepared, parent, wish, limits, tools).await
    }

    /// Plans a fork and executes it, with a process that nobody kills.
    async fn forks(&self, parent: &[Encoded], wish: ForkWish, start: Start<'_>) -> Record {
        let tools = start.tools();
        let plan = self.plans(&self.revision, parent, wish, &tools).await.unwrap();
        self.goes_on(&plan, tools).await
    }

    async fn goes_on(&self, plan: &ForkPlan, tools: RunTools) -> Record {
        let (journal, ran) = self.goes_as_far(plan, tools).await;
        let record = Record { revision: Arc::clone(&self.revision), journal, ran: ran.unwrap() };
        self.lab.proves(&record).await;
        record
    }

    async fn goes_as_far(
        &self,
        plan: &ForkPlan,
        tools: RunTools,
    ) -> (Vec<Encoded>, Result<Ran, reenact::runtime::Fault>) {
        let memory = Memory::default();
        let journal = Journal::untouched(plan.entries.clone(), Box::new(memory.clone()));
        let (_canceller, control) = Control::live(now(), 60_000);
        let prepared = self.lab.prepare(&self.revision);
        let ran = self.lab.executor.execute(&prepared, journal, Some(tools), control).await;
        ([plan.entries.clone(), memory.entries()].concat(), ran)
    }

    async fn refuses(&self, parent: &[Encoded], wish: ForkWish) -> ForkError {
        let tools = self.start(Library::new()).tools();
        self.plans(&self.revision, parent, wish, &tools).await.expect_err("it was planned")
    }
}

fn started(record: &Record) -> Started {
    match &record.entries()[0].body {
        Body::Started(started) => (**started).clone(),
        other => panic!("{other:?}"),
    }
}

fn fork_of(record: &Record) -> Fork {
    started(record).fork.expect("a fork")
}

fn is_answer(entry: &&Entry) -> bool {
    matches!(entry.body, Body::ToolAnswered(_))
}

/// Number of the last answer of a run.
fn last_answer(record: &Record) -> u64 {
    record.entries().iter().rfind(is_answer).expect("an answer").seq
}

/// Forks a run after each of its entries.
async fn forks_anywhere(story: Story) {
    let library = Library::new();
    let parent = story.runs(&library).await;
    let entries = parent.entries();
    let end = entries.len() as u64 - 1;
    for cut in 0..end {
        let again = Library::new();
        let fork = story.forks(&parent.journal, at(cut), story.start(again.clone())).await;
        assert_eq!(fork.ran.ended.outcome, parent.ran.ended.outcome, "fork at {cut}");
        assert_eq!(fork.ran.fuel, parent.ran.fuel, "fork at {cut}");
        let shared = cut as usize + 1;
        assert_eq!(fork.entries()[1..shared], entries[1..shared], "fork at {cut}");

        let answered = entries[..shared].iter().filter(is_answer).count();
        let asked = again.asked();
        assert_eq!(asked.len(), library.asked().len() - answered, "fork at {cut}: {asked:?}");

        let link = fork_of(&fork);
        assert_eq!((link.run, link.at), (started(&parent).run, cut));
        assert_eq!((link.head, link.shared), (parent.journal[cut as usize].hash, cut + 1));
        assert_ne!(started(&fork).run, started(&parent).run);
        assert_eq!(fork.entries()[0].at, entries[0].at, "its clock begins with the parent's");
        assert!(fork.entries()[shared].at >= link.made_at, "what is live is of now");
    }
}

#[tokio::test]
async fn a_fork_shares_the_beginning_and_does_the_rest_itself() {
    forks_anywhere(Story::of(guest("research"), json!({ "topic": "fuel" }))).await;
}

#[tokio::test]
async fn a_fork_may_begin_within_a_span_or_a_print() {
    forks_anywhere(Story::of(guest("word-count"), json!({ "path": "long.txt" }))).await;
    forks_anywhere(Story::of(guest("hostile"), json!({ "do": "stdout", "n": 3 }))).await;
}

#[tokio::test]
async fn an_agent_in_an_interpreter_is_forked_too() {
    forks_anywhere(Story::of(guest("research-javascript"), json!({ "topic": "fuel" }))).await;
}

/// The calls that had no answer by then are the fork's: it makes them, even those
/// that may not be repeated, because it has never made them before.
#[tokio::test]
async fn calls_without_an_answer_are_made_by_the_fork() {
    for deed in ["tool-calls", "calls-at-once"] {
        let story = Story::of(guest("hostile"), json!({ "do": deed, "n": 3 }));
        let parent = story.runs(&Library::of_deeds()).await;
        for cut in 0..parent.journal.len() as u64 - 1 {
            let library = Library::of_deeds();
            let fork = story.forks(&parent.journal, at(cut), story.start(library.clone())).await;
            let answered = parent.entries()[..=cut as usize].iter().filter(is_answer).count();
            assert_eq!(library.asked().len(), 3 - answered, "{deed}, fork at {cut}");
            assert_eq!(fork.json()["answers"], 3, "{deed}, fork at {cut}");
        }
    }
}

/// Once it has been gone on with, a fork is a run like any other.
#[tokio::test]
async fn a_fork_that_was_killed_does_not_make_a_call_twice() {
    let story = Story::of(guest("hostile"), json!({ "do": "tool-calls", "n": 2 }));
    let parent = story.runs(&Library::of_deeds()).await;
    let library = Library::of_deeds();
    let tools = story.start(library.clone()).tools();
    let plan = story.plans(&story.revision, &parent.journal, at(3), &tools).await.unwrap();
    let called = plan.entries.clone();
    assert!(matches!(verify_all(&called).unwrap()[3].body, Body::ToolCalled(_)));
    let (_canceller, control) = Control::live(now(), 60_000);
    let prepared = story.lab.prepare(&story.revision);
    let record = story.lab.goes_on(&prepared, called, tools, control).await;
    assert_eq!(record.json()["last_error"]["code"], "interrupted");
    assert!(library.asked().is_empty());
}

/// A provider that tells the idempotency key of each call.
#[derive(Default)]
struct Keys(Mutex<Vec<String>>);

impl Provider for Keys {
    fn tools(&self) -> Vec<ToolSpec> {
        let spec = ToolSpec {
            name: "files.list".to_owned(),
            description: String::new(),
            parameters: json!({}),
            read_only: false,
            idempotent: true,
        };
        vec![spec]
    }

    fn call(
        &self,
        _: &str,
        _: Value,
        context: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        self.0.lock().unwrap().push(context.key);
        async { hosts::success(json!([])) }.boxed()
    }
}

#[tokio::test]
async fn the_calls_of_a_fork_are_no_repeats_of_its_parents() {
    let story = Story::of(guest("hostile"), json!({ "do": "tool-calls", "n": 2 }));
    let keys = Arc::new(Keys::default());
    let parent = story.start(keys.clone()).ends().await;
    let fork = story.forks(&parent.journal, at(1), story.start(keys.clone())).await;
    let [parent, fork] = [&parent, &fork].map(|record| started(record).run);
    let expected =
        [format!("{parent}/0"), format!("{parent}/1"), format!("{fork}/0"), format!("{fork}/1")];
    assert_eq!(*keys.0.lock().unwrap(), expected);
}

/// What the guest can see of its run must not change within the shared beginning.
#[tokio::test]
async fn a_guest_sees_the_id_that_it_saw_in_the_beginning() {
    let tells = "(call $current (i32.const 320))
        (call $print (i32.load (i32.const 320)) (i32.load (i32.const 324)))";
    let story = Story::of(wat::does(tells), json!({}));
    let parent = story.runs(&Library::new()).await;
    let run = started(&parent).run;
    let told = |record: &Record| format!("{:?}", record.entries()[1]).contains(&run);
    assert!(told(&parent));
    let fork = story.forks(&parent.journal, at(0), story.start(Library::new())).await;
    let of_fork = story.forks(&fork.journal, at(1), story.start(Library::new())).await;
    assert!(told(&fork) && told(&of_fork));
    let link = fork_of(&of_fork);
    assert_eq!((link.run, link.seen_as), (started(&fork).run, run));
}

#[tokio::test]
async fn a_fork_of_a_fork_is_a_fork() {
    let story = Story::of(guest("research"), json!({ "topic": "fuel" }));
    let library = Library::new();
    let parent = story.runs(&library).await;
    let child = story.forks(&parent.journal, at(3), story.start(Library::new())).await;
    let last = Library::new();
    let grandchild = last_answer(&child);
    let grandchild = story.forks(&child.journal, at(grandchild), story.start(last.clone())).await;
    assert_eq!(grandchild.ran.ended.outcome, parent.ran.ended.outcome);
    assert!(last.asked().is_empty(), "all answers are shared");
    assert_eq!(fork_of(&grandchild).run, started(&child).run);
}

#[tokio::test]
async fn a_result_that_is_set_is_what_the_agent_gets() {
    let story = Story::of(
        guest("hostile"),
        json!({ "do": "calls", "text": "files.list {\"path\":\"\"}\nfiles.search {\"query\":\"fuel\"}" }),
    );
    let parent = story.runs(&Library::new()).await;
    let Body::ToolAnswered(first) = &parent.entries()[2].body else { panic!() };
    assert!(first.usage.is_some(), "it was paid for");
    let library = Library::new();
    let wish = with_result(2, json!({ "entries": ["set.md"] }));
    let fork = story.forks(&parent.journal, wish, story.start(library.clone())).await;
    assert_eq!(fork.json()["calls"][0]["ok"]["entries"], json!(["set.md"]));
    assert_eq!(fork.json()["calls"][1], parent.json()["calls"][1]);
    assert_eq!(library.asked().len(), 1);

    // The record is honest about it.
    assert!(fork_of(&fork).set_result && fork_of(&fork).at == 2);
    let Body::ToolAnswered(set) = &fork.entries()[2].body else { panic!() };
    assert_eq!((set.usage, set.attempts.len()), (None, 0));
    let unset = story.forks(&parent.journal, at(2), story.start(Library::new())).await;
    assert!(!fork_of(&unset).set_result);
}

#[tokio::test]
async fn an_error_of_a_tool_can_be_replaced_by_a_result() {
    let story = Story::of(guest("word-count"), json!({ "path": "none.txt" }));
    let parent = story.runs(&Library::new()).await;
    assert_eq!(parent.code(), ErrorCode::AgentFailure);
    let wish = with_result(2, json!({ "text": "two words", "size": 9, "truncated": false }));
    let fork = story.forks(&parent.journal, wish, story.start(Library::new())).await;
    assert_eq!(fork.json()["words"], 2);
}

/// The answers of a batch arrive in any order; each of them can be set.
#[tokio::test]
async fn a_result_is_set_in_the_middle_of_a_batch() {
    let story = Story::of(guest("research"), json!({ "topic": "fuel" }));
    let parent = story.runs(&Library::new()).await;
    let answers: Vec<u64> = parent.entries().iter().filter(is_answer).map(|e| e.seq).collect();
    assert_eq!(answers.len(), 4, "a search and three files");
    let page = json!({ "text": "Fuel, set by hand.", "size": 18, "truncated": false });
    for (index, seq) in answers.iter().enumerate().skip(1) {
        let library = Library::new();
        let wish = with_result(*seq, page.clone());
        let fork = story.forks(&parent.journal, wish, story.start(library.clone())).await;
        assert_eq!(library.asked().len(), answers.len() - index - 1);
        let text = format!("{:?}", fork.ran.ended.outcome);
        assert!(text.contains("Fuel, set by hand."), "{text}");
    }
}

#[tokio::test]
async fn what_cannot_be_shared_is_refused() {
    let story = Story::of(guest("word-count"), json!({ "path": "a.md" }));
    let parent = story.runs(&Library::new()).await;
    let end = parent.journal.len() as u64 - 1;
    let says = |error: &ForkError| (error.to_string(), error.hint().unwrap_or_default());
    let run = started(&parent).run;

    let (error, hint) = says(&story.refuses(&parent.journal, at(40)).await);
    assert_eq!(error, format!("run {run} has no entry 40: its journal goes up to entry {end}"));
    assert_eq!(hint, format!("`reenact show {run}` tells the numbers of its entries"));
    let (error, _) = says(&story.refuses(&parent.journal, at(u64::MAX)).await);
    assert!(error.contains("has no entry"), "{error}");

    let (error, hint) = says(&story.refuses(&parent.journal, at(end)).await);
    assert_eq!(error, format!("entry {end} is the end of run {run}, which a fork cannot share"));
    assert_eq!(hint, format!("the last entry that can be shared is {}", end - 1));

    let answer = last_answer(&parent);
    let wish = with_result(answer + 1, json!(1));
    let (error, hint) = says(&story.refuses(&parent.journal, wish).await);
    let expected =
        format!("entry {} is no answer of a tool, so there is no result to set", answer + 1);
    assert_eq!((error, hint), (expected, format!("the nearest answer is entry {answer}")));

    let wish = with_result(answer, json!("x".repeat(Limits::DEFAULT.answer_bytes as usize)));
    let error = story.refuses(&parent.journal, wish).await;
    assert!(matches!(error, ForkError::ResultTooLarge { .. }), "{error}");

    let mut damaged = parent.journal.clone();
    damaged[1].bytes[20] ^= 1;
    let error = story.refuses(&damaged, at(1)).await;
    assert!(matches!(&error, ForkError::Damaged(damage) if damage.index == 1), "{error}");
    let error = story.refuses(&[], at(0)).await;
    assert!(matches!(error, ForkError::Fault(_)), "{error}");
}

#[tokio::test]
async fn another_revision_goes_on_if_it_would_have_done_the_same() {
    let story = Story::of(guest("research"), json!({ "topic": "fuel" }));
    let parent = story.runs(&Library::new()).await;
    let fewer =
        resealed(&story.revision, |m| drop(m.config.insert("max_passages".into(), json!(0))));
    let tools = story.start(Library::new()).tools();
    let seq = last_answer(&parent);
    let plan = story.plans(&fewer, &parent.journal, at(seq), &tools).await.unwrap();
    assert_eq!(plan.started.revision, fewer.digest);
    let other = Story { revision: fewer, ..story };
    let fork = other.goes_on(&plan, tools).await;
    assert_ne!(fork.ran.ended.outcome, parent.ran.ended.outcome, "it quotes less");

    // One that would have read fewer files departs before that, and makes no run.
    let story = Story { revision: Arc::clone(&parent.revision), ..other };
    let narrow = resealed(&story.revision, |m| drop(m.config.insert("max_files".into(), json!(1))));
    let tools = story.start(Library::new()).tools();
    let error = story.plans(&narrow, &parent.journal, at(seq), &tools).await.unwrap_err();
    let ForkError::Diverged { divergence, .. } = &error else { panic!("{error}") };
    assert!(divergence.index < seq);
    let hint = error.hint().unwrap();
    assert_eq!(hint, "up to entry 0 it does the same: `--at 0`");
    let start = story.plans(&narrow, &parent.journal, at(0), &tools).await;
    assert!(start.is_ok(), "the very beginning can be shared by all");
}

#[tokio::test]
async fn another_revision_must_take_the_input_and_be_of_the_agent() {
    let story = Story::of(guest("word-count"), json!({ "path": "a.md" }));
    let parent = story.runs(&Library::new()).await;
    let tools = story.start(Library::new()).tools();
    let picky = resealed(&story.revision, |m| {
        m.input =
            serde_json::from_value(json!({ "type": "object", "required": ["file"] })).unwrap();
    });
    let error = story.plans(&picky, &parent.journal, at(0), &tools).await.unwrap_err();
    assert!(matches!(error, ForkError::Input(_)), "{error}");
    let error = story.plans(&guest("minimal"), &parent.journal, at(0), &tools).await.unwrap_err();
    assert!(
        error.to_string().ends_with("is one of agent `minimal`, the run is one of `word-count`")
    );
}

#[tokio::test]
async fn an_error_run_is_forked_under_other_limits() {
    let story = Story::of(guest("hostile"), json!({ "do": "tool-calls", "n": 5 }));
    let library = Library::new();
    let start = story.start(library.clone()).limits(|limits| limits.tool_calls = 3);
    let parent = start.ends().await;
    assert_eq!(parent.code(), ErrorCode::TooManyToolCalls);
    let seq = last_answer(&parent);
    let again = Library::new();
    let fork = story.forks(&parent.journal, at(seq), story.start(again.clone())).await;
    assert_eq!((&fork.json()["answers"], again.asked().len()), (&json!(5), 2));
}

#[tokio::test]
async fn a_run_that_has_not_ended_is_forked_where_its_record_ends() {
    let story = Story::of(guest("research"), json!({ "topic": "fuel" }));
    let whole = story.runs(&Library::new()).await;
    let so_far = &whole.journal[..6];
    let fork = story.forks(so_far, at(5), story.start(Library::new())).await;
    assert_eq!(fork.ran.ended.outcome, whole.ran.ended.outcome);
    let error = story.refuses(so_far, at(6)).await;
    assert!(matches!(error, ForkError::NoSuchEntry { last: 5, .. }), "{error}");
}

#[tokio::test]
async fn a_sleep_of_the_beginning_goes_on_to_its_own_end() {
    let story = Story::of(guest("hostile"), json!({ "do": "sleep", "n": 1 }));
    let parent = story.runs(&Library::new()).await;
    assert!(matches!(parent.entries()[1].body, Body::SleepStarted(_)));
    let begun = std::time::Instant::now();
    let fork = story.forks(&parent.journal, at(1), story.start(Library::new())).await;
    assert!(begun.elapsed() < Duration::from_millis(900), "that time has passed");
    assert!(fork.json()["elapsed_ms"].as_u64().unwrap() >= 1_000);
}

/// The operator may have thought again since the parent ran.
#[tokio::test]
async fn a_fork_may_call_only_what_is_granted_now() {
    let story = Story::of(
        guest("hostile"),
        json!({ "do": "calls", "text": "files.list {}\nfiles.search {\"query\":\"fuel\"}" }),
    );
    let parent = story.runs(&Library::new()).await;
    let nothing = story.lab.run(&story.revision, story.input.clone());
    let fork = story.forks(&parent.journal, at(2), nothing).await;
    assert_eq!(fork.json()["calls"][0], parent.json()["calls"][0], "that was answered before");
    assert_eq!(fork.json()["calls"][1]["code"], "denied");
    let denied = |tool: &reenact::journal::GrantedTool| tool.rules[0].action == Action::Deny;
    assert!(started(&fork).tools.iter().all(denied), "and the record says so");

    // Whoever resumes it later can grant nothing that was not granted when it began.
    let tools = story.lab.run(&story.revision, story.input.clone()).tools();
    let plan = story.plans(&story.revision, &parent.journal, at(2), &tools).await.unwrap();
    let library = Library::new();
    let later = story.goes_on(&plan, story.start(library.clone()).tools()).await;
    assert_eq!(later.json()["calls"][1]["code"], "denied");
    assert!(library.asked().is_empty());

    // Rules are those of now too.
    let rules =
        json!([{ "tool": "files.search", "action": "allow", "when": { "required": ["path"] } }]);
    let library = Library::new();
    let ruled = story.start(library.clone()).rules(rules);
    let fork = story.forks(&parent.journal, at(2), ruled).await;
    assert_eq!(fork.json()["calls"][1]["code"], "denied");
    assert!(library.asked().is_empty());
}

#[tokio::test]
async fn another_revision_gets_what_it_asks_for_and_is_granted() {
    let story = Story::of(guest("hostile"), json!({ "do": "tool-calls", "n": 1 }));
    let narrow = resealed(&story.revision, |m| m.tools = vec!["files.list".parse().unwrap()]);
    let story = Story { revision: narrow, ..story };
    let parent = story.runs(&Library::new()).await;
    let names = |started: &Started| -> Vec<String> {
        started.tools.iter().map(|tool| tool.name.clone()).collect()
    };
    assert_eq!(names(&started(&parent)), ["files.list"]);
    let wide = guest("hostile");
    let of_wide =
        Story { lab: Lab::new(), revision: Arc::clone(&wide), input: story.input.clone() };
    let tools = of_wide.start(Library::new()).tools();
    let plan = story.plans(&wide, &parent.journal, at(2), &tools).await.unwrap();
    assert_eq!(names(&plan.started), ["files.list", "files.read", "files.search"]);
    let back = of_wide.goes_on(&plan, tools).await;
    let tools = story.start(Library::new()).tools();
    let plan = story.plans(&story.revision, &back.journal, at(2), &tools).await.unwrap();
    assert_eq!(names(&plan.started), ["files.list"]);
}

/// Says yes, and counts.
#[derive(Default)]
struct Yes(Mutex<Vec<Question>>);

impl Approver for Yes {
    fn ask(&self, question: Question) -> BoxFuture<'static, Reply> {
        self.0.lock().unwrap().push(question);
        let decided = Decided { decision: Approval::Approved, by: "ada".to_owned() };
        async { Reply::Decided(decided) }.boxed()
    }
}

#[tokio::test]
async fn an_approval_of_the_parents_call_is_none_of_the_forks() {
    let story = Story::of(guest("hostile"), json!({ "do": "tool-calls", "n": 1 }));
    let rules = json!([{ "tool": "files.list", "action": "ask" }]);
    let start = |yes: &Arc<Yes>| {
        story.start(Library::of_deeds()).rules(rules.clone()).approver(yes.clone())
    };
    let parent = start(&Arc::default()).ends().await;
    let kinds = |record: &Record| {
        let kind = |entry: &Entry| {
            serde_json::to_value(&entry.body)
                .unwrap()
                .as_object()
                .unwrap()
                .keys()
                .next()
                .unwrap()
                .clone()
        };
        record.entries().iter().map(kind).collect::<Vec<_>>()
    };
    let whole =
        ["started", "tool_called", "approval_asked", "approval_answered", "tool_answered", "ended"];
    assert_eq!(kinds(&parent), whole);
    for seq in 0..4 {
        let yes = Arc::<Yes>::default();
        let fork = story.forks(&parent.journal, at(seq), start(&yes)).await;
        assert_eq!(kinds(&fork), whole, "fork at {seq}");
        let asked = yes.0.lock().unwrap();
        assert_eq!((asked.len(), &asked[0].run), (1, &started(&fork).run), "fork at {seq}");
        assert_eq!((fork_of(&fork).at, fork_of(&fork).shared), (seq, 1 + seq.min(1)));
    }
    let yes = Arc::<Yes>::default();
    story.forks(&parent.journal, at(4), start(&yes)).await;
    assert!(yes.0.lock().unwrap().is_empty(), "that call was answered");
}

/// A run of years ago, and its forks in a database of today.
#[tokio::test]
async fn the_deadline_of_a_fork_counts_from_when_it_goes_on() {
    let story = Story::of(guest("hostile"), json!({ "do": "tool-calls", "n": 2 }));
    let rules = json!([{ "tool": "files.list", "action": "ask" }]);
    let start = || story.start(Library::new()).rules(rules.clone()).approver(Arc::<Yes>::default());
    let parent = start().ends().await;
    let mut entries = parent.entries();
    // Somebody took an hour to decide.
    for (index, entry) in entries.iter_mut().enumerate() {
        entry.at = 1_600_000_000_000_000 + if index > 2 { 3_600_000_000 } else { 0 };
    }
    let mut chain = Chain::default();
    let old: Vec<Encoded> = entries.iter().map(|entry| chain.push(entry)).collect();
    let tools = start().tools();
    let plan = story.plans(&story.revision, &old, at(4), &tools).await.unwrap();
    assert_eq!(verify_all(&plan.entries).unwrap()[4].at, entries[4].at);

    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::open(&folder.path().join("reenact.db")).unwrap();
    let before = now();
    let run = DurableRun::create_fork(&storage, &plan, None).await.unwrap();
    let (_canceller, control) = run.control().unwrap();
    let prepared = story.lab.prepare(&story.revision);
    let limit = plan.started.limits.deadline_ms * 1_000;
    let ran = run.execute(&story.lab.executor, &prepared, tools, control.clone()).await.unwrap();
    assert!(matches!(ran.ended.outcome, Outcome::Done(_)));
    let deadline = control.deadline().unwrap();
    assert!(deadline >= before + limit && deadline < now() + limit + 60_000_000, "{deadline}");

    let row = storage.run_by_prefix(&plan.started.run).unwrap();
    assert_eq!((row.status, row.parent), (RunStatus::Done, Some(plan.parent())));
    assert_eq!(row.created_at, plan.made_at(), "the run is of today");
    assert_eq!(storage.forks_of(&started(&parent).run, 5).unwrap().len(), 1);
}

#[tokio::test]
async fn a_fork_can_wait_for_its_turn() {
    let story = Story::of(guest("hostile"), json!({ "do": "tool-calls", "n": 2 }));
    let parent = story.runs(&Library::of_deeds()).await;
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::open(&folder.path().join("reenact.db")).unwrap();
    let library = Library::of_deeds();
    let tools = story.start(library.clone()).tools();
    // At a call that has no answer, and may not be repeated.
    let plan = story.plans(&story.revision, &parent.journal, at(3), &tools).await.unwrap();
    DurableRun::submit_fork(&storage, &plan, None).await.unwrap();
    let row = storage.run_by_prefix(&plan.started.run).unwrap();
    assert_eq!((row.status, row.entries, row.fuel), (RunStatus::Pending, 4, plan.fuel));
    assert_eq!(storage.entries(&row.id).unwrap(), plan.entries);

    let run = DurableRun::resume(&storage, &row.id, None).await.unwrap();
    let (_canceller, control) = run.control().unwrap();
    let prepared = story.lab.prepare(&story.revision);
    let ran = run.execute(&story.lab.executor, &prepared, tools, control).await.unwrap();
    let Outcome::Done(output) = &ran.ended.outcome else { panic!("{ran:?}") };
    assert!(format!("{output:?}").contains("\"answers\":2"), "{output:?}");
    assert_eq!(library.asked().len(), 1);
    let twice = DurableRun::submit_fork(&storage, &plan, None).await;
    assert!(twice.is_err(), "a run is created once");
}

/// A fork held by a process that died before it went on is as careful as any run.
#[tokio::test]
async fn a_fork_that_a_process_began_to_go_on_with_is_resumed_with_care() {
    let story = Story::of(guest("hostile"), json!({ "do": "tool-calls", "n": 2 }));
    let parent = story.runs(&Library::of_deeds()).await;
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::open(&folder.path().join("reenact.db")).unwrap();
    let library = Library::of_deeds();
    let tools = story.start(library.clone()).tools();
    let plan = story.plans(&story.revision, &parent.journal, at(3), &tools).await.unwrap();
    DurableRun::submit_fork(&storage, &plan, None).await.unwrap();
    let id = &plan.started.run;
    let taken = storage.take_over(id, now(), 0, None).await.unwrap();
    assert!(taken.is_untouched());
    drop(taken);
    let run = DurableRun::resume(&storage, id, None).await.unwrap();
    let (_canceller, control) = run.control().unwrap();
    let prepared = story.lab.prepare(&story.revision);
    run.execute(&story.lab.executor, &prepared, tools, control).await.unwrap();
    let entries = verify_all(&storage.entries(id).unwrap()).unwrap();
    let Body::ToolAnswered(answered) = &entries[4].body else { panic!("{:?}", entries[4]) };
    let Answer::Error(error) = &answered.answer else { panic!("{answered:?}") };
    assert_eq!((error.code, library.asked().len()), (ToolErrorCode::Interrupted, 0));
}

/// A home with a granted folder and a run of the hostile guest that makes two calls.
fn home_with_a_run() -> (Home, String) {
    let home = Home::new();
    let docs = home.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("a.md"), "Fuel is counted.").unwrap();
    let config = format!("[grants.files]\nroot = '{}'\n", docs.display());
    std::fs::write(home.path().join("reenact.toml"), config).unwrap();
    home.publishes(&guest("hostile"));
    let input = json!({ "do": "calls", "text": "files.list {\"path\":\"\"}\nfiles.search {\"query\":\"fuel\"}" });
    let run = home.json(&["run", "hostile", "--input", &input.to_string(), "--json"]);
    (home, run["id"].as_str().unwrap().to_owned())
}

#[test]
fn a_run_is_forked_shown_exported_and_replayed() {
    let (home, run) = home_with_a_run();
    let said = home.says(&["fork", &run, "--at", "2"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let parting = format!("── up to here entry 2 of {run}; from here on live ──");
    let (shared, live) = said.stderr.split_once(&parting).unwrap_or_else(|| panic!("{said:#?}"));
    assert!(shared.contains("files.list") && live.contains("files.search"), "{said:#?}");

    let runs = home.json(&["runs", "--json"]);
    let fork = runs[0]["id"].as_str().unwrap();
    assert_eq!(runs[0]["forkedFrom"], json!({ "runId": run, "entry": 2 }));
    assert_eq!(runs[1]["forkedFrom"], Value::Null);
    let listed = home.ok(&["runs"]);
    assert!(listed.contains("FORKED FROM") && listed.contains(&format!("{run} at 2")), "{listed}");

    let shown = home.ok(&["show", fork]);
    assert!(shown.contains(&format!("forked from  {run} at entry 2")), "{shown}");
    let numbered = |line: &str| line.starts_with("    2 ") && line.contains("files.list");
    assert!(shown.lines().any(numbered) && shown.contains(&parting), "{shown}");
    assert!(home.ok(&["show", &run]).contains(&format!("{fork} at entry 2: done")));
    let document = home.json(&["show", fork, "--json"]);
    let parent = home.json(&["show", &run, "--json"]);
    assert_eq!(document["forkedFrom"]["runId"], run);
    assert_eq!(document["forkedFrom"]["setResult"], false);
    assert_eq!(document["resultData"], parent["resultData"]);
    assert_eq!(document["entryList"][2]["body"], parent["entryList"][2]["body"]);
    assert_eq!((&parent["forks"], &document["forks"]), (&json!([fork]), &json!([])));
    assert!(document["createdAt"].as_str() > parent["createdAt"].as_str());

    assert!(home.ok(&["replay", fork]).contains("came out the same"));
    home.exports_and_replays_offline(fork);
}

#[test]
fn a_result_is_set_on_the_command_line() {
    let (home, run) = home_with_a_run();
    let set = ["fork", &run, "--at", "2", "--set-result", r#"{"entries":["set.md"]}"#];
    let fork = home.json(&[&set[..], &["--json"]].concat());
    assert_eq!(fork["resultData"]["result"]["calls"][0]["ok"]["entries"], json!(["set.md"]));
    assert_eq!(fork["forkedFrom"]["setResult"], true);
    let shown = home.ok(&["show", fork["id"].as_str().unwrap()]);
    assert!(shown.contains("at entry 2, whose result was set by hand"), "{shown}");

    let said = home.fails(1, &["fork", &run, "--at", "1", "--set-result", "1"]);
    assert!(said.contains("entry 1 is no answer of a tool"), "{said}");
    assert!(said.contains("hint: the nearest answer is entry 2"), "{said}");
    let said = home.fails(1, &["fork", &run, "--at", "3", "--set-result", "1"]);
    assert!(said.contains("hint: the nearest answers are entries 2 and 4"), "{said}");
    let said = home.fails(1, &["fork", &run, "--at", "2", "--set-result", "{"]);
    assert!(said.contains("cannot use `--set-result`"), "{said}");
    let said = home.fails(1, &["fork", &run, "--at", "99"]);
    assert!(said.contains("its journal goes up to entry 5"), "{said}");
    home.fails(2, &["fork", &run]);
    assert_eq!(
        home.json(&["runs", "--json"]).as_array().unwrap().len(),
        2,
        "refusals leave nothing"
    );
}

#[test]
fn another_revision_goes_on_or_is_refused_with_the_difference() {
    let home = Home::new();
    home.publishes(&guest("research"));
    let grant = ["--grant", "files=docs"];
    let run = ["run", "research", "--input", r#"{"topic":"fuel"}"#, "--json"];
    let run = home.json(&[&run[..], &grant].concat());
    let run = run["id"].as_str().unwrap();
    let narrow =
        resealed(&guest("research"), |m| drop(m.config.insert("max_files".into(), json!(1))));
    let file = put(home.path(), &narrow);

    let said =
        home.fails(1, &[&["fork", run, "--at", "4", "--revision", &file][..], &grant].concat());
    assert!(
        said.contains("departs from run") && said.contains("expected") && said.contains("found"),
        "{said}"
    );
    assert_eq!(home.json(&["runs", "--json"]).as_array().unwrap().len(), 1);
    assert_eq!(home.json(&["revisions", "research", "--json"]).as_array().unwrap().len(), 1);

    let forked = [&["fork", run, "--at", "0", "--revision", &file, "--json"][..], &grant].concat();
    let fork = home.json(&forked);
    assert_eq!(fork["revisionId"], narrow.digest.to_string());
    assert_eq!(fork["forkedFrom"]["entry"], 0);
    home.exports_and_replays_offline(fork["id"].as_str().unwrap());
    // By then it is stored, and can be named.
    let named = format!("@{}", &narrow.digest.hex()[..12]);
    home.ok(&[&["fork", run, "--at", "0", "--revision", &named][..], &grant].concat());
    let whole = narrow.digest.to_string();
    home.ok(&[&["fork", run, "--at", "0", "--revision", &whole][..], &grant].concat());
}

#[test]
fn a_run_that_waits_for_a_person_is_forked_and_asks_again() {
    let home = approvals::home_that_asks();
    home.fails(5, &[&approvals::RUN[..], &["--on-ask", "leave"]].concat());
    let parent = home.json(&["runs", "--json"])[0]["id"].as_str().unwrap().to_owned();
    home.fails(5, &["fork", &parent, "--at", "2", "--on-ask", "leave"]);
    let runs = home.json(&["runs", "--json"]);
    let fork = runs[0]["id"].as_str().unwrap();
    assert_ne!(fork, parent);
    let done = home.json(&["approve", fork, "--json"]);
    assert_eq!(done["resultData"]["result"]["answers"], 1);
    assert!(home.ok(&["runs"]).contains("running (needs approval)"), "the parent still waits");
    home.exports_and_replays_offline(fork);
}

#[test]
fn the_stream_of_a_fork_is_its_whole_journal() {
    let (home, run) = home_with_a_run();
    let stream = home.ok(&["fork", &run, "--at", "2", "--events", "ndjson"]);
    let lines: Vec<Value> =
        stream.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fork = lines[0]["body"]["started"]["run"].as_str().unwrap();
    assert_eq!(lines[0]["body"]["started"]["fork"]["run"], run);
    let shown = home.json(&["show", fork, "--json"]);
    assert_eq!(shown["entryList"], json!(lines));
}

#[tokio::test]
async fn every_tool_of_another_revision_can_be_a_new_one() {
    // A parent without tools, and a fork that has some.
    let story = Story::of(guest("hostile"), json!({ "do": "tool-calls", "n": 1 }));
    let bare = resealed(&story.revision, |m| m.tools = Vec::new());
    let of_bare = Story { lab: Lab::new(), revision: bare, input: story.input.clone() };
    let parent = of_bare.lab.run(&of_bare.revision, of_bare.input.clone());
    let parent = parent.providers(BTreeMap::new()).ends().await;
    assert_eq!(parent.json()["errors"], 1);
    let library = Library::new();
    let tools = story.start(library.clone()).tools();
    let plan = story.plans(&story.revision, &parent.journal, at(0), &tools).await.unwrap();
    let fork = story.goes_on(&plan, tools).await;
    assert_eq!((&fork.json()["answers"], library.asked().len()), (&json!(1), 1));
}

/// What an older version recorded is shared as well.
#[tokio::test]
async fn golden_journals_are_forked_at_every_entry() {
    let story = Story::of(golden::revision(), json!({}));
    for (name, journal) in golden::journals() {
        let tools = story.start(Library::new()).tools();
        let limits = Journal::closed(journal.clone()).started().unwrap().limits;
        let prepared = story.lab.prepare(&story.revision);
        for seq in 0..journal.len() as u64 - 1 {
            let executor = &story.lab.executor;
            let plan = executor.plan_fork(&prepared, &journal, at(seq), limits, &tools).await;
            let plan = plan.unwrap_or_else(|error| panic!("{name} at {seq}: {error}"));
            let replay = story.lab.replay_entries(&story.revision, plan.entries.clone()).await;
            assert!(replay.is_proof() && replay.other_engine.is_none(), "{name} at {seq}");
        }
    }
}

/// What if the model had said something else?
#[tokio::test]
async fn a_models_answer_is_set_by_hand() {
    let story = Story::of(guest("prompt"), json!({ "question": "What is fuel?" }));
    let script = || [text("- Guess"), text("It is wood.")];
    let start = || {
        let providers = ScriptedModel::new(script()).alone();
        story.lab.run(&story.revision, story.input.clone()).providers(providers)
    };
    let parent = start().ends().await;
    let document = |record: &Record| format!("{:?}", record.ran.ended.outcome);
    assert!(document(&parent).contains("It is wood."));
    let wish = with_result(last_answer(&parent), text("It is counted."));
    let model = ScriptedModel::new([]);
    let nobody = story.lab.run(&story.revision, story.input.clone()).providers(model.alone());
    let fork = story.forks(&parent.journal, wish, nobody).await;
    assert!(document(&fork).contains("It is counted."), "{}", document(&fork));
    assert!(model.asked().is_empty());
}

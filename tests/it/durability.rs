//! What has to be durable before a tool is called: what the call follows from, unless
//! nobody could tell the difference.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use reenact::journal::{Encoded, Entry, Micros, Outcome};
use reenact::revision::Limits;
use reenact::runtime::{
    Close, Control, DurableRun, Fault, Halt, Journal, NewRun, Prepared, Ran, RecordError, Recorder,
};
use reenact::storage::{RunStatus, Storage, follower};
use reenact::tools::{
    CallContext, Catalogue, Provider, RunTools, Success, ToolError, ToolLimits, ToolSpec,
};
use serde_json::{Value, json};

use crate::support::{Lab, guest};

/// What happened, in its order: entries by their kind, `commit`, `finish`, and tools by
/// their name when they are called.
type Diary = Arc<Mutex<Vec<String>>>;

struct Writes(Diary);

impl Recorder for Writes {
    fn push(&mut self, entry: Encoded, _: u64, _: Micros) {
        let entry: Entry = serde_json::from_slice(&entry.bytes).unwrap();
        let body = serde_json::to_value(&entry.body).unwrap();
        let kind = match &body {
            Value::Object(body) => body.keys().next().unwrap().clone(),
            other => other.as_str().unwrap().to_owned(),
        };
        self.0.lock().unwrap().push(kind);
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn commit(&mut self) -> BoxFuture<'_, Result<(), RecordError>> {
        self.0.lock().unwrap().push("commit".into());
        ready(Ok(())).boxed()
    }

    fn finish(&mut self, _: Close) -> BoxFuture<'_, Result<(), RecordError>> {
        self.0.lock().unwrap().push("finish".into());
        ready(Ok(())).boxed()
    }
}

struct Tools(Diary);

impl Provider for Tools {
    fn tools(&self) -> Vec<ToolSpec> {
        let spec = |(name, read_only, idempotent): (&str, bool, bool)| ToolSpec {
            name: name.to_owned(),
            description: String::new(),
            parameters: json!({}),
            read_only,
            idempotent,
        };
        let tools =
            [("files.read", true, false), ("files.put", false, true), ("files.do", false, false)];
        tools.map(spec).into()
    }

    fn call(
        &self,
        name: &str,
        _: Value,
        _: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        self.0.lock().unwrap().push(name.to_owned());
        ready(Ok(Success { content: json!({}), sources: vec![] })).boxed()
    }
}

/// A run that is about to call these tools, one after the other.
struct Calls {
    lab: Lab,
    prepared: Arc<Prepared>,
    plan: NewRun,
    tools: RunTools,
    diary: Diary,
}

impl Calls {
    fn of(names: &[&str]) -> Self {
        let (lab, diary) = (Lab::new(), Diary::default());
        let provider: Arc<dyn Provider> = Arc::new(Tools(Arc::clone(&diary)));
        let catalogue = Catalogue::of(BTreeMap::from([("files".to_owned(), provider)])).unwrap();
        let tools = catalogue.for_run(|_| true, ToolLimits::from(&Limits::DEFAULT));
        let prepared = lab.prepare(&guest("hostile"));
        let input = json!({ "do": "calls", "text": names.join("\n") }).to_string();
        let plan = NewRun::plan(&prepared, &input, Limits::DEFAULT, &tools).unwrap();
        Self { lab, prepared, plan, tools, diary }
    }

    fn control(&self) -> Control {
        Control::live(self.plan.at, Limits::DEFAULT.deadline_ms).1
    }

    async fn execute(&self, run: DurableRun) -> Result<Ran, Fault> {
        let (tools, control) = (self.tools.clone(), self.control());
        run.execute(&self.lab.executor, &self.prepared, tools, control).await
    }
}

/// Calls these tools one after the other; answers what happened between the first entry
/// and the last.
async fn calls(names: &[&str]) -> Vec<String> {
    let calls = Calls::of(names);
    let Calls { lab, prepared, plan, tools, diary } = &calls;
    let journal = Journal::open(vec![plan.first.clone()], Box::new(Writes(Arc::clone(diary))));
    let ran = lab.executor.execute(prepared, journal, Some(tools.clone()), calls.control());
    let outcome = ran.await.unwrap().ended.outcome;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    let mut diary = diary.lock().unwrap().clone();
    assert_eq!(diary.split_off(diary.len() - 2), ["ended", "finish"]);
    diary
}

fn one(name: &str) -> [&str; 3] {
    ["tool_called", name, "tool_answered"]
}

#[tokio::test]
async fn a_call_that_changes_something_waits_for_all_before_it() {
    for name in ["files.do", "files.put"] {
        let each = ["tool_called", "commit", name, "tool_answered"];
        assert_eq!(calls(&[name, name]).await, [each, each].concat());
    }
    let after_read = ["tool_called", "commit", "files.do", "tool_answered"];
    let read = one("files.read");
    assert_eq!(calls(&["files.read", "files.do"]).await, [&read[..], &after_read].concat());
}

#[tokio::test]
async fn a_call_that_reads_waits_only_for_what_has_been_done() {
    let read = one("files.read");
    assert_eq!(calls(&["files.read", "files.read"]).await, [read, read].concat());
    let deed = ["tool_called", "commit", "files.do", "tool_answered"];
    let after_deed = ["tool_called", "commit", "files.read", "tool_answered"];
    let diary = calls(&["files.do", "files.read", "files.read"]).await;
    assert_eq!(diary, [&deed[..], &after_deed, &read].concat());
    // What is not granted is not reached.
    assert_eq!(calls(&["no.such-tool"]).await, ["tool_called", "tool_answered"]);
}

#[tokio::test]
async fn a_run_that_could_not_be_entered_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::open(&folder.path().join("reenact.db")).unwrap();
    let calls = Calls::of(&["files.do"]);
    let Calls { plan, diary, .. } = &calls;
    let (first, mut seen) = follower();
    calls.execute(DurableRun::begin(&storage, plan, Some(first))).await.unwrap();
    assert_eq!(std::mem::take(&mut *diary.lock().unwrap()), ["files.do"]);
    let row = storage.run(&plan.started.run).unwrap();
    assert_eq!((row.status, row.entries), (RunStatus::Done, 4));
    let numbers = [seen.recv().await, seen.recv().await].map(|entry| entry.unwrap().seq);
    assert_eq!(numbers, [0, 1]);

    // The id is taken.
    let error = calls.execute(DurableRun::begin(&storage, plan, None)).await.map(drop).unwrap_err();
    assert!(matches!(error, Fault::Journal(Halt::Unrecordable(_))), "{error}");
    assert!(DurableRun::create(&storage, plan, None).await.is_err());
    assert_eq!(*diary.lock().unwrap(), [""; 0]);
    assert_eq!(storage.run(&plan.started.run).unwrap(), row);
}

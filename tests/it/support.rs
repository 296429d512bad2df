//! What the tests' stories are told with: guests, a lab for runs in memory,
//! and a home for the command line.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use reenact::build::{self, BuildOutput};
use reenact::journal::{
    Body, Chain, Content, Encoded, Entry, ErrorCode, Outcome, RunError, Started, verify_all,
};
use reenact::revision::{Limits, Manifest, Revision, seal};
use reenact::runtime::{
    Canceller, Control, Executor, Fault, Journal, Memory, NewRun, Prepared, Ran, Replay,
};
use reenact::sandbox::Sandbox;
use reenact::tools::policy::Policy;
use reenact::tools::{Approver, Catalogue, Grant, Provider, RunTools, ToolLimits, Vault};
use serde_json::Value;

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of an example guest.
pub fn guest_folder(name: &str) -> PathBuf {
    root().join("guest-examples").join(name)
}

/// An example guest, built and sealed once.
pub fn guest(name: &str) -> Arc<Revision> {
    static BUILT: LazyLock<Mutex<HashMap<String, Arc<Revision>>>> = LazyLock::new(Mutex::default);
    let mut built = BUILT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let revision = built.entry(name.to_owned()).or_insert_with(|| {
        let project = build::load(&guest_folder(name)).unwrap();
        let bytes = project.build(BuildOutput::Stderr).unwrap_or_else(|e| panic!("{name}: {e}"));
        Arc::new(Revision::open(bytes).unwrap())
    });
    Arc::clone(revision)
}

/// The same guest with another manifest.
pub fn resealed(revision: &Revision, change: impl FnOnce(&mut Manifest)) -> Arc<Revision> {
    let mut manifest = revision.manifest.clone();
    change(&mut manifest);
    let bytes = seal(&revision.bytes, &manifest).unwrap();
    Arc::new(Revision::open(bytes).unwrap())
}

/// Puts a revision into a folder, in a file of its own; answers the file's path.
pub fn put(folder: &Path, revision: &Revision) -> String {
    let path = folder.join(format!("{}.wasm", revision.digest.hex()));
    std::fs::write(&path, &revision.bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs agents in this process, with journals in memory.
pub struct Lab {
    pub executor: Executor,
    prepared: Mutex<HashMap<reenact::revision::Digest, Arc<Prepared>>>,
}

/// Compiled code is shared by all tests of a process, and by the processes of
/// one checkout.
fn cache() -> &'static Path {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
}

impl Lab {
    pub fn new() -> Self {
        Self::with_slots(64)
    }

    /// As [`Lab::new`], with slots for so many guests.
    pub fn with_slots(slots: u32) -> Self {
        // Interpreters take long to compile where other tests want the processor too.
        let sandbox = Sandbox::with_slots(Some(cache()), slots).unwrap();
        let sandbox = sandbox.with_compile_timeout(Duration::from_secs(900));
        let executor = Executor::with_sandbox(sandbox);
        Self { executor, prepared: Mutex::default() }
    }

    pub fn prepare(&self, revision: &Arc<Revision>) -> Arc<Prepared> {
        let mut prepared = self.prepared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // One after the other: a second lab finds in the cache what the first one compiled.
        static COMPILING: Mutex<()> = Mutex::new(());
        let prepare = || {
            let _alone = COMPILING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            Arc::new(self.executor.prepare(Arc::clone(revision)).unwrap())
        };
        Arc::clone(prepared.entry(revision.digest).or_insert_with(prepare))
    }

    /// A run that is about to start.
    pub fn run(&self, revision: &Arc<Revision>, input: Value) -> Start<'_> {
        let limits = Limits::effective(&revision.manifest.limits, &Default::default());
        Start {
            lab: self,
            revision: Arc::clone(revision),
            input,
            limits,
            seed: None,
            catalogue: Catalogue::default(),
            policy: Policy::default(),
            approver: None,
            at_start: Box::new(|_| {}),
        }
    }

    pub async fn replay(&self, record: &Record) -> Replay {
        self.replay_entries(&record.revision, record.journal.clone()).await
    }

    pub async fn replay_entries(&self, revision: &Arc<Revision>, journal: Vec<Encoded>) -> Replay {
        self.executor.replay(&self.prepare(revision), journal).await.unwrap()
    }

    /// Replays and insists on the same end.
    pub async fn proves(&self, record: &Record) {
        let replay = self.replay(record).await;
        let reenact::runtime::Verdict::Same(ran) = &replay.verdict else {
            panic!("{:#?}\n{:#?}", replay.verdict, record.entries().last());
        };
        assert_eq!(ran.ended, record.ran.ended);
        assert_eq!(ran.head, record.ran.head);
        assert_eq!(ran.fuel, record.ran.fuel);
        assert_eq!(replay.entries, record.journal.len() as u64);
    }
}

/// A run before its first instruction.
pub struct Start<'a> {
    lab: &'a Lab,
    revision: Arc<Revision>,
    input: Value,
    limits: Limits,
    seed: Option<[u8; 32]>,
    catalogue: Catalogue,
    policy: Policy,
    approver: Option<Arc<dyn Approver>>,
    at_start: Box<dyn FnOnce(Canceller) + Send>,
}

impl Start<'_> {
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Grants the folder as `files`.
    pub fn files(mut self, folder: &Path) -> Self {
        let grant = Grant::Flag(folder.to_str().unwrap().to_owned());
        let grants = BTreeMap::from([("files".to_owned(), grant)]);
        let opened = Catalogue::open(&grants, Vault::default(), &|_| true).now_or_never();
        self.catalogue = opened.expect("a folder opens at once").unwrap();
        self
    }

    /// Grants a provider of the test's own.
    pub fn provider(mut self, name: &str, provider: Arc<dyn Provider>) -> Self {
        self.catalogue = Catalogue::of(BTreeMap::from([(name.to_owned(), provider)])).unwrap();
        self
    }

    /// Grants what is already open.
    pub fn catalogue(mut self, catalogue: Catalogue) -> Self {
        self.catalogue = catalogue;
        self
    }

    /// Grants several providers of the test's own, by name.
    pub fn providers(mut self, providers: BTreeMap<String, Arc<dyn Provider>>) -> Self {
        self.catalogue = Catalogue::of(providers).unwrap();
        self
    }

    /// What the operator says about calls, as JSON rules: `tool`, `action`, `when`, `timeout_ms`.
    pub fn rules(mut self, rules: Value) -> Self {
        for rule in rules.as_array().unwrap() {
            let mut rule = rule.clone();
            let tool = rule.as_object_mut().unwrap().remove("tool").unwrap();
            let tool = tool.as_str().unwrap().parse().unwrap();
            self.policy.rules.push((tool, serde_json::from_value(rule).unwrap()));
        }
        self
    }

    /// Who is asked about calls that a person has to decide.
    pub fn approver(mut self, approver: Arc<dyn Approver>) -> Self {
        self.approver = Some(approver);
        self
    }

    /// Called with the run's canceller just before it starts.
    pub fn at_start(mut self, act: impl FnOnce(Canceller) + Send + 'static) -> Self {
        self.at_start = Box::new(act);
        self
    }

    pub fn tools(&self) -> RunTools {
        let revision = Arc::clone(&self.revision);
        let asks = move |name: &str| revision.manifest.asks_for(name);
        let tools = self.catalogue.for_run(asks, ToolLimits::from(&self.limits));
        let tools = tools.with_policy(self.policy.clone());
        match &self.approver {
            Some(approver) => tools.with_approver(Arc::clone(approver)),
            None => tools,
        }
    }

    /// Runs to the end.
    pub async fn ends(self) -> Record {
        let prepared = self.lab.prepare(&self.revision);
        let tools = self.tools();
        let mut plan =
            NewRun::plan(&prepared, &self.input.to_string(), self.limits, &tools).unwrap();
        if let Some(seed) = self.seed {
            let seed = hex::encode(seed);
            plan = NewRun::of(Started { seed, ..Started::clone(&plan.started) });
        }
        let (canceller, control) = Control::live(plan.at, self.limits.deadline_ms);
        (self.at_start)(canceller);
        let memory = Memory::default();
        let journal = Journal::new(&plan, Box::new(memory.clone()));
        let ran = self.lab.executor.execute(&prepared, journal, Some(tools), control).await;
        let journal = [vec![plan.first], memory.entries()].concat();
        Record { revision: self.revision, journal, ran: ran.unwrap() }
    }
}

impl Lab {
    /// Goes on with a journal from where it ends.
    pub async fn goes_on(
        &self,
        prepared: &Prepared,
        beginning: Vec<Encoded>,
        tools: RunTools,
        control: Control,
    ) -> Record {
        let (journal, ran) = self.goes_as_far(prepared, beginning, tools, control).await;
        Record { revision: Arc::clone(&prepared.revision), journal, ran: ran.unwrap() }
    }

    /// As [`Lab::goes_on`], for runs that may not come to an end.
    pub async fn goes_as_far(
        &self,
        prepared: &Prepared,
        beginning: Vec<Encoded>,
        tools: RunTools,
        control: Control,
    ) -> (Vec<Encoded>, Result<Ran, Fault>) {
        let memory = Memory::default();
        let journal = Journal::open(beginning.clone(), Box::new(memory.clone()));
        let ran = self.executor.execute(prepared, journal, Some(tools), control).await;
        ([beginning, memory.entries()].concat(), ran)
    }
}

/// A run that has ended, with its journal.
pub struct Record {
    pub revision: Arc<Revision>,
    pub journal: Vec<Encoded>,
    pub ran: Ran,
}

impl Record {
    /// The verified entries.
    pub fn entries(&self) -> Vec<Entry> {
        verify_all(&self.journal).unwrap()
    }

    pub fn error(&self) -> &RunError {
        match &self.ran.ended.outcome {
            Outcome::Error(error) => error,
            Outcome::Done(output) => panic!("the run is done: {output:?}"),
        }
    }

    pub fn code(&self) -> ErrorCode {
        self.error().code
    }

    /// The JSON that the run answered.
    pub fn json(&self) -> Value {
        match &self.ran.ended.outcome {
            Outcome::Done(output) => match &output.content {
                Content::Json(json) => json.to_value(),
                Content::Document(text) => panic!("a document: {text}"),
            },
            Outcome::Error(error) => panic!("the run failed: {error:?}"),
        }
    }

    /// The journal with entry `index` changed and the chain made anew from there,
    /// as somebody would who wants the change to go unnoticed.
    pub fn forged(&self, index: usize, change: impl FnOnce(&mut Entry)) -> Vec<Encoded> {
        let mut entries = self.entries();
        change(&mut entries[index]);
        let mut chain = Chain::default();
        entries.iter().map(|entry| chain.push(entry)).collect()
    }

    pub fn tool_calls(&self) -> usize {
        let is_call = |entry: &&Entry| matches!(entry.body, Body::ToolCalled(_));
        self.entries().iter().filter(is_call).count()
    }
}

/// A home folder of its own for the command line.
pub struct Home(tempfile::TempDir);

/// What a command printed and how it exited.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The program, with this home and no configuration from outside.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
        command.args(args).current_dir(root()).env("REENACT_HOME", self.path());
        command.env_remove("REENACT_CONFIG").env_remove("NO_COLOR").env_remove("REENACT_LOG");
        command.env_remove("REENACT_SERVER").env_remove("REENACT_KEY");
        command
    }

    pub fn says(&self, args: &[&str]) -> Said {
        self.command(args).output().unwrap().into()
    }

    /// Runs a command that must succeed; answers its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.says(args);
        assert_eq!(said.code, Some(0), "{args:?}: {said:#?}");
        said.stdout
    }

    /// Runs a command that must succeed and print one JSON document.
    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// Publishes a revision.
    pub fn publishes(&self, revision: &Revision) {
        self.ok(&["publish", &put(self.path(), revision)]);
    }

    /// What is published of the only agent.
    pub fn published(&self) -> String {
        self.json(&["agents", "--json"])[0]["published"].as_str().unwrap().to_owned()
    }

    /// Runs a command that must exit with `code`; answers its stderr.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let said = self.says(args);
        assert_eq!(said.code, Some(code), "{args:?}: {said:#?}");
        said.stderr
    }
}

/// Replays an exported file where nothing else is.
pub fn replays_offline(file: &Path) -> Said {
    let said = offline(&["replay", file.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("no tool was called"), "{said:#?}");
    said
}

/// Executes a command where nothing else is: no home, no environment, no
/// programs, and a network of its own in which even the loopback is down.
pub fn offline(args: &[&str]) -> Said {
    let isolated = ["--user", "--map-root-user", "--net", "--"];
    // Some containers allow no namespaces; all else is away there too.
    let can = Command::new("unshare").args(isolated).arg("true").output();
    let mut command = match can {
        Ok(output) if output.status.success() => {
            let mut command = Command::new("unshare");
            command.args(isolated).arg(env!("CARGO_BIN_EXE_reenact"));
            command
        }
        _ => Command::new(env!("CARGO_BIN_EXE_reenact")),
    };
    let nowhere = tempfile::tempdir().unwrap().path().join("none");
    command.args(args).current_dir("/").env_clear();
    command.env("HOME", &nowhere).env("REENACT_HOME", &nowhere);
    let said: Said = command.output().unwrap().into();
    assert!(!nowhere.exists(), "a home is not needed");
    said
}

impl Home {
    /// Exports a run of this home, and replays it where nothing else is.
    pub fn exports_and_replays_offline(&self, run: &str) -> Said {
        let file = self.path().join(format!("{run}.reenact"));
        self.ok(&["export", run, "-o", file.to_str().unwrap()]);
        replays_offline(&file)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

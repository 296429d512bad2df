//! A conversation sends its whole history every turn: its journal grows with what
//! is new in it, and nobody who reads it notices.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use reenact::registry::Home as Layout;
use reenact::revision::Limits;
use reenact::runtime::{Control, DurableRun, Executor, NewRun};
use reenact::storage::Storage;
use reenact::tools::{CallContext, Catalogue, Provider, Success, ToolError, ToolLimits, ToolSpec};
use serde_json::{Value, json};

use crate::support::{Home, guest, resealed};

/// A model that answers so many bytes that repeat nothing.
struct Model {
    answer: usize,
    random: Mutex<ChaCha20Rng>,
}

impl Model {
    fn new(answer: usize) -> Arc<Self> {
        Arc::new(Self { answer, random: Mutex::new(ChaCha20Rng::from_seed([5; 32])) })
    }

    fn noise(&self) -> String {
        const SIGNS: &[u8] = b" !#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~";
        let mut random = self.random.lock().unwrap();
        let mut sign = || char::from(SIGNS[random.next_u32() as usize % SIGNS.len()]);
        (0..self.answer).map(|_| sign()).collect()
    }
}

impl Provider for Model {
    fn tools(&self) -> Vec<ToolSpec> {
        vec![ToolSpec {
            name: "model.chat".to_owned(),
            description: "a model of the tests".to_owned(),
            parameters: json!({ "type": "object" }),
            read_only: true,
            idempotent: false,
        }]
    }

    fn call(
        &self,
        _: &str,
        _: Value,
        _: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        let content = json!({ "content": self.noise() });
        async move { Ok(Success { content, sources: vec![] }) }.boxed()
    }
}

/// A home in which one conversation was recorded.
struct Story {
    home: Home,
    run: String,
    /// Bytes of everything that either side said, once.
    said: u64,
    /// Bytes of the plain journal.
    plain: u64,
    /// Bytes by which the database grew.
    grown: u64,
    revision: u64,
}

/// Has `turns` turns of `question` and `answer` bytes in `histories` conversations.
async fn talks(turns: usize, question: usize, answer: usize, histories: usize) -> Story {
    let home = Home::new();
    let revision = resealed(&guest("hostile"), |manifest| {
        manifest.tools.push("model.chat".parse().unwrap());
    });
    home.publishes(&revision);
    let layout = Layout::at(home.path());
    // The file's size with everything in it, and nothing left in its log.
    let size = || {
        let db = rusqlite::Connection::open(layout.database()).unwrap();
        let folded = "PRAGMA wal_checkpoint(TRUNCATE)";
        assert_eq!(db.query_row(folded, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        fs::metadata(layout.database()).unwrap().len()
    };
    let before = size();

    let executor = Executor::new(Some(&layout.cache())).unwrap();
    let bytes = revision.bytes.len() as u64;
    let prepared = executor.prepare(revision).unwrap();
    let model: Arc<dyn Provider> = Model::new(answer);
    let catalogue = Catalogue::of(BTreeMap::from([("model".to_owned(), model)])).unwrap();
    let tools = catalogue.for_run(|_| true, ToolLimits::from(&Limits::DEFAULT));
    let input = json!({ "do": "converse", "n": turns, "size": question, "histories": histories });
    let plan = NewRun::plan(&prepared, &input.to_string(), Limits::DEFAULT, &tools).unwrap();
    let (_canceller, control) = Control::live(plan.at, Limits::DEFAULT.deadline_ms);
    let storage = Storage::open(&layout.database()).unwrap();
    let run = DurableRun::create(&storage, &plan, None).await.unwrap();
    let ran = run.execute(&executor, &prepared, tools, control).await.unwrap();
    drop(storage);

    let shown = home.json(&["show", &plan.started.run, "--json"]);
    assert_eq!(shown["status"], "done", "{:#}", shown["error"]);
    let said = shown["resultData"]["result"]["said"].as_u64().unwrap();
    assert_eq!(said, (turns * (question + answer)) as u64);
    Story {
        run: plan.started.run.clone(),
        said,
        plain: ran.ended.used.journal_bytes,
        grown: size() - before,
        revision: bytes,
        home,
    }
}

impl Story {
    fn exported(&self) -> std::path::PathBuf {
        let file = self.home.path().join("run.reenact");
        self.home.ok(&["export", &self.run, "-o", file.to_str().unwrap()]);
        file
    }

    /// Neither database nor file takes more than twice what was said.
    fn is_small(&self) {
        let exported = fs::metadata(self.exported()).unwrap().len() - self.revision;
        let Self { said, plain, grown, .. } = self;
        println!("{said} said, {plain} plain, {grown} in the database, {exported} exported");
        assert!(*grown > said / 2, "{grown} in the database: it was not measured");
        assert!(*grown <= 2 * said, "{grown} in the database for {said}");
        assert!(exported <= 2 * said, "{exported} in the file for {said}");
    }

    /// It replays here, and from its file with nothing else.
    fn replays(&self) {
        let elsewhere = Home::new();
        let file = self.exported();
        for replay in [
            self.home.json(&["replay", &self.run, "--json"]),
            elsewhere.json(&["replay", file.to_str().unwrap(), "--json"]),
        ] {
            assert_eq!((&replay["same"], &replay["run"]), (&json!(true), &json!(self.run)));
        }
    }
}

#[tokio::test]
async fn a_hundred_turns_take_at_most_twice_what_was_said() {
    for (question, answer) in [(1_024, 1_024), (2_000, 48), (200, 1_848)] {
        let story = talks(100, question, answer, 1).await;
        assert!(story.plain > 30 * story.said, "{} bytes of journal", story.plain);
        story.is_small();
        story.replays();
    }
}

#[tokio::test]
async fn conversations_that_take_turns_do_not_defeat_it() {
    for histories in [2, 7] {
        let story = talks(140, 1_024, 1_024, histories).await;
        assert!(story.plain > 9 * story.said, "{} bytes of journal", story.plain);
        story.is_small();
        story.replays();
    }
}

#[tokio::test]
async fn the_file_opens_with_everybodys_tools() {
    let story = talks(30, 1_024, 1_024, 1).await;
    let file = story.exported();
    let tar = |args: &[&str]| {
        let output = Command::new("tar").args(args).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    assert_eq!(tar(&["tf"]), b"run.json\njournal.jsonl.zst\nrevision.wasm\n");
    let file = file.to_str().unwrap();
    let member =
        |name: &str| Command::new("tar").args(["xOf", file, name]).output().unwrap().stdout;
    let header: Value = serde_json::from_slice(&member("run.json")).unwrap();
    let packed = member("journal.jsonl.zst");
    assert_eq!(header["format"], 2);
    assert_eq!(header["journal"]["digest"], reenact::revision::Digest::of(&packed).to_string());
    let lines = zstd::decode_all(&packed[..]).unwrap();
    assert_eq!(header["journal"]["size"], lines.len());
    let last = lines.split(|&byte| byte == b'\n').rev().nth(1).unwrap();
    let last: Value = serde_json::from_slice(last).unwrap();
    assert_eq!(last["hash"], header["head"]);
    let shown = story.home.json(&["show", &story.run, "--json"]);
    assert_eq!(last["entry"], *shown["entryList"].as_array().unwrap().last().unwrap());
}

/// The calls are denied, for nobody grants a model; they are on record all the same.
#[test]
fn a_killed_conversation_can_be_read() {
    let home = Home::new();
    home.publishes(&guest("hostile"));
    let input = r#"{"do":"converse","n":150,"size":2000}"#;
    let args = ["run", "hostile", "--input", input, "--events", "ndjson"];
    let begun = Instant::now();
    home.ok(&args);
    let usual = begun.elapsed();

    let (kills, mut stopped) = (12, 0);
    for kill in 1..=kills {
        let mut command = home.command(&args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(usual * kill / (kills + 1) + Duration::from_millis(20));
        let _ = child.kill();
        let stdout = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let whole = stdout.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let shown: Vec<Value> = whole.map(|line| serde_json::from_str(line).unwrap()).collect();
        let Some(first) = shown.first() else { continue };
        let id = first["body"]["started"]["run"].as_str().unwrap();
        let durable = home.json(&["show", id, "--json"]);
        let entries = durable["entryList"].as_array().unwrap();
        assert_eq!(entries[..shown.len()], shown, "what was shown is durable");
        assert_eq!(home.json(&["replay", id, "--json"])["same"], true);
        stopped += u32::from(durable["status"] == "running" && shown.len() > 10);
    }
    assert!(stopped >= 3, "{stopped} of {kills} were stopped in the middle");
}

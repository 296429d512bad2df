//! Runs through the library, against what they are made of: bare wasmtime and
//! bare SQLite, measured in the same process.
//!
//! `cargo bench --bench runs` measures all rows but one, `-- NAME` those of a name:
//! `empty`, `emit`, `durable`, `replay`, `compile`; and only if it is named
//! `interpreters`, which builds guests in Python and JavaScript first.

mod common;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/wat.rs"]
mod wat;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use reenact::journal::{Encoded, Outcome};
use reenact::revision::{Limits, Revision};
use reenact::runtime::{
    Control, DurableRun, Executor, Journal, Memory, NewRun, Prepared, Ran, Verdict,
};
use reenact::sandbox::GuestOutput;
use reenact::storage::Storage;
use reenact::tools::{
    CallContext, Catalogue, Provider, RunTools, Success, ToolError, ToolLimits, ToolSpec,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentType, Func, Instance, InstancePre, Lift, Linker, ResourceTable,
};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
};

use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use common::{Report, SHORT_RUN, example, guest, rate, scratch, time};

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Host calls of the guest that makes many: as many events as a run may emit.
const CALLS: u32 = 10_000;

/// Rounds of the loop that computes: half of a tenth of a second.
const ROUNDS: u32 = 50_000_000;

/// Runs under way at once.
const PARALLEL: usize = 64;

/// Samples of a row.
const SAMPLES: usize = 20;

/// How long SQLite alone is measured.
const BASELINE: Duration = Duration::from_secs(2);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("runs");
    group.sample_size(SAMPLES).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    let mut bench = Bench { group, lab: Lab::new(), report: Report::new() };
    empty(&mut bench);
    emit(&mut bench);
    durable(&mut bench);
    replay(&mut bench);
    compile(&mut bench, "compile", &guest());
    if std::env::args().any(|argument| argument.starts_with("interpreters")) {
        interpreters(&mut bench);
    }
    let Bench { group, report, .. } = bench;
    group.finish();
    report.print();
}

/// A run that returns at once: of a component of a few kilobytes, and of one
/// that a toolchain has made.
fn empty(bench: &mut Bench<'_>) {
    for (name, kind, revision) in
        [("tiny", "tiny component", wat::does("")), ("rust", "Rust guest", guest())]
    {
        let bare = Bare::new(&revision, false);
        let prepared = bench.lab.prepare(&revision);
        let baseline =
            bench.measure(&format!("empty/{name}/bare"), |n| timed(n, || bare.run("{}")));
        let lab = &bench.lab;
        let once = || lab.run(&prepared, "{}");
        let name = format!("empty/{name}/executor");
        let figure = measure(&mut bench.group, &name, |n| timed(n, once));
        let Some((figure, baseline)) = figure.zip(baseline) else { continue };
        let (what, ratio) = (format!("empty run, {kind}"), Some(figure / baseline));
        bench.report.row(&what, &time(figure), &time(baseline), ratio, "≤ 1.3 × wasmtime");
    }
}

/// A host call of 200 bytes: the difference between a run that makes many of
/// them and one that makes none.
fn emit(bench: &mut Bench<'_>) {
    let (none, many) = (emits(0), emits(CALLS));
    let bare = [Bare::new(&none, false), Bare::new(&many, false)];
    let prepared = [bench.lab.prepare(&none), bench.lab.prepare(&many)];
    let baseline = bench.measure("emit/bare", |n| {
        per_call(timed(n, || bare[0].run("{}")), timed(n, || bare[1].run("{}")))
    });
    let lab = &bench.lab;
    let figure = measure(&mut bench.group, "emit/executor", |n| {
        let of = |prepared: &Prepared| timed(n, || lab.run(prepared, "{}"));
        per_call(of(&prepared[0]), of(&prepared[1]))
    });
    let Some((figure, baseline)) = figure.zip(baseline) else { return };
    let ratio = Some(figure / baseline);
    let goal = "≤ 1 µs, ≤ 5 × wasmtime";
    bench.report.row("host call, 200 bytes", &time(figure), &time(baseline), ratio, goal);
}

/// Short runs, many at once, each durable when it has ended.
fn durable(bench: &mut Bench<'_>) {
    let folder = scratch();
    let prepared = bench.lab.prepare(&guest());
    let storage = Storage::open(&folder.path().join("reenact.db")).unwrap();
    for (name, read_only) in [("deeds", false), ("reads", true)] {
        let catalogue = Answers::catalogue(read_only);
        let before = storage.commits();
        let lab = &bench.lab;
        let figure = measure(&mut bench.group, &format!("durable/{name}"), |runs| {
            lab.in_parallel(runs, PARALLEL, || {
                let (executor, prepared) = (Arc::clone(&lab.executor), Arc::clone(&prepared));
                run_durably(executor, prepared, storage.clone(), catalogue.clone())
            })
        });
        let Some(figure) = figure else { continue };
        let commits = storage.commits();
        let jobs = (commits.jobs - before.jobs) as f64 / (commits.commits - before.commits) as f64;
        let what = format!("durable run, tools are {name}, {jobs:.0} writes a commit");
        let (single, rows) = sqlite(folder.path());
        let baseline = format!("SQLite: {} commits, {} rows", rate(single), rate(rows));
        bench.report.row(&what, &rate(figure), &baseline, Some(single / figure), "≥ 10,000/s");
    }
}

/// Replays of a short run and of one that computes.
fn replay(bench: &mut Bench<'_>) {
    let prepared = bench.lab.prepare(&guest());
    let short = bench.lab.record(&prepared, SHORT_RUN);
    let lab = &bench.lab;
    let again = || {
        let (executor, prepared) = (Arc::clone(&lab.executor), Arc::clone(&prepared));
        replay_one(executor, prepared, Arc::clone(&short))
    };
    let figure =
        measure(&mut bench.group, "replay/short", |times| lab.in_parallel(times, PARALLEL, again));
    if let Some(figure) = figure {
        bench.report.row("replay of a durable run", &rate(figure), "", None, "≥ 15,000/s");
    }

    let computes = computes();
    let bare = Bare::new(&computes, true);
    let prepared = bench.lab.prepare(&computes);
    let long = bench.lab.record(&prepared, "{}");
    let baseline = bench.measure("replay/compute/bare", |n| timed(n, || bare.run("{}")));
    let lab = &bench.lab;
    let again = || {
        let (executor, prepared) = (Arc::clone(&lab.executor), Arc::clone(&prepared));
        lab.runtime.block_on(replay_one(executor, prepared, Arc::clone(&long)));
    };
    let figure = measure(&mut bench.group, "replay/compute/executor", |n| timed(n, again));
    let Some((figure, baseline)) = figure.zip(baseline) else { return };
    let ratio = Some(figure / baseline);
    let goal = "≤ 1 × wasmtime with fuel";
    bench.report.row("replay that computes", &time(figure), &time(baseline), ratio, goal);
}

/// Making a revision ready to run, against Cranelift alone under settings that
/// generate the same code; and doing so again.
fn compile(bench: &mut Bench<'_>, of: &str, revision: &Arc<Revision>) {
    let engine = {
        let mut config = Config::new();
        config.consume_fuel(true).cranelift_nan_canonicalization(true);
        Engine::new(&config).unwrap()
    };
    let folder = scratch();
    let cached = Executor::new(Some(folder.path())).unwrap();
    let size = revision.bytes.len() >> 10;
    // Large components take seconds each time.
    bench.group.sample_size(10);
    let alone = || engine.precompile_component(&revision.bytes).unwrap();
    let baseline = bench.measure(&format!("{of}/bare"), |n| timed(n, alone));
    let lab = &bench.lab;
    let prepare = || lab.prepare(revision);
    let name = format!("{of}/executor");
    let figure = measure(&mut bench.group, &name, |n| timed(n, prepare));
    if let Some((figure, baseline)) = figure.zip(baseline) {
        let (what, ratio) = (format!("compiling {size} KiB"), Some(figure / baseline));
        bench.report.row(&what, &time(figure), &time(baseline), ratio, "≤ 1.1 × Cranelift");
        let again = || cached.prepare(Arc::clone(revision)).unwrap();
        again();
        let second = bench.measure(&format!("{of}/cached"), |n| timed(n, again));
        let Some(second) = second else { return };
        let what = format!("{what} a second time");
        bench.report.row(&what, &time(second), &time(baseline), Some(second / baseline), "nothing");
    }
    bench.group.sample_size(SAMPLES);
}

/// Guests whose languages bring an interpreter: large ones to compile and to start.
fn interpreters(bench: &mut Bench<'_>) {
    const LITTLE: &str = r#"{"do":"compute","n":1}"#;
    for (kind, folder) in [("Python", "misbehave-python"), ("JavaScript", "misbehave-javascript")] {
        let revision = example(folder);
        let bare = Bare::new(&revision, true);
        let prepared = bench.lab.prepare(&revision);
        let name = |what: &str| format!("interpreters/{kind}/{what}");
        let instance = bench.measure(&name("instance"), |n| timed(n, || bare.instance()));
        let baseline = bench.measure(&name("bare"), |n| timed(n, || bare.run(LITTLE)));
        let lab = &bench.lab;
        let once = || lab.run(&prepared, LITTLE);
        let figure = measure(&mut bench.group, &name("executor"), |n| timed(n, once));
        if let (Some(figure), Some(baseline), Some(instance)) = (figure, baseline, instance) {
            let what = format!("{kind} run, of which an instance is {}", time(instance));
            let ratio = Some(figure / baseline);
            bench.report.row(&what, &time(figure), &time(baseline), ratio, "≤ 2 × wasmtime");
        }
        compile(bench, &name("compile"), &revision);
    }
}

/// What the benchmarks are measured with.
struct Bench<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    lab: Lab,
    report: Report,
}

impl Bench<'_> {
    fn measure(&mut self, name: &str, run: impl FnMut(u64) -> Duration) -> Option<f64> {
        measure(&mut self.group, name, run)
    }
}

/// Measures what `run` takes for so many times; answers the median in seconds
/// for one. `None` if the name is not among those that were asked for.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut run: impl FnMut(u64) -> Duration,
) -> Option<f64> {
    let mut samples = Vec::new();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let took = run(times);
            samples.push((times, took.as_secs_f64() / times as f64));
            took
        });
    });
    // Those that were only to get warm are shorter.
    let most = samples.iter().map(|(times, _)| *times).max()?;
    samples.retain(|(times, _)| *times == most);
    samples.sort_by(|a, b| a.1.total_cmp(&b.1));
    Some(samples[samples.len() / 2].1)
}

fn timed<T>(times: u64, run: impl Fn() -> T) -> Duration {
    let begun = Instant::now();
    for _ in 0..times {
        black_box(run());
    }
    begun.elapsed()
}

fn per_call(none: Duration, many: Duration) -> Duration {
    many.saturating_sub(none) / CALLS
}

/// A guest that emits so many events.
fn emits(times: u32) -> Arc<Revision> {
    let data = "x".repeat(198);
    let fields = format!(r#"(data (i32.const 400) "\22{data}\22")"#);
    let call = "(call $emit (i32.const 52) (i32.const 4) (i32.const 400) (i32.const 200))";
    let run = format!("{} {}", repeat(times, call), wat::DONE);
    wat::Parts { fields: &fields, run: &run, ..wat::Parts::default() }.seal()
}

/// A guest that mixes a number for long.
fn computes() -> Arc<Revision> {
    let mix = "(global.set $mixed (i64.xor
        (i64.mul (global.get $mixed) (i64.const 6364136223846793005))
        (i64.shr_u (global.get $mixed) (i64.const 13))))";
    let fields = "(global $mixed (mut i64) (i64.const 1))";
    let run = format!("{} {}", repeat(ROUNDS, mix), wat::DONE);
    wat::Parts { fields, run: &run, ..wat::Parts::default() }.seal()
}

/// Instructions that do something so many times.
fn repeat(times: u32, what: &str) -> String {
    format!(
        "(local $left i32) (local.set $left (i32.const {times}))
         (block $done (loop $again
            (br_if $done (i32.eqz (local.get $left)))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            {what}
            (br $again)))"
    )
}

/// A component in wasmtime, with what it imports of WASI and nothing else: each run
/// has a store and an instance of its own, as the executor's have.
struct Bare {
    engine: Engine,
    pre: InstancePre<Guest>,
    fuel: bool,
    /// It was made by a toolchain, and imports WASI.
    wasi: bool,
}

/// What a guest has in bare wasmtime.
#[derive(Default)]
struct Guest {
    wasi: Option<WasiCtx>,
    table: ResourceTable,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_default();
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// Why the agent gave up, as `wit/agent.wit` has it.
#[expect(dead_code, reason = "it is shown if there is one")]
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
struct Failure {
    message: String,
    details: Option<String>,
}

impl Bare {
    fn new(revision: &Revision, fuel: bool) -> Self {
        let mut pool = PoolingAllocationConfig::new();
        pool.linear_memory_keep_resident(1 << 20).table_keep_resident(1 << 20);
        pool.pagemap_scan(Enabled::Auto);
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        config.consume_fuel(fuel);
        let engine = Engine::new(&config).unwrap();
        let component = Component::new(&engine, &revision.bytes).unwrap();
        let mut linker = Linker::new(&engine);
        let mut wasi = false;
        for (name, item) in component.component_type().imports(&engine) {
            let ComponentItem::ComponentInstance(item) = item.ty else { continue };
            if name.starts_with("wasi:") {
                wasi = true;
                continue;
            }
            let mut instance = linker.instance(name).unwrap();
            for (name, item) in item.exports(&engine) {
                if let ComponentItem::ComponentFunc(_) = item.ty {
                    instance.func_new(name, |_, _, _, _| wasmtime::bail!("not there")).unwrap();
                }
            }
        }
        if wasi {
            wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
        }
        linker.allow_shadowing(true);
        let mut events = linker.instance("reenact:agent/events@0.1.0").unwrap();
        events
            .func_wrap("emit", |_, event: (String, String)| {
                black_box(event);
                Ok(())
            })
            .unwrap();
        let pre = linker.instantiate_pre(&component).unwrap();
        Self { engine, pre, fuel, wasi }
    }

    /// A fresh store with an instance.
    fn instance(&self) -> (Store<Guest>, Instance) {
        let mut guest = Guest::default();
        if self.wasi {
            guest.wasi = Some(WasiCtx::builder().build());
        }
        let mut store = Store::new(&self.engine, guest);
        if self.fuel {
            store.set_fuel(u64::MAX).unwrap();
        }
        let instance = self.pre.instantiate(&mut store).unwrap();
        (store, instance)
    }

    fn run(&self, input: &str) -> GuestOutput {
        let (mut store, instance) = self.instance();
        let guest = instance.get_export_index(&mut store, None, "reenact:agent/guest@0.1.0");
        let run = instance.get_export_index(&mut store, guest.as_ref(), "run").unwrap();
        let run: Func = instance.get_func(&mut store, run).unwrap();
        let run = run.typed::<(&str,), (Result<GuestOutput, Failure>,)>(&store).unwrap();
        run.call(&mut store, (input,)).unwrap().0.unwrap()
    }
}

/// Runs agents through the library.
struct Lab {
    executor: Arc<Executor>,
    runtime: Runtime,
    catalogue: Catalogue,
}

impl Lab {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let executor = Arc::new(Executor::new(None).unwrap());
        Self { executor, runtime, catalogue: Answers::catalogue(false) }
    }

    fn prepare(&self, revision: &Arc<Revision>) -> Arc<Prepared> {
        Arc::new(self.executor.prepare(Arc::clone(revision)).unwrap())
    }

    /// A run whose journal is in memory; answers its first entry and the others.
    fn run(&self, prepared: &Prepared, input: &str) -> (Encoded, Memory) {
        let (plan, tools) = plan(prepared, input, &self.catalogue);
        let (_canceller, control) = Control::live(plan.at, plan.started.limits.deadline_ms);
        let memory = Memory::default();
        let journal = Journal::new(&plan, Box::new(memory.clone()));
        let run = self.executor.execute(prepared, journal, Some(tools), control);
        is_done(&self.runtime.block_on(run).unwrap());
        (plan.first, memory)
    }

    /// The journal of a run.
    fn record(&self, prepared: &Prepared, input: &str) -> Arc<Vec<Encoded>> {
        let (first, others) = self.run(prepared, input);
        Arc::new([vec![first], others.entries()].concat())
    }

    /// What it takes to have `once` happen so many times, `tasks` of them under
    /// way at any time.
    fn in_parallel<F>(&self, times: u64, tasks: usize, once: impl Fn() -> F) -> Duration
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let begun = Instant::now();
        self.runtime.block_on(async {
            let mut under_way = JoinSet::new();
            for _ in 0..times {
                if under_way.len() == tasks {
                    under_way.join_next().await.unwrap().unwrap();
                }
                under_way.spawn(once());
            }
            while let Some(ended) = under_way.join_next().await {
                ended.unwrap();
            }
        });
        begun.elapsed()
    }
}

/// A short run in the database, from its plan to its durable end.
async fn run_durably(
    executor: Arc<Executor>,
    prepared: Arc<Prepared>,
    storage: Storage,
    catalogue: Catalogue,
) {
    let (plan, tools) = plan(&prepared, SHORT_RUN, &catalogue);
    let run = DurableRun::begin(&storage, &plan, None);
    let (_canceller, control) = run.control().unwrap();
    is_done(&run.execute(&executor, &prepared, tools, control).await.unwrap());
}

async fn replay_one(executor: Arc<Executor>, prepared: Arc<Prepared>, journal: Arc<Vec<Encoded>>) {
    let replay = executor.replay(&prepared, journal.to_vec()).await.unwrap();
    assert!(matches!(replay.verdict, Verdict::Same(_)), "{:?}", replay.verdict);
}

fn is_done(ran: &Ran) {
    assert!(matches!(ran.ended.outcome, Outcome::Done(_)), "{:?}", ran.ended);
}

/// A provider in this process that plays `files` and answers at once.
struct Answers {
    /// What is not known to be read-only needs a durable intent.
    read_only: bool,
}

impl Answers {
    fn catalogue(read_only: bool) -> Catalogue {
        let provider: Arc<dyn Provider> = Arc::new(Self { read_only });
        Catalogue::of(BTreeMap::from([("files".to_owned(), provider)])).unwrap()
    }
}

/// A new run, and the tools that it gets.
fn plan(prepared: &Prepared, input: &str, catalogue: &Catalogue) -> (NewRun, RunTools) {
    let revision = Arc::clone(&prepared.revision);
    let mut limits = Limits::effective(&revision.manifest.limits, &Default::default());
    limits.events = u64::from(CALLS);
    let asks = move |name: &str| revision.manifest.asks_for(name);
    let tools = catalogue.for_run(asks, ToolLimits::from(&limits));
    (NewRun::plan(prepared, input, limits, &tools).unwrap(), tools)
}

impl Provider for Answers {
    fn tools(&self) -> Vec<ToolSpec> {
        vec![ToolSpec {
            name: "files.list".to_owned(),
            description: "answers at once".to_owned(),
            parameters: json!({ "properties": { "path": { "type": "string" } } }),
            read_only: self.read_only,
            idempotent: false,
        }]
    }

    fn call(
        &self,
        _: &str,
        _: Value,
        _: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        let content = json!({ "entries": ["a.md", "b.md"] });
        ready(Ok(Success { content, sources: vec![] })).boxed()
    }
}

/// What SQLite does by itself in `folder`, with the settings of the database of
/// runs: seconds for a commit of one row, and for a row in commits of a hundred.
fn sqlite(folder: &Path) -> (f64, f64) {
    let db = Connection::open(folder.join("baseline.db")).unwrap();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    db.pragma_update(None, "synchronous", "full").unwrap();
    db.execute_batch("CREATE TABLE IF NOT EXISTS rows (body BLOB NOT NULL)").unwrap();
    let commits_of = |rows: u32| {
        let begun = Instant::now();
        let mut written = 0;
        while begun.elapsed() < BASELINE {
            db.prepare_cached("BEGIN IMMEDIATE").unwrap().execute([]).unwrap();
            for _ in 0..rows {
                let mut insert = db.prepare_cached("INSERT INTO rows VALUES (?1)").unwrap();
                insert.execute([[0_u8; 200]]).unwrap();
            }
            db.prepare_cached("COMMIT").unwrap().execute([]).unwrap();
            written += rows;
        }
        begun.elapsed().as_secs_f64() / f64::from(written)
    };
    (commits_of(1), commits_of(100))
}

//! One instance from its birth to its end, and what that end means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use serde_json::json;
use wasmtime::component::{ResourceTable, ResourceTableError};
use wasmtime::{Engine, Store, Trap, WasmBacktrace};

use super::bindings::exports::reenact::agent::guest;
use super::engine::{HOSTCALL_BYTES, YIELD_FUEL};
use super::host::{self, Host};
use super::limiter::{Limiter, MAX_PARTS};
use super::program::{Program, Sandbox};
use super::stdio::{Lines, TAIL};
use super::turns::Turns;
use super::wasi;
use super::world::{Stopped, World};
use crate::journal::{ErrorCode, Place, RunError, Source};
use crate::json::Json;
use crate::revision::Limits;

/// Frames of a guest's backtrace that are worth keeping.
const MAX_FRAMES: usize = 20;

/// Bytes of a trapped guest's last words before journals of format 2.
const TAIL_V1: usize = 4 << 10;

/// What one run is given.
pub struct Job<W> {
    pub world: Box<W>,
    /// JSON text that fits the revision's input schema.
    pub input: String,
    pub limits: Limits,
    /// Start of the guest's random streams.
    pub seed: [u8; 32],
    /// Version of the journal's wire format: since 2, more is said of an error.
    pub format: u32,
}

/// How a run left the sandbox.
#[derive(Debug)]
pub enum End {
    /// The guest returned; nothing about its output is checked yet.
    Returned(guest::Output),
    Failed(RunError),
    /// `interrupt` said so.
    Interrupted(Place),
    /// The world stopped the guest and knows why.
    Stopped,
    /// This machine could not do what the limits promise. Not the guest's doing.
    HostFault(String),
}

/// A run that has left the sandbox.
pub struct Finished<W> {
    pub world: Box<W>,
    pub end: End,
    /// Fuel used, exactly.
    pub fuel: u64,
    /// Largest size of all memories together, in bytes.
    pub memory_bytes: u64,
    /// Largest size of all tables together.
    pub table_elements: u64,
}

impl<W> Finished<W> {
    /// Of a guest that this machine could not load.
    fn never_began(world: Box<W>, why: String) -> Self {
        let end = End::HostFault(why);
        Self { world, end, fuel: 0, memory_bytes: 0, table_elements: 0 }
    }
}

impl<W: World> Sandbox<W> {
    /// Instantiates `program` and calls its `run`.
    ///
    /// `interrupt` is asked at each place where the guest can be interrupted; if
    /// it answers true the guest ends there.
    pub async fn run(
        &self,
        program: &Program<W>,
        job: Job<W>,
        interrupt: impl Fn(Place) -> bool + Send + Sync + 'static,
    ) -> Finished<W> {
        let turns = Arc::new(Turns::new(interrupt));
        let place = match self.pool.place(&program.ready, &job.limits) {
            Ok(place) => place,
            Err(error) => return Finished::never_began(job.world, error.to_string()),
        };
        let engine = place.pre.engine();
        let mut store = store(engine, job.world, &job.limits, job.seed, turns.clone());
        let mut yields = 0;
        let instantiated = AtomicBool::new(false);
        let result = {
            let call = async {
                let agent = place.pre.instantiate_async(&mut store).await?;
                instantiated.store(true, Ordering::Relaxed);
                agent.reenact_agent_guest().call_run(&mut store, &job.input).await
            };
            let mut call = std::pin::pin!(call);
            std::future::poll_fn(|context| match call.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if turns.is_waiting() => Poll::Pending,
                Poll::Pending => {
                    yields += 1;
                    match turns.interrupt_at(Place::Yield(yields)) {
                        true => Poll::Ready(None),
                        false => Poll::Pending,
                    }
                }
            })
            .await
        };
        let left = store.get_fuel().unwrap_or(0);
        let fuel = job.limits.fuel.saturating_sub(left);
        let mut host = store.into_data();
        host.fuel = fuel;
        host.lines.finish();
        let written = host.write_lines();
        let end = match (turns.interrupted(), result) {
            (Some(place), _) => End::Interrupted(place),
            // Lines without an end are written last; the world may have had enough.
            (None, _) if written.is_err() => End::Stopped,
            (None, Some(Ok(Ok(output)))) => End::Returned(output),
            (None, Some(Ok(Err(failure)))) => End::Failed(given_up(failure, &job.limits)),
            (None, Some(Err(error))) => match why(&error, &host, job.format) {
                // No code of the guest was running: the machine has no memory to map.
                Cause::Unknown(message) if !instantiated.into_inner() && !was_running(&error) => {
                    End::HostFault(message)
                }
                Cause::Unknown(message) => trap(message, &error, &host, job.format),
                Cause::Known(end) => end,
            },
            (None, None) => unreachable!("a call is given up only where it is interrupted"),
        };
        Finished {
            end,
            fuel,
            memory_bytes: host.limiter.peak_memory(),
            table_elements: host.limiter.peak_table(),
            world: host.world,
        }
    }
}

/// A store with everything that one guest may use.
fn store<W: World>(
    engine: &Engine,
    world: Box<W>,
    limits: &Limits,
    seed: [u8; 32],
    turns: Arc<Turns>,
) -> Store<Host<W>> {
    let lines = Lines::default();
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.handles as usize);
    let host = Host {
        world,
        limiter: Limiter::new(limits.memory_bytes, limits.table_elements),
        limits: *limits,
        fuel: 0,
        turns,
        host_calls: 0,
        wasi: wasi::context(seed, &lines),
        lines,
        http: wasi::Http::default(),
        table,
        timers: Default::default(),
    };
    let mut store = Store::new(engine, host);
    store.limiter(|host| &mut host.limiter);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store.set_max_component_handles(limits.handles as usize);
    store.set_fuel(limits.fuel).expect("the engine counts fuel");
    store.fuel_async_yield_interval(Some(YIELD_FUEL)).expect("the engine counts fuel");
    host::watch_calls(&mut store);
    store
}

fn given_up(failure: guest::Failure, limits: &Limits) -> RunError {
    let fits = |text: &String| text.len() as u64 <= limits.output_bytes;
    let details = failure.details.filter(fits).map(|text| {
        Json::parse(&text).unwrap_or_else(|_| Json::from_value(&serde_json::Value::String(text)))
    });
    RunError { details, ..RunError::new(ErrorCode::AgentFailure, failure.message) }
}

/// Why a call into the guest failed.
enum Cause {
    Known(End),
    /// Nothing that the guest is known to do; in these words.
    Unknown(String),
}

fn why<W>(error: &wasmtime::Error, host: &Host<W>, format: u32) -> Cause {
    let limits = &host.limits;
    let failed = |code, message: String| {
        let backtrace = backtrace(error);
        // The guest had a say before these two ends: an interpreter tells its own calls.
        let explains = matches!(code, ErrorCode::OutOfMemory | ErrorCode::AgentFailure);
        let details = if format >= 2 && explains { last_words(host, format) } else { None };
        Cause::Known(End::Failed(RunError { details, backtrace, ..RunError::new(code, message) }))
    };
    let root = error.root_cause().to_string();
    if error.is::<Stopped>() {
        return Cause::Known(End::Stopped);
    }
    if host.limiter.host_fault() {
        return Cause::Known(End::HostFault(root));
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            let message = format!("the guest used up its {} of fuel", limits.fuel);
            return failed(ErrorCode::OutOfFuel, message);
        }
        Some(Trap::StackOverflow) => {
            let message = "the guest's calls nest deeper than its stack allows".to_owned();
            return failed(ErrorCode::StackOverflow, message);
        }
        _ => {}
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        let message = format!("the guest called exit({}) instead of returning", exit.0);
        return failed(ErrorCode::AgentFailure, message);
    }
    let table_is_full = matches!(error.downcast_ref(), Some(ResourceTableError::Full));
    // From here on the engine's own types are private, and its words are all there is.
    if table_is_full || root.contains("handle limit") {
        let message = format!("the guest holds more than {} handles open", limits.handles);
        return failed(ErrorCode::TooManyHandles, message);
    }
    if root.contains("fuel allocated for hostcalls") {
        let message = format!("one host call passed more than {HOSTCALL_BYTES} bytes");
        return failed(ErrorCode::PayloadTooLarge, message);
    }
    if let Some(refusal) = host.limiter.refusal() {
        return failed(ErrorCode::OutOfMemory, refusal);
    }
    if root.contains("resource limit exceeded") {
        let message = format!("the guest has more than {MAX_PARTS} instances, memories or tables");
        return failed(ErrorCode::OutOfMemory, message);
    }
    match error.downcast_ref::<Trap>() {
        Some(_) => Cause::Known(trap(root, error, host, format)),
        None => Cause::Unknown(root),
    }
}

/// A trap, with the guest's last words.
fn trap<W>(message: String, error: &wasmtime::Error, host: &Host<W>, format: u32) -> End {
    End::Failed(RunError {
        code: ErrorCode::Trap,
        message: message.trim_start_matches("wasm trap: ").to_owned(),
        details: last_words(host, format),
        backtrace: backtrace(error),
    })
}

/// The newest lines that the guest wrote to stderr, as an error's details.
fn last_words<W>(host: &Host<W>, format: u32) -> Option<Json> {
    let said = host.lines.stderr_tail(if format >= 2 { TAIL } else { TAIL_V1 });
    (!said.is_empty()).then(|| Json::from_value(&json!({ "stderr": said })))
}

fn was_running(error: &wasmtime::Error) -> bool {
    error.downcast_ref::<WasmBacktrace>().is_some_and(|trace| !trace.frames().is_empty())
}

fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let frames = trace.frames().iter().take(MAX_FRAMES);
    frames
        .map(|frame| match frame.func_name() {
            Some(name) => name.chars().take(200).collect(),
            None => format!("function {}", frame.func_index()),
        })
        .collect()
}

impl From<guest::Source> for Source {
    fn from(source: guest::Source) -> Self {
        Self { url: source.url, title: source.title }
    }
}

//! An agent that misbehaves on request. It is for trying the sandbox: each
//! deed reaches for one limit, or looks for one hole.

// The deeds need WebAssembly; natively there is nothing to build or test.
#![cfg(target_os = "wasi")]

mod answers;
mod compute;
mod converse;
mod events;
mod tools;
mod wasi;

wit_bindgen::generate!({ path: "../../wit", world: "agent" });

use exports::reenact::agent::guest::{Content, Failure, Guest, Output};
use serde::Deserialize;
use serde_json::Value;

/// What to do. Where `n` or `text` means something, the deed says so.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deed {
    // Computation.
    /// Computes for ever.
    Loop,
    /// Allocates and touches `n` MiB, or memory without end.
    Memory,
    /// Calls itself `n` deep, or without end.
    Recursion,
    /// Mixes an integer `n` times, a million by default; answers it.
    Compute,
    /// Reads the monotonic clock until it has moved by a millisecond.
    SpinClock,
    /// Makes NaNs in several ways; answers their bits.
    Nan,

    // Events.
    /// Emits an event of `n` MiB, 64 by default.
    HugeEvent,
    /// Emits `n` events, or events without end.
    Events,
    /// Emits data that is not JSON.
    InvalidEvent,
    /// Emits a kind that is none.
    BadKind,
    /// Closes a span that was never opened.
    UnknownSpan,
    /// Opens `n` spans, 3 by default, and closes none.
    OpenSpans,
    /// Emits an array `n` deep, 100,000 by default.
    DeepJson,

    // Tools.
    /// Calls a tool `n` times, or without end, whatever it answers.
    ToolCalls,
    /// Calls a tool `n` times at once, 1,000 by default.
    CallsAtOnce,
    /// Calls a tool with `n` MiB of arguments, 64 by default.
    BigArguments,
    /// Makes calls that should be refused; answers how they were.
    Deny,
    /// Makes the call that `text` says, as `TOOL JSON`; answers what it answered.
    Call,
    /// Makes such calls, one a line of `text`, one after the other.
    Calls,
    /// Talks `n` turns with a model, 100 by default, and sends the whole history
    /// with each, as chats do. What it says has `size` bytes, 1,000 by default,
    /// that repeat nothing. Of several `histories` each has its turn in turn.
    Converse,

    // Answers.
    /// Answers text that is not JSON.
    NotJson,
    /// Answers a document, where the manifest declares JSON.
    WrongType,
    /// Answers JSON that does not fit the output schema.
    WrongSchema,
    /// Answers `n` MiB, 64 by default.
    HugeOutput,
    /// Answers an object whose only member is an array `n` deep, 100,000 by
    /// default.
    NestedOutput,
    /// Gives up, saying `text`.
    Fail,

    // The ways out.
    /// Panics, saying `text`.
    Panic,
    /// Executes `unreachable`.
    Trap,
    /// Exits with status 3.
    Exit,

    // WASI.
    /// Prints `n` lines, 3 by default, and one to stderr.
    Stdout,
    /// Prints lines of 1 KiB without end.
    FloodStdout,
    /// Makes `n` timers, or timers without end, and drops none.
    Pollables,
    /// Sleeps for `n` seconds, an hour by default; answers how long it was.
    Sleep,
    /// Prints half a line to stderr, then sleeps for `n` seconds, an hour by default.
    HalfLine,
    /// Prints `n` MiB of empty lines in one write, 64 by default.
    BigWrite,
    /// Tries to send an HTTP request; answers how each step was refused.
    Http,
    /// Answers all that it can observe of the outside.
    LookAround,
}

#[derive(Deserialize)]
struct Input {
    #[serde(rename = "do")]
    deed: Deed,
    n: Option<u64>,
    text: Option<String>,
    size: Option<usize>,
    histories: Option<usize>,
}

struct Agent;

impl Guest for Agent {
    fn run(input: String) -> Result<Output, Failure> {
        let input: Input = serde_json::from_str(&input).expect("the input fits its schema");
        perform(input)
    }
}

fn perform(Input { deed, n, text, size, histories }: Input) -> Result<Output, Failure> {
    let text = text.unwrap_or_else(|| "the agent was told to".to_string());
    match deed {
        Deed::Loop => compute::endless(),
        Deed::Memory => answer(compute::memory(n)),
        Deed::Recursion => answer(compute::recursion(n)),
        Deed::Compute => answer(compute::mix(n.unwrap_or(1_000_000))),
        Deed::SpinClock => answer(compute::spin_clock()),
        Deed::Nan => answer(compute::nan()),

        Deed::HugeEvent => answer(events::huge(n.unwrap_or(64))),
        Deed::Events => answer(events::many(n)),
        Deed::InvalidEvent => answer(events::invalid()),
        Deed::BadKind => answer(events::bad_kind()),
        Deed::UnknownSpan => answer(events::unknown_span()),
        Deed::OpenSpans => answer(events::open_spans(n.unwrap_or(3))),
        Deed::DeepJson => answer(events::deep(n.unwrap_or(100_000))),

        Deed::ToolCalls => answer(tools::many(n)),
        Deed::CallsAtOnce => answer(tools::at_once(n.unwrap_or(1_000))),
        Deed::BigArguments => answer(tools::big_arguments(n.unwrap_or(64))),
        Deed::Deny => answer(tools::deny()),
        Deed::Call => answer(tools::one(&text)),
        Deed::Calls => answer(tools::each(&text)),
        Deed::Converse => {
            let (n, size) = (n.unwrap_or(100), size.unwrap_or(1_000));
            answer(converse::converse(n, size, histories.unwrap_or(1)))
        }

        Deed::NotJson => output(answers::not_json()),
        Deed::WrongType => output(answers::wrong_type()),
        Deed::WrongSchema => output(answers::wrong_schema()),
        Deed::HugeOutput => output(answers::huge(n.unwrap_or(64))),
        Deed::NestedOutput => output(answers::nested(n.unwrap_or(100_000))),
        Deed::Fail => Err(answers::failure(text)),

        Deed::Panic => panic!("{text}"),
        Deed::Trap => core::arch::wasm32::unreachable(),
        Deed::Exit => std::process::exit(3),

        Deed::Stdout => answer(wasi::stdout(n.unwrap_or(3))),
        Deed::FloodStdout => wasi::flood_stdout(),
        Deed::Pollables => answer(wasi::pollables(n)),
        Deed::Sleep => answer(wasi::sleep(n.unwrap_or(3600))),
        Deed::HalfLine => answer(wasi::half_line(n.unwrap_or(3600))),
        Deed::BigWrite => answer(wasi::big_write(n.unwrap_or(64))),
        Deed::Http => answer(wasi::http()),
        Deed::LookAround => answer(wasi::look_around()),
    }
}

fn answer(value: Value) -> Result<Output, Failure> {
    output(Content::Json(value.to_string()))
}

fn output(content: Content) -> Result<Output, Failure> {
    Ok(Output { content, sources: vec![] })
}

/// `n` MiB of JSON: a string between what comes before and after it. It is
/// allocated once and filled by copying, to reach the limit on it before those
/// on memory and fuel.
fn large_json(before: &str, n: u64, after: &str) -> String {
    let size = usize::try_from(n << 20).expect("n MiB fit in the address space");
    let kibibyte = "x".repeat(1 << 10);
    let mut json = String::with_capacity(size + before.len() + after.len() + 2);
    json.push_str(before);
    json.push('"');
    for _ in 0..size >> 10 {
        json.push_str(&kibibyte);
    }
    json.push('"');
    json.push_str(after);
    json
}

/// A JSON array within an array, `n` deep. It is written as text, because a
/// nested value would overflow the stack before the host sees it.
fn nested_array(n: u64) -> String {
    "[".repeat(n as usize) + &"]".repeat(n as usize)
}

/// Counts to `n`, or practically for ever.
fn times(n: Option<u64>) -> std::ops::Range<u64> {
    0..n.unwrap_or(u64::MAX)
}

export!(Agent);

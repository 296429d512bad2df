//! What a journal holds: the entry and its kinds.
//!
//! These types are the journal's wire format, version [`FORMAT`]. Encoded as
//! JSON they are hashed, stored, exported and replayed for ever: a change that
//! an old journal does not survive needs a new version and a reader for this one.

use serde::{Deserialize, Deserializer, Serialize};

use super::calls::*;
use crate::json::Json;
use crate::revision::{Digest, Limits};

/// Version of the entries' wire format.
///
/// | version | what is new |
/// | --- | --- |
/// | 1 | the first |
/// | 2 | approvals; a call's attempts and usage; rules and schema digest of a granted tool |
/// | 3 | forks |
///
/// All that is new is optional and left out when absent, so one reader serves
/// every version.
pub const FORMAT: u32 = 3;

/// The oldest version that is read.
pub const OLDEST_FORMAT: u32 = 1;

/// Microseconds since the Unix epoch.
pub type Micros = u64;

/// One line of a run's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Position in the journal: 0, 1, 2, … without a gap.
    pub seq: u64,
    /// When it was recorded. Never smaller than that of the entry before.
    pub at: Micros,
    /// Fuel that the guest had used by then.
    pub fuel: u64,
    pub body: Body,
}

impl Entry {
    /// Writes the entry's line, and nothing else, into `line`.
    pub fn encode(&self, line: &mut Vec<u8>) {
        line.clear();
        serde_json::to_writer(line, self).expect("an entry serialises");
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Always the first entry, and only that.
    Started(Box<Started>),
    /// The guest emitted an event.
    Event(Event),
    /// The guest opened an event that takes time. Spans are numbered from 0.
    SpanOpened(SpanOpened),
    SpanClosed(SpanClosed),
    /// A line that the guest wrote to stdout or stderr.
    Log(Log),
    /// The guest called a tool. Calls are numbered from 0.
    ToolCalled(ToolCalled),
    /// The run waits until a person has decided about a call.
    ApprovalAsked(ApprovalAsked),
    ApprovalAnswered(ApprovalAnswered),
    /// The tool's answer, in the order in which answers arrived.
    ToolAnswered(ToolAnswered),
    /// The guest waits for a time.
    SleepStarted(SleepStarted),
    SleepEnded,
    /// Always the last entry of a run that ended.
    Ended(Box<Ended>),
}

/// Everything that decides about a run before its first instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// UUID of the run.
    pub run: String,
    pub agent: String,
    pub revision: Digest,
    pub input: Json,
    /// 32 bytes in hex: the start of the run's random stream.
    pub seed: String,
    pub limits: Limits,
    /// The tools that the policy granted, by name in alphabetical order.
    pub tools: Vec<GrantedTool>,
    pub engine: Fingerprint,
    /// Whose beginning the run shares, if it is a fork. Since format 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
}

impl Started {
    /// The run's id as the guest sees it: a fork's guest sees the one that it saw
    /// in the beginning that is shared.
    pub fn seen_as(&self) -> &str {
        self.fork.as_ref().map_or(&self.run, |fork| &fork.seen_as)
    }

    /// When the run itself began: the first entry, which is of `first_at`, has the
    /// time of the parent's in a fork.
    pub fn began(&self, first_at: Micros) -> Micros {
        self.fork.as_ref().map_or(first_at, |fork| fork.made_at)
    }

    /// Entries of the journal that are there before the run itself does anything.
    pub fn shared(&self) -> u64 {
        self.fork.as_ref().map_or(1, |fork| fork.shared)
    }
}

/// Where a fork comes from. What is said of the parent here is not needed for a
/// replay: the fork's journal holds all of the beginning that they share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// UUID of the parent.
    pub run: String,
    /// Number of the last entry that is shared, in the parent's journal.
    pub at: u64,
    /// Hash of that entry in the parent's journal.
    pub head: Digest,
    /// Entries of this journal that are shared, the first one included. They are
    /// those of the parent but for questions to people that were still open, or
    /// belonged to calls that were: these are put anew.
    pub shared: u64,
    /// When the fork was made. The times of the entries that are shared are the
    /// parent's.
    pub made_at: Micros,
    /// The run's id as the guest sees it: that of the run which shares its beginning
    /// with nobody before it.
    pub seen_as: String,
    /// The answer in the last entry that is shared was set by hand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_result: bool,
}

/// The engine under which fuel and stack use are exact. Under another one they
/// may differ and are not compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Version of wasmtime.
    pub wasmtime: String,
    /// Target architecture, such as `x86_64`.
    pub arch: String,
    /// Bytes of stack that the guest may use.
    pub stack_bytes: u64,
    /// Fuel between two places where a computation can be interrupted.
    pub yield_fuel: u64,
    /// Bytes that one host call may copy out of the guest.
    pub hostcall_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// `planning`, `reasoning`, `context_compression` or the agent's own.
    pub kind: String,
    pub data: Json,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanOpened {
    pub span: u64,
    pub kind: String,
    pub data: Json,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanClosed {
    pub span: u64,
    pub data: Json,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub stream: Stream,
    /// One line without its end. Bytes that are not UTF-8 are replaced.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SleepStarted {
    pub until: Micros,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    pub outcome: Outcome,
    pub used: Used,
    /// For a run that was interrupted while the guest did not wait: where. A
    /// replay stops at the same place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted_at: Option<Place>,
}

/// A place in a guest's execution where it can be interrupted. Every execution
/// of the same run comes by the same places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The guest's so-many-eth yield in the middle of a computation, from 1.
    Yield(u64),
    /// The guest's so-many-eth call into the host, from 1.
    HostCall(u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done(Output),
    Error(RunError),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    pub content: Content,
    pub sources: Vec<Source>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Document(String),
    Json(Json),
}

/// Why a run ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunError {
    pub code: ErrorCode,
    pub message: String,
    /// What the agent added to its own failure.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub details: Option<Json>,
    /// The guest's functions at a trap, innermost first. Engines may differ here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}

/// Reads a `null` that is there as the JSON that it is: serde would take it for
/// nothing, and a replay would find that the guest did something else.
pub(super) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

impl RunError {
    /// An error that its code and one sentence tell.
    pub fn new(code: ErrorCode, message: String) -> Self {
        Self { code, message, details: None, backtrace: Vec::new() }
    }
}

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Every way in which a run can end as `error`. The set is closed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode { $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+ }

        impl ErrorCode {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

error_codes! {
    /// the agent itself gave up
    AgentFailure = "agent_failure",
    /// the output is not of the sealed type, or does not fit the sealed schema
    InvalidOutput = "invalid_output",
    /// the output is larger than `output_bytes`
    OutputTooLarge = "output_too_large",
    /// the guest trapped: a panic, an abort, an access out of bounds, …
    Trap = "trap",
    /// the guest used up `fuel`
    OutOfFuel = "out_of_fuel",
    /// the guest needed more than `memory_bytes` or `table_elements`
    OutOfMemory = "out_of_memory",
    /// the guest's calls nested deeper than its stack allows
    StackOverflow = "stack_overflow",
    /// the run took longer than `deadline_ms`
    Deadline = "deadline",
    /// somebody cancelled the run
    Cancelled = "cancelled",
    /// the guest emitted more than `events`
    TooManyEvents = "too_many_events",
    /// the guest made more than `tool_calls`, or more than `calls_at_once` together
    TooManyToolCalls = "too_many_tool_calls",
    /// the guest held more than `handles` open
    TooManyHandles = "too_many_handles",
    /// an event's name or data is malformed, or a span was closed that is not open
    InvalidEvent = "invalid_event",
    /// an event is larger than `event_bytes`, or one host call passed too many bytes
    PayloadTooLarge = "payload_too_large",
    /// the journal outgrew `journal_bytes`
    JournalTooLarge = "journal_too_large",
    /// models read and wrote more than `model_tokens`
    TooManyTokens = "too_many_tokens",
    /// models cost more than `model_cost_micros`
    TooExpensive = "too_expensive",
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a run used of its limits. Fuel is the entry's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// Largest size of all linear memories together.
    pub memory_bytes: u64,
    /// Largest size of all tables together.
    pub table_elements: u64,
    pub events: u64,
    pub tool_calls: u64,
    pub log_bytes: u64,
    pub output_bytes: u64,
    /// Bytes of the journal before its last entry.
    pub journal_bytes: u64,
    /// Tokens that models read and wrote. Since format 2.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub model_tokens: u64,
    /// What models cost, in millionths of the price table's unit. Since format 2.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub model_cost_micros: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

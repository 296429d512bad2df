//! Reenact runs AI agents as sealed WebAssembly components and re-enacts any
//! run from its journal.
//!
//! # The house
//!
//! Each module may use those below it, and none above.
//!
//! ```text
//! main.rs     parse, run a verb, print an error, exit
//! cli/        one file per verb; the only place that prints
//! client/     a server's API from the other side: requests, retries, streams
//! server/     the HTTP API; the only place that knows that HTTP is served
//! service/    runs that are asked for: queue, scheduler, keys; what is said of runs
//! telemetry/  traces of runs, from their journals, for OpenTelemetry
//! build       from an agent's folder to a sealed revision
//! config      the operator's reenact.toml: caps, grants, policy, secrets
//! runtime/    a run from start to outcome: executor, effects (the one door), replay, fork, what-if
//! sandbox/    everything wasmtime: engine, host functions, virtual WASI, memory limits
//! tools/      what an agent can call: catalogue, policy, secrets, one folder per provider
//! registry/   agents, revisions, the published pointer; bytes by digest
//! storage/    the database behind registry and journals
//! journal/    entries, hash chain, the portable run; plain values
//! revision/   manifest, schemas, limits, seal, digest; plain values
//! json        JSON as it is recorded
//! ```
//!
//! # Invariants
//!
//! - Everything that a guest can observe passes through [`runtime::effects`] and
//!   is in the journal, or follows from the revision and what is in the journal.
//! - Nothing outside [`runtime::effects`] knows whether a run is live.
//! - The replay decision ([`runtime::effects::decide`]) does no I/O.
//! - wasmtime is named under `sandbox/` only, SQLite under `storage/` only, and each
//!   protocol of tools in the folder of its provider.
//! - Secrets are known to `tools/` only; nothing that a tool answers holds one.
//! - The system's clock and randomness are read in `runtime/effects/system.rs` only.
//! - Only `cli/` prints.
//! - A revision's bytes are verified against its digest whenever they are read.
//!
//! `tests/it/tidy.rs` holds the tree against these rules.

pub mod build;
pub mod cli;
pub mod client;
pub mod config;
pub mod journal;
pub mod json;
pub mod registry;
pub mod revision;
pub mod runtime;
pub mod sandbox;
pub mod server;
pub mod service;
pub mod storage;
pub mod telemetry;
pub mod tools;

//! Everything wasmtime: the only engine configuration, linker, host functions
//! and limits on memory. No other module names a wasmtime type.
//!
//! A guest reaches the outside through a [`World`] and nothing else. The sandbox
//! does not know whether that world is live or a recording, and records nothing.

mod bindings;
mod cache;
mod engine;
mod host;
mod limiter;
mod pool;
mod program;
mod run;
mod stdio;
mod turns;
mod wasi;
mod world;

pub use bindings::exports::reenact::agent::guest::{
    Content as GuestContent, Output as GuestOutput,
};
pub use engine::fingerprint;
pub use program::{COMPILE_TIMEOUT, LoadError, Program, Sandbox};
pub use run::{End, Finished, Job};
pub use world::{Facts, Stopped, ToolRequest, World};

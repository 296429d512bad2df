//! Reenact runs AI agents as sealed WebAssembly components and re-enacts any run from its journal.

pub mod build;
pub mod journal;
pub mod json;
pub mod revision;

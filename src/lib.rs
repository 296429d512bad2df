//! Reenact runs AI agents as sealed WebAssembly components and re-enacts any run from its journal.

pub mod journal;
pub mod json;
pub mod registry;
pub mod revision;
pub mod storage;

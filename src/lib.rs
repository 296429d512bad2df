//! Reenact runs AI agents as sealed WebAssembly components and re-enacts any run from its journal.

pub mod build;
pub mod cli;
pub mod config;
pub mod journal;
pub mod json;
pub mod registry;
pub mod revision;
pub mod runtime;
pub mod sandbox;
pub mod storage;
pub mod tools;

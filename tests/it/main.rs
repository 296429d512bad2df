//! The integration tests, in one binary.

mod cache;
mod command_line;
mod crash;
mod determinism;
mod first;
mod golden;
mod interruption;
mod library;
mod lies;
mod portable;
mod properties;
mod refusals;
mod registry;
mod resume;
mod support;
mod tampering;
mod tidy;

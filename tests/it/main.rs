//! The integration tests, in one binary.

mod approvals;
mod cache;
#[cfg(unix)]
mod client;
mod command_line;
mod crash;
mod determinism;
mod endings;
mod first;
mod golden;
mod hosts;
mod http;
mod init;
mod interruption;
mod languages;
mod last_words;
mod library;
mod lies;
mod limits;
mod mcp;
mod model;
mod models;
mod odd_guests;
mod outside;
mod packing;
mod portable;
mod prompt;
mod properties;
mod refusals;
mod registry;
mod resume;
mod scripted_model;
mod servers;
mod service;
mod support;
mod tampering;
mod telemetry;
#[cfg(unix)]
mod terminal;
mod tidy;
mod waiting;
mod wat;
mod watching;
mod webhooks;
mod widening;

//! The integration tests, in one binary.

mod approvals;
mod cache;
mod command_line;
mod crash;
mod determinism;
mod endings;
mod first;
mod golden;
mod hosts;
mod interruption;
mod languages;
mod last_words;
mod library;
mod lies;
mod limits;
mod odd_guests;
mod outside;
mod portable;
mod properties;
mod refusals;
mod registry;
mod resume;
mod support;
mod tampering;
mod tidy;
mod wat;

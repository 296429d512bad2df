//! The integration tests, in one binary.

mod command_line;
mod crash;
mod first;
mod portable;
mod refusals;
mod registry;
mod support;

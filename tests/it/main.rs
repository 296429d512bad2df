//! The integration tests, in one binary.

mod first;
mod support;

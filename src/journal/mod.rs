//! The run's record: entries, the hash chain over them, and the portable form.
//!
//! Plain values: this module neither knows where a journal is stored nor who
//! replays it.

mod chain;
mod entry;

pub use chain::{Chain, Damage, Encoded, verify_all};
pub use entry::*;

//! The run's record: entries, the hash chain over them, and the portable form.
//!
//! Plain values: this module neither knows where a journal is stored nor who
//! replays it.

mod calls;
mod chain;
mod entry;
mod portable;

pub use calls::*;
pub use chain::{Chain, Damage, Encoded, verify_all, verify_prefix};
pub use entry::*;
pub use portable::{PortableError, PortableRun};

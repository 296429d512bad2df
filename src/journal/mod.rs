//! The run's record: entries, the hash chain over them, the form in which they are
//! stored, and the portable form.
//!
//! Plain values: this module neither knows where a journal is stored nor who
//! replays it.

mod calls;
mod chain;
mod entry;
mod pack;
mod portable;
mod time;

pub use calls::*;
pub use chain::{Chain, Damage, Encoded, verify_all, verify_prefix};
pub use entry::*;
pub use pack::{InvalidParts, Packed, Packer, Parts, Stored, Unreadable};
pub use portable::{PortableError, PortableRun};
pub use time::rfc3339;

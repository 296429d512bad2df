//! The sealed revision: its digest, its manifest and its limits. Plain values, no I/O.

mod digest;
mod limits;

pub use digest::{Digest, InvalidDigest};
pub use limits::{InvalidLimit, LimitInfo, Limits, SomeLimits};

pub struct Revision { pub digest: Digest, pub bytes: std::sync::Arc<[u8]> }

//! The only readings of the system's clock and randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::TryRng;

use crate::journal::Micros;

/// The time now. A clock before 1970 reads as 1970.
pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros().try_into().unwrap_or(Micros::MAX)
}

/// Start of a new run's random streams.
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut seed).expect("the system has randomness");
    seed
}

/// A new run's id: UUID version 7, so that ids sort by time.
pub fn run_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

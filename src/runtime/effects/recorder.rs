//! Where new entries go: a database, or memory.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;

use crate::journal::{Encoded, ErrorCode, Micros};

/// The record can no longer be written: the disk is full, the lease is lost, …
#[derive(Debug, Clone, thiserror::Error)]
#[error("the run cannot be recorded: {0}")]
pub struct RecordError(pub String);

/// How a run is entered in the list of runs when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// `None` if the run is done.
    pub code: Option<ErrorCode>,
    pub fuel: u64,
    pub at: Micros,
}

/// Takes a run's entries in order and keeps them.
pub trait Recorder: Send + Sync {
    /// Called once, before anything is pushed, with what is on record already.
    fn follow(&mut self, _recorded: &[Encoded]) {}

    /// Takes the next entry, recorded at `at` when the guest had used `fuel`. It is
    /// durable after the next [`Recorder::commit`], or
    /// some milliseconds later.
    fn push(&mut self, entry: Encoded, fuel: u64, at: Micros);

    /// Whether so much waits to be written that the guest should wait too.
    fn is_behind(&self) -> bool;

    /// Returns when everything pushed so far is durable.
    fn commit(&mut self) -> BoxFuture<'_, Result<(), RecordError>>;

    /// Commits everything together with the run's end.
    fn finish(&mut self, close: Close) -> BoxFuture<'_, Result<(), RecordError>>;
}

/// A journal in memory, for replays that go on and for tests.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<Encoded>>>);

impl Memory {
    pub fn entries(&self) -> Vec<Encoded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Recorder for Memory {
    fn push(&mut self, entry: Encoded, _: u64, _: Micros) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn commit(&mut self) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn finish(&mut self, _: Close) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

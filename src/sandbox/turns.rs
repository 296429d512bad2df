//! The guest's turns on its thread: when it waits, and where it is interrupted.
//!
//! Shared between the executor, which sees the guest pause, and the host
//! functions, which know why.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::journal::Place;

pub struct Turns {
    /// Set while a host function waits, so that such a pause can be told from
    /// a computation that yields.
    waiting: AtomicBool,
    interrupt: Box<dyn Fn(Place) -> bool + Send + Sync>,
    interrupted: OnceLock<Place>,
}

/// The guest ends here, in the middle of what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run was interrupted")]
pub struct Interrupted;

impl Turns {
    pub fn new(interrupt: impl Fn(Place) -> bool + Send + Sync + 'static) -> Self {
        Self {
            waiting: AtomicBool::new(false),
            interrupt: Box::new(interrupt),
            interrupted: OnceLock::new(),
        }
    }

    pub fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether the guest ends at `place`.
    pub fn interrupt_at(&self, place: Place) -> bool {
        (self.interrupt)(place) && self.interrupted.set(place).is_ok()
    }

    /// Where the guest was interrupted.
    pub fn interrupted(&self) -> Option<Place> {
        self.interrupted.get().copied()
    }
}

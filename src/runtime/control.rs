//! Interruption from outside: cancels and the deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::effects::system;
use crate::journal::{ErrorCode, Micros};

/// Cancels a run. Dropping it cancels nothing.
#[derive(Debug, Clone)]
pub struct Canceller(watch::Sender<bool>);

impl Canceller {
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}

/// Why a run is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    Cancelled,
    Deadline,
}

/// A run's view of what may interrupt it.
#[derive(Debug, Clone)]
pub struct Control {
    cancelled: watch::Receiver<bool>,
    /// `None` for a replay, which neither is cancelled nor runs late.
    deadline: Option<Micros>,
    /// Time that does not count, in microseconds: that of people.
    extended: Arc<AtomicU64>,
}

impl Control {
    /// For a live run that started at `started` and may take `limit_ms`.
    pub fn live(started: Micros, limit_ms: u64) -> (Canceller, Self) {
        let (sender, cancelled) = watch::channel(false);
        let at = started.saturating_add(limit_ms.saturating_mul(1_000));
        (Canceller(sender), Self { cancelled, deadline: Some(at), extended: Arc::default() })
    }

    /// For a replay: nothing interrupts it but its record.
    pub fn none() -> Self {
        let (_, cancelled) = watch::channel(false);
        Self { cancelled, deadline: None, extended: Arc::default() }
    }

    /// Whether the run should end now.
    pub fn due(&self) -> Option<Interrupt> {
        if *self.cancelled.borrow() {
            return Some(Interrupt::Cancelled);
        }
        let deadline = self.deadline()?;
        (system::now() >= deadline).then_some(Interrupt::Deadline)
    }

    /// Puts off the deadline.
    pub fn extend(&self, micros: Micros) {
        self.extended.fetch_add(micros, Ordering::Relaxed);
    }

    fn deadline(&self) -> Option<Micros> {
        Some(self.deadline?.saturating_add(self.extended.load(Ordering::Relaxed)))
    }

    /// Waits until somebody cancels the run.
    pub async fn cancelled(&self) -> Interrupt {
        let mut cancelled = self.cancelled.clone();
        if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
            // Nobody can cancel any more.
            std::future::pending::<()>().await;
        }
        Interrupt::Cancelled
    }

    /// Waits until the run should end.
    pub async fn interrupted(&self) -> Interrupt {
        let deadline = async {
            match self.deadline() {
                Some(deadline) => until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            cancelled = self.cancelled() => cancelled,
            () = deadline => Interrupt::Deadline,
        }
    }

    /// Waits for a time, unless the run should end before it.
    pub async fn sleep_until(&self, time: Micros) -> Result<(), Interrupt> {
        tokio::select! {
            biased;
            interrupt = self.interrupted() => Err(interrupt),
            () = until(time) => Ok(()),
        }
    }
}

impl Interrupt {
    /// The interruption that ends a run with `code`, if one does.
    pub fn of(code: ErrorCode) -> Option<Self> {
        [Self::Cancelled, Self::Deadline].into_iter().find(|interrupt| interrupt.code() == code)
    }

    pub fn code(self) -> ErrorCode {
        match self {
            Self::Cancelled => ErrorCode::Cancelled,
            Self::Deadline => ErrorCode::Deadline,
        }
    }
}

/// Waits until the system's clock shows `time`, also if the clock is set meanwhile.
pub(super) async fn until(time: Micros) {
    /// How long a change of the clock can go unnoticed.
    const CHECK_CLOCK: Duration = Duration::from_secs(60);
    loop {
        let left = time.saturating_sub(system::now());
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_micros(left).min(CHECK_CLOCK)).await;
    }
}

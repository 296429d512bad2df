//! Interruption from outside: cancels, the deadline, and hosts that stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::effects::system;
use crate::journal::{ErrorCode, Micros};

/// Cancels a run, or lets go of it. Dropping it does neither.
#[derive(Debug, Clone)]
pub struct Canceller(watch::Sender<Wish>);

/// What somebody outside wants of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    GoOn,
    /// Stop as it stands; calls under way may still answer until then.
    Leave {
        until: Micros,
    },
    Cancel,
}

impl Canceller {
    /// Ends the run, which is recorded.
    pub fn cancel(&self) {
        self.0.send_replace(Wish::Cancel);
    }

    /// Stops the run as it stands, to be resumed later. Calls that are under way
    /// have `grace` to answer.
    pub fn leave(&self, grace: Duration) {
        let until = system::now().saturating_add(grace.as_micros() as Micros);
        self.0.send_if_modified(|wish| {
            let goes_on = *wish == Wish::GoOn;
            if goes_on {
                *wish = Wish::Leave { until };
            }
            goes_on
        });
    }
}

/// Why a run ends before its guest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    Cancelled,
    Deadline,
}

/// Why a guest does not go on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The run ends here.
    End(Interrupt),
    /// The host lets go of the run, which has not ended.
    Leave,
}

/// A run's view of what may interrupt it.
#[derive(Debug, Clone)]
pub struct Control {
    wish: watch::Receiver<Wish>,
    /// `None` for a replay, which neither is cancelled nor runs late.
    deadline: Option<Micros>,
    /// Time that does not count, in microseconds: that of people.
    extended: Arc<AtomicU64>,
    /// How long a guest stays loaded while it waits; `None` for ever.
    patience: Option<Duration>,
}

impl Control {
    /// For a live run that started at `started` and may take `limit_ms`.
    pub fn live(started: Micros, limit_ms: u64) -> (Canceller, Self) {
        let (sender, wish) = watch::channel(Wish::GoOn);
        let deadline = Some(started.saturating_add(limit_ms.saturating_mul(1_000)));
        let extended = Arc::default();
        (Canceller(sender), Self { wish, deadline, extended, patience: None })
    }

    /// For a replay: nothing interrupts it but its record.
    pub fn none() -> Self {
        let (_, wish) = watch::channel(Wish::GoOn);
        Self { wish, deadline: None, extended: Arc::default(), patience: None }
    }

    /// Unloads the guest when it has waited for so long, or would.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The patience, if there is an end to it.
    pub fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// Whether the guest is not kept loaded until `time`.
    pub fn is_too_long(&self, time: Micros) -> bool {
        let left = Duration::from_micros(time.saturating_sub(system::now()));
        self.patience.is_some_and(|patience| left > patience)
    }

    /// Whether somebody wants the run to end.
    pub fn is_cancelled(&self) -> bool {
        *self.wish.borrow() == Wish::Cancel
    }

    /// Whether the run should stop now.
    pub fn due(&self) -> Option<Due> {
        match *self.wish.borrow() {
            Wish::Cancel => return Some(Due::End(Interrupt::Cancelled)),
            Wish::Leave { .. } => return Some(Due::Leave),
            Wish::GoOn => {}
        }
        let deadline = self.deadline()?;
        (system::now() >= deadline).then_some(Due::End(Interrupt::Deadline))
    }

    /// Puts off the deadline.
    pub fn extend(&self, micros: Micros) {
        self.extended.fetch_add(micros, Ordering::Relaxed);
    }

    /// When the run ends if it has not by then; `None` if never.
    pub fn deadline(&self) -> Option<Micros> {
        Some(self.deadline?.saturating_add(self.extended.load(Ordering::Relaxed)))
    }

    /// Waits until somebody wants the run to stop. One that is let go of has its
    /// grace first, if something is `under_way`; a cancel counts also then.
    pub async fn stopped(&self, under_way: bool) -> Due {
        let grace = match self.wished(|wish| *wish != Wish::GoOn).await {
            Wish::Cancel => return Due::End(Interrupt::Cancelled),
            Wish::Leave { until } if under_way => until,
            Wish::Leave { .. } | Wish::GoOn => return Due::Leave,
        };
        tokio::select! {
            biased;
            _ = self.wished(|wish| *wish == Wish::Cancel) => Due::End(Interrupt::Cancelled),
            () = until(grace) => Due::Leave,
        }
    }

    /// Waits until somebody has a wish that `fits`.
    async fn wished(&self, fits: impl FnMut(&Wish) -> bool) -> Wish {
        let mut wish = self.wish.clone();
        let wished = wish.wait_for(fits).await.map(|wish| *wish);
        match wished {
            Ok(wish) => wish,
            // Nobody can wish for anything any more.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the run should stop.
    pub async fn interrupted(&self, under_way: bool) -> Due {
        let deadline = async {
            match self.deadline() {
                Some(deadline) => until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            due = self.stopped(under_way) => due,
            () = deadline => Due::End(Interrupt::Deadline),
        }
    }

    /// Waits for a time, unless the run should stop before it.
    pub async fn sleep_until(&self, time: Micros) -> Result<(), Due> {
        tokio::select! {
            biased;
            due = self.interrupted(false) => Err(due),
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

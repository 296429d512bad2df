//! When runs are executed: what is due is put in the queue, what has its turn is
//! started, and what is under way is let go of when the service stops.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::hub::{Hub, Subscription};
use super::queue::{Counts, Next, Places, Queue};
use super::{Service, blocking};
use crate::journal::Micros;
use crate::runtime::{self, Canceller};

/// How soon it is noticed that another process has left a run, or decided something.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a new run waits for its turn before it is entered as one that waits. That is
/// another commit, and reading it again, so short runs should not come to that when many
/// are asked for at once; and whoever asks should not notice.
const SOON: Duration = Duration::from_millis(50);

/// How long a stop waits for runs that do not let go, beyond their time of grace.
const LAST_WAIT: Duration = Duration::from_secs(5);

pub struct Scheduler {
    queue: Mutex<Queue>,
    /// Somebody may have a turn.
    turn: Notify,
    /// Something may be due.
    due: Notify,
    /// A run was let go of.
    left: Notify,
    /// The runs that this process executes.
    held: Mutex<HashMap<String, Canceller>>,
    hub: Hub,
}

/// How many runs are where.
pub struct Snapshot {
    pub counts: Counts,
    /// Agents that have some, with how many wait for their turn and how many are loaded.
    pub by_agent: Vec<(String, usize, usize)>,
}

/// A run's turn: its places are given back when it is dropped.
pub(super) struct Turn {
    service: Service,
    pub run: String,
    pub agent: String,
    is_loaded: bool,
    /// The run waits without a process from here on.
    pub is_parked: bool,
}

impl Scheduler {
    pub fn new(places: Places) -> Self {
        Self {
            queue: Mutex::new(Queue::new(places)),
            turn: Notify::new(),
            due: Notify::new(),
            left: Notify::new(),
            held: Mutex::default(),
            hub: Hub::default(),
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        let queue = self.queue();
        Snapshot { counts: queue.counts(), by_agent: queue.by_agent() }
    }

    /// A run that is durable and can be executed.
    pub fn add(&self, run: &str, agent: &str) {
        self.change(|queue| queue.add(run, agent, runtime::now()));
    }

    /// Something has happened to a run that nobody has: it may be due.
    pub fn look(&self) {
        self.due.notify_one();
    }

    /// Cancels a run if this process has it.
    pub fn cancel(&self, run: &str) {
        if let Some(canceller) = self.held().get(run) {
            canceller.cancel();
        }
    }

    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Changes the queue; then turns are given, if there is anybody to give one to.
    fn change<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue();
        let answer = change(&mut queue);
        let has_turns = queue.has_turns();
        drop(queue);
        if has_turns {
            self.turn.notify_one();
        }
        answer
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Canceller>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Begins to execute runs: first all that can go on now. Returns when those are in
    /// the queue.
    pub async fn start(&self) -> Result<Vec<JoinHandle<()>>, super::ServiceError> {
        self.0.watchers.start(&self.0.storage).await?;
        self.take_due().await?;
        self.0.scheduler.queue().open();
        let (starting, looking) = (self.clone(), self.clone());
        Ok(vec![
            tokio::spawn(async move { starting.give_turns().await }),
            tokio::spawn(async move { looking.look_for_due().await }),
        ])
    }

    /// Stops: nothing new is started, and runs under way are let go of, to be resumed by
    /// whoever comes next. Calls under way have `grace` to answer.
    pub async fn stop(&self, grace: Duration) {
        let scheduler = &self.0.scheduler;
        scheduler.queue().close();
        let let_go = async {
            loop {
                let left = scheduler.left.notified();
                // Also those that had just got their turn.
                scheduler.held().values().for_each(|canceller| canceller.leave(grace));
                if scheduler.queue().counts().held == 0 {
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(100), left).await;
            }
        };
        if tokio::time::timeout(grace + LAST_WAIT, let_go).await.is_err() {
            let held = scheduler.queue().counts().held;
            tracing::warn!(
                "{held} runs did not let go in time; their leases run out by themselves"
            );
        }
        self.0.watchers.stop().await;
    }

    /// Watches a run, whoever executes it.
    pub fn subscribe(&self, run: &str) -> Subscription {
        self.0.scheduler.hub.subscribe(run)
    }

    /// A run that is not entered yet gets in line.
    pub(super) fn arrive(&self, run: &str, agent: &str) -> Arrival {
        let place = self.0.scheduler.change(|queue| queue.come(run, agent));
        let (run, agent) = (run.to_owned(), agent.to_owned());
        Arrival { service: self.clone(), run, agent, place: Some(place) }
    }

    pub fn counts(&self) -> Counts {
        self.0.scheduler.queue().counts()
    }

    async fn give_turns(&self) {
        let scheduler = &self.0.scheduler;
        loop {
            let next = scheduler.queue().next();
            match next {
                Some(Next::Start { run, agent }) => {
                    self.give(Turn::new(self.clone(), run, agent));
                }
                Some(Next::Enter) => {}
                Some(Next::Return { agent, place }) => {
                    if place.send(()).is_err() {
                        // Nobody wants it any more.
                        scheduler.queue().unload(&agent);
                    }
                }
                None => scheduler.turn.notified().await,
            }
        }
    }

    /// Has a run executed that waits.
    fn give(&self, turn: Turn) {
        let service = self.clone();
        tokio::spawn(async move { service.take_turn(turn).await });
    }

    async fn look_for_due(&self) {
        loop {
            let wait = match self.0.storage.next_wake(runtime::now()) {
                Ok(Some(wake)) => Duration::from_micros(wake.saturating_sub(runtime::now())),
                Ok(None) => LOOK_EVERY,
                Err(error) => {
                    tracing::error!("cannot look for runs that wait: {error}");
                    LOOK_EVERY
                }
            };
            let _ =
                tokio::time::timeout(wait.min(LOOK_EVERY), self.0.scheduler.due.notified()).await;
            if let Err(error) = self.take_due().await {
                tracing::error!("cannot look for runs that are due: {error}");
            }
        }
    }

    /// Puts all that is due in the queue.
    async fn take_due(&self) -> Result<(), super::ServiceError> {
        let storage = self.0.storage.clone();
        let due = blocking(move || Ok(storage.due_runs(runtime::now())?)).await?;
        let now = runtime::now();
        self.0.scheduler.change(|queue| {
            for run in due {
                queue.add(&run.id, &run.agent, now);
            }
        });
        Ok(())
    }
}

impl Turn {
    fn new(service: Service, run: String, agent: String) -> Self {
        Self { service, run, agent, is_loaded: true, is_parked: false }
    }

    /// The run is executed from here on, and can be cancelled.
    pub fn hold(&self, canceller: Canceller) {
        self.scheduler().held().insert(self.run.clone(), canceller);
    }

    /// Gives back the place of the guest, which is not loaded any more.
    pub fn unload(&mut self) {
        if std::mem::replace(&mut self.is_loaded, false) {
            self.scheduler().change(|queue| queue.unload(&self.agent));
        }
    }

    /// Waits for a place for the guest. `false` if there will not be one.
    pub async fn load(&mut self) -> bool {
        let place = self.scheduler().change(|queue| queue.come_back(&self.agent));
        self.is_loaded = Place { turn: self, place: Some(place) }.wait().await;
        self.is_loaded
    }

    pub fn went_on(&self) {
        self.scheduler().queue().went_on(&self.run);
    }

    /// The run could not go on. Answers when it is tried again.
    pub fn failed(&self) -> Micros {
        self.scheduler().queue().failed(&self.run, runtime::now())
    }

    fn scheduler(&self) -> &Scheduler {
        &self.service.0.scheduler
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.unload();
        let scheduler = self.scheduler();
        scheduler.held().remove(&self.run);
        scheduler.change(|queue| queue.leave(&self.run));
        scheduler.hub.release(&self.run);
        scheduler.left.notify_one();
        if self.is_parked {
            // It may be due again already, or soon.
            scheduler.look();
        }
    }
}

/// A run in line that is not entered yet. It gives up its place, or gives it back, when
/// it is dropped.
pub(super) struct Arrival {
    service: Service,
    run: String,
    agent: String,
    place: Option<oneshot::Receiver<()>>,
}

impl Arrival {
    /// The run's turn, if it comes soon.
    pub async fn turn(&mut self) -> Option<Turn> {
        let given = tokio::time::timeout(SOON, self.place.as_mut()?).await;
        given.is_ok_and(|given| given.is_ok()).then(|| self.take())
    }

    /// The run is entered by now, and waits as others do, or has just got its turn.
    pub fn entered(mut self) {
        if self.scheduler().change(|queue| queue.entered(&self.run, &self.agent)) {
            self.place = None;
        } else if let Some(turn) = self.given() {
            self.service.give(turn);
        } else {
            // It did not get in line, because the service has not started or stops.
            self.place = None;
            self.scheduler().add(&self.run, &self.agent);
        }
    }

    fn scheduler(&self) -> &Scheduler {
        &self.service.0.scheduler
    }

    fn given(&mut self) -> Option<Turn> {
        let is_given = self.place.as_mut()?.try_recv().is_ok();
        is_given.then(|| self.take())
    }

    fn take(&mut self) -> Turn {
        self.place = None;
        Turn::new(self.service.clone(), self.run.clone(), self.agent.clone())
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let Some(place) = &mut self.place else { return };
        place.close();
        if self.given().is_none() {
            self.place = None;
            self.scheduler().change(|queue| queue.withdraw(&self.run, &self.agent));
        }
    }
}

/// A place that is waited for; given back if nobody waits any more when it comes.
struct Place<'a> {
    turn: &'a Turn,
    place: Option<oneshot::Receiver<()>>,
}

impl Place<'_> {
    async fn wait(mut self) -> bool {
        let Some(place) = &mut self.place else { return false };
        let is_given = place.await.is_ok();
        self.place = None;
        is_given
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(mut place) = self.place.take() else { return };
        place.close();
        if place.try_recv().is_ok() {
            self.turn.scheduler().change(|queue| queue.unload(&self.turn.agent));
        }
    }
}

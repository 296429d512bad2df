//! Appending to the journal of a run in progress.
//!
//! Entries collect in the run's [`Lane`]; the first one puts a [`Flush`] in the
//! writer's queue, and that takes whatever has collected until its turn. So a
//! push costs two locks, and a busy writer takes more entries at a time. The
//! first flush of a new run creates it too, so that nobody has to wait for that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use super::error::StorageError;
use super::flush::{Act, Flush, Load, New};
use super::runs::{FIRST_EPOCH, NewRun, Newest, Parent, Taken};
use super::writer::Queue;
use super::{RunStatus, Storage};
use crate::journal::{Encoded, Micros, Stored};

/// Is told of each entry of a run, in order, once it is durable; it must not wait, for
/// the writer's thread calls it. It is dropped when the run has ended, or when its
/// appender has failed or is gone.
pub type Follower = Box<dyn Fn(&Arc<Encoded>) + Send>;

/// A follower that sends the entries on, however many.
pub fn follower() -> (Follower, UnboundedReceiver<Arc<Encoded>>) {
    let (sender, entries) = unbounded_channel();
    let follower: Follower = Box::new(move |entry| {
        // Nobody has to listen.
        let _ = sender.send(Arc::clone(entry));
    });
    (follower, entries)
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<'a> {
    Done,
    /// With the error's code.
    Error(&'a str),
}

/// The right to write one run's journal. After one operation has failed, all
/// further ones fail alike, so no journal has a gap.
pub struct Appender {
    lane: Arc<Lane>,
    idle_since: Option<Micros>,
    is_untouched: bool,
    /// Keeps the writer's thread alive too.
    storage: Storage,
}

pub(super) struct Lane {
    pub(super) run: String,
    /// The lease: whoever takes the run over counts it up.
    pub(super) epoch: i64,
    pub(super) queue: Arc<Queue>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// Of the run, once it is there.
    pub(super) key: Option<i64>,
    /// The run, until the first flush takes it along.
    new: Option<New>,
    waiting: Vec<Stored>,
    newest: Newest,
    /// Bytes of all entries that are not durable yet.
    pub(super) bytes: u64,
    /// A flush is in the queue for which nobody waits.
    queued: bool,
    /// Flushes in the queue for which somebody waits.
    awaited: usize,
    pub(super) failed: Option<StorageError>,
    pub(super) follower: Option<Follower>,
    /// Somebody wants the run cancelled, as was known when the lease was last renewed.
    pub(super) cancel: bool,
}

impl Appender {
    pub(super) fn new(
        storage: Storage,
        Taken { key, epoch, idle_since, is_untouched, cancel }: Taken,
        run: String,
        follower: Option<Follower>,
    ) -> Self {
        let state = State { key: Some(key), follower, cancel, ..State::default() };
        let lane = Lane::new(&storage, run, epoch, state);
        Self { lane, idle_since, is_untouched, storage }
    }

    pub(super) fn begin(
        storage: Storage,
        run: NewRun,
        parent: Option<Parent>,
        follower: Option<Follower>,
    ) -> Self {
        let id = run.id.clone();
        let state = State { new: Some(New { run, parent }), follower, ..State::default() };
        let lane = Lane::new(&storage, id, FIRST_EPOCH, state);
        Self { lane, idle_since: None, is_untouched: true, storage }
    }

    /// Since when the run had belonged to no process before this one, though it waited
    /// for nothing: the time of its newest entry. `None` for a run that did not stop.
    pub fn idle_since(&self) -> Option<Micros> {
        self.idle_since
    }

    /// Whether no process has gone on with the run before this one: it was created
    /// just now, or it was `pending`.
    pub fn is_untouched(&self) -> bool {
        self.is_untouched
    }

    /// The database that the run is in.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Id of the run.
    pub fn run(&self) -> &str {
        &self.lane.run
    }

    /// Adds the next entry, which was recorded at `at` when the guest had used
    /// `fuel`. It neither waits nor fails: it is durable after [`Self::commit`],
    /// or a few milliseconds later. Look at [`Self::pending_bytes`] now and then.
    pub fn push(&self, entry: impl Into<Stored>, fuel: u64, at: Micros) {
        let stored = entry.into();
        let mut state = self.lane.lock();
        if state.failed.is_some() {
            return;
        }
        state.bytes += stored.entry.bytes.len() as u64;
        state.newest = Newest { fuel, at };
        state.waiting.push(stored);
        if !state.queued && state.awaited == 0 {
            state.queued = true;
            let flush = Flush::new(&self.lane, Act::Append, None);
            if let Err(error) = self.lane.queue.add(Box::new(flush), false) {
                state.fail(&error);
            }
        }
    }

    /// Bytes of the entries that are not durable yet.
    pub fn pending_bytes(&self) -> u64 {
        self.lane.lock().bytes
    }

    /// Returns when everything that was pushed is durable.
    pub async fn commit(&self) -> Result<(), StorageError> {
        {
            let state = self.lane.lock();
            if state.failed.is_none() && state.bytes == 0 && state.new.is_none() {
                return Ok(());
            }
        }
        self.act(Act::Append).await
    }

    /// Gives up the run while it waits: until `wake_at`, or until one of the `calls`
    /// is decided. Others may go on with it at once if one has been.
    pub async fn park(&self, wake_at: Micros, calls: Vec<u64>) -> Result<(), StorageError> {
        self.act(Act::Park { wake_at, calls }).await
    }

    /// Whether somebody wants the run cancelled, as far as was known when it was taken
    /// over or its lease last renewed.
    pub fn is_to_be_cancelled(&self) -> bool {
        self.lane.lock().cancel
    }

    /// Keeps the lease until `until`. With 0 it is given up: anybody may go on.
    pub async fn renew_lease(&self, until: Micros) -> Result<(), StorageError> {
        self.act(Act::Renew { until }).await
    }

    /// Ends the run: what was pushed and the new status are one transaction.
    pub async fn finish(
        &self,
        ending: Ending<'_>,
        fuel: u64,
        now: Micros,
    ) -> Result<(), StorageError> {
        let (status, code) = match ending {
            Ending::Done => (RunStatus::Done, None),
            Ending::Error(code) => (RunStatus::Error, Some(code.to_owned())),
        };
        self.act(Act::End { status, code, fuel, now }).await
    }

    async fn act(&self, act: Act) -> Result<(), StorageError> {
        let (sender, receiver) = oneshot::channel();
        let flush = Flush::new(&self.lane, act, Some(sender));
        // Before it is in the queue: its turn may come at once.
        self.lane.lock().awaited += 1;
        self.lane.queue.add(Box::new(flush), true)?;
        receiver.await.unwrap_or_else(|_| Err(self.lane.queue.closed()))
    }
}

impl Lane {
    fn new(storage: &Storage, run: String, epoch: i64, state: State) -> Arc<Self> {
        let (queue, state) = (Arc::clone(&storage.0.queue), Mutex::new(state));
        Arc::new(Self { run, epoch, queue, state })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unknown(&self) -> StorageError {
        StorageError::UnknownRun { run: self.run.clone() }
    }
}

impl State {
    /// What a flush has to write whose turn has come. One for which nobody waits leaves
    /// it to the next for which somebody does: a run is written once per commit.
    pub(super) fn load(&mut self, is_awaited: bool) -> Load {
        if is_awaited {
            self.awaited -= 1;
        } else {
            self.queued = false;
            if self.awaited > 0 {
                return Load::default();
            }
        }
        let (new, entries) = (self.new.take(), std::mem::take(&mut self.waiting));
        Load { new, entries, newest: self.newest }
    }

    /// Keeps the first error only: the later ones follow from it.
    pub(super) fn fail(&mut self, error: &StorageError) {
        self.failed.get_or_insert_with(|| error.clone());
        self.follower = None;
        self.waiting.clear();
        self.bytes = 0;
    }
}

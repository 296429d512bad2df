//! Appending to the journal of a run in progress.
//!
//! Entries collect in the run's [`Lane`]; the first one puts a [`Flush`] in the
//! writer's queue, and that takes whatever has collected until its turn. So a
//! push costs two locks, and a busy writer takes more entries at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use super::entries::Body;
use super::error::{Failure, StorageError};
use super::runs::Taken;
use super::writer::{Job, Queue};
use super::{RunStatus, Storage, Waits};
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

struct Lane {
    run: String,
    key: i64,
    /// The lease: whoever takes the run over counts it up.
    epoch: i64,
    queue: Arc<Queue>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Stored>,
    /// Of the newest entry.
    fuel: u64,
    at: Micros,
    /// Bytes of all entries that are not durable yet.
    bytes: u64,
    /// A flush is in the queue for which nobody waits.
    queued: bool,
    failed: Option<StorageError>,
    follower: Option<Follower>,
    /// Somebody wants the run cancelled, as was known when the lease was last renewed.
    cancel: bool,
}

impl Appender {
    pub(super) fn new(
        storage: Storage,
        Taken { key, epoch, idle_since, is_untouched, cancel }: Taken,
        run: String,
        follower: Option<Follower>,
    ) -> Self {
        let queue = Arc::clone(&storage.0.queue);
        let state = Mutex::new(State { follower, cancel, ..State::default() });
        let lane = Arc::new(Lane { run, key, epoch, queue, state });
        Self { lane, idle_since, is_untouched, storage }
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
        (state.fuel, state.at) = (fuel, at);
        state.waiting.push(stored);
        if !state.queued {
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
            if state.failed.is_none() && state.bytes == 0 {
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
        self.lane.queue.add(Box::new(flush), true)?;
        receiver.await.unwrap_or_else(|_| Err(self.lane.queue.closed()))
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps the first error only: the later ones follow from it.
    fn fail(&mut self, error: &StorageError) {
        self.failed.get_or_insert_with(|| error.clone());
        self.follower = None;
        self.waiting.clear();
        self.bytes = 0;
    }
}

/// What to do once the entries are written.
enum Act {
    Append,
    Park { wake_at: Micros, calls: Vec<u64> },
    Renew { until: Micros },
    End { status: RunStatus, code: Option<String>, fuel: u64, now: Micros },
}

/// Writes what has collected in a lane.
struct Flush {
    lane: Arc<Lane>,
    act: Act,
    taken: Vec<Stored>,
    reply: Option<oneshot::Sender<Result<(), StorageError>>>,
}

impl Flush {
    fn new(
        lane: &Arc<Lane>,
        act: Act,
        reply: Option<oneshot::Sender<Result<(), StorageError>>>,
    ) -> Self {
        Self { lane: Arc::clone(lane), act, taken: Vec::new(), reply }
    }

    fn write(&self, db: &Connection, fuel: u64, at: Micros) -> Result<(), Failure> {
        if !self.taken.is_empty() {
            self.append(db, fuel, at)?;
        }
        self.act(db)
    }

    /// The statement that appends is also the one that checks the lease, the
    /// status and that no number is missing.
    fn append(&self, db: &Connection, fuel: u64, at: Micros) -> Result<(), Failure> {
        let Lane { key, epoch, .. } = *self.lane;
        let mut append = db.prepare_cached(
            "INSERT INTO entries (run, seq, hash, body, coding, parts)
             SELECT key, ?3, ?4, ?5, ?7, ?8 FROM runs
             WHERE key = ?1 AND lease_epoch = ?2 AND status = 'running' AND entries + ?6 = ?3",
        )?;
        for (index, stored) in self.taken.iter().enumerate() {
            let (seq, hash) = (stored.entry.seq, stored.entry.hash.as_bytes());
            let Body { bytes, coding, parts } = Body::of(stored);
            let values = params![key, epoch, seq, hash, bytes, index, coding, parts];
            if append.execute(values)? == 0 {
                return Err(self.refusal(db, Some((seq, index as u64)))?.into());
            }
        }
        let head = self.taken.last().map(|stored| stored.entry.hash.as_bytes());
        db.prepare_cached(
            "UPDATE runs SET entries = entries + ?2, head = ?3, fuel = ?4,
                             updated_at = max(updated_at, ?5) WHERE key = ?1",
        )?
        .execute(params![key, self.taken.len(), head, fuel, at])?;
        Ok(())
    }

    fn act(&self, db: &Connection) -> Result<(), Failure> {
        let Lane { key, epoch, .. } = *self.lane;
        let changed = match &self.act {
            Act::Append => return Ok(()),
            Act::Park { wake_at, calls } => {
                let waits = if calls.is_empty() { Waits::Sleep } else { Waits::Approval };
                let calls = serde_json::to_string(calls).unwrap_or_default();
                db.prepare_cached(
                    "UPDATE runs SET lease_until = 0, waits = ?4, wake_at = iif(EXISTS (
                         SELECT 1 FROM approvals
                         WHERE run = ?1 AND call IN (SELECT value FROM json_each(?5))
                     ), 0, ?3)
                     WHERE key = ?1 AND lease_epoch = ?2 AND status = 'running'",
                )?
                .execute(params![key, epoch, wake_at, waits.as_str(), calls])?
            }
            Act::Renew { until } => {
                let cancel: Option<bool> = db
                    .prepare_cached(
                        "UPDATE runs SET lease_until = ?3
                         WHERE key = ?1 AND lease_epoch = ?2
                           AND status IN ('pending', 'running') RETURNING cancel",
                    )?
                    .query_row(params![key, epoch, until], |row| row.get(0))
                    .optional()?;
                self.lane.lock().cancel |= cancel.unwrap_or(false);
                usize::from(cancel.is_some())
            }
            Act::End { status, code, fuel, now } => db
                .prepare_cached(
                    "UPDATE runs SET status = ?3, code = ?4, fuel = ?5, lease_until = 0,
                                     updated_at = max(updated_at, ?6)
                     WHERE key = ?1 AND lease_epoch = ?2 AND status = 'running'",
                )?
                .execute(params![key, epoch, status.as_str(), code, fuel, now])?,
        };
        if changed == 0 { Err(self.refusal(db, None)?.into()) } else { Ok(()) }
    }

    /// Why a statement changed nothing.
    fn refusal(&self, db: &Connection, entry: Option<(u64, u64)>) -> Result<StorageError, Failure> {
        let Lane { key, epoch, .. } = *self.lane;
        let row = db
            .prepare_cached("SELECT lease_epoch, status, entries FROM runs WHERE key = ?1")?
            .query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let run = self.lane.run.clone();
        let Some((owner, status, entries)): Option<(i64, RunStatus, u64)> = row else {
            return Ok(StorageError::UnknownRun { run });
        };
        Ok(match entry {
            _ if owner != epoch => StorageError::LeaseLost { run },
            Some((found, index)) if status == RunStatus::Running => {
                StorageError::NotDense { run, expected: entries + index, found }
            }
            _ => StorageError::WrongStatus { run, status },
        })
    }
}

impl Job for Flush {
    fn run(&mut self, db: &Connection) -> Result<(), StorageError> {
        let (fuel, at) = {
            let mut state = self.lane.lock();
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            state.queued &= self.reply.is_some();
            self.taken = std::mem::take(&mut state.waiting);
            (state.fuel, state.at)
        };
        let result = self.write(db, fuel, at).map_err(|error| error.at(&self.lane.queue.path));
        if let Err(error) = &result {
            // At once: a later job of the same batch must not go on after a gap.
            self.lane.lock().fail(error);
        }
        result
    }

    fn done(self: Box<Self>, result: Result<(), StorageError>) {
        let mut state = self.lane.lock();
        match &result {
            Err(error) => state.fail(error),
            Ok(()) => {
                for Stored { entry, .. } in self.taken {
                    state.bytes = state.bytes.saturating_sub(entry.bytes.len() as u64);
                    if let Some(follower) = &state.follower {
                        follower(&entry);
                    }
                }
                if matches!(self.act, Act::End { .. }) {
                    state.follower = None;
                }
            }
        }
        drop(state);
        if let Some(reply) = self.reply {
            let _ = reply.send(result);
        }
    }
}

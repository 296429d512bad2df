//! Writing what has collected in a run's lane: the run itself if it is new, its
//! entries, and what becomes of it after them.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use super::appender::Lane;
use super::error::{Failure, StorageError};
use super::runs::{NewRun, Newest, Parent};
use super::writer::Job;
use super::{RunStatus, Waits, entries, runs};
use crate::journal::{Micros, Stored};

/// A run that is to be created.
pub(super) struct New {
    pub(super) run: NewRun,
    pub(super) parent: Option<Parent>,
}

/// What to do once the entries are written.
pub(super) enum Act {
    Append,
    Park { wake_at: Micros, calls: Vec<u64> },
    Renew { until: Micros },
    End { status: RunStatus, code: Option<String>, fuel: u64, now: Micros },
}

/// What has collected in a lane.
#[derive(Default)]
pub(super) struct Load {
    pub(super) new: Option<New>,
    pub(super) entries: Vec<Stored>,
    pub(super) newest: Newest,
}

impl Load {
    fn is_empty(&self) -> bool {
        self.new.is_none() && self.entries.is_empty()
    }
}

/// Writes what has collected in a lane.
pub(super) struct Flush {
    lane: Arc<Lane>,
    act: Act,
    /// What it writes, since its turn has come.
    load: Option<Load>,
    reply: Option<oneshot::Sender<Result<(), StorageError>>>,
}

impl Flush {
    pub(super) fn new(
        lane: &Arc<Lane>,
        act: Act,
        reply: Option<oneshot::Sender<Result<(), StorageError>>>,
    ) -> Self {
        Self { lane: Arc::clone(lane), act, load: None, reply }
    }
}

impl Job for Flush {
    fn run(&mut self, db: &Connection) -> Result<(), StorageError> {
        let Self { lane, act, load, reply } = self;
        let (load, key) = {
            let mut state = lane.lock();
            let load = load.get_or_insert_with(|| state.load(reply.is_some()));
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            (&*load, state.key)
        };
        if load.is_empty() && matches!(act, Act::Append) {
            return Ok(());
        }
        let result = write(db, lane, key, load, act).map_err(|error| error.at(&lane.queue.path));
        if let Err(error) = &result {
            // At once: a later job of the same batch must not go on after a gap.
            lane.lock().fail(error);
        }
        result
    }

    fn has_written(&self) -> bool {
        self.reply.is_some() || self.load.as_ref().is_some_and(|load| !load.is_empty())
    }

    fn done(self: Box<Self>, result: Result<(), StorageError>) {
        let mut state = self.lane.lock();
        match &result {
            Err(error) => state.fail(error),
            Ok(()) => {
                for Stored { entry, .. } in self.load.unwrap_or_default().entries {
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

fn write(
    db: &Connection,
    lane: &Lane,
    key: Option<i64>,
    load: &Load,
    act: &Act,
) -> Result<(), Failure> {
    let Load { new, entries, newest } = load;
    let (key, entries) = match new {
        None => (key.ok_or_else(|| lane.unknown())?, &entries[..]),
        Some(New { run, parent }) => {
            let key = runs::insert(db, run, parent.as_ref(), entries, *newest)?;
            // Another one, if this transaction is undone and comes again.
            lane.lock().key = Some(key);
            (key, &[][..])
        }
    };
    let row = Row { db, lane, key };
    match act {
        Act::End { status, code, fuel, now } => {
            let newest = Newest { fuel: *fuel, at: newest.at.max(*now) };
            row.append(entries, newest, Some((*status, code.as_deref())))
        }
        _ if !entries.is_empty() => row.append(entries, *newest, None),
        _ => Ok(()),
    }?;
    match act {
        Act::Append | Act::End { .. } => Ok(()),
        Act::Park { wake_at, calls } => row.park(*wake_at, calls),
        Act::Renew { until } => row.renew(*until),
    }
}

/// The run's row, which is changed only while the lease holds.
struct Row<'a> {
    db: &'a Connection,
    lane: &'a Lane,
    key: i64,
}

impl Row<'_> {
    /// Appends `entries`, and ends the run if there is an `end`. What is said of the run
    /// comes first: that statement checks the lease, the status and that no number is
    /// missing, and one that is refused has changed nothing.
    fn append(
        &self,
        entries: &[Stored],
        newest: Newest,
        end: Option<(RunStatus, Option<&str>)>,
    ) -> Result<(), Failure> {
        let Self { db, lane, key } = *self;
        let first = entries.first().map(|first| first.entry.seq);
        entries::check_dense(&lane.run, first.unwrap_or(0), entries)?;
        let head = entries.last().map(|last| last.entry.hash.as_bytes());
        let (epoch, count, Newest { fuel, at }) = (lane.epoch, entries.len(), newest);
        let changed = match end {
            None => db
                .prepare_cached(
                    "UPDATE runs SET entries = entries + ?4, head = ?5, fuel = ?6,
                                     updated_at = max(updated_at, ?7)
                     WHERE key = ?1 AND lease_epoch = ?2 AND status = 'running' AND entries = ?3",
                )?
                .execute(params![key, epoch, first, count, head, fuel, at])?,
            Some((status, code)) => db
                .prepare_cached(
                    "UPDATE runs SET entries = entries + ?4, head = coalesce(?5, head), fuel = ?6,
                                     updated_at = max(updated_at, ?7), status = ?8, code = ?9,
                                     lease_until = 0
                     WHERE key = ?1 AND lease_epoch = ?2 AND status = 'running'
                       AND entries = coalesce(?3, entries)",
                )?
                .execute(params![
                    key,
                    epoch,
                    first,
                    count,
                    head,
                    fuel,
                    at,
                    status.as_str(),
                    code
                ])?,
        };
        self.check(changed, first)?;
        entries::insert(db, key, entries)
    }

    fn park(&self, wake_at: Micros, calls: &[u64]) -> Result<(), Failure> {
        let waits = if calls.is_empty() { Waits::Sleep } else { Waits::Approval };
        let calls = serde_json::to_string(calls).unwrap_or_default();
        let changed = self
            .db
            .prepare_cached(
                "UPDATE runs SET lease_until = 0, waits = ?4, wake_at = iif(EXISTS (
                     SELECT 1 FROM approvals
                     WHERE run = ?1 AND call IN (SELECT value FROM json_each(?5))
                 ), 0, ?3)
                 WHERE key = ?1 AND lease_epoch = ?2 AND status = 'running'",
            )?
            .execute(params![self.key, self.lane.epoch, wake_at, waits.as_str(), calls])?;
        self.check(changed, None)
    }

    fn renew(&self, until: Micros) -> Result<(), Failure> {
        let cancel: Option<bool> = self
            .db
            .prepare_cached(
                "UPDATE runs SET lease_until = ?3
                 WHERE key = ?1 AND lease_epoch = ?2
                   AND status IN ('pending', 'running') RETURNING cancel",
            )?
            .query_row(params![self.key, self.lane.epoch, until], |row| row.get(0))
            .optional()?;
        self.lane.lock().cancel |= cancel.unwrap_or(false);
        self.check(usize::from(cancel.is_some()), None)
    }

    /// Why a statement changed nothing, if it did not. `first` is the number of the entry
    /// that was to come next.
    fn check(&self, changed: usize, first: Option<u64>) -> Result<(), Failure> {
        if changed > 0 {
            return Ok(());
        }
        let row = self
            .db
            .prepare_cached("SELECT lease_epoch, status, entries FROM runs WHERE key = ?1")?
            .query_row([self.key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((owner, status, expected)): Option<(i64, RunStatus, u64)> = row else {
            return Err(self.lane.unknown().into());
        };
        let run = self.lane.run.clone();
        Err(match first {
            _ if owner != self.lane.epoch => StorageError::LeaseLost { run },
            Some(found) if status == RunStatus::Running => {
                StorageError::NotDense { run, expected, found }
            }
            _ => StorageError::WrongStatus { run, status },
        }
        .into())
    }
}

//! Group commit: one thread writes, and everything that waits shares one `fsync`.
//!
//! Whoever wants to write adds a [`Job`] to the [`Queue`]. The thread takes all
//! jobs there are, runs them in one transaction and tells each how it ended. A
//! job that fails does nothing and harms no other; a commit that fails, fails all
//! of its jobs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::error::{Failure, StorageError};

/// How long a job for which nobody waits may wait for company. Short enough that
/// people who watch a run see it move, long enough that a run which emits one
/// event after another costs 200 commits a second and not thousands.
const FLUSH_AFTER: Duration = Duration::from_millis(5);

/// Something to write.
pub(super) trait Job: Send {
    /// Writes inside the transaction. What it wrote is undone if it fails. It is called
    /// again, to write the same again, if another job's failure undid all of them.
    fn run(&mut self, db: &Connection) -> Result<(), StorageError>;

    /// Whether it had something to write when it ran.
    fn has_written(&self) -> bool {
        true
    }

    /// Called after the commit: `Ok` means that it is durable.
    fn done(self: Box<Self>, result: Result<(), StorageError>);
}

/// What connects the callers with the thread.
pub(super) struct Queue {
    pub(super) path: PathBuf,
    state: Mutex<State>,
    bell: Condvar,
    commits: AtomicU64,
    jobs: AtomicU64,
}

/// What has been committed since the database was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Commits {
    pub commits: u64,
    /// What shared them: one for each run that wrote, or each other change.
    pub jobs: u64,
}

#[derive(Default)]
struct State {
    jobs: Vec<Box<dyn Job>>,
    /// Somebody waits for one of the jobs.
    urgent: bool,
    /// The thread waits for a first job, so it has to be woken.
    idle: bool,
    closed: bool,
}

impl Queue {
    pub(super) fn new(path: PathBuf) -> Self {
        let (commits, jobs) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { path, state: Mutex::default(), bell: Condvar::new(), commits, jobs }
    }

    pub(super) fn commits(&self) -> Commits {
        Commits {
            commits: self.commits.load(Ordering::Relaxed),
            jobs: self.jobs.load(Ordering::Relaxed),
        }
    }

    /// Adds a job, which is committed at once if it is `urgent`.
    pub(super) fn add(&self, job: Box<dyn Job>, urgent: bool) -> Result<(), StorageError> {
        let mut state = self.lock();
        if state.closed {
            return Err(self.closed());
        }
        state.jobs.push(job);
        let wake = state.idle || (urgent && !state.urgent);
        state.urgent |= urgent;
        drop(state);
        if wake {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// The thread commits what there is and ends.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_one();
    }

    pub(super) fn closed(&self) -> StorageError {
        StorageError::Closed { path: self.path.clone() }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn serve(&self, db: &Connection) {
        let _guard = CloseOnExit(self);
        while let Some(batch) = self.next_batch() {
            self.commit(db, batch);
        }
    }

    fn commit(&self, db: &Connection, mut batch: Vec<Box<dyn Job>>) {
        let (results, end) = transaction(db, &self.path, &mut batch);
        let written = batch.iter().filter(|job| job.has_written()).count();
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.jobs.fetch_add(written as u64, Ordering::Relaxed);
        for (job, result) in batch.into_iter().zip(results) {
            job.done(end.clone().and(result));
        }
    }

    fn next_batch(&self) -> Option<Vec<Box<dyn Job>>> {
        let mut state = self.lock();
        state.idle = true;
        let wait = self.bell.wait_while(state, |state| state.jobs.is_empty() && !state.closed);
        state = wait.unwrap_or_else(PoisonError::into_inner);
        state.idle = false;
        // An urgent one waits for no company: whoever comes while a commit is under way
        // shares the next one anyway.
        let linger = |state: &mut State| !state.urgent && !state.closed;
        let wait = self.bell.wait_timeout_while(state, FLUSH_AFTER, linger);
        state = wait.unwrap_or_else(PoisonError::into_inner).0;
        state.urgent = false;
        let batch = std::mem::take(&mut state.jobs);
        (!batch.is_empty()).then_some(batch)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// If the thread panics, nobody may wait for it for ever: dropping the jobs
/// drops what their callers wait for.
struct CloseOnExit<'a>(&'a Queue);

impl Drop for CloseOnExit<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        drop(jobs);
    }
}

type Outcome = Result<(), StorageError>;

/// Answers how each job ended, and how the transaction did.
fn transaction(
    db: &Connection,
    path: &Path,
    batch: &mut [Box<dyn Job>],
) -> (Vec<Outcome>, Outcome) {
    let mut results = vec![Ok(()); batch.len()];
    loop {
        match attempt(db, path, batch, &mut results) {
            // One job fewer runs each time.
            Ok(Attempt::Undone) => {}
            Ok(Attempt::Committed) => return (results, Ok(())),
            Err(error) => return (results, Err(error)),
        }
    }
}

enum Attempt {
    Committed,
    /// A job failed that had changed something, so nothing is changed now.
    Undone,
}

/// Runs the jobs that have not failed.
///
/// They have no savepoints: those make SQLite copy every page that each of them
/// changes, and a job finds out whether it may write before it does. One that fails
/// later takes the others along, and they run again without it.
fn attempt(
    db: &Connection,
    path: &Path,
    batch: &mut [Box<dyn Job>],
    results: &mut [Outcome],
) -> Result<Attempt, StorageError> {
    // Immediate: a transaction that begins by reading cannot wait for the lock later.
    execute(db, path, "BEGIN IMMEDIATE")?;
    for (job, result) in batch.iter_mut().zip(results) {
        if result.is_err() {
            continue;
        }
        let changes = db.total_changes();
        *result = job.run(db);
        let Err(error) = result else { continue };
        // A full disk, say, makes SQLite roll back everything at once.
        if db.is_autocommit() {
            return Err(error.clone());
        }
        if db.total_changes() != changes {
            execute(db, path, "ROLLBACK")?;
            return Ok(Attempt::Undone);
        }
    }
    let end = execute(db, path, "COMMIT");
    if end.is_err() && !db.is_autocommit() {
        // There is nothing more to do if this fails too: the caller hears of the
        // commit, and the next `BEGIN` fails.
        let _ = execute(db, path, "ROLLBACK");
    }
    end.map(|()| Attempt::Committed)
}

fn execute(db: &Connection, path: &Path, sql: &str) -> Outcome {
    let run = || db.prepare_cached(sql)?.execute([]);
    run().map(drop).map_err(|error| Failure::from(error).at(path))
}

#[cfg(test)]
mod tests {
    use crate::storage::{Storage, StorageError};

    #[test]
    fn a_panic_in_the_thread_is_an_error_for_its_callers() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(&folder.path().join("reenact.db")).unwrap();
        let panics = storage.write_blocking::<()>(|_| panic!("on purpose"));
        assert!(matches!(panics, Err(StorageError::Closed { .. })));
        let after = storage.write_blocking(|_| Ok(()));
        assert!(matches!(after, Err(StorageError::Closed { .. })));
        assert_eq!(storage.agents().unwrap(), [], "what is there can still be read");
    }
}

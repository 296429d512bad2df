//! The database behind journal and registry: one SQLite file.
//!
//! A [`Storage`] is a cheap handle. One thread per process owns the connection
//! that writes and commits for everybody at once (`writer`); reads go through
//! connections of their own and see a snapshot. Several processes may use the
//! same file at the same time.
//!
//! Nothing here reads the clock, checks a journal's chain or touches the files of
//! revisions: times come from callers, chains are `journal`'s work, files
//! `registry`'s. No type of SQLite's leaves this module.

mod agents;
mod appender;
mod approvals;
mod deliveries;
mod entries;
mod error;
mod flush;
mod forks;
mod keys;
mod migrations;
mod open;
mod runs;
mod submissions;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

pub use agents::{AgentEdit, AgentRow, AgentTotals, RevisionRow};
pub use appender::{Appender, Ending, Follower, follower};
pub use approvals::ApprovalRow;
pub use deliveries::{Attempted, Claimed, DeliveryFilter, DeliveryRow, DeliveryState, WebhookRow};
use error::Failure;
pub use error::StorageError;
pub use keys::KeyRow;
pub use runs::{DueRun, NewRun, Parent, RunFilter, RunRow, RunStatus, Waits};
pub use submissions::{Submission, Submitted};
pub use writer::Commits;
use writer::{Job, Queue};

/// Connections for reading that are kept when nobody uses them: as many as read
/// at once on a small machine. More are opened when needed, and closed again.
const IDLE_READERS: usize = 4;

/// A handle to the database. The last one that is dropped, [`Appender`]s
/// included, commits what is pending and waits for that.
#[derive(Clone)]
pub struct Storage(Arc<Inner>);

struct Inner {
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
    readers: Mutex<Vec<Connection>>,
}

impl Storage {
    /// Opens the database at `path`, creates it if there is none, and brings its
    /// schema up to date. The folder must exist.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let db = open::writer(path)?;
        let queue = Arc::new(Queue::new(path.to_owned()));
        let serving = Arc::clone(&queue);
        let writer = std::thread::Builder::new()
            .name("reenact-storage".into())
            .spawn(move || serving.serve(&db))
            .map_err(|error| StorageError::Open {
                path: path.to_owned(),
                cause: error.to_string(),
            })?;
        Ok(Self(Arc::new(Inner { queue, writer: Some(writer), readers: Mutex::default() })))
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.0.queue.path
    }

    /// What this handle and its clones have committed.
    pub fn commits(&self) -> Commits {
        self.0.queue.commits()
    }

    /// Runs `query` on a connection that cannot write.
    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, StorageError> {
        let readers = || self.0.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = readers().pop();
        let db = idle.map_or_else(|| open::reader(self.path()), Ok)?;
        let answer = query(&db).map_err(|failure| failure.at(self.path()));
        let mut readers = readers();
        if readers.len() < IDLE_READERS {
            readers.push(db);
        }
        answer
    }

    /// Runs `work` in the writer's next transaction; durable when it returns. It may
    /// run more than once: see [`Job::run`].
    async fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (sender, receiver) = oneshot::channel();
        self.0.add(work, move |answer| drop(sender.send(answer)))?;
        receiver.await.unwrap_or_else(|_| Err(self.0.queue.closed()))
    }

    /// As [`Storage::write`], for callers that are not asynchronous. It blocks for
    /// the time of a commit or two.
    fn write_blocking<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.0.add(work, move |answer| drop(sender.send(answer)))?;
        receiver.recv().unwrap_or_else(|_| Err(self.0.queue.closed()))
    }
}

impl Inner {
    fn add<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, Failure> + Send + 'static,
        reply: impl FnOnce(Result<T, StorageError>) + Send + 'static,
    ) -> Result<(), StorageError> {
        let call = Call { queue: Arc::clone(&self.queue), work, value: None, reply };
        self.queue.add(Box::new(call), true)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Readers go first: the last connection to close folds the log into the
        // file, and they are not allowed to.
        self.readers.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        self.queue.close();
        if let Some(writer) = self.writer.take() {
            // It has told its callers if it panicked.
            let _ = writer.join();
        }
    }
}

/// A job that somebody waits for and that answers with a value.
struct Call<W, T, R> {
    queue: Arc<Queue>,
    work: W,
    value: Option<T>,
    reply: R,
}

impl<W, T, R> Job for Call<W, T, R>
where
    W: Fn(&Connection) -> Result<T, Failure> + Send,
    T: Send,
    R: FnOnce(Result<T, StorageError>) + Send,
{
    fn run(&mut self, db: &Connection) -> Result<(), StorageError> {
        self.value = Some((self.work)(db).map_err(|failure| failure.at(&self.queue.path))?);
        Ok(())
    }

    fn done(self: Box<Self>, result: Result<(), StorageError>) {
        let Self { queue, value, reply, .. } = *self;
        reply(result.and_then(|()| value.ok_or_else(|| queue.closed())));
    }
}

//! Forks: runs that begin with entries of another one, and finding them.

use rusqlite::{Connection, params};

use super::entries::Body;
use super::error::{Failure, StorageError};
use super::runs::{NewRun, Parent, RunRow, Taken, insert, select};
use super::{Appender, Follower, Storage};
use crate::journal::Stored;

impl Storage {
    /// Creates a run with the entries that it shares with its parent, the first of
    /// which is its own. All of it is durable when it returns, or nothing; then the
    /// entries are sent to the follower. `fuel` is that of the last one.
    pub async fn create_fork(
        &self,
        run: NewRun,
        parent: Parent,
        entries: Vec<Stored>,
        fuel: u64,
        follower: Option<Follower>,
    ) -> Result<Appender, StorageError> {
        let id = run.id.clone();
        let known: Vec<_> = entries.iter().map(|stored| stored.entry.clone()).collect();
        let key = self.write(move |db| create(db, &run, &parent, &entries, fuel)).await?;
        if let Some(follower) = &follower {
            known.iter().for_each(follower);
        }
        Ok(Appender::new(self.clone(), Taken::created(key), id, follower))
    }

    /// The forks of a run, oldest first.
    pub fn forks_of(&self, run: &str) -> Result<Vec<RunRow>, StorageError> {
        self.read(|db| select(db, "WHERE parent = ?1 ORDER BY created_at, id", &[&run]))
    }
}

fn create(
    db: &Connection,
    run: &NewRun,
    parent: &Parent,
    entries: &[Stored],
    fuel: u64,
) -> Result<i64, Failure> {
    let no_entry = || StorageError::NotDense { run: run.id.clone(), expected: 0, found: 1 };
    let [first, shared @ ..] = entries else { return Err(no_entry().into()) };
    let key = insert(db, run, first)?;
    let mut append = db.prepare_cached(
        "INSERT INTO entries (run, seq, hash, body, coding, parts) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (expected, stored) in (1..).zip(shared) {
        let (found, hash) = (stored.entry.seq, stored.entry.hash.as_bytes());
        if found != expected {
            return Err(StorageError::NotDense { run: run.id.clone(), expected, found }.into());
        }
        let Body { bytes, coding, parts } = Body::of(stored);
        append.execute(params![key, found, hash, bytes, coding, parts])?;
    }
    let head = entries.last().map(|last| last.entry.hash.as_bytes());
    db.prepare_cached(
        "UPDATE runs SET entries = ?2, head = ?3, fuel = ?4, parent = ?5, parent_at = ?6
         WHERE key = ?1",
    )?
    .execute(params![key, entries.len(), head, fuel, parent.run, parent.at])?;
    Ok(key)
}

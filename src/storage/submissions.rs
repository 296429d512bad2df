//! Runs that clients ask for: they wait for their turn, and a request that is sent
//! twice makes one run.

use std::slice;

use rusqlite::{Connection, OptionalExtension, params};

use super::error::{Failure, StorageError};
use super::runs::{self, Newest, Taken};
use super::{Appender, Follower, NewRun, Parent, Storage};
use crate::journal::{Micros, Stored};
use crate::revision::Digest;

/// How long the name of a request is remembered.
const REMEMBERED: Micros = 24 * 3_600 * 1_000_000;

/// Names that are forgotten with each new one, at most: faster than they come.
const FORGOTTEN_AT_ONCE: u32 = 4;

/// A name that a client gives a request, so that sending it again does nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Who sends it: the names of different clients have nothing to do with each other.
    pub owner: String,
    pub name: String,
    /// Of all that the request says.
    pub digest: Digest,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted<T = ()> {
    New(T),
    /// The same request made this run.
    Known(String),
    /// Another request had that name.
    Other,
}

impl<T> Submitted<T> {
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Submitted<U> {
        match self {
            Self::New(new) => Submitted::New(make(new)),
            Self::Known(run) => Submitted::Known(run),
            Self::Other => Submitted::Other,
        }
    }
}

impl Storage {
    /// As [`Storage::create_run`], unless the same request has entered a run before.
    pub async fn start_run(
        &self,
        run: NewRun,
        first: impl Into<Stored>,
        submission: Option<Submission>,
        follower: Option<Follower>,
    ) -> Result<Submitted<Appender>, StorageError> {
        let first = first.into();
        let (id, entry) = (run.id.clone(), first.entry.clone());
        let enter = move |db: &Connection| {
            once(db, &run, None, slice::from_ref(&first), 0, submission.as_ref())
        };
        let submitted = self.write(enter).await?;
        Ok(submitted.map(|key| {
            if let Some(follower) = &follower {
                follower(&entry);
            }
            Appender::new(self.clone(), Taken::created(key), id, follower)
        }))
    }

    /// Enters a run that waits for its turn. Durable when it returns.
    pub async fn submit_run(
        &self,
        run: NewRun,
        first: impl Into<Stored>,
        submission: Option<Submission>,
    ) -> Result<Submitted, StorageError> {
        let first = first.into();
        self.write(move |db| {
            let first = slice::from_ref(&first);
            Ok(once(db, &run, None, first, 0, submission.as_ref())?.map(drop))
        })
        .await
    }

    /// As [`Storage::submit_run`], for a fork. See [`Storage::create_fork`].
    pub async fn submit_fork(
        &self,
        run: NewRun,
        parent: Parent,
        entries: Vec<Stored>,
        fuel: u64,
        submission: Option<Submission>,
    ) -> Result<Submitted, StorageError> {
        self.write(move |db| {
            Ok(once(db, &run, Some(&parent), &entries, fuel, submission.as_ref())?.map(drop))
        })
        .await
    }

    /// What came of a request, if it was made before.
    pub fn submitted(&self, submission: &Submission) -> Result<Option<Submitted>, StorageError> {
        self.read(|db| find(db, submission))
    }
}

/// Enters a run, and answers its key, unless the same request has entered one before.
fn once(
    db: &Connection,
    run: &NewRun,
    parent: Option<&Parent>,
    entries: &[Stored],
    fuel: u64,
    submission: Option<&Submission>,
) -> Result<Submitted<i64>, Failure> {
    let now = run.created_at;
    let enter = || runs::insert(db, run, parent, entries, Newest { fuel, at: now });
    let Some(submission) = submission else { return Ok(Submitted::New(enter()?)) };
    forget(db, now)?;
    if let Some(known) = find(db, submission)? {
        return Ok(known);
    }
    let key = enter()?;
    let Submission { owner, name, digest } = submission;
    db.prepare_cached(
        "INSERT INTO submissions (owner, name, digest, run, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![owner, name, digest.as_bytes(), key, now])?;
    Ok(Submitted::New(key))
}

fn find<T>(db: &Connection, submission: &Submission) -> Result<Option<Submitted<T>>, Failure> {
    let known = db
        .prepare_cached(
            "SELECT submissions.digest, runs.id FROM submissions
             JOIN runs ON runs.key = submissions.run WHERE owner = ?1 AND name = ?2",
        )?
        .query_row([&submission.owner, &submission.name], |row| {
            Ok((Digest::from_bytes(row.get(0)?), row.get(1)?))
        })
        .optional()?;
    Ok(known.map(|(digest, run)| match digest == submission.digest {
        true => Submitted::Known(run),
        false => Submitted::Other,
    }))
}

fn forget(db: &Connection, now: Micros) -> Result<(), Failure> {
    db.prepare_cached(
        "DELETE FROM submissions WHERE rowid IN (
             SELECT rowid FROM submissions WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)",
    )?
    .execute(params![now.saturating_sub(REMEMBERED), FORGOTTEN_AT_ONCE])?;
    Ok(())
}

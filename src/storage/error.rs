//! What can go wrong in the database, as decisions that callers make.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::RunStatus;
use crate::journal::Micros;
use crate::revision::Digest;

/// Why the database refused or failed. It can be cloned, because one failed
/// commit fails everybody who took part in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    #[error("`{path}` is not a reenact database: {what}")]
    NotADatabase { path: PathBuf, what: String },
    #[error("`{path}` has schema version {found}, but this reenact knows only up to {known}")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("cannot open the database `{path}`: {cause}")]
    Open { path: PathBuf, cause: String },
    #[error("cannot write the database `{path}`: the disk is full")]
    DiskFull { path: PathBuf },
    #[error("another process holds the database `{path}`, and did not let go in time")]
    Busy { path: PathBuf },
    /// Anything else that SQLite says.
    #[error("the database `{path}` failed: {cause}")]
    Database { path: PathBuf, cause: String },
    /// The writer is gone, which only a bug can cause while a handle lives.
    #[error("the database `{path}` is closed")]
    Closed { path: PathBuf },

    /// Another process has taken the run over: stop working on it.
    #[error("the lease on run `{run}` is lost: another process has taken it over")]
    LeaseLost { run: String },
    /// The run cannot be taken over, because somebody works on it.
    #[error("run `{run}` belongs to another process")]
    LeaseHeld { run: String, until: Micros },
    #[error("run `{run}` is `{status}`")]
    WrongStatus { run: String, status: RunStatus },
    #[error("run `{run}` has {expected} entries, so entry {found} cannot be the next")]
    NotDense { run: String, expected: u64, found: u64 },
    #[error("there is no run `{run}`")]
    UnknownRun { run: String },
    #[error("`{prefix}` could be any of the runs {}", list(candidates))]
    AmbiguousRun { prefix: String, candidates: Vec<String> },

    #[error("agent `{agent}` has no revision `{digest}`")]
    UnknownRevision { agent: String, digest: Digest },
    #[error("revision `{digest}` belongs to agent `{owner}`, not to `{agent}`")]
    OtherAgents { digest: Digest, owner: String, agent: String },
}

impl StorageError {
    /// What the reader can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotADatabase { .. } => "move the file away, or choose another home folder",
            Self::Newer { .. } => "use the reenact that wrote it, or a newer one",
            Self::DiskFull { .. } => "free some space and try again",
            Self::Busy { .. } => "try again when the other process has finished",
            Self::UnknownRun { .. } => "`reenact runs` lists the runs",
            Self::AmbiguousRun { .. } => "give more of the run's id",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn list(candidates: &[String]) -> String {
    candidates.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")
}

/// What a statement inside this module ends with: SQLite's own error, which does
/// not know the path yet, or a refusal of ours.
#[derive(Debug)]
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Refused(StorageError),
}

impl Failure {
    pub(super) fn at(self, path: &Path) -> StorageError {
        let path = path.to_owned();
        let error = match self {
            Self::Refused(error) => return error,
            Self::Sqlite(error) => error,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StorageError::DiskFull { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StorageError::Busy { path }
            }
            Some(ErrorCode::NotADatabase) => {
                StorageError::NotADatabase { path, what: "it is not an SQLite file".into() }
            }
            _ => StorageError::Database { path, cause: error.to_string() },
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Refused(error)
    }
}

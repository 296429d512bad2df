//! Opening the file: whose it is, its settings, its schema.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::{Failure, StorageError};
use super::migrations::{APPLICATION_ID, MIGRATIONS, NEWEST};

/// How long a statement waits for another process. A commit takes milliseconds;
/// a process that holds the lock for so long has stopped.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const LOCK_POLL: Duration = Duration::from_millis(5);

/// Statements that a connection keeps prepared: more than this module has.
const PREPARED: usize = 64;

/// Opens the file for writing, creates it or brings its schema up to date.
pub(super) fn writer(path: &Path) -> Result<Connection, StorageError> {
    let _alone = lock(path)?;
    let open = |failure: Failure| match failure.at(path) {
        StorageError::Database { path, cause } => StorageError::Open { path, cause },
        other => other,
    };
    let mut db = connect(path, OpenFlags::default()).map_err(open)?;
    check_owner(&db, path).map_err(open)?;
    prepare(&mut db, path).map_err(open)?;
    Ok(db)
}

/// A further connection to a file that [`writer`] has opened.
pub(super) fn reader(path: &Path) -> Result<Connection, StorageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    connect(path, flags).map_err(|failure| failure.at(path))
}

/// Lets one process at a time open the file. SQLite does not wait for a lock
/// while the journal mode changes, and the migration reads the version before
/// its transaction begins: two processes would both create the schema.
fn lock(path: &Path) -> Result<File, StorageError> {
    let lock = path.with_extension("lock");
    let open = || {
        let file = File::options().create(true).truncate(false).write(true).open(&lock)?;
        for _ in 0..BUSY_TIMEOUT.as_millis() / LOCK_POLL.as_millis() {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "another process is opening it and does not end",
        ))
    };
    open().map_err(|error| StorageError::Open { cause: error.to_string(), path: lock.clone() })
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Failure> {
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(PREPARED);
    // Without it a statement with a `LIMIT` that is bound is prepared anew each time.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(db)
}

/// Refuses somebody else's file before anything in it is changed.
fn check_owner(db: &Connection, path: &Path) -> Result<(), Failure> {
    let (application, version, tables): (i32, i64, i64) = db.query_row(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
         FROM pragma_application_id, pragma_user_version",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let path = path.to_owned();
    if application != APPLICATION_ID && (application, version, tables) != (0, 0, 0) {
        let what = "another application wrote it".to_owned();
        return Err(StorageError::NotADatabase { path, what }.into());
    }
    if version > NEWEST {
        return Err(StorageError::Newer { path, found: version, known: NEWEST }.into());
    }
    Ok(())
}

fn prepare(db: &mut Connection, path: &Path) -> Result<(), Failure> {
    // The size to which a log that a long read made large is cut back.
    db.pragma_update(None, "journal_size_limit", 64 << 20)?;
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        let what = "its file system has no shared memory, which write-ahead logging needs";
        return Err(StorageError::Open { path: path.to_owned(), cause: what.into() }.into());
    }
    db.pragma_update(None, "synchronous", "full")?;
    db.pragma_update(None, "foreign_keys", true)?;
    MIGRATIONS.to_latest(db).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => Failure::Sqlite(err),
        other => Failure::Sqlite(rusqlite::Error::ToSqlConversionFailure(Box::new(other))),
    })
}

//! Runs: creating them, taking them over, finding and reading them.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::error::{Failure, StorageError};
use super::{Appender, Follower, Storage, entries};
use crate::journal::{Micros, Stored};
use crate::revision::Digest;

/// Candidates that an error about an ambiguous prefix lists.
const CANDIDATES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunStatus {
    Pending,
    Running,
    Done,
    Error,
}

/// A run to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// UUID in lower case. It orders runs of the same microsecond.
    pub id: String,
    pub agent: String,
    pub revision: Digest,
    pub created_at: Micros,
    /// When others may take the run over, unless the lease is renewed.
    pub lease_until: Micros,
    /// The run waits for its turn, until somebody takes it over.
    pub pending: bool,
}

/// What a run waits for that no process has loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    Approval,
    Sleep,
}

impl Waits {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Sleep => "sleep",
        }
    }
}

impl FromSql for Waits {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let known = [Self::Approval, Self::Sleep];
        let name = value.as_str()?;
        known.into_iter().find(|waits| waits.as_str() == name).ok_or(FromSqlError::InvalidType)
    }
}

/// A run as the database knows it without reading its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    pub id: String,
    pub agent: String,
    pub revision: Digest,
    pub status: RunStatus,
    /// The error's code, if the status is `error`.
    pub code: Option<String>,
    pub created_at: Micros,
    pub updated_at: Micros,
    /// How many entries are durable.
    pub entries: u64,
    /// Fuel used by the newest durable entry.
    pub fuel: u64,
    /// Hash of the newest durable entry.
    pub head: Digest,
    pub lease_until: Micros,
    /// What it waits for without a process.
    pub waits: Option<Waits>,
    /// When it has to go on at the latest, if it waits.
    pub wake_at: Micros,
    /// Somebody wants it cancelled.
    pub cancel: bool,
    /// Whose beginning it shares, if it is a fork.
    pub parent: Option<Parent>,
}

/// The run that a fork comes from, which need not be in this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    pub run: String,
    /// Number of the last entry that is shared, in the parent's journal.
    pub at: u64,
}

/// A run that can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRun {
    pub id: String,
    pub agent: String,
}

/// Which runs to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFilter {
    pub agent: Option<String>,
    pub status: Option<RunStatus>,
    pub revision: Option<Digest>,
    /// At most so many.
    pub limit: u32,
    /// Only those older than this run: the last one of the page before.
    pub before: Option<String>,
}

impl Default for RunFilter {
    fn default() -> Self {
        Self { agent: None, status: None, revision: None, limit: 100, before: None }
    }
}

impl Storage {
    /// Creates a run with its first entry. Durable when it returns, and then sent
    /// to the follower.
    pub async fn create_run(
        &self,
        run: NewRun,
        first: impl Into<Stored>,
        follower: Option<Follower>,
    ) -> Result<Appender, StorageError> {
        let at = run.created_at;
        let appender = self.begin_run(run, None, follower);
        appender.push(first, 0, at);
        appender.commit().await?;
        Ok(appender)
    }

    /// Begins a run that is created together with its first entries: neither waits nor
    /// fails. The run is there when [`Appender::commit`] has returned; if it cannot be
    /// created, that fails, and all that would come later.
    pub fn begin_run(
        &self,
        run: NewRun,
        parent: Option<Parent>,
        follower: Option<Follower>,
    ) -> Appender {
        Appender::begin(self.clone(), run, parent, follower)
    }

    /// Goes on with a run that has not ended and whose lease ran out before `now`; it is
    /// `running` from then on. Whoever had it cannot write to it any more.
    pub async fn take_over(
        &self,
        run: &str,
        now: Micros,
        lease_until: Micros,
        follower: Option<Follower>,
    ) -> Result<Appender, StorageError> {
        let id = run.to_owned();
        let taken = self.write(move |db| take(db, &id, now, lease_until)).await?;
        Ok(Appender::new(self.clone(), taken, run.to_owned(), follower))
    }

    /// Runs that have not ended and that nobody has a lease on, oldest first.
    pub fn abandoned_runs(&self, now: Micros) -> Result<Vec<RunRow>, StorageError> {
        self.read(|db| {
            let order = "WHERE status IN ('pending', 'running') AND lease_until < ?1
                         ORDER BY created_at, id";
            select(db, order, &[&now])
        })
    }

    /// Runs that can go on now: those that nobody has a lease on and that wait for nothing,
    /// or for a time that is over. Oldest first.
    pub fn due_runs(&self, now: Micros) -> Result<Vec<DueRun>, StorageError> {
        self.read(|db| {
            let mut rows = db.prepare_cached(
                "SELECT id, agent FROM runs
                 WHERE status IN ('pending', 'running') AND wake_at <= ?1 AND lease_until < ?1
                 ORDER BY created_at, id",
            )?;
            let rows = rows.query_map([now], |row| {
                Ok(DueRun { id: row.get("id")?, agent: row.get("agent")? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// When the next run is due that waits now.
    pub fn next_wake(&self, now: Micros) -> Result<Option<Micros>, StorageError> {
        self.read(|db| {
            let mut next = db.prepare_cached(
                "SELECT min(wake_at) FROM runs
                 WHERE status IN ('pending', 'running') AND wake_at > ?1",
            )?;
            Ok(next.query_row([now], |row| row.get(0))?)
        })
    }

    /// How many runs wait without a process, for a person and for a time.
    pub fn waiting_runs(&self) -> Result<(u64, u64), StorageError> {
        self.read(|db| {
            let mut count = db.prepare_cached(
                "SELECT count(*) FILTER (WHERE waits = 'approval'),
                        count(*) FILTER (WHERE waits = 'sleep') FROM runs
                 WHERE status IN ('pending', 'running') AND wake_at > 0",
            )?;
            Ok(count.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?)
        })
    }

    /// Asks for a run to be cancelled: whoever has it notices when it renews its lease,
    /// and one that nobody has is due at once. Answers the run as it is then.
    pub async fn cancel_run(&self, run: &str) -> Result<RunRow, StorageError> {
        let id = run.to_owned();
        self.write(move |db| {
            db.prepare_cached(
                "UPDATE runs SET cancel = 1, wake_at = 0
                 WHERE id = ?1 AND status IN ('pending', 'running')",
            )?
            .execute([&id])?;
            let row = select(db, "WHERE id = ?1", &[&id])?.pop();
            row.ok_or_else(|| StorageError::UnknownRun { run: id.clone() }.into())
        })
        .await
    }

    /// The run of that very id.
    pub fn run(&self, id: &str) -> Result<RunRow, StorageError> {
        let row = self.read(|db| Ok(select(db, "WHERE id = ?1", &[&id])?.pop()))?;
        row.ok_or_else(|| StorageError::UnknownRun { run: id.to_owned() })
    }

    /// The runs that `filter` asks for, newest first.
    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, StorageError> {
        self.read(|db| list(db, filter))
    }

    /// The one run whose id begins with `prefix`.
    pub fn run_by_prefix(&self, prefix: &str) -> Result<RunRow, StorageError> {
        let wanted = prefix.to_ascii_lowercase();
        // `g` comes after all that an id is written with.
        let end = format!("{wanted}g");
        let rows = "WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3";
        let limit = CANDIDATES;
        let mut found = self.read(|db| select(db, rows, &[&wanted, &end, &limit]))?;
        match found.len() {
            0 => Err(StorageError::UnknownRun { run: prefix.to_owned() }),
            1 => Ok(found.remove(0)),
            _ => Err(StorageError::AmbiguousRun {
                prefix: prefix.to_owned(),
                candidates: found.into_iter().map(|run| run.id).collect(),
            }),
        }
    }
}

pub(super) const FIRST_EPOCH: i64 = 1;

/// What a run's row says of its newest entry.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Newest {
    pub(super) fuel: u64,
    pub(super) at: Micros,
}

/// Enters a run with its first entries, those that it shares with its parent among
/// them. Answers its key.
pub(super) fn insert(
    db: &Connection,
    run: &NewRun,
    parent: Option<&Parent>,
    entries: &[Stored],
    newest: Newest,
) -> Result<i64, Failure> {
    entries::check_dense(&run.id, 0, entries)?;
    let Some(last) = entries.last() else {
        return Err(StorageError::NotDense { run: run.id.clone(), expected: 0, found: 1 }.into());
    };
    let status = if run.pending { RunStatus::Pending } else { RunStatus::Running };
    db.prepare_cached(
        "INSERT INTO runs (id, agent, revision, status, created_at, updated_at, entries, fuel,
                           head, lease_epoch, lease_until, parent, parent_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        run.id,
        run.agent,
        run.revision.as_bytes(),
        status.as_str(),
        run.created_at,
        newest.at.max(run.created_at),
        entries.len(),
        newest.fuel,
        last.entry.hash.as_bytes(),
        FIRST_EPOCH,
        run.lease_until,
        parent.map(|parent| &parent.run),
        parent.map(|parent| parent.at),
    ])?;
    let key = db.last_insert_rowid();
    entries::insert(db, key, entries)?;
    Ok(key)
}

/// A run that belongs to this process now.
pub(super) struct Taken {
    pub(super) key: i64,
    pub(super) epoch: i64,
    /// Since when no process had it, though it waited for nothing.
    pub(super) idle_since: Option<Micros>,
    /// No process has gone on with it before.
    pub(super) is_untouched: bool,
    /// Somebody wants it cancelled.
    pub(super) cancel: bool,
}

impl Taken {
    pub(super) fn created(key: i64) -> Self {
        let epoch = FIRST_EPOCH;
        Self { key, epoch, idle_since: None, is_untouched: true, cancel: false }
    }
}

fn take(db: &Connection, run: &str, now: Micros, until: Micros) -> Result<Taken, Failure> {
    let row = select(db, "WHERE id = ?1", &[&run])?.pop();
    let row = row.ok_or_else(|| StorageError::UnknownRun { run: run.to_owned() })?;
    let (status, lease) = (row.status, row.lease_until);
    if status.has_ended() {
        return Err(StorageError::WrongStatus { run: run.to_owned(), status }.into());
    }
    if lease >= now {
        return Err(StorageError::LeaseHeld { run: run.to_owned(), until: lease }.into());
    }
    let taken = db
        .prepare_cached(
            "UPDATE runs SET lease_epoch = lease_epoch + 1, lease_until = ?2, status = 'running',
                             waits = NULL, wake_at = 0 WHERE id = ?1 RETURNING key, lease_epoch",
        )?
        .query_row(params![run, until], |taken| Ok((taken.get(0)?, taken.get(1)?)))?;
    let idle_since = row.waits.is_none().then_some(row.updated_at);
    let (is_untouched, cancel) = (status == RunStatus::Pending, row.cancel);
    Ok(Taken { key: taken.0, epoch: taken.1, idle_since, is_untouched, cancel })
}

/// Builds the statement from the parts that the filter has, so that each
/// combination can use its index.
fn list(db: &Connection, filter: &RunFilter) -> Result<Vec<RunRow>, Failure> {
    let status = filter.status.map(RunStatus::as_str);
    let mut parts: Vec<&str> = Vec::new();
    let mut values: Vec<&dyn ToSql> = Vec::new();
    if let Some(agent) = &filter.agent {
        parts.push("agent = ?");
        values.push(agent);
    }
    if let Some(status) = &status {
        parts.push("status = ?");
        values.push(status);
    }
    if let Some(revision) = &filter.revision {
        parts.push("revision = ?");
        values.push(revision.as_bytes());
    }
    let created_at: Micros;
    if let Some(before) = &filter.before {
        created_at = db
            .prepare_cached("SELECT created_at FROM runs WHERE id = ?1")?
            .query_row([before], |row| row.get(0))
            .optional()?
            .ok_or_else(|| StorageError::UnknownRun { run: before.clone() })?;
        parts.push("(created_at, id) < (?, ?)");
        values.extend([&created_at as &dyn ToSql, before]);
    }
    let condition = parts.join(" AND ");
    let start = if parts.is_empty() { "" } else { "WHERE " };
    values.push(&filter.limit);
    select(db, &format!("{start}{condition} ORDER BY created_at DESC, id DESC LIMIT ?"), &values)
}

pub(super) fn select(
    db: &Connection,
    rest: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<RunRow>, Failure> {
    let mut rows = db.prepare_cached(&format!(
        "SELECT id, agent, revision, status, code, created_at, updated_at, entries, fuel, head,
                lease_until, waits, wake_at, cancel, parent, parent_at FROM runs {rest}"
    ))?;
    Ok(rows.query_map(values, read_row)?.collect::<Result<_, _>>()?)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        id: row.get("id")?,
        agent: row.get("agent")?,
        revision: Digest::from_bytes(row.get("revision")?),
        status: row.get("status")?,
        code: row.get("code")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        entries: row.get("entries")?,
        fuel: row.get("fuel")?,
        head: Digest::from_bytes(row.get("head")?),
        lease_until: row.get("lease_until")?,
        waits: row.get("waits")?,
        wake_at: row.get("wake_at")?,
        cancel: row.get("cancel")?,
        parent: match row.get("parent")? {
            Some(run) => Some(Parent { run, at: row.get("parent_at")? }),
            None => None,
        },
    })
}

impl RunStatus {
    pub const ALL: [Self; 4] = [Self::Pending, Self::Running, Self::Done, Self::Error];

    /// Whether a run that is at this stays so for ever.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Error)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Error => "error",
        }
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromSql for RunStatus {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(FromSqlError::InvalidType)
    }
}

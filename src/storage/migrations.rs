//! The schema, one migration per version. A published migration never changes.

use rusqlite_migration::{M, Migrations};

/// `REEN`: tells our file from any other SQLite file.
pub(super) const APPLICATION_ID: i32 = 0x5245_454e;

pub(super) const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

/// The schema version that this program writes.
pub(super) const NEWEST: i64 = STEPS.len() as i64;

const STEPS: &[M<'static>] = &[M::up(V1), M::up(V2), M::up(V3), M::up(V4), M::up(V5), M::up(V6)];

/// Times are microseconds since the epoch, digests their 32 bytes, run ids UUIDs.
///
/// `runs.key` is only a short name for `runs.id` inside `entries`, and is never an
/// order. It is declared, because `VACUUM` renumbers a rowid that is not. A run
/// does not refer to `revisions`: a journal may come from another machine, without
/// the revision.
///
/// `entries` has a rowid, which nothing reads, so that the bodies of all runs go
/// to the same few pages. Without it each of many concurrent runs has a page of
/// its own in every commit: measured, that halves the commits per second.
const V1: &str = "
PRAGMA application_id = 0x5245454e;

CREATE TABLE agents (
    name        TEXT NOT NULL PRIMARY KEY,
    description TEXT NOT NULL,
    published   BLOB,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    -- Only a revision of this very agent can be published.
    FOREIGN KEY (name, published) REFERENCES revisions (agent, digest)
) STRICT;

CREATE TABLE revisions (
    digest      BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    agent       TEXT NOT NULL REFERENCES agents (name),
    version     TEXT,
    description TEXT NOT NULL,
    manifest    TEXT NOT NULL,
    size        INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (agent, digest)
) STRICT;
CREATE INDEX revisions_by_age ON revisions (agent, created_at);

CREATE TABLE runs (
    key         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    agent       TEXT NOT NULL,
    revision    BLOB NOT NULL CHECK (length(revision) = 32),
    status      TEXT NOT NULL CHECK (status IN ('pending', 'running', 'done', 'error')),
    code        TEXT CHECK ((code IS NOT NULL) = (status = 'error')),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    entries     INTEGER NOT NULL,
    fuel        INTEGER NOT NULL,
    head        BLOB NOT NULL CHECK (length(head) = 32),
    lease_epoch INTEGER NOT NULL,
    lease_until INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_by_age ON runs (created_at, id);
CREATE INDEX runs_by_agent ON runs (agent, created_at, id);
CREATE INDEX runs_by_status ON runs (status, created_at, id);
CREATE INDEX runs_by_agent_and_status ON runs (agent, status, created_at, id);

CREATE TABLE entries (
    run  INTEGER NOT NULL REFERENCES runs (key),
    seq  INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    body BLOB NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT;
";

/// `entries.coding` tells what a body is: 0, the plain entry; 1, a packed one, with
/// the numbers of the entries that it needs in `parts`. The hash is always that of
/// the plain entry.
///
/// `approvals` holds what people have decided about calls that ask for it.
const V2: &str = r#"
ALTER TABLE entries ADD COLUMN coding INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN parts TEXT;

CREATE TABLE approvals (
    run      INTEGER NOT NULL REFERENCES runs (key),
    call     INTEGER NOT NULL,
    decision TEXT NOT NULL,
    "by"     TEXT NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (run, call)
) STRICT;
"#;

/// `runs.waits` tells what a run without a process waits for, `wake_at` until when at
/// the latest.
const V3: &str = "
ALTER TABLE runs ADD COLUMN waits TEXT CHECK (waits IN ('approval', 'sleep'));
ALTER TABLE runs ADD COLUMN wake_at INTEGER NOT NULL DEFAULT 0;
";

/// What a service needs: agents that people name, runs that somebody wants cancelled,
/// requests that must not be done twice, and the keys of its clients.
///
/// `runs_open` holds only runs that have not ended, so it stays small. A run that waits
/// for nothing has a `wake_at` of 0.
const V4: &str = "
ALTER TABLE agents ADD COLUMN title TEXT;
ALTER TABLE agents ADD COLUMN note TEXT;

ALTER TABLE runs ADD COLUMN cancel INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_open ON runs (wake_at, created_at, id) WHERE status IN ('pending', 'running');

CREATE TABLE submissions (
    owner      TEXT NOT NULL,
    name       TEXT NOT NULL,
    digest     BLOB NOT NULL CHECK (length(digest) = 32),
    run        INTEGER NOT NULL REFERENCES runs (key),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT;
CREATE INDEX submissions_by_age ON submissions (created_at);

CREATE TABLE keys (
    id         TEXT NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    hash       BLOB NOT NULL CHECK (length(hash) = 32),
    scopes     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
";

/// `webhooks` is a copy of what the configuration says of them, as far as the database
/// has to know it; `gone` is set when a receiver wants no more. `deliveries` holds one
/// message per webhook and run that ended: a trigger adds it, so that no statement that
/// ends runs can forget to. `next_at` is when a pending one is due, and when a settled
/// one was settled.
const V5: &str = "
CREATE TABLE webhooks (
    id     TEXT NOT NULL PRIMARY KEY,
    origin TEXT NOT NULL,
    agents TEXT,
    events TEXT,
    gone   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE deliveries (
    key        INTEGER PRIMARY KEY,
    run        INTEGER NOT NULL REFERENCES runs (key),
    webhook    TEXT NOT NULL,
    origin     TEXT NOT NULL,
    event      TEXT NOT NULL,
    state      TEXT NOT NULL DEFAULT 'pending'
               CHECK (state IN ('pending', 'delivered', 'failed')),
    created_at INTEGER NOT NULL,
    next_at    INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    UNIQUE (run, webhook, event)
) STRICT;
CREATE INDEX deliveries_due ON deliveries (webhook, next_at) WHERE state = 'pending';
CREATE INDEX deliveries_by_age ON deliveries (created_at);

CREATE TRIGGER runs_that_end AFTER UPDATE OF status ON runs
WHEN NEW.status IN ('done', 'error') AND OLD.status NOT IN ('done', 'error')
BEGIN
    INSERT INTO deliveries (run, webhook, origin, event, created_at, next_at)
    SELECT NEW.key, id, origin, 'run.' || NEW.status, NEW.updated_at, NEW.updated_at
    FROM webhooks
    WHERE NOT gone
    AND (agents IS NULL OR NEW.agent IN (SELECT value FROM json_each(agents)))
    AND (events IS NULL OR 'run.' || NEW.status IN (SELECT value FROM json_each(events)));
END;
";

/// `runs.parent` is the run that a fork shares its beginning with, up to the entry
/// `parent_at` of its journal. The parent need not be here.
const V6: &str = "
ALTER TABLE runs ADD COLUMN parent TEXT;
ALTER TABLE runs ADD COLUMN parent_at INTEGER
    CHECK ((parent IS NULL) = (parent_at IS NULL));
CREATE INDEX runs_by_parent ON runs (parent, created_at, id) WHERE parent IS NOT NULL;
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_sound_and_names_its_application() {
        MIGRATIONS.validate().unwrap();
        assert!(V1.contains(&format!("application_id = {APPLICATION_ID:#x};")));
    }
}

//! Agents, their revisions and which of them is published.

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Storage;
use super::error::{Failure, StorageError};
use crate::journal::Micros;
use crate::revision::Digest;

/// Revisions that a lookup by prefix answers at most: who reads more than so many
/// candidates?
const CANDIDATES: usize = 20;

/// A revision, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRow {
    pub digest: Digest,
    pub agent: String,
    pub version: Option<String>,
    pub description: String,
    /// Canonical JSON.
    pub manifest: String,
    /// Bytes of the sealed file.
    pub size: u64,
    /// When it was added. Larger than that of the agent's revisions before.
    pub created_at: Micros,
}

/// An agent and which of its revisions count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    pub name: String,
    /// What people call it, if anybody has said so.
    pub title: Option<String>,
    /// What somebody has said of it, else that of the newest revision.
    pub description: String,
    pub published: Option<Digest>,
    /// `None` for an agent that was created before its first revision.
    pub newest: Option<Digest>,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// How much there is of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentTotals {
    pub revisions: u64,
    pub runs: u64,
}

/// What people say of an agent, apart from its revisions. `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentEdit {
    pub title: Option<String>,
    pub description: Option<String>,
}

impl Storage {
    /// Adds a revision, and its agent if that is new. A revision that is there
    /// already stays as it is. Answers whether it is new.
    pub fn insert_revision(
        &self,
        revision: &RevisionRow,
        publish: bool,
        now: Micros,
    ) -> Result<bool, StorageError> {
        let revision = revision.clone();
        self.write_blocking(move |db| {
            let is_new = insert(db, &revision, now)?;
            if publish {
                set_published(db, &revision.agent, revision.digest, now)?;
            }
            Ok(is_new)
        })
    }

    /// Makes a revision of the agent its published one.
    pub fn set_published(
        &self,
        agent: &str,
        digest: Digest,
        now: Micros,
    ) -> Result<(), StorageError> {
        let agent = agent.to_owned();
        self.write_blocking(move |db| set_published(db, &agent, digest, now))
    }

    /// All agents by name.
    pub fn agents(&self) -> Result<Vec<AgentRow>, StorageError> {
        self.read(|db| agents(db, "ORDER BY name", &[]))
    }

    pub fn agent(&self, name: &str) -> Result<Option<AgentRow>, StorageError> {
        self.read(|db| Ok(agents(db, "WHERE name = ?1", &[&name])?.pop()))
    }

    /// At most `limit` agents by name, those after `after`.
    pub fn agents_after(&self, after: &str, limit: u32) -> Result<Vec<AgentRow>, StorageError> {
        self.read(|db| agents(db, "WHERE name > ?1 ORDER BY name LIMIT ?2", &[&after, &limit]))
    }

    /// Counts what there is of an agent. It takes the longer the more runs there are.
    pub fn agent_totals(&self, name: &str) -> Result<AgentTotals, StorageError> {
        self.read(|db| {
            let mut totals = db.prepare_cached(
                "SELECT (SELECT count(*) FROM revisions WHERE agent = ?1),
                        (SELECT count(*) FROM runs WHERE agent = ?1)",
            )?;
            Ok(totals.query_row([name], |row| {
                Ok(AgentTotals { revisions: row.get(0)?, runs: row.get(1)? })
            })?)
        })
    }

    /// Creates an agent that has no revision yet. Answers whether it is new; one that is
    /// there stays as it is.
    pub fn create_agent(
        &self,
        name: &str,
        edit: AgentEdit,
        now: Micros,
    ) -> Result<bool, StorageError> {
        let name = name.to_owned();
        self.write_blocking(move |db| {
            let created = db
                .prepare_cached(
                    "INSERT INTO agents (name, description, title, note, created_at, updated_at)
                     VALUES (?1, '', ?2, ?3, ?4, ?4) ON CONFLICT DO NOTHING",
                )?
                .execute(params![name, edit.title, edit.description, now])?;
            Ok(created == 1)
        })
    }

    /// Changes what people say of an agent. Answers whether there is such an agent.
    pub fn edit_agent(
        &self,
        name: &str,
        edit: AgentEdit,
        now: Micros,
    ) -> Result<bool, StorageError> {
        let name = name.to_owned();
        self.write_blocking(move |db| {
            let changed = db
                .prepare_cached(
                    "UPDATE agents SET title = coalesce(?2, title), note = coalesce(?3, note),
                                       updated_at = max(updated_at, ?4) WHERE name = ?1",
                )?
                .execute(params![name, edit.title, edit.description, now])?;
            Ok(changed == 1)
        })
    }

    /// The agent's revisions, newest first; none if there is no such agent.
    pub fn revisions(&self, agent: &str) -> Result<Vec<RevisionRow>, StorageError> {
        self.read(|db| revisions(db, "WHERE agent = ?1 ORDER BY created_at DESC", &[&agent]))
    }

    pub fn revision(&self, digest: Digest) -> Result<Option<RevisionRow>, StorageError> {
        self.read(|db| Ok(revisions(db, "WHERE digest = ?1", &[digest.as_bytes()])?.pop()))
    }

    /// The first revisions, by digest, that begin with these hex digits. Text that
    /// is not hex digits finds none.
    pub fn revisions_by_prefix(
        &self,
        agent: Option<&str>,
        hex_prefix: &str,
    ) -> Result<Vec<RevisionRow>, StorageError> {
        let bound = |fill: &str| {
            let mut bytes = [0; 32];
            let missing = 64_usize.saturating_sub(hex_prefix.len());
            let digits = format!("{hex_prefix}{}", fill.repeat(missing));
            hex::decode_to_slice(digits, &mut bytes).ok().map(|()| bytes)
        };
        let (Some(from), Some(to)) = (bound("0"), bound("f")) else { return Ok(Vec::new()) };
        let rows = "WHERE digest BETWEEN ?1 AND ?2 AND (?3 IS NULL OR agent = ?3)
                    ORDER BY digest LIMIT ?4";
        self.read(|db| revisions(db, rows, &[&from, &to, &agent, &CANDIDATES]))
    }
}

fn insert(db: &Connection, revision: &RevisionRow, now: Micros) -> Result<bool, Failure> {
    let RevisionRow { digest, agent, .. } = revision;
    if let Some(owner) = owner(db, *digest)? {
        if owner == *agent {
            return Ok(false);
        }
        let (digest, agent) = (*digest, agent.clone());
        return Err(StorageError::OtherAgents { digest, owner, agent }.into());
    }
    db.prepare_cached(
        "INSERT INTO agents (name, description, created_at, updated_at) VALUES (?1, ?2, ?3, ?3)
         ON CONFLICT (name) DO UPDATE
         SET description = excluded.description, updated_at = max(updated_at, excluded.updated_at)",
    )?
    .execute(params![agent, revision.description, now])?;
    // The clock may stand still or go back, but the newest revision is always
    // the one that was added last.
    db.prepare_cached(
        "INSERT INTO revisions (digest, agent, version, description, manifest, size, created_at)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, max(?7, coalesce(max(created_at) + 1, 0))
         FROM revisions WHERE agent = ?2",
    )?
    .execute(params![
        digest.as_bytes(),
        agent,
        revision.version,
        revision.description,
        revision.manifest,
        revision.size,
        revision.created_at,
    ])?;
    Ok(true)
}

fn set_published(db: &Connection, agent: &str, digest: Digest, now: Micros) -> Result<(), Failure> {
    let changed = db
        .prepare_cached(
            "UPDATE agents SET published = ?2, updated_at = max(updated_at, ?3) WHERE name = ?1
             AND EXISTS (SELECT 1 FROM revisions WHERE agent = ?1 AND digest = ?2)",
        )?
        .execute(params![agent, digest.as_bytes(), now])?;
    if changed == 1 {
        return Ok(());
    }
    let agent = agent.to_owned();
    Err(match owner(db, digest)? {
        Some(owner) => StorageError::OtherAgents { digest, owner, agent },
        None => StorageError::UnknownRevision { agent, digest },
    }
    .into())
}

fn owner(db: &Connection, digest: Digest) -> Result<Option<String>, Failure> {
    let mut owner = db.prepare_cached("SELECT agent FROM revisions WHERE digest = ?1")?;
    Ok(owner.query_row([digest.as_bytes()], |row| row.get(0)).optional()?)
}

fn agents(db: &Connection, rest: &str, values: &[&dyn ToSql]) -> Result<Vec<AgentRow>, Failure> {
    let mut rows = db.prepare_cached(&format!(
        "SELECT name, title, coalesce(note, description) AS description, published, created_at,
                updated_at, (SELECT digest FROM revisions WHERE agent = name
                             ORDER BY created_at DESC LIMIT 1) AS newest
         FROM agents {rest}"
    ))?;
    Ok(rows.query_map(values, read_agent)?.collect::<Result<_, _>>()?)
}

fn read_agent(row: &Row<'_>) -> rusqlite::Result<AgentRow> {
    Ok(AgentRow {
        name: row.get("name")?,
        title: row.get("title")?,
        description: row.get("description")?,
        published: row.get::<_, Option<_>>("published")?.map(Digest::from_bytes),
        newest: row.get::<_, Option<_>>("newest")?.map(Digest::from_bytes),
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn revisions(
    db: &Connection,
    rest: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<RevisionRow>, Failure> {
    let mut rows = db.prepare_cached(&format!(
        "SELECT digest, agent, version, description, manifest, size, created_at
         FROM revisions {rest}"
    ))?;
    let rows = rows.query_map(values, |row| {
        Ok(RevisionRow {
            digest: Digest::from_bytes(row.get("digest")?),
            agent: row.get("agent")?,
            version: row.get("version")?,
            description: row.get("description")?,
            manifest: row.get("manifest")?,
            size: row.get("size")?,
            created_at: row.get("created_at")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

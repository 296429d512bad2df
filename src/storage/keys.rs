//! The keys of clients. A key itself is never here, only its hash.

use rusqlite::{OptionalExtension, Row, params};

use super::Storage;
use super::error::StorageError;
use crate::journal::Micros;
use crate::revision::Digest;

/// A client's key, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// The readable beginning of the key.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// SHA-256 of the whole key.
    pub hash: Digest,
    /// Names with commas between them.
    pub scopes: String,
    pub created_at: Micros,
    pub revoked_at: Option<Micros>,
}

impl Storage {
    /// Adds a key; durable when it returns. Its id must be new.
    pub fn insert_key(&self, key: &KeyRow) -> Result<(), StorageError> {
        let key = key.clone();
        self.write_blocking(move |db| {
            db.prepare_cached(
                "INSERT INTO keys (id, name, hash, scopes, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                key.id,
                key.name,
                key.hash.as_bytes(),
                key.scopes,
                key.created_at
            ])?;
            Ok(())
        })
    }

    /// All keys, revoked ones too, oldest first.
    pub fn keys(&self) -> Result<Vec<KeyRow>, StorageError> {
        self.read(|db| {
            let mut rows = db.prepare_cached(
                "SELECT id, name, hash, scopes, created_at, revoked_at FROM keys
                 ORDER BY created_at, id",
            )?;
            Ok(rows.query_map([], read_key)?.collect::<Result<_, _>>()?)
        })
    }

    pub fn key(&self, id: &str) -> Result<Option<KeyRow>, StorageError> {
        self.read(|db| {
            let mut row = db.prepare_cached(
                "SELECT id, name, hash, scopes, created_at, revoked_at FROM keys WHERE id = ?1",
            )?;
            Ok(row.query_row([id], read_key).optional()?)
        })
    }

    /// Whether there has ever been a key.
    pub fn has_keys(&self) -> Result<bool, StorageError> {
        self.read(|db| {
            let mut any = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM keys)")?;
            Ok(any.query_row([], |row| row.get(0))?)
        })
    }

    /// Makes a key useless; durable when it returns. Answers whether it was of use.
    pub fn revoke_key(&self, id: &str, now: Micros) -> Result<bool, StorageError> {
        let id = id.to_owned();
        self.write_blocking(move |db| {
            let revoked = db
                .prepare_cached(
                    "UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
                )?
                .execute(params![id, now])?;
            Ok(revoked == 1)
        })
    }
}

fn read_key(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: row.get("id")?,
        name: row.get("name")?,
        hash: Digest::from_bytes(row.get("hash")?),
        scopes: row.get("scopes")?,
        created_at: row.get("created_at")?,
        revoked_at: row.get("revoked_at")?,
    })
}

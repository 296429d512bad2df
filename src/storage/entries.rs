//! Entries as rows: how a body is stored, and reading what is packed.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Storage;
use super::error::{Failure, StorageError};
use crate::journal::{Encoded, Packed, Parts, Stored};
use crate::revision::{Digest, Limits};

/// Values of `entries.coding`.
const PLAIN: i64 = 0;
const PACKED: i64 = 1;

/// What is written of an entry's bytes.
struct Body<'a> {
    bytes: &'a [u8],
    coding: i64,
    parts: Option<String>,
}

impl<'a> Body<'a> {
    fn of(stored: &'a Stored) -> Self {
        match &stored.packed {
            None => Self { bytes: &stored.entry.bytes, coding: PLAIN, parts: None },
            Some(Packed { parts, bytes }) => {
                let parts = (!parts.is_empty()).then(|| parts.to_string());
                Self { bytes, coding: PACKED, parts }
            }
        }
    }
}

/// Whether `entries` are those that come next when there are `expected` before them.
pub(super) fn check_dense(
    run: &str,
    expected: u64,
    entries: &[Stored],
) -> Result<(), StorageError> {
    match (expected..).zip(entries).find(|(expected, stored)| stored.entry.seq != *expected) {
        None => Ok(()),
        Some((expected, stored)) => {
            let (run, found) = (run.to_owned(), stored.entry.seq);
            Err(StorageError::NotDense { run, expected, found })
        }
    }
}

/// Writes entries of the run that has that key. Whether it may have them has been checked
/// in this transaction.
pub(super) fn insert(db: &Connection, key: i64, entries: &[Stored]) -> Result<(), Failure> {
    let mut insert = db.prepare_cached(
        "INSERT INTO entries (run, seq, hash, body, coding, parts) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for stored in entries {
        let (seq, hash) = (stored.entry.seq, stored.entry.hash.as_bytes());
        let Body { bytes, coding, parts } = Body::of(stored);
        insert.execute(params![key, seq, hash, bytes, coding, parts])?;
    }
    Ok(())
}

impl Storage {
    /// The whole journal of a run, as far as it is durable. An entry that cannot
    /// be unpacked is [`Encoded::unreadable`].
    pub fn entries(&self, run: &str) -> Result<Vec<Encoded>, StorageError> {
        self.entries_from(run, 0, u32::MAX)
    }

    /// At most `limit` entries of a run, from number `first` on.
    pub fn entries_from(
        &self,
        run: &str,
        first: u64,
        limit: u32,
    ) -> Result<Vec<Encoded>, StorageError> {
        self.read(|db| {
            let key: i64 = db
                .prepare_cached("SELECT key FROM runs WHERE id = ?1")?
                .query_row([run], |row| row.get(0))
                .optional()?
                .ok_or_else(|| StorageError::UnknownRun { run: run.to_owned() })?;
            let mut rows = db.prepare_cached(
                "SELECT seq, hash, body, coding, parts FROM entries WHERE run = ?1 AND seq >= ?2
                 ORDER BY seq LIMIT ?3",
            )?;
            let rows = rows.query_map(params![key, first, limit], read)?;
            let rows: Vec<Found> = rows.collect::<Result<_, _>>()?;
            let earlier = earlier(db, key, &rows)?;
            Ok(unpack(earlier, rows))
        })
    }
}

/// An entry as it was found.
struct Found {
    seq: u64,
    hash: Digest,
    body: Form,
}

enum Form {
    Plain(Vec<u8>),
    Packed(Packed),
    Unknown(String),
}

fn read(row: &Row<'_>) -> rusqlite::Result<Found> {
    let bytes = row.get("body")?;
    let body = match row.get("coding")? {
        PLAIN => Form::Plain(bytes),
        PACKED => match row.get::<_, Option<String>>("parts")?.map(|parts| parts.parse()) {
            None => Form::Packed(Packed { parts: Parts::default(), bytes }),
            Some(Ok(parts)) => Form::Packed(Packed { parts, bytes }),
            Some(Err(invalid)) => Form::Unknown(invalid.to_string()),
        },
        other => Form::Unknown(format!("it is stored in a form that is not known: {other}")),
    };
    Ok(Found { seq: row.get("seq")?, hash: Digest::from_bytes(row.get("hash")?), body })
}

impl Found {
    fn parts(&self) -> impl Iterator<Item = u64> + '_ {
        let packed = if let Form::Packed(packed) = &self.body { Some(packed) } else { None };
        packed.into_iter().flat_map(|packed| packed.parts.iter())
    }
}

/// The entries before `rows` that `rows` need, those that these need, and so on.
fn earlier(db: &Connection, key: i64, rows: &[Found]) -> Result<BTreeMap<u64, Found>, Failure> {
    let first = rows.first().map_or(0, |row| row.seq);
    let mut wanted: Vec<u64> = rows.iter().flat_map(Found::parts).collect();
    let mut found = BTreeMap::new();
    let mut select = db.prepare_cached(
        "SELECT seq, hash, body, coding, parts FROM entries WHERE run = ?1 AND seq = ?2",
    )?;
    while let Some(seq) = wanted.pop() {
        if seq >= first || found.contains_key(&seq) {
            continue;
        }
        // What is missing shows when it is needed.
        if let Some(row) = select.query_row(params![key, seq], read).optional()? {
            wanted.extend(row.parts());
            found.insert(seq, row);
        }
    }
    Ok(found)
}

/// Unpacks `rows`, of which each may need some before it.
fn unpack(earlier: BTreeMap<u64, Found>, rows: Vec<Found>) -> Vec<Encoded> {
    // What is needed no longer is dropped: a page of a long conversation must not
    // take the memory of all of it.
    let mut uses: HashMap<u64, usize> = HashMap::new();
    for part in earlier.values().chain(&rows).flat_map(Found::parts) {
        *uses.entry(part).or_default() += 1;
    }
    let first = rows.first().map_or(0, |row| row.seq);
    let mut before: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut entries: Vec<Encoded> = Vec::with_capacity(rows.len());
    let mut room = Limits::CEILING.journal_bytes;
    for row in earlier.into_values().chain(rows) {
        let parts: Vec<u64> = row.parts().collect();
        let entry = open(row, &mut room, |part| match before.get(&part) {
            Some(bytes) => Some(bytes),
            None => {
                let index = entries.binary_search_by_key(&part, |entry| entry.seq).ok()?;
                Some(&entries[index].bytes)
            }
        });
        for part in parts {
            let left = uses.get_mut(&part).map_or(0, |uses| {
                *uses -= 1;
                *uses
            });
            if left == 0 {
                before.remove(&part);
            }
        }
        if entry.seq < first {
            before.insert(entry.seq, entry.bytes);
        } else {
            entries.push(entry);
        }
    }
    entries
}

/// Packed bytes of a damaged file could claim any size: together they may come to
/// what a journal can have, which is left in `room`.
fn open<'a>(row: Found, room: &mut u64, plain: impl Fn(u64) -> Option<&'a [u8]>) -> Encoded {
    let Found { seq, hash, body } = row;
    match body {
        Form::Plain(bytes) => Encoded { seq, bytes, hash },
        Form::Packed(_) if *room == 0 => {
            Encoded::unreadable(seq, hash, "the journal is larger than one can be")
        }
        Form::Packed(packed) => match packed.open(seq, plain) {
            Ok(bytes) => {
                *room = room.saturating_sub(bytes.len() as u64);
                Encoded { seq, bytes, hash }
            }
            Err(unreadable) => Encoded::unreadable(seq, hash, unreadable),
        },
        Form::Unknown(why) => Encoded::unreadable(seq, hash, why),
    }
}

#[cfg(test)]
mod tests;

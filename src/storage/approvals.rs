//! What people decided about calls that wait for them, from any process.

use rusqlite::{OptionalExtension, params};

use super::Storage;
use super::error::StorageError;
use crate::journal::Micros;

/// A decision that a run may not have seen yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRow {
    /// [`crate::journal::Approval`] as JSON.
    pub decision: String,
    pub by: String,
    pub at: Micros,
}

impl Storage {
    /// Keeps a decision; durable when it returns. The first one counts: answers
    /// whether it was this.
    pub fn decide(
        &self,
        run: &str,
        call: u64,
        approval: ApprovalRow,
    ) -> Result<bool, StorageError> {
        let run = run.to_owned();
        self.write_blocking(move |db| {
            let ApprovalRow { decision, by, at } = &approval;
            let mut insert = db.prepare_cached(
                "INSERT INTO approvals (run, call, decision, by, at)
                 SELECT key, ?2, ?3, ?4, ?5 FROM runs WHERE id = ?1
                 ON CONFLICT DO NOTHING",
            )?;
            let is_first = insert.execute(params![run, call, decision, by, at])? > 0;
            if is_first {
                // Whoever looks for runs to go on with finds it.
                db.prepare_cached("UPDATE runs SET wake_at = 0 WHERE id = ?1")?.execute([&run])?;
            }
            Ok(is_first)
        })
    }

    /// What was decided about a call, if anything was.
    pub fn approval(&self, run: &str, call: u64) -> Result<Option<ApprovalRow>, StorageError> {
        self.read(|db| {
            let row = db
                .prepare_cached(
                    "SELECT decision, by, at FROM approvals
                     WHERE run = (SELECT key FROM runs WHERE id = ?1) AND call = ?2",
                )?
                .query_row(params![run, call], |row| {
                    Ok(ApprovalRow { decision: row.get(0)?, by: row.get(1)?, at: row.get(2)? })
                })
                .optional()?;
            Ok(row)
        })
    }
}

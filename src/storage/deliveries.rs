//! Messages about runs that ended, to be sent by whoever sends them.
//!
//! The database itself adds them: a trigger on `runs.status` adds one per webhook in
//! the very transaction that ends the run. So none is lost and none is made up,
//! whichever statement of whichever process ends the run, a command line on the same
//! home included. `webhooks` is a copy of the configuration's filters, without secrets
//! and without the URLs, which may hide some.
//!
//! A delivery in the hands of a sender is one that is due later: when the sender has
//! not said by then what became of it, it is due again. The number of the attempt is
//! the sender's right to say so.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Row, named_params, params};

use super::Storage;
use super::error::StorageError;
use crate::journal::Micros;

/// A webhook as the database needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRow {
    pub id: String,
    /// Where it goes, as far as people may see that.
    pub origin: String,
    /// Only runs of these agents; `None` for all.
    pub agents: Option<Vec<String>>,
    /// Only `run.done`, or only `run.error`; `None` for both.
    pub events: Option<Vec<String>>,
}

/// A message that is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    key: i64,
    /// Id of the run.
    pub run: String,
    /// `run.done` or `run.error`.
    pub event: String,
    /// When the run ended.
    pub created_at: Micros,
    /// Number of this attempt, from 1.
    pub attempt: u32,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempted {
    Delivered,
    /// To be tried again at a time.
    Later {
        at: Micros,
        error: String,
    },
    /// Not to be tried again.
    Failed {
        error: String,
    },
    /// The receiver wants nothing more of this webhook.
    Gone {
        error: String,
    },
}

/// A message, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Id of the run.
    pub run: String,
    pub agent: String,
    /// Id of the webhook.
    pub webhook: String,
    /// Where it goes, without what may be secret of it.
    pub origin: String,
    pub event: String,
    pub state: DeliveryState,
    pub created_at: Micros,
    /// When it was or will be tried, or was settled.
    pub at: Micros,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong the last time.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    Pending,
    Delivered,
    /// Given up.
    Failed,
}

/// Which messages to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    pub state: Option<DeliveryState>,
    /// Id of a run.
    pub run: Option<String>,
    /// At most so many.
    pub limit: u32,
}

impl DeliveryState {
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl FromSql for DeliveryState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(FromSqlError::InvalidType)
    }
}

impl Storage {
    /// Makes these the webhooks that are told of ends from here on, in place of all others.
    /// One that was gone is tried again.
    pub async fn set_webhooks(&self, hooks: Vec<WebhookRow>) -> Result<(), StorageError> {
        self.write(move |db| {
            db.execute("DELETE FROM webhooks", [])?;
            let mut insert = db.prepare_cached(
                "INSERT INTO webhooks (id, origin, agents, events) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for hook in &hooks {
                let (agents, events) = (list(&hook.agents), list(&hook.events));
                insert.execute(params![hook.id, hook.origin, agents, events])?;
            }
            Ok(())
        })
        .await
    }

    /// Whether a webhook has something to send.
    pub fn is_delivery_due(&self, webhook: &str, now: Micros) -> Result<bool, StorageError> {
        self.read(|db| {
            let mut due = db.prepare_cached(
                "SELECT 1 FROM deliveries
                 WHERE webhook = ?1 AND state = 'pending' AND next_at <= ?2",
            )?;
            Ok(due.exists(params![webhook, now])?)
        })
    }

    /// Takes at most `limit` messages of a webhook to send them, the ones that have been due
    /// for longest first. Nobody else gets them before `until`.
    pub async fn claim_deliveries(
        &self,
        webhook: &str,
        now: Micros,
        until: Micros,
        limit: usize,
    ) -> Result<Vec<Claimed>, StorageError> {
        let webhook = webhook.to_owned();
        self.write(move |db| {
            let mut claim = db.prepare_cached(
                "UPDATE deliveries SET next_at = :until, attempts = attempts + 1
                 WHERE key IN (
                     SELECT key FROM deliveries
                     WHERE webhook = :webhook AND state = 'pending' AND next_at <= :now
                     ORDER BY next_at, key LIMIT :limit
                 )
                 RETURNING key, event, created_at, attempts,
                           (SELECT id FROM runs WHERE runs.key = run)",
            )?;
            let values = named_params! {
                ":until": until, ":webhook": webhook, ":now": now, ":limit": limit,
            };
            let mut claimed = claim.query_map(values, claimed)?.collect::<Result<Vec<_>, _>>()?;
            // The statement answers in no order.
            claimed.sort_by_key(|delivery| (delivery.created_at, delivery.key));
            Ok(claimed)
        })
        .await
    }

    /// Keeps what became of a message, unless somebody else has it by now.
    pub async fn settle_delivery(
        &self,
        claimed: &Claimed,
        attempted: Attempted,
        now: Micros,
    ) -> Result<(), StorageError> {
        let Claimed { key, attempt, .. } = *claimed;
        self.write(move |db| {
            let (state, at, error, gone) = match &attempted {
                Attempted::Delivered => (DeliveryState::Delivered, now, None, false),
                Attempted::Later { at, error } => (DeliveryState::Pending, *at, Some(error), false),
                Attempted::Failed { error } => (DeliveryState::Failed, now, Some(error), false),
                Attempted::Gone { error } => (DeliveryState::Failed, now, Some(error), true),
            };
            let settled = db
                .prepare_cached(
                    "UPDATE deliveries SET state = ?3, next_at = ?4, last_error = ?5
                     WHERE key = ?1 AND attempts = ?2 AND state = 'pending'",
                )?
                .execute(params![key, attempt, state.as_str(), at, error])?;
            if gone && settled > 0 {
                let (hook, rest) = (
                    "UPDATE webhooks SET gone = 1
                     WHERE id = (SELECT webhook FROM deliveries WHERE key = ?1)",
                    "UPDATE deliveries SET state = 'failed', next_at = ?2, last_error = ?3
                     WHERE state = 'pending'
                     AND webhook = (SELECT webhook FROM deliveries WHERE key = ?1)",
                );
                db.prepare_cached(hook)?.execute([key])?;
                db.prepare_cached(rest)?.execute(params![key, now, error])?;
            }
            Ok(())
        })
        .await
    }

    /// Messages, the newest first.
    pub fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRow>, StorageError> {
        self.read(|db| {
            let mut rows = db.prepare_cached(
                "SELECT id AS run, agent, webhook, origin, event, state,
                        deliveries.created_at, next_at, attempts, last_error
                 FROM deliveries JOIN runs ON runs.key = run
                 WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR id = ?2)
                 ORDER BY deliveries.created_at DESC, deliveries.key DESC LIMIT ?3",
            )?;
            let state = filter.state.map(DeliveryState::as_str);
            let rows = rows.query_map(params![state, filter.run, filter.limit], delivery)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Makes what was given up about a run due again, as if it had never been tried. Answers
    /// how many messages that are; those of webhooks that are not known any more stay.
    pub async fn retry_deliveries(&self, run: &str, now: Micros) -> Result<usize, StorageError> {
        let run = run.to_owned();
        self.write(move |db| {
            let mut retry = db.prepare_cached(
                "UPDATE deliveries SET state = 'pending', attempts = 0, next_at = ?2
                 WHERE state = 'failed' AND run = (SELECT key FROM runs WHERE id = ?1)
                 AND webhook IN (SELECT id FROM webhooks WHERE NOT gone)",
            )?;
            Ok(retry.execute(params![run, now])?)
        })
        .await
    }

    /// Gives up what has been due since before `give_up` for webhooks that nobody knows any
    /// more, and forgets what was settled before `forget`.
    pub async fn tidy_deliveries(
        &self,
        now: Micros,
        give_up: Micros,
        forget: Micros,
    ) -> Result<(), StorageError> {
        self.write(move |db| {
            db.prepare_cached(
                "UPDATE deliveries SET state = 'failed', next_at = ?1, last_error =
                     coalesce(last_error || '; ', '') || 'nobody has this webhook any more'
                 WHERE state = 'pending' AND next_at < ?2
                 AND webhook NOT IN (SELECT id FROM webhooks)",
            )?
            .execute(params![now, give_up])?;
            db.prepare_cached("DELETE FROM deliveries WHERE state <> 'pending' AND next_at < ?1")?
                .execute([forget])?;
            Ok(())
        })
        .await
    }
}

fn list(names: &Option<Vec<String>>) -> Option<String> {
    names.as_ref().map(|names| serde_json::to_string(names).unwrap_or_default())
}

fn claimed(row: &Row<'_>) -> rusqlite::Result<Claimed> {
    Ok(Claimed {
        key: row.get(0)?,
        event: row.get(1)?,
        created_at: row.get(2)?,
        attempt: row.get(3)?,
        run: row.get(4)?,
    })
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<DeliveryRow> {
    Ok(DeliveryRow {
        run: row.get("run")?,
        agent: row.get("agent")?,
        webhook: row.get("webhook")?,
        origin: row.get("origin")?,
        event: row.get("event")?,
        state: row.get("state")?,
        created_at: row.get("created_at")?,
        at: row.get("next_at")?,
        attempts: row.get("attempts")?,
        error: row.get("last_error")?,
    })
}

#[cfg(test)]
mod tests;

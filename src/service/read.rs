//! What there is to read of runs.

use std::sync::Arc;

use super::events::{ApiEvent, EventReader, Update};
use super::view::RunView;
use super::{Service, ServiceError, Subscription, blocking};
use crate::journal::{
    Body, Chain, Damage, Encoded, Ended, Entry, PortableRun, Started, verify_all,
};
use crate::runtime::{Fault, Halt};
use crate::storage::{RunFilter, RunRow, Storage, StorageError};

/// Entries that are read at once: enough to be quick, little enough to be small.
const CHUNK: u32 = 256;

impl Service {
    /// The row of a run, by its id or a beginning of it that no other one has.
    pub fn row(&self, run: &str) -> Result<RunRow, ServiceError> {
        const WHOLE: usize = 36;
        let storage = &self.0.storage;
        Ok(if run.len() == WHOLE { storage.run(run)? } else { storage.run_by_prefix(run)? })
    }

    /// A run when it has ended, or as it is when the time is over.
    pub async fn wait_for_end(
        &self,
        mut watching: Subscription,
        timeout: std::time::Duration,
    ) -> Result<RunView, ServiceError> {
        let run = watching.run().to_owned();
        let ended = async {
            loop {
                // Of a run that ends here it is heard how; of any other it has to be read.
                if let Some(view) = watching.ended().await {
                    return Ok(Arc::unwrap_or_clone(view));
                }
                if self.0.storage.run(&run)?.status.has_ended() {
                    return self.view(&run);
                }
                changed(&mut watching).await;
            }
        };
        match tokio::time::timeout(timeout, ended).await {
            Ok(ended) => ended,
            Err(_) => self.view(&run),
        }
    }

    /// The calls of a run that wait for a person.
    pub async fn pending(&self, run: &str) -> Result<Vec<super::Pending>, ServiceError> {
        let (storage, run) = (self.0.storage.clone(), run.to_owned());
        blocking(move || Ok(super::pending(&verified(&storage.entries(&run)?)?))).await
    }

    /// One run as it is shown.
    pub fn view(&self, run: &str) -> Result<RunView, ServiceError> {
        Ok(self::run(&self.0.storage, run)?)
    }

    /// The runs that the filter asks for, newest first.
    pub async fn list(&self, filter: RunFilter) -> Result<Vec<RunView>, ServiceError> {
        let storage = self.0.storage.clone();
        blocking(move || {
            let rows = storage.runs(&filter)?;
            rows.iter().map(|row| Ok(view(&storage, row)?)).collect()
        })
        .await
    }

    /// Some of a run's events, in the order in which they began, and whether there are more.
    pub async fn events(
        &self,
        run: &str,
        offset: usize,
        limit: usize,
    ) -> Result<(Vec<ApiEvent>, bool), ServiceError> {
        let (storage, run) = (self.0.storage.clone(), run.to_owned());
        blocking(move || {
            let entries = verified(&storage.entries(&run)?)?;
            let events = super::events::events(&entries);
            let are_more = events.len() > offset.saturating_add(limit);
            Ok((events.into_iter().skip(offset).take(limit).collect(), are_more))
        })
        .await
    }

    /// A run and its revision as one file.
    pub async fn export(&self, run: &str) -> Result<Vec<u8>, ServiceError> {
        let (service, run) = (self.clone(), run.to_owned());
        blocking(move || {
            let row = service.0.storage.run(&run)?;
            let journal = service.0.storage.entries(&run)?;
            verified(&journal)?;
            let revision = service.0.registry.read(row.revision)?;
            let bytes = PortableRun { revision, journal }.to_bytes();
            bytes.map_err(damaged)
        })
        .await
    }

    /// Follows a run's events from after entry `after` on, or from the first.
    pub fn watch(&self, run: &str, after: Option<u64>) -> Watch {
        Watch {
            storage: self.0.storage.clone(),
            subscription: self.subscribe(run),
            run: run.to_owned(),
            reader: EventReader::default(),
            chain: Chain::default(),
            first: after.map_or(0, |after| after.saturating_add(1)),
        }
    }
}

/// A run's events as they become durable.
pub struct Watch {
    storage: Storage,
    subscription: Subscription,
    run: String,
    reader: EventReader,
    /// What has been read so far.
    chain: Chain,
    /// Number of the first entry that is of interest.
    first: u64,
}

impl Watch {
    /// What has happened since the last time, in order; nothing if nothing has. What is
    /// read at once is bounded, whatever the run has written.
    pub async fn read(&mut self) -> Result<Vec<Update>, ServiceError> {
        loop {
            let (storage, run) = (self.storage.clone(), self.run.clone());
            let next = self.chain.next_seq();
            let encoded = blocking(move || Ok(storage.entries_from(&run, next, CHUNK)?)).await?;
            let is_all = encoded.len() < CHUNK as usize;
            let mut updates = Vec::new();
            for encoded in &encoded {
                let entry = self.chain.verify(encoded).map_err(damaged)?;
                let update = self.reader.feed(&entry);
                updates.extend(update.filter(|update| update.seq >= self.first));
            }
            if !updates.is_empty() || is_all {
                return Ok(updates);
            }
        }
    }

    /// Waits until there may be more to read: at once if this process executes the run,
    /// else when somebody looks.
    pub async fn changed(&mut self) {
        changed(&mut self.subscription).await;
    }
}

async fn changed(subscription: &mut Subscription) {
    const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
    if subscription.is_held() {
        subscription.changed().await;
    } else {
        let _ = tokio::time::timeout(LOOK_EVERY, subscription.changed()).await;
    }
}

pub(super) fn verified(encoded: &[Encoded]) -> Result<Vec<Entry>, ServiceError> {
    verify_all(encoded).map_err(damaged)
}

fn damaged(damage: Damage) -> ServiceError {
    Fault::from(Halt::from(damage)).into()
}

/// Why a run cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the journal of run `{run}` is damaged at its beginning")]
    Damaged { run: String },
}

/// One run as it is shown.
pub fn run(storage: &Storage, id: &str) -> Result<RunView, ReadError> {
    view(storage, &storage.run(id)?)
}

/// The run of a row. Only its first and last entries are read, and the chain is not
/// verified: that takes the whole journal, and is a replay's work.
pub fn view(storage: &Storage, row: &RunRow) -> Result<RunView, ReadError> {
    let first = storage.entries_from(&row.id, 0, 1)?;
    let Some(Body::Started(started)) = first.first().and_then(body) else {
        return Err(ReadError::Damaged { run: row.id.clone() });
    };
    let last = storage.entries_from(&row.id, row.entries.saturating_sub(1), 1)?;
    let ended = match last.first().and_then(body) {
        Some(Body::Ended(ended)) => Some(ended),
        _ => None,
    };
    let (started, ended): (&Started, Option<&Ended>) = (&started, ended.as_deref());
    Ok(RunView::of(row, started, ended))
}

/// What an entry holds, if it can be read.
fn body(entry: &Encoded) -> Option<Body> {
    serde_json::from_slice::<Entry>(&entry.bytes).ok().map(|entry| entry.body)
}

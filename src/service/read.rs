//! Reads what the API shows of a run from the database.

use crate::journal::{Body, Encoded, Ended, Entry, Started, verify_prefix};
use crate::storage::{RunRow, Storage, StorageError};

use super::view::RunView;

/// Why a run cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the journal of run `{run}` is damaged at its beginning")]
    Damaged { run: String },
}

/// The run whose id begins with `id`.
pub fn run(storage: &Storage, id: &str) -> Result<RunView, ReadError> {
    view(storage, &storage.run_by_prefix(id)?)
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

/// All that is durable of a run, up to the first damage.
pub fn journal(storage: &Storage, id: &str) -> Result<Vec<Entry>, ReadError> {
    Ok(verify_prefix(&storage.entries(id)?).0)
}

/// What an entry holds, if it can be read.
fn body(entry: &Encoded) -> Option<Body> {
    serde_json::from_slice::<Entry>(&entry.bytes).ok().map(|entry| entry.body)
}

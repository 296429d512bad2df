//! Replays that clients ask for, and what they prove.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Service, ServiceError, blocking};
use crate::journal::{Damage, Encoded};
use crate::revision::Digest;
use crate::runtime::{Found, Replay, Request, Verdict};
use crate::storage::RunRow;

/// A replay, and the run that it is of.
pub struct Proof {
    pub run: RunRow,
    pub replay: Replay,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProofView {
    pub run_id: String,
    pub agent_id: String,
    pub revision_id: String,
    /// Whether every entry that is recorded was made again, the same.
    pub same: bool,
    /// Whether the record has an end; one that has none is the same as far as it goes.
    pub ended: bool,
    /// How many entries the journal has.
    pub entries: u64,
    /// Answers of tools that were taken from the journal.
    pub answers: u64,
    /// Fuel at the last entry.
    pub fuel: u64,
    /// `false` if the record was made by another version of the engine.
    pub fuel_compared: bool,
    /// Hash of the last entry, which stands for the whole journal.
    pub journal_hash: String,
    /// The first place where the replay was not as the record; null if there is none.
    pub divergence: Option<DivergenceView>,
    /// The first entry that is not what was recorded; null if there is none.
    pub damage: Option<DamageView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DivergenceView {
    /// Number of the entry.
    pub index: u64,
    /// What the journal holds there; null at its end.
    pub expected: Option<Value>,
    /// What the revision did instead.
    pub found: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DamageView {
    /// Number of the entry.
    pub index: u64,
    pub what: String,
}

impl Service {
    /// Runs a run again from its journal alone.
    pub async fn replay(&self, run: &str) -> Result<Proof, ServiceError> {
        let row = self.0.storage.run(run)?;
        let prepared = self.0.shelf.get(row.revision).await?;
        let _permit = self.0.heavy.acquire().await;
        let (storage, id) = (self.0.storage.clone(), row.id.clone());
        let journal = blocking(move || Ok(storage.entries(&id)?)).await?;
        let tail = Tail::of(&journal);
        let mut replay = self.0.executor.replay(&prepared, journal).await?;
        check_row(&row, &tail, &mut replay);
        Ok(Proof { run: row, replay })
    }
}

/// How a journal ends.
#[derive(Debug, Clone, Copy)]
pub struct Tail {
    pub entries: u64,
    pub head: Option<Digest>,
}

impl Tail {
    pub fn of(journal: &[Encoded]) -> Self {
        Self { entries: journal.len() as u64, head: journal.last().map(|last| last.hash) }
    }
}

/// Holds a replay against the list of runs, which knows how long the journal of a run is
/// that has ended, and how it ends.
pub fn check_row(row: &RunRow, tail: &Tail, replay: &mut Replay) {
    let is_whole = tail.entries == row.entries && tail.head == Some(row.head);
    if row.status.has_ended() && replay.is_proof() && !is_whole {
        let last = row.entries.saturating_sub(1);
        let what = format!("the run ended with entry {last} and hash {}", row.head);
        let index = tail.entries.min(last);
        replay.verdict = Verdict::Damaged(Damage { index, what });
    }
}

impl Proof {
    pub fn view(&self) -> ProofView {
        let Self { run, replay } = self;
        let mut view = ProofView {
            run_id: run.id.clone(),
            agent_id: run.agent.clone(),
            revision_id: run.revision.to_string(),
            same: replay.is_proof(),
            ended: false,
            entries: replay.entries,
            answers: replay.answers,
            fuel: replay.fuel,
            fuel_compared: replay.other_engine.is_none(),
            journal_hash: run.head.to_string(),
            divergence: None,
            damage: None,
        };
        match &replay.verdict {
            Verdict::Same(_) => view.ended = true,
            Verdict::SameSoFar => {}
            Verdict::Diverged(divergence) => {
                view.divergence = Some(DivergenceView {
                    index: divergence.index,
                    expected: divergence.expected.as_ref().map(request),
                    found: match &divergence.found {
                        Found::Request(found) => request(found),
                        Found::Waiting { fuel, calls } => {
                            json!({ "fuel": fuel, "waitsForCalls": calls })
                        }
                        Found::Sleeping { fuel } => json!({ "fuel": fuel, "sleeps": true }),
                    },
                });
            }
            Verdict::Damaged(damage) => {
                let Damage { index, what } = damage.clone();
                view.damage = Some(DamageView { index, what });
            }
        }
        view
    }
}

fn request(request: &Request) -> Value {
    json!({ "fuel": request.fuel, "entry": request.body })
}

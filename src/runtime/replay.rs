//! Running again from the journal alone, and what that proves.

use super::control::Control;
use super::effects::decide::{Divergence, Precision};
use super::effects::tape::Halt;
use super::executor::{Executor, Fault, Prepared, Ran};
use super::start::Journal;
use crate::journal::{Body, Damage, Encoded, Entry, Fingerprint, Micros};
use crate::sandbox;

/// What a replay found.
#[derive(Debug, Clone)]
pub struct Replay {
    pub verdict: Verdict,
    /// Entries that the journal holds.
    pub entries: u64,
    /// Answers of tools that the replay took from the journal instead of calling.
    pub answers: u64,
    /// Fuel at the last entry of the journal.
    pub fuel: u64,
    /// Microseconds that the run took, as far as the journal tells.
    pub took: Micros,
    /// The engine that made the record, if this build has another one: then
    /// fuel, backtraces and the wording of traps were not compared.
    pub other_engine: Option<Fingerprint>,
}

#[derive(Debug, Clone)]
pub enum Verdict {
    /// Every entry was made again, to the same end.
    Same(Box<Ran>),
    /// Every entry was made again; the run itself had not ended.
    SameSoFar,
    Diverged(Box<Divergence>),
    Damaged(Damage),
}

impl Replay {
    /// Whether the journal tells the truth as far as it goes.
    pub fn is_proof(&self) -> bool {
        matches!(self.verdict, Verdict::Same(_) | Verdict::SameSoFar)
    }
}

impl Executor {
    /// Executes the revision from `encoded` alone: no tool is called, no clock
    /// is read, no time is waited for.
    pub async fn replay(
        &self,
        prepared: &Prepared,
        encoded: Vec<Encoded>,
    ) -> Result<Replay, Fault> {
        let entries = encoded.len() as u64;
        let journal = Journal::closed(encoded);
        let known = &journal.reel.recorded;
        let is_answer =
            |(entry, _): &&(Entry, Encoded)| matches!(entry.body, Body::ToolAnswered(_));
        let answers = known.iter().filter(is_answer).count() as u64;
        let (fuel, took) = match (known.first(), known.last()) {
            (Some((first, _)), Some((last, _))) => {
                let began = journal.started().map_or(first.at, |started| started.began(first.at));
                (last.fuel, last.at.saturating_sub(began))
            }
            _ => (0, 0),
        };
        let other_engine = match journal.precision() {
            Precision::Exact => None,
            _ => journal.started().ok().map(|started| started.engine.clone()),
        };
        debug_assert!(other_engine.as_ref() != Some(&sandbox::fingerprint()));
        let verdict = match self.execute(prepared, journal, None, Control::none()).await {
            Ok(ran) => Verdict::Same(Box::new(ran)),
            Err(Fault::Journal(Halt::JournalOver)) => Verdict::SameSoFar,
            Err(Fault::Journal(Halt::Diverged(divergence))) => Verdict::Diverged(divergence),
            Err(Fault::Journal(Halt::Damaged(damage))) => Verdict::Damaged(damage),
            Err(fault) => return Err(fault),
        };
        Ok(Replay { verdict, entries, answers, fuel, took, other_engine })
    }
}

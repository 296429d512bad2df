//! What the executor is given: a run's journal so far, and a new run's beginning.

use super::control::Interrupt;
use super::effects::decide::Precision;
use super::effects::recorder::Recorder;
use super::effects::system;
use super::effects::tape::Halt;
use super::executor::{Fault, Prepared};
use crate::journal::{
    Body, Chain, Damage, Encoded, Entry, FORMAT, Micros, Outcome, Place, Started, verify_prefix,
};
use crate::json::{InvalidJson, Json};
use crate::revision::{InvalidLimit, Limits, Violation};
use crate::sandbox;
use crate::tools::RunTools;

/// The input is not what the revision takes.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("the input has {bytes} bytes, the limit is {limit}")]
    TooLarge { bytes: u64, limit: u64 },
    #[error("the input is {0}")]
    NotJson(#[from] InvalidJson),
    #[error("the input does not fit the input schema of `{agent}`{}", list(.violations))]
    Invalid { agent: String, violations: Vec<Violation> },
}

fn list(violations: &[Violation]) -> String {
    violations.iter().map(|violation| format!("\n  {violation}")).collect()
}

/// A run's journal as it is handed to the executor: verified once, here.
pub struct Journal {
    /// Up to the end or the first damage.
    pub(super) recorded: Vec<(Entry, Encoded)>,
    pub(super) damage: Option<Damage>,
    pub(super) recorder: Option<Box<dyn Recorder>>,
    pub(super) precision: Precision,
}

impl Journal {
    /// A record that may not grow, for a replay.
    pub fn closed(encoded: Vec<Encoded>) -> Self {
        let mut journal = Self::read(encoded, None);
        if journal.started().is_ok_and(|started| started.engine != sandbox::fingerprint()) {
            journal.precision = Precision::Content;
        }
        journal
    }

    /// A record that goes on: a new run's first entry, or a run to be resumed.
    pub fn open(encoded: Vec<Encoded>, mut recorder: Box<dyn Recorder>) -> Self {
        recorder.follow(&encoded);
        Self::read(encoded, Some(recorder))
    }

    fn read(encoded: Vec<Encoded>, recorder: Option<Box<dyn Recorder>>) -> Self {
        let (entries, damage) = verify_prefix(&encoded);
        let recorded = entries.into_iter().zip(encoded).collect();
        Self { recorded, damage, recorder, precision: Precision::Exact }
    }

    /// How closely a replay of it compares.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What the first entry says.
    pub fn started(&self) -> Result<Started, Fault> {
        let Some((first, _)) = self.recorded.first() else {
            return Err(match &self.damage {
                Some(damage) => Halt::from(damage.clone()).into(),
                None => Fault::NoStart,
            });
        };
        match &first.body {
            Body::Started(started) => {
                let damage = |cause: InvalidLimit| Damage { index: 0, what: cause.to_string() };
                started.limits.check().map_err(|cause| Halt::from(damage(cause)))?;
                Ok((**started).clone())
            }
            _ => Err(Fault::NoStart),
        }
    }

    /// Where the record says that the run was interrupted, and why.
    pub(super) fn interruption(&self) -> Option<(Place, Interrupt)> {
        let (last, _) = self.recorded.last()?;
        let Body::Ended(ended) = &last.body else { return None };
        let Outcome::Error(error) = &ended.outcome else { return None };
        Some((ended.interrupted_at?, Interrupt::of(error.code)?))
    }
}

/// A run that has not started yet.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub started: Started,
    /// The journal's first entry.
    pub first: Encoded,
    /// Time of the first entry.
    pub at: Micros,
}

impl NewRun {
    /// Checks the input and fixes everything that decides about the run.
    pub fn plan(
        prepared: &Prepared,
        input: &str,
        limits: Limits,
        tools: &RunTools,
    ) -> Result<Self, InputError> {
        let manifest = &prepared.revision.manifest;
        let bytes = input.len() as u64;
        if bytes > limits.input_bytes {
            return Err(InputError::TooLarge { bytes, limit: limits.input_bytes });
        }
        let input = Json::parse(input)?;
        prepared.input.check(&input.to_value()).map_err(|violations| InputError::Invalid {
            agent: manifest.name.to_string(),
            violations,
        })?;
        let started = Started {
            format: FORMAT,
            run: system::run_id(),
            agent: manifest.name.to_string(),
            revision: prepared.revision.digest,
            input,
            seed: hex::encode(system::seed()),
            limits,
            tools: tools.granted(),
            engine: sandbox::fingerprint(),
        };
        Ok(Self::of(started))
    }

    /// The run that `started` describes, starting now.
    pub fn of(started: Started) -> Self {
        let at = system::now();
        let body = Body::Started(Box::new(started.clone()));
        let first = Chain::default().push(&Entry { seq: 0, at, fuel: 0, body });
        Self { started, first, at }
    }
}

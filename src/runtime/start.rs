//! What the executor is given: a run's journal so far, and a new run's beginning.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::control::Interrupt;
use super::effects::decide::Precision;
use super::effects::recorder::Recorder;
use super::effects::system;
use super::effects::tape::{Halt, Reel};
use super::effects::transcript::Transcript;
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
    /// Its record goes up to the end or the first damage.
    pub(super) reel: Reel,
    /// Tools that the record's run had and that the revision does not ask for.
    pub(super) withdrawn: BTreeSet<String>,
    /// What the first entry says, if the record begins after it.
    begun: Option<Arc<Started>>,
}

impl Journal {
    /// The journal of a run that was just planned: it begins after the first entry,
    /// which nobody has to be told again.
    pub fn new(run: &NewRun, mut recorder: Box<dyn Recorder>) -> Self {
        recorder.follow(std::slice::from_ref(&run.first));
        let (chain, bytes) = (run.chain, run.first.bytes.len() as u64);
        let reel = Reel { chain, bytes, ..Reel::of(Vec::new(), Some(recorder)) };
        Self { reel, withdrawn: BTreeSet::new(), begun: Some(Arc::clone(&run.started)) }
    }

    /// A record that may not grow, for a replay.
    pub fn closed(encoded: Vec<Encoded>) -> Self {
        let mut journal = Self::read(encoded, None);
        if journal.started().is_ok_and(|started| started.engine != sandbox::fingerprint()) {
            journal.reel.precision = Precision::Content;
        }
        journal
    }

    /// A record that goes on: a new run's first entry, or a run to be resumed.
    pub fn open(encoded: Vec<Encoded>, mut recorder: Box<dyn Recorder>) -> Self {
        recorder.follow(&encoded);
        Self::read(encoded, Some(recorder))
    }

    /// As [`Journal::open`], for a run that nobody has gone on with yet: calls that
    /// its record holds without an answer have never been made for it.
    pub fn untouched(encoded: Vec<Encoded>, recorder: Box<dyn Recorder>) -> Self {
        let mut journal = Self::open(encoded, recorder);
        journal.reel.is_untouched = true;
        journal
    }

    /// A verified record of another run or revision, to be made anew as that of
    /// `started`, into `transcript`.
    pub(super) fn retold(
        started: Started,
        mut record: Vec<Entry>,
        transcript: Transcript,
        precision: Precision,
    ) -> Self {
        let mut withdrawn = BTreeSet::new();
        if let Some(Entry { body: Body::Started(first), .. }) = record.first_mut() {
            let has = |name: &str| started.tools.iter().any(|tool| tool.name == name);
            let names = first.tools.iter().map(|tool| tool.name.clone());
            withdrawn = names.filter(|name| !has(name)).collect();
            **first = started;
        }
        let mut chain = Chain::default();
        let recorded = (0..).zip(record).map(|(seq, entry)| {
            let entry = Entry { seq, ..entry };
            let encoded = chain.push(&entry);
            (entry, encoded)
        });
        let reel = Reel::of(recorded.collect(), None);
        let reel = Reel { transcript: Some(transcript), precision, ..reel };
        Self { reel, withdrawn, begun: None }
    }

    fn read(encoded: Vec<Encoded>, recorder: Option<Box<dyn Recorder>>) -> Self {
        let (entries, damage) = verify_prefix(&encoded);
        let recorded = entries.into_iter().zip(encoded).collect();
        let reel = Reel { damage, ..Reel::of(recorded, recorder) };
        Self { reel, withdrawn: BTreeSet::new(), begun: None }
    }

    /// How closely a replay of it compares.
    pub fn precision(&self) -> Precision {
        self.reel.precision
    }

    /// What the first entry says.
    pub fn started(&self) -> Result<Arc<Started>, Fault> {
        if let Some(started) = &self.begun {
            return Ok(Arc::clone(started));
        }
        let Some((first, _)) = self.reel.recorded.first() else {
            return Err(match &self.reel.damage {
                Some(damage) => Halt::from(damage.clone()).into(),
                None => Fault::NoStart,
            });
        };
        match &first.body {
            Body::Started(started) => {
                let damage = |cause: InvalidLimit| Damage { index: 0, what: cause.to_string() };
                started.limits.check().map_err(|cause| Halt::from(damage(cause)))?;
                Ok(Arc::new((**started).clone()))
            }
            _ => Err(Fault::NoStart),
        }
    }

    /// Where the record says that the run was interrupted, and why.
    pub(super) fn interruption(&self) -> Option<(Place, Interrupt)> {
        let (last, _) = self.reel.recorded.last()?;
        let Body::Ended(ended) = &last.body else { return None };
        let Outcome::Error(error) = &ended.outcome else { return None };
        Some((ended.interrupted_at?, Interrupt::of(error.code)?))
    }
}

impl Prepared {
    /// Parses an input and holds it against the revision's schema.
    pub(super) fn check_input(&self, input: &str, limits: &Limits) -> Result<Json, InputError> {
        let bytes = input.len() as u64;
        if bytes > limits.input_bytes {
            return Err(InputError::TooLarge { bytes, limit: limits.input_bytes });
        }
        let input = Json::parse(input)?;
        self.input.check(&input.to_value()).map_err(|violations| InputError::Invalid {
            agent: self.revision.manifest.name.to_string(),
            violations,
        })?;
        Ok(input)
    }
}

/// A run that has not started yet.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub started: Arc<Started>,
    /// The journal's first entry.
    pub first: Encoded,
    /// Time of the first entry.
    pub at: Micros,
    /// The chain after the first entry.
    chain: Chain,
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
        let input = prepared.check_input(input, &limits)?;
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
            fork: None,
        };
        Ok(Self::of(started))
    }

    /// The run that `started` describes, starting now.
    pub fn of(started: Started) -> Self {
        let at = system::now();
        let entry = Entry { seq: 0, at, fuel: 0, body: Body::Started(Box::new(started)) };
        let mut chain = Chain::default();
        let first = chain.push(&entry);
        let Body::Started(started) = entry.body else { unreachable!("it was just made") };
        Self { started: Arc::from(started), first, at, chain }
    }
}

//! A record made anew: its entries as another run or another revision makes them,
//! in memory. What a fork begins with, and what a what-if finds.
//!
//! A what-if goes on where it departs from its record. Then calls are answered by the
//! answers of the record that the guest has not had yet. Time passes by as much as
//! these took, and by sleeps, but nothing is waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::decide::Divergence;
use crate::journal::{Body, Encoded, Entry, Micros, ToolAnswered, ToolCalled};

/// Takes the entries as they are made. Its clones share them.
#[derive(Debug, Clone)]
pub struct Transcript(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// A divergence is noted, and not the end.
    may_depart: bool,
    departure: Option<Box<Divergence>>,
    entries: Vec<(Entry, Encoded)>,
    unused: Vec<Unused>,
}

/// An answer of the record that the guest has not had.
#[derive(Debug)]
struct Unused {
    called: ToolCalled,
    answered: ToolAnswered,
    took: Micros,
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Written {
    pub entries: Vec<(Entry, Encoded)>,
    /// Where the guest first did something that is not on record.
    pub departure: Option<Box<Divergence>>,
}

impl Transcript {
    /// Of a record that must be followed to its end.
    pub fn faithful() -> Self {
        Self::new(false)
    }

    /// Of one that may be departed from.
    pub fn of_what_if() -> Self {
        Self::new(true)
    }

    fn new(may_depart: bool) -> Self {
        let (departure, entries, unused) = (None, Vec::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { may_depart, departure, entries, unused })))
    }

    /// What has been written so far.
    pub fn written(&self) -> Written {
        let state = self.lock();
        Written { entries: state.entries.clone(), departure: state.departure.clone() }
    }

    /// Whether the guest goes its own way.
    pub fn has_departed(&self) -> bool {
        self.lock().departure.is_some()
    }

    pub(super) fn push(&self, entry: Entry, encoded: Encoded) {
        self.lock().entries.push((entry, encoded));
    }

    /// The guest departs from the record at the entry of number `position`. If it
    /// may not, the divergence comes back.
    pub(super) fn depart(
        &self,
        divergence: Box<Divergence>,
        record: &[(Entry, Encoded)],
        position: usize,
    ) -> Result<(), Box<Divergence>> {
        let mut state = self.lock();
        if !state.may_depart {
            return Err(divergence);
        }
        state.unused = unused(record, position);
        state.departure = Some(divergence);
        Ok(())
    }

    /// The first answer of the record to this call that was not given yet, and how
    /// long it took.
    pub(super) fn answer(&self, called: &ToolCalled) -> Option<(ToolAnswered, Micros)> {
        let mut state = self.lock();
        let arguments = called.arguments.in_order();
        let index = state.unused.iter().position(|unused| {
            let known = &unused.called;
            known.name == called.name && known.arguments.in_order() == arguments
        })?;
        let Unused { answered, took, .. } = state.unused.remove(index);
        Some((ToolAnswered { call: called.call, ..answered }, took))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answers from `position` on, in the order of their calls.
fn unused(record: &[(Entry, Encoded)], position: usize) -> Vec<Unused> {
    let calls = record.iter().filter_map(|(entry, _)| match &entry.body {
        Body::ToolCalled(called) => Some((entry.at, called)),
        _ => None,
    });
    let answers = record[position..].iter().filter_map(|(entry, _)| match &entry.body {
        Body::ToolAnswered(answered) => Some((answered.call, (entry.at, answered))),
        _ => None,
    });
    let answers: HashMap<u64, (Micros, &ToolAnswered)> = answers.collect();
    let unused = calls.filter_map(|(since, called)| {
        let (at, answered) = *answers.get(&called.call)?;
        let took = at.saturating_sub(since);
        Some(Unused { called: called.clone(), answered: answered.clone(), took })
    });
    unused.collect()
}

//! A record made anew: its entries as another run or another revision makes them,
//! in memory. What a fork begins with, and what a what-if finds.
//!
//! A what-if goes on where it departs from its record. Then calls are answered by the
//! answers of the record that the guest has not had yet. Time passes by as much as
//! these took, and by sleeps, but nothing is waited for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::decide::Divergence;
use crate::journal::{Body, Encoded, Entry, Micros, ToolAnswered, ToolCalled};
use crate::revision::Digest;

/// Takes the entries as they are made. Its clones share them.
#[derive(Debug, Clone)]
pub struct Transcript(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// A divergence is noted, and not the end.
    may_depart: bool,
    departure: Option<Box<Divergence>>,
    entries: Vec<(Entry, Encoded)>,
    unused: Answers,
}

/// Answers of the record that the guest has not had, and how long each took. Of the
/// same call they come in the order in which it was made.
type Answers = HashMap<Key, VecDeque<(ToolAnswered, Micros)>>;

/// What calls are told apart by: the name of the tool, and a digest of the arguments
/// that is the same for the same JSON.
type Key = (String, Digest);

fn key(called: &ToolCalled) -> Key {
    (called.name.clone(), Digest::of(called.arguments.in_order().as_str().as_bytes()))
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
        let (departure, entries, unused) = (None, Vec::new(), Answers::new());
        Self(Arc::new(Mutex::new(State { may_depart, departure, entries, unused })))
    }

    /// Takes what has been written.
    pub fn take(&self) -> Written {
        let mut state = self.lock();
        let entries = std::mem::take(&mut state.entries);
        Written { entries, departure: state.departure.take() }
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
        let (answered, took) = self.lock().unused.get_mut(&key(called))?.pop_front()?;
        Some((ToolAnswered { call: called.call, ..answered }, took))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answers from `position` on.
fn unused(record: &[(Entry, Encoded)], position: usize) -> Answers {
    let later = record[position..].iter().filter_map(|(entry, _)| match &entry.body {
        Body::ToolAnswered(answered) => Some((answered.call, (entry.at, answered))),
        _ => None,
    });
    let later: HashMap<u64, (Micros, &ToolAnswered)> = later.collect();
    let mut unused = Answers::new();
    for (entry, _) in record {
        let Body::ToolCalled(called) = &entry.body else { continue };
        let Some((at, answered)) = later.get(&called.call) else { continue };
        let took = at.saturating_sub(entry.at);
        unused.entry(key(called)).or_default().push_back(((*answered).clone(), took));
    }
    unused
}

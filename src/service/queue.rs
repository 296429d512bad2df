//! Who is next: runs wait in the line of their agent, and agents take turns.
//!
//! Plain data without I/O: what is due it is told, when to look is `scheduler`'s work.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::sync::oneshot;

use crate::journal::Micros;

/// How many runs may be under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Guests that are loaded.
    pub loaded: usize,
    /// Loaded guests of one agent.
    pub per_agent: usize,
    /// Runs that this process has, loaded or not: each has calls under way.
    pub held: usize,
}

/// First wait before a run is tried again that could not go on; doubles each time.
const FIRST_RETRY: Micros = 1_000_000;
const LAST_RETRY: Micros = 10 * 60 * 1_000_000;

/// The runs that wait for their turn and those that have it.
pub struct Queue {
    places: Places,
    lines: BTreeMap<String, Line>,
    /// Agents that have something to do, the next one first.
    turns: VecDeque<String>,
    /// Runs in a line or under way.
    known: HashMap<String, Phase>,
    /// Runs that could not go on: how often, and when to try again.
    failed: HashMap<String, (u32, Micros)>,
    loaded: usize,
    held: usize,
    waiting: usize,
    doors: Doors,
}

/// Whether runs get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doors {
    /// They can get in line, and are let through later.
    NotYet,
    Open,
    Closed,
}

#[derive(Default)]
struct Line {
    /// Runs that this process has and that want to be loaded again: they go first.
    returning: VecDeque<oneshot::Sender<()>>,
    waiting: VecDeque<Waiting>,
    loaded: usize,
    /// Whether the agent is among the turns.
    in_turn: bool,
}

struct Waiting {
    run: String,
    /// Who has the run in hand, if it is not entered yet: this hears of its place.
    place: Option<oneshot::Sender<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Held,
}

/// What to do next. A place is taken by each.
#[derive(Debug)]
pub enum Next {
    Start {
        run: String,
        agent: String,
    },
    /// Nothing: who has the run in hand has heard of its place.
    Enter,
    Return {
        agent: String,
        place: oneshot::Sender<()>,
    },
}

/// How many runs are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub waiting: usize,
    pub loaded: usize,
    pub held: usize,
    /// Those that could not go on and will be tried again.
    pub failed: usize,
}

impl Queue {
    pub fn new(places: Places) -> Self {
        Self {
            places,
            lines: BTreeMap::new(),
            turns: VecDeque::new(),
            known: HashMap::new(),
            failed: HashMap::new(),
            loaded: 0,
            held: 0,
            waiting: 0,
            doors: Doors::NotYet,
        }
    }

    pub fn counts(&self) -> Counts {
        let Self { waiting, loaded, held, .. } = *self;
        Counts { waiting, loaded, held, failed: self.failed.len() }
    }

    /// How many runs of each agent wait for their turn, and how many are loaded.
    pub fn by_agent(&self) -> Vec<(String, usize, usize)> {
        let count =
            |(agent, line): (&String, &Line)| (agent.clone(), line.waiting.len(), line.loaded);
        self.lines.iter().map(count).collect()
    }

    /// From here on a run can have its turn at once.
    pub fn open(&mut self) {
        self.doors = Doors::Open;
    }

    /// A run that is not entered yet comes to the end of its agent's line. The receiver
    /// hears of its place: at once, if there is one and nobody who waits could take it.
    pub fn come(&mut self, run: &str, agent: &str) -> oneshot::Receiver<()> {
        let (place, receiver) = oneshot::channel();
        let Places { loaded, per_agent, held } = self.places;
        let is_free = self.loaded < loaded
            && self.held < held
            && self.lines.get(agent).is_none_or(|line| line.loaded < per_agent);
        if self.doors != Doors::Open {
            return receiver;
        }
        if is_free && !self.has_turns() {
            self.line(agent).loaded += 1;
            self.loaded += 1;
            self.held += 1;
            self.known.insert(run.to_owned(), Phase::Held);
            let _ = place.send(());
        } else {
            self.line_up(Waiting { run: run.to_owned(), place: Some(place) }, agent);
        }
        receiver
    }

    /// A run that has come is entered: it waits as others do. `false` if it is not in line.
    pub fn entered(&mut self, run: &str, agent: &str) -> bool {
        let Some(line) = self.lines.get_mut(agent) else { return false };
        let waiting = line.waiting.iter_mut().rfind(|waiting| waiting.run == run);
        waiting.map(|waiting| waiting.place = None).is_some()
    }

    /// A run that has come is not entered after all, and leaves the line if it is there.
    pub fn withdraw(&mut self, run: &str, agent: &str) {
        let Some(line) = self.lines.get_mut(agent) else { return };
        if let Some(at) = line.waiting.iter().rposition(|waiting| waiting.run == run) {
            line.waiting.remove(at);
            self.waiting -= 1;
            self.known.remove(run);
        }
    }

    /// Whether anybody waits who may be next.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Puts a run at the end of its agent's line, unless it is known. Answers whether it
    /// was put there.
    pub fn add(&mut self, run: &str, agent: &str, now: Micros) -> bool {
        let too_early = self.failed.get(run).is_some_and(|(_, again)| *again > now);
        if self.doors == Doors::Closed || too_early || self.known.contains_key(run) {
            return false;
        }
        self.line_up(Waiting { run: run.to_owned(), place: None }, agent);
        true
    }

    /// A run that was unloaded wants to be loaded again: the receiver hears of its place.
    pub fn come_back(&mut self, agent: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        if self.doors != Doors::Closed {
            self.line(agent).returning.push_back(sender);
            self.take_turns(agent);
        }
        receiver
    }

    /// What can be done now, if anything.
    pub fn next(&mut self) -> Option<Next> {
        for _ in 0..self.turns.len() {
            if self.loaded >= self.places.loaded {
                return None;
            }
            let agent = self.turns.pop_front()?;
            let Places { per_agent, held, .. } = self.places;
            let may_start = self.held < held;
            let line = self.line(&agent);
            if line.loaded >= per_agent {
                // It is put among the turns again when one of its runs is unloaded.
                line.in_turn = false;
                continue;
            }
            let (mut next, mut told) = (None, None);
            if let Some(place) = line.returning.pop_front() {
                next = Some(Next::Return { agent: agent.clone(), place });
            } else if may_start && let Some(waiting) = line.waiting.pop_front() {
                told = waiting.place;
                next = Some(Next::Start { run: waiting.run, agent: agent.clone() });
            }
            let is_idle = line.returning.is_empty() && line.waiting.is_empty();
            line.in_turn = !is_idle;
            if next.is_some() {
                line.loaded += 1;
            }
            if !is_idle {
                self.turns.push_back(agent);
            }
            let Some(next) = next else { continue };
            self.loaded += 1;
            let Next::Start { run, agent } = &next else { return Some(next) };
            self.waiting -= 1;
            self.held += 1;
            self.known.insert(run.clone(), Phase::Held);
            let Some(place) = told else { return Some(next) };
            if place.send(()).is_err() {
                self.leave(run);
                self.unload(agent);
            }
            return Some(Next::Enter);
        }
        None
    }

    /// A run's guest is not loaded any more.
    pub fn unload(&mut self, agent: &str) {
        self.loaded = self.loaded.saturating_sub(1);
        let line = self.line(agent);
        line.loaded = line.loaded.saturating_sub(1);
        if line.loaded == 0 && line.waiting.is_empty() && line.returning.is_empty() {
            if !line.in_turn {
                self.lines.remove(agent);
            }
        } else {
            self.take_turns(agent);
        }
    }

    /// This process does not have the run any more.
    pub fn leave(&mut self, run: &str) {
        if self.known.remove(run) == Some(Phase::Held) {
            self.held = self.held.saturating_sub(1);
        }
    }

    /// The run went on as it should.
    pub fn went_on(&mut self, run: &str) {
        self.failed.remove(run);
    }

    /// The run could not go on; it is not tried again before the time that this answers.
    pub fn failed(&mut self, run: &str, now: Micros) -> Micros {
        let (times, again) = self.failed.entry(run.to_owned()).or_default();
        let wait = FIRST_RETRY.saturating_mul(1 << (*times).min(16)).min(LAST_RETRY);
        (*times, *again) = (*times + 1, now.saturating_add(wait));
        *again
    }

    /// Nothing is put in a line any more, and nobody has a turn.
    pub fn close(&mut self) {
        self.doors = Doors::Closed;
        self.turns.clear();
        self.lines.values_mut().for_each(|line| {
            line.returning.clear();
            line.waiting.clear();
        });
        self.waiting = 0;
    }

    fn line(&mut self, agent: &str) -> &mut Line {
        self.lines.entry(agent.to_owned()).or_default()
    }

    fn line_up(&mut self, waiting: Waiting, agent: &str) {
        self.known.insert(waiting.run.clone(), Phase::Waiting);
        self.line(agent).waiting.push_back(waiting);
        self.waiting += 1;
        self.take_turns(agent);
    }

    fn take_turns(&mut self, agent: &str) {
        let line = self.line(agent);
        let has_work = !line.waiting.is_empty() || !line.returning.is_empty();
        if has_work && !std::mem::replace(&mut line.in_turn, true) {
            self.turns.push_back(agent.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;

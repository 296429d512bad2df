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
    waiting: VecDeque<String>,
    loaded: usize,
    /// Whether the agent is among the turns.
    in_turn: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Held,
}

/// What to do next. A place is taken by each.
#[derive(Debug)]
pub enum Next {
    Start { run: String, agent: String },
    Return { agent: String, place: oneshot::Sender<()> },
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

    /// Gives a new run its turn at once, if there is a place for it and nobody who waits
    /// could take that. Answers whether there was.
    pub fn begin(&mut self, run: &str, agent: &str) -> bool {
        let Places { loaded, per_agent, held } = self.places;
        let is_free = self.loaded < loaded
            && self.held < held
            && self.lines.get(agent).is_none_or(|line| line.loaded < per_agent);
        if self.doors != Doors::Open || !is_free || self.has_turns() {
            return false;
        }
        self.line(agent).loaded += 1;
        self.loaded += 1;
        self.held += 1;
        self.known.insert(run.to_owned(), Phase::Held);
        true
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
        self.known.insert(run.to_owned(), Phase::Waiting);
        self.line(agent).waiting.push_back(run.to_owned());
        self.waiting += 1;
        self.take_turns(agent);
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
            let next = match line.returning.pop_front() {
                Some(place) => Some(Next::Return { agent: agent.clone(), place }),
                None if may_start => {
                    line.waiting.pop_front().map(|run| Next::Start { run, agent: agent.clone() })
                }
                None => None,
            };
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
            if let Next::Start { run, .. } = &next {
                self.waiting -= 1;
                self.held += 1;
                self.known.insert(run.clone(), Phase::Held);
            }
            return Some(next);
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

    fn take_turns(&mut self, agent: &str) {
        let line = self.line(agent);
        let has_work = !line.waiting.is_empty() || !line.returning.is_empty();
        if has_work && !std::mem::replace(&mut line.in_turn, true) {
            self.turns.push_back(agent.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(loaded: usize, per_agent: usize, held: usize) -> Queue {
        Queue::new(Places { loaded, per_agent, held })
    }

    fn add(queue: &mut Queue, runs: &[(&str, &str)]) {
        for (run, agent) in runs {
            assert!(queue.add(run, agent, 0));
        }
    }

    fn started(queue: &mut Queue) -> Vec<String> {
        let mut runs = Vec::new();
        while let Some(next) = queue.next() {
            match next {
                Next::Start { run, .. } => runs.push(run),
                Next::Return { place, .. } => {
                    let _ = place.send(());
                    runs.push("returned".to_owned());
                }
            }
        }
        runs
    }

    #[test]
    fn agents_take_turns_and_each_keeps_its_order() {
        let mut queue = queue(9, 9, 9);
        add(&mut queue, &[("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")]);
        assert_eq!(started(&mut queue), ["a1", "b1", "a2", "b2", "a3"]);
    }

    #[test]
    fn one_agent_cannot_have_all_places() {
        let mut queue = queue(4, 2, 9);
        add(&mut queue, &[("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")]);
        assert_eq!(started(&mut queue), ["a1", "b1", "a2"]);
        queue.unload("a");
        queue.leave("a1");
        assert_eq!(started(&mut queue), ["a3"]);
        assert_eq!(queue.counts(), Counts { waiting: 0, loaded: 3, held: 3, failed: 0 });
    }

    #[test]
    fn a_run_that_comes_back_goes_first() {
        let mut queue = queue(1, 1, 9);
        add(&mut queue, &[("a1", "a"), ("a2", "a")]);
        assert_eq!(started(&mut queue), ["a1"]);
        queue.unload("a");
        let mut place = queue.come_back("a");
        assert_eq!(started(&mut queue), ["returned"]);
        assert_eq!(place.try_recv(), Ok(()));
        queue.unload("a");
        assert_eq!(started(&mut queue), ["a2"]);
    }

    #[test]
    fn the_process_has_no_more_runs_than_it_may_hold() {
        let mut queue = queue(2, 2, 1);
        add(&mut queue, &[("a1", "a"), ("a2", "a")]);
        assert_eq!(started(&mut queue), ["a1"]);
        queue.unload("a");
        assert_eq!(started(&mut queue), [""; 0], "it still has a1");
        queue.leave("a1");
        assert_eq!(started(&mut queue), ["a2"]);
    }

    #[test]
    fn a_known_run_is_not_taken_twice_and_a_failed_one_waits() {
        let mut queue = queue(9, 9, 9);
        add(&mut queue, &[("a1", "a")]);
        assert!(!queue.add("a1", "a", 0));
        assert_eq!(started(&mut queue), ["a1"]);
        assert!(!queue.add("a1", "a", 0));
        assert_eq!(queue.failed("a1", 0), 1_000_000);
        queue.unload("a");
        queue.leave("a1");
        assert!(!queue.add("a1", "a", 999_999));
        assert!(queue.add("a1", "a", 1_000_000));
        assert_eq!(queue.failed("a1", 0), 2_000_000);
        assert_eq!((2..40).map(|_| queue.failed("a1", 0)).max(), Some(LAST_RETRY));
    }

    #[test]
    fn a_new_run_begins_at_once_where_nobody_waits_for_the_place() {
        let mut queue = queue(3, 2, 9);
        assert!(!queue.begin("a0", "a"), "nobody has a turn yet");
        queue.open();
        assert!(queue.begin("a1", "a"));
        assert!(queue.begin("a2", "a"));
        assert!(!queue.begin("a3", "a"), "all places of the agent are taken");
        add(&mut queue, &[("a3", "a")]);
        assert!(!queue.begin("b1", "b"), "somebody may be next");
        assert_eq!(started(&mut queue), [""; 0]);
        assert!(queue.begin("b1", "b"), "whoever waits has to wait for his own agent");
        assert!(!queue.begin("c1", "c"), "all places are taken");
        assert_eq!(queue.counts(), Counts { waiting: 1, loaded: 3, held: 3, failed: 0 });
        queue.unload("a");
        queue.leave("a1");
        assert!(!queue.begin("a4", "a"), "a3 was there before");
        assert_eq!(started(&mut queue), ["a3"]);
        queue.close();
        queue.unload("b");
        assert!(!queue.begin("b2", "b"));
    }

    #[test]
    fn a_new_run_waits_where_the_process_holds_all_that_it_may() {
        let mut queue = queue(2, 2, 1);
        queue.open();
        assert!(queue.begin("a1", "a"));
        queue.unload("a");
        assert!(!queue.begin("a2", "a"));
    }

    #[test]
    fn nobody_has_a_turn_after_the_end() {
        let mut queue = queue(9, 9, 9);
        add(&mut queue, &[("a1", "a")]);
        queue.close();
        assert_eq!(started(&mut queue), [""; 0]);
        assert!(!queue.add("a2", "a", 0));
        assert!(queue.come_back("a").try_recv().is_err());
    }
}

//! What is counted: runs, calls, fuel, memory, journals. Since the process started;
//! what is there now is asked for when somebody looks.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::scheduler::Snapshot;
use crate::journal::{Answer, Outcome, Started};
use crate::runtime::Ran;
use crate::storage::Commits;

/// Counts what the service does. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Counted>);

struct Counted {
    ended: Family<Ended, Counter>,
    run_seconds: Family<Agent, Histogram, fn() -> Histogram>,
    calls: Family<Call, Counter>,
    call_seconds: Family<Tool, Histogram, fn() -> Histogram>,
    fuel: Family<Agent, Counter>,
    memory: Histogram,
    journal_bytes: Counter,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            run_seconds: Family::new_with_constructor(seconds),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(seconds),
            fuel: Family::default(),
            // 64 KiB, one page of a guest's memory, to 1 GiB.
            memory: Histogram::new(exponential_buckets(65_536.0, 4.0, 8)),
            journal_bytes: Counter::default(),
        }
    }
}

/// From a millisecond to more than an hour.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 12))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    agent: String,
    status: &'static str,
    /// The error's code; empty for `done`.
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Agent {
    agent: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tool {
    tool: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    tool: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

impl Metrics {
    /// A run has ended.
    pub fn ended(&self, started: &Started, ran: &Ran, took: Duration) {
        let (status, code) = match &ran.ended.outcome {
            Outcome::Done(_) => ("done", String::new()),
            Outcome::Error(error) => ("error", error.code.to_string()),
        };
        let counted = &self.0;
        let agent = Agent { agent: started.agent.clone() };
        let ended = Ended { agent: started.agent.clone(), status, code };
        counted.ended.get_or_create(&ended).inc();
        counted.run_seconds.get_or_create(&agent).observe(took.as_secs_f64());
        counted.fuel.get_or_create(&agent).inc_by(ran.fuel);
        counted.memory.observe(ran.ended.used.memory_bytes as f64);
        counted.journal_bytes.inc_by(ran.ended.used.journal_bytes);
    }

    /// A tool has answered.
    pub fn called(&self, tool: &str, answer: &Answer, took: Duration) {
        let outcome = match answer {
            Answer::Ok(_) => "ok",
            Answer::Error(_) => "error",
        };
        let call = Call { tool: tool.to_owned(), outcome };
        self.0.calls.get_or_create(&call).inc();
        let tool = Tool { tool: tool.to_owned() };
        self.0.call_seconds.get_or_create(&tool).observe(took.as_secs_f64());
    }

    /// All of it in the text format of OpenMetrics.
    pub(super) fn text(&self, now: &Snapshot, waiting: (u64, u64), commits: Commits) -> String {
        let mut registry = Registry::with_prefix("reenact");
        let counted = &self.0;
        registry.register("runs_ended", "Runs that ended", counted.ended.clone());
        registry.register_with_unit(
            "run_duration",
            "From the creation of a run to its end",
            Unit::Seconds,
            counted.run_seconds.clone(),
        );
        registry.register("tool_calls", "Calls that reached a tool", counted.calls.clone());
        registry.register_with_unit(
            "tool_call_duration",
            "Time that tools took to answer",
            Unit::Seconds,
            counted.call_seconds.clone(),
        );
        registry.register("fuel", "Fuel that runs used", counted.fuel.clone());
        registry.register_with_unit(
            "run_memory",
            "Memory that a run's guest had at its end",
            Unit::Bytes,
            counted.memory.clone(),
        );
        registry.register_with_unit(
            "journal",
            "Bytes of the journals of runs that ended",
            Unit::Bytes,
            counted.journal_bytes.clone(),
        );
        let (queued, loaded): (Family<Agent, Gauge>, Family<Agent, Gauge>) = Default::default();
        for (agent, waiting_runs, loaded_runs) in &now.by_agent {
            let agent = Agent { agent: agent.clone() };
            queued.get_or_create(&agent).set(*waiting_runs as i64);
            loaded.get_or_create(&agent).set(*loaded_runs as i64);
        }
        registry.register("runs_queued", "Runs that wait for their turn", queued);
        registry.register("runs_loaded", "Runs whose guest is loaded", loaded);
        let states: Family<State, Gauge> = Family::default();
        let counts = now.counts;
        for (state, runs) in [
            ("queued", counts.waiting),
            ("loaded", counts.loaded),
            ("unloaded", counts.held.saturating_sub(counts.loaded)),
            ("waiting_for_approval", waiting.0 as usize),
            ("sleeping", waiting.1 as usize),
            ("retrying", counts.failed),
        ] {
            states.get_or_create(&State { state }).set(runs as i64);
        }
        registry.register("runs", "Runs that have not ended, by what they are at", states);
        let (total, jobs): (Counter, Counter) = Default::default();
        total.inc_by(commits.commits);
        jobs.inc_by(commits.jobs);
        registry.register("commits", "Commits of the database", total);
        registry.register("commit_jobs", "Writes that shared those commits", jobs);
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("a string takes everything");
        out
    }
}

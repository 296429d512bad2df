//! Forks: what a new run shares with another one, and what it is given of its own.
//!
//! A fork's journal holds its whole beginning, so that it is replayed, exported and
//! resumed like any other. The beginning is not copied but made again: the revision
//! that is to go on executes it from the parent's record. So a revision that would
//! have done something else is refused before there is a run, and the entries have
//! the fuel that this revision takes.

use std::collections::HashSet;

use super::control::Control;
use super::effects::decide::{Divergence, Precision};
use super::effects::system;
use super::effects::tape::Halt;
use super::effects::transcript::Transcript;
use super::executor::{Executor, Fault, Prepared};
use super::start::{InputError, Journal};
use crate::journal::{
    Action, Answer, Body, Damage, Encoded, Entry, FORMAT, Fork, GrantedTool, Micros, OLDEST_FORMAT,
    Rule, Started, ToolAnswered, ToolOutput, verify_all,
};
use crate::json::Json;
use crate::revision::{Digest, Limits};
use crate::sandbox;
use crate::storage;
use crate::tools::RunTools;

/// What somebody wants of a fork.
#[derive(Debug, Clone)]
pub struct ForkWish {
    /// Number of the last entry of the parent that is shared.
    pub at: u64,
    /// Replaces the answer that this entry holds.
    pub set_result: Option<Json>,
}

/// A fork that is ready to go on.
#[derive(Debug, Clone)]
pub struct ForkPlan {
    pub started: Started,
    fork: Fork,
    /// Its journal so far: the first entry and what it shares with the parent.
    pub entries: Vec<Encoded>,
    /// Fuel at the last of them.
    pub fuel: u64,
}

impl ForkPlan {
    /// When the fork was planned, which is when its run begins.
    pub fn made_at(&self) -> Micros {
        self.fork.made_at
    }

    /// The run that it comes from.
    pub fn parent(&self) -> storage::Parent {
        storage::Parent { run: self.fork.run.clone(), at: self.fork.at }
    }
}

/// Why there can be no such fork.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    #[error("run {run} has no entry {at}: its journal goes up to entry {last}")]
    NoSuchEntry { run: String, at: u64, last: u64 },
    #[error("entry {at} is the end of run {run}, which a fork cannot share")]
    AtTheEnd { run: String, at: u64 },
    #[error("entry {at} is no answer of a tool, so there is no result to set")]
    NoAnswer { at: u64, nearest: Vec<u64> },
    #[error("the result to set has {bytes} bytes, `answer_bytes` is {limit}")]
    ResultTooLarge { bytes: u64, limit: u64 },
    #[error("revision {revision} is one of agent `{agent}`, the run is one of `{of}`")]
    OtherAgent { revision: Digest, agent: String, of: String },
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The beginning cannot be shared, because the revision does something else there.
    #[error("revision {revision} departs from run {run} at entry {}", .divergence.index)]
    Diverged { run: String, revision: Digest, divergence: Box<Divergence> },
    #[error(transparent)]
    Fault(Fault),
}

impl ForkError {
    /// What the reader can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchEntry { run, .. } => {
                Some(format!("`reenact show {run}` tells the numbers of its entries"))
            }
            Self::AtTheEnd { at, .. } => {
                Some(format!("the last entry that can be shared is {}", at.saturating_sub(1)))
            }
            Self::NoAnswer { nearest, .. } => Some(match nearest.as_slice() {
                [] => "the run has no answer of a tool".to_owned(),
                [one] => format!("the nearest answer is entry {one}"),
                [before, after, ..] => {
                    format!("the nearest answers are entries {before} and {after}")
                }
            }),
            Self::Diverged { divergence, .. } => Some(match divergence.index {
                0 => "fork without `--revision`".to_owned(),
                index => format!("up to entry {0} it does the same: `--at {0}`", index - 1),
            }),
            _ => None,
        }
    }
}

impl Executor {
    /// Plans a run that shares the beginning of `parent`'s journal with it and is one
    /// of `prepared`: verifies the journal, and executes the beginning from it alone.
    ///
    /// The parent may have ended or not, and its journal be complete or a prefix. Input
    /// and seed are the parent's; `limits` and `tools` are those that a new run of the
    /// revision would get now. Nothing is kept: see [`super::DurableRun::create_fork`].
    pub async fn plan_fork(
        &self,
        prepared: &Prepared,
        parent: &[Encoded],
        wish: ForkWish,
        limits: Limits,
        tools: &RunTools,
    ) -> Result<ForkPlan, ForkError> {
        let entries = verify_all(parent)?;
        let Some(Entry { body: Body::Started(begun), .. }) = entries.first() else {
            return Err(ForkError::Fault(Fault::NoStart));
        };
        if !(OLDEST_FORMAT..=FORMAT).contains(&begun.format) {
            return Err(ForkError::Fault(Fault::Format(begun.format)));
        }
        let agent = prepared.revision.manifest.name.to_string();
        let revision = prepared.revision.digest;
        if agent != begun.agent {
            return Err(ForkError::OtherAgent { revision, agent, of: begun.agent.clone() });
        }
        let mut record = shared(&begun.run, &entries, wish.at)?;
        if let Some(result) = &wish.set_result {
            set_result(&entries, &mut record, wish.at, result, &limits)?;
        }
        let fork = Fork {
            run: begun.run.clone(),
            at: wish.at,
            head: parent[wish.at as usize].hash,
            shared: record.len() as u64,
            made_at: system::now(),
            seen_as: begun.seen_as().to_owned(),
            set_result: wish.set_result.is_some(),
        };
        let started = Started {
            format: FORMAT,
            run: system::run_id(),
            revision,
            input: prepared.check_input(begun.input.as_str(), &limits)?,
            limits,
            tools: tools_of(begun, prepared, tools.granted()),
            engine: sandbox::fingerprint(),
            fork: Some(fork.clone()),
            ..(**begun).clone()
        };
        let is_as_before = revision == begun.revision && begun.engine == started.engine;
        let precision = if is_as_before { Precision::Exact } else { Precision::Behaviour };
        let entries = self.retell(prepared, started.clone(), record, precision).await?;
        let fuel = entries.last().map_or(0, |(last, _)| last.fuel);
        let entries = entries.into_iter().map(|(_, encoded)| encoded).collect();
        Ok(ForkPlan { started, fork, entries, fuel })
    }

    /// Makes a record again as that of `started`, all of it.
    async fn retell(
        &self,
        prepared: &Prepared,
        started: Started,
        record: Vec<Entry>,
        precision: Precision,
    ) -> Result<Vec<(Entry, Encoded)>, ForkError> {
        let transcript = Transcript::faithful();
        let run = started.fork.as_ref().map(|fork| fork.run.clone()).unwrap_or_default();
        let revision = started.revision;
        let journal = Journal::retold(started, record, transcript.clone(), precision);
        match self.execute(prepared, journal, None, Control::none()).await {
            // It always comes to this: a record without an end cannot be executed to one.
            Err(Fault::Journal(Halt::JournalOver)) => Ok(transcript.take().entries),
            Err(Fault::Journal(Halt::Diverged(divergence))) => {
                Err(ForkError::Diverged { run, revision, divergence })
            }
            Err(fault) => Err(ForkError::Fault(fault)),
            Ok(_) => Err(ForkError::Fault(Fault::Journal(Halt::JournalOver))),
        }
    }
}

/// The entries up to `at`, as the fork has them. Where a call has no answer, the fork
/// makes it itself; so what people were asked about it, they are asked anew.
fn shared(run: &str, entries: &[Entry], at: u64) -> Result<Vec<Entry>, ForkError> {
    let run = || run.to_owned();
    let last = entries.len() as u64 - 1;
    let Some(shared) = usize::try_from(at).ok().and_then(|at| entries.get(..=at)) else {
        return Err(ForkError::NoSuchEntry { run: run(), at, last });
    };
    if shared.last().is_some_and(|entry| matches!(entry.body, Body::Ended(_))) {
        return Err(ForkError::AtTheEnd { run: run(), at });
    }
    let answered: HashSet<u64> = shared.iter().filter_map(answered).collect();
    let is_settled = |entry: &&Entry| match &entry.body {
        Body::ApprovalAsked(asked) => answered.contains(&asked.call),
        Body::ApprovalAnswered(decided) => answered.contains(&decided.call),
        _ => true,
    };
    Ok(shared.iter().filter(is_settled).cloned().collect())
}

fn answered(entry: &Entry) -> Option<u64> {
    match &entry.body {
        Body::ToolAnswered(answered) => Some(answered.call),
        _ => None,
    }
}

/// Replaces the answer that the last of the shared entries holds. What the call cost,
/// and where its answer came from, went with that answer.
fn set_result(
    entries: &[Entry],
    shared: &mut [Entry],
    at: u64,
    result: &Json,
    limits: &Limits,
) -> Result<(), ForkError> {
    let bytes = result.as_str().len() as u64;
    if bytes > limits.answer_bytes {
        return Err(ForkError::ResultTooLarge { bytes, limit: limits.answer_bytes });
    }
    let last = shared.last_mut().filter(|last| last.seq == at);
    let Some(Entry { body: Body::ToolAnswered(answered), .. }) = last else {
        let answers = || entries.iter().filter(|entry| answered(entry).is_some());
        let before = answers().map(|entry| entry.seq).rfind(|seq| *seq < at);
        let after = answers().map(|entry| entry.seq).find(|seq| *seq > at);
        let nearest = before.into_iter().chain(after).collect();
        return Err(ForkError::NoAnswer { at, nearest });
    };
    let output = ToolOutput { content: result.clone(), sources: Vec::new() };
    *answered = ToolAnswered {
        call: answered.call,
        answer: Answer::Ok(output),
        usage: None,
        attempts: Vec::new(),
    };
    Ok(())
}

/// The tools of a fork. What the guest was shown in the beginning it is shown again,
/// whoever grants what now; but a call is made only of what is granted now, under the
/// rules of now. Another revision loses what it does not ask for, and gets what it is
/// granted beyond that.
fn tools_of(parent: &Started, prepared: &Prepared, now: Vec<GrantedTool>) -> Vec<GrantedTool> {
    let is_other = parent.revision != prepared.revision.digest;
    let asks = |name: &str| !is_other || prepared.revision.manifest.asks_for(name);
    let kept = parent.tools.iter().filter(|tool| asks(&tool.name)).cloned();
    let mut tools: Vec<GrantedTool> = kept
        .map(|tool| {
            let granted = now.iter().find(|granted| granted.name == tool.name);
            let deny = || vec![Rule { action: Action::Deny, when: None, timeout_ms: None }];
            let rules = granted.map_or_else(deny, |granted| granted.rules.clone());
            GrantedTool { rules, ..tool }
        })
        .collect();
    if is_other {
        let is_new = |tool: &GrantedTool| parent.tools.iter().all(|known| known.name != tool.name);
        tools.extend(now.into_iter().filter(is_new));
        tools.sort_by(|a, b| a.name.cmp(&b.name));
    }
    tools
}

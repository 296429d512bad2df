//! A run from start to outcome. The same code executes a live run, a replay
//! and a resumed run: they differ in the journal that they are given.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::control::{Control, Due, Interrupt};
use super::effects::decide::Precision;
use super::effects::recorder::Close;
use super::effects::tape::{Halt, Tape, UsedUp};
use super::effects::{Effects, Stop, end_from_outside};
use super::outcome::{self, Declared};
use super::start::Journal;
use crate::journal::{Body, Ended, FORMAT, Micros, OLDEST_FORMAT, Outcome, Place, Started, Used};
use crate::revision::{Digest, InvalidManifest, Revision, Schema};
use crate::sandbox::{End, Facts, Job, LoadError, Program, Sandbox};
use crate::tools::RunTools;

/// Executes runs, any number at a time.
pub struct Executor {
    sandbox: Sandbox<Effects>,
}

/// A revision that is ready to run: compiled, its schemas too.
pub struct Prepared {
    pub revision: Arc<Revision>,
    /// Whether the compiled code came from the cache.
    pub cached: bool,
    program: Program<Effects>,
    pub(super) input: Schema,
    pub(super) output: Option<Schema>,
    /// As the guest is told them.
    config: Arc<str>,
    manifest: Arc<str>,
}

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Manifest(#[from] InvalidManifest),
}

/// A run that has ended.
#[derive(Debug, Clone)]
pub struct Ran {
    pub ended: Ended,
    pub fuel: u64,
    /// Time of the last entry.
    pub at: Micros,
    /// Entries of the journal.
    pub entries: u64,
    /// Hash of the last entry: it stands for the whole journal.
    pub head: Digest,
}

/// How far an execution came.
pub enum Progress {
    Ended(Box<Ran>),
    Unloaded(Unloaded),
}

/// A run whose guest was unloaded while its calls are under way.
pub struct Unloaded(Box<Effects>);

impl Unloaded {
    /// Waits until the calls have answered and that is durable, or until the run
    /// should stop. Then the run can be executed again, from its journal.
    pub async fn settle(mut self) -> Result<(), Halt> {
        self.0.settle().await
    }
}

/// A run that has not ended, because its journal or this machine let it down, or
/// because it waits.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Journal(#[from] Halt),
    #[error("{0}")]
    Machine(String),
    #[error("the journal does not begin with the start of a run")]
    NoStart,
    #[error("the journal belongs to revision {recorded}, not to {given}")]
    OtherRevision { recorded: Digest, given: Digest },
    #[error("the journal has format {0}, this build reads formats {OLDEST_FORMAT} to {FORMAT}")]
    Format(u32),
}

impl Executor {
    /// An executor that keeps compiled code under `cache`, if that is given.
    pub fn new(cache: Option<&Path>) -> Result<Self, LoadError> {
        Ok(Self { sandbox: Sandbox::new(cache)? })
    }

    /// As [`Executor::new`], with room for so many guests that are loaded at once. More
    /// can be, which takes longer.
    pub fn with_slots(cache: Option<&Path>, slots: u32) -> Result<Self, LoadError> {
        Ok(Self { sandbox: Sandbox::with_slots(cache, slots)? })
    }

    /// An executor with a sandbox of the caller's making.
    pub fn with_sandbox(sandbox: Sandbox<Effects>) -> Self {
        Self { sandbox }
    }

    /// Makes a revision ready to run. Takes seconds if it has to be compiled.
    pub fn prepare(&self, revision: Arc<Revision>) -> Result<Prepared, PrepareError> {
        let manifest = &revision.manifest;
        let input = manifest.input_schema()?;
        let output = manifest.output_schema()?;
        let config = serde_json::to_string(&manifest.config).expect("a JSON object serialises");
        let told = serde_json::to_string(manifest).expect("a manifest serialises");
        let program = self.sandbox.load(&revision)?;
        Ok(Prepared {
            cached: program.cached,
            program,
            input,
            output,
            config: config.into(),
            manifest: told.into(),
            revision,
        })
    }

    /// Executes the run that `journal` holds the beginning of, to its end.
    ///
    /// What the journal holds is taken from it; what it does not hold happens
    /// live and is recorded by `recorder`. Without a recorder nothing happens
    /// that is not in the journal. `control` must have no end to its patience.
    pub async fn execute(
        &self,
        prepared: &Prepared,
        journal: Journal,
        tools: Option<RunTools>,
        control: Control,
    ) -> Result<Ran, Fault> {
        match self.advance(prepared, journal, tools, control).await? {
            Progress::Ended(ran) => Ok(*ran),
            Progress::Unloaded(unloaded) => {
                unloaded.settle().await?;
                Err(Fault::Journal(Halt::Left))
            }
        }
    }

    /// As [`Executor::execute`], but unloads a guest that waits for longer than
    /// `control` has patience.
    pub async fn advance(
        &self,
        prepared: &Prepared,
        journal: Journal,
        tools: Option<RunTools>,
        control: Control,
    ) -> Result<Progress, Fault> {
        let started = journal.started()?;
        let revision = &prepared.revision;
        if !(OLDEST_FORMAT..=FORMAT).contains(&started.format) {
            return Err(Fault::Format(started.format));
        }
        if started.revision != revision.digest {
            return Err(Fault::OtherRevision {
                recorded: started.revision,
                given: revision.digest,
            });
        }
        let interruption = journal.interruption();
        let limits = started.limits;
        let format = started.format;
        let job_input = started.input.as_str().to_owned();
        let seed = seed_of(&started.seed);
        let facts = prepared.facts(&started);
        let Journal { reel, withdrawn, .. } = journal;
        let is_closed = reel.recorder.is_none();
        let mut job_limits = limits;
        if reel.precision == Precision::Content {
            // Another engine may count otherwise: it must not end a run that did not end so.
            job_limits.fuel = MOST_FUEL;
        }
        let tape = Tape::new(reel);
        let end = RecordEnd { interruption, used_up: tape.used_up(), is_closed };
        let world = Effects::begin(started, facts, tape, tools, control.clone())?;
        let world = Box::new(world.withdraw(withdrawn));

        let due = Arc::new(OnceLock::new());
        let interrupt = interrupt_at(end, control, Arc::clone(&due));
        let job = Job { world, input: job_input, limits: job_limits, seed, format };
        let finished = self.sandbox.run(&prepared.program, job, interrupt).await;
        let mut effects = finished.world;
        if effects.is_unloaded() {
            return Ok(Progress::Unloaded(Unloaded(effects)));
        }

        let mut interrupted_at = None;
        let mut output_bytes = 0;
        let outcome = match finished.end {
            End::Returned(output) => {
                output_bytes = outcome::size(&output);
                let kind = revision.manifest.output.kind;
                let declared = Declared { kind, schema: prepared.output.as_ref() };
                outcome::check(output, effects.sources(), &declared, &limits)
            }
            End::Failed(error) => Outcome::Error(outcome::trim(error, &limits)),
            End::Interrupted(place) => {
                // Where the record ends and may not grow, that is all there is to say.
                effects.tape().peek()?;
                interrupted_at = Some(place);
                let recorded = interruption.map(|(_, interrupt)| interrupt);
                let interrupt = match due.get() {
                    Some(Due::Leave) => {
                        effects.tape().commit().await?;
                        return Err(Halt::Left.into());
                    }
                    Some(Due::End(interrupt)) => *interrupt,
                    None => recorded.unwrap_or(Interrupt::Cancelled),
                };
                Outcome::Error(end_from_outside(interrupt.code(), &limits))
            }
            End::Stopped => match effects.take_stop() {
                Some(Stop::End(error)) => Outcome::Error(error),
                Some(Stop::Halt(halt)) => return Err(halt.into()),
                None => unreachable!("the world stops a guest only with a reason"),
            },
            End::HostFault(message) => return Err(Fault::Machine(message)),
        };
        let counts = effects.counts();
        let used = Used {
            memory_bytes: finished.memory_bytes,
            table_elements: finished.table_elements,
            events: counts.events,
            tool_calls: counts.tool_calls,
            log_bytes: counts.log_bytes,
            output_bytes,
            journal_bytes: effects.tape().bytes(),
            model_tokens: counts.model_tokens,
            model_cost_micros: counts.model_cost_micros,
        };
        let ended = Ended { outcome, used, interrupted_at };
        Ok(Progress::Ended(Box::new(close(effects, ended, finished.fuel).await?)))
    }
}

/// More fuel than any run has.
const MOST_FUEL: u64 = 1 << 53;

/// Host calls between two looks at the clock: a call can take milliseconds, and
/// a guest that makes many hardly computes, so it seldom yields.
const LOOK_EVERY: u64 = 64;

/// What the record says of its own end.
struct RecordEnd {
    interruption: Option<(Place, Interrupt)>,
    used_up: UsedUp,
    /// Nothing may come after it.
    is_closed: bool,
}

/// Whether to interrupt the guest at a place: where the record says so, past
/// the end of a record that may not grow, or when it is due. What made it due
/// is left in `found`. A cancel or a deadline that came while a run was not
/// under way cannot end it before its record does.
fn interrupt_at(
    record: RecordEnd,
    control: Control,
    found: Arc<OnceLock<Due>>,
) -> impl Fn(Place) -> bool + Send + Sync + 'static {
    move |place| {
        let is_used_up = record.used_up.get();
        let was_here = record.interruption.is_some_and(|(recorded, _)| recorded == place);
        if was_here || (record.is_closed && is_used_up) {
            return true;
        }
        if !is_used_up || matches!(place, Place::HostCall(call) if call % LOOK_EVERY != 0) {
            return false;
        }
        control.due().is_some_and(|due| found.set(due).is_ok())
    }
}

/// Writes the last entry, or holds it against the record's.
async fn close(mut effects: Box<Effects>, ended: Ended, fuel: u64) -> Result<Ran, Fault> {
    let code = match &ended.outcome {
        Outcome::Done(_) => None,
        Outcome::Error(error) => Some(error.code),
    };
    let tape = effects.tape();
    let body = Body::Ended(Box::new(ended.clone()));
    tape.put(super::effects::decide::Request { fuel, body }, u64::MAX)?;
    let at = tape.now();
    tape.finish(Close { code, fuel, at }).await?;
    Ok(Ran { ended, fuel, at, entries: tape.entries(), head: tape.head() })
}

impl Prepared {
    fn facts(&self, started: &Started) -> Facts {
        Facts {
            run: started.seen_as().to_owned(),
            agent: started.agent.clone(),
            revision: started.revision.to_string(),
            config: Arc::clone(&self.config),
            manifest: Arc::clone(&self.manifest),
        }
    }
}

/// A seed that is not 32 bytes in hex cannot have been written; any other will
/// diverge, as it should.
fn seed_of(hex: &str) -> [u8; 32] {
    let mut seed = [0; 32];
    let _ = hex::decode_to_slice(hex, &mut seed);
    seed
}

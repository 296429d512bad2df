//! A run that has its turn: entered or taken over, executed, unloaded while it waits for
//! long, and brought back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::approvals::Stored;
use super::scheduler::Turn;
use super::view::RunView;
use super::{Service, ServiceError};
use crate::journal::{Outcome, Started};
use crate::revision::{Limits, Revision};
use crate::runtime::{Control, DurableRun, Fault, Halt, NewRun, Prepared, Progress, Ran};
use crate::storage::{RunRow, RunStatus, StorageError, Submission, Submitted};
use crate::tools::RunTools;

/// How long a run that has begun may go on before it is entered by itself: most enter
/// with the first of their entries that have to be durable.
const A_MOMENT: Duration = Duration::from_millis(1);

/// A run that has its turn before it is entered.
pub(super) struct New {
    pub plan: NewRun,
    pub prepared: Arc<Prepared>,
    pub tools: RunTools,
    pub submission: Option<Submission>,
}

/// A run that this process has, and what it takes to go on with it.
struct Held {
    run: DurableRun,
    /// As it was when this process got it.
    row: RunRow,
    started: Arc<Started>,
    control: Control,
    prepared: Arc<Prepared>,
    tools: RunTools,
}

/// A run that has ended, which is durable.
struct Finished {
    row: RunRow,
    started: Arc<Started>,
    ran: Ran,
}

impl Service {
    /// Enters a run, says what came of that, and executes it as far as it comes.
    pub(super) async fn begin(
        &self,
        mut turn: Turn,
        new: New,
        entered: oneshot::Sender<Result<Submitted, StorageError>>,
    ) {
        let New { plan, prepared, tools, submission } = new;
        let follower = Some(self.0.scheduler.hub().follow(&turn.run));
        let storage = &self.0.storage;
        let run = match submission {
            None => DurableRun::begin(storage, &plan, follower),
            // Whether it is new shows only when it is entered.
            Some(_) => match DurableRun::start(storage, &plan, submission, follower).await {
                Ok(Submitted::New(run)) => run,
                other => {
                    let _ = entered.send(other.map(|known| known.map(drop)));
                    return;
                }
            },
        };
        let (durable, durable_soon) = (run.durable(), run.durable());
        let soon = async {
            tokio::time::sleep(A_MOMENT).await;
            durable_soon.await
        };
        // Nobody has to wait for the answer. Before it nobody can know of the run.
        let answer = |entered: oneshot::Sender<_>, result: Result<(), StorageError>| {
            let _ = entered.send(result.map(Submitted::New));
        };
        let finished = match self.hold(&turn, run, row_of(&plan), prepared, Some(tools)) {
            Err(error) => {
                answer(entered, durable.await);
                Err(error)
            }
            Ok(held) => {
                let mut going = Box::pin(self.go_on(&mut turn, held));
                tokio::select! {
                    biased;
                    finished = &mut going => {
                        answer(entered, durable.await);
                        finished
                    }
                    result = soon => {
                        answer(entered, result);
                        going.await
                    }
                }
            }
        };
        self.end_turn(turn, finished).await;
    }

    /// Takes a run over that has waited for its turn, and executes it as far as it comes.
    pub(super) async fn take_turn(&self, mut turn: Turn) {
        let finished = match self.take_over(&turn).await {
            Ok(held) => self.go_on(&mut turn, held).await,
            Err(error) => Err(error),
        };
        self.end_turn(turn, finished).await;
    }

    async fn take_over(&self, turn: &Turn) -> Result<Held, ServiceError> {
        let row = self.0.storage.run(&turn.run)?;
        let prepared = self.0.shelf.get(row.revision).await?;
        let follower = self.0.scheduler.hub().follow(&turn.run);
        let run = DurableRun::resume(&self.0.storage, &turn.run, Some(follower)).await?;
        self.hold(turn, run, row, prepared, None)
    }

    /// From here on the run can be cancelled.
    fn hold(
        &self,
        turn: &Turn,
        run: DurableRun,
        row: RunRow,
        prepared: Arc<Prepared>,
        tools: Option<RunTools>,
    ) -> Result<Held, ServiceError> {
        let started = run.started()?;
        let (canceller, control) = run.control()?;
        turn.hold(canceller);
        let control = control.with_patience(self.0.limits.patience);
        let tools = tools.unwrap_or_else(|| self.tools(&prepared.revision, &started.limits));
        Ok(Held { run, row, started, control, prepared, tools })
    }

    async fn go_on(&self, turn: &mut Turn, held: Held) -> Result<Finished, ServiceError> {
        let Held { mut run, row, started, control, prepared, tools } = held;
        loop {
            let (tools, control) = (tools.clone(), control.clone());
            match run.advance(&self.0.executor, &prepared, tools, control).await? {
                Progress::Ended(ran) => return Ok(Finished { row, started, ran: *ran }),
                Progress::Unloaded(unloaded) => {
                    turn.unload();
                    run.settle(unloaded).await?;
                    if !turn.load().await {
                        run.leave().await;
                        return Err(Fault::from(Halt::Left).into());
                    }
                }
            }
        }
    }

    async fn end_turn(&self, mut turn: Turn, finished: Result<Finished, ServiceError>) {
        match finished {
            Ok(finished) => {
                let row = finished.row();
                let Finished { started, ran, .. } = &finished;
                let view = || RunView::of(&row, started, Some(&ran.ended));
                self.0.scheduler.hub().ended(&turn.run, view);
                // Its guest is gone: somebody else can have the place.
                turn.unload();
                turn.went_on();
                let end = match &ran.ended.outcome {
                    Outcome::Done(_) => "done".to_owned(),
                    Outcome::Error(error) => format!("error: {}", error.code),
                };
                tracing::info!(run = turn.run, agent = turn.agent, end, fuel = ran.fuel, "ended");
                let took = crate::runtime::now().saturating_sub(row.created_at);
                self.0.metrics.ended(started, ran, Duration::from_micros(took));
                self.0.watchers.run_ended(&self.0.storage, &turn.run).await;
            }
            Err(ServiceError::Fault(Fault::Journal(Halt::Parked(park)))) => {
                turn.went_on();
                turn.is_parked = true;
                tracing::debug!(run = turn.run, until = park.until, "parked");
            }
            Err(ServiceError::Fault(Fault::Journal(Halt::Left))) => {
                tracing::debug!(run = turn.run, "let go of");
            }
            // Somebody else was faster, or has ended it.
            Err(ServiceError::Storage(
                StorageError::LeaseHeld { .. } | StorageError::WrongStatus { .. },
            )) => {}
            Err(error) => {
                let again = turn.failed();
                let seconds = again.saturating_sub(crate::runtime::now()) / 1_000_000;
                tracing::error!(
                    run = turn.run,
                    agent = turn.agent,
                    "cannot go on, next attempt in {seconds} s: {error}"
                );
            }
        }
    }

    /// The tools that a run of `revision` gets.
    pub(super) fn tools(&self, revision: &Arc<Revision>, limits: &Limits) -> RunTools {
        let metrics = self.0.metrics.clone();
        self.0
            .catalogue
            .for_revision(revision, limits, Arc::clone(&self.0.policy))
            .with_approver(Arc::new(Stored(self.0.storage.clone())))
            .with_observer(Arc::new(move |tool, answer, took| metrics.called(tool, answer, took)))
    }
}

impl Finished {
    /// The run's row, as the database has it now.
    fn row(&self) -> RunRow {
        let Ran { ended, fuel, at, entries, head } = &self.ran;
        let (status, code) = match &ended.outcome {
            Outcome::Done(_) => (RunStatus::Done, None),
            Outcome::Error(error) => (RunStatus::Error, Some(error.code.to_string())),
        };
        RunRow {
            status,
            code,
            updated_at: self.row.updated_at.max(*at),
            entries: *entries,
            fuel: *fuel,
            head: *head,
            lease_until: 0,
            ..self.row.clone()
        }
    }
}

/// The row of a run that this process has just entered.
fn row_of(plan: &NewRun) -> RunRow {
    let NewRun { started, first, at, .. } = plan;
    RunRow {
        id: started.run.clone(),
        agent: started.agent.clone(),
        revision: started.revision,
        status: RunStatus::Running,
        code: None,
        created_at: *at,
        updated_at: *at,
        entries: 1,
        fuel: 0,
        head: first.hash,
        lease_until: 0,
        waits: None,
        wake_at: 0,
        cancel: false,
        parent: None,
    }
}

//! A run that has its turn: taken over, executed, unloaded while it waits for long,
//! and brought back.

use std::sync::Arc;
use std::time::Duration;

use super::approvals::Stored;
use super::scheduler::Turn;
use super::{Service, ServiceError};
use crate::journal::{Micros, Outcome, Started};
use crate::revision::{Limits, Revision};
use crate::runtime::{DurableRun, Fault, Halt, Progress, Ran};
use crate::storage::StorageError;
use crate::tools::RunTools;

impl Service {
    /// Executes a run as far as it comes.
    pub(super) async fn take_turn(&self, mut turn: Turn) {
        match self.execute(&mut turn).await {
            Ok((ran, started, created)) => {
                turn.went_on();
                let end = match &ran.ended.outcome {
                    Outcome::Done(_) => "done".to_owned(),
                    Outcome::Error(error) => format!("error: {}", error.code),
                };
                tracing::info!(run = turn.run, agent = turn.agent, end, fuel = ran.fuel, "ended");
                let took = crate::runtime::now().saturating_sub(created);
                self.0.metrics.ended(&started, &ran, Duration::from_micros(took));
                // Its guest is gone: somebody else can have the place.
                turn.unload();
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

    async fn execute(&self, turn: &mut Turn) -> Result<(Ran, Arc<Started>, Micros), ServiceError> {
        let row = self.0.storage.run(&turn.run)?;
        let prepared = self.0.shelf.get(row.revision).await?;
        let follower = self.0.scheduler.hub().follow(&turn.run);
        let mut run = DurableRun::resume(&self.0.storage, &turn.run, Some(follower)).await?;
        let started = run.started()?;
        let (canceller, control) = run.control()?;
        turn.hold(canceller);
        let control = control.with_patience(self.0.limits.patience);
        let tools = self.tools(&prepared.revision, &started.limits);
        loop {
            let (tools, control) = (tools.clone(), control.clone());
            match run.advance(&self.0.executor, &prepared, tools, control).await? {
                Progress::Ended(ran) => return Ok((ran, started, row.created_at)),
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

    /// The tools that a run of `revision` gets.
    pub(super) fn tools(&self, revision: &Arc<Revision>, limits: &Limits) -> RunTools {
        let metrics = self.0.metrics.clone();
        self.0
            .catalogue
            .for_revision(revision, limits, self.0.config.policy.clone())
            .with_approver(Arc::new(Stored(self.0.storage.clone())))
            .with_observer(Arc::new(move |tool, answer, took| metrics.called(tool, answer, took)))
    }
}

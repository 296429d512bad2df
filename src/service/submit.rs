//! Asking for runs: what is asked for is checked, and durable before it is said to be.

use tokio::sync::oneshot;

use super::execute::New;
use super::scheduler::Turn;
use super::{Service, ServiceError, Subscription, blocking};
use crate::json::Json;
use crate::revision::Limits;
use crate::runtime::{DurableRun, ForkWish, NewRun};
use crate::storage::{self, Submission};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub agent: String,
    /// The id of a revision or a beginning of it; `None` for the published one.
    pub revision: Option<String>,
    /// JSON.
    pub input: String,
    /// The name of the request, where it has one.
    pub submission: Option<Submission>,
}

/// A fork that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskFork {
    /// Id of the parent.
    pub run: String,
    /// Number of the last entry that is shared.
    pub at: u64,
    /// The id of a revision of the same agent or a beginning of it; `None` for the parent's.
    pub revision: Option<String>,
    /// Replaces the answer that entry `at` holds.
    pub set_result: Option<Json>,
    /// The name of the request, where it has one.
    pub submission: Option<Submission>,
}

/// The run that was asked for.
pub struct Submitted {
    pub run: String,
    /// Watches it from before it began.
    pub watching: Subscription,
    /// `false` if the same request had made it before.
    pub is_new: bool,
}

impl Service {
    /// Enters a run. It is durable when this returns, and is executed, or waits for its turn.
    pub async fn submit(&self, ask: Ask) -> Result<Submitted, ServiceError> {
        if let Some(known) = self.known(ask.submission.as_ref())? {
            return Ok(known);
        }
        let digest = match &ask.revision {
            Some(prefix) => self.digest(&ask.agent, prefix)?,
            None => self.0.registry.published(&ask.agent)?,
        };
        let prepared = self.0.shelf.get(digest).await?;
        let limits = Limits::effective(&prepared.revision.manifest.limits, &self.0.config.limits);
        let tools = self.tools(&prepared.revision, &limits);
        let plan = NewRun::plan(&prepared, &ask.input, limits, &tools)?;
        let watching = self.subscribe(&plan.started.run);
        let submission = ask.submission.clone();
        let mut arrival = self.arrive(&plan.started.run, &plan.started.agent);
        let submitted = match arrival.turn().await {
            Some(turn) => self.enter(turn, New { plan, prepared, tools, submission }).await?,
            None => {
                let submitted = DurableRun::submit(&self.0.storage, &plan, submission).await?;
                if submitted == storage::Submitted::New(()) {
                    arrival.entered();
                }
                submitted
            }
        };
        self.submitted(submitted, watching, ask.submission.as_ref())
    }

    /// Enters a run that has its turn. That and executing it are a task of its own, which
    /// a client that goes away does not take with it.
    async fn enter(&self, turn: Turn, new: New) -> Result<storage::Submitted, ServiceError> {
        let (entered, submitted) = oneshot::channel();
        let service = self.clone();
        tokio::spawn(async move { service.begin(turn, new, entered).await });
        let lost = |_| ServiceError::Machine("entering the run was given up".to_owned());
        Ok(submitted.await.map_err(lost)??)
    }

    /// Enters a run that shares the beginning of another one and goes on by itself. What
    /// is shared is executed first, from the parent's record alone.
    pub async fn fork(&self, ask: AskFork) -> Result<Submitted, ServiceError> {
        if let Some(known) = self.known(ask.submission.as_ref())? {
            return Ok(known);
        }
        let parent = self.0.storage.run(&ask.run)?;
        let digest = match &ask.revision {
            Some(prefix) => self.digest(&parent.agent, prefix)?,
            None => parent.revision,
        };
        let prepared = self.0.shelf.get(digest).await?;
        let _permit = self.0.heavy.acquire().await;
        let (storage, id) = (self.0.storage.clone(), parent.id);
        let journal = blocking(move || Ok(storage.entries(&id)?)).await?;
        let limits = Limits::effective(&prepared.revision.manifest.limits, &self.0.config.limits);
        let tools = self.tools(&prepared.revision, &limits);
        let wish = ForkWish { at: ask.at, set_result: ask.set_result };
        let plan = self.0.executor.plan_fork(&prepared, &journal, wish, limits, &tools).await?;
        let watching = self.subscribe(&plan.started.run);
        let submission = ask.submission.clone();
        let submitted = DurableRun::submit_fork(&self.0.storage, &plan, submission).await?;
        if submitted == storage::Submitted::New(()) {
            self.0.scheduler.add(&plan.started.run, &plan.started.agent);
        }
        self.submitted(submitted, watching, ask.submission.as_ref())
    }

    /// The run that the same request has made before; refuses a new one where no more may
    /// wait.
    fn known(&self, submission: Option<&Submission>) -> Result<Option<Submitted>, ServiceError> {
        if let Some(submission) = submission
            && let Some(known) = self.0.storage.submitted(submission)?
        {
            return self.known_run(known, submission).map(Some);
        }
        let limit = self.0.limits.queue;
        match self.counts().waiting >= limit {
            true => Err(ServiceError::Full { limit }),
            false => Ok(None),
        }
    }

    /// What came of a request whose run, if it is new, is watched.
    fn submitted(
        &self,
        submitted: storage::Submitted,
        watching: Subscription,
        submission: Option<&Submission>,
    ) -> Result<Submitted, ServiceError> {
        match submitted {
            storage::Submitted::New(()) => {
                Ok(Submitted { run: watching.run().to_owned(), watching, is_new: true })
            }
            known => self.known_run(known, submission.expect("only a name can be known")),
        }
    }

    fn known_run(
        &self,
        known: storage::Submitted,
        by: &Submission,
    ) -> Result<Submitted, ServiceError> {
        match known {
            storage::Submitted::Known(run) => {
                let watching = self.subscribe(&run);
                Ok(Submitted { run, watching, is_new: false })
            }
            storage::Submitted::New(()) | storage::Submitted::Other => {
                Err(ServiceError::OtherRequest { name: by.name.clone() })
            }
        }
    }

    /// Asks for a run to be cancelled. One that has ended stays as it is.
    pub async fn cancel(&self, run: &str) -> Result<(), ServiceError> {
        self.0.storage.cancel_run(run).await?;
        self.0.scheduler.cancel(run);
        self.0.scheduler.look();
        Ok(())
    }
}

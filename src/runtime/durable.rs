//! Runs that are kept: recorded in the home's database, under a lease.
//!
//! A run in progress belongs to one process. Its lease is renewed while it
//! runs; whoever lets it lapse can no longer write.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::AbortHandle;

use super::control::{Canceller, Control};
use super::effects::recorder::{Close, RecordError, Recorder};
use super::effects::system;
use super::effects::tape::{Halt, Park};
use super::executor::{Executor, Fault, Prepared, Progress, Ran, Unloaded};
use super::fork::ForkPlan;
use super::start::{Journal, NewRun};
use crate::journal::{Encoded, Entry, Micros, Packer, Started, Stored};
use crate::storage::{
    self, Appender, Ending, Follower, Storage, StorageError, Submission, Submitted,
};
use crate::tools::RunTools;

/// How long a run stays with a process that has stopped to renew it. Long
/// enough for a machine under load, short enough for people to wait.
const LEASE: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// Bytes that may wait for the database before the guest has to wait too.
const MAX_PENDING: u64 = 4 << 20;

/// A run that this process holds, and what is durable of it.
pub struct DurableRun {
    appender: Arc<Appender>,
    recorded: Vec<Encoded>,
    /// The run as it was planned, if nothing of it has to be read.
    new: Option<NewRun>,
    /// Nobody has executed it yet.
    is_untouched: bool,
    heartbeat: AbortHandle,
    /// Cancels the run when somebody wishes that in the database.
    canceller: Arc<OnceLock<Canceller>>,
}

impl DurableRun {
    /// Enters the run in the list of runs. From here on it survives the process.
    pub async fn create(
        storage: &Storage,
        run: &NewRun,
        follower: Option<Follower>,
    ) -> Result<Self, StorageError> {
        let run = Self::begin(storage, run, follower);
        run.appender.commit().await?;
        Ok(run)
    }

    /// As [`DurableRun::create`], but does not wait: the run is there, and shown to its
    /// follower, when the first of its entries have to be durable. Until then nothing of
    /// it has left the sandbox but what only reads; if it cannot be entered, it fails
    /// there.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn begin(storage: &Storage, run: &NewRun, follower: Option<Follower>) -> Self {
        let appender = storage.begin_run(row(run, lease_from(run.at), false), None, follower);
        appender.push(Packer::default().pack(run.first.clone()), 0, run.at);
        Self::hold_new(appender, run)
    }

    /// As [`DurableRun::create`], for a fork. The follower gets the entries that it
    /// shares with its parent too.
    pub async fn create_fork(
        storage: &Storage,
        plan: &ForkPlan,
        follower: Option<Follower>,
    ) -> Result<Self, StorageError> {
        let row = fork_row(plan, lease_from(system::now()), false);
        let (parent, entries) = (plan.parent(), packed(&plan.entries));
        let appender = storage.create_fork(row, parent, entries, plan.fuel, follower).await?;
        Ok(Self::hold(appender, plan.entries.clone()))
    }

    /// As [`DurableRun::create`], unless the same request has entered a run before.
    pub async fn start(
        storage: &Storage,
        run: &NewRun,
        submission: Option<Submission>,
        follower: Option<Follower>,
    ) -> Result<Submitted<Self>, StorageError> {
        let row = row(run, lease_from(run.at), false);
        let first = Packer::default().pack(run.first.clone());
        let started = storage.start_run(row, first, submission, follower).await?;
        Ok(started.map(|appender| Self::hold_new(appender, run)))
    }

    /// Enters a run that waits until somebody resumes it, unless the same request has
    /// entered one before.
    pub async fn submit(
        storage: &Storage,
        run: &NewRun,
        submission: Option<Submission>,
    ) -> Result<Submitted, StorageError> {
        let first = Packer::default().pack(run.first.clone());
        storage.submit_run(row(run, 0, true), first, submission).await
    }

    /// As [`DurableRun::submit`], for a fork: whoever resumes it first goes on from the
    /// entries that it shares.
    pub async fn submit_fork(
        storage: &Storage,
        plan: &ForkPlan,
        submission: Option<Submission>,
    ) -> Result<Submitted, StorageError> {
        let row = fork_row(plan, 0, true);
        let (parent, entries) = (plan.parent(), packed(&plan.entries));
        storage.submit_fork(row, parent, entries, plan.fuel, submission).await
    }

    /// Takes over a run that has not ended and that nobody holds. The follower
    /// gets what is new.
    pub async fn resume(
        storage: &Storage,
        run: &str,
        follower: Option<Follower>,
    ) -> Result<Self, StorageError> {
        let now = system::now();
        let appender = storage.take_over(run, now, lease_from(now), follower).await?;
        // Read only now, when nobody else can write any more.
        let recorded = storage.entries(run)?;
        Ok(Self::hold(appender, recorded))
    }

    fn hold(appender: Appender, recorded: Vec<Encoded>) -> Self {
        let appender = Arc::new(appender);
        let canceller = Arc::default();
        let heartbeat = tokio::spawn(renew(Arc::clone(&appender), Arc::clone(&canceller)));
        let (is_untouched, heartbeat) = (appender.is_untouched(), heartbeat.abort_handle());
        Self { appender, recorded, new: None, is_untouched, heartbeat, canceller }
    }

    fn hold_new(appender: Appender, run: &NewRun) -> Self {
        let mut held = Self::hold(appender, vec![run.first.clone()]);
        held.new = Some(run.clone());
        held
    }

    /// Id of the run.
    pub fn id(&self) -> &str {
        self.appender.run()
    }

    /// What was durable when this process began to hold the run.
    pub fn recorded(&self) -> &[Encoded] {
        &self.recorded
    }

    /// Returns when all that is recorded is durable, the run itself to begin with.
    pub fn durable(&self) -> impl Future<Output = Result<(), StorageError>> + use<> {
        let appender = Arc::clone(&self.appender);
        async move { appender.commit().await }
    }

    /// How the run began.
    pub fn started(&self) -> Result<Arc<Started>, Fault> {
        if let Some(run) = &self.new {
            return Ok(Arc::clone(&run.started));
        }
        Journal::closed(self.recorded[..1.min(self.recorded.len())].to_vec()).started()
    }

    /// What interrupts the run. Its deadline counts from the first entry that the guest
    /// has made; time in which the run waited for its turn, or for a machine to come
    /// back, does not count.
    pub fn control(&self) -> Result<(Canceller, Control), Fault> {
        let started = self.started()?;
        let limits = started.limits;
        let own = usize::try_from(started.shared()).unwrap_or(usize::MAX);
        let now = system::now();
        let began = |entry: &Encoded| serde_json::from_slice::<Entry>(&entry.bytes).ok();
        let began = self.recorded.get(own).and_then(began).map_or(now, |entry| entry.at);
        let (canceller, control) = Control::live(began, limits.deadline_ms);
        if let Some(since) = self.appender.idle_since() {
            control.extend(now.saturating_sub(since.max(began)));
        }
        if self.appender.is_to_be_cancelled() {
            canceller.cancel();
        }
        // The first control is the one that the run is executed with.
        let _ = self.canceller.set(canceller.clone());
        Ok((canceller, control))
    }

    /// Executes the run to its end, which is durable when this returns.
    pub async fn execute(
        mut self,
        executor: &Executor,
        prepared: &Prepared,
        tools: RunTools,
        control: Control,
    ) -> Result<Ran, Fault> {
        loop {
            match self.advance(executor, prepared, tools.clone(), control.clone()).await? {
                Progress::Ended(ran) => return Ok(*ran),
                Progress::Unloaded(unloaded) => self.settle(unloaded).await?,
            }
        }
    }

    /// Executes the run until it ends, is unloaded, or is given up. Of the first two it
    /// stays this process's; of the last the error tells.
    pub async fn advance(
        &mut self,
        executor: &Executor,
        prepared: &Prepared,
        tools: RunTools,
        control: Control,
    ) -> Result<Progress, Fault> {
        let recorder = Box::new(Database::of(&self.appender));
        let recorded = std::mem::take(&mut self.recorded);
        let is_untouched = std::mem::take(&mut self.is_untouched);
        let journal = match self.new.take() {
            Some(run) => Journal::new(&run, recorder),
            None if is_untouched => Journal::untouched(recorded, recorder),
            None => Journal::open(recorded, recorder),
        };
        match executor.advance(prepared, journal, Some(tools), control).await {
            Ok(progress) => Ok(progress),
            Err(fault) => Err(self.give_up(fault).await),
        }
    }

    /// Waits for what a run needs that was unloaded. Then it can be executed again.
    pub async fn settle(&mut self, unloaded: Unloaded) -> Result<(), Fault> {
        if let Err(halt) = unloaded.settle().await {
            return Err(self.give_up(halt.into()).await);
        }
        match self.appender.storage().entries(self.appender.run()) {
            Ok(recorded) => {
                self.recorded = recorded;
                Ok(())
            }
            Err(error) => Err(self.give_up(Halt::from(RecordError::from(error)).into()).await),
        }
    }

    /// Gives the run up as it stands: others may go on with it at once.
    pub async fn leave(self) {
        let _ = self.give_up(Halt::Left.into()).await;
    }

    /// Nobody has to wait for a lease that is of no more use.
    async fn give_up(&self, fault: Fault) -> Fault {
        self.heartbeat.abort();
        let _ = match &fault {
            Fault::Journal(Halt::Parked(Park { until, calls })) => {
                self.appender.park(*until, calls.clone()).await
            }
            _ => self.appender.renew_lease(0).await,
        };
        fault
    }
}

impl Drop for DurableRun {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

fn row(run: &NewRun, lease_until: Micros, pending: bool) -> storage::NewRun {
    storage::NewRun {
        id: run.started.run.clone(),
        agent: run.started.agent.clone(),
        revision: run.started.revision,
        created_at: run.at,
        lease_until,
        pending,
    }
}

fn fork_row(plan: &ForkPlan, lease_until: Micros, pending: bool) -> storage::NewRun {
    storage::NewRun {
        id: plan.started.run.clone(),
        agent: plan.started.agent.clone(),
        revision: plan.started.revision,
        created_at: plan.made_at(),
        lease_until,
        pending,
    }
}

fn packed(entries: &[Encoded]) -> Vec<Stored> {
    let mut packer = Packer::default();
    entries.iter().map(|entry| packer.pack(entry.clone())).collect()
}

fn lease_from(now: Micros) -> Micros {
    now.saturating_add(LEASE.as_micros() as Micros)
}

/// Renews the lease until it is lost or the run is over.
async fn renew(appender: Arc<Appender>, canceller: Arc<OnceLock<Canceller>>) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        if appender.renew_lease(lease_from(system::now())).await.is_err() {
            return;
        }
        if let (true, Some(canceller)) = (appender.is_to_be_cancelled(), canceller.get()) {
            canceller.cancel();
        }
    }
}

/// Packs entries in the run's own thread and hands them to the database's.
struct Database {
    appender: Arc<Appender>,
    packer: Packer,
}

impl Database {
    fn of(appender: &Arc<Appender>) -> Self {
        Self { appender: Arc::clone(appender), packer: Packer::default() }
    }
}

impl Recorder for Database {
    fn follow(&mut self, recorded: &[Encoded]) {
        recorded.iter().for_each(|entry| self.packer.follow(entry));
    }

    fn push(&mut self, entry: Encoded, fuel: u64, at: Micros) {
        self.appender.push(self.packer.pack(entry), fuel, at);
    }

    fn is_behind(&self) -> bool {
        self.appender.pending_bytes() > MAX_PENDING
    }

    fn commit(&mut self) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async { Ok(self.appender.commit().await?) })
    }

    fn finish(&mut self, close: Close) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async move {
            let ending = match &close.code {
                None => Ending::Done,
                Some(code) => Ending::Error(code.as_str()),
            };
            Ok(self.appender.finish(ending, close.fuel, close.at).await?)
        })
    }
}

impl From<StorageError> for RecordError {
    fn from(error: StorageError) -> Self {
        Self(error.to_string())
    }
}

//! Runs that are kept: recorded in the home's database, under a lease.
//!
//! A run in progress belongs to one process. Its lease is renewed while it
//! runs; whoever lets it lapse can no longer write.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::AbortHandle;

use super::control::Control;
use super::effects::recorder::{Close, RecordError, Recorder};
use super::effects::system;
use super::executor::{Executor, Fault, Prepared, Ran};
use super::start::{Journal, NewRun};
use crate::journal::{Encoded, Micros};
use crate::storage::{self, Appender, Ending, Follower, Storage, StorageError};
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
    heartbeat: AbortHandle,
}

impl DurableRun {
    /// Enters the run in the list of runs. From here on it survives the process.
    pub async fn create(
        storage: &Storage,
        run: &NewRun,
        follower: Option<Follower>,
    ) -> Result<Self, StorageError> {
        let row = storage::NewRun {
            id: run.started.run.clone(),
            agent: run.started.agent.clone(),
            revision: run.started.revision,
            created_at: run.at,
            lease_until: lease_from(run.at),
            pending: false,
        };
        let appender = storage.create_run(row, run.first.clone(), follower).await?;
        Ok(Self::hold(appender, vec![run.first.clone()]))
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
        let heartbeat = tokio::spawn(renew(Arc::clone(&appender))).abort_handle();
        Self { appender, recorded, heartbeat }
    }

    /// What was durable when this process began to hold the run.
    pub fn recorded(&self) -> &[Encoded] {
        &self.recorded
    }

    /// Executes the run to its end, which is durable when this returns.
    pub async fn execute(
        self,
        executor: &Executor,
        prepared: &Prepared,
        tools: RunTools,
        control: Control,
    ) -> Result<Ran, Fault> {
        let recorder = Box::new(Database(Arc::clone(&self.appender)));
        let journal = Journal::open(self.recorded.clone(), recorder);
        let result = executor.execute(prepared, journal, Some(tools), control).await;
        if result.is_err() {
            // Nobody has to wait for a lease that is of no more use.
            let _ = self.appender.renew_lease(0).await;
        }
        result
    }
}

impl Drop for DurableRun {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

fn lease_from(now: Micros) -> Micros {
    now.saturating_add(LEASE.as_micros() as Micros)
}

/// Renews the lease until it is lost or the run is over.
async fn renew(appender: Arc<Appender>) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        if appender.renew_lease(lease_from(system::now())).await.is_err() {
            return;
        }
    }
}

struct Database(Arc<Appender>);

impl Recorder for Database {
    fn push(&mut self, entry: Encoded, fuel: u64, at: Micros) {
        self.0.push(entry, fuel, at);
    }

    fn is_behind(&self) -> bool {
        self.0.pending_bytes() > MAX_PENDING
    }

    fn commit(&mut self) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async { Ok(self.0.commit().await?) })
    }

    fn finish(&mut self, close: Close) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async move {
            let ending = match &close.code {
                None => Ending::Done,
                Some(code) => Ending::Error(code.as_str()),
            };
            Ok(self.0.finish(ending, close.fuel, close.at).await?)
        })
    }
}

impl From<StorageError> for RecordError {
    fn from(error: StorageError) -> Self {
        Self(error.to_string())
    }
}

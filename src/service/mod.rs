//! A machine as a run service: runs that are asked for, wait for their turn, are
//! executed many at once, and survive the process.
//!
//! It owns the queue, the runs that this process executes, what is said about runs and
//! agents, and the keys of clients. How requests come in is `server`'s business; what a
//! run is and how it is recorded, `runtime`'s.

pub mod agents;
mod approvals;
pub mod events;
mod execute;
mod hub;
pub mod keys;
pub mod metrics;
mod proof;
mod publish;
mod queue;
pub mod read;
mod scheduler;
mod shelf;
mod submit;
pub mod view;
mod watchers;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use agents::{AgentView, DiffView, RevisionView};
pub use approvals::{DecisionError, Pending, pending, stored};
pub use hub::Subscription;
pub use proof::{Proof, ProofView, Tail, check_row};
pub use publish::{Publish, store};
pub use queue::{Counts, Places};
pub use submit::{Ask, AskFork, Submitted};

use crate::config::{Config, ConfigError};
use crate::registry::{Home, Registry, RegistryError};
use crate::revision::RevisionError;
use crate::runtime::{Executor, Fault, ForkError, InputError, PrepareError};
use crate::sandbox::LoadError;
use crate::storage::{Storage, StorageError};
use crate::telemetry::TelemetryError;
use crate::tools::policy::Policy;
use crate::tools::{Catalogue, GrantError};
use metrics::Metrics;
use scheduler::Scheduler;
use shelf::Shelf;
use watchers::Watchers;

/// Compilations and replays that clients ask for and that run at once. Each takes a
/// whole core; the runs want some too.
const HEAVY_AT_ONCE: usize = 2;

/// What a service is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceLimits {
    pub places: Places,
    /// Runs that may wait for their turn; more are refused.
    pub queue: usize,
    /// How long a guest stays loaded while it waits.
    pub patience: Duration,
}

/// A run service on one home. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    storage: Storage,
    registry: Registry,
    config: Config,
    /// The configuration's: each run has it.
    policy: Arc<Policy>,
    catalogue: Catalogue,
    executor: Arc<Executor>,
    shelf: Shelf,
    scheduler: Scheduler,
    heavy: Semaphore,
    metrics: Metrics,
    watchers: Watchers,
    limits: ServiceLimits,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Revision(#[from] RevisionError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Fork(#[from] ForkError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Read(#[from] read::ReadError),
    #[error(transparent)]
    Decision(#[from] DecisionError),
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Webhooks(#[from] webhooks::WebhookError),
    /// The queue is full.
    #[error("{limit} runs wait for their turn, which is all that may")]
    Full { limit: usize },
    /// The name of the request belongs to another one.
    #[error("the idempotency key `{name}` was used for another request")]
    OtherRequest { name: String },
    #[error("the agent's id is `{agent}`, but the revision is one of `{found}`")]
    OtherAgent { agent: String, found: String },
    /// It would be published, and asks for more than the published one.
    #[error("`{agent}` asks for more than its published revision: {}", asks.join(", "))]
    Widens { agent: String, asks: Vec<String> },
    #[error("`{text}` is no name of an agent: {cause}")]
    BadName { text: String, cause: String },
    /// The machine cannot do it at all.
    #[error("{0}")]
    Machine(String),
}

impl Service {
    /// Opens a service on a home: it starts the tools that the configuration grants, and
    /// finds the secrets that its webhooks and traces need. No run is executed before [`Service::start`].
    pub async fn open(
        home: &Home,
        storage: Storage,
        registry: Registry,
        config: Config,
        limits: ServiceLimits,
    ) -> Result<Self, ServiceError> {
        let watchers = Watchers::open(&config)?;
        let slots = limits.places.loaded.saturating_add(HEAVY_AT_ONCE);
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let executor = Arc::new(Executor::with_slots(Some(&home.cache()), slots)?);
        let catalogue = Catalogue::open(&config.grants, config.vault(), &|_| true).await?;
        let shelf = Shelf::new(registry.clone(), Arc::clone(&executor));
        let scheduler = Scheduler::new(limits.places);
        let heavy = Semaphore::new(HEAVY_AT_ONCE);
        let metrics = Metrics::default();
        let policy = Arc::new(config.policy.clone());
        Ok(Self(Arc::new(Inner {
            storage,
            registry,
            config,
            policy,
            catalogue,
            executor,
            shelf,
            scheduler,
            heavy,
            metrics,
            watchers,
            limits,
        })))
    }

    pub fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// What can be counted, in the text format of Prometheus.
    pub fn metrics(&self) -> Result<String, ServiceError> {
        let waiting = self.0.storage.waiting_runs()?;
        let commits = self.0.storage.commits();
        Ok(self.0.metrics.text(&self.0.scheduler.snapshot(), waiting, commits))
    }
}

/// Does what takes long or waits for a disk where it holds up nobody else.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, ServiceError> {
    let lost = |_| ServiceError::Machine("the work was given up half-way".to_owned());
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

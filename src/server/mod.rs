//! The HTTP API of a run service. The only place that knows that HTTP is served.
//!
//! It owns what a request looks like: routes, keys, limits of bodies and rates, the
//! shape of errors. What a request does is `service`'s work. HTTP/1.1 without TLS: a
//! proxy in front brings the rest.

mod agents;
mod approvals;
mod auth;
mod connections;
mod events;
mod extract;
mod operations;
mod paging;
mod problem;
mod revisions;
mod routes;
mod runs;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub use approvals::PendingCall;
pub use problem::Problem;
pub use routes::{VERSION, openapi};

use crate::config::ServerConfig;
use crate::service::Service;
use crate::storage::StorageError;
use auth::Gate;

/// Uploads that are taken at once: each is in memory until it is stored.
const UPLOADS: usize = 4;

/// What every handler has.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

struct Parts {
    service: Service,
    config: ServerConfig,
    gate: Gate,
    uploads: Semaphore,
    /// True once the server stops: streams end, and it is not ready any more.
    stopping: watch::Receiver<bool>,
}

/// Serves until `shutdown` resolves; then lets go of runs and closes connections.
///
/// The service must have been opened, and not started. Only loopback addresses are
/// served without keys; whoever makes the listener checks that with [`may_listen`].
pub async fn serve(
    listener: TcpListener,
    service: Service,
    config: ServerConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), crate::service::ServiceError> {
    let (stop, stopping) = watch::channel(false);
    let gate = Gate::new(service.storage().clone(), &config);
    let app = App(Arc::new(Parts {
        service: service.clone(),
        gate,
        uploads: Semaphore::new(UPLOADS),
        stopping: stopping.clone(),
        config: config.clone(),
    }));
    let tasks = service.start().await?;
    let router = routes::router(app);
    let connections = connections::Connections {
        limit: config.connections,
        head_timeout: Duration::from_millis(config.request_timeout_ms),
        write_timeout: Duration::from_millis(config.write_timeout_ms),
        stopping,
    };
    let serving = tokio::spawn(connections.serve(listener, router));
    shutdown.await;
    stop.send_replace(true);
    service.stop(config.grace()).await;
    tasks.iter().for_each(|task| task.abort());
    // Requests under way have as long as runs had.
    let _ = tokio::time::timeout(config.grace(), serving).await;
    Ok(())
}

/// Whether the server may listen there: without keys only where no other machine comes.
pub fn may_listen(address: &SocketAddr, has_keys: bool) -> bool {
    has_keys || address.ip().is_loopback()
}

impl App {
    fn service(&self) -> &Service {
        &self.0.service
    }

    fn is_stopping(&self) -> bool {
        *self.0.stopping.borrow()
    }

    /// Returns when the server stops.
    async fn stopped(&self) {
        let mut stopping = self.0.stopping.clone();
        // Without a server there is nothing to wait for any more.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        crate::service::ServiceError::from(error).into()
    }
}

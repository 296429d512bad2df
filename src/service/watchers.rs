//! Who is told of runs without asking: webhooks, and a collector of traces.
//!
//! Both only read what is durable. A run waits for neither, and neither for a client.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::webhooks::{Pace, Webhooks};
use super::{ServiceError, blocking, read};
use crate::config::{Config, Hook};
use crate::storage::Storage;
use crate::telemetry::Telemetry;

/// A stop waits so long for messages that are under way; a little longer than they are
/// given themselves.
const LAST_WAIT: Duration = Duration::from_secs(6);

pub(super) struct Watchers {
    hooks: Vec<Hook>,
    telemetry: Telemetry,
    stop: watch::Sender<bool>,
    sending: Mutex<Option<JoinHandle<()>>>,
}

impl Watchers {
    /// Finds the secrets that telling takes, and starts to export traces.
    pub fn open(config: &Config) -> Result<Self, ServiceError> {
        let vault = config.vault();
        let hooks = config.hooks(&vault)?;
        let telemetry = Telemetry::open(config.telemetry(&vault)?)?;
        let (stop, _) = watch::channel(false);
        Ok(Self { hooks, telemetry, stop, sending: Mutex::default() })
    }

    /// Makes the webhooks known, so that no run ends unnoticed, and starts to send.
    pub async fn start(&self, storage: &Storage) -> Result<(), ServiceError> {
        let webhooks = Webhooks::open(storage.clone(), self.hooks.clone(), Pace::default()).await?;
        let mut stopping = self.stop.subscribe();
        let stopped = async move {
            // Without the service there is nothing to wait for either.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        let sending = tokio::spawn(webhooks.send(stopped));
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = Some(sending);
        Ok(())
    }

    /// Exports the trace of a run that has ended. Webhooks need not be told: the database
    /// has noted it.
    pub async fn run_ended(&self, storage: &Storage, run: &str) {
        if !self.telemetry.is_on() {
            return;
        }
        let (storage, telemetry, id) = (storage.clone(), self.telemetry.clone(), run.to_owned());
        let export = blocking(move || {
            telemetry.run_ended(&read::verified(&storage.entries(&id)?)?);
            Ok(())
        });
        if let Err(error) = export.await {
            tracing::warn!(run, "its trace is not exported: {error}");
        }
    }

    /// Lets what is under way come to an end, within some seconds.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sent = async {
            if let Some(sending) = sending {
                // What was not sent is sent by the next server.
                let _ = tokio::time::timeout(LAST_WAIT, sending).await;
            }
        };
        tokio::join!(sent, self.telemetry.shutdown());
    }
}

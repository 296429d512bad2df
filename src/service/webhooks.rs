//! Tells others that runs have ended: signed messages by the Standard Webhooks, sent
//! until they arrive.
//!
//! The database adds a message in the transaction that ends a run (`storage::deliveries`);
//! here they are taken, sent and settled. A message is sent at least once: it keeps its
//! `webhook-id`, by which a receiver tells that it has it already. Several processes
//! may send for one home; each message is with one of them at a time.
//!
//! What a receiver answers is judged by its status alone. It can neither redirect a
//! message nor occupy the sender for longer than [`Pace::timeout`].

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Response, StatusCode, redirect::Policy};
use serde::{Deserialize, Serialize};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use utoipa::ToSchema;

use super::view::RunView;
use super::{ServiceError, blocking, read};
use crate::config::{Hook, Key, RunEvent};
use crate::journal::{Micros, rfc3339};
use crate::revision::Digest;
use crate::runtime::now;
use crate::storage::{Attempted, Claimed, Storage, StorageError, WebhookRow};

/// Messages of one webhook that are under way at a time. Each holds a result in memory, and
/// a receiver that is slow must not be buried.
const AT_ONCE: usize = 4;

/// What a sender that has died had in its hands is due again after so long. It must be
/// longer than an attempt takes.
const CLAIM: Duration = Duration::from_secs(120);

/// The waits after failed attempts, as the Standard Webhooks recommend: ten attempts in
/// three days. Each is lengthened by up to a tenth, so that what failed together is not
/// tried again together.
const WAITS: [Duration; 9] = {
    const fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }
    [
        Duration::from_secs(5),
        minutes(5),
        minutes(30),
        minutes(2 * 60),
        minutes(5 * 60),
        minutes(10 * 60),
        minutes(14 * 60),
        minutes(20 * 60),
        minutes(24 * 60),
    ]
};

/// The longest wait that a receiver can ask for with `Retry-After`.
const MAX_ASKED_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// What has been due for so long, and whose webhook no server knows any more, is given up. A
/// table that was taken out of the configuration by mistake can be put back until then.
const GIVE_UP_AFTER: Duration = Duration::from_secs(4 * 24 * 3_600);

/// Settled messages stay visible for so long.
const FORGET_AFTER: Duration = Duration::from_secs(30 * 24 * 3_600);

const TIDY_EVERY: Duration = Duration::from_secs(3_600);

/// What is under way when the service stops has so long to come to an end.
const GRACE: Duration = Duration::from_secs(5);

/// Bytes of a refusal that are kept to show what was wrong.
const SHOWN_ANSWER: usize = 300;

const USER: &str = concat!("reenact/", env!("CARGO_PKG_VERSION"));

/// How patiently messages are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// How often the database is asked for messages. 500 ms.
    pub poll: Duration,
    /// For one attempt, from connecting to the end of the answer. 20 s.
    pub timeout: Duration,
    /// The waits after failed attempts; after the last one a message is given up. Nine, from
    /// 5 seconds to a day, three days together.
    pub waits: Vec<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(500),
            timeout: Duration::from_secs(20),
            waits: WAITS.to_vec(),
        }
    }
}

/// Why messages cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("cannot set up a client for webhooks: {0}")]
    Client(reqwest::Error),
}

/// What is sent, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// `run.done` or `run.error`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: RunEvent,
    /// When the run ended: RFC 3339 in UTC.
    pub timestamp: String,
    pub data: RunView,
}

/// Sends messages for some webhooks.
pub struct Webhooks {
    sender: Arc<Sender>,
    lines: Vec<Line>,
    under_way: JoinSet<()>,
    tidy_at: Micros,
}

impl Webhooks {
    /// Makes the hooks known to the database, in place of those that were known before:
    /// every run that ends from here on is noted for them. Also to be called without hooks,
    /// or runs would still be noted for old ones.
    pub async fn open(
        storage: Storage,
        hooks: Vec<Hook>,
        pace: Pace,
    ) -> Result<Self, WebhookError> {
        storage.set_webhooks(hooks.iter().map(row).collect()).await?;
        let client = Client::builder()
            .redirect(Policy::none())
            .timeout(pace.timeout)
            .build()
            .map_err(WebhookError::Client)?;
        let lines = hooks.into_iter().map(Line::new).collect();
        let sender = Arc::new(Sender { storage, client, pace });
        Ok(Self { sender, lines, under_way: JoinSet::new(), tidy_at: 0 })
    }

    /// Sends what there is to send until `shutdown` completes, and what is under way then
    /// for some seconds more.
    pub async fn send(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            if let Err(error) = self.hand_out().await {
                tracing::warn!("webhooks have to wait: {error}");
            }
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = self.under_way.join_next() => {}
                () = tokio::time::sleep(self.sender.pace.poll) => {}
            }
        }
        let rest = async { while self.under_way.join_next().await.is_some() {} };
        // What does not end by then is due again when its claim ends.
        let _ = tokio::time::timeout(GRACE, rest).await;
    }

    async fn hand_out(&mut self) -> Result<(), StorageError> {
        let time = now();
        if time >= self.tidy_at {
            let (give_up, forget) = (before(time, GIVE_UP_AFTER), before(time, FORGET_AFTER));
            self.sender.storage.tidy_deliveries(time, give_up, forget).await?;
            self.tidy_at = after(time, TIDY_EVERY);
        }
        for Line { hook, places } in &self.lines {
            let free = places.available_permits();
            if free == 0 || !self.sender.storage.is_delivery_due(&hook.id, time)? {
                continue;
            }
            let until = after(time, CLAIM);
            let claimed = self.sender.storage.claim_deliveries(&hook.id, time, until, free).await?;
            for claimed in claimed {
                // Only this loop takes places, so there are as many as were free.
                let Ok(place) = Arc::clone(places).try_acquire_owned() else { break };
                let (sender, hook) = (Arc::clone(&self.sender), Arc::clone(hook));
                self.under_way.spawn(sender.deliver(hook, claimed, place));
            }
        }
        Ok(())
    }
}

fn row(hook: &Hook) -> WebhookRow {
    let events = hook.events.as_ref();
    WebhookRow {
        id: hook.id.clone(),
        origin: hook.origin(),
        agents: hook.agents.clone(),
        events: events.map(|events| events.iter().map(|event| event.as_str().into()).collect()),
    }
}

/// A webhook and its places.
struct Line {
    hook: Arc<Hook>,
    places: Arc<Semaphore>,
}

impl Line {
    fn new(hook: Hook) -> Self {
        Self { hook: Arc::new(hook), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

/// What it takes to send one message.
struct Sender {
    storage: Storage,
    client: Client,
    pace: Pace,
}

/// Why an attempt failed.
struct Refusal {
    error: String,
    /// How long the receiver wants to be left alone.
    wait: Duration,
    gone: bool,
}

impl Refusal {
    fn because(error: String) -> Self {
        Self { error, wait: Duration::ZERO, gone: false }
    }
}

impl Sender {
    async fn deliver(self: Arc<Self>, hook: Arc<Hook>, claimed: Claimed, _: OwnedSemaphorePermit) {
        let attempted = match self.attempt(&hook, &claimed).await {
            Ok(()) => Attempted::Delivered,
            Err(refusal) => self.judge(&hook, &claimed, refusal),
        };
        if let Err(error) = self.storage.settle_delivery(&claimed, attempted, now()).await {
            // It is sent again when the claim ends.
            tracing::warn!("the webhook about run `{}` is not settled: {error}", claimed.run);
        }
    }

    fn judge(&self, hook: &Hook, claimed: &Claimed, refusal: Refusal) -> Attempted {
        let Refusal { error, wait, gone } = refusal;
        let (run, to) = (&claimed.run, hook.origin());
        if gone {
            tracing::warn!("`{to}` wants no more webhooks: {error}");
            return Attempted::Gone { error };
        }
        match self.pace.waits.get(claimed.attempt as usize - 1) {
            Some(own) => {
                let spread = own.mul_f64(spread(claimed) / 10.0);
                let at = after(now(), (*own + spread).max(wait));
                Attempted::Later { at, error }
            }
            None => {
                tracing::warn!("the webhook about run `{run}` to `{to}` is given up: {error}");
                Attempted::Failed { error }
            }
        }
    }

    async fn attempt(&self, hook: &Hook, claimed: &Claimed) -> Result<(), Refusal> {
        let (storage, message) = (self.storage.clone(), claimed.clone());
        let body = blocking(move || message_of(&storage, &message)).await;
        let body = body.map_err(|error| Refusal::because(error.to_string()))?;
        let id = message_id(claimed);
        let seconds = (now() / 1_000_000) as i64;
        let sign =
            |key: &Key| Webhook::from_bytes(key.reveal().to_vec())?.sign(&id, seconds, &body);
        let signed: Result<Vec<_>, _> = hook.keys.iter().map(sign).collect();
        let signed = signed.map_err(|error| Refusal::because(error.to_string()))?.join(" ");
        let request = self
            .client
            .post(hook.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, USER)
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, seconds.to_string())
            .header(HEADER_WEBHOOK_SIGNATURE, signed)
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(refused(answer).await),
            Err(error) => Err(Refusal::because(failure(error))),
        }
    }
}

/// The message as it is now: the run's view is made of its journal each time.
fn message_of(storage: &Storage, claimed: &Claimed) -> Result<Vec<u8>, ServiceError> {
    let data = read::run(storage, &claimed.run)?;
    let kind = match claimed.event.as_str() {
        "run.done" => RunEvent::Done,
        _ => RunEvent::Error,
    };
    let message = Message { kind, timestamp: rfc3339(claimed.created_at), data };
    serde_json::to_vec(&message).map_err(|error| ServiceError::Machine(error.to_string()))
}

/// The same for every attempt, and for every receiver of the same message.
fn message_id(claimed: &Claimed) -> String {
    format!("msg_{}_{}", claimed.run, claimed.event.replace('.', "_"))
}

/// Between 0 and 1, by message and attempt: it has to differ, not to surprise.
fn spread(claimed: &Claimed) -> f64 {
    let seed = format!("{} {}", message_id(claimed), claimed.attempt);
    f64::from(Digest::of(seed.as_bytes()).as_bytes()[0]) / 255.0
}

async fn refused(mut answer: Response) -> Refusal {
    let status = answer.status();
    let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = asked.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    let mut said = Vec::new();
    while said.len() < SHOWN_ANSWER
        && let Ok(Some(piece)) = answer.chunk().await
    {
        said.extend_from_slice(&piece[..piece.len().min(SHOWN_ANSWER - said.len())]);
    }
    let said = String::from_utf8_lossy(&said);
    let said = said.trim();
    let error = match said {
        "" => format!("it answered `{status}`"),
        said => format!("it answered `{status}`: {}", said.escape_debug()),
    };
    let wait = wait.unwrap_or_default().min(MAX_ASKED_WAIT);
    Refusal { error, wait, gone: status == StatusCode::GONE }
}

/// Why there is no answer: the innermost cause, which no URL is in, as that may hold a secret.
fn failure(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let what = if error.is_connect() { "cannot connect" } else { "the request failed" };
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("{what}: {cause}")
}

fn after(time: Micros, wait: Duration) -> Micros {
    time.saturating_add(wait.as_micros().try_into().unwrap_or(Micros::MAX))
}

fn before(time: Micros, wait: Duration) -> Micros {
    time.saturating_sub(wait.as_micros().try_into().unwrap_or(Micros::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_attempts_take_three_days() {
        let pace = Pace::default();
        let total: Duration = pace.waits.iter().sum();
        assert_eq!(pace.waits.len(), 9);
        assert_eq!(total, Duration::from_secs(75 * 3_600 + 35 * 60 + 5));
        assert!(CLAIM > pace.timeout * 2);
    }
}

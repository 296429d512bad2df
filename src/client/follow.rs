//! A run's events as they happen, over as many connections as that takes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use reqwest::{Response, StatusCode};
use sse_stream::{Sse, SseStream};
use tokio::time::Instant;

use super::error::innermost;
use super::send::{Call, Failed, IDLE, backoff};
use super::{Client, ClientError};
use crate::service::events::ApiEvent;

/// For a server that has gone away in mid-run to come back.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Bytes of one event: more than a run can record at once.
const MAX_EVENT: u64 = 256 << 20;

/// What following a run brings next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Something happened: an event is new, or has finished.
    Event(ApiEvent),
    /// The same, and it is the last one.
    End(ApiEvent),
    /// The connection is lost. It is tried to get it back; nothing gets lost.
    Lost { cause: String },
    /// There is a connection again.
    Back,
}

/// Follows a run to its end, or for as long as somebody asks for more.
pub struct Following {
    client: Client,
    run: String,
    /// Number of the newest entry that was seen.
    last: Option<u64>,
    events: Option<Events>,
    is_over: bool,
    outage: Option<Outage>,
    /// Failures since something came.
    failures: u32,
}

/// A time without a connection.
struct Outage {
    since: Instant,
    next_try: Instant,
}

type Events = Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>;

impl Client {
    /// Follows a run's events from the first one.
    pub fn follow(&self, run: &str) -> Following {
        Following {
            client: self.clone(),
            run: run.to_owned(),
            last: None,
            events: None,
            is_over: false,
            outage: None,
            failures: 0,
        }
    }
}

impl Following {
    /// What comes next; `None` after the end. Each entry of the run's journal is shown once,
    /// in order. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// The server refuses, or cannot be reached for ten minutes.
    pub async fn next(&mut self) -> Result<Option<Step>, ClientError> {
        while !self.is_over {
            let Some(events) = &mut self.events else {
                match self.connect().await? {
                    Some(step) => return Ok(Some(step)),
                    None => continue,
                }
            };
            match events.next().await {
                Some(Ok(sse)) => {
                    if let Some(step) = self.step(sse)? {
                        return Ok(Some(step));
                    }
                }
                Some(Err(sse_stream::Error::Body(error))) => {
                    if let Some(Cut::TooLarge) = error.downcast_ref() {
                        let server = self.client.address.to_string();
                        return Err(ClientError::TooLarge { server, limit: MAX_EVENT });
                    }
                    return Ok(Some(self.lost(error.to_string())));
                }
                Some(Err(error)) => return Err(self.client.unexpected(error.to_string())),
                None => {
                    return Ok(Some(self.lost("it closed the stream before the end".to_owned())));
                }
            }
        }
        Ok(None)
    }

    /// What one message of the stream says.
    fn step(&mut self, sse: Sse) -> Result<Option<Step>, ClientError> {
        let Some(data) = sse.data else { return Ok(None) };
        let number = sse.id.and_then(|id| id.parse::<u64>().ok());
        let number = number.ok_or_else(|| self.client.unexpected("an event has no number"))?;
        if self.last.is_some_and(|last| number <= last) {
            return Ok(None);
        }
        let event: ApiEvent = serde_json::from_str(&data)
            .map_err(|error| self.client.unexpected(error.to_string()))?;
        self.last = Some(number);
        self.failures = 0;
        self.is_over = sse.event.as_deref() == Some("end");
        Ok(Some(if self.is_over { Step::End(event) } else { Step::Event(event) }))
    }

    fn lost(&mut self, cause: String) -> Step {
        self.events = None;
        self.failures += 1;
        let now = Instant::now();
        self.outage = Some(Outage { since: now, next_try: now + backoff(self.failures) });
        Step::Lost { cause }
    }

    /// Makes a connection, or waits for the time to try again.
    async fn connect(&mut self) -> Result<Option<Step>, ClientError> {
        if let Some(outage) = &self.outage {
            tokio::time::sleep_until(outage.next_try).await;
        }
        let run = self.run.clone();
        let mut call = Call::get(&["runs", &run, "events"]).header("accept", "text/event-stream");
        if let Some(last) = self.last {
            call = call.header("last-event-id", last.to_string());
        }
        match self.client.send(&call).await {
            Ok(response) if response.status() == StatusCode::NO_CONTENT => {
                self.is_over = true;
                Ok(None)
            }
            Ok(response) => {
                self.events = Some(read(response));
                Ok(self.outage.take().map(|_| Step::Back))
            }
            Err(Failed { error, is_passing: false, .. }) => Err(error),
            Err(Failed { error, wait, .. }) => {
                self.failures += 1;
                let now = Instant::now();
                let next_try = now + wait.unwrap_or_else(|| backoff(self.failures));
                match &mut self.outage {
                    None => {
                        self.outage = Some(Outage { since: now, next_try });
                        Ok(Some(Step::Lost { cause: error.to_string() }))
                    }
                    Some(outage) if now - outage.since > PATIENCE => Err(error),
                    Some(outage) => {
                        outage.next_try = next_try;
                        Ok(None)
                    }
                }
            }
        }
    }
}

/// Why no more of a stream comes.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("nothing came for {} s", IDLE.as_secs())]
    Idle,
    #[error("{0}")]
    Broken(String),
    #[error("an event has more than {MAX_EVENT} bytes")]
    TooLarge,
}

/// The messages of a stream, each of them bounded.
fn read(response: Response) -> Events {
    let unread = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&unread);
    let bytes = stream::unfold(Some((response, counted)), |open| async move {
        let (mut response, counted) = open?;
        let chunk = tokio::time::timeout(IDLE, response.chunk()).await;
        let cut = match chunk {
            Ok(Ok(Some(chunk))) => {
                let length = chunk.len() as u64;
                if counted.fetch_add(length, Ordering::Relaxed) + length <= MAX_EVENT {
                    return Some((Ok::<Bytes, Cut>(chunk), Some((response, counted))));
                }
                Cut::TooLarge
            }
            Ok(Ok(None)) => return None,
            Ok(Err(error)) => Cut::Broken(innermost(&error)),
            Err(_) => Cut::Idle,
        };
        Some((Err(cut), None))
    });
    let events = SseStream::from_bytes_stream(bytes);
    Box::pin(events.inspect(move |_| unread.store(0, Ordering::Relaxed)))
}

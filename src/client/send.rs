//! One call: sent, sent again where that is safe and can help, and its answer read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;

use super::error::innermost;
use super::{Client, ClientError, Notice};
use crate::server::Problem;

/// For the beginning of an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// For the beginning of an answer to what compiles or replays: both have limits of their
/// own, and may have to wait for their turn.
pub(super) const HEAVY: Duration = Duration::from_secs(15 * 60);

/// For more of an answer that has begun. A stream says every 15 seconds that it is alive.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// The first wait before a call is sent again; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The longest wait that a server can ask for with `Retry-After`.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// How often a call is sent to a server that has answered before: for half a minute.
const TRIES: u32 = 9;

/// How often it is tried to reach one that never has.
const FIRST_TRIES: u32 = 3;

/// Bytes of an answer in JSON: a page of runs with the largest results.
const MAX_JSON: u64 = 512 << 20;

/// Bytes of a refusal.
const MAX_PROBLEM: u64 = 1 << 20;

/// What is to be sent.
pub(super) struct Call<'a> {
    pub method: Method,
    pub route: Vec<&'a str>,
    pub query: Vec<(&'static str, String)>,
    pub headers: Vec<(&'static str, String)>,
    /// Its media type and bytes.
    pub body: Option<(&'static str, Bytes)>,
    /// Whether it does no more if it arrives twice.
    pub is_repeatable: bool,
    pub patience: Duration,
}

impl<'a> Call<'a> {
    pub fn get(route: &[&'a str]) -> Self {
        Self {
            method: Method::GET,
            route: route.to_vec(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            is_repeatable: true,
            patience: ANSWER,
        }
    }

    pub fn post(route: &[&'a str]) -> Self {
        Self { method: Method::POST, ..Self::get(route) }
    }

    pub fn json(mut self, body: &impl serde::Serialize) -> Self {
        let bytes = serde_json::to_vec(body).unwrap_or_default();
        self.body = Some(("application/json", bytes.into()));
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Why an attempt failed, and what that says of the next one.
pub(super) struct Failed {
    pub error: ClientError,
    /// Whether it may be better next time.
    pub is_passing: bool,
    /// Whether the server may have done something.
    has_arrived: bool,
    /// What the server asks for.
    pub wait: Option<Duration>,
}

/// The wait after so many failures.
pub(super) fn backoff(failures: u32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_WAIT)
}

impl Client {
    /// The answer as JSON.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, ClientError> {
        let bytes = self.fetch(call, MAX_JSON).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.unexpected(error.to_string()))
    }

    /// The whole answer, if it has at most `limit` bytes.
    pub(super) async fn fetch(&self, call: Call<'_>, limit: u64) -> Result<Vec<u8>, ClientError> {
        let mut failures = 0;
        loop {
            let attempt = async {
                let response = self.send(&call).await?;
                self.read(response, limit).await.map_err(|error| Failed::of(error, true))
            };
            let failed = match attempt.await {
                Ok(bytes) => return Ok(bytes),
                Err(failed) => failed,
            };
            failures += 1;
            let tries = if self.is_known() { TRIES } else { FIRST_TRIES };
            let is_safe = call.is_repeatable || !failed.has_arrived;
            if !failed.is_passing || !is_safe || failures >= tries {
                return Err(failed.error);
            }
            let wait = failed.wait.unwrap_or_else(|| backoff(failures));
            (self.listener)(Notice::Again { cause: failed.error.to_string(), wait });
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends a call once; answers what begins to come back, if it is a success.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Response, Failed> {
        let mut url = self.address.route(&call.route).map_err(|error| Failed::of(error, false))?;
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request = self.http.request(call.method.clone(), url);
        request = request.header(ACCEPT, "application/json");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.header());
        }
        if let Some((kind, bytes)) = &call.body {
            request = request.header(CONTENT_TYPE, *kind).body(bytes.clone());
        }
        // What is said of a header last counts.
        let mut request = request
            .build()
            .map_err(|error| Failed::of(ClientError::Machine(innermost(&error)), false))?;
        for (name, value) in &call.headers {
            if let Ok(value) = value.parse() {
                request.headers_mut().insert(*name, value);
            }
        }
        let server = || self.address.to_string();
        let response = match tokio::time::timeout(call.patience, self.http.execute(request)).await {
            Err(_) => {
                let seconds = call.patience.as_secs();
                return Err(Failed::of(ClientError::Timeout { server: server(), seconds }, true));
            }
            Ok(Err(error)) => {
                let (server, cause) = (server(), innermost(&error));
                return Err(match error.is_connect() {
                    true => Failed::of(ClientError::Connect { server, cause }, false),
                    false => Failed::of(ClientError::Broken { server, cause }, true),
                });
            }
            Ok(Ok(response)) => response,
        };
        self.is_known.store(true, Ordering::Relaxed);
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.refused(response).await),
        }
    }

    /// What a refusal says.
    async fn refused(&self, response: Response) -> Failed {
        use StatusCode as S;
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
        let body = self.read(response, MAX_PROBLEM).await.unwrap_or_default();
        let error = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(_) => self.unexpected(format!("it answers {status}")),
        };
        let is_busy = matches!(status, S::TOO_MANY_REQUESTS | S::SERVICE_UNAVAILABLE);
        let is_gateway = matches!(status, S::BAD_GATEWAY | S::GATEWAY_TIMEOUT);
        Failed {
            error,
            is_passing: is_busy || is_gateway,
            has_arrived: !is_busy,
            wait: asked.map(|asked| asked.min(LONGEST_ASKED)),
        }
    }

    async fn read(&self, mut response: Response, limit: u64) -> Result<Vec<u8>, ClientError> {
        let server = || self.address.to_string();
        let mut bytes = Vec::new();
        loop {
            match tokio::time::timeout(IDLE, response.chunk()).await {
                Err(_) => {
                    return Err(ClientError::Timeout { server: server(), seconds: IDLE.as_secs() });
                }
                Ok(Err(error)) => {
                    let cause = innermost(&error);
                    return Err(ClientError::Broken { server: server(), cause });
                }
                Ok(Ok(None)) => return Ok(bytes),
                Ok(Ok(Some(chunk))) if (bytes.len() + chunk.len()) as u64 > limit => {
                    return Err(ClientError::TooLarge { server: server(), limit });
                }
                Ok(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk),
            }
        }
    }

    pub(super) fn unexpected(&self, what: impl Into<String>) -> ClientError {
        ClientError::Unexpected { server: self.address.to_string(), what: what.into() }
    }
}

impl Failed {
    fn of(error: ClientError, has_arrived: bool) -> Self {
        let is_passing = matches!(
            error,
            ClientError::Connect { .. } | ClientError::Broken { .. } | ClientError::Timeout { .. }
        );
        Self { error, is_passing, has_arrived, wait: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_have_an_end() {
        let waits: Vec<u128> = (1..=6).map(|n| backoff(n).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!(backoff(u32::MAX), LONGEST_WAIT);
    }
}

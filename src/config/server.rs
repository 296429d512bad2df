//! The table `[server]`: what `reenact serve` listens on and how much it takes on.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::revision::MAX_COMPONENT_BYTES;

/// What a server is allowed. Each has a default, so the table may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Where it listens. 127.0.0.1:7411.
    pub listen: SocketAddr,
    /// Guests that are loaded at once. 64: each may have the memory that its limits allow.
    pub parallel: usize,
    /// Loaded guests of one agent. 48, so that no agent can have all places.
    pub parallel_per_agent: usize,
    /// Runs that are under way at once, loaded or waiting for tools. 10,000.
    pub under_way: usize,
    /// Runs that may wait for their turn. 10,000; more are refused with 503.
    pub queue: usize,
    /// Milliseconds that a guest stays loaded while it waits for a tool. 1,000.
    pub patience_ms: u64,
    /// Milliseconds that calls under way have to answer when the server stops. 5,000.
    pub grace_ms: u64,
    /// Requests of one key in a second, over time. 1,000.
    pub requests_per_second: u32,
    /// Requests of one key at once, after a pause. 2,000.
    pub burst: u32,
    /// Open connections. 4,000; more wait to be accepted.
    pub connections: usize,
    /// Bytes of a JSON body. 2 MiB: an input of the default limit and what is around it.
    pub body_bytes: usize,
    /// Bytes of an uploaded revision. 64 MiB, as large as a revision can be.
    pub upload_bytes: usize,
    /// Milliseconds that a client has to send a head, and again to send a JSON body. 30,000.
    pub request_timeout_ms: u64,
    /// Milliseconds that a client has to take the next piece of its answer. 60,000.
    pub write_timeout_ms: u64,
    /// Milliseconds between the signs of life of a stream of events. 15,000.
    pub heartbeat_ms: u64,
    /// Milliseconds that a client has to upload a revision. 600,000.
    pub upload_timeout_ms: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7411)),
            parallel: 64,
            parallel_per_agent: 48,
            under_way: 10_000,
            queue: 10_000,
            patience_ms: 1_000,
            grace_ms: 5_000,
            requests_per_second: 1_000,
            burst: 2_000,
            connections: 4_000,
            body_bytes: 2 << 20,
            upload_bytes: MAX_COMPONENT_BYTES,
            request_timeout_ms: 30_000,
            write_timeout_ms: 60_000,
            heartbeat_ms: 15_000,
            upload_timeout_ms: 600_000,
        }
    }
}

impl ServerConfig {
    /// Refuses what would let nothing through.
    pub(super) fn check(&self) -> Result<(), String> {
        let counts = [
            ("parallel", self.parallel),
            ("parallel_per_agent", self.parallel_per_agent),
            ("under_way", self.under_way),
            ("queue", self.queue),
            ("requests_per_second", self.requests_per_second as usize),
            ("burst", self.burst as usize),
            ("connections", self.connections),
            ("body_bytes", self.body_bytes),
            ("upload_bytes", self.upload_bytes),
            ("request_timeout_ms", self.request_timeout_ms as usize),
            ("write_timeout_ms", self.write_timeout_ms as usize),
            ("heartbeat_ms", self.heartbeat_ms as usize),
            ("upload_timeout_ms", self.upload_timeout_ms as usize),
        ];
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((name, _)) => Err(format!("`server.{name}` is `0`, but must be at least 1")),
            None => Ok(()),
        }
    }

    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms)
    }

    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

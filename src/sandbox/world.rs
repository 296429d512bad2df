//! What the sandbox needs from its surroundings: the one door, seen from inside.
//!
//! Everything that a guest can observe or cause goes through a [`World`]. The
//! sandbox does not know whether the world is live or a recording.

use std::future::Future;
use std::sync::Arc;

use crate::journal::{Answer, GrantedTool, Micros, Stream};

/// The facts that the guest may ask for. The same in every replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub run: String,
    pub agent: String,
    pub revision: String,
    /// The manifest's `config` as JSON text.
    pub config: Arc<str>,
    /// The whole manifest as JSON text.
    pub manifest: Arc<str>,
}

/// A tool call as the guest made it: nothing is checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRequest {
    pub name: String,
    pub arguments: String,
}

/// The world stops the guest here. It keeps the reason itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run was stopped")]
pub struct Stopped;

/// `fuel` is what the guest has used when it makes the request.
pub trait World: Send + 'static {
    fn facts(&self) -> &Facts;

    /// The tools that may be called, by name in alphabetical order.
    fn tools(&self) -> &[GrantedTool];

    /// The time of the newest journal entry. It stands still while the guest computes.
    fn now(&self) -> Micros;

    fn emit(&mut self, fuel: u64, kind: String, data: String) -> Result<(), Stopped>;

    /// Answers the number that `close` takes.
    fn open(&mut self, fuel: u64, kind: String, data: String) -> Result<u64, Stopped>;

    fn close(&mut self, fuel: u64, span: u64, data: String) -> Result<(), Stopped>;

    fn log(&mut self, fuel: u64, stream: Stream, text: String) -> Result<(), Stopped>;

    /// Makes room when recording has fallen behind the guest.
    fn relieve(&mut self) -> impl Future<Output = Result<(), Stopped>> + Send;

    /// Calls all tools at once; answers in the order of the calls.
    fn call(
        &mut self,
        fuel: u64,
        calls: Vec<ToolRequest>,
    ) -> impl Future<Output = Result<Vec<Answer>, Stopped>> + Send;

    /// Waits until [`World::now`] is at least `until`.
    fn sleep(
        &mut self,
        fuel: u64,
        until: Micros,
    ) -> impl Future<Output = Result<(), Stopped>> + Send;
}

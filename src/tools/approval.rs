//! Asking a person about a call. Who is asked and how is the host's business.

use futures::future::BoxFuture;

use crate::journal::{Approval, Micros};
use crate::json::Json;

/// A call that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Id of the run.
    pub run: String,
    /// Number of the call in the run.
    pub call: u64,
    pub tool: String,
    pub arguments: Json,
    /// When the call is denied if nobody has answered.
    pub until: Micros,
}

/// What comes of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Decided(Decided),
    /// Nobody is here to wait: the run stops as it stands, to be resumed when
    /// somebody has decided.
    Leave,
}

/// What a person decided, and who it was as far as the host knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    pub decision: Approval,
    pub by: String,
}

/// Finds out what a person decides about a call.
pub trait Approver: Send + Sync {
    /// Answers when somebody has decided. Whoever stops waiting drops the future.
    fn ask(&self, question: Question) -> BoxFuture<'static, Reply>;
}

//! What an agent can call: the seam between runs and providers.
//!
//! A provider is one file that implements [`Provider`] and has one line in
//! [`KINDS`]. Which of its tools a run may call is decided in [`policy`] once,
//! when the run starts. Nothing here records anything and nothing here knows
//! whether a run is live: a replay does not come this far.

mod files;
pub mod policy;

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

pub use crate::journal::{Source, ToolError, ToolErrorCode};

/// A tool as its provider describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// `PROVIDER.TOOL`, such as `files.search`.
    pub name: String,
    /// For the model or the person that chooses among tools.
    pub description: String,
    /// JSON Schema (2020-12) of the arguments. The host checks them before a call.
    pub parameters: Value,
    /// Calling it changes nothing, so after a crash it can be called again.
    pub read_only: bool,
    /// Calling it twice does no more than calling it once.
    pub idempotent: bool,
}

/// What a tool answers when it succeeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Success {
    pub content: Value,
    /// Where the content comes from; collected into the run's result.
    pub sources: Vec<Source>,
}

/// A live connection to something that can be called.
///
/// Calls run concurrently and may be dropped at any await point; whatever a
/// provider does in threads of its own must end soon after.
pub trait Provider: Send + Sync {
    fn tools(&self) -> Vec<ToolSpec>;

    /// Calls `tool`, one of [`Provider::tools`], with arguments that fit its schema.
    fn call(&self, tool: &str, arguments: Value) -> BoxFuture<'static, Result<Success, ToolError>>;
}

/// What an operator says about a provider.
#[derive(Debug, Clone, PartialEq)]
pub enum Grant {
    /// The value of `--grant NAME=VALUE`.
    Flag(String),
    /// The table `[grants.NAME]` of `reenact.toml`. Relative paths in it are
    /// relative to the second field, the folder of that file.
    Table(toml::Table, std::path::PathBuf),
}

/// A kind of provider that can be granted.
pub struct Kind {
    /// The name before the dot in its tools' names, and in grants.
    pub name: &'static str,
    /// What `--grant NAME=` takes, for help and errors.
    pub flag_value: &'static str,
    pub open: fn(&Grant) -> Result<Arc<dyn Provider>, String>,
}

/// Every kind of provider in this build. Another provider is another file and another line.
pub const KINDS: &[Kind] = &[files::KIND];

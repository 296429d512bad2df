//! What an agent can call: the seam between runs and providers.
//!
//! A provider is one file or folder that implements [`Provider`] and has one
//! line in [`KINDS`]. A [`Catalogue`] holds the providers that the operator
//! grants, opened; [`RunTools`] is the part of it that one run may call, as
//! [`policy`] decides. Nothing here records anything and nothing here knows
//! whether a run is live: a replay does not come this far.

mod approval;
mod call;
mod catalogue;
mod context;
mod files;
pub mod http;
mod mcp;
// It needs Unix sockets.
#[cfg(unix)]
mod model;
pub mod policy;
mod vault;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

pub use approval::{Approver, Decided, Question, Reply};
pub use call::{Call, Called, Observer, RunTools, ToolLimits, Vetted};
pub use catalogue::{Catalogue, GrantError};
pub use context::{Budget, CallContext, Report, Watcher};
pub use vault::{Secret, UnknownSecret, Vault};

pub use crate::journal::{Attempt, Source, ToolError, ToolErrorCode, Usage};

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
/// provider does in threads of its own must end soon after. A call must not
/// block the thread that polls it.
pub trait Provider: Send + Sync {
    fn tools(&self) -> Vec<ToolSpec>;

    /// Calls `tool`, one of [`Provider::tools`], with arguments that fit its schema.
    fn call(
        &self,
        tool: &str,
        arguments: Value,
        context: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>>;
}

/// What an operator says about a provider.
#[derive(Debug, Clone, PartialEq)]
pub enum Grant {
    /// The value of `--grant NAME=VALUE`. A relative path in it is relative to
    /// the working directory.
    Flag(String),
    /// The table `[grants.NAME]` of the configuration in `file`. Relative paths
    /// in it are relative to the folder of that file.
    Table { table: toml::Table, file: PathBuf },
}

/// Why a provider cannot be opened as its grant says.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The table lacks a key, or holds one that is unknown or of another type.
    #[error("{}", .0.message())]
    Table(#[from] Box<toml::de::Error>),
    #[error("`{key}` is `{value}`, but must {must}")]
    Value { key: &'static str, value: String, must: &'static str },
    #[error("cannot open `{}`: {cause}", path.display())]
    Path { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Secret(#[from] UnknownSecret),
    /// Anything else, in words that end a sentence.
    #[error("{0}")]
    Other(String),
}

/// A kind of provider that can be granted.
pub struct Kind {
    /// The name in grants; also the name before the dot in its tools' names, unless
    /// it opens several providers.
    pub name: &'static str,
    /// What `--grant NAME=` takes, for help and errors.
    pub flag_value: &'static str,
    /// The keys that its table may have.
    pub keys: &'static [&'static str],
    /// It opens providers of any names, not only one of its own name.
    pub many: bool,
    pub open: for<'a> fn(&'a Grant, &'a Opening<'a>) -> BoxFuture<'a, Opened>,
}

/// The providers that a grant opens, by the name before the dot in their tools' names.
pub type Opened = Result<Vec<(String, Arc<dyn Provider>)>, OpenError>;

/// What a grant is opened with.
pub struct Opening<'a> {
    pub vault: &'a Vault,
    /// Whether anybody will call tools of the provider of this name. What nobody
    /// wants need not be started.
    pub wanted: &'a (dyn Fn(&str) -> bool + Send + Sync),
}

/// Every kind of provider in this build. Another provider is another file and another line.
pub const KINDS: &[Kind] = &[
    files::KIND,
    http::KIND,
    mcp::KIND,
    #[cfg(unix)]
    model::KIND,
];

/// The kind of that name, if this build has it.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The names of all kinds, as errors list them.
pub(crate) fn kind_names() -> String {
    quoted(KINDS.iter().map(|kind| kind.name))
}

/// Names in backticks, with commas between them.
pub(crate) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// At most `max` bytes of `text`, cut between characters and marked when cut.
/// For what guests and tools write into messages.
fn clip(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(max.saturating_sub('…'.len_utf8()))])
}

//! A run as the API shows it.
//!
//! A plain value made of a row and of the run's first and last entries: who reads
//! those, and who serves the view, is not known here.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::journal::{self, Content, Ended, Outcome, Output, RunError, Started, rfc3339};
use crate::storage::{self, RunRow, RunStatus};

/// A run: what it is, how far it has come, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// UUID of the run.
    pub id: String,
    /// Name of the agent.
    pub agent_id: String,
    /// `sha256:` and 64 hex digits.
    pub revision_id: String,
    /// What the run was given.
    pub input: Value,
    pub status: Status,
    /// RFC 3339 in UTC, as all times.
    pub created_at: String,
    /// When the newest entry was recorded.
    pub updated_at: String,
    /// Why it ended without a result; null unless the status is `error`.
    pub error: Option<ErrorView>,
    /// Null unless the status is `done`.
    pub result_type: Option<ResultType>,
    /// Null unless the status is `done`.
    pub result_data: Option<ResultData>,
    /// What it waits for while no process has it loaded; null otherwise.
    pub waits: Option<WaitsView>,
    /// The run whose beginning it shares; null if it is no fork.
    pub forked_from: Option<ForkedFrom>,
    /// Fuel that the guest has used.
    pub fuel: u64,
    /// How many entries the journal has.
    pub entries: u64,
}

/// Where a fork comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForkedFrom {
    pub run_id: String,
    /// Number of the last entry that is shared, in the journal of that run.
    pub at: u64,
}

/// A run's status: there are no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pending,
    Running,
    Done,
    Error,
}

impl From<RunStatus> for Status {
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Pending => Self::Pending,
            RunStatus::Running => Self::Running,
            RunStatus::Done => Self::Done,
            RunStatus::Error => Self::Error,
        }
    }
}

impl From<Status> for RunStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Running => Self::Running,
            Status::Done => Self::Done,
            Status::Error => Self::Error,
        }
    }
}

/// Why a run ended without a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorView {
    /// One of a closed set, such as `agent_failure` or `deadline`.
    pub code: String,
    pub message: String,
    /// What the agent added to its own failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// The guest's functions at a trap, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}

impl From<&RunError> for ErrorView {
    fn from(error: &RunError) -> Self {
        Self {
            code: error.code.to_string(),
            message: error.message.clone(),
            details: error.details.as_ref().map(|details| details.to_value()),
            backtrace: error.backtrace.clone(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResultType {
    /// Text, usually Markdown.
    Document,
    /// Any JSON value that fits the sealed schema.
    Json,
}

/// What a run answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultData {
    /// A string for a `document`, any value for `json`.
    pub result: Value,
    /// Where it comes from, as the agent says.
    pub sources: Vec<SourceView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    pub url: String,
    pub title: String,
}

impl From<&journal::Source> for SourceView {
    fn from(source: &journal::Source) -> Self {
        Self { url: source.url.clone(), title: source.title.clone() }
    }
}

/// The two halves of an output.
pub(super) fn result_of(output: &Output) -> (ResultType, ResultData) {
    let (kind, result) = match &output.content {
        Content::Document(text) => (ResultType::Document, Value::String(text.clone())),
        Content::Json(value) => (ResultType::Json, value.to_value()),
    };
    let sources = output.sources.iter().map(SourceView::from).collect();
    (kind, ResultData { result, sources })
}

/// What a run waits for that no process has loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitsView {
    pub r#for: Waits,
    /// When it goes on at the latest.
    pub until: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Waits {
    /// A person has to decide about a call.
    Approval,
    Sleep,
}

impl WaitsView {
    /// A run that was decided about, but not yet loaded again, waits for nothing.
    fn of(row: &RunRow) -> Option<Self> {
        let waits = row.waits.filter(|_| row.status == RunStatus::Running && row.wake_at > 0)?;
        let r#for = match waits {
            storage::Waits::Approval => Waits::Approval,
            storage::Waits::Sleep => Waits::Sleep,
        };
        Some(Self { r#for, until: rfc3339(row.wake_at) })
    }
}

impl RunView {
    /// The run of `row`, whose first entry holds `started`, and whose last one, if it
    /// has ended, `ended`.
    pub fn of(row: &RunRow, started: &Started, ended: Option<&Ended>) -> Self {
        let outcome = ended.map(|ended| &ended.outcome);
        let error = match outcome {
            Some(Outcome::Error(error)) => Some(ErrorView::from(error)),
            // The journal says more, but the row is enough to tell that it failed.
            _ => row.code.as_ref().map(|code| ErrorView {
                code: code.clone(),
                message: String::new(),
                details: None,
                backtrace: Vec::new(),
            }),
        };
        let (result_type, result_data) = match outcome {
            Some(Outcome::Done(output)) => {
                let (kind, data) = result_of(output);
                (Some(kind), Some(data))
            }
            _ => (None, None),
        };
        Self {
            id: row.id.clone(),
            agent_id: row.agent.clone(),
            revision_id: row.revision.to_string(),
            input: started.input.to_value(),
            status: row.status.into(),
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
            error,
            result_type,
            result_data,
            waits: WaitsView::of(row),
            forked_from: row
                .parent
                .as_ref()
                .map(|parent| ForkedFrom { run_id: parent.run.clone(), at: parent.at }),
            fuel: row.fuel,
            entries: row.entries,
        }
    }
}

#[cfg(test)]
mod tests;

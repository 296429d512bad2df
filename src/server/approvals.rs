//! Routes of calls that wait for a person.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::auth::{Reader, Runner};
use super::extract::{Json, Path};
use super::{App, Problem};
use crate::journal::{Approval, rfc3339};
use crate::json::Json as Recorded;
use crate::service::Pending;
use crate::service::view::RunView;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Approve,
    Deny,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approve {
    decision: Decision,
    /// Number of the call, where several wait.
    call: Option<u64>,
    /// With `deny`: what the agent is told.
    reason: Option<String>,
    /// With `approve`: the arguments to call the tool with, instead of the agent's.
    #[schema(value_type = Option<Value>)]
    arguments: Option<Box<RawValue>>,
}

/// Decide about a call that waits for a person
///
/// The first decision counts.
#[utoipa::path(
    post, path = "/runs/{runId}/approve", tag = "runs", operation_id = "approveCall",
    params(("runId" = String, Path, description = "Its id, or a beginning of it")),
    request_body = Approve, responses((status = 200, body = RunView)),
)]
pub async fn approve(
    State(app): State<App>,
    Runner(client): Runner,
    Path(run): Path<String>,
    Json { value, .. }: Json<Approve>,
) -> Result<Answer<RunView>, Problem> {
    let service = app.service();
    let run = service.row(&run)?.id;
    let invalid =
        |detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", detail);
    let Approve { decision, call, reason, arguments } = value;
    let decision = match (decision, reason, arguments) {
        (Decision::Approve, None, None) => Approval::Approved,
        (Decision::Approve, None, Some(arguments)) => {
            let arguments = Recorded::parse(arguments.get());
            Approval::Edited(arguments.map_err(|error| {
                Problem::bad_request("bad-json", format!("`arguments` is {error}"))
            })?)
        }
        (Decision::Approve, Some(_), _) => return Err(invalid("only a denial has a `reason`")),
        (Decision::Deny, reason, None) => Approval::Denied(reason.unwrap_or_default()),
        (Decision::Deny, _, Some(_)) => return Err(invalid("a denial has no `arguments`")),
    };
    service.decide(&run, call, decision, &client.name).await?;
    Ok(Answer(service.view(&run)?))
}

/// A call that waits for a person.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingCall {
    /// Number of the call.
    pub call: u64,
    pub tool: String,
    pub arguments: Value,
    /// When it is denied if nobody has decided.
    pub until: String,
}

impl From<Pending> for PendingCall {
    fn from(pending: Pending) -> Self {
        let Pending { call, tool, arguments, until } = pending;
        Self { call, tool, arguments: arguments.to_value(), until: rfc3339(until) }
    }
}

/// The calls of a run that wait for a person
#[utoipa::path(
    get, path = "/runs/{runId}/approvals", tag = "runs", operation_id = "listApprovals",
    params(("runId" = String, Path, description = "Its id, or a beginning of it")),
    responses((status = 200, body = Vec<PendingCall>)),
)]
pub async fn list(
    State(app): State<App>,
    _: Reader,
    Path(run): Path<String>,
) -> Result<Answer<Vec<PendingCall>>, Problem> {
    let service = app.service();
    let run = service.row(&run)?.id;
    let pending = service.pending(&run).await?;
    Ok(Answer(pending.into_iter().map(PendingCall::from).collect()))
}

//! Routes of runs.

use std::time::Duration;

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::auth::{Reader, Runner};
use super::extract::{Binary, Json, Path, Query};
use super::paging::{check_limit, fifty, page_of};
use super::{App, Problem};
use crate::json::Json as Recorded;
use crate::revision::Digest;
use crate::service::keys::Client;
use crate::service::view::{RunView, Status};
use crate::service::{Ask, AskFork, ProofView, Submitted, Subscription};
use crate::storage::{RunFilter, RunStatus, Submission};

/// Seconds that an answer can be held until the run has ended.
const MAX_WAIT: u64 = 300;

/// Characters of an `Idempotency-Key`.
const MAX_REQUEST_NAME: usize = 255;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRun {
    /// What the run is given: it has to fit the input schema of the revision.
    #[schema(value_type = Value)]
    input: Box<RawValue>,
    /// Id of the revision, or a beginning of it that no other one has; the published one
    /// if it is absent.
    #[schema(pattern = "^(sha256:)?[0-9a-fA-F]{1,64}$")]
    revision: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// Hold the answer until the run has ended, at most for so many seconds.
    #[param(minimum = 0, maximum = 300)]
    wait: Option<u64>,
}

/// Start a run
///
/// It is durable when this answers. With the header `Idempotency-Key` the same request
/// sent again within a day answers the same run and starts no other.
#[utoipa::path(
    post, path = "/agents/{agentId}/runs", tag = "runs", operation_id = "startRun",
    params(
        ("agentId" = String, Path), Wait,
        ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, up to 255 visible characters", max_length = 255, pattern = "^[!-~]+$"),
    ),
    request_body = NewRun,
    responses(
        (status = 201, description = "The run", body = RunView),
        (status = 200, description = "The same request had started it", body = RunView),
    ),
)]
pub async fn start(
    State(app): State<App>,
    Runner(client): Runner,
    Path(agent): Path<String>,
    Query(query): Query<Wait>,
    headers: HeaderMap,
    Json { value, bytes }: Json<NewRun>,
) -> Result<(StatusCode, Answer<RunView>), Problem> {
    let wait = check_wait(query.wait)?;
    let submission = submission(client, &headers, &[agent.as_bytes(), &bytes])?;
    let NewRun { input, revision } = value;
    let ask = Ask { agent, revision, input: input.get().to_owned(), submission };
    let submitted = app.service().submit(ask).await?;
    submitted_run(&app, submitted, wait).await
}

fn check_wait(wait: Option<u64>) -> Result<Option<Duration>, Problem> {
    match wait {
        Some(seconds) if seconds > MAX_WAIT => {
            let detail = format!("`wait` is `{seconds}`, but must be from 0 to {MAX_WAIT}");
            Err(Problem::bad_request("bad-query", detail))
        }
        wait => Ok(wait.map(Duration::from_secs)),
    }
}

/// The name of a request that says `says`, where the client gives it one.
fn submission(
    client: Client,
    headers: &HeaderMap,
    says: &[&[u8]],
) -> Result<Option<Submission>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let bytes = value.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_REQUEST_NAME || !bytes.iter().all(u8::is_ascii_graphic)
    {
        let detail =
            format!("`Idempotency-Key` must have 1 to {MAX_REQUEST_NAME} visible characters");
        return Err(Problem::bad_request("bad-idempotency-key", detail));
    }
    let name = String::from_utf8_lossy(bytes).into_owned();
    Ok(Some(Submission { owner: client.id, name, digest: Digest::of_parts(says) }))
}

/// Runs of an agent, the newest first, a page at a time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListRuns {
    /// Only those that are at this.
    status: Option<Status>,
    /// Only those of this revision: its id, or a beginning of it.
    #[param(pattern = "^(sha256:)?[0-9a-fA-F]{1,64}$")]
    revision: Option<String>,
    /// How many at most.
    #[serde(default = "fifty")]
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: u32,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RunPage {
    items: Vec<RunView>,
    /// The `cursor` of the next page; null on the last one.
    next: Option<String>,
}

/// List an agent's runs
#[utoipa::path(
    get, path = "/agents/{agentId}/runs", tag = "runs", operation_id = "listRuns",
    params(("agentId" = String, Path), ListRuns), responses((status = 200, body = RunPage)),
)]
pub async fn list(
    State(app): State<App>,
    _: Reader,
    Path(agent): Path<String>,
    Query(query): Query<ListRuns>,
) -> Result<Answer<RunPage>, Problem> {
    let ListRuns { status, revision, limit, cursor } = query;
    let limit = check_limit(limit)?;
    let service = app.service();
    service.agent(&agent)?;
    let revision = match &revision {
        Some(prefix) => Some(service.digest(&agent, prefix)?),
        None => None,
    };
    let (status, agent) = (status.map(RunStatus::from), Some(agent));
    page(&app, RunFilter { agent, status, revision, limit, before: cursor }).await
}

/// Runs of all agents, the newest first, a page at a time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAllRuns {
    /// Only those of this agent.
    agent: Option<String>,
    /// Only those that are at this.
    status: Option<Status>,
    /// Only those of this revision: its whole id.
    #[param(pattern = "^sha256:[0-9a-f]{64}$")]
    revision: Option<String>,
    /// How many at most.
    #[serde(default = "fifty")]
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: u32,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// List the runs of all agents
#[utoipa::path(
    get, path = "/runs", tag = "runs", operation_id = "listAllRuns",
    params(ListAllRuns), responses((status = 200, body = RunPage)),
)]
pub async fn list_all(
    State(app): State<App>,
    _: Reader,
    Query(query): Query<ListAllRuns>,
) -> Result<Answer<RunPage>, Problem> {
    let ListAllRuns { agent, status, revision, limit, cursor } = query;
    let limit = check_limit(limit)?;
    if let Some(agent) = &agent {
        app.service().agent(agent)?;
    }
    let whole = |id: String| {
        let detail = format!("`{id}` is not the whole id of a revision");
        id.parse().map_err(|_| Problem::bad_request("bad-revision-id", detail))
    };
    let revision = revision.map(whole).transpose()?;
    let status = status.map(RunStatus::from);
    page(&app, RunFilter { agent, status, revision, limit, before: cursor }).await
}

/// The runs that the filter asks for, and where the next page begins.
async fn page(app: &App, mut filter: RunFilter) -> Result<Answer<RunPage>, Problem> {
    let limit = filter.limit as usize;
    filter.limit += 1;
    let found = app.service().list(filter).await?;
    let (items, next) = page_of(found, limit, |run| run.id.clone());
    Ok(Answer(RunPage { items, next }))
}

/// Get a run
#[utoipa::path(
    get, path = "/runs/{runId}", tag = "runs", operation_id = "getRun",
    params(("runId" = String, Path, description = "Its id, or a beginning of it"), Wait),
    responses((status = 200, body = RunView)),
)]
pub async fn get(
    State(app): State<App>,
    _: Reader,
    Path(run): Path<String>,
    Query(query): Query<Wait>,
) -> Result<Answer<RunView>, Problem> {
    let wait = check_wait(query.wait)?;
    let service = app.service();
    let run = service.row(&run)?.id;
    Ok(Answer(view(&app, service.subscribe(&run), wait).await?))
}

/// The run as it is, or when it has ended, if somebody waits for that.
async fn view(
    app: &App,
    watching: Subscription,
    wait: Option<Duration>,
) -> Result<RunView, Problem> {
    let (service, run) = (app.service(), watching.run().to_owned());
    Ok(match wait {
        None => service.view(&run)?,
        Some(wait) => tokio::select! {
            view = service.wait_for_end(watching, wait) => view?,
            () = app.stopped() => service.view(&run)?,
        },
    })
}

/// Cancel a run
///
/// It ends as soon as its guest can be stopped. A run that has ended stays as it is.
#[utoipa::path(
    post, path = "/runs/{runId}/cancel", tag = "runs", operation_id = "cancelRun",
    params(("runId" = String, Path, description = "Its id, or a beginning of it")),
    responses((status = 200, body = RunView)),
)]
pub async fn cancel(
    State(app): State<App>,
    _: Runner,
    Path(run): Path<String>,
) -> Result<Answer<RunView>, Problem> {
    let service = app.service();
    let run = service.row(&run)?.id;
    service.cancel(&run).await?;
    Ok(Answer(service.view(&run)?))
}

/// Run a run again from its journal alone
///
/// Nothing is called, and nothing is recorded: the answer tells whether every entry was
/// made again, or where the first difference is.
#[utoipa::path(
    post, path = "/runs/{runId}/replay", tag = "runs", operation_id = "replayRun",
    params(("runId" = String, Path, description = "Its id, or a beginning of it")),
    responses((status = 200, body = ProofView)),
)]
pub async fn replay(
    State(app): State<App>,
    _: Runner,
    Path(run): Path<String>,
) -> Result<Answer<ProofView>, Problem> {
    let service = app.service();
    let run = service.row(&run)?.id;
    Ok(Answer(service.replay(&run).await?.view()))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForkRun {
    /// Number of the last entry of the journal that is shared.
    at: u64,
    /// Id of another revision of the agent that goes on, or a beginning of it.
    #[schema(pattern = "^(sha256:)?[0-9a-fA-F]{1,64}$")]
    revision: Option<String>,
    /// Replaces the answer of a tool that entry `at` holds.
    #[schema(value_type = Option<Value>)]
    set_result: Option<Box<RawValue>>,
}

/// Start a run that shares the beginning of this one and goes on by itself
///
/// What is shared is not done again: its calls are answered from the record. `Idempotency-Key`
/// works as it does for new runs.
#[utoipa::path(
    post, path = "/runs/{runId}/fork", tag = "runs", operation_id = "forkRun",
    params(
        ("runId" = String, Path, description = "Its id, or a beginning of it"), Wait,
        ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, up to 255 visible characters", max_length = 255, pattern = "^[!-~]+$"),
    ),
    request_body = ForkRun,
    responses(
        (status = 201, description = "The fork", body = RunView),
        (status = 200, description = "The same request had started it", body = RunView),
    ),
)]
pub async fn fork(
    State(app): State<App>,
    Runner(client): Runner,
    Path(run): Path<String>,
    Query(query): Query<Wait>,
    headers: HeaderMap,
    Json { value, bytes }: Json<ForkRun>,
) -> Result<(StatusCode, Answer<RunView>), Problem> {
    let wait = check_wait(query.wait)?;
    let run = app.service().row(&run)?.id;
    let submission = submission(client, &headers, &[b"fork", run.as_bytes(), &bytes])?;
    let ForkRun { at, revision, set_result } = value;
    let set_result = match set_result {
        Some(result) => Some(Recorded::parse(result.get()).map_err(|error| {
            Problem::bad_request("bad-json", format!("`setResult` is {error}"))
        })?),
        None => None,
    };
    let ask = AskFork { run, at, revision, set_result, submission };
    let submitted = app.service().fork(ask).await?;
    submitted_run(&app, submitted, wait).await
}

/// The run that a request made, when it may be answered.
async fn submitted_run(
    app: &App,
    submitted: Submitted,
    wait: Option<Duration>,
) -> Result<(StatusCode, Answer<RunView>), Problem> {
    let Submitted { watching, is_new, .. } = submitted;
    let view = view(app, watching, wait).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Answer(view)))
}

/// A run and its revision as one file, which `reenact replay` proves anywhere
#[utoipa::path(
    get, path = "/runs/{runId}/export", tag = "runs", operation_id = "exportRun",
    params(("runId" = String, Path, description = "Its id, or a beginning of it")),
    responses((status = 200, body = Binary, content_type = "application/x-tar")),
)]
pub async fn export(
    State(app): State<App>,
    _: Reader,
    Path(run): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let service = app.service();
    let run = service.row(&run)?.id;
    let bytes = service.export(&run).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{run}.reenact\"")),
    ];
    Ok((headers, Bytes::from(bytes)))
}

//! Routes of revisions.

use std::time::Duration;

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::{Publisher, Reader};
use super::extract::{self, Binary, Path, Query};
use super::paging::{check_limit, fifty, page_of};
use super::{App, Problem};
use crate::service::{DiffView, Publish, RevisionView};

const WASM: &str = "application/wasm";

/// Revisions, the newest first, a page at a time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListRevisions {
    /// How many at most.
    #[serde(default = "fifty")]
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: u32,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RevisionPage {
    items: Vec<RevisionView>,
    /// The `cursor` of the next page; null on the last one.
    next: Option<String>,
}

/// List an agent's revisions
#[utoipa::path(
    get, path = "/agents/{agentId}/revisions", tag = "agents", operation_id = "listRevisions",
    params(("agentId" = String, Path), ListRevisions),
    responses((status = 200, body = RevisionPage)),
)]
pub async fn list(
    State(app): State<App>,
    _: Reader,
    Path(agent): Path<String>,
    Query(query): Query<ListRevisions>,
) -> Result<Answer<RevisionPage>, Problem> {
    let limit = check_limit(query.limit)? as usize;
    let after = query.cursor.as_deref();
    let found = app.service().revisions(&agent, after, limit + 1).await?;
    let (items, next) = page_of(found, limit, |revision| revision.id.clone());
    Ok(Answer(RevisionPage { items, next }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Upload {
    /// Make it the published revision too.
    #[serde(default)]
    #[param(default = false)]
    publish: bool,
    /// Publish it also if it asks for more tools than the published one.
    #[serde(default)]
    #[param(default = false)]
    allow_new_tools: bool,
}

/// Upload a sealed component
///
/// It is compiled before it is stored. The same file again is the same revision.
#[utoipa::path(
    post, path = "/agents/{agentId}/revisions", tag = "agents", operation_id = "uploadRevision",
    params(("agentId" = String, Path), Upload),
    request_body(content = Binary, content_type = "application/wasm"),
    responses(
        (status = 201, description = "It is new", body = RevisionView),
        (status = 200, description = "It was there already", body = RevisionView),
    ),
)]
pub async fn upload(
    State(app): State<App>,
    _: Publisher,
    Path(agent): Path<String>,
    Query(query): Query<Upload>,
    request: Request,
) -> Result<(StatusCode, Answer<RevisionView>), Problem> {
    extract::check_type(request.headers(), WASM)?;
    let config = &app.0.config;
    let Ok(_place) = app.0.uploads.try_acquire() else {
        let detail = "other uploads are under way";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Err(
            Problem::new(status, "too-many-uploads", detail).with_header("retry-after", "5")
        );
    };
    let timeout = Duration::from_millis(config.upload_timeout_ms);
    let bytes = extract::read(request, config.upload_bytes, timeout).await?;
    let Upload { publish, allow_new_tools } = query;
    let how = Publish { publish, allow_new_tools };
    let (view, is_new) = app.service().upload(&agent, bytes, how).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Answer(view)))
}

/// Get a revision
#[utoipa::path(
    get, path = "/agents/{agentId}/revisions/{revisionId}", tag = "agents",
    operation_id = "getRevision",
    params(("agentId" = String, Path), ("revisionId" = String, Path, description = "Its id, or a beginning of it", pattern = "^(sha256:)?[0-9a-fA-F]{1,64}$")),
    responses((status = 200, body = RevisionView)),
)]
pub async fn get(
    State(app): State<App>,
    _: Reader,
    Path((agent, revision)): Path<(String, String)>,
) -> Result<Answer<RevisionView>, Problem> {
    Ok(Answer(app.service().revision(&agent, &revision)?))
}

/// Download a revision: the sealed component
#[utoipa::path(
    get, path = "/agents/{agentId}/revisions/{revisionId}/component", tag = "agents",
    operation_id = "downloadRevision",
    params(("agentId" = String, Path), ("revisionId" = String, Path, description = "Its id, or a beginning of it", pattern = "^(sha256:)?[0-9a-fA-F]{1,64}$")),
    responses((status = 200, body = Binary, content_type = "application/wasm")),
)]
pub async fn download(
    State(app): State<App>,
    _: Reader,
    Path((agent, revision)): Path<(String, String)>,
) -> Result<impl IntoResponse, Problem> {
    let (digest, bytes) = app.service().download(&agent, &revision).await?;
    let headers = [
        (header::CONTENT_TYPE, WASM.to_owned()),
        (header::ETAG, format!("\"{digest}\"")),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{agent}.wasm\"")),
    ];
    Ok((headers, Bytes::from(bytes)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Against {
    /// Id of the revision to compare it with, or a beginning of it: the older one.
    #[param(pattern = "^(sha256:)?[0-9a-fA-F]{1,64}$")]
    from: String,
}

/// What changed between the manifests of two revisions
#[utoipa::path(
    get, path = "/agents/{agentId}/revisions/{revisionId}/diff", tag = "agents",
    operation_id = "diffRevisions",
    params(
        ("agentId" = String, Path),
        ("revisionId" = String, Path, description = "Its id, or a beginning of it: the newer one", pattern = "^(sha256:)?[0-9a-fA-F]{1,64}$"),
        Against,
    ),
    responses((status = 200, body = DiffView)),
)]
pub async fn diff(
    State(app): State<App>,
    _: Reader,
    Path((agent, revision)): Path<(String, String)>,
    Query(query): Query<Against>,
) -> Result<Answer<DiffView>, Problem> {
    Ok(Answer(app.service().diff(&agent, &query.from, &revision)?))
}

//! Routes of agents.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::{Publisher, Reader};
use super::extract::{Json, Path, Query};
use super::paging::{check_limit, fifty, page_of};
use super::{App, Problem};
use crate::registry::AgentEdit;
use crate::service::{AgentView, RevisionView};

/// Bytes of a name or a description that people give an agent.
const MAX_NAME: usize = 200;
const MAX_DESCRIPTION: usize = 10_000;

/// Agents by id, a page at a time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAgents {
    /// How many at most.
    #[serde(default = "fifty")]
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: u32,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AgentPage {
    items: Vec<AgentView>,
    /// The `cursor` of the next page; null on the last one.
    next: Option<String>,
}

/// List the agents
#[utoipa::path(
    get, path = "/agents", tag = "agents", operation_id = "listAgents",
    params(ListAgents), responses((status = 200, body = AgentPage)),
)]
pub async fn list(
    State(app): State<App>,
    _: Reader,
    Query(query): Query<ListAgents>,
) -> Result<Answer<AgentPage>, Problem> {
    let limit = check_limit(query.limit)?;
    let after = query.cursor.unwrap_or_default();
    let found = app.service().agents(&after, limit + 1).await?;
    let (items, next) = page_of(found, limit as usize, |agent| agent.id.clone());
    Ok(Answer(AgentPage { items, next }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAgent {
    /// Lower-case letters, digits and hyphens: the name that its manifests will have.
    #[schema(pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length = 63)]
    id: String,
    /// What people call it.
    #[schema(max_length = 200)]
    name: Option<String>,
    #[schema(max_length = 10000)]
    description: Option<String>,
}

/// Create an agent that has no revision yet
///
/// Uploading a revision creates its agent too.
#[utoipa::path(
    post, path = "/agents", tag = "agents", operation_id = "createAgent",
    request_body = NewAgent, responses((status = 201, body = AgentView)),
)]
pub async fn create(
    State(app): State<App>,
    _: Publisher,
    Json { value, .. }: Json<NewAgent>,
) -> Result<(StatusCode, Answer<AgentView>), Problem> {
    let edit = edit(value.name, value.description)?;
    Ok((StatusCode::CREATED, Answer(app.service().create_agent(&value.id, edit).await?)))
}

/// Get an agent
#[utoipa::path(
    get, path = "/agents/{agentId}", tag = "agents", operation_id = "getAgent",
    params(("agentId" = String, Path)), responses((status = 200, body = AgentView)),
)]
pub async fn get(
    State(app): State<App>,
    _: Reader,
    Path(agent): Path<String>,
) -> Result<Answer<AgentView>, Problem> {
    Ok(Answer(app.service().agent(&agent)?))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EditAgent {
    /// What people call it; left as it is if it is absent.
    #[schema(max_length = 200)]
    name: Option<String>,
    /// Left as it is if it is absent.
    #[schema(max_length = 10000)]
    description: Option<String>,
}

/// Change what an agent is called and said to be
///
/// This makes no new revision.
#[utoipa::path(
    patch, path = "/agents/{agentId}", tag = "agents", operation_id = "updateAgent",
    params(("agentId" = String, Path)), request_body = EditAgent,
    responses((status = 200, body = AgentView)),
)]
pub async fn update(
    State(app): State<App>,
    _: Publisher,
    Path(agent): Path<String>,
    Json { value, .. }: Json<EditAgent>,
) -> Result<Answer<AgentView>, Problem> {
    let edit = edit(value.name, value.description)?;
    Ok(Answer(app.service().edit_agent(&agent, edit).await?))
}

fn edit(title: Option<String>, description: Option<String>) -> Result<AgentEdit, Problem> {
    for (name, text, most) in
        [("name", &title, MAX_NAME), ("description", &description, MAX_DESCRIPTION)]
    {
        let characters = text.as_ref().map_or(0, |text| text.chars().count());
        if characters > most {
            let detail = format!("`{name}` has {characters} characters, at most {most} are taken");
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(Problem::new(status, "invalid-body", detail));
        }
    }
    Ok(AgentEdit { title, description })
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishRevision {
    /// Id of the revision, or a beginning of it that no other one has.
    #[schema(pattern = "^(sha256:)?[0-9a-fA-F]{1,64}$")]
    revision: String,
    /// Publish it also if it asks for more tools than the published one.
    #[serde(default)]
    allow_new_tools: bool,
}

/// Make a stored revision the published one
///
/// An older revision again is the way back from a newer one.
#[utoipa::path(
    post, path = "/agents/{agentId}/publish", tag = "agents", operation_id = "publishRevision",
    params(("agentId" = String, Path)), request_body = PublishRevision,
    responses((status = 200, body = RevisionView)),
)]
pub async fn publish(
    State(app): State<App>,
    _: Publisher,
    Path(agent): Path<String>,
    Json { value, .. }: Json<PublishRevision>,
) -> Result<Answer<RevisionView>, Problem> {
    let PublishRevision { revision, allow_new_tools } = value;
    Ok(Answer(app.service().publish(&agent, &revision, allow_new_tools).await?))
}

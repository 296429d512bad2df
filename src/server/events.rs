//! Routes of events: pages of them, and the stream.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Reader;
use super::extract::{Path, Query};
use super::paging::{check_limit, fifty};
use super::{App, Problem};
use crate::service::events::{ApiEvent, Update};
use crate::service::read::Watch;

/// More events than a run can have.
const MAX_OFFSET: u32 = 10_000_000;

const STREAM: &str = "text/event-stream";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListEvents {
    /// How many at most.
    #[serde(default = "fifty")]
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: u32,
    /// How many to leave out at the beginning.
    #[serde(default)]
    #[param(minimum = 0, maximum = 10000000, default = 0)]
    offset: u32,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct EventPage {
    /// In the order in which they began, each in its newest state.
    items: Vec<ApiEvent>,
    /// The `offset` of the next page; null on the last one.
    next: Option<u64>,
}

/// List a run's events, or follow them
///
/// With `Accept: text/event-stream` they come as server-sent events while the run goes on.
/// The `id` of each is a number in the run's journal; a stream that is opened again with
/// it as `Last-Event-ID` goes on right after it. An event that takes time comes twice: when
/// it begins and when it has finished. The last one has the name `end`.
#[utoipa::path(
    get, path = "/runs/{runId}/events", tag = "runs", operation_id = "listEvents",
    params(
        ("runId" = String, Path, description = "Its id, or a beginning of it"), ListEvents,
    ),
    responses(
        (status = 200, content((EventPage = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "The stream had come to its end"),
    ),
)]
pub async fn of_run(
    State(app): State<App>,
    _: Reader,
    Path(run): Path<String>,
    Query(query): Query<ListEvents>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    events(app, None, &run, &query, &headers).await
}

/// List the events of an agent's run, or follow them
///
/// The same as `/runs/{runId}/events`, for a run of this agent.
#[utoipa::path(
    get, path = "/agents/{agentId}/runs/{runId}/events", tag = "runs",
    operation_id = "listAgentsEvents",
    params(
        ("agentId" = String, Path),
        ("runId" = String, Path, description = "Its id, or a beginning of it"), ListEvents,
    ),
    responses(
        (status = 200, content((EventPage = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "The stream had come to its end"),
    ),
)]
pub async fn of_agents_run(
    State(app): State<App>,
    _: Reader,
    Path((agent, run)): Path<(String, String)>,
    Query(query): Query<ListEvents>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    events(app, Some(&agent), &run, &query, &headers).await
}

async fn events(
    app: App,
    agent: Option<&str>,
    run: &str,
    query: &ListEvents,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let limit = check_limit(query.limit)?;
    if query.offset > MAX_OFFSET {
        let detail = format!("`offset` is `{}`, but must be at most {MAX_OFFSET}", query.offset);
        return Err(Problem::bad_request("bad-query", detail));
    }
    let service = app.service();
    let row = service.row(run)?;
    if let Some(agent) = agent.filter(|agent| *agent != row.agent) {
        let detail = format!("agent `{agent}` has no run `{run}`");
        return Err(Problem::not_found("unknown-run", detail));
    }
    if !wants_stream(headers) {
        let offset = query.offset as usize;
        let (items, are_more) = service.events(&row.id, offset, limit as usize).await?;
        let next = are_more.then_some(u64::from(query.offset) + u64::from(limit));
        return Ok(Answer(EventPage { items, next }).into_response());
    }
    let last = last_event(headers)?;
    if row.status.has_ended() && last.is_some_and(|last| last.saturating_add(1) >= row.entries) {
        // A browser does not ask again after this.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let watch = service.watch(&row.id, last);
    let heartbeat = Duration::from_millis(app.0.config.heartbeat_ms);
    let alive = KeepAlive::new().interval(heartbeat).text("alive");
    let mut response = Sse::new(follow(app, watch)).keep_alive(alive).into_response();
    // A proxy that collects answers would hold events back.
    let off = axum::http::HeaderValue::from_static("no");
    response.headers_mut().insert("x-accel-buffering", off);
    Ok(response)
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|accepted| accepted.split(','));
    kinds.any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(STREAM))
}

fn last_event(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|value| value.trim().parse().ok());
    match number {
        Some(number) => Ok(Some(number)),
        None => {
            let detail = "`Last-Event-ID` is not the id of an event: those are numbers";
            Err(Problem::bad_request("bad-last-event-id", detail))
        }
    }
}

struct Following {
    app: App,
    watch: Watch,
    ready: std::vec::IntoIter<Update>,
    is_over: bool,
}

/// The events as they become durable, until the run ends or the server stops. Nothing is
/// read before the client has taken what came before it.
fn follow(app: App, watch: Watch) -> impl Stream<Item = Result<Event, Infallible>> {
    let following = Following { app, watch, ready: Vec::new().into_iter(), is_over: false };
    stream::unfold(following, |mut following| async move {
        loop {
            if following.is_over {
                return None;
            }
            if let Some(update) = following.ready.next() {
                following.is_over = update.terminal;
                return Some((Ok(event(&update)), following));
            }
            match following.watch.read().await {
                Ok(updates) if updates.is_empty() => tokio::select! {
                    () = following.watch.changed() => {}
                    () = following.app.stopped() => return None,
                },
                Ok(updates) => following.ready = updates.into_iter(),
                Err(error) => {
                    // What has been sent stays true; the client may ask again.
                    tracing::warn!("a stream of events broke off: {error}");
                    return None;
                }
            }
        }
    })
}

fn event(update: &Update) -> Event {
    let event = Event::default().id(update.seq.to_string());
    let event = if update.terminal { event.event("end") } else { event };
    let data = serde_json::to_string(&update.event).unwrap_or_default();
    event.data(data)
}

//! All routes, what holds for each of them, and the document that describes them.

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, schema::Schema};
use utoipa::{OpenApi as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{App, Problem, agents, approvals, events, operations, problem, revisions, runs};

/// What the paths of the API begin with.
pub const VERSION: &str = "/v0.1";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Reenact",
        description = "Agents, revisions and runs of a machine that serves them.",
    ),
    components(schemas(Problem)),
    security(("bearer" = []), ("apiKey" = [])),
    tags(
        (name = "runs", description = "Start runs, follow them, prove them"),
        (name = "agents", description = "Agents and their revisions"),
    ),
)]
struct Document;

fn api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(agents::list, agents::create))
        .routes(routes!(agents::get, agents::update))
        .routes(routes!(agents::publish))
        .routes(routes!(revisions::list, revisions::upload))
        .routes(routes!(revisions::get))
        .routes(routes!(revisions::download))
        .routes(routes!(revisions::diff))
        .routes(routes!(runs::list, runs::start))
        .routes(routes!(runs::list_all))
        .routes(routes!(runs::get))
        .routes(routes!(runs::cancel))
        .routes(routes!(approvals::approve))
        .routes(routes!(approvals::list))
        .routes(routes!(runs::replay))
        .routes(routes!(runs::fork))
        .routes(routes!(runs::export))
        .routes(routes!(events::of_run))
        .routes(routes!(events::of_agents_run))
}

fn parts() -> (Router<App>, OpenApi) {
    let (router, mut document) =
        OpenApiRouter::with_openapi(Document::openapi()).nest(VERSION, api()).split_for_parts();
    describe_problems(&mut document);
    (router, document)
}

/// The document that describes the API (OpenAPI 3.1).
pub fn openapi() -> OpenApi {
    parts().1
}

/// Says once and for all that whatever is refused is a problem, and how a key is sent.
fn describe_problems(document: &mut OpenApi) {
    let content = ContentBuilder::new()
        .schema(Some(RefOr::<Schema>::Ref(Ref::from_schema_name(Problem::name()))))
        .build();
    let response = ResponseBuilder::new()
        .description("Why it was not done (RFC 9457)")
        .content(problem::MEDIA_TYPE, content)
        .build();
    for item in document.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.post, &mut item.patch, &mut item.put, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let answer = RefOr::T(response.clone());
            operation.responses.responses.insert("default".to_owned(), answer);
        }
    }
    let components = document.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
    components.add_security_scheme("bearer", bearer);
    components.add_security_scheme("apiKey", header);
}

/// Everything that is served.
pub fn router(app: App) -> Router {
    let (api, document) = parts();
    let text = document.to_json().unwrap_or_default();
    let document = move || {
        let text = text.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], text) }
    };
    api.route("/openapi.json", axum::routing::get(document))
        .merge(operations::router())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn(guard))
        .with_state(app)
}

async fn unknown_route(uri: Uri) -> Problem {
    let hint = "`/openapi.json` lists all routes".to_owned();
    Problem::not_found("unknown-route", format!("there is no route `{}`", uri.path()))
        .with_hint(Some(hint))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("`{}` does not take `{method}`", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}

/// Logs requests, and answers with a problem where a handler panics: that is a bug, and
/// costs its own request only.
async fn guard(request: Request, next: Next) -> Response {
    use futures::FutureExt;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begun = std::time::Instant::now();
    let answered = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = answered.unwrap_or_else(|_| {
        let detail = "the server could not do this; its log says why";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", detail).into_response()
    });
    let ms = begun.elapsed().as_millis() as u64;
    tracing::debug!(%method, path, status = response.status().as_u16(), ms, "answered");
    response
}

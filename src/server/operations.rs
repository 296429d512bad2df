//! What operators ask: is it alive, is it ready, what does it count.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::auth::Reader;
use super::{App, Problem};

pub fn router() -> Router<App> {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// The process runs and answers.
async fn alive() -> &'static str {
    "ok\n"
}

/// It takes runs: it is not stopping, and its database answers.
async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    if app.is_stopping() {
        let detail = "the server is stopping";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail));
    }
    app.service().storage().has_keys()?;
    Ok("ready\n")
}

async fn metrics(State(app): State<App>, _: Reader) -> Result<impl IntoResponse, Problem> {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, TYPE)], app.service().metrics()?))
}

//! Taking requests apart: every refusal is a problem.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::{App, Problem};

/// Path parameters.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub struct Path<T>(pub T);

/// Query parameters; unknown ones are refused by their types.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub struct Query<T>(pub T);

/// A JSON body, and the bytes that it came as.
pub struct Json<T> {
    pub value: T,
    pub bytes: Bytes,
}

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        check_type(request.headers(), "application/json")?;
        let config = &app.0.config;
        let timeout = Duration::from_millis(config.request_timeout_ms);
        let bytes = read(request, config.body_bytes, timeout).await?;
        // A list of the members' values would be taken for the object too.
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        if first.is_some_and(|first| b"[\"tfn-0123456789".contains(first)) {
            let detail = "the body is not an object";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", detail));
        }
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            use serde_json::error::Category;
            let detail = format!("the body is not what is expected: {error}");
            match error.classify() {
                Category::Data => {
                    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", detail)
                }
                _ => Problem::bad_request("bad-json", format!("the body is not JSON: {error}")),
            }
        })?;
        Ok(Self { value, bytes: bytes.into() })
    }
}

/// Refuses a body of another type than the one that is expected.
pub fn check_type(headers: &HeaderMap, expected: &str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let detail = match given {
        Some(given) => format!("the body is `{given}`, expected `{expected}`"),
        None => format!("the request says no `Content-Type`, expected `{expected}`"),
    };
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail))
}

/// The whole body, if it has at most `limit` bytes and comes in time.
pub async fn read(request: Request, limit: usize, timeout: Duration) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        let detail = format!("the body has more than {limit} bytes");
        // What is left of it is not read, so the connection is of no more use.
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
            .with_header("connection", "close")
    };
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let mut body: Body = request.into_body();
    if length.is_some_and(|length| length > limit as u64) {
        drain(&mut body).await;
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(length.unwrap_or(0) as usize);
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Problem::bad_request("broken-body", format!("the body broke off: {error}"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > limit {
                bytes = Vec::new();
                drain(&mut body).await;
                return Err(too_large());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(())
    };
    match tokio::time::timeout(timeout, reading).await {
        Ok(result) => result?,
        Err(_) => {
            let ms = timeout.as_millis();
            let detail = format!("the body did not come within {ms} ms");
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", detail)
                .with_header("connection", "close"));
        }
    }
    Ok(bytes)
}

/// Reads on for a while without keeping anything: a client that is still sending would
/// find the connection broken instead of an answer.
async fn drain(body: &mut Body) {
    const MOST: usize = 128 << 20;
    const LONGEST: Duration = Duration::from_secs(2);
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len());
            if read > MOST {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(LONGEST, reading).await;
}

/// Bytes of a body that is no JSON, for the document.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only described")]
pub struct Binary(Vec<u8>);

//! MCP over streamable HTTP.
//!
//! `rmcp` speaks it and bounds what it reads; what is added here is an answer
//! where a call would else learn nothing but that its answer did not come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderName, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, RequestId};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
    StreamableHttpPostResponse, StreamableHttpResponseLimits,
};
use sse_stream::Sse;
use url::Url;

use super::scan::{self, MAX_MESSAGE};

/// Until a server has accepted a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Redirections within the server, such as to the same address with a slash.
const MAX_REDIRECTS: usize = 3;

/// Bytes of a page that stands where an answer should.
const MAX_ERROR_PAGE: usize = 4 << 10;

/// Headers that are this side's to set. Configurations of other programs name
/// some of them.
const OURS: [&str; 4] = ["accept", "mcp-session-id", "mcp-protocol-version", "last-event-id"];

/// Where a server is, and what it wants to see.
pub struct Endpoint {
    url: Url,
    headers: HashMap<HeaderName, HeaderValue>,
    /// The address as it is written, for messages.
    pub shown: String,
}

impl Endpoint {
    /// The error ends the sentence that begins with the server's name.
    pub fn new(url: &str, headers: Vec<(String, String)>, shown: String) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|cause| format!("has an unusable `url`: {cause}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("has a `url` that is neither `http` nor `https`".to_owned());
        }
        let mut checked = HashMap::new();
        for (name, value) in headers {
            let Ok(name) = name.parse::<HeaderName>() else {
                return Err(format!("has `{name}` in `headers`, which no header can be named"));
            };
            if OURS.contains(&name.as_str()) {
                continue;
            }
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| format!("has a value of `headers.{name}` that no header can have"))?;
            value.set_sensitive(true);
            checked.insert(name, value);
        }
        Ok(Self { url, headers: checked, shown })
    }

    pub fn transport(&self) -> Result<StreamableHttpClientTransport<Bounded>, String> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::custom(stay))
            .build()
            .map_err(|cause| format!("cannot be reached: {cause}"))?;
        let config = StreamableHttpClientTransportConfig::with_uri(self.url.as_str())
            .custom_headers(self.headers.clone())
            .max_sse_event_size(MAX_MESSAGE)
            .max_json_response_size(MAX_MESSAGE)
            .max_error_response_size(MAX_ERROR_PAGE);
        Ok(StreamableHttpClientTransport::with_client(Bounded(client), config))
    }
}

/// Follows redirections within the server only: the headers are secrets.
fn stay(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let (next, previous) = (attempt.url(), attempt.previous());
    let stays = previous.last().is_some_and(|last| last.origin() == next.origin());
    if stays && previous.len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
}

/// The error without the address, in which there may be a secret.
fn nameless(error: StreamableHttpError<reqwest::Error>) -> StreamableHttpError<reqwest::Error> {
    match error {
        StreamableHttpError::Client(error) => StreamableHttpError::Client(error.without_url()),
        other => other,
    }
}

/// A client of HTTP that answers in the server's place when the server answers
/// too much.
#[derive(Clone)]
pub struct Bounded(reqwest::Client);

/// An event, or what stands for it if it is too large or holds too much.
fn bounded(event: Result<Sse, SseError>, id: &RequestId) -> Result<Sse, SseError> {
    let is_too_large = match &event {
        Ok(event) => event.data.as_ref().is_some_and(|data| scan::check(data.as_bytes()).is_err()),
        // The limit on events is no type that can be named.
        Err(SseError::Body(cause)) => cause.to_string().contains("exceeded the maximum size"),
        Err(_) => false,
    };
    if !is_too_large {
        return event;
    }
    let answer = serde_json::to_string(&scan::too_large(id.clone())).unwrap_or_default();
    Ok(Sse::default().data(answer))
}

impl StreamableHttpClient for Bounded {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<reqwest::Error>> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session, auth, headers, limits).await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<reqwest::Error>> {
        let id = match &message {
            JsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let posted = self
            .0
            .post_message_with_response_limits(uri, message, session, auth, headers, limits)
            .await;
        match (posted, id) {
            (Err(StreamableHttpError::ResponseBodyTooLarge { .. }), Some(id)) => {
                Ok(StreamableHttpPostResponse::Json(scan::too_large(id), None))
            }
            (Ok(StreamableHttpPostResponse::Sse(events, session)), Some(id)) => {
                let events = events.map(move |event| bounded(event, &id));
                Ok(StreamableHttpPostResponse::Sse(events.boxed(), session))
            }
            (posted, _) => posted.map_err(nameless),
        }
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, StreamableHttpError<reqwest::Error>>
    {
        self.get_stream_with_max_sse_event_size(
            uri,
            session,
            last_event,
            auth,
            headers,
            MAX_MESSAGE,
        )
        .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        max: usize,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, StreamableHttpError<reqwest::Error>>
    {
        self.0
            .get_stream_with_max_sse_event_size(uri, session, last_event, auth, headers, max)
            .await
            .map_err(nameless)
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), StreamableHttpError<reqwest::Error>> {
        self.0.delete_session(uri, session, auth, headers).await.map_err(nameless)
    }
}

//! The way between genai and the providers, on which answers are kept in bounds.
//!
//! genai speaks the providers' APIs, but reads whatever a server sends: an error's
//! whole body, a line without end. It takes an HTTP client, yet none can be put
//! before it that bounds what it reads. So genai is connected to a Unix socket in
//! a folder that only this user can enter, and what it sends there is passed on to
//! the provider from here, where the answer is counted while it is read. Here is
//! also where the key is put into the request; genai never has it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use url::Url;

use super::fault::{Fault, cause, retry_after};
use super::gauge::Gauge;
use super::request::Amendment;
use super::settings::Provider;

/// Names the exchange that a request of genai's belongs to.
pub(super) const EXCHANGE: &str = "x-reenact-exchange";
/// What genai may say to a provider besides the body.
const PASSED: [HeaderName; 3] =
    [CONTENT_TYPE, ACCEPT, HeaderName::from_static("anthropic-version")];
/// A provider that cannot be reached is tried again; it should not take long.
const CONNECT: Duration = Duration::from_secs(15);
/// Of the body of an error.
const MAX_ERROR_BODY: usize = 64 << 10;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A running relay. It ends when it is dropped.
pub(super) struct Relay {
    pub client: genai::Client,
    switchboard: Arc<Switchboard>,
    accepting: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// Which requests are expected, and the client that passes them on.
struct Switchboard {
    upstream: reqwest::Client,
    next: AtomicU64,
    exchanges: Mutex<BTreeMap<u64, Arc<Exchange>>>,
}

/// One request to a provider, and what became of it.
struct Exchange {
    base_url: Url,
    key: Option<(HeaderName, HeaderValue)>,
    amendments: Vec<Amendment>,
    gauge: Gauge,
    fault: Mutex<Option<Fault>>,
}

/// A place for one request; it is gone when this is dropped.
pub(super) struct Place<'a> {
    pub id: u64,
    exchange: Arc<Exchange>,
    switchboard: &'a Switchboard,
}

impl Relay {
    /// Needs a tokio runtime.
    pub fn start() -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("reenact-")
            .tempdir()
            .map_err(|cause| format!("cannot make a folder: {cause}"))?;
        let path = folder.path().join("genai");
        let listener = UnixListener::bind(&path)
            .map_err(|cause| format!("cannot listen at `{}`: {cause}", path.display()))?;
        let broken = |error| format!("cannot set up HTTP: {}", cause(error));
        let inner = reqwest::Client::builder().unix_socket(path).no_proxy().no_gzip().build();
        let upstream = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            // Where a provider sends us is not where the operator wanted the key to go.
            .redirect(reqwest::redirect::Policy::none())
            // What is counted should be what is read.
            .no_gzip()
            .build();
        let client = genai::Client::builder().with_reqwest(inner.map_err(broken)?).build();
        let client = client.map_err(|cause| format!("cannot set up genai: {cause}"))?;
        let switchboard = Arc::new(Switchboard {
            upstream: upstream.map_err(broken)?,
            next: AtomicU64::new(1),
            exchanges: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, switchboard.clone()));
        Ok(Self { client, switchboard, accepting, _folder: folder })
    }

    /// Expects one request to `provider`.
    pub fn expect(&self, provider: &Provider, amendments: Vec<Amendment>) -> Place<'_> {
        let exchange = Arc::new(Exchange {
            base_url: provider.base_url.clone(),
            key: provider.key.clone(),
            amendments,
            gauge: Gauge::new(provider.adapter.framing()),
            fault: Mutex::default(),
        });
        let switchboard = &*self.switchboard;
        let id = switchboard.next.fetch_add(1, Ordering::Relaxed);
        switchboard.exchanges().insert(id, exchange.clone());
        Place { id, exchange, switchboard }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Place<'_> {
    /// What went wrong, which genai cannot tell as well.
    pub fn fault(&self) -> Option<Fault> {
        self.exchange.fault().clone()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.switchboard.exchanges().remove(&self.id);
    }
}

impl Switchboard {
    fn exchanges(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Exchange>>> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, headers: &HeaderMap) -> Option<Arc<Exchange>> {
        let id = headers.get(EXCHANGE)?.to_str().ok()?.parse().ok()?;
        self.exchanges().get(&id).cloned()
    }

    async fn pass_on(&self, request: http::Request<Incoming>) -> Response<Body> {
        let Some(exchange) = self.find(request.headers()) else {
            return nothing(StatusCode::NOT_FOUND);
        };
        match exchange.pass_on(&self.upstream, request).await {
            Ok(response) => response,
            Err(fault) => {
                exchange.fail(fault);
                nothing(StatusCode::BAD_GATEWAY)
            }
        }
    }
}

async fn accept(listener: UnixListener, switchboard: Arc<Switchboard>) {
    // An error here is one of the connection that was to come, or too many open
    // files; both pass.
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, switchboard.clone()))),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(stream: UnixStream, switchboard: Arc<Switchboard>) {
    let service = service_fn(move |request| {
        let switchboard = switchboard.clone();
        async move { Ok::<_, Infallible>(switchboard.pass_on(request).await) }
    });
    // How it ended is for genai to see, at the other end. When genai hangs up, the
    // request to the provider is dropped with the connection.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Exchange {
    fn fault(&self) -> MutexGuard<'_, Option<Fault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, fault: Fault) {
        self.fault().get_or_insert(fault);
    }

    async fn pass_on(
        self: &Arc<Self>,
        upstream: &reqwest::Client,
        request: http::Request<Incoming>,
    ) -> Result<Response<Body>, Fault> {
        let (parts, body) = request.into_parts();
        let strange = |what: &str| Fault::Nonsense { what: what.to_owned() };
        let body = body.collect().await.map_err(|_| strange("the request was cut"))?.to_bytes();
        let mut headers: HeaderMap = PASSED
            .iter()
            .filter_map(|name| Some((name.clone(), parts.headers.get(name)?.clone())))
            .collect();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.extend(self.key.clone());
        let target = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let url = self.base_url.join(target.trim_start_matches('/'));
        let url = url.map_err(|_| strange("the model has no address"))?;
        let sent = upstream.post(url).headers(headers).body(self.amend(body)?).send().await;
        let response = sent.map_err(|error| Fault::Silent { cause: cause(error) })?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        self.check_type(response.headers())?;
        Ok(self.clone().bounded(response))
    }

    fn amend(&self, body: Bytes) -> Result<Vec<u8>, Fault> {
        if self.amendments.is_empty() {
            return Ok(body.into());
        }
        let unreadable = |cause: serde_json::Error| Fault::Nonsense { what: cause.to_string() };
        let mut value = serde_json::from_slice(&body).map_err(unreadable)?;
        self.amendments.iter().for_each(|amendment| amendment.make(&mut value));
        serde_json::to_vec(&value).map_err(unreadable)
    }

    /// A page for people is no stream, wherever it comes from.
    fn check_type(&self, headers: &HeaderMap) -> Result<(), Fault> {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        if kind.starts_with("text/html") {
            let what = format!("`{}` answers `{kind}`, is it the right `base_url`?", self.base_url);
            return Err(Fault::Nonsense { what });
        }
        Ok(())
    }

    /// The answer, until it breaks off or exceeds a bound.
    fn bounded(self: Arc<Self>, response: reqwest::Response) -> Response<Body> {
        let mut gauge = self.gauge;
        let chunks = response.bytes_stream().map(move |chunk| {
            let counted = match chunk {
                Ok(chunk) => gauge.count(&chunk).map(|()| Frame::data(chunk)),
                Err(error) => Err(Fault::Broken { cause: cause(error) }),
            };
            counted.map_err(|fault| {
                self.fail(fault);
                std::io::Error::other("the answer ends here")
            })
        });
        let mut response = Response::new(Body::new(StreamBody::new(chunks)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response
    }
}

/// How we introduce ourselves.
const AGENT: &str = concat!("reenact/", env!("CARGO_PKG_VERSION"));

/// What a refusal says, as far as anybody would read.
async fn refusal(mut response: reqwest::Response) -> Fault {
    let (status, after) = (response.status(), retry_after(response.headers()));
    let mut body = Vec::new();
    while body.len() < MAX_ERROR_BODY {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            // The status says enough.
            Ok(None) | Err(_) => break,
        }
    }
    Fault::Status { status, after, body: String::from_utf8_lossy(&body).into_owned() }
}

fn nothing(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::new(Empty::new().map_err(|never| match never {})));
    *response.status_mut() = status;
    response
}

//! One call: from the agent's request, along its redirects, to an answer.
//!
//! Before anything is sent to a place, that place is checked: scheme, host and,
//! if the URL names one, address. The addresses of names are checked where
//! connections are opened, in [`super::resolve`].

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Response, redirect::Policy};
use tokio::sync::{OnceCell, Semaphore};
use url::{Host, Url};

use super::answer;
use super::hosts::{Hosts, entry_for};
use super::redirect::{MAX_REDIRECTS, follow};
use super::request::Request;
use super::resolve::{Forbidden, Guarded, Lookup};
use super::settings::Settings;
use super::{denied, failed, invalid};
use crate::tools::{Success, ToolError, ToolErrorCode, Vault, clip};

/// Calls that are under way at the same time; further ones wait. Each may hold a
/// whole body in memory.
const CALLS_AT_ONCE: usize = 64;
/// A server that does not answer by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the next call of the same agent; an agent that thinks longer connects again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections of one host that are kept for the next calls.
const IDLE_PER_HOST: usize = 4;
/// Bytes of an answer's headers over HTTP/2; with HTTP/1 the client has its own bound.
const MAX_HEADER_LIST: u32 = answer::MAX_HEADER_BYTES as u32;
/// A message repeats this much of a URL.
const SHOWN_URL: usize = 300;

const USER: &str = concat!("reenact/", env!("CARGO_PKG_VERSION"));
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub struct Fetcher {
    settings: Settings,
    vault: Vault,
    lookup: Arc<dyn Lookup>,
    /// Made by the first call, because reading the system's certificates takes a while.
    client: OnceCell<Client>,
    places: Semaphore,
}

impl Fetcher {
    pub fn new(settings: Settings, vault: Vault, lookup: Arc<dyn Lookup>) -> Self {
        let places = Semaphore::new(CALLS_AT_ONCE);
        Self { settings, vault, lookup, client: OnceCell::new(), places }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Fetches what `request` asks for, within the time that the operator grants.
    pub async fn fetch(
        &self,
        request: Request,
        needs: &Hosts,
        key: &str,
    ) -> Result<Success, ToolError> {
        let (limit, shown) = (self.settings.timeout, show(&request.url));
        tokio::time::timeout(limit, self.go(request, needs, key)).await.unwrap_or_else(|_| {
            let ms = limit.as_millis();
            let message =
                format!("`{shown}` took longer than {ms} ms (`timeout_ms` of `[grants.http]`)");
            Err(ToolError { code: ToolErrorCode::Timeout, message })
        })
    }

    async fn go(
        &self,
        mut request: Request,
        needs: &Hosts,
        key: &str,
    ) -> Result<Success, ToolError> {
        let _place = self.places.acquire().await.expect("nobody closes the semaphore");
        let start = show(&request.url);
        let mut at = format!("cannot fetch `{start}`");
        self.admit(&request.url, needs).map_err(|why| denied(format!("{at}: {why}")))?;
        self.leaves_to_the_operator(&request)?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&request, key, &at).await?;
            let Some(next) = follow(&request, response.status(), response.headers()) else {
                return self.answer(&request, response, &at).await;
            };
            let from = show(&request.url);
            request = next.map_err(|why| denied(format!("`{from}` redirects, but {why}")))?;
            at = format!("`{from}` redirects to `{}`", show(&request.url));
            self.admit(&request.url, needs).map_err(|why| denied(format!("{at}: {why}")))?;
        }
        Err(failed(format!("`{start}` redirects more than {MAX_REDIRECTS} times")))
    }

    /// Whether a request may go there; an error says why not, and who has to act.
    fn admit(&self, url: &Url, needs: &Hosts) -> Result<(), String> {
        let Settings { hosts, addresses, .. } = &self.settings;
        if !self.settings.allows_scheme(url) {
            let granted = self.settings.scheme_names();
            return Err(format!("the scheme `{}` is not granted, only {granted}", url.scheme()));
        }
        let entry = entry_for(url);
        if needs.is_empty() {
            let way_out = "name them as `hosts` under `[needs.http]`";
            return Err(format!("the manifest names no hosts; {way_out}, such as `{entry}`"));
        }
        if !needs.cover(url) {
            let way_out = "add it to `hosts` under `[needs.http]`";
            return Err(format!("the manifest does not name `{entry}`; {way_out}"));
        }
        if !hosts.cover(url) {
            let way_out = "ask for it in `hosts` of `[grants.http]`";
            return Err(format!("the operator does not grant `{entry}`; {way_out}"));
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if hosts.name_address(url) {
            return Ok(());
        }
        addresses.check(address).map_err(|what| {
            let way_out = "ask for it in `allow_addresses` of `[grants.http]`";
            format!("it is {what}, which the operator does not grant; {way_out}")
        })
    }

    /// Refuses headers that the operator sets for the agent's host.
    fn leaves_to_the_operator(&self, request: &Request) -> Result<(), ToolError> {
        let injected = self.settings.injected(&request.url);
        match request.headers.keys().find(|name| injected.contains_key(*name)) {
            Some(name) => Err(invalid(format!(
                "the operator sets the header `{name}` for `{}`; leave it out",
                entry_for(&request.url)
            ))),
            None => Ok(()),
        }
    }

    async fn send(&self, request: &Request, key: &str, at: &str) -> Result<Response, ToolError> {
        let mut headers = request.headers.clone();
        // A body is answered as it comes: what inflates to gigabytes stays small.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(USER));
        if !request.method.is_safe()
            && let Ok(key) = HeaderValue::try_from(key)
        {
            headers.entry(IDEMPOTENCY_KEY).or_insert(key);
        }
        for (name, value) in &self.settings.injected(&request.url) {
            headers.insert(name, value.clone());
        }
        let client = self.client().await?;
        let mut sending = client.request(request.method.clone(), request.url.clone());
        if let Some(body) = &request.body {
            sending = sending.body(body.clone());
        }
        sending.headers(headers).send().await.map_err(|cause| explain(&cause, at))
    }

    async fn answer(
        &self,
        request: &Request,
        mut response: Response,
        at: &str,
    ) -> Result<Success, ToolError> {
        let max = self.settings.max_bytes;
        let max = request.max_bytes.map_or(max, |asked| max.min(asked as usize));
        let (mut body, truncated) =
            answer::read(&mut response, max).await.map_err(|cause| explain(&cause, at))?;
        self.vault.scrub_bytes(&mut body, truncated);
        answer::of(&request.url, &response, &body, truncated)
            .map_err(|why| failed(format!("{at}: {why}")))
    }

    async fn client(&self) -> Result<&Client, ToolError> {
        self.client
            .get_or_try_init(async || {
                let builder = self.builder();
                let built = tokio::task::spawn_blocking(|| builder.build()).await;
                let built = built.map_err(|_| failed("the host is stopping".to_owned()))?;
                built.map_err(|cause| failed(format!("cannot set up HTTP: {}", causes(&cause))))
            })
            .await
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        let guarded =
            Guarded { lookup: self.lookup.clone(), addresses: self.settings.addresses.clone() };
        Client::builder()
            .dns_resolver(Arc::new(guarded))
            // A proxy would connect in our place, to wherever it likes.
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http2_max_header_list_size(MAX_HEADER_LIST)
            .tls_certs_merge(self.settings.authorities.iter().cloned())
    }
}

fn show(url: &Url) -> String {
    clip(url.as_str(), SHOWN_URL)
}

/// What went wrong on the network, or was refused there.
fn explain(cause: &reqwest::Error, at: &str) -> ToolError {
    let mut source = cause.source();
    while let Some(inner) = source {
        if let Some(forbidden) = inner.downcast_ref::<Forbidden>() {
            return denied(format!("{at}: {forbidden}"));
        }
        source = inner.source();
    }
    if cause.is_timeout() {
        let seconds = CONNECT_TIMEOUT.as_secs();
        let message = format!("{at}: nobody answered within {seconds} s");
        return ToolError { code: ToolErrorCode::Timeout, message };
    }
    failed(format!("{at}: {}", causes(cause)))
}

/// All causes in one line. The outermost only says that something failed.
fn causes(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut source = error.source();
    while let Some(inner) = source {
        let word = inner.to_string();
        if !words.iter().any(|before| before.contains(&word)) {
            words.push(word);
        }
        source = inner.source();
    }
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}

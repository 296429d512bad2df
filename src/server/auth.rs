//! Who may do what, and how often.

use std::num::NonZeroU32;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::{App, Problem};
use crate::config::ServerConfig;
use crate::service::keys::{self, Client, KeyError, Scope};
use crate::storage::Storage;

/// Lets requests through, or not.
pub struct Gate {
    storage: Storage,
    limiter: DefaultKeyedRateLimiter<String>,
}

impl Gate {
    pub fn new(storage: Storage, config: &ServerConfig) -> Self {
        let at_least_one = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(config.requests_per_second))
            .allow_burst(at_least_one(config.burst));
        Self { storage, limiter: RateLimiter::keyed(quota) }
    }

    /// Whose request it is, if it may do what it wants.
    fn admit(&self, headers: &HeaderMap, scope: Scope) -> Result<Client, Problem> {
        let client = self.client(headers)?;
        if let Err(until) = self.limiter.check_key(&client.id) {
            let wait = until.wait_time_from(DefaultClock::default().now());
            let seconds = wait.as_secs() + 1;
            let detail = "the key has made more requests than it may";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail)
                .with_header("retry-after", seconds.to_string()));
        }
        if !client.may(scope) {
            let detail = format!("the key `{}` may not `{scope}`", client.name);
            return Err(Problem::new(StatusCode::FORBIDDEN, "not-allowed", detail));
        }
        Ok(client)
    }

    fn client(&self, headers: &HeaderMap) -> Result<Client, Problem> {
        let Some(key) = presented(headers)? else {
            if self.storage.has_keys()? {
                let detail = "the request has no key";
                let hint = "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`";
                return Err(refused("no-key", detail).with_hint(Some(hint.to_owned())));
            }
            check_host(headers)?;
            return Ok(Client::anybody());
        };
        keys::check(&self.storage, key).map_err(|error| match error {
            KeyError::Storage(error) => error.into(),
            KeyError::Unknown => refused("unknown-key", error.to_string()),
            KeyError::Revoked => refused("revoked-key", error.to_string()),
        })
    }
}

fn refused(name: &str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, name, detail)
        .with_header("www-authenticate", "Bearer realm=\"reenact\"")
}

/// The key that a request shows. Who shows two different ones does not know who it is.
fn presented(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let unknown = || refused("unknown-key", "the key is not one of this server");
    let mut keys = Vec::new();
    for value in headers.get_all("x-api-key") {
        keys.push(value.to_str().map_err(|_| unknown())?);
    }
    for value in headers.get_all(header::AUTHORIZATION) {
        let (scheme, key) =
            value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(unknown)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unknown());
        }
        keys.push(key.trim());
    }
    match keys[..] {
        [] => Ok(None),
        [key, ref others @ ..] if others.iter().all(|other| *other == key) => Ok(Some(key)),
        _ => Err(refused("two-keys", "the request has two different keys")),
    }
}

/// Where no key is asked for, a page in a browser on this machine must not get through by
/// giving its own name to this address: so the host has to be named as what it is.
fn check_host(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = address.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if is_loopback || name.eq_ignore_ascii_case("localhost") {
        return Ok(());
    }
    let detail = format!("the host is named `{host}`, and without keys only `localhost` is served");
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign-host", detail))
}

/// A client that may read.
pub struct Reader;

/// A client that may start runs and do things to them.
pub struct Runner(pub Client);

/// A client that may change agents.
pub struct Publisher;

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        app.0.gate.admit(&parts.headers, Scope::Read).map(|_| Self)
    }
}

impl FromRequestParts<App> for Runner {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        app.0.gate.admit(&parts.headers, Scope::Run).map(Self)
    }
}

impl FromRequestParts<App> for Publisher {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        app.0.gate.admit(&parts.headers, Scope::Publish).map(|_| Self)
    }
}

//! Where a server is.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::ClientError;
use crate::server::VERSION;

/// The URL of a server, without what its own routes begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// `http://HOST:PORT` or `https://HOST`, with a path if a proxy serves it below one.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let bad = |what: &str| {
            // What stands before an `@` may be a password.
            let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
            ClientError::BadAddress { text: shown.to_owned(), what: what.to_owned() }
        };
        let url = Url::parse(text.trim()).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("it begins with neither `http://` nor `https://`"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("it holds a user or a password, and `--key` is the place for a key"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it has more than a host and a path"));
        }
        Ok(Self(url))
    }

    /// The URL of a route. A segment is an id or a name, and cannot lead elsewhere.
    pub(super) fn route(&self, segments: &[&str]) -> Result<Url, ClientError> {
        if let Some(bad) = segments.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(ClientError::BadId((*bad).to_owned()));
        }
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(VERSION.trim_start_matches('/')).extend(segments);
        }
        Ok(url)
    }

    /// Whether a key that goes there can be read on the way.
    pub fn is_open(&self) -> bool {
        self.0.scheme() == "http" && !self.is_here()
    }

    /// Whether the way there does not leave this machine.
    pub(super) fn is_here(&self) -> bool {
        match self.0.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn routes_stand_below_the_address() {
        let route = |text, segments: &[&str]| address(text).route(segments).unwrap().to_string();
        assert_eq!(route("http://h:1", &["runs"]), "http://h:1/v0.1/runs");
        assert_eq!(route("http://h:1/", &["runs", "7"]), "http://h:1/v0.1/runs/7");
        assert_eq!(route("https://h/a/b/", &["runs"]), "https://h/a/b/v0.1/runs");
        assert_eq!(
            route("http://h", &["runs", "a/../?x#y"]),
            "http://h/v0.1/runs/a%2F..%2F%3Fx%23y"
        );
        for bad in ["", ".", ".."] {
            assert!(matches!(
                address("http://h").route(&["runs", bad]),
                Err(ClientError::BadId(_))
            ));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_no_password_is_shown() {
        for bad in ["", "localhost:7411", "ftp://h", "http://", "http://h?x", "http://h#x"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        let error = Address::parse("http://me:hunter2@h").unwrap_err().to_string();
        assert!(error.contains("`h`") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn keys_can_be_read_where_nothing_encrypts() {
        assert!(address("http://example.org").is_open());
        for closed in
            ["https://example.org", "http://127.0.0.1:1", "http://[::1]", "http://localhost"]
        {
            assert!(!address(closed).is_open(), "{closed}");
        }
    }
}

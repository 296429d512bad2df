//! Lists of hosts, as operators grant them and manifests ask for them.
//!
//! An entry is a host itself (`example.com`), all hosts below one
//! (`*.example.com`), or any host (`*`). A port may follow, or `*` for any;
//! without one the entry covers the scheme's own port only. Hosts are compared
//! as the URL standard parses them, so every spelling of a host is the same host.

use std::fmt;

use serde_json::Value;
use url::{Host, Url};

/// What a malformed entry is told.
pub const FORMS: &str =
    "`example.com`, `*.example.com`, `localhost:8080` or `[::1]:8080`, without scheme and path";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    who: Who,
    port: Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    /// 80 of `http`, 443 of `https`.
    OfScheme,
    Only(u16),
    Any,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Any,
    Below(String),
    Itself(Host<String>),
}

/// The text is no entry of a list of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host: expected one such as {FORMS}")]
pub struct InvalidHost(pub String);

impl HostPattern {
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        Self::read(text).ok_or_else(|| InvalidHost(text.to_owned()))
    }

    fn read(text: &str) -> Option<Self> {
        // A URL's parser would decode this or cut here; an entry means itself.
        if text.contains(['%', '/', '\\', '?', '#', '@']) || text.contains(char::is_whitespace) {
            return None;
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, read_port(port)?),
            _ => (text, Port::OfScheme),
        };
        if host.rfind('*').is_some_and(|at| at > 0) {
            return None;
        }
        let who = match host.strip_prefix('*') {
            Some("") => Who::Any,
            Some(below) => match Host::parse(below.strip_prefix('.')?).ok()? {
                Host::Domain(name) => Who::Below(undotted(&name)?.to_owned()),
                Host::Ipv4(_) | Host::Ipv6(_) => return None,
            },
            None => Who::Itself(match Host::parse(host).ok()? {
                Host::Domain(name) => Host::Domain(undotted(&name)?.to_owned()),
                address => address,
            }),
        };
        Some(Self { who, port })
    }

    /// Whether the entry covers where the URL leads.
    pub fn covers(&self, url: &Url) -> bool {
        let port = match self.port {
            // The parser drops a port that is the scheme's own.
            Port::OfScheme => url.port().is_none(),
            Port::Only(port) => url.port_or_known_default() == Some(port),
            Port::Any => true,
        };
        port && match (&self.who, url.host()) {
            (_, None) => false,
            (Who::Any, _) => true,
            (Who::Below(name), Some(Host::Domain(host))) => {
                let above = undotted(host).and_then(|host| host.strip_suffix(name.as_str()));
                above.is_some_and(|above| above.len() > 1 && above.ends_with('.'))
            }
            (Who::Below(_), Some(_)) => false,
            (Who::Itself(Host::Domain(name)), Some(Host::Domain(host))) => {
                undotted(host) == Some(name)
            }
            (Who::Itself(own), Some(host)) => *own == host,
        }
    }

    /// Whether the entry is a literal address.
    fn is_address(&self) -> bool {
        matches!(self.who, Who::Itself(Host::Ipv4(_) | Host::Ipv6(_)))
    }

    /// Narrower entries have a higher rank.
    pub fn rank(&self) -> (bool, usize, bool) {
        let (itself, length) = match &self.who {
            Who::Any => (false, 0),
            Who::Below(name) => (false, name.len()),
            Who::Itself(_) => (true, 0),
        };
        (itself, length, matches!(self.port, Port::Only(_)))
    }
}

fn read_port(text: &str) -> Option<Port> {
    if text == "*" {
        return Some(Port::Any);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0).map(Port::Only)
}

/// A name without the dot that says that it is complete.
fn undotted(name: &str) -> Option<&str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty() && !name.ends_with('.')).then_some(name)
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Any => f.write_str("*")?,
            Who::Below(name) => write!(f, "*.{name}")?,
            Who::Itself(host) => write!(f, "{host}")?,
        }
        match self.port {
            Port::OfScheme => Ok(()),
            Port::Only(port) => write!(f, ":{port}"),
            Port::Any => f.write_str(":*"),
        }
    }
}

/// A list of hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(Vec<HostPattern>);

impl Hosts {
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidHost> {
        texts.into_iter().map(HostPattern::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Reads a manifest's `[needs.http]`. An error says what is wrong with it.
    pub fn of_needs(needs: &Value) -> Result<Self, String> {
        let malformed =
            |what: String| format!("the manifest's `[needs.http]` is malformed: {what}");
        let members = match needs {
            Value::Null => return Ok(Self::default()),
            Value::Object(members) => members,
            _ => return Err(malformed("it is no table".to_owned())),
        };
        if let Some(key) = members.keys().find(|key| *key != "hosts") {
            return Err(malformed(format!("unknown key `{key}`, only `hosts`")));
        }
        let list = match members.get("hosts") {
            None => return Ok(Self::default()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(malformed("`hosts` is no list".to_owned())),
        };
        let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
        let texts = texts.ok_or_else(|| malformed("`hosts` holds more than texts".to_owned()))?;
        Self::parse(texts).map_err(|cause| malformed(cause.to_string()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn cover(&self, url: &Url) -> bool {
        self.0.iter().any(|pattern| pattern.covers(url))
    }

    /// Whether an entry is the literal address that the URL names.
    pub fn name_address(&self, url: &Url) -> bool {
        self.0.iter().any(|pattern| pattern.is_address() && pattern.covers(url))
    }
}

/// The URL's host as an entry of a list would write it.
pub fn entry_for(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let host = undotted(host).unwrap_or(host);
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn covers(pattern: &str, url: &str) -> bool {
        HostPattern::parse(pattern).unwrap().covers(&url.parse().unwrap())
    }

    #[test]
    fn an_entry_covers_what_it_says_and_nothing_else() {
        for (pattern, yes, no) in [
            (
                "example.com",
                &[
                    "https://example.com/",
                    "http://example.com/a?b#c",
                    "https://EXAMPLE.com:443/",
                    "http://example.com:80",
                    "https://example.com./",
                    "https://ex%61mple.com/",
                    "https://ｅｘａｍｐｌｅ.com/",
                ][..],
                &[
                    "https://www.example.com/",
                    "https://example.com:8443/",
                    "https://example.com:80/",
                    "http://example.com:443/",
                    "https://example.com.evil.org/",
                    "https://badexample.com/",
                    "https://example.com@evil.org/",
                    "https://evil.org/example.com",
                    "https://evil.org#@example.com/",
                    "https://evil.org\\@example.com/",
                    "https://example.com../",
                ][..],
            ),
            (
                "*.example.org",
                &["https://a.example.org/", "https://a.b.example.org/", "https://A.Example.Org./"],
                &[
                    "https://example.org/",
                    "https://.example.org/",
                    "https://aexample.org/",
                    "https://a.example.org.evil.com/",
                    "https://a.example.org:8443/",
                ],
            ),
            (
                "*.example.org:8443",
                &["https://a.example.org:8443/", "http://a.example.org:8443/"],
                &["https://a.example.org/"],
            ),
            (
                "localhost:8080",
                &["http://localhost:8080/", "https://LOCALHOST:8080/"],
                &["http://localhost/", "http://localhost:8081/", "http://127.0.0.1:8080/"],
            ),
            ("example.com:443", &["https://example.com/"], &["http://example.com/"]),
            (
                "127.0.0.1:80",
                &["http://127.0.0.1/", "http://0x7f.1/", "http://2130706433/", "http://127.1./"],
                &["http://[::ffff:127.0.0.1]/", "http://127.0.0.2/", "http://localhost/"],
            ),
            (
                "[::1]:8080",
                &["http://[::1]:8080/", "http://[0:0::0:1]:8080/"],
                &["http://[::1]/", "http://[::2]:8080/"],
            ),
            ("[::1]", &["http://[::1]/"], &["http://[::1]:8080/"]),
            ("bücher.example", &["https://xn--bcher-kva.example/", "https://BÜCHER.example/"], &[]),
            (
                "*",
                &["https://a.b/", "http://1.1.1.1/"],
                &["https://a.b:8443/", "data:text/plain,x"],
            ),
            ("*:*", &["https://a.b:8443/", "https://a.b/", "http://1.1.1.1:1/"], &["data:,x"]),
            (
                "example.com:*",
                &["https://example.com/", "http://example.com:8080/"],
                &["https://www.example.com/"],
            ),
        ] {
            for url in yes {
                assert!(covers(pattern, url), "`{pattern}` covers `{url}`");
            }
            for url in no {
                assert!(!covers(pattern, url), "`{pattern}` does not cover `{url}`");
            }
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            "*.",
            "*.*",
            "*a.com",
            "a.*.com",
            "**",
            "https://a.com",
            "a.com/",
            "a.com/x",
            "a.com:",
            "a.com:0",
            "a.com:65536",
            "a.com:+80",
            "a.com:x",
            "u@a.com",
            "a b.com",
            "::1",
            "[::1",
            "[::1]x",
            "*.127.0.0.1",
            "*.[::1]",
            "1.2.3.4.5",
            "a%2ecom",
            ".",
            "..",
            "a..",
            "a.com?x",
            "*:",
            "a.com:**",
            "a.com:8*",
            ":80",
        ] {
            let refused = HostPattern::parse(text);
            assert_eq!(refused, Err(InvalidHost(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn an_entry_shows_as_it_was_meant() {
        for (text, shown) in [
            ("EXAMPLE.com.", "example.com"),
            ("*.Example.com:8080", "*.example.com:8080"),
            ("0x7f.1", "127.0.0.1"),
            ("[0::1]:80", "[::1]:80"),
            ("*", "*"),
            ("*:*", "*:*"),
        ] {
            assert_eq!(HostPattern::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_manifest_that_says_nothing_needs_nothing() {
        for needs in [json!(null), json!({}), json!({ "hosts": [] })] {
            assert!(Hosts::of_needs(&needs).unwrap().is_empty(), "{needs}");
        }
    }

    #[test]
    fn malformed_needs_are_told_what_is_wrong() {
        for (needs, what) in [
            (json!([]), "it is no table"),
            (json!({ "host": ["a.com"] }), "unknown key `host`, only `hosts`"),
            (json!({ "hosts": "a.com" }), "`hosts` is no list"),
            (json!({ "hosts": ["a.com", 5] }), "`hosts` holds more than texts"),
            (
                json!({ "hosts": ["https://a.com"] }),
                "`https://a.com` is not a host: expected one such as `example.com`, \
                 `*.example.com`, `localhost:8080` or `[::1]:8080`, without scheme and path",
            ),
        ] {
            let expected = format!("the manifest's `[needs.http]` is malformed: {what}");
            assert_eq!(Hosts::of_needs(&needs), Err(expected));
        }
    }
}

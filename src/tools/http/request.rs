//! What an agent asks for, checked as far as that goes without the network.

use std::collections::BTreeMap;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use url::{Position, Url};

use super::headers;

/// Longer URLs are refused by most servers.
pub const MAX_URL: usize = 8 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    /// `null` is a value too.
    #[serde(default, deserialize_with = "given")]
    json: Option<Value>,
    max_bytes: Option<u64>,
}

fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// A request as the agent wants it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<String>,
    pub max_bytes: Option<u64>,
}

impl Request {
    /// An error says what is wrong with the arguments.
    pub fn read(arguments: Value) -> Result<Self, String> {
        let arguments: Arguments =
            serde_json::from_value(arguments).map_err(|cause| cause.to_string())?;
        let method = arguments.method.as_deref().unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("`{method}` is no method"))?;
        let url = read_url(&arguments.url, None)?;
        let mut headers = headers::read(&arguments.headers)?;
        let (body, content_type) = match (arguments.body, arguments.json) {
            (Some(_), Some(_)) => return Err("`body` and `json` exclude each other".to_owned()),
            (Some(body), None) => (Some(body), "text/plain; charset=utf-8"),
            (None, Some(json)) => (Some(json.to_string()), "application/json"),
            (None, None) => (None, ""),
        };
        if body.is_some() {
            if matches!(method, Method::GET | Method::HEAD) {
                return Err(format!("a {method} request has no body"));
            }
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
        }
        Ok(Self { method, url, headers, body, max_bytes: arguments.max_bytes })
    }
}

/// Reads a URL, relative to `base` if there is one. Its fragment is left out,
/// because it is not sent, and so is the dot after a complete name: with it, the
/// same host would have two names.
pub fn read_url(text: &str, base: Option<&Url>) -> Result<Url, String> {
    let parsed = Url::options().base_url(base).parse(text);
    let mut url = parsed.map_err(|cause| format!("the URL is malformed: {cause}"))?;
    if url.as_str().len() > MAX_URL {
        return Err(format!("the URL is longer than {MAX_URL} bytes"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the URL holds a user name or a password, which are not sent that way".to_owned()
        );
    }
    url.set_fragment(None);
    if let Some(complete) = url.domain().and_then(|name| name.strip_suffix('.')) {
        let complete = complete.to_owned();
        url.set_host(Some(&complete)).map_err(|cause| format!("the URL is malformed: {cause}"))?;
    }
    Ok(url)
}

/// Whether two URLs have the same scheme, host and port.
pub fn same_origin(a: &Url, b: &Url) -> bool {
    a[..Position::BeforePath] == b[..Position::BeforePath]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(arguments: Value) -> String {
        Request::read(arguments).unwrap_err()
    }

    #[test]
    fn a_request_is_read() {
        let request = Request::read(json!({ "url": "https://Example.com./a b?q=ü#part" })).unwrap();
        assert_eq!(request.url.as_str(), "https://example.com/a%20b?q=%C3%BC");
        assert_eq!((request.method, request.body), (Method::GET, None));
        let request = Request::read(json!({
            "url": "http://[::1]:80/", "method": "PUT", "json": null, "max_bytes": 5,
            "headers": { "X": "y" },
        }))
        .unwrap();
        assert_eq!(request.url.as_str(), "http://[::1]/");
        assert_eq!(request.body.as_deref(), Some("null"));
        assert_eq!(request.headers[CONTENT_TYPE], "application/json");
        assert_eq!((request.headers["x"].to_str().unwrap(), request.max_bytes), ("y", Some(5)));
    }

    #[test]
    fn a_given_content_type_stays() {
        let request = Request::read(json!({
            "url": "https://a.com", "method": "POST", "body": "a=b",
            "headers": { "content-type": "application/x-www-form-urlencoded" },
        }))
        .unwrap();
        assert_eq!(request.headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
    }

    #[test]
    fn what_cannot_be_asked_for_is_told_why() {
        for (arguments, why) in [
            (json!({ "url": "example.com" }), "the URL is malformed: relative URL without a base"),
            (json!({ "url": "" }), "the URL is malformed: relative URL without a base"),
            (json!({ "url": "http://" }), "the URL is malformed: empty host"),
            (json!({ "url": "http://1.2.3.4.5/" }), "the URL is malformed: invalid IPv4 address"),
            (
                json!({ "url": "http://[fe80::1%25eth0]/" }),
                "the URL is malformed: invalid IPv6 address",
            ),
            (
                json!({ "url": "https://a.com@b.com/" }),
                "the URL holds a user name or a password, which are not sent that way",
            ),
            (
                json!({ "url": "https://:x@b.com/" }),
                "the URL holds a user name or a password, which are not sent that way",
            ),
            (json!({ "url": "https://a.com", "body": "x" }), "a GET request has no body"),
            (
                json!({ "url": "https://a.com", "method": "HEAD", "json": {} }),
                "a HEAD request has no body",
            ),
            (
                json!({ "url": "https://a.com", "method": "POST", "body": "x", "json": {} }),
                "`body` and `json` exclude each other",
            ),
            (
                json!({ "url": "https://a.com", "headers": { "Host": "b.com" } }),
                "`Host` is a header that the host sets itself",
            ),
            (
                json!({ "url": format!("https://a.com/{}", "ü".repeat(2_000)) }),
                "the URL is longer than 8192 bytes",
            ),
        ] {
            assert_eq!(refused(arguments.clone()), why, "{arguments}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://a.com/x", "https://A.com:443/y?z"));
        for other in ["http://a.com/", "https://b.com/", "https://a.com:444/", "https://a.a.com/"] {
            assert!(!same("https://a.com/", other), "{other}");
        }
    }
}

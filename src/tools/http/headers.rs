//! Headers of a request: which of them an agent may set, and which of them go on
//! to another place.

use std::collections::BTreeMap;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Bytes of all names and values that an agent sets. Servers accept 8 to 64 KiB.
const MAX_BYTES: usize = 32 << 10;

/// Headers that are about the connection and not about the request, or that the
/// client derives from the request itself. Setting them would let a request say
/// one thing to one reader and another thing to the next.
pub fn is_transport(name: &HeaderName) -> bool {
    const NAMES: [&str; 15] = [
        "accept-encoding",
        "alt-used",
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name.as_str())
}

/// Reads the headers that an agent gives. An error says what is wrong.
pub fn read(given: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_BYTES {
        return Err(format!("the headers have {bytes} bytes, at most {MAX_BYTES} are allowed"));
    }
    let mut headers = HeaderMap::new();
    for (text, value) in given {
        let name = HeaderName::try_from(text)
            .map_err(|_| format!("`{text}` is not the name of a header"))?;
        if is_transport(&name) {
            return Err(format!("`{text}` is a header that the host sets itself"));
        }
        let value = HeaderValue::try_from(value).map_err(|_| {
            format!("the header `{text}` has a value that no header can have: it must be ASCII on one line")
        })?;
        if headers.insert(name, value).is_some() {
            return Err(format!("the header `{text}` is given twice"));
        }
    }
    Ok(headers)
}

/// What of an agent's headers a redirect takes along to another origin. Whatever
/// could hold a credential was meant for the first one.
pub fn keep_for_another_origin(headers: &mut HeaderMap) {
    const KEPT: [HeaderName; 4] =
        [header::ACCEPT, header::ACCEPT_LANGUAGE, header::CONTENT_TYPE, header::USER_AGENT];
    let kept = KEPT.into_iter().filter_map(|name| headers.get(&name).cloned().map(|it| (name, it)));
    *headers = kept.collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(headers: &[(&str, &str)]) -> Result<HeaderMap, String> {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        read(&headers.iter().map(owned).collect())
    }

    #[test]
    fn an_agent_sets_ordinary_headers() {
        let headers = given(&[("Accept", "text/html"), ("X-Api-Key", "a\tb")]).unwrap();
        assert_eq!(headers["x-api-key"], "a\tb");
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn what_is_not_an_agents_to_set_is_refused() {
        for name in [
            "Host",
            "HOST",
            "Connection",
            "Content-Length",
            "Transfer-Encoding",
            "TE",
            "Trailer",
            "Upgrade",
            "Keep-Alive",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Accept-Encoding",
            "Expect",
            "HTTP2-Settings",
        ] {
            let error = given(&[(name, "x")]).unwrap_err();
            assert_eq!(error, format!("`{name}` is a header that the host sets itself"));
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:", "x"),
            (":authority", "x"),
            ("a\r\nb", "x"),
            ("ä", "x"),
            ("a", "x\r\nHost: y"),
            ("a", "x\0"),
            ("a", "x\n"),
        ] {
            assert!(given(&[(name, value)]).is_err(), "{name:?}: {value:?}");
        }
        assert_eq!(given(&[("A", "x"), ("a", "y")]).unwrap_err(), "the header `a` is given twice");
        let error = given(&[("a", &"x".repeat(MAX_BYTES))]).unwrap_err();
        assert_eq!(error, "the headers have 32769 bytes, at most 32768 are allowed");
    }

    #[test]
    fn another_origin_gets_no_credentials() {
        let mut headers = given(&[
            ("Accept", "text/html"),
            ("Authorization", "Bearer x"),
            ("Cookie", "a=b"),
            ("If-None-Match", "x"),
            ("User-Agent", "agent"),
            ("X-Api-Key", "x"),
        ])
        .unwrap();
        keep_for_another_origin(&mut headers);
        let mut kept: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        kept.sort();
        assert_eq!(kept, ["accept", "user-agent"]);
    }
}

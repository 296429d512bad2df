//! Where a redirect leads, and what becomes of the request on the way.

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, StatusCode};
use url::Url;

use super::headers::keep_for_another_origin;
use super::request::{Request, read_url, same_origin};

/// Redirects that one call follows. More than that is a loop, or a trap.
pub const MAX_REDIRECTS: usize = 5;

/// The request that follows on an answer, or nothing if it is no redirect.
/// Whether the new place is granted, somebody else has to say.
pub fn follow(
    request: &Request,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<Result<Request, String>> {
    let as_get = match (status.as_u16(), &request.method) {
        (303, method) => *method != Method::HEAD,
        // As browsers do, and as RFC 9110 allows.
        (301 | 302, method) => *method == Method::POST,
        (307 | 308, _) => false,
        _ => return None,
    };
    let location = headers.get(LOCATION)?;
    Some(to(&request.url, location.as_bytes()).map(|url| {
        let mut next = request.clone();
        if as_get {
            next.method = Method::GET;
            next.body = None;
            next.headers.remove(CONTENT_TYPE);
        }
        if !same_origin(&url, &request.url) {
            keep_for_another_origin(&mut next.headers);
        }
        next.url = url;
        next
    }))
}

fn to(from: &Url, location: &[u8]) -> Result<Url, String> {
    let location = String::from_utf8_lossy(location);
    let url = read_url(&location, Some(from))?;
    if from.scheme() == "https" && url.scheme() == "http" {
        return Err("it leads from `https` to `http`".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(method: &str) -> Request {
        let body = !["GET", "HEAD"].contains(&method);
        let mut arguments = json!({
            "url": "https://a.com/x/y?z",
            "method": method,
            "headers": { "Authorization": "secret", "Accept": "text/html" },
        });
        if body {
            arguments["json"] = json!({ "a": 1 });
        }
        Request::read(arguments).unwrap()
    }

    fn answer(method: &str, status: u16, location: &str) -> Option<Result<Request, String>> {
        let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
        follow(&request(method), StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn the_method_becomes_get_where_it_should() {
        for (status, method, then) in [
            (301, "POST", "GET"),
            (302, "POST", "GET"),
            (301, "PUT", "PUT"),
            (302, "DELETE", "DELETE"),
            (302, "HEAD", "HEAD"),
            (303, "POST", "GET"),
            (303, "PUT", "GET"),
            (303, "HEAD", "HEAD"),
            (307, "POST", "POST"),
            (308, "PATCH", "PATCH"),
        ] {
            let next = answer(method, status, "/").unwrap().unwrap();
            assert_eq!(next.method.as_str(), then, "{status} {method}");
            let has_body = then != "GET" && then != "HEAD";
            assert_eq!(next.body.is_some(), has_body, "{status} {method}");
            assert_eq!(next.headers.contains_key(CONTENT_TYPE), has_body, "{status} {method}");
        }
    }

    #[test]
    fn only_redirects_are_followed() {
        for status in [200, 201, 300, 304, 305, 306, 400, 404, 500] {
            assert!(answer("GET", status, "/").is_none(), "{status}");
        }
        assert!(follow(&request("GET"), StatusCode::FOUND, &HeaderMap::new()).is_none());
    }

    #[test]
    fn a_location_is_read_as_browsers_read_it() {
        for (location, url) in [
            ("w", "https://a.com/x/w"),
            ("/w#part", "https://a.com/w"),
            ("?q", "https://a.com/x/y?q"),
            ("//b.com/w", "https://b.com/w"),
            ("\\\\b.com\\w", "https://b.com/w"),
            ("https:\\\\0x7f.1/", "https://127.0.0.1/"),
            ("", "https://a.com/x/y?z"),
            ("ftp://a.com/", "ftp://a.com/"),
            ("file:///etc/passwd", "file:///etc/passwd"),
        ] {
            assert_eq!(answer("GET", 302, location).unwrap().unwrap().url.as_str(), url);
        }
    }

    #[test]
    fn bad_places_are_refused() {
        for (location, why) in [
            ("http://a.com/", "it leads from `https` to `http`"),
            ("https://[::1", "the URL is malformed: invalid IPv6 address"),
            (
                "https://a.com@b.com/",
                "the URL holds a user name or a password, which are not sent that way",
            ),
        ] {
            assert_eq!(answer("GET", 302, location).unwrap().unwrap_err(), why);
        }
    }

    #[test]
    fn another_origin_gets_no_credentials() {
        let sent = |location: &str| {
            let headers = answer("GET", 302, location).unwrap().unwrap().headers;
            (headers.contains_key("authorization"), headers.contains_key("accept"))
        };
        assert_eq!(sent("/w"), (true, true));
        assert_eq!(sent("https://A.com:443/"), (true, true));
        for other in ["https://b.com/", "https://a.com:8443/", "//www.a.com/"] {
            assert_eq!(sent(other), (false, true), "{other}");
        }
    }
}

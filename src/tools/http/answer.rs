//! What an agent gets of a server's answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};
use serde_json::{Map, Value};
use url::Url;

use super::text;
use crate::tools::{Source, Success};

/// Bytes of all names and values of an answer's headers.
pub const MAX_HEADER_BYTES: usize = 64 << 10;

/// Reads at most `max` bytes of a body, however many there are. Also says
/// whether there is more.
pub async fn read(response: &mut Response, max: usize) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = max - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok((body, true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, false))
}

/// The answer with the first bytes of its body. An error says what is wrong with it.
pub fn of(url: &Url, response: &Response, body: &[u8], truncated: bool) -> Result<Success, String> {
    let (status, headers) = (response.status(), response.headers());
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > MAX_HEADER_BYTES {
        return Err(format!(
            "the answer's headers have {bytes} bytes, at most {MAX_HEADER_BYTES} are taken"
        ));
    }
    let content_type = headers.get(CONTENT_TYPE).map(|it| String::from_utf8_lossy(it.as_bytes()));
    let text = text::decode(body, content_type.as_deref(), truncated);
    let source = source(url, status, content_type.as_deref(), text.as_deref());
    let mut content = Map::new();
    content.insert("status".into(), status.as_u16().into());
    content.insert("url".into(), url.as_str().into());
    content.insert("headers".into(), listed(headers));
    if let Some(content_type) = content_type {
        content.insert("content_type".into(), content_type.into());
    }
    match text {
        Some(text) => content.insert("text".into(), text.into()),
        None => content.insert("base64".into(), STANDARD.encode(body).into()),
    };
    content.insert("truncated".into(), truncated.into());
    Ok(Success { content: content.into(), sources: source.into_iter().collect() })
}

/// Headers by name. Those that were sent several times have a list of values.
fn listed(headers: &HeaderMap) -> Value {
    let mut listed = Map::new();
    for name in headers.keys() {
        let mut values: Vec<Value> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into())
            .collect();
        let value = if values.len() == 1 { values.remove(0) } else { values.into() };
        listed.insert(name.as_str().to_owned(), value);
    }
    listed.into()
}

/// What was found is a source; that something was not found is none.
fn source(
    url: &Url,
    status: StatusCode,
    content_type: Option<&str>,
    text: Option<&str>,
) -> Option<Source> {
    if !status.is_success() {
        return None;
    }
    let page = text.filter(|_| content_type.is_some_and(text::is_html));
    let title = page.and_then(text::title).unwrap_or_else(|| url.as_str().to_owned());
    Some(Source { url: url.as_str().to_owned(), title })
}

//! Why an attempt came to nothing, in words for the journal and the agent.

use std::error::Error;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use crate::tools::{ToolError, ToolErrorCode, Vault, clip};

/// Of a provider's own words about an error.
const MAX_SAID: usize = 1 << 10;

/// What went wrong between here and a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The provider refused. `body` is the beginning of what it said.
    Status { status: StatusCode, after: Option<Duration>, body: String },
    /// The provider put an error into its stream.
    Said { body: String },
    /// No connection, or none that brought an answer.
    Silent { cause: String },
    /// The stream ended before the answer was complete.
    Broken { cause: String },
    /// The answer has more of something than anybody could want.
    TooLarge { what: &'static str },
    /// The answer is not what the provider's API is documented to answer.
    Nonsense { what: String },
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub error: ToolError,
    /// The shortest time after which another attempt makes sense; none if it does not.
    pub again: Option<Duration>,
}

impl Fault {
    /// `model` is the model's id. Secrets go before the text is shortened, which
    /// could leave a piece of one.
    pub fn failure(&self, model: &str, vault: &Vault) -> Failure {
        let said = |text: &str| clip(vault.scrub_text(text).trim(), MAX_SAID);
        let (message, code, again) = match self {
            Self::Status { status, after, body } => {
                let body = said(&words(body));
                let colon = if body.is_empty() { "" } else { ": " };
                let again = is_passing(*status).then(|| after.unwrap_or_default());
                (format!("answered {status}{colon}{body}"), code(*status), again)
            }
            Self::Said { body } => {
                let again = is_worth_repeating(body).then_some(Duration::ZERO);
                let message = format!("answered an error: {}", said(&words(body)));
                (message, ToolErrorCode::Failed, again)
            }
            Self::Silent { cause } => {
                let message = format!("did not answer: {}", said(cause));
                (message, ToolErrorCode::Failed, Some(Duration::ZERO))
            }
            Self::Broken { cause } => {
                let message = format!("broke off its answer: {}", said(cause));
                (message, ToolErrorCode::Failed, Some(Duration::ZERO))
            }
            Self::TooLarge { what } => {
                (format!("answered more than {what}"), ToolErrorCode::TooLarge, None)
            }
            Self::Nonsense { what } => {
                let message = format!("did not answer as its API is documented: {}", said(what));
                (message, ToolErrorCode::Failed, None)
            }
        };
        Failure { error: ToolError { code, message: format!("`{model}` {message}") }, again }
    }
}

/// Whether waiting may help.
fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

fn code(status: StatusCode) -> ToolErrorCode {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            ToolErrorCode::InvalidArguments
        }
        _ => ToolErrorCode::Failed,
    }
}

/// An error in a stream has no status. What blames the request will blame it again.
fn is_worth_repeating(body: &str) -> bool {
    const BLAME: [&str; 7] = [
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "insufficient_quota",
        "blockReason",
    ];
    let code = serde_json::from_str::<Value>(body).ok().and_then(|body| {
        let code = body.pointer("/error/code").or_else(|| body.get("code"))?.as_u64()?;
        StatusCode::from_u16(u16::try_from(code).ok()?).ok()
    });
    !BLAME.iter().any(|word| body.contains(word)) && code.is_none_or(is_passing)
}

/// The message in an error as the providers write them; all of it if it is none.
fn words(body: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(body) else { return body.to_owned() };
    // Gemini wraps an error in an array when the request was for a stream.
    let value = value.get(0).unwrap_or(&value);
    let places = ["/error/message", "/message", "/error", "/promptFeedback/blockReason", "/detail"];
    let text = places.iter().find_map(|place| value.pointer(place)?.as_str());
    text.map_or_else(|| body.to_owned(), str::to_owned)
}

/// An error and what caused it, without addresses.
pub(super) fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Many repeat what they were caused by.
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        source = cause.source();
    }
    texts.join(": ")
}

/// `Retry-After` in seconds, or OpenAI's `retry-after-ms`. The form with a date is
/// left alone: it would need the time of day.
pub(super) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1e3).or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        let after = Some(Duration::from_secs(3));
        let fault = Fault::Status { status, after, body: body.to_owned() };
        fault.failure("openai:x", &Vault::default())
    }

    #[test]
    fn providers_are_quoted_whatever_form_their_errors_have() {
        for body in [
            r#"{"error":{"message":"no","type":"x","param":null,"code":null}}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#,
            r#"{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}"#,
            r#"[{"error":{"code":400,"message":"no"}}]"#,
            r#"{"error":"no"}"#,
            r#"{"object":"error","message":"no"}"#,
            "no",
            " no\n",
        ] {
            let failure = refused(400, body);
            assert_eq!(failure.error.message, "`openai:x` answered 400 Bad Request: no", "{body}");
            assert_eq!(failure.error.code, ToolErrorCode::InvalidArguments);
            assert_eq!(failure.again, None);
        }
        let message = refused(401, "").error.message;
        assert_eq!(message, "`openai:x` answered 401 Unauthorized");
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [429, 500, 502, 503, 529] {
            let failure = refused(status, "busy");
            assert_eq!(failure.again, Some(Duration::from_secs(3)), "{status}");
            assert_eq!(failure.error.code, ToolErrorCode::Failed);
        }
        for status in [301, 401, 403, 404, 409, 413] {
            let failure = refused(status, "no");
            assert_eq!((failure.again, failure.error.code), (None, ToolErrorCode::Failed));
        }
        let again = |body: &str| {
            let fault = Fault::Said { body: body.to_owned() };
            fault.failure("x", &Vault::default()).again.is_some()
        };
        assert!(again(r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#));
        assert!(again(r#"{"message":"x","type":"server_error"}"#));
        assert!(again(r#"{"error":{"code":503,"message":"x"}}"#));
        assert!(!again(r#"{"error":{"code":400,"message":"x"}}"#));
        assert!(!again(r#"{"type":"error","error":{"type":"invalid_request_error"}}"#));
    }

    #[test]
    fn a_secret_does_not_survive_in_pieces() {
        let vault = Vault::default();
        vault.remember("sk-canary-0123456789".to_owned());
        for before in MAX_SAID - 30..MAX_SAID + 5 {
            let body = format!("{}sk-canary-0123456789 is wrong", "x".repeat(before));
            let fault = Fault::Said { body };
            let message = fault.failure("x", &vault).error.message;
            assert!(!message.contains("sk-"), "{before}: {message}");
        }
    }

    #[test]
    fn providers_say_when_to_come_again() {
        let asked = |name: &'static str, value: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(asked("retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(asked("retry-after", "0.5"), Some(Duration::from_millis(500)));
        assert_eq!(asked("retry-after-ms", "20"), Some(Duration::from_millis(20)));
        for odd in ["-1", "soon", "", "inf", "nan", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(asked("retry-after", odd), None, "{odd}");
        }
    }
}

//! Errors as clients see them: RFC 9457, the same shape everywhere.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::registry::RegistryError;
use crate::runtime::{Fault, ForkError, InputError};
use crate::service::{DecisionError, ServiceError};
use crate::storage::StorageError;

/// Media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What begins the type of every problem of ours.
const TYPE: &str = "urn:reenact:problem:";

/// Why a request was not done (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URN that names the kind of problem, such as `urn:reenact:problem:unknown-run`.
    #[serde(rename = "type")]
    pub kind: Box<str>,
    /// The same for every problem of that kind.
    pub title: Box<str>,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time.
    pub detail: Box<str>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Box<str>>,
    #[serde(skip)]
    headers: Vec<(&'static str, String)>,
}

impl Problem {
    /// A problem of the kind `name`, which is in lower case with hyphens; its title says
    /// the same in words.
    pub fn new(status: StatusCode, name: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{TYPE}{name}").into(),
            title: name.replace('-', " ").into(),
            status: status.as_u16(),
            detail: detail.into().into(),
            hint: None,
            headers: Vec::new(),
        }
    }

    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.map(String::into_boxed_str);
        self
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Whether it is of the kind `name`.
    pub fn is(&self, name: &str) -> bool {
        self.kind.strip_prefix(TYPE) == Some(name)
    }

    pub fn bad_request(name: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, name, detail)
    }

    pub fn not_found(name: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, name, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request("bad-path", rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request("bad-query", rejection.body_text())
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let (status, name) = kind_of(&error);
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            // What is wrong with this machine is its operator's business.
            tracing::error!("a request failed: {error}");
            let detail = "the server could not do this; its log says why";
            return Self::new(status, name, detail);
        }
        let problem = Self::new(status, name, error.to_string()).with_hint(hint_of(&error));
        match error {
            ServiceError::Full { .. } => problem.with_header("retry-after", "1"),
            _ => problem,
        }
    }
}

fn kind_of(error: &ServiceError) -> (StatusCode, &'static str) {
    use StatusCode as S;
    match error {
        ServiceError::Registry(error) => match error {
            RegistryError::UnknownAgent { .. } => (S::NOT_FOUND, "unknown-agent"),
            RegistryError::UnknownRevision { .. } => (S::NOT_FOUND, "unknown-revision"),
            RegistryError::AmbiguousRevision { .. } => (S::CONFLICT, "ambiguous-revision"),
            RegistryError::NotADigestPrefix { .. } => (S::BAD_REQUEST, "bad-revision-id"),
            RegistryError::NoPublished { .. } => (S::CONFLICT, "nothing-published"),
            RegistryError::AgentExists { .. } => (S::CONFLICT, "agent-exists"),
            RegistryError::Storage(error) => storage(error),
            _ => (S::INTERNAL_SERVER_ERROR, "internal-error"),
        },
        ServiceError::Storage(error) => storage(error),
        ServiceError::Read(crate::service::read::ReadError::Storage(error)) => storage(error),
        ServiceError::Revision(_) => (S::UNPROCESSABLE_ENTITY, "invalid-revision"),
        ServiceError::Prepare(_) => (S::UNPROCESSABLE_ENTITY, "revision-does-not-load"),
        ServiceError::Input(error) => match error {
            InputError::TooLarge { .. } => (S::PAYLOAD_TOO_LARGE, "input-too-large"),
            InputError::NotJson(_) => (S::BAD_REQUEST, "bad-input"),
            InputError::Invalid { .. } => (S::UNPROCESSABLE_ENTITY, "invalid-input"),
        },
        ServiceError::Decision(error) => match error {
            DecisionError::NotWaiting { .. } => (S::NOT_FOUND, "unknown-call"),
            _ => (S::CONFLICT, "nothing-to-approve"),
        },
        ServiceError::Fork(error) => match error {
            ForkError::Diverged { .. } => (S::CONFLICT, "revision-departs"),
            ForkError::Damaged(_) | ForkError::Fault(_) => {
                (S::UNPROCESSABLE_ENTITY, "damaged-journal")
            }
            _ => (S::UNPROCESSABLE_ENTITY, "impossible-fork"),
        },
        ServiceError::Full { .. } => (S::SERVICE_UNAVAILABLE, "queue-full"),
        ServiceError::OtherRequest { .. } => {
            (S::UNPROCESSABLE_ENTITY, "idempotency-key-of-another-request")
        }
        ServiceError::OtherAgent { .. } => (S::UNPROCESSABLE_ENTITY, "revision-of-another-agent"),
        ServiceError::Widens { .. } => (S::CONFLICT, "asks-for-more"),
        ServiceError::BadName { .. } => (S::UNPROCESSABLE_ENTITY, "bad-agent-id"),
        ServiceError::Fault(Fault::Journal(_) | Fault::NoStart | Fault::Format(_)) => {
            (S::UNPROCESSABLE_ENTITY, "damaged-journal")
        }
        ServiceError::Read(_) => (S::UNPROCESSABLE_ENTITY, "damaged-journal"),
        ServiceError::Fault(_)
        | ServiceError::Load(_)
        | ServiceError::Grant(_)
        | ServiceError::Config(_)
        | ServiceError::Telemetry(_)
        | ServiceError::Webhooks(_)
        | ServiceError::Machine(_) => (S::INTERNAL_SERVER_ERROR, "internal-error"),
    }
}

fn storage(error: &StorageError) -> (StatusCode, &'static str) {
    use StatusCode as S;
    match error {
        StorageError::UnknownRun { .. } => (S::NOT_FOUND, "unknown-run"),
        StorageError::AmbiguousRun { .. } => (S::CONFLICT, "ambiguous-run"),
        StorageError::OtherAgents { .. } => (S::CONFLICT, "revision-of-another-agent"),
        StorageError::Busy { .. } | StorageError::DiskFull { .. } => {
            (S::SERVICE_UNAVAILABLE, "storage-unavailable")
        }
        _ => (S::INTERNAL_SERVER_ERROR, "internal-error"),
    }
}

/// Hints that make sense to a client: those of the command line name its verbs.
fn hint_of(error: &ServiceError) -> Option<String> {
    Some(match error {
        ServiceError::Registry(RegistryError::NoPublished { .. }) => {
            "name a revision, or publish one first".to_owned()
        }
        ServiceError::Registry(RegistryError::AmbiguousRevision { .. }) => {
            "give more digits".to_owned()
        }
        ServiceError::Storage(StorageError::AmbiguousRun { .. }) => {
            "give more of the run's id".to_owned()
        }
        ServiceError::Widens { .. } => {
            "`allowNewTools` publishes it all the same, `publish=false` only stores it".to_owned()
        }
        ServiceError::Fork(ForkError::NoAnswer { nearest, .. }) => match nearest.as_slice() {
            [] => "the run has no answer of a tool".to_owned(),
            some => format!("the nearest answers are at {some:?}"),
        },
        ServiceError::Fork(ForkError::Diverged { divergence, .. }) => {
            format!("what comes before entry {} can be shared", divergence.index)
        }
        ServiceError::Full { .. } => "try again later".to_owned(),
        ServiceError::OtherRequest { .. } => "use a new one for a new request".to_owned(),
        ServiceError::Decision(DecisionError::Ambiguous { .. }) => {
            "name one of them as `call`".to_owned()
        }
        _ => return None,
    })
}

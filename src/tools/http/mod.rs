//! The provider `http`: requests to hosts that both the operator and the
//! manifest name.
//!
//! Nothing but public addresses is reached, unless the operator grants more: see
//! `address` for what that means, `resolve` for names and `fetch` for
//! literal addresses and redirects. Whether a run may call the tools at all is
//! not decided here.

mod address;
mod answer;
mod fetch;
mod headers;
mod hosts;
mod redirect;
mod request;
mod resolve;
mod settings;
mod text;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde_json::{Value, json};

use self::fetch::Fetcher;
use self::hosts::Hosts;
use self::request::{MAX_URL, Request};
pub use self::resolve::{Lookup, System};
use self::settings::{KEYS, Settings};
use super::{
    CallContext, Grant, Kind, OpenError, Opened, Opening, Provider, Success, ToolError,
    ToolErrorCode, ToolSpec,
};

pub(super) const KIND: Kind =
    Kind { name: "http", flag_value: "HOST[,HOST…]", keys: KEYS, many: false, open };

fn open<'a>(grant: &'a Grant, opening: &'a Opening<'a>) -> BoxFuture<'a, Opened> {
    let provider = Http::open(grant, opening, Arc::new(System::default()));
    let provider = provider.map(|http| Arc::new(http) as Arc<dyn Provider>);
    ready(provider.map(|provider| vec![(KIND.name.to_owned(), provider)])).boxed()
}

/// The provider, opened.
pub struct Http(Arc<Fetcher>);

impl Http {
    /// Opens what a grant says. Names are resolved by `lookup`, and what it
    /// answers is checked like everything else.
    pub fn open(
        grant: &Grant,
        opening: &Opening<'_>,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, OpenError> {
        let settings = Settings::of(grant, opening.vault, (opening.wanted)(KIND.name))?;
        Ok(Self(Arc::new(Fetcher::new(settings, opening.vault.clone(), lookup))))
    }
}

impl Provider for Http {
    fn tools(&self) -> Vec<ToolSpec> {
        let max_bytes = self.0.settings().max_bytes;
        vec![fetch_spec(max_bytes), get_spec(max_bytes)]
    }

    fn call(
        &self,
        _: &str,
        arguments: Value,
        context: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        // The two tools differ in what their schemas let through.
        let fetcher = self.0.clone();
        let task = async move {
            let request = Request::read(arguments).map_err(invalid)?;
            let needs = Hosts::of_needs(&context.needs).map_err(denied)?;
            fetcher.fetch(request, &needs, &context.key).await
        };
        task.boxed()
    }
}

fn denied(message: String) -> ToolError {
    ToolError { code: ToolErrorCode::Denied, message }
}

fn failed(message: String) -> ToolError {
    ToolError { code: ToolErrorCode::Failed, message }
}

fn invalid(message: String) -> ToolError {
    ToolError { code: ToolErrorCode::InvalidArguments, message }
}

const ANSWER: &str = "Answers `status`, the final `url`, `headers`, `content_type`, and the body as \
     `text`, or as `base64` if it is binary; `truncated` is true if the body has more than \
     `max_bytes`. Redirects are followed. An HTTP error status is an answer like any other.";

fn fetch_spec(max_bytes: usize) -> ToolSpec {
    let mut properties = common_properties(max_bytes);
    properties["method"] = json!({
        "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        "description": "`GET` if left out",
    });
    properties["body"] = json!({
        "type": "string",
        "description": "The body as text; set `content-type` in `headers`",
    });
    properties["json"] = json!({ "description": "The body as JSON, instead of `body`" });
    spec("http.fetch", "Sends an HTTP request.", properties, false)
}

/// A tool is read-only or not, whatever its arguments are: so reading has a tool
/// of its own, which a manifest can ask for alone, and which is called again if
/// the host stopped in the middle.
fn get_spec(max_bytes: usize) -> ToolSpec {
    let mut properties = common_properties(max_bytes);
    properties["method"] = json!({ "enum": ["GET", "HEAD"], "description": "`GET` if left out" });
    spec("http.get", "Reads a page or a file by HTTP.", properties, true)
}

fn common_properties(max_bytes: usize) -> Value {
    json!({
        "url": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_URL,
            "description": "The whole URL, such as `https://example.com/`",
        },
        "headers": {
            "type": "object",
            "maxProperties": 50,
            "additionalProperties": { "type": "string", "maxLength": 8192 },
            "description": "Headers of the request by name",
        },
        "max_bytes": {
            "type": "integer",
            "minimum": 0,
            "description": format!("How much of the body to read at most, in bytes; {max_bytes} if \
                left out, and never more"),
        },
    })
}

fn spec(name: &str, what: &str, properties: Value, reads: bool) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: format!("{what} {ANSWER}"),
        parameters: json!({
            "type": "object",
            "properties": properties,
            "required": ["url"],
            "additionalProperties": false,
        }),
        read_only: reads,
        idempotent: reads,
    }
}

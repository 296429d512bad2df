//! What an agent in Rust needs: typed input and output, events, tools and facts.
//!
//! ```ignore
//! use reenact_agent::{Failure, events, tools};
//! use serde_json::{Value, json};
//!
//! #[derive(serde::Deserialize)]
//! struct Input {
//!     topic: String,
//! }
//!
//! fn run(input: Input) -> Result<String, Failure> {
//!     events::emit("reasoning", &json!({ "text": "I look it up." }));
//!     let found: Value = tools::call("files.search", &json!({ "query": input.topic }))?;
//!     Ok(format!("The search said {found}."))
//! }
//!
//! reenact_agent::agent!(run);
//! ```
//!
//! The library is this one crate, with the world in `wit/`; copy it beside your
//! agent. What it does not cover is in [`bindings`].

use std::any::Any;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use bindings::exports::reenact::agent::guest;
use bindings::reenact::agent as host;

/// The world as it is, generated from `wit/agent.wit`.
pub mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        path: "wit",
        world: "agent",
        pub_export_macro: true,
        default_bindings_module: "reenact_agent::bindings",
    });
}

/// Makes a function the agent: `fn run(input: Input) -> Result<Answer, Failure>`.
///
/// `Input` is anything that serde can read, and the answer a [`String`], which
/// is a document, or [`Json`], either of them with [`Sources`] if need be.
#[macro_export]
macro_rules! agent {
    ($run:path) => {
        struct ReenactAgent;

        impl $crate::bindings::exports::reenact::agent::guest::Guest for ReenactAgent {
            fn run(
                input: String,
            ) -> Result<
                $crate::bindings::exports::reenact::agent::guest::Output,
                $crate::bindings::exports::reenact::agent::guest::Failure,
            > {
                $crate::run(&input, $run)
            }
        }

        $crate::bindings::export!(ReenactAgent with_types_in $crate::bindings);
    };
}

/// Calls the agent's function with its input. For [`agent!`].
pub fn run<I: DeserializeOwned, A: Answer>(
    input: &str,
    run: impl FnOnce(I) -> Result<A, Failure>,
) -> Result<guest::Output, guest::Failure> {
    let input = serde_json::from_str(input)
        .map_err(|error| Failure::new(format!("the input is not what this agent reads: {error}")));
    let answer = input.and_then(run).and_then(|answer| Ok(answer.into_output()?));
    answer.map_err(|failure| guest::Failure {
        message: failure.message,
        details: failure.details.map(|details| details.to_string()),
    })
}

/// What an agent can answer.
pub trait Answer {
    fn into_output(self) -> serde_json::Result<guest::Output>;
}

/// A document: text for people, usually Markdown.
impl Answer for String {
    fn into_output(self) -> serde_json::Result<guest::Output> {
        Ok(guest::Output { content: guest::Content::Document(self), sources: vec![] })
    }
}

/// A JSON value.
pub struct Json<T>(pub T);

impl<T: Serialize> Answer for Json<T> {
    fn into_output(self) -> serde_json::Result<guest::Output> {
        let json = serde_json::to_string(&self.0)?;
        Ok(guest::Output { content: guest::Content::Json(json), sources: vec![] })
    }
}

/// An answer with sources of the agent's own, each a URL and a title. Those
/// that come with tool answers are collected by the host.
pub struct Sources<A>(pub A, pub Vec<(String, String)>);

impl<A: Answer> Answer for Sources<A> {
    fn into_output(self) -> serde_json::Result<guest::Output> {
        let source = |(url, title)| host::types::Source { url, title };
        let sources = self.1.into_iter().map(source).collect();
        Ok(guest::Output { sources, ..self.0.into_output()? })
    }
}

/// Why the agent gives up.
///
/// Any error becomes one with `?`. This type is therefore no error itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub message: String,
    pub details: Option<Value>,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), details: None }
    }

    pub fn with(self, details: Value) -> Self {
        Self { details: Some(details), ..self }
    }
}

impl<E: Display + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let details = (&error as &dyn Any).downcast_ref::<tools::ToolError>().map(|error| {
            json!({ "tool": error.tool, "code": error.code.name(), "message": error.message })
        });
        Self { message: error.to_string(), details }
    }
}

/// What the agent tells those who watch it.
pub mod events {
    use super::*;

    /// Records one event: `planning`, `reasoning` or a kind of your own.
    pub fn emit(kind: &str, data: &impl Serialize) {
        host::events::emit(kind, &json(data));
    }

    /// Opens an event that takes time.
    pub fn open(kind: &str, data: &impl Serialize) -> Span {
        Span { number: host::events::open(kind, &json(data)), is_open: true }
    }

    /// An event that takes time. It ends when it is closed or dropped.
    #[derive(Debug)]
    #[must_use = "the event ends when this is dropped"]
    pub struct Span {
        number: u64,
        is_open: bool,
    }

    impl Span {
        /// Ends the event, with what there is to say about it now.
        pub fn close(mut self, data: &impl Serialize) {
            self.is_open = false;
            host::events::close(self.number, &json(data));
        }
    }

    impl Drop for Span {
        fn drop(&mut self) {
            if self.is_open {
                host::events::close(self.number, "{}");
            }
        }
    }

    fn json(data: &impl Serialize) -> String {
        serde_json::to_string(data).expect("an event's data is JSON")
    }
}

/// The tools that this run was granted.
pub mod tools {
    use super::*;

    pub use host::tools::{Tool, available};

    /// Why a call was not answered with what the agent reads.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Code {
        Denied,
        UnknownTool,
        InvalidArguments,
        Failed,
        Timeout,
        TooLarge,
        Interrupted,
        /// There is an answer, and it is not of the type that the agent reads.
        UnexpectedAnswer,
    }

    impl Code {
        /// The name by which the host, its journal and its pages know it.
        pub fn name(self) -> &'static str {
            match self {
                Self::Denied => "denied",
                Self::UnknownTool => "unknown-tool",
                Self::InvalidArguments => "invalid-arguments",
                Self::Failed => "failed",
                Self::Timeout => "timeout",
                Self::TooLarge => "too-large",
                Self::Interrupted => "interrupted",
                Self::UnexpectedAnswer => "unexpected-answer",
            }
        }
    }

    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ToolError {
        pub tool: String,
        pub code: Code,
        /// In the host's words.
        pub message: String,
    }

    impl Display for ToolError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            let Self { tool, code, message } = self;
            match code {
                Code::Denied => write!(
                    f,
                    "this agent needs the tool `{tool}`, and the run was not granted it: {message}"
                ),
                Code::UnexpectedAnswer => {
                    write!(f, "`{tool}` answered something unexpected: {message}")
                }
                _ => write!(f, "`{tool}` failed: {message}"),
            }
        }
    }

    impl std::error::Error for ToolError {}

    /// A call to be made, for [`call_all`].
    #[derive(Debug, Clone)]
    pub struct Call<'a> {
        tool: &'a str,
        arguments: String,
    }

    impl<'a> Call<'a> {
        pub fn new(tool: &'a str, arguments: &impl Serialize) -> Self {
            let arguments = serde_json::to_string(arguments).expect("arguments are JSON");
            Self { tool, arguments }
        }
    }

    /// Calls a tool and reads its answer.
    pub fn call<T: DeserializeOwned>(
        tool: &str,
        arguments: &impl Serialize,
    ) -> Result<T, ToolError> {
        let call = Call::new(tool, arguments);
        read(tool, host::tools::call(tool, &call.arguments))
    }

    /// Calls several tools at the same time. The answers come in the order of
    /// the calls.
    pub fn call_all<T: DeserializeOwned>(calls: &[Call<'_>]) -> Vec<Result<T, ToolError>> {
        let to_host = |call: &Call<'_>| host::tools::ToolCall {
            name: call.tool.to_owned(),
            arguments: call.arguments.clone(),
        };
        let requests: Vec<_> = calls.iter().map(to_host).collect();
        let answers = host::tools::call_all(&requests).into_iter();
        calls.iter().zip(answers).map(|(call, answer)| read(call.tool, answer)).collect()
    }

    fn read<T: DeserializeOwned>(
        tool: &str,
        answer: Result<String, host::tools::ToolError>,
    ) -> Result<T, ToolError> {
        let error = |code, message| ToolError { tool: tool.to_owned(), code, message };
        let answer = answer.map_err(|failed| error(failed.code.into(), failed.message))?;
        serde_json::from_str(&answer)
            .map_err(|unread| error(Code::UnexpectedAnswer, unread.to_string()))
    }

    impl From<host::tools::ToolErrorCode> for Code {
        fn from(code: host::tools::ToolErrorCode) -> Self {
            use host::tools::ToolErrorCode as Host;
            match code {
                Host::Denied => Self::Denied,
                Host::UnknownTool => Self::UnknownTool,
                Host::InvalidArguments => Self::InvalidArguments,
                Host::Failed => Self::Failed,
                Host::Timeout => Self::Timeout,
                Host::TooLarge => Self::TooLarge,
                Host::Interrupted => Self::Interrupted,
            }
        }
    }
}

/// Facts about the run that is under way.
pub mod context {
    use super::*;

    pub use host::context::{RunInfo, current};

    /// The manifest's `config`.
    pub fn config<T: DeserializeOwned>() -> Result<T, Failure> {
        serde_json::from_str(&host::context::config()).map_err(|error| {
            Failure::new(format!("the manifest's `config` is not what this agent reads: {error}"))
        })
    }

    /// The whole manifest.
    pub fn manifest() -> Value {
        serde_json::from_str(&host::context::manifest()).expect("the host gives JSON")
    }
}

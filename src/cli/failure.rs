//! Errors as people see them: what, why, and a way out.

use std::fmt::Write;
use std::process::ExitCode;

use super::exit;
use super::render::style;
use super::render::text::safe;

/// A command that failed.
#[derive(Debug)]
pub struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { error: anyhow::Error::msg(message.into()), hint: None }
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn context(self, context: impl Into<String>) -> Self {
        Self { error: self.error.context(context.into()), hint: self.hint }
    }

    /// Whether it is, or comes of, an error of this type that `fits`.
    pub fn is<E>(&self, fits: impl Fn(&E) -> bool) -> bool
    where
        E: std::fmt::Display + std::fmt::Debug + Send + Sync + 'static,
    {
        self.error.downcast_ref().is_some_and(fits)
    }

    /// Prints the error with its causes and its hint, and answers the exit code.
    pub fn report(self) -> ExitCode {
        super::note(self.text());
        ExitCode::from(exit::FAILURE)
    }

    /// The error and its causes, without hint and colour.
    pub fn one_line(&self) -> String {
        safe(&format!("{:#}", self.error))
    }

    /// Errors quote files, names and inputs that somebody else may have made.
    fn text(&self) -> String {
        let mut last = safe(&self.error.to_string());
        let mut text = format!("{}: {last}", style::bad("error"));
        for cause in self.error.chain().skip(1) {
            let cause = safe(&cause.to_string());
            // Errors often repeat their cause in their own text.
            if !last.contains(&cause) {
                let _ = write!(text, "\n  caused by: {cause}");
            }
            last = cause;
        }
        if let Some(hint) = self.hint.clone().or_else(|| hint_of(&self.error)) {
            let _ = write!(text, "\n\n{}: {}", style::label("hint"), safe(&hint));
        }
        text
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), hint: None }
    }
}

/// The hint of the first error in the chain that has one.
fn hint_of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let fixed = None
            .or_else(|| cause.downcast_ref::<crate::build::BuildError>()?.hint())
            .or_else(|| cause.downcast_ref::<crate::revision::RevisionError>()?.hint());
        let hint = fixed.map(str::to_owned);
        hint.or_else(|| cause.downcast_ref::<crate::registry::RegistryError>()?.hint())
            .or_else(|| cause.downcast_ref::<crate::storage::StorageError>()?.hint())
            .or_else(|| cause.downcast_ref::<crate::client::ClientError>()?.hint())
            .or_else(|| cause.downcast_ref::<crate::config::ConfigError>()?.hint())
            .or_else(|| cause.downcast_ref::<crate::tools::GrantError>()?.hint())
            .or_else(|| cause.downcast_ref::<crate::runtime::ForkError>()?.hint())
    })
}

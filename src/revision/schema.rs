//! JSON Schemas that strangers wrote, checked against values that strangers sent.
//!
//! The rules of JSON Schema are the `jsonschema` crate's. What is ours is that
//! a hostile schema can neither reach outside of itself nor take for ever: the
//! screen refuses what cannot be bounded, the budget ends what takes too long.
//! The budget is counted in units of work, never in time, so a replay comes to
//! the same answer as the run did.

mod budget;
mod screen;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use budget::Spent;

/// Violations that one check reports: more do not help anybody to mend a value.
pub const MAX_VIOLATIONS: usize = 20;

/// Characters of one violation's message; a long value is not worth quoting.
const MAX_MESSAGE_CHARS: usize = 300;

/// Units of work to find out whether a value fits: nodes of the schema times
/// nodes of the value, which is far more than honest checks use up.
const WORK_TO_DECIDE: u64 = 1_000_000_000;

/// Units of work to find several violations. Each unit can leave an error in
/// memory, so there are fewer; when they run out, the first violation has to do.
const WORK_TO_COLLECT: u64 = 2_000_000;

/// Units of work to find the first violation.
const WORK_TO_LOCATE: u64 = 8_000_000;

/// Bytes that one compiled pattern may take. Unicode classes need tens of
/// KiB; repetitions of repetitions need any amount.
const MAX_PATTERN_BYTES: usize = 512 << 10;

/// Bytes of the stack of a check's own thread, and how much of it may be used.
/// Nested references nest calls, and a value can be 127 levels deep.
const STACK_BYTES: usize = 64 << 20;
const STACK_USE: usize = 32 << 20;

/// A compiled JSON Schema: draft 2020-12, or 2019-09, 7 or 6 if `$schema` says
/// so. `format` is a note, as 2020-12 has it, and is not checked.
pub struct Schema {
    validator: Validator,
    size: u64,
    /// Checking may nest deeper than the schema itself does.
    has_references: bool,
}

/// Why a schema was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", At(.pointer))]
pub struct InvalidSchema {
    /// RFC 6901 pointer into the schema; empty for all of it.
    pub pointer: String,
    pub message: String,
}

/// One place at which a value does not fit its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// RFC 6901 pointer into the value; empty for all of it.
    pub pointer: String,
    pub message: String,
}

impl Schema {
    pub fn compile(schema: &Value) -> Result<Self, InvalidSchema> {
        let screened = screen::screen(schema)?;
        let options = jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_keyword(budget::KEYWORD, budget::keyword)
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(MAX_PATTERN_BYTES)
                    .dfa_size_limit(MAX_PATTERN_BYTES),
            );
        let built = catch_unwind(AssertUnwindSafe(|| options.build(&screened.schema)));
        let validator = built
            .unwrap_or_else(|_| Err(ValidationError::custom("cannot be compiled")))
            .map_err(|error| InvalidSchema {
                pointer: error.instance_path().to_string(),
                message: message_of(&error),
            })?;
        Ok(Self { validator, size: budget::size(schema), has_references: screened.has_references })
    }

    /// Whether `value` fits; if not, up to [`MAX_VIOLATIONS`] reasons. A value
    /// that takes too long to check does not fit.
    pub fn check(&self, value: &Value) -> Result<(), Vec<Violation>> {
        if !self.has_references {
            return self.check_here(value);
        }
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, || self.check_here(value))
                .map_err(|error| vec![Violation::of_all(&format!("cannot be checked: {error}"))])?
                .join()
                .unwrap_or_else(|_| Err(vec![Violation::of_all("cannot be checked")]))
        })
    }

    fn check_here(&self, value: &Value) -> Result<(), Vec<Violation>> {
        match self.within(WORK_TO_DECIDE, value, || self.validator.is_valid(value)) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(Spent) => return Err(vec![Violation::of_all("takes too long to check")]),
        }
        let several = || self.validator.iter_errors(value).take(MAX_VIOLATIONS);
        let first = || self.validator.validate(value).err();
        let violations: Vec<_> = self
            .within(WORK_TO_COLLECT, value, || several().map(Violation::of).collect())
            .or_else(|Spent| {
                self.within(WORK_TO_LOCATE, value, || {
                    first().map(Violation::of).into_iter().collect()
                })
            })
            .unwrap_or_default();
        match violations.as_slice() {
            [] => Err(vec![Violation::of_all("does not fit; it is too large to say where")]),
            _ => Err(violations),
        }
    }

    fn within<T>(&self, work: u64, value: &Value, check: impl FnOnce() -> T) -> Result<T, Spent> {
        budget::within(work, STACK_USE, || {
            budget::charge(self.size, value);
            check()
        })
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

impl Violation {
    fn of_all(message: &str) -> Self {
        Self { pointer: String::new(), message: message.to_owned() }
    }

    fn of(error: ValidationError<'_>) -> Self {
        Self { pointer: error.instance_path().to_string(), message: message_of(&error) }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", At(&self.pointer), self.message)
    }
}

/// A place in a document, as people read it.
pub(super) struct At<'a>(pub &'a str);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("at the root"),
            pointer => write!(f, "at `{pointer}`"),
        }
    }
}

/// The crate's message. It quotes the value, so a large value is left out.
fn message_of(error: &ValidationError<'_>) -> String {
    let brief = match error.instance().as_ref() {
        Value::String(text) => text.len() <= 64,
        Value::Array(_) | Value::Object(_) => false,
        _ => true,
    };
    let text = if brief { error.to_string() } else { error.masked().to_string() };
    match text.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;

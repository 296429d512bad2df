//! Ends a check that takes too much work or too much stack.
//!
//! The validator cannot be interrupted, but it calls custom keywords. Without
//! references, its work is bounded by the size of the schema times that of the
//! value. So that much is charged when a check begins and again whenever a
//! reference is followed: the screen leads each reference past [`KEYWORD`].
//! When nothing is left, the keyword unwinds out of the validator to
//! [`within`]. That is not a panic: no hook runs and nothing is printed.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jsonschema::paths::Location;
use jsonschema::{Keyword, ValidationError};
use serde_json::{Map, Value};

pub const KEYWORD: &str = "x-reenact-charge";

/// What it costs to follow a reference, in nodes of schema.
const VISIT: u64 = 64;

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent;

#[derive(Clone, Copy)]
struct Budget {
    left: u64,
    /// Address on the stack where the check began, and how far it may go.
    base: usize,
    stack: usize,
}

thread_local! {
    static BUDGET: Cell<Option<Budget>> = const { Cell::new(None) };
}

/// Runs `check`, which calls the validator, until it is done or has `Spent`
/// its units of `work` or its bytes of `stack`.
pub fn within<T>(work: u64, stack: usize, check: impl FnOnce() -> T) -> Result<T, Spent> {
    BUDGET.set(Some(Budget { left: work, base: stack_address(), stack }));
    // The validator keeps its state in a context of each call, which unwinding drops.
    let result = catch_unwind(AssertUnwindSafe(check));
    BUDGET.set(None);
    // A panic inside the validator says as little about the value as a spent budget.
    result.map_err(|_| Spent)
}

/// Takes the work of checking `value` against `schema_size` nodes.
pub fn charge(schema_size: u64, value: &Value) {
    let Some(mut budget) = BUDGET.get() else { return };
    let deep = budget.base.abs_diff(stack_address()) > budget.stack;
    let work = schema_size.saturating_add(VISIT).saturating_mul(size(value));
    if deep || budget.left < work {
        resume_unwind(Box::new(Spent));
    }
    budget.left -= work;
    BUDGET.set(Some(budget));
}

/// How much there is of `value`: its nodes, long strings counting as several.
pub fn size(value: &Value) -> u64 {
    1 + match value {
        Value::String(text) => text.len() as u64 / 64,
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() as u64 / 64 + size(value)).sum()
        }
        _ => 0,
    }
}

/// Makes the keyword. Its value is the size of the schema that is referred to.
pub fn keyword<'a>(
    _: &'a Map<String, Value>,
    schema_size: &'a Value,
    _: Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    Ok(Box::new(Charge(schema_size.as_u64().unwrap_or(u64::MAX))))
}

struct Charge(u64);

impl<'i> Keyword<'i> for Charge {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        charge(self.0, value);
        Ok(())
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        charge(self.0, value);
        true
    }
}

/// Roughly where the stack is now.
#[inline(never)]
fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

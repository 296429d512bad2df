//! What a call is given besides its arguments, and what it reports besides its answer.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::vault::Vault;
use crate::journal::{Attempt, Usage};

/// Attempts that are worth recording for one call.
const MAX_ATTEMPTS: usize = 20;

/// The surroundings of one call.
#[derive(Clone)]
pub struct CallContext {
    /// `RUN/CALL`: the same whenever this very call is made again after a crash,
    /// so a provider can pass it on as an idempotency key.
    pub key: String,
    /// What the manifest says under `[needs.PROVIDER]`; null if nothing.
    pub needs: Value,
    /// What the run may still spend.
    pub budget: Budget,
    pub report: Report,
}

/// What a run may still spend on models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Input and output together.
    pub tokens: u64,
    /// Millionths of the unit of the operator's price table.
    pub cost_micros: u64,
}

impl Budget {
    pub const UNLIMITED: Self = Self { tokens: u64::MAX, cost_micros: u64::MAX };
}

/// Shows what a call produces while it is under way. It is given the call's key
/// and all text so far; nothing of that is recorded.
pub type Watcher = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// What a call tells about itself while it is under way. It is kept even if the
/// call is abandoned. Cheap to clone.
#[derive(Clone, Default)]
pub struct Report(Arc<Inner>);

#[derive(Default)]
struct Inner {
    key: String,
    watcher: Option<Watcher>,
    vault: Vault,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    text: String,
    usage: Option<Usage>,
    attempts: Vec<Attempt>,
}

impl Report {
    pub(super) fn new(key: String, watcher: Option<Watcher>, vault: Vault) -> Self {
        Self(Arc::new(Inner { key, watcher, vault, state: Mutex::default() }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A further piece of what the call will answer, for people who watch.
    pub fn text(&self, piece: &str) {
        let Some(watcher) = &self.0.watcher else { return };
        let mut state = self.state();
        state.text.push_str(piece);
        watcher(&self.0.key, &self.0.vault.scrub_text(&state.text));
    }

    /// An attempt failed, and another one is made.
    pub fn attempt(&self, attempt: Attempt) {
        let mut state = self.state();
        // What was shown of it does not count.
        state.text.clear();
        if state.attempts.len() < MAX_ATTEMPTS {
            state.attempts.push(attempt);
        }
    }

    /// Something was charged for; several times add up.
    pub fn used(&self, usage: Usage) {
        let mut state = self.state();
        let sum = state.usage.get_or_insert_default();
        sum.input_tokens = sum.input_tokens.saturating_add(usage.input_tokens);
        sum.output_tokens = sum.output_tokens.saturating_add(usage.output_tokens);
        if let Some(cost) = usage.cost_micros {
            sum.cost_micros = Some(sum.cost_micros.unwrap_or(0).saturating_add(cost));
        }
    }

    /// What was charged and attempted so far.
    pub fn so_far(&self) -> (Option<Usage>, Vec<Attempt>) {
        let state = self.state();
        (state.usage, state.attempts.clone())
    }
}

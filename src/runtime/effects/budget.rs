//! What a run has spent on models, and its end when that is too much.
//!
//! Usage comes with the answers of tools, so a replay counts the same.

use serde_json::{Value, json};

use super::{Effects, Stop};
use crate::journal::{Answer, ErrorCode, RunError, Usage};
use crate::json::Json;
use crate::revision::Limits;
use crate::sandbox::Stopped;
use crate::tools::Budget;

impl Effects {
    /// What a further call may spend.
    pub(super) fn budget(&self) -> Budget {
        let limits = &self.started.limits;
        // At its ceiling a limit limits nothing.
        let left = |limit: u64, ceiling: u64, spent: u64| match limit {
            limit if limit == ceiling => u64::MAX,
            limit => limit.saturating_sub(spent),
        };
        let ceiling = Limits::UNLIMITED;
        Budget {
            tokens: left(limits.model_tokens, ceiling, self.counts.model_tokens),
            cost_micros: left(limits.model_cost_micros, ceiling, self.counts.model_cost_micros),
        }
    }

    /// Counts what calls cost that the guest made together. If it is too much the
    /// run ends here; what it was spent on stays with the error.
    pub(super) fn spend(
        &mut self,
        usages: &[Option<Usage>],
        answers: &[Answer],
    ) -> Result<(), Stopped> {
        for usage in usages.iter().flatten() {
            let counts = &mut self.counts;
            counts.model_tokens = counts.model_tokens.saturating_add(usage.tokens());
            let cost = usage.cost_micros.unwrap_or(0);
            counts.model_cost_micros = counts.model_cost_micros.saturating_add(cost);
        }
        let (limits, counts) = (&self.started.limits, &self.counts);
        let (code, message) = if counts.model_tokens > limits.model_tokens {
            let (spent, limit) = (counts.model_tokens, limits.model_tokens);
            (ErrorCode::TooManyTokens, format!("models used {spent} tokens, the limit is {limit}"))
        } else if counts.model_cost_micros > limits.model_cost_micros {
            let (spent, limit) = (counts.model_cost_micros, limits.model_cost_micros);
            let message = format!("models cost {spent} millionths, the limit is {limit}");
            (ErrorCode::TooExpensive, message)
        } else {
            return Ok(());
        };
        let details = Some(self.partial(usages, answers));
        let error = RunError { details, ..RunError::new(code, message) };
        self.stop.get_or_insert(Stop::End(error));
        Err(Stopped)
    }

    /// What the run has when its budget is gone: the answers that were paid for
    /// last, and all sources.
    fn partial(&self, usages: &[Option<Usage>], answers: &[Answer]) -> Json {
        let paid = usages.iter().zip(answers).filter(|(usage, _)| usage.is_some());
        let paid = paid.filter_map(|(_, answer)| match answer {
            Answer::Ok(output) => Some(output.content.to_value()),
            Answer::Error(_) => None,
        });
        let partial: Vec<Value> = paid.collect();
        Json::from_value(&json!({ "partial": partial, "sources": self.sources }))
    }
}

//! The provider `model`: language models as the tool `model.chat`.
//!
//! genai speaks the providers' APIs; [`relay`] stands between it and them and keeps
//! what they answer in bounds. A call is one answer of a model, however many
//! attempts that takes: those that fail are reported, and only the last failure is
//! the call's. Which runs may spend how much is decided elsewhere; a call stays
//! within what it is given as far as a request can say so.
//!
//! Keys are found when the grant is opened, and are put into requests by the relay.

mod adapter;
mod answer;
mod attempt;
mod fault;
mod gauge;
mod names;
mod price;
mod relay;
mod request;
mod settings;
mod spec;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde_json::Value;
use tokio::sync::OnceCell;

use self::answer::{Answer, Tokens};
use self::attempt::attempt;
use self::relay::Relay;
use self::request::{Arguments, Request, tokens};
use self::settings::{Model, Settings};
use super::{
    Attempt, Budget, CallContext, Grant, Kind, Opened, Opening, Provider, Success, ToolError,
    ToolErrorCode, ToolSpec, Usage, Vault,
};

pub const KIND: Kind = Kind {
    name: "model",
    flag_value: "PROVIDER:MODEL",
    keys: &["default", "models", "providers", "prices", "retries", "retry_ms"],
    many: false,
    open,
};

/// The longest wait between attempts that grows by itself.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// The longest wait that a provider can ask for.
const MAX_ASKED_WAIT: Duration = Duration::from_secs(60);
/// No model that is served today stops earlier by itself. A larger bound than a
/// model has is refused by most APIs, so a budget says `max_tokens` only below this
/// unless the call says it.
const SMALL: u64 = 4_096;

fn open<'a>(grant: &'a Grant, opening: &'a Opening<'a>) -> BoxFuture<'a, Opened> {
    ready(open_now(grant, opening)).boxed()
}

fn open_now(grant: &Grant, opening: &Opening<'_>) -> Opened {
    if !(opening.wanted)(KIND.name) {
        return Ok(Vec::new());
    }
    let settings = Settings::open(grant, opening.vault)?;
    let (vault, relay) = (opening.vault.clone(), OnceCell::new());
    let models = Models(Arc::new(Inner { settings, vault, relay }));
    Ok(vec![(KIND.name.to_owned(), Arc::new(models) as Arc<dyn Provider>)])
}

struct Models(Arc<Inner>);

struct Inner {
    settings: Settings,
    vault: Vault,
    /// Started with the first call.
    relay: OnceCell<Relay>,
}

impl Provider for Models {
    fn tools(&self) -> Vec<ToolSpec> {
        vec![spec::chat()]
    }

    fn call(
        &self,
        tool: &str,
        arguments: Value,
        context: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        let inner = self.0.clone();
        match tool {
            spec::CHAT => async move { inner.chat(arguments, context).await }.boxed(),
            other => {
                let message = format!("`model` has no tool `{other}`");
                ready(Err(ToolError { code: ToolErrorCode::UnknownTool, message })).boxed()
            }
        }
    }
}

impl Inner {
    async fn chat(&self, arguments: Value, context: CallContext) -> Result<Success, ToolError> {
        let arguments: Arguments =
            serde_json::from_value(arguments).map_err(|cause| invalid(cause.to_string()))?;
        let id = arguments.model.clone();
        let model = self.settings.model(id.as_deref()).map_err(invalid)?;
        let max_tokens = max_tokens(arguments.max_tokens, affordable(model, context.budget)?);
        let request = arguments.request(model, max_tokens).map_err(invalid)?;
        let started = async { Relay::start() };
        let relay = self.relay.get_or_try_init(|| started).await;
        let relay = relay.map_err(|why| ToolError { code: ToolErrorCode::Failed, message: why })?;
        let answer = self.persist(relay, model, &request, &context).await?;
        let tokens = spent(&answer, &request);
        context.report.used(Usage {
            input_tokens: tokens.input,
            output_tokens: tokens.output,
            cost_micros: model.price.map(|price| price.cost(tokens.input, tokens.output)),
        });
        let content = answer.content(model.id, &request.names, tokens);
        Ok(Success { content, sources: Vec::new() })
    }

    /// Attempts it until there is an answer, or no sense in going on.
    async fn persist(
        &self,
        relay: &Relay,
        model: Model<'_>,
        request: &Request,
        context: &CallContext,
    ) -> Result<Answer, ToolError> {
        for made in 0.. {
            let fault = match attempt(relay, model, request, &context.report).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let mut failure = fault.failure(model.id, &self.vault);
            let Some(asked) = failure.again.filter(|_| made < self.settings.retries) else {
                if made > 0 {
                    failure.error.message += &format!(" (attempt {})", made + 1);
                }
                return Err(failure.error);
            };
            let wait = wait(self.settings.retry, made, asked);
            let waited_ms = wait.as_millis() as u64;
            context.report.attempt(Attempt { error: failure.error.message, waited_ms });
            tokio::time::sleep(wait).await;
        }
        unreachable!("the last attempt returns")
    }
}

/// Twice as long after every attempt, or as long as the provider asks.
fn wait(first: Duration, made: u32, asked: Duration) -> Duration {
    let grown = first.saturating_mul(2u32.saturating_pow(made)).min(MAX_WAIT);
    grown.max(asked.min(MAX_ASKED_WAIT))
}

/// The output tokens that the budget allows at most; none if it has no limit.
fn affordable(model: Model<'_>, budget: Budget) -> Result<Option<u64>, ToolError> {
    let denied = |message: String| ToolError { code: ToolErrorCode::Denied, message };
    let limited = |left: u64| (left < u64::MAX).then_some(left);
    if budget.tokens == 0 {
        return Err(denied(
            "the run has no tokens left to spend on models (`model_tokens`)".to_owned(),
        ));
    }
    let Some(money) = limited(budget.cost_micros) else { return Ok(limited(budget.tokens)) };
    let Some(price) = model.price else {
        return Err(denied(format!(
            "the run's money is limited (`model_cost_micros`), and `[grants.model.prices]` has no \
             price for `{}`",
            model.id
        )));
    };
    let bought = price.output_for(money);
    if money == 0 || bought == Some(0) {
        let why = "the run has no money left to spend on models (`model_cost_micros`)";
        return Err(denied(why.to_owned()));
    }
    Ok(limited(budget.tokens.min(bought.unwrap_or(u64::MAX))))
}

/// What the request says about the length of the answer.
fn max_tokens(asked: Option<u32>, affordable: Option<u64>) -> Option<u32> {
    let bound = affordable.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
    match (asked, bound) {
        (Some(asked), bound) => Some(asked.min(bound.unwrap_or(u32::MAX))),
        (None, bound) => bound.filter(|bound| u64::from(*bound) <= SMALL),
    }
}

/// What the provider counted. Some servers count nothing; a budget must not depend
/// on that, so a guess stands in.
fn spent(answer: &Answer, request: &Request) -> Tokens {
    let guess = || Tokens { input: request.input_tokens, output: tokens(answer.size()) };
    answer.tokens().unwrap_or_else(guess)
}

fn invalid(message: String) -> ToolError {
    ToolError { code: ToolErrorCode::InvalidArguments, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_follow_the_provider_within_bounds() {
        let waits = |asked| {
            let first = Duration::from_millis(500);
            let waits = (0..10).map(|made| wait(first, made, Duration::from_secs(asked)));
            waits.map(|wait| wait.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(waits(0)[..4], [500, 1_000, 2_000, 4_000]);
        assert_eq!(waits(0)[9], 30_000);
        assert_eq!(waits(3)[..4], [3_000, 3_000, 3_000, 4_000]);
        assert_eq!(waits(3_600), [60_000; 10]);
    }

    #[test]
    fn a_budget_shortens_answers_but_asks_for_no_more_than_models_have() {
        assert_eq!(max_tokens(None, None), None);
        assert_eq!(max_tokens(Some(100), None), Some(100));
        assert_eq!(max_tokens(Some(100), Some(7)), Some(7));
        assert_eq!(max_tokens(Some(100_000), Some(50_000)), Some(50_000));
        assert_eq!(max_tokens(None, Some(7)), Some(7));
        assert_eq!(max_tokens(None, Some(1_000_000)), None);
        assert_eq!(max_tokens(None, Some(u64::MAX - 1)), None);
    }
}

//! One call of a tool: the checks before it, the limits around it, its answer.
//!
//! A call never breaks the host: whatever a guest passes and whatever a tool
//! does, panic included, ends as an [`Answer`] of bounded size within the time
//! limit.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde_json::{Map, Value};
use tokio::task::{JoinError, JoinSet};

use super::approval::{Approver, Decided, Question, Reply};
use super::catalogue::{Catalogue, GrantError};
use super::context::{Budget, CallContext, Report, Watcher};
use super::policy::{Judgement, Policy, judge};
use super::vault::Vault;
use super::{Provider, Source, Success, ToolError, ToolErrorCode, ToolSpec, clip};
use crate::journal::{Answer, Approval, Attempt, GrantedTool, ToolOutput, Usage};
use crate::json::Json;
use crate::revision::{Digest, Limits, Schema};

/// An answer names where it comes from; more than this is noise, and every
/// source is kept in the journal and in the run's result.
const MAX_SOURCES: usize = 1_000;
/// Longer than any address or title that a person would follow or read.
const MAX_SOURCE_TEXT: usize = 2 << 10;
/// A tool's own words about its failure.
const MAX_MESSAGE: usize = 8 << 10;
/// What `serde_json` reads back: an answer that nests deeper could be recorded
/// but not read again.
const MAX_NESTING: usize = 127;

/// The limits of a run that concern one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolLimits {
    pub argument_bytes: u64,
    pub answer_bytes: u64,
    pub timeout: Duration,
}

impl From<&Limits> for ToolLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            argument_bytes: limits.argument_bytes,
            answer_bytes: limits.answer_bytes,
            timeout: Duration::from_millis(limits.tool_timeout_ms),
        }
    }
}

/// A tool that is ready to be called.
pub(super) struct Tool {
    spec: ToolSpec,
    /// The tool as a run's record tells of it, under no rules.
    offer: GrantedTool,
    arguments: Schema,
    provider: Arc<dyn Provider>,
}

impl Tool {
    /// Refuses a tool that cannot be offered to anybody.
    pub(super) fn new(
        of: &str,
        spec: ToolSpec,
        provider: Arc<dyn Provider>,
    ) -> Result<Self, GrantError> {
        let refuse = |problem: String| GrantError::Tool {
            name: of.to_owned(),
            tool: clip(&spec.name, MAX_SOURCE_TEXT),
            problem: clip(&problem, MAX_MESSAGE),
        };
        if spec.name.split_once('.').is_none_or(|(before, after)| before != of || after.is_empty())
        {
            return Err(refuse(format!("is not named `{of}.…`")));
        }
        let arguments = Schema::compile(&spec.parameters)
            .map_err(|cause| refuse(format!("has an unusable schema: {cause}")))?;
        let offer = GrantedTool {
            name: spec.name.clone(),
            description: spec.description.clone(),
            parameters: Json::from_value(&spec.parameters),
            read_only: spec.read_only,
            idempotent: spec.idempotent,
            schema: Some(schema_digest(&spec.parameters)),
            rules: Vec::new(),
        };
        Ok(Self { spec, offer, arguments, provider })
    }

    pub(super) fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(
        self: Arc<Self>,
        arguments: String,
        context: CallContext,
        max: u64,
        vault: Vault,
    ) -> Result<ToolOutput, ToolError> {
        let arguments = self.check(&arguments)?;
        let result = self.provider.call(&self.spec.name, arguments, context).await;
        let mut success = result.map_err(|failure| {
            error(failure.code, clip(&vault.scrub_text(&failure.message), MAX_MESSAGE))
        })?;
        success.content = vault.scrub(success.content);
        for source in &mut success.sources {
            source.url = vault.scrub_text(&source.url).into_owned();
            source.title = vault.scrub_text(&source.title).into_owned();
        }
        self.record(success, max)
    }

    fn check(&self, arguments: &str) -> Result<Value, ToolError> {
        let name = &self.spec.name;
        let invalid = |why: String| error(ToolErrorCode::InvalidArguments, clip(&why, MAX_MESSAGE));
        let value = serde_json::from_str(arguments)
            .map_err(|cause| invalid(format!("the arguments of `{name}` are not JSON: {cause}")))?;
        self.arguments.check(&value).map_err(|violations| {
            let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
            let violations = violations.join("; ");
            invalid(format!("the arguments of `{name}` do not fit its schema: {violations}"))
        })?;
        Ok(value)
    }

    /// What the journal and the guest get of a success.
    fn record(&self, success: Success, max: u64) -> Result<ToolOutput, ToolError> {
        let name = &self.spec.name;
        if !nests_within(&success.content, MAX_NESTING) {
            let why = format!("the answer of `{name}` nests deeper than {MAX_NESTING} levels");
            return Err(error(ToolErrorCode::Failed, why));
        }
        let content = Json::from_value(&success.content);
        if content.as_str().len() as u64 > max {
            let bytes = content.as_str().len();
            let why =
                format!("the answer of `{name}` has {bytes} bytes, but `answer_bytes` is {max}");
            return Err(error(ToolErrorCode::TooLarge, why));
        }
        let sources = success.sources.into_iter().filter_map(tidy_source).take(MAX_SOURCES);
        Ok(ToolOutput { content, sources: sources.collect() })
    }
}

/// The tools of one run. Cheap to clone.
#[derive(Clone)]
pub struct RunTools {
    catalogue: Catalogue,
    asks: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    limits: ToolLimits,
    needs: Arc<Map<String, Value>>,
    policy: Arc<Policy>,
    approver: Option<Arc<dyn Approver>>,
    watcher: Option<Watcher>,
    observer: Option<Observer>,
}

/// Is told of each call that reached a tool: its full name, the answer, the time it took.
pub type Observer = Arc<dyn Fn(&str, &Answer, Duration) + Send + Sync>;

/// Whether a call can be made as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vetted {
    Ready,
    /// A person has to decide first, and has so long to do it.
    Ask {
        timeout_ms: u64,
    },
    Refused(ToolError),
}

/// A call that a run makes.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// See [`CallContext::key`].
    pub key: String,
    pub name: &'a str,
    /// The guest's own text; nothing of it is checked yet.
    pub arguments: &'a str,
    pub budget: Budget,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    pub answer: Answer,
    pub usage: Option<Usage>,
    pub attempts: Vec<Attempt>,
}

impl Called {
    /// An answer for which no tool was reached.
    pub fn of(answer: Answer) -> Self {
        Self { answer, usage: None, attempts: Vec::new() }
    }
}

impl RunTools {
    pub(super) fn new(
        catalogue: Catalogue,
        asks: Arc<dyn Fn(&str) -> bool + Send + Sync>,
        limits: ToolLimits,
    ) -> Self {
        Self {
            catalogue,
            asks,
            limits,
            needs: Arc::default(),
            policy: Arc::default(),
            approver: None,
            watcher: None,
            observer: None,
        }
    }

    /// Holds the run to what the operator says about tools.
    pub fn with_policy(mut self, policy: impl Into<Arc<Policy>>) -> Self {
        self.policy = policy.into();
        self
    }

    /// Asks this about calls that a person has to decide. Without it they are denied.
    pub fn with_approver(mut self, approver: Arc<dyn Approver>) -> Self {
        self.approver = Some(approver);
        self
    }

    /// Hands providers what the manifest says under `[needs]`.
    pub fn with_needs(mut self, needs: Map<String, Value>) -> Self {
        self.needs = Arc::new(needs);
        self
    }

    /// Shows what calls produce while they are under way.
    pub fn with_watcher(mut self, watcher: Watcher) -> Self {
        self.watcher = Some(watcher);
        self
    }

    /// Tells this of the calls that are made.
    pub fn with_observer(mut self, observer: Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// What the policy granted, by name in alphabetical order.
    pub fn granted(&self) -> Vec<GrantedTool> {
        let granted = |tool: &Tool| GrantedTool {
            rules: self.policy.rules_of(&tool.spec.name),
            ..tool.offer.clone()
        };
        let mut tools: Vec<GrantedTool> = self
            .catalogue
            .tools()
            .filter(|tool| self.is_granted(&tool.spec.name))
            .map(|tool| granted(tool))
            .collect();
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        tools
    }

    /// Whether the host has a provider of that name.
    pub fn has_provider(&self, name: &str) -> bool {
        self.catalogue.has_provider(name)
    }

    /// Digest of the tool's schema as it is now, if the run may call it now.
    pub fn schema_of(&self, name: &str) -> Option<Digest> {
        let tool = self.catalogue.find(name, (self.asks)(name), &self.policy).ok()?;
        tool.offer.schema
    }

    fn is_granted(&self, name: &str) -> bool {
        self.catalogue.find(name, (self.asks)(name), &self.policy).is_ok()
    }

    /// Whether a call of a granted tool can be made under the rules that were
    /// recorded when the run started.
    pub fn vet(&self, granted: &GrantedTool, arguments: &str) -> Vetted {
        if granted.rules.is_empty() {
            return Vetted::Ready;
        }
        let checked = self.admit(&granted.name, arguments).and_then(|tool| tool.check(arguments));
        match checked.map(|arguments| judge(&granted.name, &granted.rules, &arguments)) {
            Ok(Judgement::Allow) => Vetted::Ready,
            Ok(Judgement::Ask { timeout_ms }) => Vetted::Ask { timeout_ms },
            Ok(Judgement::Deny { why }) => Vetted::Refused(error(ToolErrorCode::Denied, why)),
            Err(refusal) => Vetted::Refused(refusal),
        }
    }

    /// Asks a person about a call.
    pub fn ask(&self, question: Question) -> BoxFuture<'static, Reply> {
        match &self.approver {
            Some(approver) => approver.ask(question),
            None => {
                let decision = Approval::Denied("there is nobody to ask".to_owned());
                ready(Reply::Decided(Decided { decision, by: String::new() })).boxed()
            }
        }
    }

    /// Makes a call. Needs a tokio runtime. Whoever drops the future abandons the call.
    pub fn call(&self, call: Call<'_>) -> BoxFuture<'static, Called> {
        let Call { key, name, arguments, budget } = call;
        let ready = self.admit(name, arguments).map(|tool| (tool, arguments.to_owned()));
        let is_admitted = ready.is_ok();
        let (limits, vault) = (self.limits, self.catalogue.vault().clone());
        let report = Report::new(key.clone(), self.watcher.clone(), vault.clone());
        let provider = name.split_once('.').map_or(name, |(provider, _)| provider);
        let needs = self.needs.get(provider).cloned().unwrap_or(Value::Null);
        let context = CallContext { key, needs, budget, report: report.clone() };
        let (scrubber, panics) = (vault.clone(), vault.clone());
        let perform = async move {
            let (tool, arguments) = ready?;
            let name = tool.spec.name.clone();
            // In a task of its own, because a panic ends there; dropping the set aborts it.
            let mut task = JoinSet::new();
            task.spawn(tool.call(arguments, context, limits.answer_bytes, vault));
            match tokio::time::timeout(limits.timeout, task.join_next()).await {
                Ok(Some(Ok(outcome))) => outcome,
                Ok(Some(Err(cause))) => Err(broken(cause, &panics)),
                Ok(None) => unreachable!("the set holds one task"),
                Err(_) => {
                    let ms = limits.timeout.as_millis();
                    let why = format!("`{name}` took longer than {ms} ms (`tool_timeout_ms`)");
                    Err(error(ToolErrorCode::Timeout, why))
                }
            }
        };
        let observer = self.observer.clone().filter(|_| is_admitted);
        let observed = name.to_owned();
        let told = async move {
            let begun = Instant::now();
            let answer = perform.await.map_or_else(Answer::Error, Answer::Ok);
            if let Some(observer) = observer {
                observer(&observed, &answer, begun.elapsed());
            }
            let (usage, mut attempts) = report.so_far();
            for attempt in &mut attempts {
                attempt.error = clip(&scrubber.scrub_text(&attempt.error), MAX_MESSAGE);
            }
            Called { answer, usage, attempts }
        };
        told.boxed()
    }

    /// The checks that come before anything of the arguments is read.
    fn admit(&self, name: &str, arguments: &str) -> Result<Arc<Tool>, ToolError> {
        let (bytes, max) = (arguments.len() as u64, self.limits.argument_bytes);
        if bytes > max {
            let why = format!("the arguments have {bytes} bytes, but `argument_bytes` is {max}");
            return Err(error(ToolErrorCode::TooLarge, why));
        }
        self.catalogue.find(name, (self.asks)(name), &self.policy)
    }
}

/// What a tool's schema is known by: SHA-256 of its canonical JSON.
fn schema_digest(schema: &Value) -> Digest {
    let canonical = serde_json_canonicalizer::to_vec(schema).expect("a JSON value serialises");
    Digest::of(&canonical)
}

pub(super) fn error(code: ToolErrorCode, message: String) -> ToolError {
    ToolError { code, message }
}

fn broken(cause: JoinError, vault: &Vault) -> ToolError {
    let what = match cause.try_into_panic() {
        Ok(panic) => clip(&vault.scrub_text(panic_text(&*panic)), MAX_MESSAGE),
        Err(_) => "the host is stopping".to_owned(),
    };
    error(ToolErrorCode::Failed, format!("the tool broke: {what}"))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

/// A shortened address would lead elsewhere, so a source with one too long or
/// with characters that no address has is dropped; a title is for reading only.
fn tidy_source(source: Source) -> Option<Source> {
    let Source { url, title } = source;
    if url.is_empty() || url.len() > MAX_SOURCE_TEXT || url.contains(char::is_control) {
        return None;
    }
    let title = clip(&title, MAX_SOURCE_TEXT).replace(char::is_control, " ");
    Some(Source { url, title })
}

fn nests_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => {
            levels > 0 && items.iter().all(|item| nests_within(item, levels - 1))
        }
        Value::Object(members) => {
            levels > 0 && members.values().all(|item| nests_within(item, levels - 1))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;

//! Tool calls through the one door: written down, answered from the record,
//! made where the record ends.

use std::collections::HashSet;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::json;

use super::decide::Found;
use super::tape::Halt;
use super::{Effects, approvals, clip, system};
use crate::journal::{
    Answer, Approval, ApprovalAnswered, ApprovalAsked, Body, ErrorCode, GrantedTool, Micros,
    Source, ToolAnswered, ToolCalled, ToolError, ToolErrorCode, Usage,
};
use crate::json::Json;
use crate::revision::Digest;
use crate::sandbox::{Stopped, ToolRequest, World};
use crate::tools::{Call, Called, Decided, Reply, RunTools, Vetted};

impl Effects {
    /// Answers calls that the guest makes together, in their order.
    pub(super) async fn call_tools(
        &mut self,
        fuel: u64,
        calls: Vec<ToolRequest>,
    ) -> Result<Vec<Answer>, Stopped> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.before_waiting()?;
        let mut waiting = self.intend(fuel, &calls)?;
        self.recall(fuel, &mut waiting)?;
        if waiting.missing() > 0 {
            self.make(fuel, &calls, &mut waiting).await?;
            self.commit().await?;
        }
        let (answers, usages) = waiting.into_answers();
        self.collect_sources(&answers);
        self.spend(&usages, &answers)?;
        Ok(answers)
    }

    /// Numbers the calls and writes down that they are about to be made.
    fn intend(&mut self, fuel: u64, calls: &[ToolRequest]) -> Result<Waiting, Stopped> {
        let limits = self.started.limits;
        let count = calls.len() as u64;
        if count > limits.calls_at_once {
            let message =
                format!("{count} tool calls at once, the limit is {}", limits.calls_at_once);
            return self.end(ErrorCode::TooManyToolCalls, message);
        }
        if self.counts.tool_calls + count > limits.tool_calls {
            let message = format!("the guest made more than {} tool calls", limits.tool_calls);
            return self.end(ErrorCode::TooManyToolCalls, message);
        }
        self.counts.tool_calls += count;
        let first = self.next_call;
        let mut were_on_record = true;
        for (call, request) in (first..).zip(calls) {
            were_on_record &= self.tape.is_recorded();
            let arguments = recorded_arguments(&request.arguments, limits.argument_bytes);
            let name = clip(&request.name);
            self.put(fuel, Body::ToolCalled(ToolCalled { call, name, arguments }))?;
            self.next_call = call + 1;
        }
        Ok(Waiting { first, calls: vec![Pending::default(); calls.len()], were_on_record })
    }

    /// Takes from the record what it holds of the answers to `calls`. What is
    /// left unanswered was under way when the run was interrupted.
    fn recall(&mut self, fuel: u64, waiting: &mut Waiting) -> Result<(), Stopped> {
        while waiting.missing() > 0 && self.tape.is_recorded() {
            let entry = self.tape.peek().map(|entry| entry.cloned());
            let Some(entry) = self.halt(entry)? else { break };
            let found = waiting.found(fuel);
            let wanted = |call| waiting.open(call).cloned();
            match entry.body.clone() {
                Body::ToolAnswered(answered) if wanted(answered.call).is_some() => {
                    self.put(fuel, entry.body)?;
                    waiting.set(answered);
                }
                Body::ApprovalAsked(asked)
                    if wanted(asked.call).is_some_and(|pending| pending.asked.is_none()) =>
                {
                    self.put_question(fuel, asked.clone())?;
                    waiting.at(asked.call).asked = Some(asked.until);
                }
                Body::ApprovalAnswered(decided)
                    if wanted(decided.call).is_some_and(|pending| pending.is_asked()) =>
                {
                    self.put_decision(fuel, decided.clone())?;
                    waiting.at(decided.call).decided = Some(decided.decision);
                }
                _ => return self.stop_waiting(&entry, found),
            }
        }
        Ok(())
    }

    /// Makes the calls that have no answer yet, all at once, and records each
    /// answer when it arrives.
    async fn make(
        &mut self,
        fuel: u64,
        calls: &[ToolRequest],
        waiting: &mut Waiting,
    ) -> Result<(), Stopped> {
        let Some(tools) = self.tools.clone() else {
            let result = Err(Halt::JournalOver);
            return self.halt(result);
        };
        let mut under_way: FuturesUnordered<BoxFuture<'static, Step>> = FuturesUnordered::new();
        let mut must_be_known = false;
        for (call, request) in (waiting.first..).zip(calls) {
            let Some(pending) = waiting.open(call) else { continue };
            let next = self.next_step(&tools, request, pending, waiting.were_on_record);
            // Whether a call was made must be known after a crash, unless making it
            // again does no harm.
            must_be_known |= !self.may_repeat(&request.name) || matches!(next, Next::Ask(_));
            under_way.push(match next {
                Next::Answer(answer) => ready(Step::Called(call, Called::of(answer))).boxed(),
                Next::Call(request) => self.start(&tools, call, request),
                Next::Wait(until) => self.wait_for_decision(&tools, call, request, until),
                Next::Ask(timeout_ms) => {
                    let until = system::now().saturating_add(timeout_ms.saturating_mul(1_000));
                    self.put_question(fuel, ApprovalAsked { call, until })?;
                    waiting.at(call).asked = Some(until);
                    self.wait_for_decision(&tools, call, request, until)
                }
            });
        }
        if must_be_known {
            self.commit().await?;
        }
        let control = self.control.clone();
        while waiting.missing() > 0 {
            let step = tokio::select! {
                biased;
                interrupt = Self::interrupted(&control, self.open_questions > 0) => Err(interrupt),
                Some(step) = under_way.next() => Ok(step),
            };
            match step {
                Ok(Step::Called(call, Called { answer, usage, attempts })) => {
                    let answered = ToolAnswered { call, answer, usage, attempts };
                    self.put(fuel, Body::ToolAnswered(answered.clone()))?;
                    waiting.set(answered);
                    self.relieve().await?;
                }
                Ok(Step::Decided(_, Reply::Leave)) => {
                    let result = Err(Halt::Paused);
                    return self.halt(result);
                }
                Ok(Step::Decided(call, Reply::Decided(Decided { decision, by }))) => {
                    let decided = ApprovalAnswered { call, decision: decision.clone(), by };
                    self.put_decision(fuel, decided)?;
                    self.commit().await?;
                    let request = &calls[(call - waiting.first) as usize];
                    under_way.push(match self.decided(&tools, &decision, request) {
                        Ok(request) => self.start(&tools, call, request),
                        Err(answer) => ready(Step::Called(call, Called::of(answer))).boxed(),
                    });
                }
                Err(interrupt) => return self.interrupt(interrupt),
            }
        }
        Ok(())
    }

    /// What comes next for a call that has no answer.
    fn next_step(
        &self,
        tools: &RunTools,
        request: &ToolRequest,
        pending: &Pending,
        were_on_record: bool,
    ) -> Next {
        let name = &request.name;
        if let Some(decision) = &pending.decided {
            return match self.decided(tools, decision, request) {
                Err(answer) => Next::Answer(answer),
                Ok(_) if !self.may_repeat(name) => Next::Answer(interrupted(name)),
                Ok(request) => Next::Call(request),
            };
        }
        if let Some(until) = pending.asked {
            return Next::Wait(until);
        }
        let granted = self.started.tools.iter().find(|tool| tool.name == *name);
        let vetted = match granted {
            None => Vetted::Ready,
            Some(granted) => tools.vet(granted, &request.arguments),
        };
        match vetted {
            Vetted::Ask { timeout_ms } => Next::Ask(timeout_ms),
            _ if were_on_record && !self.may_repeat(name) => Next::Answer(interrupted(name)),
            Vetted::Refused(error) => Next::Answer(Answer::Error(error)),
            Vetted::Ready => match self.not_as_granted(tools, granted, name) {
                Some(answer) => Next::Answer(answer),
                None => Next::Call(request.clone()),
            },
        }
    }

    /// The call that a person approved, which the operator's rules may still deny
    /// when its arguments were edited; or why there is none.
    fn decided(
        &self,
        tools: &RunTools,
        decision: &Approval,
        request: &ToolRequest,
    ) -> Result<ToolRequest, Answer> {
        let approved = approvals::outcome(decision, request)?;
        let granted = self.started.tools.iter().find(|tool| tool.name == approved.name);
        match granted.map(|granted| tools.vet(granted, &approved.arguments)) {
            Some(Vetted::Refused(error)) => Err(Answer::Error(error)),
            _ => Ok(approved),
        }
    }

    fn start(&self, tools: &RunTools, call: u64, request: ToolRequest) -> BoxFuture<'static, Step> {
        let (key, budget) = (format!("{}/{call}", self.started.run), self.budget());
        let (name, arguments) = (&*request.name, &*request.arguments);
        let called = tools.call(Call { key, name, arguments, budget });
        called.map(move |called| Step::Called(call, called)).boxed()
    }

    fn wait_for_decision(
        &self,
        tools: &RunTools,
        call: u64,
        request: &ToolRequest,
        until: Micros,
    ) -> BoxFuture<'static, Step> {
        let question = approvals::question(&self.started.run, call, request, until);
        let reply = approvals::decide(tools.clone(), question);
        reply.map(move |reply| Step::Decided(call, reply)).boxed()
    }

    /// Whether calling the tool again after a crash does no harm. What is not
    /// granted is not reached at all.
    fn may_repeat(&self, name: &str) -> bool {
        let tool = self.started.tools.iter().find(|tool| tool.name == name);
        tool.is_none_or(|tool| tool.read_only || tool.idempotent)
    }

    /// What a run may call is settled when it starts: a tool that was granted or
    /// changed since is denied to a run that is resumed.
    fn not_as_granted(
        &self,
        tools: &RunTools,
        recorded: Option<&GrantedTool>,
        name: &str,
    ) -> Option<Answer> {
        let now = tools.schema_of(name);
        let message = match (recorded, now) {
            (None, Some(_)) => format!("`{name}` was not granted when the run started"),
            (Some(GrantedTool { schema: Some(then), .. }), Some(now)) if *then != now => {
                format!("the schema of `{name}` has changed since the run started")
            }
            _ => return None,
        };
        Some(Answer::Error(ToolError { code: ToolErrorCode::Denied, message }))
    }

    fn collect_sources(&mut self, answers: &[Answer]) {
        for answer in answers {
            let Answer::Ok(output) = answer else { continue };
            merge_sources(&mut self.sources, &output.sources, self.started.limits.sources);
        }
    }
}

/// What happens to a call that has no answer yet.
enum Next {
    Answer(Answer),
    Call(ToolRequest),
    /// A person was asked and has not decided.
    Wait(Micros),
    /// A person is to be asked, and has so many milliseconds.
    Ask(u64),
}

/// What happened to a call that is under way.
enum Step {
    Called(u64, Called),
    Decided(u64, Reply),
}

/// A call that the guest waits for.
#[derive(Debug, Clone, Default)]
struct Pending {
    answer: Option<Answer>,
    usage: Option<Usage>,
    /// A person was asked, with time until then.
    asked: Option<Micros>,
    decided: Option<Approval>,
}

impl Pending {
    fn is_asked(&self) -> bool {
        self.asked.is_some() && self.decided.is_none()
    }
}

/// Calls that were made together, and what is known of their answers.
struct Waiting {
    first: u64,
    calls: Vec<Pending>,
    /// The record already held every one of these calls. A call that may not be
    /// repeated is only made when all of them are durable.
    were_on_record: bool,
}

impl Waiting {
    fn missing(&self) -> usize {
        self.calls.iter().filter(|pending| pending.answer.is_none()).count()
    }

    /// The call of this number, if it is one of these and has no answer yet.
    fn open(&self, call: u64) -> Option<&Pending> {
        let index = usize::try_from(call.checked_sub(self.first)?).ok()?;
        self.calls.get(index).filter(|pending| pending.answer.is_none())
    }

    fn at(&mut self, call: u64) -> &mut Pending {
        &mut self.calls[(call - self.first) as usize]
    }

    fn set(&mut self, answered: ToolAnswered) {
        let pending = self.at(answered.call);
        (pending.answer, pending.usage) = (Some(answered.answer), answered.usage);
    }

    fn found(&self, fuel: u64) -> Found {
        let calls = self.first..self.first + self.calls.len() as u64;
        Found::Waiting { fuel, calls: calls.filter(|call| self.open(*call).is_some()).collect() }
    }

    fn into_answers(self) -> (Vec<Answer>, Vec<Option<Usage>>) {
        let answered = |pending: Pending| Some((pending.answer?, pending.usage));
        self.calls.into_iter().filter_map(answered).unzip()
    }
}

/// Adds the sources whose address is not there yet, up to `limit`.
pub fn merge_sources(collected: &mut Vec<Source>, more: &[Source], limit: u64) {
    let mut known: HashSet<String> = collected.iter().map(|known| known.url.clone()).collect();
    for source in more {
        if collected.len() as u64 >= limit {
            return;
        }
        if known.insert(source.url.clone()) {
            collected.push(source.clone());
        }
    }
}

fn interrupted(name: &str) -> Answer {
    Answer::Error(ToolError {
        code: ToolErrorCode::Interrupted,
        message: format!(
            "the host stopped while `{name}` was called; whether the tool did its work is not known"
        ),
    })
}

/// Arguments as they are recorded. What is not JSON, or too large for a call to
/// be made with it, is described rather than kept.
fn recorded_arguments(text: &str, limit: u64) -> Json {
    if text.len() as u64 > limit {
        let digest = Digest::of(text.as_bytes());
        return Json::from_value(
            &json!({ "$tooLarge": { "bytes": text.len(), "digest": digest } }),
        );
    }
    Json::parse(text).unwrap_or_else(|_| Json::from_value(&json!({ "$notJson": text })))
}

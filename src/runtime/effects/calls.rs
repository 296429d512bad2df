//! Tool calls through the one door: written down, answered from the record,
//! made where the record ends.

use std::collections::HashSet;
use std::time::Duration;

use futures::stream::StreamExt;
use serde_json::json;

use super::tape::Halt;
use super::under_way::{Next, Pending, Step, UnderWay, Waited, Waiting};
use super::{Effects, approvals, clip, system};
use crate::journal::{
    Answer, Approval, ApprovalAnswered, ApprovalAsked, Body, ErrorCode, GrantedTool, Source,
    ToolAnswered, ToolCalled, ToolError, ToolErrorCode,
};
use crate::json::Json;
use crate::revision::Digest;
use crate::runtime::control::{Due, Interrupt};
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
        self.deny_withdrawn(fuel, &calls, &mut waiting)?;
        self.recall(fuel, &mut waiting)?;
        if self.tape.departed().is_some() {
            self.look_up(fuel, &calls, &mut waiting)?;
        }
        if waiting.missing() > 0 {
            waiting = self.make(fuel, calls, waiting).await?;
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
        let mut were_on_record = !self.tape.is_untouched();
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
                _ => self.is_off_record(&entry, found)?,
            }
        }
        Ok(())
    }

    /// Answers calls of tools that this revision may not call any more, whatever the
    /// record says.
    fn deny_withdrawn(
        &mut self,
        fuel: u64,
        calls: &[ToolRequest],
        waiting: &mut Waiting,
    ) -> Result<(), Stopped> {
        for (call, request) in (waiting.first..).zip(calls) {
            if !self.withdrawn.contains(&request.name) {
                continue;
            }
            let message = format!("the manifest does not ask for `{}`", request.name);
            let answer = Answer::Error(ToolError { code: ToolErrorCode::Denied, message });
            let answered = ToolAnswered { call, answer, usage: None, attempts: Vec::new() };
            self.put(fuel, Body::ToolAnswered(answered.clone()))?;
            waiting.set(answered);
        }
        Ok(())
    }

    /// Answers calls of a guest that goes its own way with what the record holds.
    fn look_up(
        &mut self,
        fuel: u64,
        calls: &[ToolRequest],
        waiting: &mut Waiting,
    ) -> Result<(), Stopped> {
        let limit = self.started.limits.argument_bytes;
        let since = self.now();
        for (call, request) in (waiting.first..).zip(calls) {
            if waiting.open(call).is_none() {
                continue;
            }
            let arguments = recorded_arguments(&request.arguments, limit);
            let called = ToolCalled { call, name: clip(&request.name), arguments };
            let answered = self.tape.departed().and_then(|transcript| transcript.answer(&called));
            if let Some((answered, took)) = answered {
                self.tape.advance_to(since.saturating_add(took));
                self.put(fuel, Body::ToolAnswered(answered.clone()))?;
                waiting.set(answered);
            }
        }
        Ok(())
    }

    /// Makes the calls that have no answer yet, all at once, and waits for them.
    async fn make(
        &mut self,
        fuel: u64,
        calls: Vec<ToolRequest>,
        waiting: Waiting,
    ) -> Result<Waiting, Stopped> {
        let Some(tools) = self.tools.clone() else {
            return self.halt(Err(Halt::JournalOver));
        };
        let mut under_way = UnderWay::new(fuel, calls, waiting, tools);
        self.first_steps(&mut under_way).await?;
        match self.wait(&mut under_way, self.control.patience()).await? {
            Waited::Answered => Ok(under_way.waiting),
            Waited::TooLong => {
                self.unloaded = Some(under_way);
                Err(Stopped)
            }
        }
    }

    /// Takes the first step of each call that has no answer.
    ///
    /// Before a call that may change something, the run is durable up to here: what the
    /// call follows from cannot turn out otherwise after a crash, and that it was made is
    /// known. A call that only reads can be made again, or not, and nobody is the wiser;
    /// but not on the strength of what another has done, unless that is durable.
    async fn first_steps(&mut self, under_way: &mut UnderWay) -> Result<(), Stopped> {
        let mut must_be_known = false;
        for index in 0..under_way.calls.len() {
            let call = under_way.waiting.first + index as u64;
            let Some(pending) = under_way.waiting.open(call) else { continue };
            let request = &under_way.calls[index];
            let were_on_record = under_way.waiting.were_on_record;
            let next = self.next_step(&under_way.tools, request, pending, were_on_record);
            must_be_known |= match &next {
                Next::Answer(_) => false,
                Next::Call(request) => self.owes_commit || !self.only_reads(&request.name),
                Next::Wait(_) | Next::Ask(_) => true,
            };
            match next {
                Next::Answer(answer) => under_way.answer(call, answer),
                Next::Call(request) => under_way.call(self.call_of(call, &request)),
                Next::Wait(until) => under_way.ask(&self.started.run, call, until),
                Next::Ask(timeout_ms) => {
                    let until = system::now().saturating_add(timeout_ms.saturating_mul(1_000));
                    self.put_question(under_way.fuel, ApprovalAsked { call, until })?;
                    under_way.waiting.at(call).asked = Some(until);
                    under_way.ask(&self.started.run, call, until);
                }
            }
        }
        if must_be_known { self.commit().await } else { Ok(()) }
    }

    /// Records each answer when it arrives, until all have arrived or the guest
    /// has waited for longer than `patience`.
    pub(super) async fn wait(
        &mut self,
        under_way: &mut UnderWay,
        patience: Option<Duration>,
    ) -> Result<Waited, Stopped> {
        let control = self.control.clone();
        let fuel = under_way.fuel;
        let too_long = async {
            match patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        let mut too_long = std::pin::pin!(too_long);
        while under_way.waiting.missing() > 0 {
            let (is_held, is_called) = (self.open_questions > 0, under_way.is_called());
            if let Some(park) = under_way.park() {
                // Who wants it to end does not want it to wait.
                if control.is_cancelled() {
                    return self.interrupt(Due::End(Interrupt::Cancelled));
                }
                return self.halt(Err(Halt::Parked(park)));
            }
            // What has been cancelled meanwhile takes no step: a call is made when it
            // is waited for, and not before.
            let step = tokio::select! {
                biased;
                due = Self::interrupted(&control, is_held, is_called) => Err(due),
                Some(step) = under_way.steps.next() => Ok(step),
                () = &mut too_long => return Ok(Waited::TooLong),
            };
            match step {
                Ok(Step::Called(call, Called { answer, usage, attempts })) => {
                    let answered = ToolAnswered { call, answer, usage, attempts };
                    self.put(fuel, Body::ToolAnswered(answered.clone()))?;
                    self.owes_commit |= !self.only_reads(&under_way.request(call).name);
                    under_way.waiting.set(answered);
                    self.relieve().await?;
                }
                Ok(Step::Decided(call, Reply::Leave)) => under_way.leave(call),
                Ok(Step::Decided(call, Reply::Decided(Decided { decision, by }))) => {
                    under_way.asked.remove(&call);
                    let decided = ApprovalAnswered { call, decision: decision.clone(), by };
                    self.put_decision(fuel, decided)?;
                    self.commit().await?;
                    let request = under_way.request(call);
                    match self.decided(&under_way.tools, &decision, request) {
                        Ok(request) => under_way.call(self.call_of(call, &request)),
                        Err(answer) => under_way.answer(call, answer),
                    }
                }
                Err(due) => return self.interrupt(due),
            }
        }
        Ok(Waited::Answered)
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
        let granted = self.granted(name);
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
        let granted = self.granted(&approved.name);
        match granted.map(|granted| tools.vet(granted, &approved.arguments)) {
            Some(Vetted::Refused(error)) => Err(Answer::Error(error)),
            _ => Ok(approved),
        }
    }

    fn call_of<'a>(&self, call: u64, request: &'a ToolRequest) -> (u64, Call<'a>) {
        let (key, budget) = (format!("{}/{call}", self.started.run), self.budget());
        (call, Call { key, name: &request.name, arguments: &request.arguments, budget })
    }

    /// Whether calling the tool again after a crash does no harm. What is not
    /// granted is not reached at all.
    fn may_repeat(&self, name: &str) -> bool {
        self.granted(name).is_none_or(|tool| tool.read_only || tool.idempotent)
    }

    /// Whether calling the tool changes nothing. What is not granted is not reached.
    fn only_reads(&self, name: &str) -> bool {
        self.granted(name).is_none_or(|tool| tool.read_only)
    }

    /// The tool of that name, as it was granted when the run started.
    fn granted(&self, name: &str) -> Option<&GrantedTool> {
        self.started.tools.iter().find(|tool| tool.name == name)
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

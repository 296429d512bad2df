//! Tool calls through the one door: written down, answered from the record,
//! made where the record ends.

use std::collections::HashSet;

use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::json;

use super::decide::Found;
use super::tape::Halt;
use super::{Effects, clip};
use crate::journal::{
    Answer, Body, ErrorCode, GrantedTool, Source, ToolAnswered, ToolCalled, ToolError,
    ToolErrorCode,
};
use crate::json::Json;
use crate::revision::Digest;
use crate::sandbox::{Stopped, ToolRequest, World};
use crate::tools::{Budget, Call, Called, RunTools};

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
        let answers: Vec<Answer> = waiting.answers.into_iter().flatten().collect();
        self.collect_sources(&answers);
        Ok(answers)
    }

    /// Numbers the calls and writes down that they are about to be made.
    fn intend(&mut self, fuel: u64, calls: &[ToolRequest]) -> Result<Answers, Stopped> {
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
        Ok(Answers { first, answers: vec![None; calls.len()], were_on_record })
    }

    /// Takes from the record what it holds of the answers to `calls`. What is
    /// left unanswered was under way when the run was interrupted.
    fn recall(&mut self, fuel: u64, waiting: &mut Answers) -> Result<(), Stopped> {
        while waiting.missing() > 0 && self.tape.is_recorded() {
            let entry = self.tape.peek().map(|entry| entry.cloned());
            let Some(entry) = self.halt(entry)? else { break };
            match &entry.body {
                Body::ToolAnswered(answered) if waiting.wants(answered.call) => {
                    let (call, answer) = (answered.call, answered.answer.clone());
                    self.put(fuel, entry.body)?;
                    waiting.set(call, answer);
                }
                _ => return self.stop_waiting(&entry, waiting.found(fuel)),
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
        waiting: &mut Answers,
    ) -> Result<(), Stopped> {
        let Some(tools) = self.tools.clone() else {
            let result = Err(Halt::JournalOver);
            return self.halt(result);
        };
        let live = (waiting.first..).zip(calls).filter(|(call, _)| waiting.wants(*call));
        let live: Vec<(u64, &ToolRequest)> = live.collect();
        // Whether a call was made must be known after a crash, unless making it
        // again does no harm.
        if live.iter().any(|(_, request)| !self.may_repeat(&request.name)) {
            self.commit().await?;
        }
        let mut under_way = FuturesUnordered::new();
        for (call, request) in live {
            let known = if waiting.were_on_record && !self.may_repeat(&request.name) {
                Some(interrupted(&request.name))
            } else {
                self.granted_too_late(&tools, &request.name)
            };
            let tools = tools.clone();
            let (key, budget) = (format!("{}/{call}", self.started.run), Budget::UNLIMITED);
            under_way.push(async move {
                let called = match known {
                    Some(answer) => Called { answer, usage: None, attempts: Vec::new() },
                    None => {
                        let (name, arguments) = (&*request.name, &*request.arguments);
                        tools.call(Call { key, name, arguments, budget }).await
                    }
                };
                (call, called)
            });
        }
        while waiting.missing() > 0 {
            let answered = tokio::select! {
                biased;
                interrupt = self.control.interrupted() => Err(interrupt),
                Some(answered) = under_way.next() => Ok(answered),
            };
            match answered {
                Ok((call, Called { answer, usage, attempts })) => {
                    let body = ToolAnswered { call, answer: answer.clone(), usage, attempts };
                    self.put(fuel, Body::ToolAnswered(body))?;
                    waiting.set(call, answer);
                    self.relieve().await?;
                }
                Err(interrupt) => return self.interrupt(interrupt),
            }
        }
        Ok(())
    }

    /// Whether calling the tool again after a crash does no harm. What is not
    /// granted is not reached at all.
    fn may_repeat(&self, name: &str) -> bool {
        let tool = self.started.tools.iter().find(|tool| tool.name == name);
        tool.is_none_or(|tool| tool.read_only || tool.idempotent)
    }

    /// What a run may call is settled when it starts: a tool that was granted
    /// since is denied to a run that is resumed.
    fn granted_too_late(&self, tools: &RunTools, name: &str) -> Option<Answer> {
        let is_in = |granted: &[GrantedTool]| granted.iter().any(|tool| tool.name == name);
        let too_late = !is_in(&self.started.tools) && is_in(&tools.granted());
        too_late.then(|| {
            let message = format!("`{name}` was not granted when the run started");
            Answer::Error(ToolError { code: ToolErrorCode::Denied, message })
        })
    }

    fn collect_sources(&mut self, answers: &[Answer]) {
        for answer in answers {
            let Answer::Ok(output) = answer else { continue };
            merge_sources(&mut self.sources, &output.sources, self.started.limits.sources);
        }
    }
}

/// The answers to calls that were made together.
struct Answers {
    first: u64,
    answers: Vec<Option<Answer>>,
    /// The record already held every one of these calls. A call that may not be
    /// repeated is only made when all of them are durable.
    were_on_record: bool,
}

impl Answers {
    fn missing(&self) -> usize {
        self.answers.iter().filter(|answer| answer.is_none()).count()
    }

    fn wants(&self, call: u64) -> bool {
        let index = call.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.answers.get(index)).is_some_and(Option::is_none)
    }

    fn set(&mut self, call: u64, answer: Answer) {
        self.answers[(call - self.first) as usize] = Some(answer);
    }

    fn found(&self, fuel: u64) -> Found {
        let calls = self.first..self.first + self.answers.len() as u64;
        Found::Waiting { fuel, calls: calls.filter(|call| self.wants(*call)).collect() }
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

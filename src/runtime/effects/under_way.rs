//! Calls that are under way: what is known of their answers, and what they do
//! until they have one. Nothing here is recorded; that is `calls`' work.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use futures::stream::FuturesUnordered;

use super::approvals;
use super::decide::Found;
use super::tape::Park;
use crate::journal::{Answer, Approval, Micros, ToolAnswered, Usage};
use crate::sandbox::ToolRequest;
use crate::tools::{Call, Called, Reply, RunTools};

/// How a wait ended.
pub(super) enum Waited {
    Answered,
    /// It lasted for longer than a guest is kept loaded.
    TooLong,
}

/// Calls that were made together and not all answered yet. They go on without the guest.
pub(super) struct UnderWay {
    pub(super) fuel: u64,
    pub(super) calls: Vec<ToolRequest>,
    pub(super) waiting: Waiting,
    pub(super) tools: RunTools,
    pub(super) steps: FuturesUnordered<BoxFuture<'static, Step>>,
    /// Calls about which a person is being asked.
    pub(super) asked: BTreeSet<u64>,
    /// Calls about which nobody waits for a person, and until when one may decide.
    left: BTreeMap<u64, Micros>,
}

impl UnderWay {
    pub(super) fn new(
        fuel: u64,
        calls: Vec<ToolRequest>,
        waiting: Waiting,
        tools: RunTools,
    ) -> Self {
        let (asked, left) = (BTreeSet::new(), BTreeMap::new());
        Self { fuel, calls, waiting, tools, steps: FuturesUnordered::new(), asked, left }
    }

    pub(super) fn request(&self, call: u64) -> &ToolRequest {
        &self.calls[(call - self.waiting.first) as usize]
    }

    /// The call is answered without reaching its tool.
    pub(super) fn answer(&mut self, call: u64, answer: Answer) {
        self.steps.push(ready(Step::Called(call, Called::of(answer))).boxed());
    }

    pub(super) fn call(&mut self, (number, call): (u64, Call<'_>)) {
        let called = self.tools.call(call);
        self.steps.push(called.map(move |called| Step::Called(number, called)).boxed());
    }

    /// Asks a person about the call.
    pub(super) fn ask(&mut self, run: &str, call: u64, until: Micros) {
        let question = approvals::question(run, call, self.request(call), until);
        let reply = approvals::decide(self.tools.clone(), question);
        self.asked.insert(call);
        self.steps.push(reply.map(move |reply| Step::Decided(call, reply)).boxed());
    }

    /// Nobody waits for the decision.
    pub(super) fn leave(&mut self, call: u64) {
        self.asked.remove(&call);
        if let Some(until) = self.waiting.at(call).asked {
            self.left.insert(call, until);
        }
    }

    /// Whether a tool is at work, and not only people.
    pub(super) fn is_called(&self) -> bool {
        self.steps.len() > self.asked.len()
    }

    /// What the run waits for, if all that is missing are decisions that nobody
    /// waits for.
    pub(super) fn park(&self) -> Option<Park> {
        let until = *self.left.values().min()?;
        let calls = self.left.keys().copied().collect();
        self.steps.is_empty().then_some(Park { until, calls })
    }
}

/// What happens to a call that has no answer yet.
pub(super) enum Next {
    Answer(Answer),
    Call(ToolRequest),
    /// A person was asked and has not decided.
    Wait(Micros),
    /// A person is to be asked, and has so many milliseconds.
    Ask(u64),
}

/// What happened to a call that is under way.
pub(super) enum Step {
    Called(u64, Called),
    Decided(u64, Reply),
}

/// A call that the guest waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    pub(super) answer: Option<Answer>,
    pub(super) usage: Option<Usage>,
    /// A person was asked, with time until then.
    pub(super) asked: Option<Micros>,
    pub(super) decided: Option<Approval>,
}

impl Pending {
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some() && self.decided.is_none()
    }
}

/// Calls that were made together, and what is known of their answers.
pub(super) struct Waiting {
    pub(super) first: u64,
    pub(super) calls: Vec<Pending>,
    /// The record already held every one of these calls. A call that may not be
    /// repeated is only made when all of them are durable.
    pub(super) were_on_record: bool,
}

impl Waiting {
    pub(super) fn missing(&self) -> usize {
        self.calls.iter().filter(|pending| pending.answer.is_none()).count()
    }

    /// The call of this number, if it is one of these and has no answer yet.
    pub(super) fn open(&self, call: u64) -> Option<&Pending> {
        let index = usize::try_from(call.checked_sub(self.first)?).ok()?;
        self.calls.get(index).filter(|pending| pending.answer.is_none())
    }

    pub(super) fn at(&mut self, call: u64) -> &mut Pending {
        &mut self.calls[(call - self.first) as usize]
    }

    pub(super) fn set(&mut self, answered: ToolAnswered) {
        let pending = self.at(answered.call);
        (pending.answer, pending.usage) = (Some(answered.answer), answered.usage);
    }

    pub(super) fn found(&self, fuel: u64) -> Found {
        let calls = self.first..self.first + self.calls.len() as u64;
        Found::Waiting { fuel, calls: calls.filter(|call| self.open(*call).is_some()).collect() }
    }

    pub(super) fn into_answers(self) -> (Vec<Answer>, Vec<Option<Usage>>) {
        let answered = |pending: Pending| Some((pending.answer?, pending.usage));
        self.calls.into_iter().filter_map(answered).unzip()
    }
}

//! The one door: everything that a guest asks of the outside passes here, and
//! becomes an entry of the journal or is answered by one.
//!
//! Nothing else in the tree knows whether a run is live. [`decide`] holds the
//! decision, [`tape`] the journal with its position; this file knows what each
//! request means and which limits it meets. It does not know how tools work or
//! where a journal is stored.

mod approvals;
mod budget;
mod calls;
pub mod decide;
pub mod recorder;
pub mod system;
pub mod tape;
pub mod transcript;
mod under_way;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use self::calls::merge_sources;
use self::decide::{Found, Request, ends_wait};
use self::tape::{Halt, Park, Tape};
use self::under_way::UnderWay;
use super::control::{Control, Due};
use crate::journal::{
    Answer, Body, Damage, ErrorCode, Event, GrantedTool, Log, Micros, RunError, SleepStarted,
    Source, SpanClosed, SpanOpened, Started, Stream,
};
use crate::json::Json;
use crate::revision::Limits;
use crate::sandbox::{Facts, Stopped, ToolRequest, World};
use crate::tools::RunTools;

/// Characters of an event's kind, and of a tool's name where it is recorded.
const MAX_NAME: usize = 64;

/// Why the world stopped the guest.
#[derive(Debug, Clone)]
pub enum Stop {
    /// The run ends here, with this error.
    End(RunError),
    /// The journal does not go on.
    Halt(Halt),
}

/// What the guest has used so far, of what is counted here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub events: u64,
    pub tool_calls: u64,
    pub log_bytes: u64,
    log_lines: u64,
    pub model_tokens: u64,
    pub model_cost_micros: u64,
}

/// The surroundings of one run.
pub struct Effects {
    facts: Facts,
    started: Arc<Started>,
    tape: Tape,
    /// Reaches the tools; `None` where nothing may happen live.
    tools: Option<RunTools>,
    /// Tools that the record's run had and that this revision does not ask for.
    withdrawn: BTreeSet<String>,
    control: Control,
    counts: Counts,
    log_is_full: bool,
    next_span: u64,
    open_spans: BTreeSet<u64>,
    next_call: u64,
    /// A tool that does more than read has answered, and that is not durable yet.
    owes_commit: bool,
    /// Questions to people that are open, and since when there are any.
    open_questions: u64,
    held_since: Micros,
    sources: Vec<Source>,
    stop: Option<Stop>,
    /// What the guest waited for when it was unloaded.
    unloaded: Option<UnderWay>,
}

impl Effects {
    /// Begins where `tape` does: after the first entry, or at it, which is then
    /// the record's or made of `started`.
    pub fn begin(
        started: Arc<Started>,
        facts: Facts,
        mut tape: Tape,
        tools: Option<RunTools>,
        control: Control,
    ) -> Result<Self, Halt> {
        if tape.entries() == 0 {
            let body = Body::Started(Box::new(Started::clone(&started)));
            tape.put(Request { fuel: 0, body }, u64::MAX)?;
        }
        Ok(Self {
            facts,
            started,
            tape,
            tools,
            withdrawn: BTreeSet::new(),
            control,
            counts: Counts::default(),
            log_is_full: false,
            next_span: 0,
            open_spans: BTreeSet::new(),
            next_call: 0,
            owes_commit: false,
            open_questions: 0,
            held_since: 0,
            sources: Vec::new(),
            stop: None,
            unloaded: None,
        })
    }

    /// Denies calls of these tools, as they would be denied to a live run of a
    /// revision that does not ask for them.
    pub fn withdraw(mut self, tools: BTreeSet<String>) -> Self {
        self.withdrawn = tools;
        self
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub fn tape(&mut self) -> &mut Tape {
        &mut self.tape
    }

    /// Whether the guest was unloaded while calls are under way: then
    /// [`Effects::settle`] waits for them.
    pub fn is_unloaded(&self) -> bool {
        self.unloaded.is_some()
    }

    /// Waits for the calls that were under way when the guest was unloaded. What
    /// they answer is durable when this returns.
    pub async fn settle(&mut self) -> Result<(), Halt> {
        let Some(mut under_way) = self.unloaded.take() else { return Ok(()) };
        self.tape.forget_record();
        let settled = self.wait(&mut under_way, None).await;
        match (settled, self.take_stop()) {
            // An end is recorded when the guest has been brought back to this place.
            (Ok(_), _) | (Err(_), Some(Stop::End(_))) => self.tape.commit().await,
            (Err(_), Some(Stop::Halt(halt))) => Err(halt),
            (Err(_), None) => unreachable!("a wait stops only with a reason"),
        }
    }

    pub fn take_stop(&mut self) -> Option<Stop> {
        self.stop.take()
    }

    fn halt<T>(&mut self, result: Result<T, Halt>) -> Result<T, Stopped> {
        result.map_err(|halt| {
            self.stop.get_or_insert(match halt {
                Halt::Full => {
                    let code = ErrorCode::JournalTooLarge;
                    Stop::End(end_from_outside(code, &self.started.limits))
                }
                halt => Stop::Halt(halt),
            });
            Stopped
        })
    }

    fn end<T>(&mut self, code: ErrorCode, message: String) -> Result<T, Stopped> {
        self.stop.get_or_insert(Stop::End(RunError::new(code, message)));
        Err(Stopped)
    }

    fn put(&mut self, fuel: u64, body: Body) -> Result<(), Stopped> {
        // What a guest printed before it was stopped, and had not ended with a
        // line's end, comes too late.
        if self.stop.is_some() || self.unloaded.is_some() {
            return Err(Stopped);
        }
        let result = self.tape.put(Request { fuel, body }, self.started.limits.journal_bytes);
        self.halt(result)
    }

    async fn commit(&mut self) -> Result<(), Stopped> {
        let result = self.tape.commit().await;
        self.owes_commit = false;
        self.halt(result)
    }

    fn count_event(&mut self) -> Result<(), Stopped> {
        let limit = self.started.limits.events;
        if self.counts.events >= limit {
            let message = format!("the guest emitted more than {limit} events");
            return self.end(ErrorCode::TooManyEvents, message);
        }
        self.counts.events += 1;
        Ok(())
    }

    fn event_data(&mut self, data: String) -> Result<Json, Stopped> {
        let limit = self.started.limits.event_bytes;
        if data.len() as u64 > limit {
            let message = format!("an event of {} bytes, the limit is {limit}", data.len());
            return self.end(ErrorCode::PayloadTooLarge, message);
        }
        Json::parse_owned(data).or_else(|error| {
            let message = format!("an event's data is {error}");
            self.end(ErrorCode::InvalidEvent, message)
        })
    }

    fn event_kind(&mut self, kind: &str) -> Result<(), Stopped> {
        let mut bytes = kind.bytes();
        let valid = kind.len() <= MAX_NAME
            && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
            && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if valid {
            return Ok(());
        }
        let message = format!(
            "`{}` is not a kind of event: expected 1 to {MAX_NAME} of `a-z 0-9 _`, a letter first",
            clip(kind)
        );
        self.end(ErrorCode::InvalidEvent, message)
    }

    /// A run can end before a wait begins: in the record, or now.
    fn before_waiting(&mut self) -> Result<(), Stopped> {
        let recorded = self.tape.peek().map(|entry| entry.map(ends_wait));
        match self.halt(recorded)? {
            // What would not have fitted into the journal proves that itself.
            Some(Some(code)) if code != ErrorCode::JournalTooLarge => self.end_from_outside(code),
            Some(_) => Ok(()),
            None => match self.control.due() {
                Some(due) => self.interrupt(due),
                None => Ok(()),
            },
        }
    }

    /// The record does not hold what the guest waits for: either the run ended
    /// in this wait, or this replay has diverged, and may go on without the record.
    fn is_off_record(
        &mut self,
        entry: &crate::journal::Entry,
        found: Found,
    ) -> Result<(), Stopped> {
        match ends_wait(entry) {
            Some(code) => self.end_from_outside(code),
            None => {
                let departs = self.tape.diverge(found);
                self.halt(departs)
            }
        }
    }

    /// Waits where the record does not tell how long that takes.
    async fn fall_asleep(&mut self, until: Micros) -> Result<(), Stopped> {
        if self.tape.departed().is_none() {
            self.commit().await?;
            if let Some(due @ Due::End(_)) = self.control.due() {
                return self.interrupt(due);
            }
            if self.control.is_too_long(until) {
                let until = until.min(self.control.deadline().unwrap_or(until));
                return self.halt(Err(Halt::Parked(Park { until, calls: Vec::new() })));
            }
            if let Err(due) = self.control.sleep_until(until).await {
                return self.interrupt(due);
            }
        }
        self.tape.advance_to(until);
        Ok(())
    }

    fn interrupt<T>(&mut self, due: Due) -> Result<T, Stopped> {
        match due {
            Due::End(interrupt) => self.end_from_outside(interrupt.code()),
            Due::Leave => self.halt(Err(Halt::Left)),
        }
    }

    fn end_from_outside<T>(&mut self, code: ErrorCode) -> Result<T, Stopped> {
        self.stop.get_or_insert(Stop::End(end_from_outside(code, &self.started.limits)));
        Err(Stopped)
    }
}

impl World for Effects {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn tools(&self) -> &[GrantedTool] {
        &self.started.tools
    }

    fn now(&self) -> Micros {
        self.tape.now()
    }

    fn emit(&mut self, fuel: u64, kind: String, data: String) -> Result<(), Stopped> {
        self.count_event()?;
        self.event_kind(&kind)?;
        let data = self.event_data(data)?;
        self.put(fuel, Body::Event(Event { kind, data }))
    }

    fn open(&mut self, fuel: u64, kind: String, data: String) -> Result<u64, Stopped> {
        self.count_event()?;
        self.event_kind(&kind)?;
        let data = self.event_data(data)?;
        let span = self.next_span;
        self.put(fuel, Body::SpanOpened(SpanOpened { span, kind, data }))?;
        self.next_span += 1;
        self.open_spans.insert(span);
        Ok(span)
    }

    fn close(&mut self, fuel: u64, span: u64, data: String) -> Result<(), Stopped> {
        if !self.open_spans.remove(&span) {
            let message = format!("the guest closed span {span}, which is not open");
            return self.end(ErrorCode::InvalidEvent, message);
        }
        let data = self.event_data(data)?;
        self.put(fuel, Body::SpanClosed(SpanClosed { span, data }))
    }

    fn log(&mut self, fuel: u64, stream: Stream, text: String) -> Result<(), Stopped> {
        if self.log_is_full {
            return Ok(());
        }
        let limits = &self.started.limits;
        // The end of the line counts too, so that empty lines are not free.
        let bytes = self.counts.log_bytes + text.len() as u64 + 1;
        if bytes > limits.log_bytes || self.counts.log_lines >= limits.log_lines {
            self.log_is_full = true;
            let text = "the log is full: what the guest prints from here on is dropped".to_owned();
            return self.put(fuel, Body::Log(Log { stream, text }));
        }
        self.counts.log_bytes = bytes;
        self.counts.log_lines += 1;
        self.put(fuel, Body::Log(Log { stream, text }))
    }

    async fn relieve(&mut self) -> Result<(), Stopped> {
        if self.tape.is_behind() { self.commit().await } else { Ok(()) }
    }

    async fn call(&mut self, fuel: u64, calls: Vec<ToolRequest>) -> Result<Vec<Answer>, Stopped> {
        self.call_tools(fuel, calls).await
    }

    async fn sleep(&mut self, fuel: u64, until: Micros) -> Result<(), Stopped> {
        self.count_event()?;
        self.before_waiting()?;
        self.put(fuel, Body::SleepStarted(SleepStarted { until }))?;
        let recorded = self.tape.peek().map(|entry| entry.cloned());
        match self.halt(recorded)? {
            Some(entry) if entry.body == Body::SleepEnded => {}
            Some(entry) => {
                self.is_off_record(&entry, Found::Sleeping { fuel })?;
                self.fall_asleep(until).await?;
            }
            None => self.fall_asleep(until).await?,
        }
        self.put(fuel, Body::SleepEnded)?;
        if self.now() < until {
            let index = self.tape.entries() - 1;
            let what = "the sleep ended before its time".to_owned();
            let damage = Err(Damage { index, what }.into());
            return self.halt(damage);
        }
        Ok(())
    }
}

/// The error of a run that ends for a reason outside of the guest. The same
/// code and limits give the same error, whatever a journal says.
pub fn end_from_outside(code: ErrorCode, limits: &Limits) -> RunError {
    let message = match code {
        ErrorCode::Deadline => format!("the run took longer than {} ms", limits.deadline_ms),
        ErrorCode::JournalTooLarge => {
            format!("the journal outgrew {} bytes", limits.journal_bytes)
        }
        _ => "the run was cancelled".to_owned(),
    };
    RunError::new(code, message)
}

fn clip(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

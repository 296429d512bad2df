//! The replay decision, free of I/O: is this request answered by the record,
//! performed live, or a divergence?

use crate::journal::{Body, Content, Entry, ErrorCode, Outcome, Output, Used};

/// What the guest asks for, as the entry that it would become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub fuel: u64,
    pub body: Body,
}

/// How closely a request must match the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Content and fuel. For a replay under the engine that made the record.
    Exact,
    /// Content, but nothing that engines may differ in.
    Content,
    /// What the guest does, as far as anybody outside can tell. For another
    /// revision, which has its own fuel and memory and orders JSON its own way.
    Behaviour,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The record holds this request at this place.
    Recorded,
    /// The record ends before this request.
    Beyond,
    Divergence(Box<Divergence>),
}

/// The first place where a replay asked for something other than what the
/// journal holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// Sequence number of the entry.
    pub index: u64,
    /// What the journal holds; `None` if the run had ended by then.
    pub expected: Option<Request>,
    pub found: Found,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The guest asked for this instead.
    Request(Request),
    /// The guest waits for the answers of these tool calls.
    Waiting { fuel: u64, calls: Vec<u64> },
    /// The guest waits for a time to pass.
    Sleeping { fuel: u64 },
}

/// Compares a request with the entry at its place, if the record has one.
pub fn decide(recorded: Option<&Entry>, request: &Request, precision: Precision) -> Decision {
    let Some(entry) = recorded else { return Decision::Beyond };
    let same = match precision {
        Precision::Exact => is_equal(entry, request) || is_same_end(entry, request),
        Precision::Content => portable(&entry.body) == portable(&request.body),
        Precision::Behaviour => is_alike(&entry.body, &request.body),
    };
    if same {
        return Decision::Recorded;
    }
    Decision::Divergence(Box::new(diverged(entry, Found::Request(request.clone()))))
}

/// Whether the request would become this very entry.
pub fn is_equal(entry: &Entry, request: &Request) -> bool {
    entry.fuel == request.fuel && entry.body == request.body
}

/// Whether both are the same end, as far as another build of this host can tell.
///
/// The engine measures a guest's stack from a frame of the host, and another
/// build lays out its frames otherwise: a guest that overflows its stack comes
/// some calls further, or less far. And what is wrong with an output or an event
/// is said in the words of a library.
fn is_same_end(entry: &Entry, request: &Request) -> bool {
    let Body::Ended(ended) = &entry.body else { return false };
    let Outcome::Error(error) = &ended.outcome else { return false };
    let overflowed = error.code == ErrorCode::StackOverflow;
    let reworded = is_worded_by_a_library(error.code) && entry.fuel == request.fuel;
    (overflowed || reworded) && portable(&entry.body) == portable(&request.body)
}

fn is_worded_by_a_library(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::InvalidOutput | ErrorCode::InvalidEvent)
}

pub fn diverged(entry: &Entry, found: Found) -> Divergence {
    let expected = Request { fuel: entry.fuel, body: entry.body.clone() };
    Divergence { index: entry.seq, expected: Some(expected), found }
}

/// The code with which `entry` ends a wait, if it does: a run can be cancelled,
/// run out of time or fill its journal while it waits for the outside.
pub fn ends_wait(entry: &Entry) -> Option<ErrorCode> {
    let Body::Ended(ended) = &entry.body else { return None };
    let Outcome::Error(error) = &ended.outcome else { return None };
    let codes = [ErrorCode::Cancelled, ErrorCode::Deadline, ErrorCode::JournalTooLarge];
    (codes.contains(&error.code) && ended.interrupted_at.is_none()).then_some(error.code)
}

/// The body without what another engine, version or processor may do otherwise.
fn portable(body: &Body) -> Body {
    let mut body = body.clone();
    if let Body::Ended(ended) = &mut body {
        ended.used.journal_bytes = 0;
        ended.interrupted_at = None;
        if let Outcome::Error(error) = &mut ended.outcome {
            error.backtrace.clear();
            let by_the_engine = matches!(error.code, ErrorCode::Trap | ErrorCode::PayloadTooLarge);
            if by_the_engine || is_worded_by_a_library(error.code) {
                error.message.clear();
            }
        }
    }
    body
}

/// Whether both do the same, whatever it took to do it.
pub fn is_alike(a: &Body, b: &Body) -> bool {
    a == b || behaviour(a) == behaviour(b)
}

/// The body without what another revision may do otherwise and nobody notices.
fn behaviour(body: &Body) -> Body {
    let mut body = portable(body);
    match &mut body {
        Body::Event(event) => event.data = event.data.in_order(),
        Body::SpanOpened(span) => span.data = span.data.in_order(),
        Body::SpanClosed(span) => span.data = span.data.in_order(),
        Body::ToolCalled(called) => called.arguments = called.arguments.in_order(),
        Body::Ended(ended) => {
            ended.used = Used::default();
            match &mut ended.outcome {
                Outcome::Done(Output { content: Content::Json(json), .. }) => {
                    *json = json.in_order();
                }
                Outcome::Done(_) => {}
                Outcome::Error(error) => error.details = error.details.take().map(|d| d.in_order()),
            }
        }
        _ => {}
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Ended, Event, Place, RunError};
    use crate::json::Json;

    fn event(data: &str) -> Body {
        Body::Event(Event { kind: "planning".to_owned(), data: Json::parse(data).unwrap() })
    }

    fn ended(code: ErrorCode, message: &str, interrupted_at: Option<Place>) -> Body {
        let error = RunError::new(code, message.to_owned());
        let outcome = Outcome::Error(error);
        Body::Ended(Box::new(Ended { outcome, used: Used::default(), interrupted_at }))
    }

    fn entry(fuel: u64, body: Body) -> Entry {
        Entry { seq: 3, at: 1, fuel, body }
    }

    fn request(fuel: u64, body: Body) -> Request {
        Request { fuel, body }
    }

    #[test]
    fn the_same_content_at_the_same_fuel_is_recorded() {
        let recorded = entry(7, event("1"));
        let decision = decide(Some(&recorded), &request(7, event("1")), Precision::Exact);
        assert_eq!(decision, Decision::Recorded);
    }

    #[test]
    fn no_entry_is_beyond_the_record() {
        assert_eq!(decide(None, &request(7, event("1")), Precision::Exact), Decision::Beyond);
    }

    #[test]
    fn other_content_or_other_fuel_diverges_and_says_where() {
        let recorded = entry(7, event("1"));
        for found in [request(7, event("2")), request(8, event("1"))] {
            let expected = Divergence {
                index: 3,
                expected: Some(request(7, event("1"))),
                found: Found::Request(found.clone()),
            };
            let decision = decide(Some(&recorded), &found, Precision::Exact);
            assert_eq!(decision, Decision::Divergence(Box::new(expected)));
        }
    }

    #[test]
    fn another_engine_may_use_other_fuel_and_word_traps_otherwise() {
        let recorded = entry(7, event("1"));
        let decision = decide(Some(&recorded), &request(8, event("1")), Precision::Content);
        assert_eq!(decision, Decision::Recorded);
        let recorded = entry(7, ended(ErrorCode::Trap, "a", None));
        let other = request(9, ended(ErrorCode::Trap, "b", None));
        assert_eq!(decide(Some(&recorded), &other, Precision::Content), Decision::Recorded);
        let other = request(9, ended(ErrorCode::OutOfFuel, "a", None));
        assert_ne!(decide(Some(&recorded), &other, Precision::Content), Decision::Recorded);
    }

    #[test]
    fn another_revision_may_use_other_fuel_and_order_json_otherwise() {
        let recorded = entry(7, event(r#"{"a":1,"b":{"c":2,"d":3}}"#));
        let same = request(8, event(r#"{"b":{"d":3,"c":2},"a":1}"#));
        assert_eq!(decide(Some(&recorded), &same, Precision::Behaviour), Decision::Recorded);
        assert_ne!(decide(Some(&recorded), &same, Precision::Content), Decision::Recorded);
        let other = request(7, event(r#"{"a":1,"b":{"c":2,"d":4}}"#));
        assert_ne!(decide(Some(&recorded), &other, Precision::Behaviour), Decision::Recorded);

        let done = |memory_bytes, answer: &str| {
            let content = Content::Json(Json::parse(answer).unwrap());
            let outcome = Outcome::Done(Output { content, sources: Vec::new() });
            let used = Used { memory_bytes, ..Used::default() };
            Body::Ended(Box::new(Ended { outcome, used, interrupted_at: None }))
        };
        let recorded = entry(7, done(1, r#"{"a":1,"b":2}"#));
        let same = request(9, done(2, r#"{"b":2,"a":1}"#));
        assert_eq!(decide(Some(&recorded), &same, Precision::Behaviour), Decision::Recorded);
        let other = request(9, done(1, r#"{"b":2,"a":0}"#));
        assert_ne!(decide(Some(&recorded), &other, Precision::Behaviour), Decision::Recorded);
    }

    #[test]
    fn a_stack_overflow_may_come_some_calls_later() {
        let recorded = entry(7, ended(ErrorCode::StackOverflow, "a", None));
        let later = request(9, ended(ErrorCode::StackOverflow, "a", None));
        assert_eq!(decide(Some(&recorded), &later, Precision::Exact), Decision::Recorded);
        let other = request(9, ended(ErrorCode::StackOverflow, "b", None));
        assert_ne!(decide(Some(&recorded), &other, Precision::Exact), Decision::Recorded);
    }

    #[test]
    fn only_an_end_from_outside_ends_a_wait() {
        assert!(ends_wait(&entry(1, ended(ErrorCode::Cancelled, "", None))).is_some());
        assert!(ends_wait(&entry(1, ended(ErrorCode::Deadline, "", None))).is_some());
        assert!(
            ends_wait(&entry(1, ended(ErrorCode::Cancelled, "", Some(Place::Yield(2))))).is_none()
        );
        assert!(ends_wait(&entry(1, ended(ErrorCode::Trap, "", None))).is_none());
        assert!(ends_wait(&entry(1, event("1"))).is_none());
    }
}

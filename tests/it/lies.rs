//! Ways to change an entry so that it says something else than the guest did.

use reenact::journal::*;
use reenact::json::Json;

/// What is changed, and how.
pub type Lie = (&'static str, fn(&mut Entry));

/// Other JSON than any guest or tool of the tests writes.
pub fn other(json: &mut Json) {
    *json = Json::parse(r#"{"forged":true}"#).unwrap();
}

/// Everything in an entry that the guest itself decided. What came from outside
/// is told apart by other tests.
pub fn lies(body: &Body) -> Vec<Lie> {
    let mut lies: Vec<Lie> = vec![("more fuel", |entry| entry.fuel += 1)];
    if !matches!(body, Body::Started(_)) {
        lies.push(("less fuel", |entry| entry.fuel -= 1));
        lies.push(("another body", |entry| {
            entry.body = Body::Log(Log { stream: Stream::Stdout, text: "forged".to_owned() });
        }));
    }
    macro_rules! lie {
        ($variant:ident, $($what:literal: |$it:ident| $change:expr),+) => {
            lies.extend([$(($what, (|entry: &mut Entry| {
                let Body::$variant($it) = &mut entry.body else { unreachable!() };
                $change;
            }) as fn(&mut Entry))),+])
        };
    }
    match body {
        Body::Started(_) | Body::SleepEnded => {}
        Body::Event(_) => lie!(Event,
            "kind": |event| event.kind.push('s'),
            "data": |event| other(&mut event.data)),
        Body::SpanOpened(_) => lie!(SpanOpened,
            "span": |span| span.span += 1,
            "kind": |span| span.kind.push('s'),
            "data": |span| other(&mut span.data)),
        Body::SpanClosed(_) => lie!(SpanClosed,
            "span": |span| span.span += 1,
            "data": |span| other(&mut span.data)),
        Body::Log(_) => lie!(Log,
        "text": |log| log.text.push('.'),
        "stream": |log| log.stream = match log.stream {
            Stream::Stdout => Stream::Stderr,
            Stream::Stderr => Stream::Stdout,
        }),
        Body::ToolCalled(_) => lie!(ToolCalled,
            "call": |called| called.call += 1,
            "name": |called| called.name = "files.list_".to_owned(),
            "arguments": |called| other(&mut called.arguments)),
        Body::ToolAnswered(_) => lie!(ToolAnswered, "call": |answered| answered.call += 100),
        // Whose call it is; what people say comes from outside.
        Body::ApprovalAsked(_) => lie!(ApprovalAsked, "call": |asked| asked.call += 100),
        Body::ApprovalAnswered(_) => lie!(ApprovalAnswered, "call": |decided| decided.call += 100),
        Body::SleepStarted(_) => lie!(SleepStarted, "until": |sleep| sleep.until += 1),
        Body::Ended(ended) => {
            lie!(Ended,
            "memory": |ended| ended.used.memory_bytes += 1,
            "tables": |ended| ended.used.table_elements += 1,
            "events": |ended| ended.used.events += 1,
            "calls": |ended| ended.used.tool_calls += 1,
            "log bytes": |ended| ended.used.log_bytes += 1,
            "output bytes": |ended| ended.used.output_bytes += 1,
            "journal bytes": |ended| ended.used.journal_bytes += 1,
            "tokens": |ended| ended.used.model_tokens += 1,
            "cost": |ended| ended.used.model_cost_micros += 1,
            "place": |ended| ended.interrupted_at = Some(reenact::journal::Place::Yield(1)),
            "outcome": |ended| ended.outcome = Outcome::Done(Output {
                content: Content::Document("forged".to_owned()), sources: vec![],
            }));
            match &ended.outcome {
                Outcome::Done(_) => lie!(Ended,
                "sources": |ended| output(ended).sources.push(Source {
                    url: "forged:".to_owned(), title: String::new(),
                }),
                "result": |ended| match &mut output(ended).content {
                    Content::Document(text) => text.push('.'),
                    Content::Json(json) => other(json),
                }),
                Outcome::Error(_) => lie!(Ended,
                    "code": |ended| error(ended).code = ErrorCode::OutOfFuel,
                    "message": |ended| error(ended).message.push('.'),
                    "details": |ended| error(ended).details = None,
                    "backtrace": |ended| error(ended).backtrace.push("forged".to_owned())),
            }
        }
    }
    lies
}

fn output(ended: &mut Ended) -> &mut Output {
    let Outcome::Done(output) = &mut ended.outcome else { unreachable!() };
    output
}

fn error(ended: &mut Ended) -> &mut RunError {
    let Outcome::Error(error) = &mut ended.outcome else { unreachable!() };
    error
}

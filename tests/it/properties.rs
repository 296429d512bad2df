//! What holds for any entry and any JSON, not only for those that guests make.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use reenact::journal::*;
use reenact::json::Json;
use reenact::revision::{Digest, Limits};
use serde_json::Value;

fn json() -> impl Strategy<Value = Json> {
    value().prop_map(|value| Json::from_value(&value))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any::<String>(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let action = proptest::sample::select(&[Action::Allow, Action::Ask, Action::Deny][..]);
    let rule = (action, option::of(json()), any::<Option<u64>>());
    vec(rule.prop_map(|(action, when, timeout_ms)| Rule { action, when, timeout_ms }), 0..3)
}

fn started() -> impl Strategy<Value = Body> {
    let tool = (any::<(String, String, bool, bool)>(), json(), option::of(digest()), rules());
    let tool = tool.prop_map(|(tool, parameters, schema, rules)| {
        let (name, description, read_only, idempotent) = tool;
        GrantedTool { name, description, parameters, read_only, idempotent, schema, rules }
    });
    let engine = any::<(String, u64)>().prop_map(|(name, n)| Fingerprint {
        wasmtime: name.clone(),
        arch: name,
        stack_bytes: n,
        yield_fuel: n,
        hostcall_bytes: n,
    });
    let names = any::<(String, String, String)>();
    (names, digest(), json(), any::<u64>(), vec(tool, 0..3), engine, option::of(fork())).prop_map(
        |((run, agent, seed), revision, input, fuel, tools, engine, fork)| {
            let limits = Limits { fuel, ..Limits::DEFAULT };
            let format = FORMAT;
            let started =
                Started { format, run, agent, revision, input, seed, limits, tools, engine, fork };
            Body::Started(Box::new(started))
        },
    )
}

fn fork() -> impl Strategy<Value = Fork> {
    (any::<(String, String, u64, u64, u64, bool)>(), digest()).prop_map(
        |((run, seen_as, at, shared, made_at, set_result), head)| Fork {
            run,
            at,
            head,
            shared,
            made_at,
            seen_as,
            set_result,
        },
    )
}

fn sources() -> impl Strategy<Value = Vec<Source>> {
    let source = any::<(String, String)>().prop_map(|(url, title)| Source { url, title });
    vec(source, 0..3)
}

fn answered() -> impl Strategy<Value = Body> {
    let ok = (json(), sources())
        .prop_map(|(content, sources)| Answer::Ok(ToolOutput { content, sources }));
    let code = prop_oneof![Just(ToolErrorCode::Denied), Just(ToolErrorCode::Interrupted)];
    let error = (code, any::<String>())
        .prop_map(|(code, message)| Answer::Error(ToolError { code, message }));
    let usage = any::<(u64, u64, Option<u64>)>().prop_map(|(input_tokens, output_tokens, cost)| {
        Usage { input_tokens, output_tokens, cost_micros: cost }
    });
    let attempt = any::<(String, u64)>();
    let attempt = attempt.prop_map(|(error, waited_ms)| Attempt { error, waited_ms });
    let extras = (option::of(usage), vec(attempt, 0..3));
    (any::<u64>(), prop_oneof![ok, error], extras).prop_map(|(call, answer, (usage, attempts))| {
        Body::ToolAnswered(ToolAnswered { call, answer, usage, attempts })
    })
}

fn approval() -> impl Strategy<Value = Body> {
    let decision = prop_oneof![
        Just(Approval::Approved),
        Just(Approval::TimedOut),
        json().prop_map(Approval::Edited),
        any::<String>().prop_map(Approval::Denied),
    ];
    (any::<u64>(), decision, any::<String>()).prop_map(|(call, decision, by)| {
        Body::ApprovalAnswered(ApprovalAnswered { call, decision, by })
    })
}

fn ended() -> impl Strategy<Value = Body> {
    let content =
        prop_oneof![any::<String>().prop_map(Content::Document), json().prop_map(Content::Json),];
    let done = (content, sources())
        .prop_map(|(content, sources)| Outcome::Done(Output { content, sources }));
    let code = proptest::sample::select(ErrorCode::ALL);
    let error = (code, any::<String>(), option::of(json()), any::<Vec<String>>());
    let error = error.prop_map(|(code, message, details, backtrace)| {
        Outcome::Error(RunError { code, message, details, backtrace })
    });
    (prop_oneof![done, error], any::<[u64; 9]>(), any::<Option<(bool, u64)>>()).prop_map(
        |(outcome, used, place)| {
            let used = Used {
                memory_bytes: used[0],
                table_elements: used[1],
                events: used[2],
                tool_calls: used[3],
                log_bytes: used[4],
                output_bytes: used[5],
                journal_bytes: used[6],
                model_tokens: used[7],
                model_cost_micros: used[8],
            };
            let interrupted_at = place.map(|(is_yield, n)| match is_yield {
                true => Place::Yield(n),
                false => Place::HostCall(n),
            });
            Body::Ended(Box::new(Ended { outcome, used, interrupted_at }))
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let kind = any::<String>;
    prop_oneof![
        started(),
        (kind(), json()).prop_map(|(kind, data)| Body::Event(Event { kind, data })),
        (any::<u64>(), kind(), json())
            .prop_map(|(span, kind, data)| Body::SpanOpened(SpanOpened { span, kind, data })),
        (any::<u64>(), json()).prop_map(|(span, data)| Body::SpanClosed(SpanClosed { span, data })),
        (any::<bool>(), kind()).prop_map(|(out, text)| {
            let stream = if out { Stream::Stdout } else { Stream::Stderr };
            Body::Log(Log { stream, text })
        }),
        (any::<u64>(), kind(), json()).prop_map(|(call, name, arguments)| {
            Body::ToolCalled(ToolCalled { call, name, arguments })
        }),
        any::<(u64, u64)>()
            .prop_map(|(call, until)| { Body::ApprovalAsked(ApprovalAsked { call, until }) }),
        approval(),
        answered(),
        any::<u64>().prop_map(|until| Body::SleepStarted(SleepStarted { until })),
        Just(Body::SleepEnded),
        ended(),
    ]
}

/// Entries with numbers and times as a journal has them.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let later = any::<(u32, u64)>();
    vec((later, body()), 1..6).prop_map(|parts| {
        let mut at = 0;
        let number = |(seq, ((later, fuel), body))| {
            at += u64::from(later);
            Entry { seq, at, fuel, body }
        };
        (0..).zip(parts).map(number).collect()
    })
}

fn chained(entries: &[Entry]) -> Vec<Encoded> {
    let mut chain = Chain::default();
    entries.iter().map(|entry| chain.push(entry)).collect()
}

/// An agent can give up with the details `null`.
#[test]
fn details_that_are_null_are_not_absent() {
    let [absent, null] = [None, Some(Json::parse("null").unwrap())].map(|details| {
        let code = ErrorCode::AgentFailure;
        let error = RunError { code, message: String::new(), details, backtrace: vec![] };
        let ended =
            Ended { outcome: Outcome::Error(error), used: Used::default(), interrupted_at: None };
        Entry { seq: 0, at: 0, fuel: 0, body: Body::Ended(Box::new(ended)) }
    });
    for entry in [absent, null] {
        assert_eq!(verify_all(&chained(std::slice::from_ref(&entry))).unwrap(), [entry]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_entry_is_one_line_and_reads_back_the_same(entries in entries()) {
        let encoded = chained(&entries);
        for link in &encoded {
            prop_assert!(!link.bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
        }
        let again = verify_all(&encoded).unwrap();
        prop_assert_eq!(&again, &entries);
        prop_assert_eq!(chained(&again), encoded);
    }

    #[test]
    fn any_changed_byte_is_found_where_it_is(
        entries in entries(),
        place in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        flip in 1u8..,
        in_hash in any::<bool>(),
    ) {
        let mut encoded = chained(&entries);
        let index = place.index(encoded.len());
        let link = &mut encoded[index];
        if in_hash {
            let mut hash = *link.hash.as_bytes();
            hash[byte.index(32)] ^= flip;
            link.hash = Digest::from_bytes(hash);
        } else {
            let at = byte.index(link.bytes.len());
            link.bytes[at] ^= flip;
        }
        let (before, damage) = verify_prefix(&encoded);
        prop_assert_eq!(&before[..], &entries[..index]);
        prop_assert_eq!(damage.unwrap().index, index as u64);
    }

    #[test]
    fn json_that_was_parsed_once_stays_as_it_is(value in value(), pretty in any::<bool>()) {
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        let once = Json::parse(&text).unwrap();
        prop_assert_eq!(&Json::parse(once.as_str()).unwrap(), &once);
        prop_assert_eq!(once.to_value(), value);
    }

    #[test]
    fn any_text_is_json_or_refused(text in r#"[-+0-9eE.\[\]{}",:a-z\\ ]{0,12}"#) {
        if let Ok(once) = Json::parse(&text) {
            prop_assert_eq!(Json::parse(once.as_str()).unwrap(), once);
        }
    }

    #[test]
    fn any_run_travels(rest in entries(), first in started(), revision in any::<Vec<u8>>()) {
        let mut first = first;
        if let Body::Started(started) = &mut first {
            started.revision = Digest::of(&revision);
        }
        let mut entries = rest;
        entries[0].body = first;
        let run = PortableRun { revision, journal: chained(&entries) };
        let bytes = run.to_bytes().unwrap();
        prop_assert_eq!(PortableRun::from_bytes(&bytes).unwrap(), run);
    }
}

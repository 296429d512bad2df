//! The same revision with the same seed and the same answers is the same run,
//! and nothing else reaches a guest.

use std::path::Path;
use std::time::{Duration, Instant};

use reenact::journal::{Body, Chain, Content, Entry, ErrorCode, Outcome, Output, verify_all};
use reenact::json::Json;
use reenact::revision::Limits;
use reenact::runtime::{Control, Verdict};
use serde_json::{Value, json};

use crate::library::Library;
use crate::support::{Lab, Record, guest};

/// Guests, what they are asked, and how that ends.
fn endings() -> Vec<(&'static str, Value, Option<ErrorCode>)> {
    use ErrorCode::*;
    let deeds = [
        ("compute", None, None),
        ("nan", None, None),
        ("deny", None, None),
        ("stdout", Some(100), None),
        ("open-spans", None, None),
        ("look-around", None, None),
        ("sleep", Some(0), None),
        ("tool-calls", Some(5), None),
        ("calls-at-once", Some(5), None),
        ("loop", None, Some(OutOfFuel)),
        ("spin-clock", None, Some(OutOfFuel)),
        ("flood-stdout", None, Some(OutOfFuel)),
        ("memory", None, Some(OutOfMemory)),
        ("recursion", None, Some(StackOverflow)),
        ("pollables", None, Some(TooManyHandles)),
        ("events", None, Some(TooManyEvents)),
        ("tool-calls", None, Some(TooManyToolCalls)),
        ("calls-at-once", None, Some(TooManyToolCalls)),
        ("huge-event", Some(1), Some(PayloadTooLarge)),
        ("invalid-event", None, Some(InvalidEvent)),
        ("unknown-span", None, Some(InvalidEvent)),
        ("huge-output", Some(5), Some(OutputTooLarge)),
        ("wrong-schema", None, Some(InvalidOutput)),
        ("fail", None, Some(AgentFailure)),
        ("exit", None, Some(AgentFailure)),
        ("panic", None, Some(Trap)),
        ("trap", None, Some(Trap)),
    ];
    let mut endings = vec![
        ("minimal", json!({ "name": "Ada" }), None),
        ("research", json!({ "topic": "fuel" }), None),
        ("research", json!({ "topic": "whales" }), None),
        ("word-count", json!({ "path": "long.txt" }), None),
        ("word-count", json!({ "path": "none.txt" }), Some(AgentFailure)),
    ];
    endings.extend(deeds.map(|(deed, n, end)| ("hostile", asked(deed, n), end)));
    endings
}

fn asked(deed: &str, n: Option<u64>) -> Value {
    let mut input = json!({ "do": deed });
    if let Some(n) = n {
        input["n"] = n.into();
    }
    input
}

/// Small, so that every end is near.
fn short(limits: &mut Limits) {
    limits.fuel = 50_000_000;
    limits.memory_bytes = 16 << 20;
    limits.events = 50;
    limits.tool_calls = 20;
    limits.log_lines = 30;
}

async fn run(lab: &Lab, name: &str, input: &Value, seed: u8) -> Record {
    let start = lab.run(&guest(name), input.clone()).limits(short).seed([seed; 32]);
    start.provider("files", Library::new()).ends().await
}

async fn look_around(lab: &Lab, seed: u8) -> Record {
    run(lab, "hostile", &asked("look-around", None), seed).await
}

/// All that a journal holds but the times and the run's own name.
fn content(record: &Record) -> Vec<Entry> {
    let mut entries = record.entries();
    for entry in &mut entries {
        entry.at = 0;
        match &mut entry.body {
            Body::Started(started) => started.run.clear(),
            Body::Ended(ended) => without_times(&mut ended.outcome),
            _ => {}
        }
    }
    entries
}

fn without_times(outcome: &mut Outcome) {
    let Outcome::Done(Output { content: Content::Json(json), .. }) = outcome else { return };
    let mut value = json.to_value();
    if let Some(time) = value.pointer_mut("/clock/wall_ms") {
        *time = 0.into();
        *json = Json::from_value(&value);
    }
}

#[tokio::test]
async fn every_guest_and_every_end_comes_out_the_same_again() {
    let lab = Lab::new();
    for (name, input, end) in endings() {
        let record = run(&lab, name, &input, 1).await;
        let code = match &record.ran.ended.outcome {
            Outcome::Error(error) => Some(error.code),
            Outcome::Done(_) => None,
        };
        assert_eq!(code, end, "{name} {input}: {:?}", record.ran.ended);
        lab.proves(&record).await;

        let twin = run(&lab, name, &input, 1).await;
        assert_eq!(content(&twin), content(&record), "{name} {input}");
        assert_eq!(twin.ran.fuel, record.ran.fuel, "{name} {input}");
    }
}

#[tokio::test]
async fn the_seed_decides_about_randomness_and_about_nothing_else() {
    let lab = Lab::new();
    let [one, same, other] = [1, 1, 2].map(|seed| look_around(&lab, seed));
    let (one, same, other) = (one.await.json(), same.await.json(), other.await.json());
    assert_eq!(one["random"], same["random"]);
    for source in ["secure", "insecure", "insecure_seed", "hash_map_order"] {
        assert_ne!(one["random"][source], other["random"][source], "{source}");
    }
    for place in ["environment", "files", "network"] {
        assert_eq!(one[place], other[place]);
    }
}

#[tokio::test]
async fn runs_have_seeds_of_their_own() {
    let lab = Lab::new();
    let look = || lab.run(&guest("hostile"), asked("look-around", None)).ends();
    let (one, other) = (look().await, look().await);
    assert_ne!(one.json()["random"], other.json()["random"]);
}

#[tokio::test]
async fn the_clock_shows_the_newest_entry_and_stands_still_between_entries() {
    let lab = Lab::new();
    let record = look_around(&lab, 1).await;
    let clock = &record.json()["clock"];
    assert_eq!(clock["wall_ms"], record.entries()[0].at / 1_000);
    assert_eq!(clock["monotonic_ns_around_a_loop"], 0);
    // A replay much later reads the very same times.
    tokio::time::sleep(Duration::from_millis(5)).await;
    lab.proves(&record).await;
}

#[tokio::test]
async fn the_clock_moves_on_with_the_journal() {
    let lab = Lab::new();
    let record = run(&lab, "hostile", &asked("sleep", Some(1)), 1).await;
    let entries = record.entries();
    assert!(entries.is_sorted_by_key(|entry| entry.at));
    let slept = entries.iter().find(|entry| entry.body == Body::SleepEnded).unwrap();
    let elapsed = (slept.at - entries[0].at) / 1_000;
    assert!(elapsed >= 1_000);
    assert_eq!(record.json()["elapsed_ms"], elapsed);
    let begun = Instant::now();
    lab.proves(&record).await;
    assert!(begun.elapsed() < Duration::from_millis(900), "a replay waits for nothing");
}

#[tokio::test]
async fn a_guest_sleeps_an_hour_in_milliseconds() {
    let lab = Lab::new();
    let start = || lab.run(&guest("hostile"), asked("sleep", Some(3_600)));
    let cancelled = start().at_start(|canceller| {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            canceller.cancel();
        });
    });
    let cancelled = cancelled.ends().await;
    assert_eq!(cancelled.code(), ErrorCode::Cancelled);
    lab.proves(&cancelled).await;

    // The sleep goes on where it was cancelled, and the hour is over.
    let [started, asleep, ..] = &cancelled.entries()[..] else { panic!() };
    let Body::SleepStarted(sleep) = &asleep.body else { panic!("{asleep:?}") };
    let mut beginning = cancelled.journal[..2].to_vec();
    let mut chain = Chain::default();
    beginning.iter().for_each(|encoded| _ = chain.verify(encoded).unwrap());
    let (at, fuel) = (sleep.until, asleep.fuel);
    beginning.push(chain.push(&Entry { seq: 2, at, fuel, body: Body::SleepEnded }));
    let begun = Instant::now();
    let (_canceller, control) = Control::live(started.at, 600_000);
    let prepared = lab.prepare(&cancelled.revision);
    let record = lab.goes_on(&prepared, beginning, start().tools(), control).await;
    assert_eq!(record.json()["elapsed_ms"], 3_600_000);
    lab.proves(&record).await;
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn every_nan_is_the_canonical_one() {
    let lab = Lab::new();
    let record = run(&lab, "hostile", &asked("nan", None), 1).await;
    for (width, canonical) in [("f64", "7ff8000000000000"), ("f32", "7fc00000")] {
        let nans = record.json()[width].as_object().unwrap().clone();
        assert_eq!(nans.len(), 10);
        for (how, nan) in nans {
            assert_eq!(nan, canonical, "{width} {how}");
        }
    }
    lab.proves(&record).await;
}

#[tokio::test]
async fn there_is_nothing_to_see_and_nothing_to_touch() {
    // A name that only this test would find: the guest creates `/tmp/hostile`.
    let bait = Path::new("/tmp/hostile");
    assert!(!bait.exists(), "`{}` is in the way", bait.display());
    let lab = Lab::new();
    let seen = look_around(&lab, 1).await.json();
    let environment = &seen["environment"];
    assert_eq!(environment["variables"], json!([]));
    assert_eq!(environment["arguments"], json!([]));
    assert_eq!(environment["stdin"], "ok: 0 bytes");
    assert_eq!(environment["current_dir"], "ok: /");
    let refused = [
        ("files", &["open", "create", "read_dir"][..]),
        ("network", &["tcp_connect", "tcp_listen", "udp_bind", "resolve"]),
    ];
    for (place, attempts) in refused {
        assert_eq!(seen[place].as_object().unwrap().len(), attempts.len());
        for attempt in attempts {
            let outcome = seen[place][attempt].as_str().unwrap();
            assert!(outcome.starts_with("error: "), "{attempt}: {outcome}");
        }
    }
    assert!(!bait.exists());
}

#[tokio::test]
async fn a_record_of_another_engine_is_compared_by_content() {
    let lab = Lab::new();
    let record = run(&lab, "research", &json!({ "topic": "fuel" }), 1).await;
    let elsewhere = |entry: &mut Entry| {
        let Body::Started(started) = &mut entry.body else { panic!() };
        started.engine.wasmtime = "1.2.3".to_owned();
    };
    let from_elsewhere = Record { journal: record.forged(0, elsewhere), ..record };
    // There, everything took other fuel.
    let mut chain = Chain::default();
    let other_fuel = verify_all(&from_elsewhere.journal).unwrap().into_iter();
    let other_fuel = other_fuel.map(|entry| Entry { fuel: entry.fuel * 2, ..entry });
    let journal: Vec<_> = other_fuel.map(|entry| chain.push(&entry)).collect();
    let from_elsewhere = Record { journal, ..from_elsewhere };

    let replay = lab.replay(&from_elsewhere).await;
    assert!(matches!(replay.verdict, Verdict::Same(_)), "{:?}", replay.verdict);
    assert_eq!(replay.other_engine.unwrap().wasmtime, "1.2.3");

    let lie = from_elsewhere.forged(1, |entry| {
        let Body::Event(event) = &mut entry.body else { panic!() };
        event.kind.push('s');
    });
    let replay = lab.replay_entries(&from_elsewhere.revision, lie).await;
    let Verdict::Diverged(divergence) = replay.verdict else { panic!("{:?}", replay.verdict) };
    assert_eq!(divergence.index, 1);
}

//! A journal that says something else than what happened does not pass.

use std::sync::Arc;

use reenact::journal::*;
use reenact::json::Json;
use reenact::revision::Digest;
use reenact::runtime::{Divergence, Fault, Found, Request, Verdict};
use serde_json::{Value, json};

use crate::library::Library;
use crate::lies::{lies, other};
use crate::support::{Home, Lab, Record, guest};

async fn run(lab: &Lab, name: &str, input: Value) -> Record {
    lab.run(&guest(name), input).provider("files", Library::new()).ends().await
}

/// Runs that have every kind of entry between them: events, calls one by one and
/// in a batch, answers, spans, logs, a sleep, a document, JSON, an error.
async fn records(lab: &Lab) -> Vec<Record> {
    let stories = [
        ("research", json!({ "topic": "fuel" })),
        ("word-count", json!({ "path": "long.txt" })),
        ("hostile", json!({ "do": "stdout" })),
        ("hostile", json!({ "do": "fail" })),
        ("hostile", json!({ "do": "panic" })),
    ];
    let mut records = vec![run(lab, "hostile", json!({ "do": "sleep", "n": 1 })).await];
    for (name, input) in stories {
        records.push(run(lab, name, input).await);
    }
    records
}

fn chained(entries: impl IntoIterator<Item = Entry>) -> Vec<Encoded> {
    let mut chain = Chain::default();
    let number = |(seq, entry)| chain.push(&Entry { seq, ..entry });
    (0..).zip(entries).map(number).collect()
}

async fn divergence(lab: &Lab, record: &Record, journal: Vec<Encoded>) -> Divergence {
    match lab.replay_entries(&record.revision, journal).await.verdict {
        Verdict::Diverged(divergence) => *divergence,
        other => panic!("{other:?}"),
    }
}

async fn damaged_at(lab: &Lab, record: &Record, journal: Vec<Encoded>) -> u64 {
    match lab.replay_entries(&record.revision, journal).await.verdict {
        Verdict::Damaged(damage) => damage.index,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_flipped_byte_is_damage_at_its_entry() {
    let lab = Lab::new();
    for record in records(&lab).await {
        for index in 0..record.journal.len() {
            let bytes = record.journal[index].bytes.len();
            for at in [0, bytes / 2, bytes - 1] {
                let mut journal = record.journal.clone();
                journal[index].bytes[at] ^= 1;
                assert_eq!(damaged_at(&lab, &record, journal).await, index as u64);
            }
            let mut journal = record.journal.clone();
            journal[index].hash = Digest::of(b"something else");
            assert_eq!(damaged_at(&lab, &record, journal).await, index as u64);
        }
    }
}

#[tokio::test]
async fn a_lie_under_a_chain_made_anew_diverges_where_it_stands() {
    let lab = Lab::new();
    for record in records(&lab).await {
        for (index, truth) in record.entries().into_iter().enumerate() {
            for (what, lie) in lies(&truth.body) {
                let mut told = truth.clone();
                lie(&mut told);
                let found = divergence(&lab, &record, record.forged(index, lie)).await;
                assert_eq!(found.index, index as u64, "{what}: {found:?}");
                let Entry { fuel, body, .. } = told;
                assert_eq!(found.expected, Some(Request { fuel, body }), "{what}");
                let Entry { fuel, body, .. } = truth.clone();
                match (&found.found, &truth.body) {
                    (Found::Request(request), _) => assert_eq!(request, &Request { fuel, body }),
                    (Found::Waiting { calls, .. }, Body::ToolAnswered(answered)) => {
                        assert!(calls.contains(&answered.call), "{what}: {found:?}");
                    }
                    (Found::Sleeping { .. }, Body::SleepEnded) => {}
                    _ => panic!("{what}: {found:?}"),
                }
            }
        }
    }
}

/// Makes other words of `fuel` and `Fuel`.
fn reword(content: &mut Json, end: &str) {
    *content = Json::parse(&content.as_str().replace("uel", end)).unwrap();
}

#[tokio::test]
async fn another_answer_makes_another_run() {
    let lab = Lab::new();
    let record = run(&lab, "research", json!({ "topic": "fuel" })).await;
    for (index, entry) in record.entries().into_iter().enumerate() {
        let Body::ToolAnswered(_) = entry.body else { continue };
        let changes: [fn(&mut Answer); 3] = [
            |answer| match answer {
                Answer::Ok(output) if output.sources.is_empty() => {
                    other(&mut output.content);
                }
                Answer::Ok(output) => output.sources[0].title.push('.'),
                Answer::Error(_) => unreachable!(),
            },
            |answer| {
                let message = "forged".to_owned();
                *answer = Answer::Error(ToolError { code: ToolErrorCode::Failed, message });
            },
            |answer| {
                let Answer::Ok(output) = answer else { unreachable!() };
                reword(&mut output.content, "ables");
            },
        ];
        for change in changes {
            let journal = record.forged(index, |entry| {
                let Body::ToolAnswered(answered) = &mut entry.body else { unreachable!() };
                change(&mut answered.answer);
            });
            let found = divergence(&lab, &record, journal).await;
            assert!(found.index > index as u64, "{found:?}");
        }
    }
}

/// The agent makes nothing of the lines' text that a search answers, and one of
/// the same length takes the same fuel to skip: only the last hash differs.
#[tokio::test]
async fn a_part_of_an_answer_that_makes_no_difference_is_vouched_for_by_the_hash() {
    let lab = Lab::new();
    let record = run(&lab, "research", json!({ "topic": "fuel" })).await;
    let journal = record.forged(3, |entry| {
        let Body::ToolAnswered(answered) = &mut entry.body else { panic!("{entry:?}") };
        let Answer::Ok(output) = &mut answered.answer else { panic!() };
        reword(&mut output.content, "oal");
    });
    let replay = lab.replay_entries(&record.revision, journal).await;
    let Verdict::Same(ran) = replay.verdict else { panic!("{:?}", replay.verdict) };
    assert_eq!(ran.ended, record.ran.ended);
    assert_ne!(ran.head, record.ran.head);
}

#[tokio::test]
async fn another_time_makes_another_run_for_a_guest_that_looks() {
    let lab = Lab::new();
    let looks = run(&lab, "hostile", json!({ "do": "look-around" })).await;
    let journal = looks.forged(0, |entry| entry.at -= 60_000_000);
    assert_eq!(divergence(&lab, &looks, journal).await.index, 1);

    let sleeps = run(&lab, "hostile", json!({ "do": "sleep", "n": 1 })).await;
    let Body::SleepStarted(sleep) = sleeps.entries()[1].body.clone() else { panic!() };
    let too_early = sleeps.forged(2, |entry| entry.at = sleep.until - 1);
    assert_eq!(damaged_at(&lab, &sleeps, too_early).await, 2);
}

#[tokio::test]
async fn how_a_run_was_interrupted_cannot_be_told_otherwise() {
    let lab = Lab::new();
    let start = lab.run(&guest("hostile"), json!({ "do": "sleep", "n": 60 }));
    let record = start.at_start(|canceller| canceller.cancel()).ends().await;
    let last = record.journal.len() - 1;
    let lies: [fn(&mut RunError); 3] = [
        |error| error.message = "somebody else did it".to_owned(),
        |error| error.code = ErrorCode::JournalTooLarge,
        |error| error.details = Some(Json::parse("1").unwrap()),
    ];
    for lie in lies {
        let journal = record.forged(last, |entry| {
            let Body::Ended(ended) = &mut entry.body else { panic!() };
            let Outcome::Error(error) = &mut ended.outcome else { panic!() };
            lie(error);
        });
        assert_eq!(divergence(&lab, &record, journal).await.index, last as u64);
    }
}

#[tokio::test]
async fn another_start_makes_another_run() {
    let lab = Lab::new();
    let record = run(&lab, "hostile", json!({ "do": "look-around" })).await;
    let starts: [fn(&mut Started); 3] = [
        |started| started.seed = "00".repeat(32),
        |started| started.input = Json::parse(r#"{"do":"nan"}"#).unwrap(),
        |started| started.limits.fuel = 1_000,
    ];
    for change in starts {
        let journal = record.forged(0, |entry| {
            let Body::Started(started) = &mut entry.body else { panic!() };
            change(started);
        });
        assert_eq!(divergence(&lab, &record, journal).await.index, 1);
    }
}

#[tokio::test]
async fn entries_lost_doubled_or_swapped_are_damage() {
    let lab = Lab::new();
    let record = run(&lab, "research", json!({ "topic": "fuel" })).await;
    let last = record.journal.len() - 1;
    for index in 0..last {
        let at = index as u64;
        let mut lost = record.journal.clone();
        lost.remove(index);
        assert_eq!(damaged_at(&lab, &record, lost).await, at);
        let mut doubled = record.journal.clone();
        doubled.insert(index, record.journal[index].clone());
        assert_eq!(damaged_at(&lab, &record, doubled).await, at + 1);
        let mut swapped = record.journal.clone();
        swapped.swap(index, index + 1);
        assert_eq!(damaged_at(&lab, &record, swapped).await, at);
    }
    let mut prolonged = record.entries();
    prolonged.push(prolonged[1].clone());
    assert_eq!(damaged_at(&lab, &record, chained(prolonged)).await, last as u64 + 1);
}

#[tokio::test]
async fn entries_lost_or_doubled_under_a_chain_made_anew_diverge() {
    let lab = Lab::new();
    let record = run(&lab, "research", json!({ "topic": "fuel" })).await;
    let entries = record.entries();
    // What follows a batch's answers, of which any may be the last.
    let after_answer = |from: usize| {
        let is_answer = |entry: &Entry| matches!(entry.body, Body::ToolAnswered(_));
        (from..entries.len()).find(|&index| !is_answer(&entries[index])).unwrap()
    };
    for index in 1..entries.len() - 1 {
        let mut lost = entries.clone();
        lost.remove(index);
        let found = divergence(&lab, &record, chained(lost)).await;
        let expected = match entries[index].body {
            Body::ToolAnswered(_) => after_answer(index) - 1,
            _ => index,
        };
        assert_eq!(found.index, expected as u64, "{found:?}");
        let mut doubled = entries.clone();
        doubled.insert(index, entries[index].clone());
        let found = divergence(&lab, &record, chained(doubled)).await;
        assert_eq!(found.index, index as u64 + 1, "{found:?}");
    }
}

#[tokio::test]
async fn a_beginning_is_proved_as_far_as_it_goes() {
    let lab = Lab::new();
    let record = run(&lab, "research", json!({ "topic": "fuel" })).await;
    for length in 1..record.journal.len() {
        let beginning = record.journal[..length].to_vec();
        let replay = lab.replay_entries(&record.revision, beginning).await;
        assert!(matches!(replay.verdict, Verdict::SameSoFar), "{:?}", replay.verdict);
    }
}

#[test]
fn the_list_of_runs_knows_when_a_journal_has_lost_its_end() {
    let home = Home::new();
    let run =
        home.json(&["run", "guest-examples/minimal", "--input", r#"{"name":"Ada"}"#, "--json"]);
    let run = run["id"].as_str().unwrap();
    let database = reenact::registry::Home::at(home.path()).database();
    let database = rusqlite::Connection::open(database).unwrap();
    database.execute("DELETE FROM entries WHERE seq = 2", []).unwrap();
    let said = home.says(&["replay", run, "--json"]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    let replay: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&replay["same"], &replay["damage"]["index"]), (&json!(false), &json!(2)));
}

#[tokio::test]
async fn a_journal_is_replayed_with_its_own_revision_only() {
    let lab = Lab::new();
    let record = run(&lab, "research", json!({ "topic": "fuel" })).await;
    let other = lab.prepare(&guest("minimal"));
    let fault = lab.executor.replay(&other, record.journal.clone()).await.unwrap_err();
    let digest = other.revision.digest;
    let Fault::OtherRevision { recorded, given } = fault else { panic!("{fault:?}") };
    assert_eq!((recorded, given), (record.revision.digest, digest));

    // A start that is forged to fit the other revision fits nothing that follows.
    let journal = record.forged(0, |entry| {
        let Body::Started(started) = &mut entry.body else { panic!() };
        started.revision = digest;
        started.input = Json::parse(r#"{"name":"Ada"}"#).unwrap();
    });
    let replay = lab.replay_entries(&Arc::clone(&other.revision), journal).await;
    assert!(matches!(replay.verdict, Verdict::Diverged(found) if found.index == 1));
}

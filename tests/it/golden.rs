//! A sealed revision and its journals, committed once. They replay for ever:
//! where one of these tests fails, it is the code that must change.
//!
//! Another journal is another export: `reenact export RUN -o run.reenact`, then
//! `tar xOf run.reenact journal.jsonl > tests/golden/NAME.jsonl`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use reenact::journal::{Encoded, ErrorCode, Outcome, PortableRun};
use reenact::revision::{Digest, Revision};
use reenact::runtime::Verdict;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::support::{Lab, root};

const REVISION: &str = "sha256:ff8a59cd84fae6808c7a2bbc939ce9389068189a4d42041655bab445e2232511";

/// The last hash of `minimal.reenact`.
const EXPORTED: &str = "sha256:52efbca81212ce8f9b4296605a8a4283565bbe0adc1d05e74c6592ca5fdd48c8";

#[derive(Deserialize)]
struct Line<'a> {
    hash: Digest,
    #[serde(borrow)]
    entry: &'a RawValue,
}

fn folder() -> PathBuf {
    root().join("tests/golden")
}

pub fn revision() -> Arc<Revision> {
    Arc::new(Revision::open(fs::read(folder().join("hostile.wasm")).unwrap()).unwrap())
}

/// Name and entries of every journal.
pub fn journals() -> Vec<(String, Vec<Encoded>)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Line<'_>>(line).unwrap());
        let journal = lines.zip(0..).map(|(line, seq)| Encoded {
            seq,
            bytes: line.entry.get().as_bytes().to_vec(),
            hash: line.hash,
        });
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), journal.collect())
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn the_golden_revision_is_the_same_file() {
    assert_eq!(revision().digest.to_string(), REVISION);
}

/// `minimal.reenact` was exported before journals were compressed.
#[tokio::test]
async fn an_exported_file_of_the_first_format_replays() {
    let bytes = fs::read(folder().join("minimal.reenact")).unwrap();
    let run = PortableRun::from_bytes(&bytes).unwrap();
    assert_eq!(run.to_bytes().unwrap(), bytes, "a small journal is still exported so");
    let head = run.journal.last().unwrap().hash;
    let lab = Lab::new();
    let revision = Arc::new(Revision::open(run.revision).unwrap());
    let replay = lab.replay_entries(&revision, run.journal).await;
    let Verdict::Same(ran) = &replay.verdict else { panic!("{:#?}", replay.verdict) };
    assert_eq!((ran.head, ran.head.to_string().as_str()), (head, EXPORTED));
}

#[tokio::test]
async fn every_golden_journal_replays() {
    let (lab, revision) = (Lab::new(), revision());
    let mut seen: Vec<Option<ErrorCode>> = Vec::new();
    for (name, journal) in journals() {
        let replay = lab.replay_entries(&revision, journal).await;
        let Verdict::Same(ran) = &replay.verdict else { panic!("{name}: {:#?}", replay.verdict) };
        seen.push(match &ran.ended.outcome {
            Outcome::Done(_) => None,
            Outcome::Error(error) => Some(error.code),
        });
    }
    assert!(seen.iter().filter(|code| code.is_none()).count() >= 6, "{seen:?}");
    for code in [
        ErrorCode::AgentFailure,
        ErrorCode::InvalidOutput,
        ErrorCode::Trap,
        ErrorCode::OutOfFuel,
        ErrorCode::OutOfMemory,
        ErrorCode::StackOverflow,
        ErrorCode::Deadline,
        ErrorCode::Cancelled,
    ] {
        assert!(seen.contains(&Some(code)), "no golden journal ends with {code}");
    }
}

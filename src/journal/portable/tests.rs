//! The file as a whole: what is written is read, and no byte of it can change.

use super::*;
use crate::journal::{Entry, Event, Fingerprint, Started};
use crate::json::Json;
use crate::revision::Limits;

/// A run with an event of each of these texts.
fn run_of(texts: &[String]) -> PortableRun {
    let revision = b"not really wasm".to_vec();
    let started = Body::Started(Box::new(Started {
        format: crate::journal::FORMAT,
        run: "0190".to_owned(),
        agent: "test".to_owned(),
        revision: Digest::of(&revision),
        input: Json::parse("{}").unwrap(),
        seed: "00".repeat(32),
        limits: Limits::DEFAULT,
        tools: vec![],
        engine: Fingerprint {
            wasmtime: "0".into(),
            arch: "none".into(),
            stack_bytes: 1,
            yield_fuel: 1,
            hostcall_bytes: 1,
        },
        fork: None,
    }));
    let events = texts.iter().map(|text| {
        let data = Json::from_value(&text.as_str().into());
        Body::Event(Event { kind: "planning".to_owned(), data })
    });
    let mut chain = Chain::default();
    let journal = std::iter::once(started).chain(events).zip(0..);
    let journal =
        journal.map(|(body, seq)| chain.push(&Entry { seq, at: seq, fuel: seq, body })).collect();
    PortableRun { revision, journal }
}

/// One with a journal that stays plain, and one whose journal does not.
fn runs() -> [PortableRun; 2] {
    let long = |word: usize| format!("{word} ").repeat(5_000);
    let runs = [run_of(&["short".to_owned()]), run_of(&(1..8).map(long).collect::<Vec<_>>())];
    let compressed = |run: &PortableRun| {
        let bytes = run.to_bytes().unwrap();
        bytes.windows(COMPRESSED.len()).any(|name| name == COMPRESSED.as_bytes())
    };
    assert_eq!([compressed(&runs[0]), compressed(&runs[1])], [false, true]);
    runs
}

#[test]
fn what_is_written_is_read() {
    for run in runs() {
        let bytes = run.to_bytes().unwrap();
        assert_eq!(PortableRun::from_bytes(&bytes).unwrap(), run);
        assert_eq!(run.to_bytes().unwrap(), bytes);
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for run in runs() {
        let good = run.to_bytes().unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(PortableRun::from_bytes(&bad).is_err(), "byte {at}");
        }
    }
}

#[test]
fn every_truncation_is_found() {
    for run in runs() {
        let good = run.to_bytes().unwrap();
        for length in 0..good.len() {
            let result = PortableRun::from_bytes(&good[..length]);
            let error = result.map(drop).expect_err("it is not whole");
            assert!(
                length < HEADER.len() || matches!(error, PortableError::Truncated { .. }),
                "{length} bytes: {error}"
            );
        }
    }
}

/// The compressed run with another journal's member, of which `run.json` tells
/// the truth but for its size.
fn with_member(frame: &[u8], size: u64) -> Result<PortableRun, PortableError> {
    let run = &runs()[1];
    let journal = Compressed { size, digest: Digest::of(frame) };
    PortableRun::from_bytes(&run.archive(run.started().unwrap(), Some(journal), frame))
}

fn lines_of(run: &PortableRun) -> Vec<u8> {
    lines::write(&run.journal).unwrap()
}

#[test]
fn any_zstd_may_have_compressed_it() {
    let lines = lines_of(&runs()[1]);
    for level in [-5, 1, 19] {
        let frame = zstd::stream::encode_all(&lines[..], level).unwrap();
        assert_eq!(with_member(&frame, lines.len() as u64).unwrap(), runs()[1]);
    }
}

#[test]
fn a_compressed_journal_says_where_it_stops() {
    let run = &runs()[1];
    let good = run.to_bytes().unwrap();
    let start = good.windows(4).position(|bytes| bytes == b"\x28\xb5\x2f\xfd").unwrap();
    let size = PortableRun::from_bytes(&good).map(|run| lines::compress(&lines_of(&run)).len());
    let (mut named, size) = (0, size.unwrap());
    for at in start..start + size {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        let error = PortableRun::from_bytes(&bad).unwrap_err().to_string();
        assert!(error.contains("in `journal.jsonl.zst`: "), "byte {at}: {error}");
        named += usize::from(error.contains(": entry "));
    }
    assert!(named > size / 2, "{named} of {size} say at which entry");
}

#[test]
fn what_run_json_says_of_the_journal_is_held_against_it() {
    let lines = lines_of(&runs()[1]);
    let frame = lines::compress(&lines);
    let size = lines.len() as u64;
    for (frame, size, what) in [
        (frame.clone(), size - 1, "longer than `run.json` says"),
        (frame.clone(), size + 1, "shorter than `run.json` says"),
        (frame.clone(), u64::MAX, "shorter than `run.json` says"),
        (frame.clone(), 0, "longer than `run.json` says"),
        ([&frame[..], b"x"].concat(), size, "something follows its frame"),
        ([&frame[..], &frame].concat(), size, "something follows its frame"),
        (vec![], size, "cannot be read"),
        (b"plain text".to_vec(), size, "cannot be read"),
        (lines::compress(&lines[..lines.len() - 1]), size - 1, "the line has no end"),
    ] {
        let error = with_member(&frame, size).unwrap_err().to_string();
        assert!(error.contains(what), "{size}: {error}");
    }
    let mut format = runs()[1].to_bytes().unwrap();
    let at = format.windows(11).position(|bytes| bytes == b"\"format\": 2").unwrap() + 10;
    for (digit, what) in [(b'1', "`journal` does not go with format 1"), (b'3', "has format 3")] {
        format[at] = digit;
        let error = PortableRun::from_bytes(&format).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_journal_that_would_fill_the_memory_is_refused() {
    // Lines that are none, and one that does not end.
    for byte in [b'\n', b' ', b'['] {
        let frame = zstd::stream::encode_all(&vec![byte; 200 << 20][..], 1).unwrap();
        assert!(frame.len() < 100_000);
        for size in [1_000, u64::MAX] {
            let error = with_member(&frame, size).unwrap_err().to_string();
            assert!(error.contains("entry 0 cannot be read"), "{error}");
        }
    }
    // A window that no journal is written with.
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(30).unwrap();
    std::io::Write::write_all(&mut wide, &lines_of(&runs()[1])).unwrap();
    let error = with_member(&wide.finish().unwrap(), 100).unwrap_err().to_string();
    assert!(error.contains("entry 0 cannot be read"), "{error}");
}

#[test]
fn a_forged_chain_in_a_sound_file_is_damage_at_its_entry() {
    let mut run = runs()[1].clone();
    run.journal[3].bytes = run.journal[2].bytes.clone();
    let lines = lines_of(&run);
    let error = with_member(&lines::compress(&lines), lines.len() as u64).unwrap_err();
    assert!(matches!(&error, PortableError::Journal(damage) if damage.index == 3), "{error}");
}

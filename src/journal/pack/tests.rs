//! Whatever is packed comes back; conversations of any shape cost what is new in
//! them; what is damaged or lies is refused.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;
use crate::journal::{Body, Chain, Entry, Event, ToolCalled};
use crate::json::Json;
use crate::revision::Digest;

/// Text that repeats nothing, and that JSON writes as it is.
struct Noise(ChaCha20Rng);

impl Noise {
    fn new() -> Self {
        Self(ChaCha20Rng::from_seed([7; 32]))
    }

    fn text(&mut self, bytes: usize) -> String {
        const SIGNS: &[u8] = b" !#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~";
        let sign = |_| char::from(SIGNS[self.0.next_u32() as usize % SIGNS.len()]);
        (0..bytes).map(sign).collect()
    }
}

/// A run's journal as it grows, and as it is stored.
struct Run {
    chain: Chain,
    packer: Packer,
    stored: Vec<Stored>,
}

impl Run {
    fn new() -> Self {
        let mut run =
            Self { chain: Chain::default(), packer: Packer::default(), stored: Vec::new() };
        run.says("it begins");
        run
    }

    fn push(&mut self, body: Body) -> &Stored {
        let seq = self.chain.next_seq();
        let entry = Entry { seq, at: 1_795_527_011_492_324 + seq, fuel: seq * 977, body };
        self.stored.push(self.packer.pack(self.chain.push(&entry)));
        self.stored.last().unwrap()
    }

    fn calls(&mut self, history: &[String]) -> &Stored {
        let arguments = serde_json::json!({ "model": "any", "messages": history });
        let arguments = Json::from_value(&arguments);
        let call = self.stored.len() as u64;
        self.push(Body::ToolCalled(ToolCalled { call, name: "model.chat".into(), arguments }))
    }

    /// An event, which stands for anything that is not a call.
    fn says(&mut self, text: &str) -> &Stored {
        let data = Json::from_value(&text.into());
        self.push(Body::Event(Event { kind: "reasoning".into(), data }))
    }

    /// Bytes of all entries as they are stored, each with its hash and parts.
    fn size(&self) -> usize {
        let size = |stored: &Stored| match &stored.packed {
            None => stored.entry.bytes.len(),
            Some(packed) => packed.bytes.len() + packed.parts.to_string().len(),
        };
        self.stored.iter().map(|stored| size(stored) + 32).sum()
    }

    /// Unpacks everything from what is stored alone.
    fn comes_back(&self) {
        let mut plain: Vec<Vec<u8>> = Vec::new();
        for (seq, stored) in (0..).zip(&self.stored) {
            let bytes = match &stored.packed {
                None => stored.entry.bytes.clone(),
                Some(packed) => packed.open(seq, |part| Some(plain.get(part as usize)?)).unwrap(),
            };
            assert!(bytes == stored.entry.bytes, "entry {seq}");
            plain.push(bytes);
        }
    }

    fn costs_at_most(&self, percent: usize, distinct: usize) {
        self.comes_back();
        let size = self.size();
        assert!(size * 100 <= distinct * percent, "{size} bytes for {distinct}");
    }
}

#[test]
fn a_conversation_costs_what_is_new_in_it() {
    for (question, answer) in [(2_000, 0), (1_000, 1_000), (200, 1_800), (300, 300), (4_000, 400)] {
        let (mut run, mut noise, mut history) = (Run::new(), Noise::new(), vec![]);
        for _ in 0..50 {
            history.push(noise.text(question));
            run.calls(&history);
            history.push(noise.text(answer));
            run.says(&history[history.len() - 1]);
        }
        // Entries have a head of their own, a hash and some counts, which small turns feel.
        let heads = 100 * 200;
        run.costs_at_most(110, 50 * (question + answer) + heads);
    }
}

#[test]
fn conversations_that_take_turns_are_told_apart() {
    for histories in [2, 5, 20] {
        let (mut run, mut noise) = (Run::new(), Noise::new());
        // They begin alike, as those of sub-agents do.
        let prompt = noise.text(20_000);
        let mut all = vec![vec![prompt]; histories];
        for _ in 0..10 {
            for history in &mut all {
                history.push(noise.text(1_000));
                run.calls(history);
            }
            for history in &mut all {
                history.push(noise.text(1_000));
                run.says(&history[history.len() - 1]);
            }
        }
        run.costs_at_most(125, 20_000 + histories * 10 * 2_000);
    }
}

#[test]
fn a_history_may_change_anywhere() {
    let (mut run, mut noise) = (Run::new(), Noise::new());
    let mut history = vec![];
    for turn in 0..70 {
        // It begins anew with every call, and forgets what is old.
        history.push(noise.text(2_000));
        let forgotten = history.len().saturating_sub(30);
        let mut sent = vec![format!("It is {turn} o'clock. Today's word is {}.", noise.text(40))];
        sent.extend_from_slice(&history[forgotten..]);
        run.calls(&sent);
    }
    run.costs_at_most(125, 70 * 2_000);
}

#[test]
fn what_is_said_again_is_found_wherever_it_is() {
    let (mut run, mut noise) = (Run::new(), Noise::new());
    let pages: Vec<String> = (0..40).map(|_| noise.text(5_000)).collect();
    pages.iter().for_each(|page| drop(run.says(page).clone()));
    let once = run.size();
    for _ in 0..5 {
        pages.iter().rev().for_each(|page| drop(run.says(page).clone()));
    }
    run.calls(&pages);
    run.comes_back();
    assert!(run.size() < once + once / 4, "{} bytes for {once}", run.size());
}

#[test]
fn a_large_history_is_found_to_its_beginning() {
    let (mut run, mut noise) = (Run::new(), Noise::new());
    let mut history = vec![noise.text(5 << 20)];
    for _ in 0..4 {
        history.push(noise.text(2_000));
        run.calls(&history);
    }
    run.costs_at_most(105, (5 << 20) + 4 * 2_000);
}

#[test]
fn small_entries_are_plain_and_nothing_is_kept_of_them() {
    let (mut run, mut noise) = (Run::new(), Noise::new());
    for _ in 0..1_000 {
        run.says(&noise.text(400));
    }
    assert!(run.stored.iter().all(|stored| stored.packed.is_none()));
    assert!(run.packer.small.is_empty() && run.packer.large.is_empty());
}

#[test]
fn a_run_keeps_little_to_compare_with() {
    let (mut run, mut noise) = (Run::new(), Noise::new());
    let mut history = vec![];
    for _ in 0..50 {
        history.push(noise.text(2_000));
        run.calls(&history);
        assert_eq!(run.packer.large.len(), 1, "a history stands for what it was before");
        run.says("and so on");
    }
    for _ in 0..300 {
        run.says(&noise.text(60_000));
        run.says(&noise.text(500));
    }
    let packer = &run.packer;
    assert!(packer.large.len() <= MAX_KEPT_ENTRIES && packer.large_bytes <= MAX_KEPT);
    let sum: usize = packer.large.iter().map(|kept| kept.entry.bytes.len()).sum();
    assert_eq!(packer.large_bytes, sum);
    let sum: usize = packer.small.iter().map(|entry| entry.bytes.len()).sum();
    assert!(packer.small_bytes == sum && sum <= MAX_KEPT_SMALL);
}

#[test]
fn a_run_that_goes_on_packs_as_if_it_had_not_stopped() {
    let (mut run, mut noise, mut history) = (Run::new(), Noise::new(), vec![]);
    for turn in 0..40 {
        history.push(noise.text(1_500));
        run.calls(&history);
        run.says(&noise.text(300));
        if turn % 7 == 3 {
            run.packer = Packer::default();
            run.stored.iter().for_each(|stored| run.packer.follow(&stored.entry));
        }
    }
    run.costs_at_most(110, 40 * (1_500 + 300 + 200));
}

/// A conversation's last call as it is stored, and the plain entries before it.
fn last_call() -> (Vec<Vec<u8>>, u64, Packed) {
    let (mut run, mut noise, mut history) = (Run::new(), Noise::new(), vec![]);
    for _ in 0..4 {
        history.push(noise.text(1_200));
        run.calls(&history);
    }
    let last = run.stored.pop().unwrap();
    let plain = run.stored.iter().map(|stored| stored.entry.bytes.clone()).collect();
    (plain, last.entry.seq, last.packed.unwrap())
}

#[test]
fn damage_is_an_error_or_another_text() {
    let (plain, seq, good) = last_call();
    let open = |packed: &Packed| packed.open(seq, |part| Some(plain.get(part as usize)?));
    let truth = open(&good).unwrap();
    for at in 0..good.bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bad = good.clone();
            bad.bytes[at] ^= flip;
            // Some bits of a frame mean nothing; none leads elsewhere unnoticed.
            if let Ok(bytes) = open(&bad) {
                assert!(bytes == truth || Digest::of(&bytes) != Digest::of(&truth));
            }
        }
        let cut = Packed { bytes: good.bytes[..at].to_vec(), ..good.clone() };
        assert!(open(&cut).is_err(), "{at} bytes");
    }
    let mut longer = good.clone();
    longer.bytes.push(0);
    assert_eq!(open(&longer), Err(Unreadable::NoFrame));
    let twice = Packed { bytes: [&good.bytes[..], &good.bytes].concat(), ..good.clone() };
    assert_eq!(open(&twice), Err(Unreadable::NoFrame));
}

#[test]
fn the_wrong_parts_are_no_help() {
    let (plain, seq, good) = last_call();
    let open = |parts: &str, bytes: &[u8]| {
        let packed = Packed { parts: parts.parse().unwrap(), bytes: bytes.to_vec() };
        packed.open(seq, |part| Some(plain.get(part as usize)?))
    };
    let truth = open(&good.parts.to_string(), &good.bytes).unwrap();
    for wrong in ["0", "0-1", "1"] {
        assert!(
            open(wrong, &good.bytes).is_ok_and(|bytes| bytes != truth)
                || open(wrong, &good.bytes).is_err()
        );
    }
    // Neither is what does not exist, the entry itself, or what comes after it.
    for absent in [seq, seq + 1, u64::MAX - 1] {
        let result = open(&absent.to_string(), &good.bytes);
        assert_eq!(result, Err(Unreadable::NoPart { part: absent }));
    }
}

#[test]
fn what_would_fill_the_memory_is_refused() {
    let open = |bytes: Vec<u8>| {
        let packed = Packed { parts: Parts::default(), bytes };
        packed.open(9, |_| None).map(|plain| plain.len())
    };
    let zeros = |size| squeeze::compress(&vec![0; size], &[]).unwrap();
    assert_eq!(open(zeros(MAX_PLAIN)), Ok(MAX_PLAIN));
    assert!(zeros(MAX_PLAIN + 1).len() < 10_000);
    assert_eq!(open(zeros(MAX_PLAIN + 1)), Err(Unreadable::TooLarge));
    // A frame that does not say its size.
    let mut silent = zstd::Encoder::new(Vec::new(), 3).unwrap();
    for _ in 0..2 {
        std::io::Write::write_all(&mut silent, &[0; 5_000]).unwrap();
        std::io::Write::flush(&mut silent).unwrap();
    }
    assert_eq!(open(silent.finish().unwrap()), Err(Unreadable::NoFrame));
    // A prefix of many large entries.
    let large = vec![b'x'; 1 << 20];
    let many = Packed { parts: (0..100).collect(), bytes: zeros(2_000) };
    assert_eq!(many.open(100, |_| Some(&large)), Err(Unreadable::TooLarge));
}

#[test]
fn parts_are_written_as_rows() {
    let parts: Parts = [3, 5, 6, 7, 9, 10].into_iter().collect();
    assert_eq!(parts.to_string(), "3 5-7 9-10");
    assert_eq!("3 5-7 9-10".parse(), Ok(parts));
    for wrong in ["", " ", "3 ", "x", "-1", "3-", "7-5", "3 3", "5 3", "1-18446744073709551615"] {
        assert!(wrong.parse::<Parts>().is_err(), "{wrong}");
    }
    let error = "\u{1b}[31m".parse::<Parts>().unwrap_err();
    assert_eq!(error.to_string(), "`\\u{1b}[31m` is not a list of entries");
}

proptest! {
    /// Entries of any size that repeat any parts of each other.
    #[test]
    fn any_sequence_comes_back(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3_000), 1..6),
        plan in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..9), 1..30),
        stops in prop::collection::vec(any::<bool>(), 30),
    ) {
        let mut run = Run::new();
        for (seq, chosen) in (1..).zip(plan) {
            let chosen = chosen.iter().map(|index| &index.get(&pieces)[..]);
            let bytes = chosen.collect::<Vec<_>>().concat();
            let hash = Digest::of(&bytes);
            run.stored.push(run.packer.pack(Encoded { seq, bytes, hash }));
            if stops[seq as usize % 30] {
                run.packer = Packer::default();
                run.stored.iter().for_each(|stored| run.packer.follow(&stored.entry));
            }
        }
        run.comes_back();
    }

    #[test]
    fn any_bytes_are_opened_or_refused(bytes in any::<Vec<u8>>(), prefix in any::<Vec<u8>>()) {
        let mut framed = b"\x28\xb5\x2f\xfd".to_vec();
        framed.extend_from_slice(&bytes);
        for bytes in [bytes, framed] {
            let packed = Packed { parts: [0].into_iter().collect(), bytes };
            let _ = packed.open(1, |_| Some(&prefix));
        }
    }
}

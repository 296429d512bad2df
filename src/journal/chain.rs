//! The hash chain over encoded entries, and reading them back.
//!
//! An entry's hash covers its bytes and the hash of the entry before, so the
//! last hash stands for the whole journal. Each hash is stored beside its
//! entry: damage is found at the entry that it struck.

use crate::journal::{Entry, Micros};
use crate::revision::Digest;

/// What the hash of the first entry is chained to: SHA-256 of no bytes at all
/// would do as well, but this one cannot be mistaken for another journal format.
const ROOT: &[u8] = b"reenact journal 1";

/// An entry as it is stored, sent and hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub seq: u64,
    /// The entry as one line of JSON.
    pub bytes: Vec<u8>,
    /// Hash of this entry and, through the chain, of all before it.
    pub hash: Digest,
}

/// What the bytes of an entry begin with that cannot be read: no JSON does.
const UNREADABLE: &[u8] = b"\0unreadable: ";

impl Encoded {
    /// An entry of which only the hash is left, and the reason for that. It passes
    /// for what is left until somebody verifies the chain, and is damage there.
    pub fn unreadable(seq: u64, hash: Digest, why: impl std::fmt::Display) -> Self {
        Self { seq, bytes: [UNREADABLE, why.to_string().as_bytes()].concat(), hash }
    }

    fn why_unreadable(&self) -> Option<String> {
        let why = self.bytes.strip_prefix(UNREADABLE)?;
        Some(String::from_utf8_lossy(why).escape_debug().to_string())
    }
}

/// The growing end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    next_seq: u64,
    head: Digest,
    /// Time of the newest entry.
    last_at: Micros,
}

/// Entry `index` cannot be what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal is damaged at entry {index}: {what}")]
pub struct Damage {
    pub index: u64,
    pub what: String,
}

impl Default for Chain {
    fn default() -> Self {
        Self { next_seq: 0, head: Digest::of(ROOT), last_at: 0 }
    }
}

impl Chain {
    /// Hash of the newest entry, or of nothing but the format's name.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// The sequence number that the next entry must have.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Time of the newest entry.
    pub fn last_at(&self) -> Micros {
        self.last_at
    }

    /// Encodes `entry` and adds it to the chain.
    pub fn push(&mut self, entry: &Entry) -> Encoded {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        self.push_encoded(entry, bytes)
    }

    /// Adds `entry`, which `bytes` are the encoding of, to the chain.
    pub fn push_encoded(&mut self, entry: &Entry, bytes: Vec<u8>) -> Encoded {
        debug_assert_eq!(entry.seq, self.next_seq);
        let hash = Digest::of_parts(&[self.head.as_bytes(), &bytes]);
        let encoded = Encoded { seq: entry.seq, bytes, hash };
        self.pass(&encoded, entry.at);
        encoded
    }

    /// Moves past the next link, of time `at`, which was verified before.
    pub fn pass(&mut self, verified: &Encoded, at: Micros) {
        debug_assert_eq!(verified.seq, self.next_seq);
        self.head = verified.hash;
        self.next_seq += 1;
        self.last_at = at;
    }

    /// Checks that `encoded` is the next link, and decodes it.
    pub fn verify(&mut self, encoded: &Encoded) -> Result<Entry, Damage> {
        let index = self.next_seq;
        let damage = |what: String| Damage { index, what };
        if encoded.seq != index {
            return Err(damage(format!("expected number {index}, found {}", encoded.seq)));
        }
        let hash = Digest::of_parts(&[self.head.as_bytes(), &encoded.bytes]);
        if let Some(why) = encoded.why_unreadable() {
            return Err(damage(why));
        }
        if hash != encoded.hash {
            let (found, stored) = (hash.short(), encoded.hash.short());
            return Err(damage(format!("its content hashes to {found}, the chain says {stored}")));
        }
        let entry: Entry = serde_json::from_slice(&encoded.bytes)
            .map_err(|error| damage(format!("it is not an entry: {error}")))?;
        if entry.seq != index {
            return Err(damage(format!("it calls itself number {}", entry.seq)));
        }
        if entry.at < self.last_at {
            return Err(damage(format!("it is older than the one before: {}", entry.at)));
        }
        self.pass(encoded, entry.at);
        Ok(entry)
    }
}

/// Checks and decodes a chain up to its end or the first damage.
pub fn verify_prefix(encoded: &[Encoded]) -> (Vec<Entry>, Option<Damage>) {
    let mut chain = Chain::default();
    let mut entries = Vec::with_capacity(encoded.len());
    for link in encoded {
        match chain.verify(link) {
            Ok(entry) => entries.push(entry),
            Err(damage) => return (entries, Some(damage)),
        }
    }
    (entries, None)
}

/// Checks and decodes a whole chain.
pub fn verify_all(encoded: &[Encoded]) -> Result<Vec<Entry>, Damage> {
    match verify_prefix(encoded) {
        (entries, None) => Ok(entries),
        (_, Some(damage)) => Err(damage),
    }
}

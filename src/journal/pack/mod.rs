//! How entries are stored: what a run has recorded before is not stored again.
//!
//! A conversation with a model sends its whole history with every call, so plain
//! entries would grow with the square of its length. A large entry is therefore
//! compressed with earlier entries as its *prefix*: what it repeats of them
//! costs a few bytes. The [`Packer`] chooses these entries by what they have in
//! common ([`likeness`]), not by what they are: a history that grows, or loses
//! its beginning, several histories that take turns, an event that repeats an
//! answer, a page that is read again are all alike to it.
//!
//! Nothing outside depends on that choice. A stored entry names its parts, and
//! whoever has these can unpack it. Hashes, limits and everybody who reads a
//! journal know plain entries only.

mod likeness;
mod parts;
mod squeeze;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::Encoded;
use likeness::Marks;
pub use parts::{InvalidParts, Parts};
pub use squeeze::Unreadable;

/// Bytes from which an entry is packed. Smaller ones are most of all entries;
/// to them this module must cost nothing.
const LARGE: usize = 1 << 10;

/// Bytes from which a run's first entry is packed. It repeats nothing, and a run
/// that does little else should not wait for it.
const LARGE_FIRST: usize = 8 << 10;

/// Entries larger than this are stored plain, and no prefix is larger: together
/// they fit in the largest window that every zstd reads.
const MAX_PLAIN: usize = 64 << 20;

/// Bytes of large entries that a run in progress keeps to compare with.
const MAX_KEPT: usize = 16 << 20;

/// Large entries that it keeps: as many answers as a batch of calls can have, by
/// default, for several batches.
const MAX_KEPT_ENTRIES: usize = 256;

/// Bytes of small entries that it keeps.
const MAX_KEPT_SMALL: usize = 64 << 10;

/// How often the common marks of two entries are counted to pack one.
const MAX_LOOKS: usize = 1_000;

/// A prefix may have so many times the entry's bytes, and [`PREFIX_FLOOR`] more.
/// To read it costs time, which must not be out of proportion to what is recorded.
const PREFIX_RATIO: usize = 4;
const PREFIX_FLOOR: usize = 64 << 10;

/// An entry and the form in which it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub entry: Arc<Encoded>,
    /// What is stored instead of the plain bytes, if that is shorter.
    pub packed: Option<Packed>,
}

/// An entry in its packed form: a zstd frame that was compressed with the plain
/// bytes of `parts`, one after the other, as its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    pub parts: Parts,
    pub bytes: Vec<u8>,
}

impl From<Encoded> for Stored {
    /// Stored plain.
    fn from(entry: Encoded) -> Self {
        Self { entry: Arc::new(entry), packed: None }
    }
}

impl Packed {
    /// The plain bytes of entry `seq`. `plain` answers those of earlier entries.
    ///
    /// It takes no more memory than entries can need, whatever the bytes claim.
    pub fn open<'a>(
        &self,
        seq: u64,
        plain: impl Fn(u64) -> Option<&'a [u8]>,
    ) -> Result<Vec<u8>, Unreadable> {
        let mut prefix = Vec::new();
        for part in self.parts.iter() {
            let earlier = if part < seq { plain(part) } else { None };
            let bytes = earlier.ok_or(Unreadable::NoPart { part })?;
            if prefix.len() + bytes.len() > MAX_PLAIN {
                return Err(Unreadable::TooLarge);
            }
            prefix.extend_from_slice(bytes);
        }
        squeeze::expand(&self.bytes, &prefix)
    }
}

/// Decides how the entries of one run are stored. It sees all of them, in order.
#[derive(Debug, Default)]
pub struct Packer {
    large: VecDeque<Kept>,
    large_bytes: usize,
    /// Small entries since the first large one.
    small: VecDeque<Arc<Encoded>>,
    small_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    entry: Arc<Encoded>,
    marks: Marks,
}

impl Packer {
    /// Packs the run's next entry.
    pub fn pack(&mut self, entry: Encoded) -> Stored {
        let entry = Arc::new(entry);
        if !is_large(&entry) {
            self.keep_small(&entry);
            return Stored { entry, packed: None };
        }
        let marks = Marks::of(&entry.bytes);
        let packed = self.squeeze(&entry, &marks);
        self.keep_large(&entry, marks);
        Stored { entry, packed }
    }

    /// Takes note of an entry that is stored already: the run goes on after it.
    pub fn follow(&mut self, entry: &Encoded) {
        if is_large(entry) {
            self.keep_large(&Arc::new(entry.clone()), Marks::of(&entry.bytes));
        } else if !self.large.is_empty() {
            self.keep_small(&Arc::new(entry.clone()));
        }
    }

    fn squeeze(&self, entry: &Encoded, marks: &Marks) -> Option<Packed> {
        let size = entry.bytes.len();
        if size > MAX_PLAIN {
            return None;
        }
        let mut chosen = self.bases(marks, size);
        let after = chosen.first().map(|base| base.seq);
        chosen.extend(self.small_after(after, size));
        chosen.sort_unstable_by_key(|part| part.seq);
        let parts: Parts = chosen.iter().map(|part| part.seq).collect();
        let plain: Vec<&[u8]> = chosen.iter().map(|part| &part.bytes[..]).collect();
        let bytes = squeeze::compress(&entry.bytes, &plain.concat())?;
        Some(Packed { parts, bytes })
    }

    /// Large entries that together have most in common with `marks`, the best one
    /// first. Each is chosen for what the ones before it lack.
    fn bases(&self, marks: &Marks, size: usize) -> Vec<&Arc<Encoded>> {
        let mut room = (size * PREFIX_RATIO + PREFIX_FLOOR).min(MAX_PLAIN - MAX_KEPT_SMALL);
        let mut left = marks.clone();
        // Of two that have as much in common, the smaller one costs less.
        let rank = |left: &Marks, index: usize| {
            let kept: &Kept = &self.large[index];
            (left.shared_with(&kept.marks), Reverse(kept.entry.bytes.len()), index)
        };
        let ranks = (0..self.large.len()).map(|index| rank(&left, index));
        let mut ranks: BinaryHeap<_> = ranks.filter(|(shared, ..)| *shared > 0).collect();
        let mut bases = Vec::new();
        for _ in 0..MAX_LOOKS {
            let Some((_, Reverse(bytes), index)) = ranks.pop() else { break };
            // What others have in common too may be taken by now. It only becomes less.
            let now = rank(&left, index);
            if now.0 == 0 || bytes > room {
                continue;
            }
            if ranks.peek().is_some_and(|next| *next > now) {
                ranks.push(now);
                continue;
            }
            room -= bytes;
            left.remove(&self.large[index].marks);
            bases.push(&self.large[index].entry);
        }
        bases
    }

    /// The newest small entries, as far as they come after entry `after`. The
    /// history of a conversation holds what came after its last turn.
    fn small_after(&self, after: Option<u64>, size: usize) -> Vec<&Arc<Encoded>> {
        let mut room = size + PREFIX_FLOOR / 16;
        let newest = self.small.iter().rev();
        newest
            .take_while(|entry| after.is_none_or(|after| entry.seq > after))
            .take_while(|entry| {
                let fits = entry.bytes.len() <= room;
                room = room.saturating_sub(entry.bytes.len());
                fits
            })
            .collect()
    }

    fn keep_large(&mut self, entry: &Arc<Encoded>, marks: Marks) {
        if marks.is_empty() || entry.bytes.len() > MAX_PLAIN {
            return;
        }
        // A history that has grown stands for what it was before.
        let mut bytes = 0;
        self.large.retain(|kept| {
            let stays = !kept.marks.are_within(&marks);
            bytes += if stays { kept.entry.bytes.len() } else { 0 };
            stays
        });
        self.large_bytes = bytes + entry.bytes.len();
        self.large.push_back(Kept { entry: Arc::clone(entry), marks });
        while self.large.len() > MAX_KEPT_ENTRIES
            || (self.large_bytes > MAX_KEPT && self.large.len() > 1)
        {
            let oldest = self.large.pop_front();
            self.large_bytes -= oldest.map_or(0, |kept| kept.entry.bytes.len());
        }
    }

    fn keep_small(&mut self, entry: &Arc<Encoded>) {
        if self.large.is_empty() {
            return;
        }
        self.small_bytes += entry.bytes.len();
        self.small.push_back(Arc::clone(entry));
        while self.small_bytes > MAX_KEPT_SMALL {
            let oldest = self.small.pop_front();
            self.small_bytes -= oldest.map_or(0, |entry| entry.bytes.len());
        }
    }
}

fn is_large(entry: &Encoded) -> bool {
    entry.bytes.len() >= if entry.seq == 0 { LARGE_FIRST } else { LARGE }
}

#[cfg(test)]
mod tests;

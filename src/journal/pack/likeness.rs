//! What two texts have in common, told from a sample of their places.
//!
//! A hash rolls over the text and depends on its last 64 bytes only. Where it is
//! small, which is at one byte in 128, it is a mark. A passage that two texts
//! share leaves the same marks in both, wherever it stands.

/// Bytes per mark, as a power of two.
const SPACING: u32 = 7;

/// Text made for it could have a mark at every byte; as many as this has no
/// other text.
const MOST_PER_BYTES: usize = 32;

/// Marks that a text can lose where it is continued: those around its end, and
/// around what counts from entry to entry.
const LOST: usize = 2;

/// Marks of a text, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks(Vec<u32>);

impl Marks {
    pub fn of(text: &[u8]) -> Self {
        let most = text.len() / MOST_PER_BYTES + 1;
        let mut marks = Vec::with_capacity(text.len() >> (SPACING - 1));
        let mut hash = 0_u64;
        for &byte in text {
            hash = (hash << 1).wrapping_add(GEAR[usize::from(byte)]);
            if hash >> (u64::BITS - SPACING) == 0 && marks.len() < most {
                marks.push((hash >> (u64::BITS - SPACING - u32::BITS)) as u32);
            }
        }
        marks.sort_unstable();
        marks.dedup();
        Self(marks)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many marks both have.
    pub fn shared_with(&self, other: &Self) -> usize {
        let (few, many) = if self.0.len() < other.0.len() { (self, other) } else { (other, self) };
        // A search for each of few takes less time than to walk through many.
        let steps = many.0.len().checked_ilog2().unwrap_or(0) as usize + 1;
        if few.0.len() * steps < many.0.len() {
            return few.0.iter().filter(|mark| many.0.binary_search(mark).is_ok()).count();
        }
        let (mut few, mut many) = (few.0.iter().peekable(), many.0.iter().peekable());
        let mut shared = 0;
        while let (Some(a), Some(b)) = (few.peek(), many.peek()) {
            let order = a.cmp(b);
            shared += usize::from(order.is_eq());
            if order.is_le() {
                few.next();
            }
            if order.is_ge() {
                many.next();
            }
        }
        shared
    }

    /// Whether `larger` has all of these marks, but for a few at the edges.
    pub fn are_within(&self, larger: &Self) -> bool {
        let count = self.0.len();
        count <= larger.0.len() + LOST && self.shared_with(larger) + LOST.min(count / 4) >= count
    }

    pub fn remove(&mut self, others: &Self) {
        self.0.retain(|mark| others.0.binary_search(mark).is_err());
    }
}

/// What each byte adds to the hash: any fixed numbers without a pattern.
const GEAR: [u64; 256] = {
    let mut gear = [0; 256];
    let mut state = 0x5245_454e_4143_5421_u64;
    let mut index = 0;
    while index < gear.len() {
        // One step of SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        gear[index] = mixed ^ (mixed >> 31);
        index += 1;
    }
    gear
};

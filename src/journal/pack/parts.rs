//! The entries that a packed one needs, as text: `3 5-7`.

use std::fmt;
use std::str::FromStr;

/// More parts than a prefix can have, so that a short text is not many numbers.
const MAX_PARTS: u64 = 1 << 16;

/// Numbers of entries, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// First and last number, both included, of each row without a gap.
    rows: Vec<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a list of entries", .0.escape_debug())]
pub struct InvalidParts(pub String);

impl Parts {
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.rows.iter().flat_map(|&(first, last)| first..=last)
    }
}

impl FromIterator<u64> for Parts {
    /// From numbers in ascending order.
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut rows: Vec<(u64, u64)> = Vec::new();
        for number in numbers {
            match rows.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => rows.push((number, number)),
            }
        }
        Self { rows }
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.rows.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            match first == last {
                true => write!(f, "{gap}{first}")?,
                false => write!(f, "{gap}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Parts {
    type Err = InvalidParts;

    fn from_str(text: &str) -> Result<Self, InvalidParts> {
        let invalid = || InvalidParts(text.chars().take(40).collect());
        let mut rows = Vec::new();
        let (mut next, mut count) = (0, 0);
        for row in text.split(' ') {
            let (first, last) = row.split_once('-').unwrap_or((row, row));
            let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>()) else {
                return Err(invalid());
            };
            if first < next || last < first || last - first >= MAX_PARTS {
                return Err(invalid());
            }
            count += last - first + 1;
            next = last.checked_add(1).ok_or_else(invalid)?;
            rows.push((first, last));
        }
        if count <= MAX_PARTS { Ok(Self { rows }) } else { Err(invalid()) }
    }
}

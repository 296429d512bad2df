//! The passages of a file that mention the topic.

/// Lines quoted before and after a mention, within its paragraph.
const CONTEXT: usize = 1;

/// Longer passages are split, so that a document stays a screen or two.
const MAX_LINES: usize = 6;

/// Longer lines are cut to this many characters around the mention.
pub const MAX_CHARS: usize = 240;

/// Neighbouring lines of a file.
#[derive(Debug, PartialEq)]
pub struct Passage {
    /// Number of the first line, from 1.
    pub first: usize,
    pub lines: Vec<String>,
}

impl Passage {
    /// Number of the last line.
    pub fn last(&self) -> usize {
        self.first + self.lines.len() - 1
    }
}

/// The passages of `text` around the lines that hold the topic in any case,
/// and around the lines that the search found, whose numbers are `found`.
pub fn extract(text: &str, topic: &str, found: &[usize]) -> Vec<Passage> {
    let lines: Vec<&str> = text.lines().collect();
    let topic = topic.to_lowercase();
    let mentions = (1..=lines.len())
        .filter(|&n| found.contains(&n) || lines[n - 1].to_lowercase().contains(&topic));
    ranges(&lines, mentions)
        .into_iter()
        .map(|(first, last)| Passage {
            first,
            lines: lines[first - 1..last].iter().map(|line| cut(line, &topic)).collect(),
        })
        .collect()
}

/// First and last line of each passage, in order and without overlap.
fn ranges(lines: &[&str], mentions: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for mention in mentions {
        let (first, last) = around(lines, mention);
        match ranges.last_mut() {
            Some(before) if first <= before.1 + 1 && last - before.0 < MAX_LINES => before.1 = last,
            Some(before) if mention <= before.1 => {}
            Some(before) => {
                let first = first.max(before.1 + 1);
                ranges.push((first, last));
            }
            None => ranges.push((first, last)),
        }
    }
    ranges
}

/// A line with its context, which ends where the paragraph does.
fn around(lines: &[&str], mention: usize) -> (usize, usize) {
    let blank = |n: usize| lines[n - 1].trim().is_empty();
    let (mut first, mut last) = (mention, mention);
    for _ in 0..CONTEXT {
        if first > 1 && !blank(first - 1) {
            first -= 1;
        }
        if last < lines.len() && !blank(last + 1) {
            last += 1;
        }
    }
    (first, last)
}

/// The line as it is, or the part of a long one around its first mention.
fn cut(line: &str, topic: &str) -> String {
    let line = line.trim_end();
    let length = line.chars().count();
    if length <= MAX_CHARS {
        return line.to_string();
    }
    let lower = line.to_lowercase();
    let mention = lower.find(topic).map_or(0, |at| lower[..at].chars().count());
    let start = mention.saturating_sub(MAX_CHARS / 3).min(length - MAX_CHARS);
    let part: String = line.chars().skip(start).take(MAX_CHARS).collect();
    let before = if start > 0 { "…" } else { "" };
    let after = if start + MAX_CHARS < length { "…" } else { "" };
    format!("{before}{part}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(text: &str, found: &[usize]) -> Vec<(usize, usize)> {
        extract(text, "fuel", found).iter().map(|passage| (passage.first, passage.last())).collect()
    }

    #[test]
    fn a_mention_comes_with_its_neighbours() {
        assert_eq!(spans("a\nb\nthe Fuel\nd\ne", &[]), [(2, 4)]);
    }

    #[test]
    fn context_stays_within_the_paragraph() {
        assert_eq!(spans("a\n\nfuel\n\nb", &[]), [(3, 3)]);
    }

    #[test]
    fn near_mentions_share_a_passage() {
        assert_eq!(spans("fuel\na\nfuel\nb\n\nc\nfuel", &[]), [(1, 4), (6, 7)]);
    }

    #[test]
    fn long_passages_are_split_without_overlap() {
        let text = "fuel\n".repeat(14);
        assert_eq!(spans(&text, &[]), [(1, 6), (7, 12), (13, 14)]);
    }

    #[test]
    fn lines_that_the_search_found_count_as_mentions() {
        assert_eq!(spans("a\n\nb\n", &[3, 99]), [(3, 3)]);
    }

    #[test]
    fn a_long_line_is_cut_around_the_mention() {
        let line = format!("{}fuel{}", "ä".repeat(1000), "ö".repeat(1000));
        let cut = cut(&line, "fuel");
        assert!(cut.starts_with("…ä") && cut.ends_with("ö…") && cut.contains("fuel"));
        assert_eq!(cut.chars().count(), MAX_CHARS + 2);
    }
}

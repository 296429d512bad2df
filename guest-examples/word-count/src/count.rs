//! The counting, free of the host.

use serde::Serialize;

#[derive(Debug, PartialEq, Serialize)]
pub struct Counts {
    pub lines: usize,
    pub words: usize,
    pub bytes: usize,
    pub longest_word: String,
}

/// Words are what white space separates. The longest has the most characters
/// without the punctuation around it, and is the first of several.
pub fn count(text: &str) -> Counts {
    let (mut words, mut longest, mut longest_word) = (0, 0, "");
    for word in text.split_whitespace() {
        words += 1;
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let length = bare.chars().count();
        if length > longest {
            longest = length;
            longest_word = bare;
        }
    }
    let longest_word = longest_word.to_owned();
    Counts { lines: text.lines().count(), words, bytes: text.len(), longest_word }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_text() {
        let counts = count("One, two\n(three)\n\nfour: “fünf”\n");
        let expected = Counts { lines: 4, words: 5, bytes: 36, longest_word: "three".to_owned() };
        assert_eq!(counts, expected);
    }

    #[test]
    fn counts_nothing() {
        let expected = Counts { lines: 0, words: 0, bytes: 0, longest_word: String::new() };
        assert_eq!(count(""), expected);
    }

    #[test]
    fn a_last_line_needs_no_line_feed() {
        assert_eq!(count("a\nb").lines, 2);
    }
}

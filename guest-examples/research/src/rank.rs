//! Which of the files that were found are worth reading.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line that `files.search` found. Lines count from 1.
#[derive(Deserialize)]
pub struct Match {
    pub path: String,
    pub line: usize,
}

/// A file, with the lines that the search found in it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Candidate<'a> {
    pub path: &'a str,
    pub lines: Vec<usize>,
}

/// The files found, those with the most matches first, equals by name.
pub fn rank(matches: &[Match]) -> Vec<Candidate<'_>> {
    let mut by_path: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for found in matches {
        by_path.entry(&found.path).or_default().push(found.line);
    }
    let mut ranked: Vec<_> =
        by_path.into_iter().map(|(path, lines)| Candidate { path, lines }).collect();
    ranked.sort_by_key(|file| Reverse(file.lines.len()));
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, line: usize) -> Match {
        Match { path: path.to_string(), line }
    }

    #[test]
    fn most_matches_first_then_by_name() {
        let matches = [found("c.md", 1), found("b.md", 4), found("a.md", 9), found("b.md", 7)];
        let ranked = rank(&matches);
        let paths: Vec<_> = ranked.iter().map(|file| file.path).collect();
        assert_eq!(paths, ["b.md", "a.md", "c.md"]);
        assert_eq!(ranked[0].lines, [4, 7]);
    }

    #[test]
    fn nothing_found_is_nothing_ranked() {
        assert_eq!(rank(&[]), []);
    }
}

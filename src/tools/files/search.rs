//! `files.search`.

use std::io::{self, Read};

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Source, Success, ToolError};
use super::folder::{Folder, RelPath};
use super::walk::{Bounds, Walk};
use super::{Cancel, invalid};

pub const DEFAULT_RESULTS: usize = 20;
const MAX_RESULTS: usize = 100;

/// So that one file cannot fill the answer.
const MAX_IN_FILE: usize = 5;
const MAX_LINE_CHARS: usize = 400;
/// Characters that are shown before a match far into a long line.
const CONTEXT_CHARS: usize = 100;
/// Larger files are rarely written by people.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// A NUL byte in the first so many means that a file is not text.
const SNIFFED_BYTES: u64 = 8 << 10;

/// How much one search does. It takes a few seconds at most.
const BOUNDS: Bounds = Bounds { files: 20_000, depth: 64, entries: 100_000, bytes: 256 << 20 };

#[derive(Deserialize)]
pub struct SearchArguments {
    query: String,
    #[serde(default)]
    path: String,
    max_results: Option<usize>,
}

pub fn search(
    folder: &Folder,
    args: SearchArguments,
    cancel: &Cancel,
) -> Result<Success, ToolError> {
    search_within(folder, args, cancel, BOUNDS)
}

fn search_within(
    folder: &Folder,
    args: SearchArguments,
    cancel: &Cancel,
    bounds: Bounds,
) -> Result<Success, ToolError> {
    let query = Query::new(&args.query)?;
    let max = args.max_results.unwrap_or(DEFAULT_RESULTS).min(MAX_RESULTS);
    let start = RelPath::parse(&args.path)?;
    let mut walk = Walk::start(folder, cancel, start, &args.path, bounds)?;
    // Lines with the whole query, and in case there are none, lines with its words.
    let (mut whole, mut words) = (Found::new(max), Found::new(max));
    let mut files_searched = 0;
    while let Some(path) = walk.next_file()? {
        // A file that cannot be read or is not text holds nothing to find.
        let Ok(Some(bytes)) = text_of(folder, &path) else { continue };
        let Some(left) = walk.left.bytes.checked_sub(bytes.len() as u64) else {
            walk.incomplete = true;
            break;
        };
        walk.left.bytes = left;
        files_searched += 1;
        let text = String::from_utf8_lossy(&bytes);
        let folded = fold(&text);
        let source = || folder.file_source(&path, &bytes);
        whole.look(&path, &text, &folded, &[&query.whole], source);
        if whole.matches.is_empty() && query.words.len() > 1 {
            words.look(&path, &text, &folded, &query.words(), source);
        }
        if whole.full() {
            break;
        }
    }
    let found = if whole.matches.is_empty() { words } else { whole };
    let truncated = found.more || walk.incomplete;
    let content = json!({
        "matches": found.matches,
        "truncated": truncated,
        "files_searched": files_searched,
    });
    Ok(Success { content, sources: found.sources })
}

/// What is looked for, in folded case.
struct Query {
    whole: String,
    words: Vec<String>,
}

impl Query {
    fn new(text: &str) -> Result<Self, ToolError> {
        let whole = fold(text.trim());
        if whole.is_empty() {
            return Err(invalid("`query` is only white space".to_owned()));
        }
        let words = whole.split_whitespace().map(str::to_owned).collect();
        Ok(Self { whole, words })
    }

    fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }
}

struct Found {
    max: usize,
    matches: Vec<Value>,
    /// One for each file with a match, in the order of the matches.
    sources: Vec<Source>,
    /// There was another match than those.
    more: bool,
}

impl Found {
    fn new(max: usize) -> Self {
        Self { max, matches: Vec::new(), sources: Vec::new(), more: false }
    }

    /// Nothing that comes could change the answer.
    fn full(&self) -> bool {
        self.matches.len() == self.max && self.more
    }

    /// Adds the lines of one file that contain all `needles`.
    fn look(
        &mut self,
        path: &RelPath,
        text: &str,
        folded: &str,
        needles: &[&str],
        source: impl FnOnce() -> Source,
    ) {
        // Most files have no match at all, which is quickly seen.
        if self.full() || !needles.iter().all(|needle| folded.contains(needle)) {
            return;
        }
        let before = self.matches.len();
        for (index, (line, folded)) in text.lines().zip(folded.lines()).enumerate() {
            if !needles.iter().all(|needle| folded.contains(needle)) {
                continue;
            }
            if self.matches.len() == self.max || self.matches.len() - before == MAX_IN_FILE {
                self.more = true;
                break;
            }
            let at = needles.iter().filter_map(|needle| folded.find(needle)).min().unwrap_or(0);
            let text = excerpt(line, folded[..at].chars().count());
            self.matches.push(json!({ "path": path.as_str(), "line": index + 1, "text": text }));
        }
        if self.matches.len() > before {
            self.sources.push(source());
        }
    }
}

/// At most `MAX_LINE_CHARS` of a line around the character number `at`.
fn excerpt(line: &str, at: usize) -> String {
    let blank = line.chars().take_while(|c| c.is_whitespace()).count();
    let (line, at) = (line.trim(), at.saturating_sub(blank));
    let length = line.chars().count();
    if length <= MAX_LINE_CHARS {
        return line.to_owned();
    }
    // Room for the marks at both ends.
    let room = MAX_LINE_CHARS - 2;
    let start = if at < room - CONTEXT_CHARS { 0 } else { (at - CONTEXT_CHARS).min(length - room) };
    let middle: String = line.chars().skip(start).take(room).collect();
    let (before, after) = (start > 0, start + room < length);
    format!("{}{middle}{}", if before { "…" } else { "" }, if after { "…" } else { "" })
}

/// Lower case, character by character, so that no line depends on its neighbours.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().flat_map(char::to_lowercase).collect()
}

/// The whole file, or `None` if it is too large or binary.
fn text_of(folder: &Folder, path: &RelPath) -> io::Result<Option<Vec<u8>>> {
    let (mut file, size) = folder.open_file(path)?;
    if size > MAX_FILE_BYTES {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(size as usize + 1);
    file.by_ref().take(SNIFFED_BYTES).read_to_end(&mut bytes)?;
    if bytes.contains(&0) {
        return Ok(None);
    }
    // It may have grown since it was opened.
    file.take(MAX_FILE_BYTES + 1 - bytes.len() as u64).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_FILE_BYTES).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_search_ends_when_it_has_read_enough() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(root.path().join(name), "needle").unwrap();
        }
        let folder = Folder::open(root.path(), None).unwrap();
        let look = |bytes| {
            let args = json!({ "query": "needle" });
            let args = serde_json::from_value(args).unwrap();
            let bounds = Bounds { bytes, ..BOUNDS };
            let found = search_within(&folder, args, &Cancel::default(), bounds).unwrap().content;
            (found["files_searched"].as_u64().unwrap(), found["truncated"] == true)
        };
        assert_eq!(look(18), (3, false));
        assert_eq!(look(17), (2, true));
    }

    #[test]
    fn folding_treats_every_character_alone() {
        assert_eq!(fold("ΟΔΟΣ ÀB"), "οδοσ àb");
        assert_eq!(fold("a\nB\n").lines().count(), 2);
    }
}

//! `files.read` and `files.list`.

use std::io::{self, Read, Seek, SeekFrom};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{Success, ToolError};
use super::Cancel;
use super::folder::{Folder, RelPath, cannot, is_hidden, start_of};

pub const DEFAULT_READ: u64 = 64 << 10;
pub const MAX_READ: u64 = 1 << 20;

/// More entries would not help whoever reads the answer.
const MAX_LISTED: usize = 1_000;
/// All names are held in memory to be sorted. In a folder with more entries,
/// which ones are answered is up to the file system.
const MAX_NAMES: usize = 100_000;

#[derive(Deserialize)]
pub struct ReadArguments {
    path: String,
    #[serde(default)]
    offset: u64,
    max_bytes: Option<u64>,
}

pub fn read(folder: &Folder, args: ReadArguments, _: &Cancel) -> Result<Success, ToolError> {
    let path = RelPath::parse(&args.path)?;
    let max = args.max_bytes.unwrap_or(DEFAULT_READ).min(MAX_READ);
    let part = read_part(folder, &path, args.offset, max)
        .map_err(|cause| cannot("read", &args.path, &cause))?;
    let end = args.offset + part.bytes.len() as u64;
    let mut content = Map::new();
    content.insert("path".into(), path.as_str().into());
    content.insert("text".into(), String::from_utf8_lossy(&part.bytes).into());
    content.insert("size".into(), part.size.into());
    content.insert("truncated".into(), part.more.into());
    if part.more {
        content.insert("next_offset".into(), end.into());
    }
    let source = folder.file_source(&path, &part.start);
    Ok(Success { content: content.into(), sources: vec![source] })
}

struct Part {
    bytes: Vec<u8>,
    /// Whether something follows the bytes.
    more: bool,
    size: u64,
    /// How the file begins.
    start: Vec<u8>,
}

fn read_part(folder: &Folder, path: &RelPath, offset: u64, max: u64) -> io::Result<Part> {
    let (mut file, size) = folder.open_file(path)?;
    let start = start_of(&mut file)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    // One byte more shows whether there is more, also if the file grows meanwhile.
    file.take(max + 1).read_to_end(&mut bytes)?;
    let more = bytes.len() as u64 > max;
    if more {
        bytes.truncate(max as usize);
        bytes.truncate(bytes.len() - split_character(&bytes));
    }
    Ok(Part { bytes, more, size, start })
}

/// How many bytes at the end are the start of a character that goes on.
fn split_character(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let Some(lead) = tail.iter().rposition(|byte| *byte >= 0xC0) else { return 0 };
    let have = tail.len() - lead;
    let need = match tail[lead] {
        0xC0..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0..0xF8 => 4,
        _ => 0,
    };
    let only_continued = tail[lead + 1..].iter().all(|byte| byte & 0xC0 == 0x80);
    if only_continued && have < need { have } else { 0 }
}

#[derive(Deserialize)]
pub struct ListArguments {
    #[serde(default)]
    path: String,
}

pub fn list(folder: &Folder, args: ListArguments, cancel: &Cancel) -> Result<Success, ToolError> {
    let path = RelPath::parse(&args.path)?;
    let cannot = |cause: io::Error| cannot("list", &args.path, &cause);
    let (mut names, mut truncated) = (Vec::new(), false);
    for entry in folder.entries(&path).map_err(cannot)? {
        cancel.check()?;
        if names.len() == MAX_NAMES {
            truncated = true;
            break;
        }
        let name = entry.map_err(cannot)?.file_name();
        if !is_hidden(name.as_encoded_bytes()) {
            names.push(name);
        }
    }
    names.sort();
    truncated |= names.len() > MAX_LISTED;
    names.truncate(MAX_LISTED);
    let mut entries = Vec::new();
    for name in names {
        cancel.check()?;
        // A name that is not UTF-8 can be shown but not opened.
        entries.push(describe(folder, &path, &name.to_string_lossy()));
    }
    let content = json!({ "entries": entries, "truncated": truncated });
    Ok(Success { content, sources: vec![folder.folder_source(&path)] })
}

fn describe(folder: &Folder, path: &RelPath, name: &str) -> Value {
    // An entry may have gone since it was read.
    let Ok(metadata) = folder.link_metadata(&path.join(name)) else {
        return json!({ "name": name, "type": "other" });
    };
    match metadata.file_type() {
        kind if kind.is_file() => json!({ "name": name, "type": "file", "size": metadata.len() }),
        kind if kind.is_dir() => json!({ "name": name, "type": "folder" }),
        kind if kind.is_symlink() => json!({ "name": name, "type": "link" }),
        _ => json!({ "name": name, "type": "other" }),
    }
}

#[cfg(test)]
mod tests {
    use super::split_character;

    #[test]
    fn only_a_character_that_goes_on_is_split() {
        let text = "aé€😀".as_bytes();
        let split: Vec<_> = (0..=text.len()).map(|end| split_character(&text[..end])).collect();
        assert_eq!(split, [0, 0, 1, 0, 1, 2, 0, 1, 2, 3, 0]);
        // Bytes that are no characters at all are left to lossy decoding.
        assert_eq!(split_character(b"\x80\x80\x80\x80"), 0);
        assert_eq!(split_character(b"abc\xFF"), 0);
        assert_eq!(split_character(b"\xF0a"), 0);
    }
}

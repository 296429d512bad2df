//! All regular files below a folder, sorted by path, within bounds.
//!
//! Links are not followed: what they lead to inside of the folder is found
//! under its own path, and so a loop of links cannot hold a walk up. Folders
//! are opened one at a time, so a deep tree does not use up descriptors.

use std::io;
use std::vec::IntoIter;

use cap_std::fs::DirEntry;

use super::super::ToolError;
use super::Cancel;
use super::folder::{Folder, RelPath, cannot, is_hidden};

/// What a search may visit. Whatever a bound leaves out makes it incomplete.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub files: usize,
    pub depth: usize,
    /// Entries of all folders, files or not. They are held in memory to be sorted.
    pub entries: usize,
    /// Bytes of all files together. Whoever reads the files counts them.
    pub bytes: u64,
}

pub struct Walk<'a> {
    folder: &'a Folder,
    cancel: &'a Cancel,
    pub left: Bounds,
    /// Something was left out because of a bound.
    pub incomplete: bool,
    /// The folders from the start to here.
    levels: Vec<Level>,
}

struct Level {
    path: RelPath,
    entries: IntoIter<Entry>,
}

struct Entry {
    name: String,
    is_folder: bool,
}

impl<'a> Walk<'a> {
    /// Starts in `start`, which is an error if it cannot be listed. `given` is
    /// how the guest wrote it.
    pub fn start(
        folder: &'a Folder,
        cancel: &'a Cancel,
        start: RelPath,
        given: &str,
        bounds: Bounds,
    ) -> Result<Self, ToolError> {
        let mut walk = Self { folder, cancel, left: bounds, incomplete: false, levels: Vec::new() };
        if let Err(cause) = walk.enter(start)? {
            return Err(cannot("search", given, &cause));
        }
        Ok(walk)
    }

    /// The next file, or `None` at the end.
    pub fn next_file(&mut self) -> Result<Option<RelPath>, ToolError> {
        while let Some(level) = self.levels.last_mut() {
            self.cancel.check()?;
            let Some(entry) = level.entries.next() else {
                self.levels.pop();
                continue;
            };
            let path = level.path.join(&entry.name);
            if !entry.is_folder {
                if self.left.files == 0 {
                    self.incomplete = true;
                    return Ok(None);
                }
                self.left.files -= 1;
                return Ok(Some(path));
            }
            if self.levels.len() > self.left.depth {
                self.incomplete = true;
            } else if self.enter(path)?.is_err() {
                // Gone meanwhile, or not readable: there is nothing to find in it.
                continue;
            }
        }
        Ok(None)
    }

    /// The outer error ends the walk, the inner one is about this folder.
    fn enter(&mut self, path: RelPath) -> Result<io::Result<()>, ToolError> {
        let found = match self.folder.entries(&path) {
            Ok(found) => found,
            Err(cause) => return Ok(Err(cause)),
        };
        let mut entries = Vec::new();
        for entry in found {
            self.cancel.check()?;
            if self.left.entries == 0 {
                self.incomplete = true;
                break;
            }
            self.left.entries -= 1;
            entries.extend(entry.ok().as_ref().and_then(wanted));
        }
        // Folders sort as if their names ended in `/`, so that files come in
        // the order of their whole paths.
        entries.sort_by(|a, b| a.key().cmp(b.key()));
        self.levels.push(Level { path, entries: entries.into_iter() });
        Ok(Ok(()))
    }
}

impl Entry {
    fn key(&self) -> impl Iterator<Item = u8> {
        self.name.bytes().chain(self.is_folder.then_some(b'/'))
    }
}

/// Folders and regular files, but not what is hidden, what builds leave
/// behind, or what no guest could name.
fn wanted(entry: &DirEntry) -> Option<Entry> {
    let name = entry.file_name().into_string().ok()?;
    let mut kind = entry.file_type().ok()?;
    if !kind.is_dir() && !kind.is_file() && !kind.is_symlink() {
        // Some file systems do not say in the listing.
        kind = entry.metadata().ok()?.file_type();
    }
    let is_folder = kind.is_dir();
    if is_hidden(name.as_bytes())
        || (is_folder && ["target", "node_modules"].contains(&name.as_str()))
    {
        return None;
    }
    (is_folder || kind.is_file()).then_some(Entry { name, is_folder })
}

//! The whole layout of the home folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::revision::Digest;

/// The folder that holds everything:
///
/// ```text
/// HOME/                      mode 0700
///   reenact.db               agents, revisions, runs, journals (SQLite)
///   reenact.db-wal, -shm     its newest commits; part of it while they exist
///   reenact.lock             held while a process opens the database
///   blobs/
///     sha256/HEX.wasm        the sealed file of each revision, never changed
///     tmp/                   files on their way to sha256/
///   cache/                   what can be computed again; safe to delete
/// ```
///
/// The database is written last: a file without a row is only waste, and a row
/// without a file does not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Creates what is missing, for this user alone: journals hold what tools
    /// answered, and the cache holds native code.
    pub fn create(&self) -> io::Result<()> {
        for folder in [self.blobs(), self.tmp(), self.cache()] {
            if !folder.is_dir() {
                create_private(&folder)?;
                let ours = |folder: &&Path| folder.starts_with(&self.path);
                folder.ancestors().take_while(ours).try_for_each(sync_folder)?;
                // The folder above may be one that we are not allowed to read.
                let _ = self.path.parent().map(sync_folder);
            }
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn database(&self) -> PathBuf {
        self.path.join("reenact.db")
    }

    pub fn blobs(&self) -> PathBuf {
        self.path.join("blobs/sha256")
    }

    pub fn blob(&self, digest: Digest) -> PathBuf {
        self.blobs().join(format!("{}.wasm", digest.hex()))
    }

    pub fn tmp(&self) -> PathBuf {
        self.path.join("blobs/tmp")
    }

    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }
}

fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Makes the names in a folder durable; only Unix has and needs that.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) && !folder.as_os_str().is_empty() {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

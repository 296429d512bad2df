//! Compiled code on disk, so that a revision is compiled once per machine.
//!
//! ```text
//! DIR/
//!   1f6a…/            hash of wasmtime's version and every setting that code depends on
//!     3b0c….cwasm     SHA-256 of 3b0c… and the rest of the file, then compiled code of revision 3b0c…
//! ```
//!
//! Compiled code is native code: the folder must belong to this user alone. A
//! file that is damaged, renamed or from other settings is never trusted; it is
//! as if it were not there.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use wasmtime::Engine;

use crate::revision::Digest;

const HASH_BYTES: usize = 32;

#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The part of the cache under `root` that holds code for `engine`.
    pub fn new(root: &Path, engine: &Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self { dir: root.join(format!("{:016x}", hasher.finish())) }
    }

    /// Compiled code of `revision`, if it is there and whole.
    pub fn get(&self, revision: &Digest) -> Option<Vec<u8>> {
        if !self.is_ours() {
            tracing::warn!("`{}` is not this user's alone and is not used", self.dir.display());
            return None;
        }
        let mut bytes = fs::read(self.path(revision)).ok()?;
        if bytes.len() < HASH_BYTES {
            return None;
        }
        let code = bytes.split_off(HASH_BYTES);
        if seal(revision, &code).as_bytes()[..] != bytes[..] {
            tracing::warn!("compiled code of {revision} is damaged and will be compiled again");
            return None;
        }
        Some(code)
    }

    /// Keeps `code` for later. Readers see all of it or nothing.
    pub fn put(&self, revision: &Digest, code: &[u8]) -> io::Result<()> {
        create_private_dir(&self.dir)?;
        if !self.is_ours() {
            return Ok(());
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(seal(revision, code).as_bytes())?;
        file.write_all(code)?;
        file.persist(self.path(revision))?;
        Ok(())
    }

    /// Whether nobody else can put code into the folder. One that is not there
    /// yet is ours to make.
    #[cfg(unix)]
    fn is_ours(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        // SAFETY: the call has no arguments and cannot fail.
        let user = unsafe { libc::geteuid() };
        let folders = [Some(self.dir.as_path()), self.dir.parent()];
        folders.into_iter().flatten().all(|folder| match fs::metadata(folder) {
            Ok(metadata) => metadata.uid() == user && metadata.mode() & 0o022 == 0,
            Err(_) => true,
        })
    }

    #[cfg(not(unix))]
    fn is_ours(&self) -> bool {
        true
    }

    pub fn path(&self, revision: &Digest) -> PathBuf {
        self.dir.join(format!("{}.cwasm", revision.hex()))
    }
}

/// Binds code to its revision, so that one revision's file cannot stand in for another's.
fn seal(revision: &Digest, code: &[u8]) -> Digest {
    Digest::of_parts(&[revision.as_bytes(), code])
}

fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

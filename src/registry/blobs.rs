//! The sealed files by digest: written whole or not at all, verified on every read.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::home::sync_folder;
use super::{Home, RegistryError};
use crate::journal::Micros;
use crate::revision::Digest;

/// Age at which a temporary file cannot be in the making any more: adding even
/// the largest revision takes seconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Reads the file and checks that it still is what its name says.
pub(super) fn read(home: &Home, digest: Digest) -> Result<Vec<u8>, RegistryError> {
    let path = home.blob(digest);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(RegistryError::Missing { path, digest });
        }
        Err(error) => return Err(RegistryError::io("read", &path, error)),
    };
    let found = Digest::of(&bytes);
    if found != digest {
        return Err(RegistryError::Damaged { path, expected: digest, found });
    }
    Ok(bytes)
}

/// Stores bytes that hash to `digest`; durable when it returns. A file that is
/// there but damaged is replaced.
pub(super) fn write(home: &Home, digest: Digest, bytes: &[u8]) -> Result<(), RegistryError> {
    let path = home.blob(digest);
    match read(home, digest) {
        // The process that put it there may not have made its name durable yet.
        Ok(_) => sync_folder(&home.blobs()),
        Err(RegistryError::Missing { .. } | RegistryError::Damaged { .. }) => {
            replace(home, &path, bytes)
        }
        Err(error) => return Err(error),
    }
    .map_err(|error| RegistryError::io("write", &path, error))
}

fn replace(home: &Home, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(home.tmp())?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder(&home.blobs())
}

/// Removes what processes that died have left behind.
pub(super) fn sweep(home: &Home, now: Micros) -> Result<(), RegistryError> {
    let tmp = home.tmp();
    let now = UNIX_EPOCH + Duration::from_micros(now);
    let entries = fs::read_dir(&tmp).map_err(|error| RegistryError::io("read", &tmp, error))?;
    for entry in entries.flatten() {
        let Ok(changed) = entry.metadata().and_then(|data| data.modified()) else { continue };
        if now.duration_since(changed).is_ok_and(|age| age > ABANDONED_AFTER) {
            // Another process may have been faster, and the next one tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

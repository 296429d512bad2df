//! The tar archive: members in their order, with their places.

use std::io::Read;

use super::{HEADER, PortableError};

/// An archive with these members, which is always the same.
pub fn write(members: [(&str, &[u8]); 3]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, name, content).expect("writing to memory does not fail");
    }
    archive.into_inner().expect("writing to memory does not fail")
}

/// One file of the archive, with its place.
pub struct Member<'a> {
    pub name: &'static str,
    pub start: u64,
    pub content: &'a [u8],
}

impl Member<'_> {
    pub fn damaged(&self, offset: usize, what: String) -> PortableError {
        let at = self.start + offset as u64;
        PortableError::Damaged { member: format!("`{}`", self.name), at, what }
    }
}

/// The archive's members, one after the other.
pub struct Members<'a, 'b> {
    bytes: &'a [u8],
    entries: tar::Entries<'b, &'a [u8]>,
    /// Where the next member begins.
    end: u64,
}

impl<'a, 'b> Members<'a, 'b> {
    pub fn of(
        bytes: &'a [u8],
        archive: &'b mut tar::Archive<&'a [u8]>,
    ) -> Result<Self, PortableError> {
        Ok(Self { bytes, entries: archive.entries().map_err(not_an_export)?, end: 0 })
    }

    /// The next member, which must be `name`.
    pub fn next(&mut self, name: &'static str) -> Result<Member<'a>, PortableError> {
        let quoted = format!("`{name}`");
        let mut entry = self.entry(name)?;
        if entry.path_bytes() != name.as_bytes() {
            let found = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if name == HEADER {
                return Err(not_an_export(format!("it begins with `{}`", found.escape_debug())));
            }
            let what = format!("found `{}` instead", found.escape_debug());
            return Err(PortableError::Damaged { member: quoted, at: self.end, what });
        }
        let start = entry.raw_file_position();
        let size = entry.size();
        // The reader skips to the next member, so that this one is checked whole.
        let _ = entry.read(&mut [0]);
        self.end = start.saturating_add(size).saturating_add(511) / 512 * 512;
        let content = usize::try_from(start).ok().zip(usize::try_from(size).ok());
        let content =
            content.and_then(|(start, size)| self.bytes.get(start..start.checked_add(size)?));
        let at = self.bytes.len() as u64;
        let content = content.ok_or(PortableError::Truncated { member: quoted, at })?;
        Ok(Member { name, start, content })
    }

    fn entry(&mut self, name: &'static str) -> Result<tar::Entry<'b, &'a [u8]>, PortableError> {
        let (length, member) = (self.bytes.len() as u64, format!("`{name}`"));
        match self.entries.next() {
            None if name == HEADER => Err(not_an_export("it is empty")),
            Some(Err(_)) if name == HEADER && length < 512 => {
                // A tar archive's first block begins with the file's name.
                if !self.bytes.starts_with(HEADER.as_bytes()) {
                    return Err(not_an_export("it is not a tar archive"));
                }
                Err(PortableError::Truncated { member, at: length })
            }
            None => Err(PortableError::Truncated { member, at: self.end }),
            Some(Err(error)) if name == HEADER => Err(not_an_export(error)),
            Some(Err(_)) if self.end + 512 > length => {
                Err(PortableError::Truncated { member, at: length })
            }
            Some(Err(error)) => {
                let what = error.to_string();
                Err(PortableError::Damaged { member, at: self.end, what })
            }
            Some(Ok(entry)) => Ok(entry),
        }
    }
}

fn not_an_export(reason: impl ToString) -> PortableError {
    PortableError::NotAnExport(reason.to_string())
}

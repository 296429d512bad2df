//! The portable run: one file that holds a revision and a journal, and proves
//! itself on any machine.
//!
//! The file is a tar archive, so that people can look into it without us:
//!
//! ```text
//! run.json        what the rest is: format, ids, number of entries, last hash
//! journal.jsonl   a line per entry: {"hash":"sha256:…","entry":{…}}
//! revision.wasm   the sealed revision
//! ```
//!
//! The same run gives the same bytes. A reader makes the archive again from
//! what it read: any byte that differs is damage, and has a place.

use std::io::Read;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Body, Chain, Damage, Encoded, verify_prefix};
use crate::revision::Digest;

/// Version of the archive's layout.
const FORMAT: u32 = 1;

const HEADER: &str = "run.json";
const JOURNAL: &str = "journal.jsonl";
const REVISION: &str = "revision.wasm";

/// A run that can travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortableRun {
    pub revision: Vec<u8>,
    pub journal: Vec<Encoded>,
}

#[derive(Debug, thiserror::Error)]
pub enum PortableError {
    #[error("it is not an exported run: {0}")]
    NotAnExport(String),
    #[error("it has format {0}, this build reads format {FORMAT}")]
    Format(u32),
    #[error("it ends at byte {at}, in the middle of {member}")]
    Truncated { member: String, at: u64 },
    #[error("it is damaged at byte {at}, in {member}: {what}")]
    Damaged { member: String, at: u64, what: String },
    #[error(transparent)]
    Journal(#[from] Damage),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    run: String,
    agent: String,
    revision: Digest,
    entries: u64,
    head: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    hash: Digest,
    #[serde(borrow)]
    entry: &'a RawValue,
}

impl PortableRun {
    /// The file's bytes. The journal must be one that was verified.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Damage> {
        let first = self.journal.first().map(|first| Chain::default().verify(first)).transpose()?;
        let Some(Body::Started(started)) = first.map(|entry| entry.body) else {
            let what = "it is not the start of a run".to_owned();
            return Err(Damage { index: 0, what });
        };
        let header = Header {
            format: FORMAT,
            run: started.run,
            agent: started.agent,
            revision: started.revision,
            entries: self.journal.len() as u64,
            head: self.journal.last().map_or(Chain::default().head(), |last| last.hash),
        };
        let mut header = serde_json::to_vec_pretty(&header).expect("a header serialises");
        header.push(b'\n');
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in
            [(HEADER, &header), (JOURNAL, &self.lines()?), (REVISION, &self.revision)]
        {
            append(&mut archive, name, content);
        }
        Ok(archive.into_inner().expect("writing to memory does not fail"))
    }

    fn lines(&self) -> Result<Vec<u8>, Damage> {
        let mut lines = Vec::new();
        for encoded in &self.journal {
            let entry = serde_json::from_slice(&encoded.bytes)
                .map_err(|error| Damage { index: encoded.seq, what: error.to_string() })?;
            serde_json::to_writer(&mut lines, &Line { hash: encoded.hash, entry })
                .expect("a line serialises");
            lines.push(b'\n');
        }
        Ok(lines)
    }

    /// Reads a file and checks every byte of it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PortableError> {
        let mut members = Members { bytes, archive: tar::Archive::new(bytes) };
        let [header, journal, revision] = members.all()?;
        let parsed: Header = serde_json::from_slice(header.content)
            .map_err(|error| header.damaged(0, error.to_string()))?;
        if parsed.format != FORMAT {
            return Err(PortableError::Format(parsed.format));
        }
        let run = Self { revision: revision.content.to_vec(), journal: read_lines(&journal)? };
        if let (_, Some(damage)) = verify_prefix(&run.journal) {
            return Err(damage.into());
        }
        let found = Digest::of(&run.revision);
        if found != parsed.revision {
            let what = format!("it hashes to {found}, the run is of {}", parsed.revision);
            return Err(revision.damaged(0, what));
        }
        let again = run.to_bytes()?;
        if let Some(at) = first_difference(&again, bytes) {
            if at == bytes.len() {
                let member = "the archive's end".to_owned();
                return Err(PortableError::Truncated { member, at: at as u64 });
            }
            let members = [&header, &journal, &revision];
            let member = members.iter().rfind(|member| member.start <= at as u64);
            return Err(PortableError::Damaged {
                member: member.map_or("the archive's head", |member| member.name).to_owned(),
                at: at as u64,
                what: "not what an export of this run holds".to_owned(),
            });
        }
        Ok(run)
    }
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, name, content).expect("writing to memory does not fail");
}

/// One file of the archive, with its place.
struct Member<'a> {
    name: &'static str,
    start: u64,
    content: &'a [u8],
}

impl Member<'_> {
    fn damaged(&self, offset: usize, what: String) -> PortableError {
        let at = self.start + offset as u64;
        PortableError::Damaged { member: format!("`{}`", self.name), at, what }
    }
}

struct Members<'a> {
    bytes: &'a [u8],
    archive: tar::Archive<&'a [u8]>,
}

impl<'a> Members<'a> {
    fn all(&mut self) -> Result<[Member<'a>; 3], PortableError> {
        let bytes = self.bytes;
        let mut entries = self.archive.entries().map_err(not_an_export)?;
        let mut end = 0;
        let mut next = |name: &'static str| {
            let quoted = format!("`{name}`");
            let mut entry = match entries.next() {
                None if name == HEADER => return Err(not_an_export("it is empty")),
                Some(Err(_)) if name == HEADER && bytes.len() < 512 => {
                    // A tar archive's first block begins with the file's name.
                    if !bytes.starts_with(HEADER.as_bytes()) {
                        return Err(not_an_export("it is not a tar archive"));
                    }
                    let at = bytes.len() as u64;
                    return Err(PortableError::Truncated { member: quoted, at });
                }
                None => return Err(PortableError::Truncated { member: quoted, at: end }),
                Some(Err(error)) if name == HEADER => return Err(not_an_export(error)),
                Some(Err(_)) if end + 512 > bytes.len() as u64 => {
                    let at = bytes.len() as u64;
                    return Err(PortableError::Truncated { member: quoted, at });
                }
                Some(Err(error)) => {
                    let what = error.to_string();
                    return Err(PortableError::Damaged { member: quoted, at: end, what });
                }
                Some(Ok(entry)) => entry,
            };
            if entry.path_bytes() != name.as_bytes() {
                let found = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                if name == HEADER {
                    return Err(not_an_export(format!(
                        "it begins with `{}`",
                        found.escape_debug()
                    )));
                }
                let what = format!("found `{}` instead", found.escape_debug());
                return Err(PortableError::Damaged { member: quoted, at: end, what });
            }
            let start = entry.raw_file_position();
            let size = entry.size();
            // The reader skips to the next member, so that this one is checked whole.
            let _ = entry.read(&mut [0]);
            end = start.saturating_add(size).saturating_add(511) / 512 * 512;
            let content = usize::try_from(start).ok().zip(usize::try_from(size).ok());
            let content =
                content.and_then(|(start, size)| bytes.get(start..start.checked_add(size)?));
            let at = bytes.len() as u64;
            let content = content.ok_or(PortableError::Truncated { member: quoted, at })?;
            Ok(Member { name, start, content })
        };
        Ok([next(HEADER)?, next(JOURNAL)?, next(REVISION)?])
    }
}

fn not_an_export(reason: impl ToString) -> PortableError {
    PortableError::NotAnExport(reason.to_string())
}

fn read_lines(member: &Member<'_>) -> Result<Vec<Encoded>, PortableError> {
    let mut journal = Vec::new();
    let mut offset = 0;
    for line in member.content.split_inclusive(|&byte| byte == b'\n') {
        let parsed: Line<'_> = serde_json::from_slice(line).map_err(|error| {
            member.damaged(offset, format!("line {} is not an entry: {error}", journal.len() + 1))
        })?;
        journal.push(Encoded {
            seq: journal.len() as u64,
            bytes: parsed.entry.get().as_bytes().to_vec(),
            hash: parsed.hash,
        });
        offset += line.len();
    }
    Ok(journal)
}

/// Index of the first byte in which the two differ; the shorter one's length if
/// it is the beginning of the other.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let differs = a.iter().zip(b).position(|(a, b)| a != b);
    differs.or_else(|| (a.len() != b.len()).then(|| a.len().min(b.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Entry, Event, Fingerprint, Started};
    use crate::json::Json;
    use crate::revision::Limits;

    fn run() -> PortableRun {
        let revision = b"not really wasm".to_vec();
        let started = Body::Started(Box::new(Started {
            format: crate::journal::FORMAT,
            run: "0190".to_owned(),
            agent: "test".to_owned(),
            revision: Digest::of(&revision),
            input: Json::parse("{}").unwrap(),
            seed: "00".repeat(32),
            limits: Limits::DEFAULT,
            tools: vec![],
            engine: Fingerprint {
                wasmtime: "0".into(),
                arch: "none".into(),
                stack_bytes: 1,
                yield_fuel: 1,
                hostcall_bytes: 1,
            },
        }));
        let data = Json::parse("[1]").unwrap();
        let event = Body::Event(Event { kind: "planning".to_owned(), data });
        let mut chain = Chain::default();
        let journal = [started, event].into_iter().zip(0..);
        let journal = journal
            .map(|(body, seq)| chain.push(&Entry { seq, at: seq, fuel: seq, body }))
            .collect();
        PortableRun { revision, journal }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = run().to_bytes().unwrap();
        assert_eq!(PortableRun::from_bytes(&bytes).unwrap(), run());
        assert_eq!(run().to_bytes().unwrap(), bytes);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = run().to_bytes().unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(PortableRun::from_bytes(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn every_truncation_is_found() {
        let good = run().to_bytes().unwrap();
        for length in 0..good.len() {
            assert!(PortableRun::from_bytes(&good[..length]).is_err(), "{length} bytes");
        }
    }
}

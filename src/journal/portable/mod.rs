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
//! That is format 1. A journal that is not small is compressed, as
//! `journal.jsonl.zst`: format 2. Its `run.json` has the size of the lines and the
//! hash of the compressed member.
//!
//! The same run gives the same bytes, from the same version of zstd. A reader
//! makes the archive again from what it read, but does not compress anything
//! again: any byte that differs is damage, and has a place.

mod archive;
mod lines;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::{Body, Chain, Damage, Encoded, Started};
use crate::revision::Digest;
use archive::Members;

/// Version of the archive's layout.
const FORMAT: u32 = 2;

/// The version with a plain journal.
const PLAIN_FORMAT: u32 = 1;

/// Bytes of lines up to which the journal stays plain, so that everybody's tar
/// shows it.
const MAX_PLAIN: usize = 64 << 10;

const HEADER: &str = "run.json";
const JOURNAL: &str = "journal.jsonl";
const COMPRESSED: &str = "journal.jsonl.zst";
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
    #[error("it has format {0}, this build reads formats {PLAIN_FORMAT} to {FORMAT}")]
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
    /// Of a compressed journal. Since format 2, which always has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    journal: Option<Compressed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Compressed {
    /// Bytes of the lines.
    size: u64,
    /// SHA-256 of the compressed member.
    digest: Digest,
}

impl PortableRun {
    /// The file's bytes. The journal must be one that was verified.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Damage> {
        let started = self.started()?;
        let lines = lines::write(&self.journal)?;
        Ok(if lines.len() <= MAX_PLAIN {
            self.archive(started, None, &lines)
        } else {
            let frame = lines::compress(&lines);
            let digest = Digest::of(&frame);
            self.archive(started, Some(Compressed { size: lines.len() as u64, digest }), &frame)
        })
    }

    fn started(&self) -> Result<Started, Damage> {
        let first = self.journal.first().map(|first| Chain::default().verify(first)).transpose()?;
        match first.map(|entry| entry.body) {
            Some(Body::Started(started)) => Ok(*started),
            _ => Err(Damage { index: 0, what: "it is not the start of a run".to_owned() }),
        }
    }

    /// The archive with this journal's member.
    fn archive(&self, started: Started, journal: Option<Compressed>, member: &[u8]) -> Vec<u8> {
        let (format, name) = match journal {
            None => (PLAIN_FORMAT, JOURNAL),
            Some(_) => (FORMAT, COMPRESSED),
        };
        let header = Header {
            format,
            run: started.run,
            agent: started.agent,
            revision: started.revision,
            entries: self.journal.len() as u64,
            head: self.journal.last().map_or(Chain::default().head(), |last| last.hash),
            journal,
        };
        let mut header = serde_json::to_vec_pretty(&header).expect("a header serialises");
        header.push(b'\n');
        archive::write([(HEADER, &header), (name, member), (REVISION, &self.revision)])
    }

    /// Reads a file and checks every byte of it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PortableError> {
        let mut archive = tar::Archive::new(bytes);
        let mut members = Members::of(bytes, &mut archive)?;
        let header = members.next(HEADER)?;
        let parsed: Header = serde_json::from_slice(header.content)
            .map_err(|error| header.damaged(0, error.to_string()))?;
        let name = match (parsed.format, &parsed.journal) {
            (PLAIN_FORMAT, None) => JOURNAL,
            (FORMAT, Some(_)) => COMPRESSED,
            (PLAIN_FORMAT | FORMAT, _) => {
                let what = format!("`journal` does not go with format {}", parsed.format);
                return Err(header.damaged(0, what));
            }
            (other, _) => return Err(PortableError::Format(other)),
        };
        let (journal, revision) = (members.next(name)?, members.next(REVISION)?);
        let entries = match &parsed.journal {
            None => lines::read(&journal)?,
            Some(declared) => lines::expand(&journal, declared)?,
        };
        let run = Self { revision: revision.content.to_vec(), journal: entries };
        let found = Digest::of(&run.revision);
        if found != parsed.revision {
            let what = format!("it hashes to {found}, the run is of {}", parsed.revision);
            return Err(revision.damaged(0, what));
        }
        // What is declared of a compressed journal was checked when it was read.
        let again = run.archive(run.started()?, parsed.journal, journal.content);
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

/// Index of the first byte in which the two differ; the shorter one's length if
/// it is the beginning of the other.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let differs = a.iter().zip(b).position(|(a, b)| a != b);
    differs.or_else(|| (a.len() != b.len()).then(|| a.len().min(b.len())))
}

//! The journal's member: a line per entry, plain or compressed.
//!
//! A compressed one is a single zstd frame. It is read as it comes, entry by
//! entry, and each is verified before the next: what a damaged or lying file
//! costs is bounded by what it can prove.

use std::io::{self, BufRead, BufReader, Read};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zstd::stream::read::Decoder;
use zstd::zstd_safe::{CCtx, CParameter, compress_bound};

use super::archive::Member;
use super::{Compressed, PortableError};
use crate::journal::{Chain, Damage, Encoded};
use crate::revision::{Digest, Limits};

/// zstd's own default.
const LEVEL: i32 = 3;

/// The largest window that everybody's `zstd -d` reads without being asked to,
/// as a power of two. A history is repeated within fewer bytes.
const MAX_WINDOW: u32 = 27;
const MIN_WINDOW: u32 = 10;

/// Bytes that no line reaches: an output, the largest thing that an entry can
/// hold, of nothing but characters that JSON writes with six bytes each.
const MAX_LINE: u64 = 512 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    hash: Digest,
    #[serde(borrow)]
    entry: &'a RawValue,
}

/// The lines of `journal.jsonl`.
pub fn write(journal: &[Encoded]) -> Result<Vec<u8>, Damage> {
    let mut lines = Vec::new();
    for encoded in journal {
        let entry = serde_json::from_slice(&encoded.bytes)
            .map_err(|error| Damage { index: encoded.seq, what: error.to_string() })?;
        serde_json::to_writer(&mut lines, &Line { hash: encoded.hash, entry })
            .expect("a line serialises");
        lines.push(b'\n');
    }
    Ok(lines)
}

fn parse(line: &[u8], seq: u64) -> Result<Encoded, String> {
    let parsed: Line<'_> = serde_json::from_slice(line)
        .map_err(|error| format!("line {} is not an entry: {error}", seq + 1))?;
    Ok(Encoded { seq, bytes: parsed.entry.get().as_bytes().to_vec(), hash: parsed.hash })
}

/// Reads and verifies a plain member.
pub fn read(member: &Member<'_>) -> Result<Vec<Encoded>, PortableError> {
    let mut journal = Vec::new();
    let mut chain = Chain::default();
    let mut offset = 0;
    for line in member.content.split_inclusive(|&byte| byte == b'\n') {
        let encoded = parse(line, journal.len() as u64);
        let encoded = encoded.map_err(|what| member.damaged(offset, what))?;
        chain.verify(&encoded)?;
        journal.push(encoded);
        offset += line.len();
    }
    Ok(journal)
}

/// Compresses lines into one frame.
pub fn compress(lines: &[u8]) -> Vec<u8> {
    let window = lines.len().next_power_of_two().ilog2().clamp(MIN_WINDOW, MAX_WINDOW);
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(LEVEL),
        CParameter::WindowLog(window),
        CParameter::EnableLongDistanceMatching(true),
        CParameter::ChecksumFlag(true),
    ] {
        context.set_parameter(parameter).expect("zstd knows its own parameters");
    }
    let mut frame = Vec::with_capacity(compress_bound(lines.len()));
    context.compress2(&mut frame, lines).expect("what is compressed fits in its bound");
    frame
}

/// Reads and verifies a compressed member, of which `run.json` says `declared`.
pub fn expand(member: &Member<'_>, declared: &Compressed) -> Result<Vec<Encoded>, PortableError> {
    let found = Digest::of(member.content);
    let is_intact = found == declared.digest;
    let mut frame = Frame::open(member.content, declared.size)
        .map_err(|error| member.damaged(0, error.to_string()))?;
    let (mut journal, mut chain, mut bytes) = (Vec::new(), Chain::default(), 0);
    loop {
        let seq = journal.len() as u64;
        let stopped = |frame: &Frame<'_>, what: String| {
            let what = format!("entry {seq} cannot be read: {what}");
            member.damaged(frame.consumed(), what)
        };
        let line = match frame.line() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => return Err(stopped(&frame, error.to_string())),
        };
        let encoded = parse(line, seq);
        let encoded = encoded.map_err(|what| stopped(&frame, what))?;
        if bytes > Limits::CEILING.journal_bytes {
            return Err(stopped(&frame, "no journal is as large as this".to_owned()));
        }
        bytes += encoded.bytes.len() as u64;
        match chain.verify(&encoded) {
            // The file is what was written: what was written is wrong.
            Err(damage) if is_intact => return Err(damage.into()),
            Err(damage) => return Err(stopped(&frame, damage.what)),
            Ok(_) => journal.push(encoded),
        }
    }
    if !is_intact {
        let expected = declared.digest;
        let what = format!("it hashes to {found}, `run.json` says {expected}");
        return Err(member.damaged(0, what));
    }
    Ok(journal)
}

/// The lines of a frame, one after the other.
struct Frame<'a> {
    length: usize,
    reader: BufReader<Decoder<'static, &'a [u8]>>,
    line: Vec<u8>,
    /// Bytes that must still come.
    left: u64,
}

impl<'a> Frame<'a> {
    fn open(content: &'a [u8], size: u64) -> io::Result<Self> {
        let mut decoder = Decoder::with_buffer(content)?.single_frame();
        decoder.window_log_max(MAX_WINDOW)?;
        let reader = BufReader::new(decoder);
        Ok(Self { length: content.len(), reader, line: Vec::new(), left: size })
    }

    /// Bytes of the frame that were looked at so far.
    fn consumed(&self) -> usize {
        self.length - self.reader.get_ref().get_ref().len()
    }

    fn line(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let most = self.left.min(MAX_LINE);
        // One byte more, to see whether there is one.
        let mut limited = (&mut self.reader).take(most + 1);
        let size = limited.read_until(b'\n', &mut self.line)? as u64;
        if size > most {
            return Err(invalid("it is longer than `run.json` says"));
        }
        self.left -= size;
        match self.line.last() {
            None if self.left > 0 => Err(invalid("it is shorter than `run.json` says")),
            None if self.consumed() < self.length => Err(invalid("something follows its frame")),
            None => Ok(None),
            Some(b'\n') => Ok(Some(&self.line)),
            Some(_) => Err(invalid("the line has no end")),
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

//! zstd with a prefix: one frame for one entry, in memory.

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, find_frame_compressed_size, get_error_name, get_frame_content_size,
};

use super::MAX_PLAIN;

/// zstd's own default.
const LEVEL: i32 = 3;

/// Bytes of prefix from which zstd looks for distant repetitions with a sparse
/// table of its own: its usual one then forgets the prefix's beginning.
const LONG: usize = 256 << 10;

/// The level for what has a long prefix. There is little left to compress but
/// repetitions, and they are found in half the time.
const LEVEL_OF_LONG: i32 = 1;

/// zstd's smallest window, as a power of two.
const MIN_WINDOW: u32 = 10;

/// Why a packed entry cannot be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("entry {part}, of which it repeats something, is not there")]
    NoPart { part: u64 },
    #[error("it is larger than a packed entry can be")]
    TooLarge,
    #[error("it is not a zstd frame of one entry")]
    NoFrame,
    #[error("it cannot be decompressed: {0}")]
    Corrupt(&'static str),
}

/// One frame, if it is shorter than `plain`.
pub fn compress(plain: &[u8], prefix: &[u8]) -> Option<Vec<u8>> {
    let mut context = CCtx::try_create()?;
    let reach = plain.len() + prefix.len();
    // All of the prefix must be within reach at the entry's last byte.
    let window = reach.next_power_of_two().ilog2().max(MIN_WINDOW);
    let set = |context: &mut CCtx<'_>, parameter| context.set_parameter(parameter).is_ok();
    let is_long = prefix.len() > LONG;
    let level = if is_long { LEVEL_OF_LONG } else { LEVEL };
    let ready = set(&mut context, CParameter::CompressionLevel(level))
        && set(&mut context, CParameter::WindowLog(window))
        && set(&mut context, CParameter::EnableLongDistanceMatching(is_long))
        && (prefix.is_empty() || context.ref_prefix(prefix).is_ok());
    let mut bytes = Vec::with_capacity(plain.len());
    let fits = ready && context.compress2(&mut bytes, plain).is_ok();
    drop(context);
    // What is hardly shorter is not worth the work of reading it.
    if !fits || bytes.len() + plain.len() / 64 > plain.len() {
        return None;
    }
    bytes.shrink_to_fit();
    Some(bytes)
}

/// What [`compress`] was given, if the frame and the prefix are what they were.
/// Whether the answer is right is for the entry's hash to say.
pub fn expand(frame: &[u8], prefix: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let Ok(Some(size)) = get_frame_content_size(frame) else { return Err(Unreadable::NoFrame) };
    if find_frame_compressed_size(frame) != Ok(frame.len()) {
        return Err(Unreadable::NoFrame);
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > MAX_PLAIN {
        return Err(Unreadable::TooLarge);
    }
    let mut plain = Vec::new();
    plain.try_reserve_exact(size).map_err(|_| Unreadable::TooLarge)?;
    let corrupt = |code| Unreadable::Corrupt(get_error_name(code));
    let mut context = DCtx::try_create().ok_or(Unreadable::TooLarge)?;
    if !prefix.is_empty() {
        context.ref_prefix(prefix).map_err(corrupt)?;
    }
    context.decompress(&mut plain, frame).map_err(corrupt)?;
    Ok(plain)
}

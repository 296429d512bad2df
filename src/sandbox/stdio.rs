//! What a guest writes to stdout and stderr, cut into lines.
//!
//! The streams are handed to wasmtime-wasi, which knows nothing of fuel or
//! journals; the lines wait here until the host call that wrote them returns.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::journal::Stream;

/// Bytes after which a line without an end is cut, so that a guest cannot make
/// the host keep a line of any length.
const MAX_LINE: usize = 8 << 10;

/// Bytes that one write may have: what wasmtime-wasi itself allows.
const MAX_WRITE: usize = 64 << 10;

/// Bytes of stderr that are kept to explain a trap: room for a long traceback.
pub const TAIL: usize = 16 << 10;

/// Both streams of one guest.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Buffers>>);

#[derive(Default)]
struct Buffers {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    complete: VecDeque<(Stream, String)>,
    /// The newest lines of stderr.
    tail: VecDeque<String>,
    tail_bytes: usize,
}

impl Lines {
    pub fn stream(&self, stream: Stream) -> Pipe {
        Pipe { lines: self.clone(), stream }
    }

    /// The next complete line.
    pub fn next(&self) -> Option<(Stream, String)> {
        self.lock().complete.pop_front()
    }

    /// Ends the lines that have no end yet.
    pub fn finish(&self) {
        let mut buffers = self.lock();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(buffers.partial(stream));
            if !rest.is_empty() {
                buffers.complete_line(stream, &rest);
            }
        }
    }

    /// The newest lines of stderr: at most `bytes`, up to [`TAIL`], or one line.
    pub fn stderr_tail(&self, bytes: usize) -> Vec<String> {
        let buffers = self.lock();
        let mut kept = 0;
        let mut fits = |line: &String| {
            let is_newest = kept == 0;
            kept += line.len() + 1;
            kept <= bytes || is_newest
        };
        let lines = buffers.tail.iter().rev().take_while(|line| fits(line)).count();
        buffers.tail.iter().skip(buffers.tail.len() - lines).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Buffers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffers {
    fn partial(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            for piece in piece.chunks(MAX_LINE) {
                let partial = self.partial(stream);
                partial.extend_from_slice(piece);
                if piece.ends_with(b"\n") || partial.len() >= MAX_LINE {
                    let line = std::mem::take(partial);
                    self.complete_line(stream, line.strip_suffix(b"\n").unwrap_or(&line));
                }
            }
        }
    }

    fn complete_line(&mut self, stream: Stream, line: &[u8]) {
        let text = String::from_utf8_lossy(line).into_owned();
        if stream == Stream::Stderr {
            self.tail_bytes += text.len() + 1;
            self.tail.push_back(text.clone());
            while self.tail_bytes > TAIL && self.tail.len() > 1 {
                self.tail_bytes -= self.tail.pop_front().map_or(0, |line| line.len() + 1);
            }
        }
        self.complete.push_back((stream, text));
    }
}

/// One of the two streams, as wasmtime-wasi wants it.
#[derive(Clone)]
pub struct Pipe {
    lines: Lines,
    stream: Stream,
}

impl IsTerminal for Pipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Pipe {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    /// Used by later versions of WASI only, which no guest here can import.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

impl OutputStream for Pipe {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        if bytes.len() > MAX_WRITE {
            return Err(StreamError::trap("more bytes were written than `check-write` allowed"));
        }
        self.lines.lock().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}

#[async_trait]
impl Pollable for Pipe {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(lines: &Lines) -> Vec<(Stream, String)> {
        std::iter::from_fn(|| lines.next()).collect()
    }

    #[test]
    fn writes_become_lines() {
        let lines = Lines::default();
        lines.lock().write(Stream::Stdout, b"a\nb");
        lines.lock().write(Stream::Stderr, b"\xff\n");
        lines.lock().write(Stream::Stdout, b"c\n\nd");
        lines.finish();
        let expected = [
            (Stream::Stdout, "a"),
            (Stream::Stderr, "\u{fffd}"),
            (Stream::Stdout, "bc"),
            (Stream::Stdout, ""),
            (Stream::Stdout, "d"),
        ];
        assert_eq!(drain(&lines), expected.map(|(stream, text)| (stream, text.to_owned())));
        assert_eq!(lines.stderr_tail(TAIL), ["\u{fffd}"]);
    }

    #[test]
    fn an_endless_line_is_cut() {
        let lines = Lines::default();
        lines.lock().write(Stream::Stderr, &vec![b'x'; 3 * MAX_LINE + 1]);
        assert_eq!(drain(&lines).len(), 3);
        lines.finish();
        assert_eq!(drain(&lines), [(Stream::Stderr, "x".to_owned())]);
        assert!(lines.stderr_tail(TAIL).concat().len() <= 2 * MAX_LINE + 1);
    }

    #[test]
    fn the_newest_lines_are_told_whole() {
        let lines = Lines::default();
        lines.lock().write(Stream::Stderr, b"one\ntwo\nthree\n");
        assert_eq!(lines.stderr_tail(TAIL), ["one", "two", "three"]);
        assert_eq!(lines.stderr_tail(10), ["two", "three"]);
        assert_eq!(lines.stderr_tail(9), ["three"]);
        assert_eq!(lines.stderr_tail(1), ["three"]);
        lines.lock().write(Stream::Stderr, "x\n".repeat(TAIL).as_bytes());
        assert_eq!(lines.stderr_tail(TAIL).len(), TAIL / 2);
    }
}

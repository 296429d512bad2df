//! Counts what a provider streams, while it is read.

use super::adapter::Framing;
use super::fault::Fault;

/// One event, or one line. genai holds it whole, and copies it with every piece
/// that arrives of it.
const MAX_PIECE: usize = 2 << 20;
/// All of a stream. An event of some 300 bytes brings one token, so this is more
/// than any model answers.
const MAX_STREAM: usize = 64 << 20;

/// Bytes so far, of one stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gauge {
    framing: Framing,
    total: usize,
    piece: usize,
    /// The last byte but carriage returns was the end of a line.
    at_line_start: bool,
}

impl Gauge {
    pub fn new(framing: Framing) -> Self {
        Self { framing, total: 0, piece: 0, at_line_start: true }
    }

    /// Counts further bytes.
    pub fn count(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.total += bytes.len();
        if self.total > MAX_STREAM {
            return Err(Fault::TooLarge { what: "64 MiB in one stream" });
        }
        for byte in bytes {
            self.piece += 1;
            match byte {
                b'\n' => {
                    if self.at_line_start || self.framing == Framing::Lines {
                        self.piece = 0;
                    }
                    self.at_line_start = true;
                }
                b'\r' => {}
                _ => self.at_line_start = false,
            }
            if self.piece > MAX_PIECE {
                return Err(Fault::TooLarge { what: "2 MiB in one piece of a stream" });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether as many of these pieces as fill `bytes` pass.
    fn pass(framing: Framing, piece: &str, bytes: usize) -> bool {
        let mut gauge = Gauge::new(framing);
        // In chunks that do not end where the pieces do.
        let text = piece.repeat(64 * 1024 / piece.len());
        (0..bytes.div_ceil(text.len())).all(|_| gauge.count(text.as_bytes()).is_ok())
    }

    #[test]
    fn pieces_and_streams_have_an_end() {
        const MIB: usize = 1 << 20;
        assert!(pass(Framing::Events, "data: x\n\n", 60 * MIB));
        assert!(pass(Framing::Events, "data: x\r\n\r\n", 60 * MIB));
        assert!(pass(Framing::Lines, "{\"x\":1}\n", 60 * MIB));
        assert!(!pass(Framing::Lines, "{\"x\":1}\n", 66 * MIB), "the stream");
        assert!(!pass(Framing::Events, "data: x\n\n", 66 * MIB), "the stream");
        assert!(!pass(Framing::Events, "data: x\n", 3 * MIB), "an event of many lines");
        assert!(!pass(Framing::Events, "x", 3 * MIB), "a line");
        assert!(!pass(Framing::Lines, "x", 3 * MIB), "a line");
        assert!(pass(Framing::Lines, "x", MIB));
    }
}

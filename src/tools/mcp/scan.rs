//! A look at a message without parsing it: whose it is, and how much is in it.
//!
//! A message that is too large is never held whole. Its `id` still says which
//! call it answers, and stands before or after all that is large.

use rmcp::model::{ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage};

/// Bytes of one message of a server: an answer of a few megabytes, twice, as
/// servers send it that answer text and structure.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Values in one message. In memory, each takes many times its bytes.
const MAX_VALUES: u64 = 500_000;

/// A message that is smaller cannot hold too many values.
const SMALL: usize = MAX_VALUES as usize;

/// Marks errors that this module makes in the server's place.
const TOO_LARGE: ErrorCode = ErrorCode(-413);
const MALFORMED: ErrorCode = ErrorCode(-400);

/// Bytes of an id, or of a name that is compared with `id`.
const MAX_TOKEN: usize = 128;

/// Reads JSON byte by byte, in pieces of any size. What is not JSON is read as
/// well as it goes.
#[derive(Debug, Default)]
pub struct Scan {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The token at depth 1 that is being read: a name, or the value of `id`.
    token: Vec<u8>,
    /// Whether the name before the value was `id`.
    at_id: bool,
    id: Option<RequestId>,
    values: u64,
}

impl Scan {
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            // What is large is mostly text, of which only the end matters.
            if self.in_string && !self.escaped {
                let end = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
                if end > 0 {
                    self.keep(&bytes[..end]);
                    bytes = &bytes[end..];
                    continue;
                }
            }
            self.byte(*first);
            bytes = rest;
        }
    }

    fn byte(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return self.keep(&[byte]);
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(&[byte]);
            }
            b'{' | b'[' => {
                self.depth = self.depth.saturating_add(1);
                self.values += 1;
            }
            b'}' | b']' => {
                self.end_of_value();
                self.depth = self.depth.saturating_sub(1);
            }
            b',' => {
                self.values += 1;
                self.end_of_value();
            }
            b':' if self.depth == 1 => {
                self.at_id = self.token == br#""id""#;
                self.token.clear();
            }
            byte if byte.is_ascii_whitespace() => {}
            byte => self.keep(&[byte]),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.depth == 1 {
            let room = MAX_TOKEN - self.token.len();
            self.token.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn end_of_value(&mut self) {
        if self.depth != 1 {
            return;
        }
        if self.at_id {
            self.id = serde_json::from_slice(&self.token).ok();
        }
        self.at_id = false;
        self.token.clear();
    }

    /// The `id` of the message, as far as it was read.
    pub fn id(&self) -> Option<RequestId> {
        self.id.clone()
    }

    fn has_too_many_values(&self) -> bool {
        self.values > MAX_VALUES
    }
}

/// Whether a whole message can be parsed; if not, the scan of it.
pub fn check(message: &[u8]) -> Result<(), Scan> {
    if message.len() <= SMALL {
        return Ok(());
    }
    let mut scan = Scan::default();
    scan.feed(message);
    if message.len() > MAX_MESSAGE || scan.has_too_many_values() { Err(scan) } else { Ok(()) }
}

/// What stands for an answer that is too large.
pub fn too_large(id: RequestId) -> ServerJsonRpcMessage {
    let message = format!(
        "the server answered more than {MAX_MESSAGE} bytes or {MAX_VALUES} values, \
         which is the most that is read"
    );
    ServerJsonRpcMessage::error(ErrorData::new(TOO_LARGE, message, None), Some(id))
}

/// What stands for an answer that is JSON, but no message of MCP.
pub fn malformed(id: RequestId) -> ServerJsonRpcMessage {
    let message = "the server's answer is no message of MCP";
    ServerJsonRpcMessage::error(ErrorData::new(MALFORMED, message, None), Some(id))
}

/// Whether [`too_large`] made the error.
pub fn is_too_large(error: &ErrorData) -> bool {
    error.code == TOO_LARGE
}

/// Whether [`malformed`] made the error.
pub fn is_malformed(error: &ErrorData) -> bool {
    error.code == MALFORMED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(text: &str) -> Option<RequestId> {
        // In pieces, as it comes.
        let mut scan = Scan::default();
        for piece in text.as_bytes().chunks(3) {
            scan.feed(piece);
        }
        scan.id()
    }

    #[test]
    fn the_id_is_found_wherever_it_stands() {
        let seven = Some(RequestId::Number(7));
        assert_eq!(id_of(r#"{"jsonrpc":"2.0","id":7,"result":{"id":8}}"#), seven);
        assert_eq!(id_of(r#"{"result":{"a":["id",{"id":8}]},"jsonrpc":"2.0", "id" : 7 }"#), seven);
        assert_eq!(id_of(r#"{"result":"\"id\":8,}]","id":7}"#), seven);
        assert_eq!(id_of(r#"{"id":"a,b"}"#), Some(RequestId::String("a,b".into())));
    }

    #[test]
    fn without_an_id_none_is_made_up() {
        for text in ["", "{", "[{\"id\":7}]", r#"{"a":"id","b":7}"#, r#"{"id":null}"#, "}}}],:7"] {
            assert_eq!(id_of(text), None, "{text}");
        }
        assert_eq!(id_of(&format!("{{\"id\":{}}}", "7".repeat(1_000))), None);
    }

    #[test]
    fn large_texts_are_read_and_too_many_values_are_not() {
        let text = format!(r#"{{"result":"{}","id":1}}"#, "x".repeat(SMALL));
        assert!(check(text.as_bytes()).is_ok());
        let many = format!(r#"{{"result":[0{}],"id":1}}"#, ",0".repeat(SMALL));
        assert_eq!(check(many.as_bytes()).unwrap_err().id(), Some(RequestId::Number(1)));
        let large = format!(r#"{{"result":"{}","id":1}}"#, "x".repeat(MAX_MESSAGE));
        assert!(check(large.as_bytes()).is_err());
    }
}

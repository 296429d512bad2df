//! Whether JSON is written as it would be recorded, told from one look at it.
//!
//! Most of what guests and tools say is: then nothing has to be built and written
//! again. Whether it is JSON at all is not judged here.

/// Depth from which it is not looked at any closer.
const MAX_DEPTH: usize = 100;

/// Keys of an object from which it is not looked at any closer: each is compared
/// with all before it.
const MAX_KEYS: usize = 32;

/// Digits of a number that fits in 64 bits whatever they are.
const MAX_DIGITS: usize = 18;

/// If it is JSON, `text` would be written again as it is. `false` where that takes a
/// closer look.
pub fn is_compact(text: &str) -> bool {
    let mut scan = Scan { rest: text.as_bytes() };
    scan.value(0) && scan.rest.is_empty()
}

struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    fn value(&mut self, depth: usize) -> bool {
        match self.next() {
            _ if depth > MAX_DEPTH => false,
            Some(b'"') => self.string().is_some(),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b't') => self.skip(b"rue"),
            Some(b'f') => self.skip(b"alse"),
            Some(b'n') => self.skip(b"ull"),
            Some(b'0') => !self.has_digit(),
            Some(b'1'..=b'9') => self.digits(),
            Some(b'-') => matches!(self.next(), Some(b'1'..=b'9')) && self.digits(),
            _ => false,
        }
    }

    fn object(&mut self, depth: usize) -> bool {
        if self.skip(b"}") {
            return true;
        }
        let mut keys: Vec<&[u8]> = Vec::new();
        loop {
            let key = if self.skip(b"\"") { self.string() } else { None };
            let Some(key) = key else { return false };
            if keys.len() == MAX_KEYS || keys.contains(&key) {
                return false;
            }
            keys.push(key);
            if !(self.skip(b":") && self.value(depth + 1)) {
                return false;
            }
            if !self.skip(b",") {
                return self.skip(b"}");
            }
        }
    }

    fn array(&mut self, depth: usize) -> bool {
        if self.skip(b"]") {
            return true;
        }
        loop {
            if !self.value(depth + 1) {
                return false;
            }
            if !self.skip(b",") {
                return self.skip(b"]");
            }
        }
    }

    /// The string that has begun, if each of its characters is written the one way in
    /// which it would be.
    fn string(&mut self) -> Option<&'a [u8]> {
        let mut length = 0;
        loop {
            let plain = memchr::memchr2(b'"', b'\\', &self.rest[length..])?;
            if self.rest[length..length + plain].iter().any(|byte| *byte < b' ') {
                return None;
            }
            length += plain;
            if self.rest[length] == b'"' {
                break;
            }
            match self.rest.get(length + 1)? {
                b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => length += 2,
                _ => return None,
            }
        }
        let (string, rest) = self.rest.split_at(length);
        self.rest = &rest[1..];
        Some(string)
    }

    /// The rest of an integer whose first digit is gone.
    fn digits(&mut self) -> bool {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = &self.rest[count..];
        count < MAX_DIGITS && !matches!(self.rest.first(), Some(b'.' | b'e' | b'E'))
    }

    fn has_digit(&self) -> bool {
        matches!(self.rest.first(), Some(b'0'..=b'9' | b'.' | b'e' | b'E'))
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Moves past these bytes if they come next.
    fn skip(&mut self, bytes: &[u8]) -> bool {
        match self.rest.strip_prefix(bytes) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;
    use proptest::prelude::*;
    use serde_json::Value;

    fn written_again(text: &str) -> Option<String> {
        let value: Value = serde_json::from_str(text).ok()?;
        Some(Json::from_value(&value).as_str().to_owned())
    }

    #[test]
    fn what_is_compact_is_seen() {
        for text in [
            "0",
            "-7",
            "123456789012345678",
            "true",
            "null",
            r#""""#,
            r#""a\"b\\c\nd é/""#,
            "[]",
            "{}",
            r#"{"a":[1,{"b":false}],"c":""}"#,
        ] {
            assert!(is_compact(text), "{text}");
            assert_eq!(written_again(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_would_be_written_otherwise_is_not_taken_for_compact() {
        for text in [
            " 1",
            "1 ",
            "[1, 2]",
            r#"{"a" :1}"#,
            "-0",
            "1.0",
            "1e3",
            "01",
            r#""\/""#,
            r#""\u0041""#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"b":0,"a":2}"#,
            "1234567890123456789012",
            "[1,]",
            "tru",
            r#""a"#,
            "",
            "{",
            r#"{"a"}"#,
            "\"\u{1}\"",
        ] {
            assert!(!is_compact(text), "{text}");
        }
        assert!(!is_compact(&format!("{}1{}", "[".repeat(200), "]".repeat(200))));
    }

    proptest! {
        #[test]
        fn what_is_taken_for_compact_is(text in r#"[\[\]{}",:\\ntrulfase0-9.eE+ -]{0,24}"#) {
            if is_compact(&text) && let Some(again) = written_again(&text) {
                prop_assert_eq!(again, text);
            }
        }

        #[test]
        fn what_is_written_is_compact(keys in proptest::collection::vec(".{0,8}", 0..5), number: i32) {
            let object: serde_json::Map<_, _> =
                keys.into_iter().map(|key| (key.clone(), serde_json::json!([key, number]))).collect();
            let text = Value::Object(object).to_string();
            let unusual = text.contains("\\u");
            prop_assert!(is_compact(&text) || unusual, "{}", text);
        }
    }
}

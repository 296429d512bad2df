//! The key that a client shows. Its text is written into one header and nowhere else.

use std::fmt;

use reqwest::header::HeaderValue;

use super::ClientError;

/// Characters of a key: more than any has.
const MAX: usize = 4 << 10;

/// A key. It shows nothing of itself.
#[derive(Clone)]
pub struct Key(HeaderValue);

impl Key {
    /// Takes a key's text; white space around it does not count.
    pub fn new(text: &str) -> Result<Self, ClientError> {
        let text = text.trim();
        let bad = |what| Err(ClientError::BadKey { what });
        if text.is_empty() {
            return bad("is empty");
        }
        if text.len() > MAX {
            return bad("is longer than any key");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return bad("is not one word of visible ASCII characters");
        }
        match HeaderValue::from_str(&format!("Bearer {text}")) {
            Ok(mut value) => {
                value.set_sensitive(true);
                Ok(Self(value))
            }
            Err(_) => bad("does not fit a header"),
        }
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_nothing_of_itself() {
        let key = Key::new(" rk_secret\n").unwrap();
        assert_eq!(key.header().to_str().unwrap(), "Bearer rk_secret");
        assert!(!format!("{key:?} {:?}", key.header()).contains("secret"));
        for bad in ["", " ", "two words", "line\nline", "clé", &"x".repeat(5_000)] {
            let error = Key::new(bad).unwrap_err().to_string();
            assert!(bad.trim().is_empty() || !error.contains(bad), "{error}");
        }
    }
}

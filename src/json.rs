//! JSON as it is recorded: valid, compact text that is not parsed again until
//! somebody needs a part of it.
//!
//! Text that comes from a guest or a tool is checked once, here, and written again
//! unless it is compact as it is, so that what was checked, what is recorded and what
//! is handed on are the same bytes.

mod compact;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// One JSON value as compact text. Equality is equality of the text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

/// The text is not JSON, or nests deeper than 127 levels.
#[derive(Debug, thiserror::Error)]
#[error("not valid JSON: {0}")]
pub struct InvalidJson(#[from] serde_json::Error);

impl Json {
    /// Parses `text` and keeps it in compact form: no white space between
    /// tokens, the last of repeated keys, numbers as 64-bit integers or floats.
    pub fn parse(text: &str) -> Result<Self, InvalidJson> {
        match compact::is_compact(text) {
            true => Self::from_compact(text.to_owned()),
            false => Self::written_again(text),
        }
    }

    /// As [`Json::parse`], without a copy of text that is compact as it is.
    pub fn parse_owned(text: String) -> Result<Self, InvalidJson> {
        match compact::is_compact(&text) {
            true => Self::from_compact(text),
            false => Self::written_again(&text),
        }
    }

    fn written_again(text: &str) -> Result<Self, InvalidJson> {
        Ok(Self::from_value(&serde_json::from_str(text)?))
    }

    /// Takes text that is compact, if it is JSON.
    fn from_compact(text: String) -> Result<Self, InvalidJson> {
        Ok(Self(RawValue::from_string(text)?))
    }

    pub fn from_value(value: &Value) -> Self {
        // A `Value` has string keys and finite numbers only, so it always serialises.
        Self(serde_json::value::to_raw_value(value).expect("a JSON value serialises"))
    }

    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The same value with the keys of all its objects in alphabetical order: two
    /// texts that say the same are then the same text.
    pub fn in_order(&self) -> Self {
        let mut value = self.to_value();
        value.sort_all_objects();
        Self::from_value(&value)
    }

    /// Parses the text; cheap enough for output and schema checks.
    pub fn to_value(&self) -> Value {
        // Values nested too deep cannot be built, because `parse` refuses them,
        // but a damaged journal can hold one as text.
        serde_json::from_str(self.as_str()).unwrap_or(Value::Null)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_compact_and_keeps_its_order() {
        let json = Json::parse(" {\"b\": [1, 2.50],\n \"a\": \"x\\ny\", \"b\": null} ").unwrap();
        assert_eq!(json.as_str(), r#"{"b":null,"a":"x\ny"}"#);
    }

    #[test]
    fn what_says_the_same_is_the_same_text_in_order() {
        let [a, b] = [r#"{"b":[{"d":1,"c":2}],"a":0}"#, r#"{"a":0,"b":[{"c":2,"d":1}]}"#];
        let [a, b] = [a, b].map(|text| Json::parse(text).unwrap());
        assert_ne!(a, b);
        assert_eq!(a.in_order(), b.in_order());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in ["", "{", "nul", "1 2", "[1e999]", &"[".repeat(200)] {
            assert!(Json::parse(bad).is_err(), "{bad}");
        }
    }
}

//! Secrets: found by name in the host, and kept out of everything that a tool
//! answers.
//!
//! A name is looked up in the configuration's `[secrets]`, then in the host's
//! environment. Every value that was given out is remembered, and scrubbed from
//! answers, errors and attempts before anybody sees or records them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

/// What stands where a secret was.
const SCRUBBED: &str = "[secret]";

/// A shorter value is not scrubbed: it would be found everywhere.
const MIN_SCRUBBED: usize = 6;

/// A value that nobody may see. It shows only what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for the place where it is used.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCRUBBED)
    }
}

/// There is no secret of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no secret `{0}`: neither `[secrets]` nor the environment has it")]
pub struct UnknownSecret(pub String);

/// The host's secrets. Cheap to clone.
#[derive(Clone, Default)]
pub struct Vault(Arc<Inner>);

#[derive(Default)]
struct Inner {
    named: BTreeMap<String, String>,
    given: RwLock<BTreeSet<String>>,
}

impl Vault {
    /// The secrets of the configuration, by name.
    pub fn new(named: BTreeMap<String, String>) -> Self {
        Self(Arc::new(Inner { named, given: RwLock::default() }))
    }

    /// The secret of that name: the configuration's, else the environment's.
    pub fn get(&self, name: &str) -> Result<Secret, UnknownSecret> {
        let value = self.lookup(name).ok_or_else(|| UnknownSecret(name.to_owned()))?;
        Ok(self.remember(value))
    }

    /// As [`Vault::get`], for values that need not be secret: nothing is remembered.
    pub fn lookup(&self, name: &str) -> Option<String> {
        let named = self.0.named.get(name).cloned();
        named.or_else(|| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Whether the configuration itself calls this a secret.
    pub fn names(&self, name: &str) -> bool {
        self.0.named.contains_key(name)
    }

    /// Keeps `value` out of everything that is recorded or shown from here on.
    pub fn remember(&self, value: String) -> Secret {
        if value.len() >= MIN_SCRUBBED {
            let mut given = self.0.given.write().unwrap_or_else(PoisonError::into_inner);
            given.insert(value.clone());
        }
        Secret(value)
    }

    /// Replaces every `${NAME}` by the secret of that name. `$${` stands for `${`.
    pub fn expand(&self, text: &str) -> Result<Secret, UnknownSecret> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                expanded.push_str(&rest[..at]);
                expanded.push('{');
                rest = &rest[at + 2..];
                continue;
            }
            let Some(end) = rest[at..].find('}') else { break };
            expanded.push_str(&rest[..at]);
            expanded.push_str(self.get(&rest[at + 2..at + end])?.reveal());
            rest = &rest[at + end + 1..];
        }
        expanded.push_str(rest);
        Ok(Secret(expanded))
    }

    /// `text` without any secret that was given out.
    pub fn scrub_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let given = self.0.given.read().unwrap_or_else(PoisonError::into_inner);
        let mut scrubbed = Cow::Borrowed(text);
        // Longer ones first: one secret may hold another.
        let mut values: Vec<&String> = given.iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        for value in values {
            if scrubbed.contains(value.as_str()) {
                scrubbed = Cow::Owned(scrubbed.replace(value.as_str(), SCRUBBED));
            }
        }
        scrubbed
    }

    /// As [`Vault::scrub_text`], for bytes that are answered in a form in which
    /// no secret would be found. `cut` says that more followed: then the beginning
    /// of a secret at the end goes too, or secrets could be had but for a letter.
    pub fn scrub_bytes(&self, bytes: &mut Vec<u8>, cut: bool) {
        let given = self.0.given.read().unwrap_or_else(PoisonError::into_inner);
        if cut {
            let half = given.iter().map(|value| half_at_end(bytes, value.as_bytes())).max();
            bytes.truncate(bytes.len() - half.unwrap_or(0));
        }
        let mut values: Vec<&String> = given.iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        for value in values {
            let (value, mut from) = (value.as_bytes(), 0);
            while let Some(at) = bytes[from..].windows(value.len()).position(|it| it == value) {
                let at = from + at;
                bytes.splice(at..at + value.len(), SCRUBBED.bytes());
                from = at + SCRUBBED.len();
            }
        }
    }

    /// A JSON value without any secret, in texts and in names.
    pub fn scrub(&self, value: Value) -> Value {
        if self.0.given.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return value;
        }
        match value {
            Value::String(text) => match self.scrub_text(&text) {
                Cow::Borrowed(_) => Value::String(text),
                Cow::Owned(scrubbed) => Value::String(scrubbed),
            },
            Value::Array(items) => items.into_iter().map(|item| self.scrub(item)).collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(name, value)| (self.scrub_text(&name).into_owned(), self.scrub(value)))
                .collect(),
            other => other,
        }
    }
}

/// How many bytes at the end are the beginning of `value`, but not all of it.
fn half_at_end(bytes: &[u8], value: &[u8]) -> usize {
    (1..value.len()).rev().find(|length| bytes.ends_with(&value[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vault() -> Vault {
        Vault::new(BTreeMap::from([
            ("KEY".to_owned(), "sk-canary".to_owned()),
            ("LONG".to_owned(), "sk-canary-long".to_owned()),
        ]))
    }

    #[test]
    fn names_are_found_in_the_configuration_and_expanded() {
        let vault = vault();
        assert_eq!(vault.expand("Bearer ${KEY}!").unwrap().reveal(), "Bearer sk-canary!");
        assert_eq!(vault.expand("$${KEY} ${").unwrap().reveal(), "${KEY} ${");
        assert_eq!(vault.get("NO_SUCH_NAME_HERE"), Err(UnknownSecret("NO_SUCH_NAME_HERE".into())));
        assert_eq!(format!("{:?}", vault.get("KEY").unwrap()), "[secret]");
    }

    #[test]
    fn what_was_given_out_is_scrubbed_everywhere() {
        let vault = vault();
        assert_eq!(vault.scrub(json!("sk-canary")), json!("sk-canary"), "nobody has it yet");
        vault.get("KEY").unwrap();
        vault.get("LONG").unwrap();
        let dirty = json!({ "a": ["x sk-canary-long y"], "sk-canary": 1 });
        assert_eq!(vault.scrub(dirty), json!({ "a": ["x [secret] y"], "[secret]": 1 }));
    }
    #[test]
    fn bytes_are_scrubbed_and_no_half_of_a_secret_is_left_at_a_cut() {
        let vault = vault();
        let scrubbed = |bytes: &[u8], cut| {
            let mut bytes = bytes.to_vec();
            vault.scrub_bytes(&mut bytes, cut);
            bytes
        };
        assert_eq!(scrubbed(b"\xFFsk-canary", true), b"\xFFsk-canary", "nobody has it yet");
        vault.get("KEY").unwrap();
        vault.get("LONG").unwrap();
        assert_eq!(scrubbed(b"\xFFsk-canary\0sk-canary", false), b"\xFF[secret]\0[secret]");
        assert_eq!(scrubbed(b"a sk-canary-lon", true), b"a ");
        assert_eq!(scrubbed(b"a sk-canary-long", true), b"a [secret]");
        assert_eq!(scrubbed(b"a s", true), b"a ");
        assert_eq!(scrubbed(b"a sk-canar", false), b"a sk-canar");
        assert_eq!(scrubbed(b"a sk-canary!", true), b"a [secret]!");
        assert_eq!(scrubbed(b"", true), b"");
    }
}

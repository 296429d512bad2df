//! `[[webhooks]]`: who is told when runs end.
//!
//! ```toml
//! [[webhooks]]
//! url = "https://ci.example.org/hooks/reenact"
//! secret = "${HOOK_SECRET}"
//! agents = ["clerk"]       # all, if left out
//! events = ["run.error"]   # both, if left out
//! ```
//!
//! `secret` may also be a list: messages are signed with each, so that a receiver can go
//! over to a new one without missing any.
//!
//! Only what sends them needs the secrets, so only [`Config::hooks`] looks them up: a
//! command line works also where they are not known.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Config, ConfigError};
use crate::revision::Digest;
use crate::tools::Vault;

/// Each has connections and a place in every run's end.
const MAX_HOOKS: usize = 32;

/// Secrets of one hook: a new one, an old one, and some to spare.
const MAX_KEYS: usize = 4;

/// Names in a filter.
const MAX_AGENTS: usize = 1_000;

/// Bytes of a key, as the Standard Webhooks ask for.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Marks a secret of Standard Webhooks; people may leave it out.
const KEY_PREFIX: &str = "whsec_";

/// Why somebody is told of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEvent {
    #[serde(rename = "run.done")]
    Done,
    #[serde(rename = "run.error")]
    Error,
}

impl RunEvent {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "run.done",
            Self::Error => "run.error",
        }
    }
}

/// Where to send what, ready to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Follows from the URL as it is written, so that it is the same after a restart,
    /// and tells nothing that the URL may hide.
    pub id: String,
    pub url: Url,
    /// At least one.
    pub keys: Vec<Key>,
    /// Only runs of these agents; `None` for all.
    pub agents: Option<Vec<String>>,
    /// Only these ends; `None` for all.
    pub events: Option<Vec<RunEvent>>,
}

impl Hook {
    /// Where it goes, without path, user or query: what may be shown of it.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// What a hook's messages are signed with. It shows only what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// The key itself, for the place where it is used.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A table `[[webhooks]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookToml {
    /// May name secrets, as `${NAME}`.
    url: String,
    secret: Secrets,
    agents: Option<Vec<String>>,
    events: Option<Vec<RunEvent>>,
    /// Where it is written.
    #[serde(skip)]
    file: PathBuf,
}

/// As a rule these only name secrets, as `${NAME}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "a secret, or a list of secrets")]
enum Secrets {
    One(String),
    Some(Vec<String>),
}

impl Secrets {
    fn all(&self) -> &[String] {
        match self {
            Self::One(secret) => std::slice::from_ref(secret),
            Self::Some(secrets) => secrets,
        }
    }
}

impl Config {
    /// The webhooks with their secrets from `vault`.
    pub fn hooks(&self, vault: &Vault) -> Result<Vec<Hook>, ConfigError> {
        let mut hooks: Vec<Hook> = Vec::with_capacity(self.webhooks.len());
        for (number, table) in (1..).zip(&self.webhooks) {
            let hook = table.resolve(vault).and_then(|hook| match hook {
                _ if number > MAX_HOOKS => Err(format!("is too many: {MAX_HOOKS} are read")),
                hook if hooks.iter().any(|other| other.id == hook.id) => {
                    Err("has the `url` of another one".to_owned())
                }
                hook => Ok(hook),
            });
            let path = || table.file.clone();
            let error = |problem| ConfigError::Webhook { path: path(), number, problem };
            hooks.push(hook.map_err(error)?);
        }
        Ok(hooks)
    }
}

impl WebhookToml {
    pub(super) fn of(mut self, file: &Path) -> Self {
        self.file = file.to_owned();
        self
    }

    fn resolve(&self, vault: &Vault) -> Result<Hook, String> {
        let url =
            vault.expand(&self.url).map_err(|cause| format!("has a `url` for which {cause}"))?;
        // What the URL is in full may be a secret, so the file's own words are shown.
        let shown = &self.url;
        let url = Url::parse(url.reveal())
            .map_err(|cause| format!("has the `url` `{shown}`, which is none: {cause}"))?;
        if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
            return Err(format!("has the `url` `{shown}`, which must be of `https` or `http`"));
        }
        if self.agents.as_ref().is_some_and(|agents| agents.is_empty() || agents.len() > MAX_AGENTS)
        {
            return Err(format!("has `agents`, which must name 1 to {MAX_AGENTS}, or be left out"));
        }
        if self.events.as_ref().is_some_and(Vec::is_empty) {
            return Err("has `events = []`, which must name some, or be left out".to_owned());
        }
        let secrets = self.secret.all();
        if secrets.is_empty() || secrets.len() > MAX_KEYS {
            return Err(format!("has `secret`, which must be one or a list of up to {MAX_KEYS}"));
        }
        let keys = secrets.iter().map(|secret| key(secret, vault)).collect::<Result<_, _>>()?;
        let id = format!("hook_{}", &Digest::of(self.url.as_bytes()).hex()[..16]);
        let (agents, events) = (self.agents.clone(), self.events.clone());
        Ok(Hook { id, url, keys, agents, events })
    }
}

fn key(secret: &str, vault: &Vault) -> Result<Key, String> {
    let secret =
        vault.expand(secret).map_err(|cause| format!("has a `secret` for which {cause}"))?;
    let secret = vault.remember(secret.reveal().to_owned());
    let text = secret.reveal();
    let key = STANDARD
        .decode(text.strip_prefix(KEY_PREFIX).unwrap_or(text))
        .map_err(|_| "has a `secret` that is not base64".to_owned())?;
    if !KEY_BYTES.contains(&key.len()) {
        let (least, most) = (KEY_BYTES.start(), KEY_BYTES.end());
        let found = key.len();
        return Err(format!(
            "has a `secret` of {found} bytes, but {least} to {most} are asked for"
        ));
    }
    Ok(Key(key))
}

/// What helps with a webhook that cannot be used.
pub(super) fn hint(problem: &str, path: &Path) -> Option<String> {
    if problem.contains("there is no secret") {
        return Some(format!(
            "name it in `[secrets]` of `{}`, or set the variable of that name",
            path.display()
        ));
    }
    problem.contains("`secret`").then(|| {
        "`openssl rand -base64 32` makes one; the receiver needs the same, with `whsec_` before it"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn vault() -> Vault {
        Vault::new(BTreeMap::from([
            ("HOOK".to_owned(), KEY.to_owned()),
            ("SHORT".to_owned(), "c2hvcnQ=".to_owned()),
            ("ODD".to_owned(), "not base64!".to_owned()),
        ]))
    }

    fn hooks(text: &str) -> Result<Vec<Hook>, ConfigError> {
        Config::parse(text, Path::new("reenact.toml")).unwrap().hooks(&vault())
    }

    #[test]
    fn a_hook_has_a_key_and_filters_and_an_id_that_stays() {
        let text = "[[webhooks]]\nurl = 'https://user:pw@ci.example.org:8443/x?y'\n
            secret = '${HOOK}'\nagents = ['clerk']\nevents = ['run.error']";
        let found = hooks(text).unwrap().remove(0);
        assert_eq!(found.keys[0].reveal().len(), 24);
        assert_eq!(found.agents, Some(vec!["clerk".to_owned()]));
        assert_eq!(found.events, Some(vec![RunEvent::Error]));
        assert_eq!(found.origin(), "https://ci.example.org:8443");
        assert!(format!("{found:?}").contains("keys: [[secret]]"));
        assert_eq!(hooks(text).unwrap()[0].id, found.id);
        assert_eq!(hooks("").unwrap(), []);
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_place() {
        let table = |url: &str, secret: &str, more: &str| {
            format!("[[webhooks]]\nurl = '{url}'\nsecret = '{secret}'\n{more}\n")
        };
        let good = table("https://x.org/", "${HOOK}", "");
        for (text, message) in [
            (
                table("https://x.org/", "${NO_SUCH_SECRET}", ""),
                "webhook 1 has a `secret` for which there is no secret `NO_SUCH_SECRET`: neither `[secrets]` nor the environment has it",
            ),
            (
                table("https://x.org/", "${SHORT}", ""),
                "webhook 1 has a `secret` of 5 bytes, but 24 to 64 are asked for",
            ),
            (table("https://x.org/", "${ODD}", ""), "webhook 1 has a `secret` that is not base64"),
            (
                table("ftp://x.org/", "${HOOK}", ""),
                "webhook 1 has the `url` `ftp://x.org/`, which must be of `https` or `http`",
            ),
            (
                table("x.org", "${HOOK}", ""),
                "webhook 1 has the `url` `x.org`, which is none: relative URL without a base",
            ),
            (format!("{good}{good}"), "webhook 2 has the `url` of another one"),
            (
                "[[webhooks]]\nurl = 'https://x.org/'\nsecret = []".to_owned(),
                "webhook 1 has `secret`, which must be one or a list of up to 4",
            ),
            (
                table("https://x.org/", "${HOOK}", "events = []"),
                "webhook 1 has `events = []`, which must name some, or be left out",
            ),
            (
                table("https://x.org/", "${HOOK}", "agents = []"),
                "webhook 1 has `agents`, which must name 1 to 1000, or be left out",
            ),
        ] {
            let error = hooks(&text).unwrap_err();
            assert_eq!(error.to_string(), format!("`reenact.toml`: {message}"));
        }
        let unknown = hooks(&table("https://x.org/", "${NO_SUCH_SECRET}", "")).unwrap_err();
        let hint = "name it in `[secrets]` of `reenact.toml`, or set the variable of that name";
        assert_eq!(unknown.hint().as_deref(), Some(hint));
    }

    #[test]
    fn a_command_line_needs_no_secret_of_a_hook() {
        let text = "[[webhooks]]\nurl = 'https://x.org'\nsecret = '${NO_SUCH_SECRET}'";
        assert!(Config::parse(text, Path::new("reenact.toml")).is_ok());
        let typo = "[[webhooks]]\nurl = 'https://x.org'\nsecret = 'x'\nevents = ['run.ended']";
        let error = Config::parse(typo, Path::new("reenact.toml")).unwrap_err().to_string();
        assert!(error.contains("expected `run.done` or `run.error`"), "{error}");
    }
}

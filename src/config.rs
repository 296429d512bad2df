//! What the operator says: caps on limits, and which providers are granted.
//!
//! It comes from a file, `reenact.toml`, and from `--grant` flags, which win.
//! This module checks names and shapes; opening what is granted is the
//! catalogue's work, and where the file is looked for is the command line's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::revision::{InvalidLimit, SomeLimits};
use crate::tools::{Grant, KINDS, Vault, kind, kind_names, quoted};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// What no run gets more of, whatever its manifest asks for.
    pub limits: SomeLimits,
    /// By kind of provider.
    pub grants: BTreeMap<String, Grant>,
    /// Secrets by name. What is not here is looked for in the environment.
    secrets: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    /// It is not TOML, or has keys or values that mean nothing here.
    #[error("`{}`{}: {}", path.display(), at_line(line), cause.message())]
    Syntax { path: PathBuf, line: Option<usize>, cause: Box<toml::de::Error> },
    #[error("`{}`: {cause}", path.display())]
    Limit { path: PathBuf, cause: InvalidLimit },
    #[error("`{}`: `grants.{name}` is no provider, only {}", path.display(), kind_names())]
    UnknownProvider { path: PathBuf, name: String },
    #[error("`{}`: unknown key `{key}` in `[grants.{name}]`, only {}", path.display(), keys(name))]
    UnknownKey { path: PathBuf, name: String, key: String },
    #[error("`--grant {flag}` lacks {}", if flag.contains('=') { "a name or a value" } else { "`=`" })]
    FlagForm { flag: String },
    #[error("`--grant {name}=…` names no provider, only {}", kind_names())]
    FlagProvider { name: String },
    #[error("`--grant {name}=…` is given twice")]
    FlagTwice { name: String },
}

impl ConfigError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::FlagForm { flag } => {
                let name = flag.split('=').next().unwrap_or_default();
                let forms: Vec<_> = match kind(name) {
                    Some(kind) => vec![kind],
                    None => KINDS.iter().collect(),
                };
                let forms: Vec<_> = forms
                    .iter()
                    .map(|kind| format!("`--grant {}={}`", kind.name, kind.flag_value))
                    .collect();
                Some(format!("write it as {}", forms.join(" or ")))
            }
            _ => None,
        }
    }
}

fn at_line(line: &Option<usize>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}

fn keys(provider: &str) -> String {
    quoted(kind(provider).into_iter().flat_map(|kind| kind.keys).copied())
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    limits: SomeLimits,
    #[serde(default)]
    grants: BTreeMap<String, toml::Table>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
}

impl Config {
    /// The host's secrets.
    pub fn vault(&self) -> Vault {
        Vault::new(self.secrets.clone())
    }

    /// Reads `path`. A file that does not exist says nothing, unless it must.
    pub fn load(path: &Path, must_exist: bool) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && !must_exist => {
                Ok(Self::default())
            }
            Err(cause) => Err(ConfigError::Read { path: path.to_owned(), cause }),
        }
    }

    fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let path = || file.to_owned();
        let File { limits, grants, secrets } = toml::from_str(text).map_err(|cause| {
            let line = cause.span().map(|span| text[..span.start].matches('\n').count() + 1);
            ConfigError::Syntax { path: path(), line, cause: Box::new(cause) }
        })?;
        limits.check().map_err(|cause| ConfigError::Limit { path: path(), cause })?;
        for (name, table) in &grants {
            let Some(kind) = kind(name) else {
                return Err(ConfigError::UnknownProvider { path: path(), name: name.clone() });
            };
            if let Some(key) = table.keys().find(|key| !kind.keys.contains(&key.as_str())) {
                let (name, key) = (name.clone(), key.clone());
                return Err(ConfigError::UnknownKey { path: path(), name, key });
            }
        }
        let grants =
            grants.into_iter().map(|(name, table)| (name, Grant::Table { table, file: path() }));
        Ok(Self { limits, grants: grants.collect(), secrets })
    }

    /// Adds `--grant NAME=VALUE` flags. Each replaces the table of its provider.
    pub fn with_flags(mut self, flags: &[String]) -> Result<Self, ConfigError> {
        let mut seen = BTreeSet::new();
        for flag in flags {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) if !name.is_empty() && !value.is_empty() => (name, value),
                _ => return Err(ConfigError::FlagForm { flag: flag.clone() }),
            };
            if kind(name).is_none() {
                return Err(ConfigError::FlagProvider { name: name.to_owned() });
            }
            if !seen.insert(name) {
                return Err(ConfigError::FlagTwice { name: name.to_owned() });
            }
            self.grants.insert(name.to_owned(), Grant::Flag(value.to_owned()));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("conf/reenact.toml"))
    }

    fn flags(flags: &[&str]) -> Result<Config, ConfigError> {
        let flags: Vec<_> = flags.iter().map(|flag| flag.to_string()).collect();
        parse("[grants.files]\nroot = 'docs'").unwrap().with_flags(&flags)
    }

    #[test]
    fn limits_and_grants_are_read() {
        let config =
            parse("[limits]\nfuel = 500\n\n[grants.files]\nroot = 'docs'\nurl = 'https://x.org/'")
                .unwrap();
        assert_eq!(config.limits, SomeLimits { fuel: Some(500), ..Default::default() });
        let Grant::Table { table, file } = &config.grants["files"] else { panic!() };
        assert_eq!(table["root"].as_str(), Some("docs"));
        assert_eq!(file, Path::new("conf/reenact.toml"));
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn errors_name_the_file_and_the_key() {
        let unknown = format!("`conf/reenact.toml`: `grants.web` is no provider, only {}", kind_names());
        for (text, message) in [
            (
                "\n[limit]\nfuel = 1",
                "`conf/reenact.toml`, line 2: unknown field `limit`, expected one of `limits`, `grants`, `secrets`",
            ),
            (
                "[limits]\nfuel = -1",
                "`conf/reenact.toml`, line 2: invalid value: integer `-1`, expected u64",
            ),
            (
                "[limits]\nfuel = 0",
                "`conf/reenact.toml`: limit `fuel` is `0`, but must be from 1 to 9007199254740992",
            ),
            ("[grants.web]\nx = 1", unknown.as_str()),
            (
                "[grants.files]\nrot = 'x'",
                "`conf/reenact.toml`: unknown key `rot` in `[grants.files]`, only `root`, `url`",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn an_absent_file_is_an_error_only_if_it_must_exist() {
        let path = tempfile::tempdir().unwrap().path().join("reenact.toml");
        assert_eq!(Config::load(&path, false).unwrap(), Config::default());
        let error = Config::load(&path, true).unwrap_err().to_string();
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }

    #[test]
    fn a_flag_replaces_the_table_of_its_provider() {
        let config = flags(&["files=a=b"]).unwrap();
        assert_eq!(config.grants, BTreeMap::from([("files".into(), Grant::Flag("a=b".into()))]));
    }

    #[test]
    fn bad_flags_are_told_how_to_be_written() {
        let unknown = format!("`--grant web=…` names no provider, only {}", kind_names());
        for (bad, message) in [
            (&["files"][..], "`--grant files` lacks `=`"),
            (&["files="], "`--grant files=` lacks a name or a value"),
            (&["=x"], "`--grant =x` lacks a name or a value"),
            (&["web=x"], &unknown),
            (&["files=a", "files=b"], "`--grant files=…` is given twice"),
        ] {
            let error = flags(bad).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        let hint = flags(&["files"]).unwrap_err().hint();
        assert_eq!(hint.as_deref(), Some("write it as `--grant files=DIR`"));
    }
}

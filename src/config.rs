//! What the operator says: caps on limits, which providers are granted, the
//! policy for calls of their tools, secrets, who is told of what happens.
//!
//! It comes from a file, `reenact.toml`, and from `--grant` flags. This module
//! checks names and shapes; opening what is granted is the catalogue's work, and
//! where the file is looked for is the command line's.

mod server;
mod telemetry;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::journal::{Action, Rule};
use crate::json::Json;
use crate::revision::{InvalidLimit, Schema, SomeLimits, ToolPattern};
use crate::tools::policy::{Named, Policy};
use crate::tools::{Grant, KINDS, Vault, kind, kind_names, quoted};
pub use server::ServerConfig;
pub use telemetry::TelemetrySettings;
use telemetry::TelemetryToml;
use webhooks::WebhookToml;
pub use webhooks::{Hook, Key, RunEvent};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// What no run gets more of, whatever its manifest asks for.
    pub limits: SomeLimits,
    /// By kind of provider.
    pub grants: BTreeMap<String, Grant>,
    /// What holds for calls of granted tools.
    pub policy: Policy,
    /// Secrets by name. What is not here is looked for in the environment.
    secrets: BTreeMap<String, String>,
    webhooks: Vec<WebhookToml>,
    telemetry: TelemetryToml,
    /// What `reenact serve` listens on and takes on.
    pub server: ServerConfig,
    /// The `--grant` flags can take away, but give nothing that the file does not.
    flags_only_narrow: bool,
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
    #[error("`{}`: {problem}", path.display())]
    Server { path: PathBuf, problem: String },
    #[error("`{}`: `grants.{name}` is no provider, only {}", path.display(), kind_names())]
    UnknownProvider { path: PathBuf, name: String },
    #[error("`{}`: unknown key `{key}` in `[grants.{name}]`, only {}", path.display(), keys(name))]
    UnknownKey { path: PathBuf, name: String, key: String },
    #[error("`{}`: rule {number} of `[[policy]]` {problem}", path.display())]
    Rule { path: PathBuf, number: usize, problem: String },
    #[error("`{}`: webhook {number} {problem}", path.display())]
    Webhook { path: PathBuf, number: usize, problem: String },
    /// What is wrong may also be a variable of the environment.
    #[error("{}{problem}", in_file(path))]
    Telemetry { path: PathBuf, problem: String },
    #[error("`--grant {flag}` lacks a name or a value")]
    FlagForm { flag: String },
    #[error("`--grant {name}=…` names no provider, only {}", kind_names())]
    FlagProvider { name: String },
    #[error("`--grant {flag}` names nothing that is granted: {}", granted_names(.granted))]
    FlagNothing { flag: String, granted: Vec<String> },
    #[error(
        "`--grant {name}=…` gives what the configuration does not, and `flags_only_narrow` is set"
    )]
    FlagWidens { name: String },
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
            Self::FlagNothing { flag, .. } => {
                let kind = kind(flag.split('.').next().unwrap_or_default())?;
                Some(format!("`--grant {}={}` grants it", kind.name, kind.flag_value))
            }
            Self::FlagWidens { name } => {
                Some(format!("`--grant {name}` takes what the configuration grants of it"))
            }
            Self::Webhook { path, problem, .. } => webhooks::hint(problem, path),
            _ => None,
        }
    }
}

fn in_file(path: &Path) -> String {
    if path.as_os_str().is_empty() { String::new() } else { format!("`{}`: ", path.display()) }
}

fn at_line(line: &Option<usize>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}

fn granted_names(granted: &[String]) -> String {
    match granted {
        [] => "the configuration grants nothing".to_owned(),
        some => format!("the configuration grants {}", quoted(some.iter().map(String::as_str))),
    }
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
    policy: Vec<RuleToml>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    #[serde(default)]
    flags_only_narrow: bool,
    #[serde(default)]
    webhooks: Vec<WebhookToml>,
    #[serde(default)]
    server: ServerConfig,
    telemetry: Option<TelemetryToml>,
}

/// A table `[[policy]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleToml {
    /// `PROVIDER.TOOL` or `PROVIDER.*`.
    tool: ToolPattern,
    action: Action,
    /// JSON Schema of the arguments for which the rule holds.
    when: Option<serde_json::Value>,
    /// For `ask`.
    timeout_ms: Option<u64>,
}

impl RuleToml {
    fn check(self) -> Result<(ToolPattern, Rule), String> {
        if let Some(when) = &self.when {
            Schema::compile(when)
                .map_err(|cause| format!("has a `when` that is not a JSON Schema: {cause}"))?;
        }
        if self.timeout_ms.is_some() && self.action != Action::Ask {
            return Err("has `timeout_ms`, which only `action = \"ask\"` has a use for".to_owned());
        }
        if self.timeout_ms.is_some_and(|ms| ms == 0 || ms > MAX_ASK_TIMEOUT_MS) {
            return Err(format!("has `timeout_ms` outside of 1 to {MAX_ASK_TIMEOUT_MS}"));
        }
        let when = self.when.as_ref().map(Json::from_value);
        Ok((self.tool, Rule { action: self.action, when, timeout_ms: self.timeout_ms }))
    }
}

/// Thirty days: as long as a run can take.
const MAX_ASK_TIMEOUT_MS: u64 = 30 * 24 * 3_600_000;

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

    fn parse(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        let path = || origin.to_owned();
        let file: File = toml::from_str(text).map_err(|cause| {
            let line = cause.span().map(|span| text[..span.start].matches('\n').count() + 1);
            ConfigError::Syntax { path: path(), line, cause: Box::new(cause) }
        })?;
        let File {
            limits,
            grants,
            policy,
            secrets,
            flags_only_narrow,
            webhooks,
            server,
            telemetry,
        } = file;
        limits.check().map_err(|cause| ConfigError::Limit { path: path(), cause })?;
        server.check().map_err(|problem| ConfigError::Server { path: path(), problem })?;
        for (name, table) in &grants {
            let Some(kind) = kind(name) else {
                return Err(ConfigError::UnknownProvider { path: path(), name: name.clone() });
            };
            if let Some(key) = table.keys().find(|key| !kind.keys.contains(&key.as_str())) {
                let (name, key) = (name.clone(), key.clone());
                return Err(ConfigError::UnknownKey { path: path(), name, key });
            }
        }
        let rule = |(number, rule): (usize, RuleToml)| {
            rule.check().map_err(|problem| ConfigError::Rule { path: path(), number, problem })
        };
        let rules = (1..).zip(policy).map(rule).collect::<Result<_, _>>()?;
        let policy = Policy { rules, only: None };
        let grants =
            grants.into_iter().map(|(name, table)| (name, Grant::Table { table, file: path() }));
        let grants = grants.collect();
        let webhooks = webhooks.into_iter().map(|hook| hook.of(origin)).collect();
        let telemetry = telemetry.map(|table| table.of(origin)).unwrap_or_default();
        Ok(Self { limits, grants, policy, secrets, webhooks, server, telemetry, flags_only_narrow })
    }

    /// Holds the run to what `--grant` flags name, if there are any: `NAME=VALUE`
    /// grants a provider, in place of what the file says of it; `NAME`, `NAME.TOOL`
    /// or `NAME.*` takes of what the file grants. All else is not granted.
    pub fn with_flags(mut self, flags: &[String]) -> Result<Self, ConfigError> {
        let mut seen = BTreeSet::new();
        let mut only = Vec::new();
        for flag in flags {
            let (name, value) = match flag.split_once('=') {
                None => {
                    only.push(self.named(flag)?);
                    continue;
                }
                Some((name, value)) if !name.is_empty() && !value.is_empty() => (name, value),
                Some(_) => return Err(ConfigError::FlagForm { flag: flag.clone() }),
            };
            if kind(name).is_none() {
                return Err(ConfigError::FlagProvider { name: name.to_owned() });
            }
            if self.flags_only_narrow {
                return Err(ConfigError::FlagWidens { name: name.to_owned() });
            }
            if !seen.insert(name) {
                return Err(ConfigError::FlagTwice { name: name.to_owned() });
            }
            self.grants.insert(name.to_owned(), Grant::Flag(value.to_owned()));
            only.push(Named::Kind(name.to_owned()));
        }
        if !flags.is_empty() {
            self.policy.only = Some(only);
        }
        Ok(self)
    }

    /// What a flag without a value means. Which servers a kind has that opens
    /// several is not known here, so any name may be one of them.
    fn named(&self, flag: &str) -> Result<Named, ConfigError> {
        if self.grants.contains_key(flag) {
            return Ok(Named::Kind(flag.to_owned()));
        }
        let nothing = || ConfigError::FlagNothing {
            flag: flag.to_owned(),
            granted: self.grants.keys().cloned().collect(),
        };
        let pattern = if flag.contains('.') { flag.to_owned() } else { format!("{flag}.*") };
        let pattern: ToolPattern = pattern.parse().map_err(|_| nothing())?;
        let is_granted = match kind(pattern.provider()) {
            Some(kind) => self.grants.contains_key(kind.name),
            None => self.grants.keys().filter_map(|name| kind(name)).any(|kind| kind.many),
        };
        if is_granted { Ok(Named::Tools(pattern)) } else { Err(nothing()) }
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
        for (text, message) in [
            (
                "\n[limit]\nfuel = 1",
                "`conf/reenact.toml`, line 2: unknown field `limit`, expected one of `limits`, `grants`, `policy`, `secrets`, `flags_only_narrow`, `webhooks`, `server`, `telemetry`",
            ),
            (
                "[limits]\nfuel = -1",
                "`conf/reenact.toml`, line 2: invalid value: integer `-1`, expected u64",
            ),
            (
                "[limits]\nfuel = 0",
                "`conf/reenact.toml`: limit `fuel` is `0`, but must be from 1 to 9007199254740992",
            ),
            ("[grants.web]\nx = 1", "`conf/reenact.toml`: `grants.web` is no provider, only KINDS"),
            (
                "[grants.files]\nrot = 'x'",
                "`conf/reenact.toml`: unknown key `rot` in `[grants.files]`, only `root`, `url`",
            ),
        ] {
            let message = message.replace("KINDS", &kind_names());
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
        for (bad, message) in [
            (&["files="][..], "`--grant files=` lacks a name or a value"),
            (&["=x"], "`--grant =x` lacks a name or a value"),
            (&["web=x"], "`--grant web=…` names no provider, only KINDS"),
            (&["files=a", "files=b"], "`--grant files=…` is given twice"),
        ] {
            let error = flags(bad).unwrap_err();
            assert_eq!(error.to_string(), message.replace("KINDS", &kind_names()));
        }
        let nothing = parse("").unwrap().with_flags(&["files".to_owned()]).unwrap_err();
        let message =
            "`--grant files` names nothing that is granted: the configuration grants nothing";
        assert_eq!(nothing.to_string(), message);
        assert_eq!(nothing.hint().as_deref(), Some("`--grant files=DIR` grants it"));
    }

    #[test]
    fn flags_without_a_value_narrow() {
        let config = flags(&["files.read"]).unwrap();
        assert_eq!(config.policy.only, Some(vec![Named::Tools("files.read".parse().unwrap())]));
        let config = flags(&["files"]).unwrap();
        assert_eq!(config.policy.only, Some(vec![Named::Kind("files".to_owned())]));
        let strict = "flags_only_narrow = true\n[grants.files]\nroot = 'docs'";
        let refused = parse(strict).unwrap().with_flags(&["files=/".to_owned()]).unwrap_err();
        assert!(matches!(refused, ConfigError::FlagWidens { .. }), "{refused}");
        assert_eq!(flags(&[]).unwrap().policy.only, None);
    }

    #[test]
    fn rules_are_checked_when_they_are_read() {
        let rules = "[[policy]]\ntool = 'files.*'\naction = 'ask'\ntimeout_ms = 5\n
            [[policy]]\ntool = 'files.read'\naction = 'deny'\nwhen = { required = ['x'] }";
        assert_eq!(parse(rules).unwrap().policy.rules_of("files.read").len(), 2);
        for (rule, problem) in [
            (
                "action = 'deny'\ntimeout_ms = 5",
                "rule 1 of `[[policy]]` has `timeout_ms`, which only",
            ),
            (
                "action = 'ask'\ntimeout_ms = 0",
                "rule 1 of `[[policy]]` has `timeout_ms` outside of",
            ),
            ("action = 'ask'\nwhen = { type = 'strin' }", "has a `when` that is not a JSON Schema"),
            ("action = 'maybe'", "unknown variant `maybe`"),
        ] {
            let error = parse(&format!("[[policy]]\ntool = 'a.b'\n{rule}")).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}

//! The servers that an operator names: an `.mcp.json`, and `[grants.mcp]`.
//!
//! Here stands what is written. Variables are replaced, and what a server needs
//! is missed, only when the server is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::connection::{Reach, Target};
use super::http::Endpoint;
use super::process::Launch;
use super::variables::{expand, looks_secret};
use crate::revision::is_provider;
use crate::tools::vault::Vault;
use crate::tools::{Grant, OpenError, kind, quoted};

/// Bytes of an `.mcp.json`: hundreds of servers.
const MAX_FILE: u64 = 1 << 20;

/// Longer names would leave no room for those of the tools.
const MAX_NAME: usize = 64;

/// How long a server may take to start, unless the configuration says so. The
/// first start of many downloads them.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_START_TIMEOUT_MS: u64 = 600_000;

/// The keys of one server in `[grants.mcp.servers.NAME]`.
const SERVER_KEYS: [&str; 9] =
    ["type", "command", "args", "env", "cwd", "url", "headers", "trusted", "start_timeout_ms"];

/// A server as it is configured.
#[derive(Debug)]
pub struct Configured {
    pub name: String,
    /// Whether the operator believes what it says about its tools.
    pub trusted: bool,
    start_timeout: Duration,
    entry: Entry,
    /// Where relative paths start.
    base: PathBuf,
}

/// The table `[grants.mcp]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    file: Option<PathBuf>,
    #[serde(default)]
    trusted: BTreeSet<String>,
    #[serde(default)]
    servers: BTreeMap<String, toml::Table>,
}

/// An `.mcp.json`. Keys of other programs are theirs.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "mcpServers")]
    servers: BTreeMap<String, Entry>,
}

/// One server, as an `.mcp.json` describes it.
#[derive(Debug, Default, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: Option<String>,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// Every server of a grant, by name in alphabetical order.
pub fn read(grant: &Grant) -> Result<Vec<Configured>, OpenError> {
    let mut servers = match grant {
        Grant::Flag(path) => from_file(Path::new(path), &BTreeSet::new())?,
        Grant::Table { table, file } => from_table(table, file)?,
    };
    for server in &servers {
        check_name(&server.name)?;
    }
    servers.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = servers.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let name = &pair[0].name;
        return Err(other(format!("the MCP server `{name}` is configured twice")));
    }
    Ok(servers)
}

fn from_table(table: &toml::Table, file: &Path) -> Result<Vec<Configured>, OpenError> {
    let table: Table = table.clone().try_into().map_err(Box::new)?;
    let base = file.parent().unwrap_or(Path::new(""));
    if table.file.is_none() && table.servers.is_empty() {
        return Err(other("it names no server: `file` or `[grants.mcp.servers.NAME]` does".into()));
    }
    let mut servers = match &table.file {
        Some(path) => from_file(&base.join(path), &table.trusted)?,
        None => Vec::new(),
    };
    let in_file = |name: &&String| !servers.iter().any(|server| server.name == **name);
    if let Some(name) = table.trusted.iter().find(in_file) {
        return Err(other(format!(
            "`trusted` names `{name}`, but `file` has no such server; \
             one under `[grants.mcp.servers]` says `trusted = true` itself"
        )));
    }
    for (name, table) in table.servers {
        servers.push(from_server_table(name, table, base)?);
    }
    Ok(servers)
}

fn from_server_table(
    name: String,
    mut table: toml::Table,
    base: &Path,
) -> Result<Configured, OpenError> {
    if let Some(key) = table.keys().find(|key| !SERVER_KEYS.contains(&key.as_str())) {
        return Err(other(format!(
            "unknown key `{key}` of the MCP server `{name}`, only {}",
            quoted(SERVER_KEYS)
        )));
    }
    #[derive(Deserialize)]
    struct Ours {
        #[serde(default)]
        trusted: bool,
        start_timeout_ms: Option<u64>,
    }
    let mut ours = toml::Table::new();
    for key in ["trusted", "start_timeout_ms"] {
        ours.extend(table.remove(key).map(|value| (key.to_owned(), value)));
    }
    let of_server = |cause: toml::de::Error| {
        other(format!("the MCP server `{name}` is misconfigured: {}", cause.message()))
    };
    let Ours { trusted, start_timeout_ms } = ours.try_into().map_err(of_server)?;
    let entry = table.try_into().map_err(of_server)?;
    let start_timeout = match start_timeout_ms {
        None => START_TIMEOUT,
        Some(ms @ 1..=MAX_START_TIMEOUT_MS) => Duration::from_millis(ms),
        Some(ms) => {
            return Err(other(format!(
                "`start_timeout_ms` of the MCP server `{name}` is `{ms}`, \
                 but must be from 1 to {MAX_START_TIMEOUT_MS}"
            )));
        }
    };
    Ok(Configured { name, trusted, start_timeout, entry, base: base.to_owned() })
}

fn from_file(path: &Path, trusted: &BTreeSet<String>) -> Result<Vec<Configured>, OpenError> {
    let failed = |cause| OpenError::Path { path: path.to_owned(), cause };
    let refused = |why: String| other(format!("`{}` {why}", path.display()));
    // Looked at first, because opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(refused("is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(refused(format!("has more than {MAX_FILE} bytes")));
    }
    let File { servers } = serde_json::from_slice(&bytes)
        .map_err(|cause| refused(format!("is no `.mcp.json`: {cause}")))?;
    let base = path.parent().unwrap_or(Path::new(""));
    let configured = |(name, entry): (String, Entry)| Configured {
        trusted: trusted.contains(&name),
        name,
        start_timeout: START_TIMEOUT,
        entry,
        base: base.to_owned(),
    };
    Ok(servers.into_iter().map(configured).collect())
}

fn check_name(name: &str) -> Result<(), OpenError> {
    if name.len() > MAX_NAME || !is_provider(name) {
        return Err(other(format!(
            "the MCP server `{}` needs another name, because tools are named after it: \
             at most {MAX_NAME} of `a-z A-Z 0-9 _ -`, a letter first",
            crate::tools::clip(name, 2 * MAX_NAME)
        )));
    }
    if kind(name).is_some() {
        return Err(other(format!(
            "the MCP server `{name}` needs another name, because tools of the built-in \
             provider `{name}` are named after it"
        )));
    }
    Ok(())
}

fn other(why: String) -> OpenError {
    OpenError::Other(why)
}

impl Configured {
    /// What is started or connected to, with all variables replaced. The error
    /// ends the sentence that begins with the server's name.
    pub fn target(self, vault: &Vault) -> Result<Target, String> {
        let Self { name, start_timeout, entry, base, .. } = self;
        let reach = match (entry.kind.as_deref(), &entry.command, &entry.url) {
            (None | Some("stdio"), Some(_), None) => Reach::Stdio(entry.launch(&base, vault)?),
            (None, None, Some(_)) => Reach::Http(entry.endpoint(vault)?),
            (Some("http" | "streamable-http" | "streamableHttp"), _, Some(_)) => {
                Reach::Http(entry.endpoint(vault)?)
            }
            (Some("sse"), ..) => {
                return Err("has the type `sse`, which MCP has replaced: \
                            only `stdio` and `http` are there"
                    .to_owned());
            }
            (Some("stdio"), ..) => return Err("has no `command`".to_owned()),
            (Some("http" | "streamable-http" | "streamableHttp"), ..) => {
                return Err("has no `url`".to_owned());
            }
            (Some(other), ..) => {
                return Err(format!("has the type `{other}`: only `stdio` and `http` are there"));
            }
            (None, Some(_), Some(_)) => return Err("has a `command` and a `url`".to_owned()),
            (None, None, None) => return Err("has neither `command` nor `url`".to_owned()),
        };
        Ok(Target { name, reach, start_timeout })
    }
}

impl Entry {
    fn launch(self, base: &Path, vault: &Vault) -> Result<Launch, String> {
        let written = self.command.unwrap_or_default();
        // As it is written: a variable in it may be a secret.
        let shown = [std::slice::from_ref(&written), &self.args].concat().join(" ");
        let command = expand_in("command", &written, vault)?;
        let dir = match &self.cwd {
            Some(cwd) => base.join(expand_in("cwd", cwd, vault)?),
            None if base.as_os_str().is_empty() => PathBuf::from("."),
            None => base.to_owned(),
        };
        // A path is relative to where it is written; a bare name is looked for.
        let program = match command.contains('/') && Path::new(&command).is_relative() {
            true => std::path::absolute(base.join(&command)).map_err(|e| e.to_string())?,
            false => PathBuf::from(command),
        };
        let args = self.args.iter().map(|arg| expand_in("args", arg, vault));
        let mut env = BTreeMap::new();
        for (name, value) in self.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(format!("has `{name}` in `env`, which no variable can be named"));
            }
            let value = expand_in(&format!("env.{name}"), &value, vault)?;
            if looks_secret(&name) {
                vault.remember(value.clone());
            }
            env.insert(name, value);
        }
        let args = args.collect::<Result<_, _>>()?;
        Ok(Launch { program, args, env, dir, shown, vault: vault.clone() })
    }

    fn endpoint(self, vault: &Vault) -> Result<Endpoint, String> {
        let shown = self.url.unwrap_or_default();
        let url = expand_in("url", &shown, vault)?;
        let mut headers = Vec::new();
        for (name, value) in self.headers {
            let place = format!("headers.{name}");
            let value = expand(&value, vault).map_err(|why| format!("has `{place}` that {why}"))?;
            if value.from_variable || looks_secret(&name) {
                // `Bearer …`: the token alone is as secret as the whole.
                if let Some((_, token)) = value.text.split_once(' ') {
                    vault.remember(token.trim().to_owned());
                }
                vault.remember(value.text.clone());
            }
            headers.push((name, value.text));
        }
        Endpoint::new(&url, headers, shown)
    }
}

fn expand_in(place: &str, text: &str, vault: &Vault) -> Result<String, String> {
    let expanded = expand(text, vault).map_err(|why| format!("has `{place}` that {why}"))?;
    match expanded.text.contains('\0') {
        true => Err(format!("has a NUL character in `{place}`")),
        false => Ok(expanded.text),
    }
}

#[cfg(test)]
mod tests;

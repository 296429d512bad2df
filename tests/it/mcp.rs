//! Tools of MCP servers: real ones and odd ones, called, run and replayed.

mod host;
mod http;
mod odd;
mod official;
mod runs;
mod verbs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reenact::journal::{Answer, Source, ToolError, ToolErrorCode};
use reenact::tools::{Budget, Call, Catalogue, Grant, RunTools, ToolLimits, Vault};
use serde_json::{Value, json};

use crate::servers::{odd_server, python};

/// Servers for one test: a folder with their `.mcp.json` and whatever they write.
pub struct Servers(tempfile::TempDir);

impl Servers {
    pub fn new(servers: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = json!({ "mcpServers": servers }).to_string();
        std::fs::write(folder.path().join(".mcp.json"), file).unwrap();
        Self(folder)
    }

    /// One odd server of the name `odd`.
    pub fn odd(options: &[&str]) -> Self {
        let servers = Self::new(json!({}));
        let log = servers.log();
        let args = [&odd_server(), log.to_str().unwrap()];
        let args: Vec<&str> = args.into_iter().chain(options.iter().copied()).collect();
        let file = json!({ "mcpServers": { "odd": { "command": python(), "args": args } } });
        std::fs::write(servers.file(), file.to_string()).unwrap();
        servers
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self) -> PathBuf {
        self.folder().join(".mcp.json")
    }

    pub fn flag(&self) -> String {
        format!("mcp={}", self.file().display())
    }

    /// Where the odd server writes what it is sent.
    pub fn log(&self) -> PathBuf {
        self.folder().join("log")
    }

    /// The methods and tools that the odd server was sent so far.
    pub fn heard(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub async fn open(&self) -> Catalogue {
        self.try_open("[grants.mcp]\nfile = '.mcp.json'").await.unwrap()
    }

    /// Opens the servers as a configuration says.
    pub async fn try_open(&self, config: &str) -> Result<Catalogue, String> {
        self.open_wanted(config, Vault::default(), &|_| true).await
    }

    pub async fn open_wanted(
        &self,
        config: &str,
        vault: Vault,
        wanted: &(dyn Fn(&str) -> bool + Send + Sync),
    ) -> Result<Catalogue, String> {
        let config: toml::Table = config.parse().unwrap();
        let table = config["grants"]["mcp"].as_table().unwrap().clone();
        let grant = Grant::Table { table, file: self.folder().join("reenact.toml") };
        let grants = BTreeMap::from([("mcp".to_owned(), grant)]);
        let opened = Catalogue::open(&grants, vault, wanted).await;
        opened.map_err(|error| error.to_string())
    }
}

const LIMITS: ToolLimits =
    ToolLimits { argument_bytes: 1 << 20, answer_bytes: 4 << 20, timeout: Duration::from_secs(30) };

fn tools(catalogue: &Catalogue) -> RunTools {
    catalogue.for_run(|_| true, LIMITS)
}

/// Tools whose calls may take so long.
fn hasty(catalogue: &Catalogue, timeout: Duration) -> RunTools {
    catalogue.for_run(|_| true, ToolLimits { timeout, ..LIMITS })
}

/// Makes one call; answers its content and its sources, or its error.
async fn call(
    tools: &RunTools,
    name: &str,
    arguments: Value,
) -> Result<(Value, Vec<Source>), (ToolErrorCode, String)> {
    let arguments = arguments.to_string();
    let key = "run/1".to_owned();
    let call = Call { key, name, arguments: &arguments, budget: Budget::UNLIMITED };
    match tools.call(call).await.answer {
        Answer::Ok(output) => Ok((output.content.to_value(), output.sources)),
        Answer::Error(ToolError { code, message }) => Err((code, message)),
    }
}

async fn answer(tools: &RunTools, name: &str, arguments: Value) -> Value {
    call(tools, name, arguments).await.unwrap_or_else(|error| panic!("{name}: {error:?}")).0
}

/// Waits for something that another process does.
async fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..200 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("still not so: {what}");
}

//! The providers of kind `mcp`: one for each MCP server that the operator names.
//!
//! Servers come from an `.mcp.json` as other programs use it, and from the
//! configuration itself; [`config`] reads both. Those that somebody wants are
//! started, or connected to, all at once, and asked for their tools. The
//! protocol is `rmcp`'s; what is ours is that no server can take more memory or
//! time than the limits say, and that a local one ends with its host.

mod call;
mod client;
mod config;
mod connection;
mod content;
mod http;
mod listing;
mod process;
mod scan;
mod stdio;
mod variables;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready, try_join_all};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::config::Configured;
use self::connection::{Connection, Reach, Target};
use super::vault::Vault;
use super::{
    CallContext, Grant, Kind, OpenError, Opened, Opening, Provider, Success, ToolError,
    ToolErrorCode, ToolSpec,
};

pub const KIND: Kind = Kind {
    name: "mcp",
    flag_value: "FILE",
    keys: &["file", "servers", "trusted"],
    many: true,
    open,
};

/// How often a server that ended is started anew within [`RESTART_PERIOD`]. One
/// that ends again and again would else be started by every call.
const MAX_RESTARTS: usize = 3;
const RESTART_PERIOD: Duration = Duration::from_secs(60);

fn open<'a>(grant: &'a Grant, opening: &'a Opening<'a>) -> BoxFuture<'a, Opened> {
    async move {
        let servers = config::read(grant)?;
        let wanted = servers.into_iter().filter(|server| (opening.wanted)(&server.name));
        let starts = wanted.map(|server| async {
            let name = server.name.clone();
            let started = Server::start(server, opening.vault).await;
            started.map(|server| (name, server)).map_err(OpenError::Other)
        });
        try_join_all(starts).await
    }
    .boxed()
}

/// One server, with its connection while it lasts.
struct Server {
    target: Arc<Target>,
    tools: Vec<ToolSpec>,
    link: Arc<Mutex<Link>>,
}

struct Link {
    connection: Arc<Connection>,
    /// When it was started anew, the last times.
    restarts: VecDeque<Instant>,
}

impl Server {
    /// Starts a server and asks for its tools. The error is a sentence that
    /// names the server and holds no secret.
    async fn start(server: Configured, vault: &Vault) -> Result<Arc<dyn Provider>, String> {
        let (name, trusted) = (server.name.clone(), server.trusted);
        let target =
            server.target(vault).map_err(|why| format!("the MCP server `{name}` {why}"))?;
        let refused = |why: String| {
            let text = format!("the MCP server `{name}` (`{}`) {why}", target.place());
            vault.scrub_text(&text).into_owned()
        };
        let connection = Connection::open(&target).await.map_err(refused)?;
        let list = listing::list(&connection, &name, trusted);
        let listed = connection.within(target.start_timeout, list).await;
        let tools = listed.map_err(|why| refused(format!("does not list its tools: {why}")))?;
        let link = Link { connection: Arc::new(connection), restarts: VecDeque::new() };
        Ok(Arc::new(Self { target: Arc::new(target), tools, link: Arc::new(Mutex::new(link)) }))
    }
}

impl Link {
    /// The connection, made anew if the last one is over.
    async fn live(&mut self, target: &Target) -> Result<Arc<Connection>, String> {
        if !self.connection.is_over() {
            return Ok(self.connection.clone());
        }
        let name = &target.name;
        while self.restarts.front().is_some_and(|at| at.elapsed() >= RESTART_PERIOD) {
            self.restarts.pop_front();
        }
        let is_process = matches!(target.reach, Reach::Stdio(_));
        if is_process && self.restarts.len() >= MAX_RESTARTS {
            let seconds = RESTART_PERIOD.as_secs();
            return Err(format!(
                "the MCP server `{name}` ended {} times within {seconds} s; \
                 it is started again later",
                MAX_RESTARTS + 1
            ));
        }
        if is_process {
            self.restarts.push_back(Instant::now());
        }
        tracing::debug!("starting the MCP server `{name}` anew");
        let opened = Connection::open(target).await;
        let opened = opened.map_err(|why| format!("the MCP server `{name}` {why}"))?;
        self.connection = Arc::new(opened);
        Ok(self.connection.clone())
    }
}

impl Provider for Server {
    fn tools(&self) -> Vec<ToolSpec> {
        self.tools.clone()
    }

    fn call(
        &self,
        tool: &str,
        arguments: Value,
        context: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        let Value::Object(arguments) = arguments else {
            let message = format!("the arguments of `{tool}` are no JSON object");
            return ready(Err(error(ToolErrorCode::InvalidArguments, message))).boxed();
        };
        let (target, link) = (self.target.clone(), self.link.clone());
        // The server's own name of the tool is what stands after its provider's.
        let tool = tool.get(target.name.len() + 1..).unwrap_or_default().to_owned();
        async move {
            let connection = link.lock().await.live(&target).await.map_err(failed)?;
            call::call(&connection, tool, arguments, context).await
        }
        .boxed()
    }
}

fn failed(message: String) -> ToolError {
    error(ToolErrorCode::Failed, message)
}

fn error(code: ToolErrorCode, message: String) -> ToolError {
    ToolError { code, message }
}

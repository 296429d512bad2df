//! A connection to one server, from its handshake until either side hangs up.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::model::{ErrorCode, ProtocolVersion};
use rmcp::service::{ClientInitializeError, Peer, RoleClient, RunningService, ServiceError};
use rmcp::transport::Transport;
use rmcp::{ClientCacheConfig, ClientLifecycleMode, serve_client_with_lifecycle};

use super::client::Client;
use super::http::Endpoint;
use super::process::{Launch, Process};
use super::stdio::Stdio;
use super::{error, failed, scan};
use crate::tools::{ToolError, ToolErrorCode};

/// A server that can be started or connected to, again and again.
pub struct Target {
    pub name: String,
    pub reach: Reach,
    /// Until it has shaken hands, and until it has listed its tools.
    pub start_timeout: Duration,
}

pub enum Reach {
    Stdio(Launch),
    Http(Endpoint),
}

/// A connection on which hands were shaken. Dropping it hangs up, and ends the
/// process on the other side.
pub struct Connection {
    name: String,
    client: Client,
    service: RunningService<RoleClient, Client>,
    process: Option<Process>,
    over: Arc<AtomicBool>,
}

/// Why hands were not shaken.
struct Refusal {
    why: String,
    /// The server answered, but not to this way of shaking hands.
    is_answer: bool,
}

impl Target {
    /// How the server is reached, as it is written. Agents do not get to see it.
    pub fn place(&self) -> &str {
        match &self.reach {
            Reach::Stdio(launch) => &launch.shown,
            Reach::Http(endpoint) => &endpoint.shown,
        }
    }
}

impl Connection {
    /// Starts or reaches the server. The error ends the sentence that begins with
    /// the server's name.
    pub async fn open(target: &Target) -> Result<Self, String> {
        let refusal = match Self::attempt(target, ClientLifecycleMode::Initialize).await {
            Ok(connection) => return Ok(connection),
            Err(refusal) => refusal,
        };
        if refusal.is_answer {
            // A server of the newest protocol alone knows no `initialize`.
            let preferred_versions = vec![ProtocolVersion::LATEST];
            let discover = ClientLifecycleMode::Discover { preferred_versions };
            if let Ok(connection) = Self::attempt(target, discover).await {
                return Ok(connection);
            }
        }
        Err(refusal.why)
    }

    async fn attempt(target: &Target, mode: ClientLifecycleMode) -> Result<Self, Refusal> {
        let (name, time) = (&target.name, target.start_timeout);
        let (client, over) = (Client::default(), Arc::new(AtomicBool::new(false)));
        let refused = |why: String| Refusal { why, is_answer: false };
        let (service, process) = match &target.reach {
            Reach::Stdio(launch) => {
                let started = launch.start(name);
                let (process, stdin, stdout) =
                    started.map_err(|cause| refused(format!("cannot be started: {cause}")))?;
                let stdio = Stdio::new(stdin, stdout, process.exited(), Arc::clone(&over));
                match shake_hands(&client, stdio, mode, time).await {
                    Ok(service) => (service, Some(process)),
                    Err(Refusal { why, is_answer }) => {
                        let why = why + &process.last_words().await;
                        return Err(Refusal { why, is_answer });
                    }
                }
            }
            Reach::Http(endpoint) => {
                let transport = endpoint.transport().map_err(refused)?;
                (shake_hands(&client, transport, mode, time).await?, None)
            }
        };
        // What is kept of answers is kept by whoever asks.
        service.peer().set_response_cache_config(ClientCacheConfig::disabled()).await;
        Ok(Self { name: name.clone(), client, service, process, over })
    }

    pub fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the next call needs another connection.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.peer().is_transport_closed()
    }

    /// Waits for an answer as long as a server may take to start.
    pub async fn within<T>(
        &self,
        time: Duration,
        answer: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let late = |_| Err(format!("it took longer than {} ms", time.as_millis()));
        tokio::time::timeout(time, answer).await.unwrap_or_else(late)
    }

    /// What a guest is told of a request that came to nothing.
    pub async fn explain(&self, cause: ServiceError) -> ToolError {
        let name = &self.name;
        match cause {
            ServiceError::McpError(cause) if scan::is_too_large(&cause) => {
                error(ToolErrorCode::TooLarge, cause.message.into_owned())
            }
            ServiceError::McpError(cause) if scan::is_malformed(&cause) => {
                failed(format!("`{name}`: {}", cause.message))
            }
            ServiceError::McpError(cause) if cause.code == ErrorCode::INVALID_PARAMS => {
                let message = format!("`{name}` refuses the arguments: {}", cause.message);
                error(ToolErrorCode::InvalidArguments, message)
            }
            ServiceError::McpError(cause) => {
                failed(format!("`{name}` answers with an error: {}", cause.message))
            }
            ServiceError::TransportClosed => {
                self.over.store(true, Ordering::Relaxed);
                failed(format!("the MCP server `{name}` hung up{}", self.last_words().await))
            }
            ServiceError::TransportSend(cause) => {
                self.over.store(true, Ordering::Relaxed);
                let (why, words) = (root(cause.error.as_ref()), self.last_words().await);
                failed(format!("the MCP server `{name}` cannot be reached: {why}{words}"))
            }
            ServiceError::UnexpectedResponse => {
                failed(format!("`{name}` answers in a form that is not known"))
            }
            other => failed(format!("`{name}`: {other}")),
        }
    }

    async fn last_words(&self) -> String {
        match &self.process {
            Some(process) => process.last_words().await,
            None => String::new(),
        }
    }
}

/// The handshake. A refusal's words follow the name of the server.
async fn shake_hands<T>(
    client: &Client,
    transport: T,
    mode: ClientLifecycleMode,
    time: Duration,
) -> Result<RunningService<RoleClient, Client>, Refusal>
where
    T: Transport<RoleClient> + 'static,
{
    let hands = serve_client_with_lifecycle(client.clone(), transport, mode);
    let cause = match tokio::time::timeout(time, hands).await {
        Ok(Ok(service)) => return Ok(service),
        Ok(Err(cause)) => cause,
        Err(_) => {
            let why = format!("did not answer within {} ms", time.as_millis());
            return Err(Refusal { why, is_answer: false });
        }
    };
    let is_answer = matches!(cause, ClientInitializeError::JsonRpcError(_));
    let why = match cause {
        ClientInitializeError::ConnectionClosed(_) => "hung up before it answered".to_owned(),
        ClientInitializeError::JsonRpcError(cause) => {
            format!("refused to start: {}", cause.message)
        }
        ClientInitializeError::TransportError { error, .. } => {
            format!("cannot be reached: {}", root(error.error.as_ref()))
        }
        ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
            "speaks no version of MCP that is known here".to_owned()
        }
        _ => "does not answer as an MCP server does".to_owned(),
    };
    Err(Refusal { why, is_answer })
}

/// The error with its causes: an error of HTTP alone says little.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

//! `http.fetch` and `http.get` against real servers on this machine.

mod fetching;
mod limits;
mod reach;
mod rebinding;
mod runs;
mod secrets;
pub mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use reenact::journal::{Answer, ToolOutput};
use reenact::tools::http::{Http, Lookup};
use reenact::tools::{
    Budget, Call, Catalogue, Grant, Opening, Provider, RunTools, ToolError, ToolErrorCode,
    ToolLimits, Vault,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// A request as a server saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

type AllSeen = Arc<Mutex<Vec<Seen>>>;

/// A server on a free port. It ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    seen: AllSeen,
    tasks: Vec<AbortHandle>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn note(State(seen): State<AllSeen>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    seen.lock().unwrap().push(Seen {
        method: head.method.to_string(),
        path: head.uri.path_and_query().unwrap().to_string(),
        version: head.version,
        headers: head.headers.clone(),
        body: body.clone(),
    });
    next.run(Request::from_parts(head, body.into())).await
}

/// `router`, with everything noted that comes in.
fn noting(router: Router, seen: &AllSeen) -> Router {
    router.layer(from_fn_with_state(seen.clone(), note))
}

impl Server {
    pub async fn start(router: Router) -> Self {
        Self::at("127.0.0.1:0", router).await
    }

    pub async fn at(place: &str, router: Router) -> Self {
        let listener = TcpListener::bind(place).await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), AllSeen::default());
        let router = noting(router, &seen);
        let task = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { address, seen, tasks: vec![task.abort_handle()] }
    }

    /// A server that does with every connection what the test says.
    pub async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                tokio::spawn(serve(listener.accept().await.unwrap().0));
            }
        });
        Self { address, seen: AllSeen::default(), tasks: vec![task.abort_handle()] }
    }

    /// As a list of hosts names it.
    pub fn entry(&self) -> String {
        self.address.to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that came in so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// What came in, as `METHOD PATH`.
    pub fn log(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }
}

/// The tools of one agent, as the call of a run has them.
pub struct Agent(RunTools);

fn table(text: &str) -> Grant {
    Grant::Table { table: text.parse().unwrap(), file: PathBuf::from("/none/reenact.toml") }
}

fn limits() -> ToolLimits {
    ToolLimits { argument_bytes: 1 << 20, answer_bytes: 4 << 20, timeout: Duration::from_secs(60) }
}

impl Agent {
    /// An agent that needs these hosts, where `[grants.http]` holds `grant`.
    pub async fn with(grant: &str, needs: &[&str]) -> Self {
        Self::of(table(grant), json!({ "hosts": needs }), Vault::default()).await
    }

    /// An agent that needs and is granted exactly these servers.
    pub async fn of_servers(servers: &[&Server]) -> Self {
        let entries: Vec<String> = servers.iter().map(|server| server.entry()).collect();
        let needs: Vec<&str> = entries.iter().map(String::as_str).collect();
        Self::with(&format!("hosts = {needs:?}"), &needs).await
    }

    pub async fn of(grant: Grant, needs: Value, vault: Vault) -> Self {
        let grants = BTreeMap::from([("http".to_owned(), grant)]);
        let catalogue = Catalogue::open(&grants, vault, &|_| true).await.unwrap();
        Self::from(catalogue, needs)
    }

    /// The same, with names that lead where `lookup` says.
    pub fn looking_up(grant: &str, needs: &[&str], lookup: Arc<dyn Lookup>) -> Self {
        let opening = Opening { vault: &Vault::default(), wanted: &|_| true };
        let http: Arc<dyn Provider> =
            Arc::new(Http::open(&table(grant), &opening, lookup).unwrap());
        let catalogue = Catalogue::of(BTreeMap::from([("http".to_owned(), http)])).unwrap();
        Self::from(catalogue, json!({ "hosts": needs }))
    }

    fn from(catalogue: Catalogue, needs: Value) -> Self {
        let tools = catalogue.for_run(|_| true, limits());
        let needs = [("http".to_owned(), needs)].into_iter().collect();
        Self(tools.with_needs(needs))
    }

    /// Calls a tool; answers all that came of it.
    pub async fn call(&self, tool: &str, arguments: Value) -> Result<ToolOutput, ToolError> {
        let call = Call {
            key: "run/7".to_owned(),
            name: tool,
            arguments: &arguments.to_string(),
            budget: Budget::UNLIMITED,
        };
        match self.0.call(call).await.answer {
            Answer::Ok(output) => Ok(output),
            Answer::Error(error) => Err(error),
        }
    }

    /// Fetches what must be answered.
    pub async fn fetch(&self, arguments: Value) -> Value {
        match self.call("http.fetch", arguments.clone()).await {
            Ok(output) => output.content.to_value(),
            Err(error) => panic!("{arguments}: {error:?}"),
        }
    }

    pub async fn get(&self, url: &str) -> Value {
        self.fetch(json!({ "url": url })).await
    }

    /// Fetches what must not be answered.
    pub async fn fails(&self, arguments: Value) -> (ToolErrorCode, String) {
        match self.call("http.fetch", arguments.clone()).await {
            Ok(output) => panic!("{arguments}: {}", output.content.as_str()),
            Err(error) => (error.code, error.message),
        }
    }

    /// Gets what must be denied; answers why.
    pub async fn denied(&self, url: &str) -> String {
        let (code, why) = self.fails(json!({ "url": url })).await;
        assert_eq!(code, ToolErrorCode::Denied, "{url}: {why}");
        why
    }
}

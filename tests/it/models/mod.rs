//! Servers that speak the model providers' own wire formats, written from the
//! documentation of their APIs. Each does what its script says, keeps what it was
//! asked, and refuses what the real API would refuse.

mod anthropic;
mod gemini;
mod ollama;
mod openai;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use serde_json::Value;
use tokio::sync::oneshot;

pub use anthropic::Anthropic;
pub use gemini::Gemini;
pub use ollama::Ollama;
pub use openai::OpenAi;

/// What a model says. The parts that are there come in this order.
#[derive(Debug, Clone, Default)]
pub struct Says {
    pub thoughts: Vec<String>,
    pub text: Vec<String>,
    /// Id, name and arguments of each call; the arguments are the model's own text.
    pub calls: Vec<(String, String, String)>,
    /// It ran into `max_tokens`.
    pub is_cut: bool,
    /// Input and output.
    pub tokens: Option<(u64, u64)>,
}

/// What a server does with one request.
#[derive(Debug, Clone)]
pub enum Reply {
    Says(Says),
    /// Status, a header if any, and the message in the API's form of an error.
    Refuses(u16, Option<(&'static str, String)>, String),
    /// Refuses the key, and quotes it.
    RefusesKey,
    /// Says the key it was given.
    EchoesKey,
    /// Begins to say it, then drops the connection.
    Drops(Says),
    /// Begins to say it, then ends the stream as if all were well.
    Ends(Says),
    /// Begins to say it, then sends the API's form of an error in the stream.
    Fails(Says, String),
    /// Says it, piece by piece, with a pause after each.
    Slowly(Says, Duration),
    /// Takes the request and never answers.
    Hangs,
    /// These bytes, again and again.
    Endless(StatusCode, String),
    Raw(&'static str, String),
}

/// A provider's API.
pub trait Wire: Send + Sync + 'static {
    /// What the operator calls the adapter.
    fn name(&self) -> &'static str;
    /// Where below the server's address the API begins.
    fn base(&self) -> &'static str;
    fn content_type(&self) -> &'static str;
    /// The key that a request brings.
    fn key(&self, headers: &HeaderMap) -> Option<String>;
    /// Why the API refuses a request, in its documentation's terms.
    fn refuses(&self, asked: &Asked) -> Option<String>;
    /// A whole stream, in pieces.
    fn stream(&self, says: &Says) -> Vec<String>;
    /// The body of an error.
    fn error(&self, status: u16, message: &str) -> String;
    /// An error within a stream.
    fn error_event(&self, message: &str) -> String;
}

/// A request that a server got.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

/// A running server; it is gone when this is dropped.
pub struct Server {
    pub wire: Arc<dyn Wire>,
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    wire: Arc<dyn Wire>,
    script: Mutex<VecDeque<Reply>>,
    asked: Mutex<Vec<Asked>>,
    /// Answers that somebody still reads.
    under_way: Arc<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// The last reply stands for all that follow.
    pub fn start(wire: impl Wire, script: impl IntoIterator<Item = Reply>) -> Self {
        let wire: Arc<dyn Wire> = Arc::new(wire);
        let shared = Arc::new(Shared {
            wire: wire.clone(),
            script: Mutex::new(script.into_iter().collect()),
            asked: Mutex::default(),
            under_way: Arc::default(),
        });
        let app = axum::Router::new().fallback(answer).with_state(shared.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, address) = std::sync::mpsc::channel();
        // A thread of its own, so that a test can wait for the program meanwhile.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv().unwrap();
        Self { wire, address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// The table of this server in `[grants.model.providers]`.
    pub fn provider(&self) -> String {
        let (name, base) = (self.wire.name(), self.wire.base());
        format!(
            "[grants.model.providers.{name}]\nbase_url = 'http://{}{base}'\nkey = 'CANARY'\n",
            self.address
        )
    }

    /// Goes on with another script.
    pub fn script(&self, script: impl IntoIterator<Item = Reply>) -> &Self {
        *lock(&self.shared.script) = script.into_iter().collect();
        self
    }

    /// The piece of a stream that brings a line of text.
    pub fn line_of_text(&self) -> String {
        let text = "and on ".repeat(50);
        let stream = self.wire.stream(&Says::text(&[&text]));
        stream.into_iter().find(|piece| piece.contains(&text)).unwrap()
    }

    /// How often it was asked.
    pub fn times(&self) -> usize {
        lock(&self.shared.asked).len()
    }

    pub fn last(&self) -> Asked {
        lock(&self.shared.asked).last().expect("nobody asked").clone()
    }

    /// Waits until nobody reads an answer.
    pub async fn is_left_alone(&self) {
        for _ in 0..500 {
            if Arc::strong_count(&self.shared.under_way) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("somebody still reads");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(|thread| thread.join());
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let asked = Asked {
        path: parts.uri.path_and_query().unwrap().as_str().to_owned(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    lock(&shared.asked).push(asked.clone());
    let wire = &*shared.wire;
    if let Some(why) = wire.refuses(&asked) {
        return refusal(wire, 400, None, &why);
    }
    let reply = {
        let mut script = lock(&shared.script);
        if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
    };
    let key = wire.key(&asked.headers).unwrap_or_else(|| "no key".to_owned());
    let reading = shared.under_way.clone();
    let pieces = match reply.expect("the script has a reply") {
        Reply::Says(says) => whole(wire.stream(&says)),
        Reply::EchoesKey => {
            let text = vec!["Your key is ".to_owned(), key, ".".to_owned()];
            whole(wire.stream(&Says { text, tokens: Some((1, 1)), ..Says::default() }))
        }
        Reply::Refuses(status, header, message) => return refusal(wire, status, header, &message),
        Reply::RefusesKey => {
            return refusal(wire, 401, None, &format!("Incorrect API key provided: {key}."));
        }
        Reply::Drops(says) => {
            // What is sent together with the end would not leave the server at all.
            let end = stream::once(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(())
            });
            whole(begin(wire, &says)).chain(end).boxed()
        }
        Reply::Ends(says) => whole(begin(wire, &says)),
        Reply::Fails(says, message) => {
            let mut pieces = begin(wire, &says);
            pieces.push(wire.error_event(&message));
            whole(pieces)
        }
        Reply::Slowly(says, pause) => whole(wire.stream(&says))
            .then(move |piece| async move {
                tokio::time::sleep(pause).await;
                piece
            })
            .boxed(),
        Reply::Hangs => stream::once(std::future::pending::<Result<String, ()>>()).boxed(),
        Reply::Endless(status, piece) => {
            let piece = Bytes::from(piece.repeat(64 * 1024 / piece.len()));
            let pieces = stream::repeat(piece).map(Ok::<_, Infallible>);
            return respond(wire, status, Body::from_stream(pieces));
        }
        Reply::Raw(content_type, body) => {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert("content-type", content_type.parse().unwrap());
            return response;
        }
    };
    let pieces = pieces.map(move |piece| {
        let _reading = &reading;
        piece.map(Bytes::from).map_err(|()| std::io::Error::other("dropped"))
    });
    respond(wire, StatusCode::OK, Body::from_stream(pieces))
}

fn whole(pieces: Vec<String>) -> BoxStream<'static, Result<String, ()>> {
    stream::iter(pieces).map(Ok).boxed()
}

/// The stream without what tells its end.
fn begin(wire: &dyn Wire, says: &Says) -> Vec<String> {
    let said = wire.stream(says);
    // All but the last text is followed by text, in every format.
    let texts = says.text.len() + says.thoughts.len();
    let last = says.text.last().map_or("", String::as_str);
    let end = said.iter().rposition(|piece| texts > 0 && piece.contains(last)).unwrap_or(0);
    said[..=end].to_vec()
}

fn respond(wire: &dyn Wire, status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", wire.content_type().parse().unwrap());
    response
}

fn refusal(
    wire: &dyn Wire,
    status: u16,
    header: Option<(&'static str, String)>,
    message: &str,
) -> Response {
    let mut response = Response::new(Body::from(wire.error(status, message)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    if let Some((name, value)) = header {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// A header's text.
fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Whether a name fits what all APIs document for functions.
fn is_function_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// An event of a stream of server-sent events.
fn event(name: Option<&str>, data: &Value) -> String {
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    format!("{name}data: {data}\n\n")
}

impl Says {
    pub fn text(pieces: &[&str]) -> Self {
        let text = pieces.iter().map(|piece| piece.to_string()).collect();
        Self { text, tokens: Some((12, 3)), ..Self::default() }
    }

    pub fn calls(calls: &[(&str, &str, &str)]) -> Self {
        let own = |text: &str| text.to_owned();
        let calls = calls.iter().map(|(id, name, args)| (own(id), own(name), own(args)));
        Self { calls: calls.collect(), tokens: Some((20, 7)), ..Self::default() }
    }
}

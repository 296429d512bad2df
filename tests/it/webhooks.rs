//! Webhooks, sent to real receivers on this machine.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body as AnswerBody, Bytes};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Redirect};
use axum::routing::post;
use reenact::config::{Config, Hook};
use reenact::journal::{
    Body, Chain, Content, Ended, Entry, ErrorCode, FORMAT, Fingerprint, Outcome, Output, RunError,
    Started, Used,
};
use reenact::json::Json;
use reenact::revision::{Digest, Limits, SomeLimits};
use reenact::runtime::{now, run_id};
use reenact::service::webhooks::{Pace, Webhooks};
use reenact::storage::{DeliveryFilter, DeliveryRow, DeliveryState, Ending, NewRun, Storage};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::http::{Seen, Server};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A home with a database and a configuration.
struct Post {
    folder: TempDir,
    hooks: Vec<Hook>,
}

impl Post {
    fn with_secret(secret: &str, url: &str) -> Self {
        Self::new(secret, &[(url, "")])
    }

    /// Told are these URLs, each with more lines of its table.
    fn to(hooks: &[(&str, &str)]) -> Self {
        Self::new(SECRET, hooks)
    }

    fn new(secret: &str, hooks: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tables = hooks.iter().map(|(url, more)| {
            format!("[[webhooks]]\nurl = '{url}'\nsecret = '${{HOOK}}'\n{more}\n")
        });
        let text = tables.collect::<String>() + &format!("[secrets]\nHOOK = '{secret}'\n");
        let file = folder.path().join("reenact.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file, true).unwrap();
        let hooks = config.hooks(&config.vault()).unwrap();
        Self { folder, hooks }
    }

    fn storage(&self) -> Storage {
        Storage::open(&self.database()).unwrap()
    }

    fn database(&self) -> std::path::PathBuf {
        self.folder.path().join("reenact.db")
    }

    /// Starts to send, and returns when the hooks are known.
    async fn sends(&self, pace: Pace) -> Sending {
        let (stop, stopped) = oneshot::channel::<()>();
        let webhooks = Webhooks::open(self.storage(), self.hooks.clone(), pace).await.unwrap();
        let task = tokio::spawn(webhooks.send(async { drop(stopped.await) }));
        Sending { stop, task }
    }
}

struct Sending {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Sending {
    async fn stops(self) {
        drop(self.stop);
        tokio::time::timeout(Duration::from_secs(10), self.task).await.unwrap().unwrap();
    }
}

/// A hurry that no receiver outside of a test is in.
fn hasty(retries: usize) -> Pace {
    let poll = Duration::from_millis(20);
    let timeout = Duration::from_millis(400);
    Pace { poll, timeout, waits: vec![Duration::from_millis(50); retries] }
}

/// A run of `agent` that ends at once.
async fn ends(storage: &Storage, agent: &str, outcome: Outcome) -> String {
    let (run, at, revision) = (run_id(), now(), Digest::of(b"revision"));
    let started = Started {
        format: FORMAT,
        run: run.clone(),
        agent: agent.to_owned(),
        revision,
        input: Json::from_value(&json!({ "topic": "otters" })),
        seed: String::new(),
        limits: Limits::effective(&SomeLimits::default(), &SomeLimits::default()),
        tools: vec![],
        engine: Fingerprint {
            wasmtime: String::new(),
            arch: String::new(),
            stack_bytes: 0,
            yield_fuel: 0,
            hostcall_bytes: 0,
        },
        fork: None,
    };
    let code = match &outcome {
        Outcome::Done(_) => None,
        Outcome::Error(error) => Some(error.code.as_str()),
    };
    let ended = Ended { outcome, used: Used::default(), interrupted_at: None };
    let mut chain = Chain::default();
    let mut entry = |seq, body| chain.push(&Entry { seq, at, fuel: seq * 10, body });
    let first = entry(0, Body::Started(Box::new(started)));
    let last = entry(1, Body::Ended(Box::new(ended)));
    let row = NewRun {
        id: run.clone(),
        agent: agent.to_owned(),
        revision,
        created_at: at,
        lease_until: at + 60_000_000,
        pending: false,
    };
    let appender = storage.create_run(row, first, None).await.unwrap();
    appender.push(last, 10, at);
    let ending = code.map_or(Ending::Done, Ending::Error);
    appender.finish(ending, 10, at).await.unwrap();
    run
}

fn done() -> Outcome {
    let content = Content::Document("# Otters".to_owned());
    Outcome::Done(Output { content, sources: vec![] })
}

fn failed() -> Outcome {
    Outcome::Error(RunError::new(ErrorCode::AgentFailure, "no otters".to_owned()))
}

/// A receiver that answers the first of these, then the next, and the last for ever.
async fn receiver(answers: &'static [StatusCode]) -> Server {
    let count = Arc::new(AtomicUsize::new(0));
    let answer = move || {
        let nth = count.fetch_add(1, Ordering::Relaxed);
        std::future::ready(answers[nth.min(answers.len() - 1)])
    };
    Server::start(Router::new().route("/hook", post(answer))).await
}

/// Neither answers nor lets go.
async fn holds_on(socket: TcpStream) {
    let _socket = socket;
    std::future::pending::<()>().await;
}

async fn eventually<T>(mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = found() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not come about");
}

/// What came in, once there are so many.
async fn comes(server: &Server, count: usize) -> Vec<Seen> {
    eventually(|| Some(server.seen()).filter(|seen| seen.len() >= count)).await
}

fn deliveries(storage: &Storage, state: Option<DeliveryState>) -> Vec<DeliveryRow> {
    storage.deliveries(&DeliveryFilter { state, run: None, limit: 100 }).unwrap()
}

async fn settles(storage: &Storage, state: DeliveryState) -> DeliveryRow {
    eventually(|| deliveries(storage, Some(state)).pop()).await
}

/// Checks a signature as a receiver does.
fn verifies(seen: &Seen) {
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let value = seen.header(name).unwrap().parse().unwrap();
        headers.insert(HeaderName::from_static(name), value);
    }
    Webhook::new(SECRET).unwrap().verify(&seen.body, &headers).unwrap();
    assert!(Webhook::new(SECRET).unwrap().verify(b"{}", &headers).is_err());
}

fn json_of(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

#[tokio::test]
async fn the_end_of_a_run_is_told_with_the_run_and_a_signature() {
    let server = receiver(&[StatusCode::NO_CONTENT]).await;
    let post = Post::to(&[(&server.url("/hook"), "")]);
    let sending = post.sends(Pace::default()).await;
    let storage = post.storage();
    let run = ends(&storage, "clerk", done()).await;
    let seen = comes(&server, 1).await.remove(0);
    verifies(&seen);
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("webhook-id").unwrap(), format!("msg_{run}_run_done"));
    let message = json_of(&seen);
    assert_eq!(message["type"], "run.done");
    assert_eq!(message["timestamp"], message["data"]["updatedAt"]);
    assert_eq!(message["data"]["id"], run);
    assert_eq!(message["data"]["status"], "done");
    assert_eq!(message["data"]["input"], json!({ "topic": "otters" }));
    assert_eq!(message["data"]["resultData"]["result"], "# Otters");
    let delivered = settles(&storage, DeliveryState::Delivered).await;
    assert_eq!((delivered.run, delivered.attempts, delivered.error), (run, 1, None));
    sending.stops().await;
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_changes_its_secret_can_check_with_either() {
    let server = receiver(&[StatusCode::OK]).await;
    let mut post = Post::to(&[(&server.url("/hook"), "")]);
    let other = Post::with_secret("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", &server.url("/hook"));
    post.hooks[0].keys.insert(0, other.hooks[0].keys[0].clone());
    let sending = post.sends(hasty(0)).await;
    ends(&post.storage(), "clerk", done()).await;
    let seen = comes(&server, 1).await.remove(0);
    verifies(&seen);
    assert_eq!(seen.header("webhook-signature").unwrap().split(' ').count(), 2);
    sending.stops().await;
}

#[tokio::test]
async fn a_receiver_that_fails_is_told_again_until_it_takes_the_message() {
    let server =
        receiver(&[StatusCode::INTERNAL_SERVER_ERROR, StatusCode::BAD_GATEWAY, StatusCode::OK])
            .await;
    let post = Post::to(&[(&server.url("/hook"), "")]);
    let sending = post.sends(hasty(5)).await;
    let storage = post.storage();
    ends(&storage, "clerk", failed()).await;
    let seen = comes(&server, 3).await;
    seen.iter().for_each(verifies);
    let ids: Vec<_> = seen.iter().map(|seen| seen.header("webhook-id").unwrap()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let message = json_of(&seen[2]);
    assert_eq!(message["type"], "run.error");
    let error = json!({ "code": "agent_failure", "message": "no otters" });
    assert_eq!(message["data"]["error"], error);
    assert_eq!(settles(&storage, DeliveryState::Delivered).await.attempts, 3);
    sending.stops().await;
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn what_nobody_took_is_told_after_a_restart() {
    let down = receiver(&[StatusCode::SERVICE_UNAVAILABLE]).await;
    let mut post = Post::to(&[(&down.url("/hook"), "")]);
    let sending = post.sends(hasty(100)).await;
    let run = ends(&post.storage(), "clerk", done()).await;
    comes(&down, 1).await;
    sending.stops().await;
    // The receiver is there again, and so is the sender.
    let up = receiver(&[StatusCode::OK]).await;
    post.hooks[0].url = up.url("/hook").parse().unwrap();
    let sending = post.sends(hasty(100)).await;
    let seen = comes(&up, 1).await.remove(0);
    verifies(&seen);
    assert_eq!(json_of(&seen)["data"]["id"], run);
    assert_eq!(seen.header("webhook-id"), down.seen()[0].header("webhook-id"));
    sending.stops().await;
}

#[tokio::test]
async fn runs_that_end_while_no_server_runs_are_told_by_the_next_one() {
    let server = receiver(&[StatusCode::OK]).await;
    let post = Post::to(&[(&server.url("/hook"), "")]);
    post.sends(hasty(1)).await.stops().await;
    // As a command line on the same home does it, which knows nothing of webhooks.
    let run = ends(&post.storage(), "clerk", done()).await;
    assert_eq!(deliveries(&post.storage(), None)[0].state, DeliveryState::Pending);
    let sending = post.sends(hasty(1)).await;
    assert_eq!(json_of(&comes(&server, 1).await[0])["data"]["id"], run);
    sending.stops().await;
}

#[tokio::test]
async fn a_hook_hears_only_of_what_it_asks_for() {
    let server = receiver(&[StatusCode::OK]).await;
    let router = |path: &str| server.url(path);
    let post = Post::to(&[
        (&router("/hook?clerk"), "agents = ['clerk', 'scribe']"),
        (&router("/hook?errors"), "events = ['run.error']"),
        (&router("/hook?neither"), "agents = ['scribe']\nevents = ['run.error']"),
    ]);
    let sending = post.sends(hasty(1)).await;
    let storage = post.storage();
    ends(&storage, "clerk", done()).await;
    ends(&storage, "otter", failed()).await;
    ends(&storage, "otter", done()).await;
    comes(&server, 2).await;
    sending.stops().await;
    let mut told: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| format!("{} {}", seen.path, json_of(seen)["data"]["agentId"]))
        .collect();
    told.sort();
    assert_eq!(told, ["/hook?clerk \"clerk\"", "/hook?errors \"otter\""]);
}

#[tokio::test]
async fn a_receiver_that_hangs_is_left_and_in_the_end_given_up() {
    let server = Server::raw(holds_on).await;
    let post = Post::to(&[(&server.url("/hook"), "")]);
    let sending = post.sends(hasty(1)).await;
    let storage = post.storage();
    let run = ends(&storage, "clerk", done()).await;
    let failed = settles(&storage, DeliveryState::Failed).await;
    assert_eq!((failed.run, failed.attempts), (run, 2));
    assert_eq!(failed.error.as_deref(), Some("it did not answer in time"));
    assert_eq!(failed.origin, server.url(""));
    sending.stops().await;
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_told_apart_from_one_that_refuses() {
    let post = Post::to(&[("http://user:hush@127.0.0.1:9/hook?token=hush", "")]);
    let sending = post.sends(hasty(0)).await;
    let storage = post.storage();
    ends(&storage, "clerk", done()).await;
    let error = settles(&storage, DeliveryState::Failed).await.error.unwrap();
    assert!(error.starts_with("cannot connect: Connection refused"), "{error}");
    assert!(!error.contains("hush"), "{error}");
    sending.stops().await;
}

#[tokio::test]
async fn a_receiver_that_answers_without_end_occupies_nobody() {
    let endless = |status: StatusCode| async move {
        let more = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from("na ")));
        (status, AnswerBody::from_stream(more)).into_response()
    };
    let router = Router::new()
        .route("/good", post(move || endless(StatusCode::OK)))
        .route("/bad", post(move || endless(StatusCode::IM_A_TEAPOT)));
    let server = Server::start(router).await;
    let post = Post::to(&[(&server.url("/good"), ""), (&server.url("/bad"), "")]);
    let sending = post.sends(hasty(0)).await;
    let storage = post.storage();
    ends(&storage, "clerk", done()).await;
    settles(&storage, DeliveryState::Delivered).await;
    let error = settles(&storage, DeliveryState::Failed).await.error.unwrap();
    assert!(error.starts_with("it answered `418 I'm a teapot`: na na na "), "{error}");
    assert!(error.len() < 400, "{error}");
    sending.stops().await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_hears_nothing_more_until_the_next_start() {
    let server = receiver(&[StatusCode::GONE, StatusCode::OK]).await;
    let post = Post::to(&[(&server.url("/hook"), "")]);
    let sending = post.sends(hasty(5)).await;
    let storage = post.storage();
    ends(&storage, "clerk", done()).await;
    let error = settles(&storage, DeliveryState::Failed).await.error;
    assert_eq!(error.as_deref(), Some("it answered `410 Gone`"));
    ends(&storage, "clerk", done()).await;
    assert_eq!(deliveries(&storage, None).len(), 1);
    sending.stops().await;
    let sending = post.sends(hasty(5)).await;
    ends(&storage, "clerk", done()).await;
    settles(&storage, DeliveryState::Delivered).await;
    sending.stops().await;
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_redirect_is_a_failure() {
    let to = receiver(&[StatusCode::OK]).await;
    let elsewhere = to.url("/hook");
    let redirect = move || std::future::ready(Redirect::temporary(&elsewhere));
    let server = Server::start(Router::new().route("/hook", post(redirect))).await;
    let post = Post::to(&[(&server.url("/hook"), "")]);
    let sending = post.sends(hasty(0)).await;
    let storage = post.storage();
    ends(&storage, "clerk", done()).await;
    let error = settles(&storage, DeliveryState::Failed).await.error.unwrap();
    assert_eq!(error, "it answered `307 Temporary Redirect`");
    sending.stops().await;
    assert!(to.seen().is_empty());
}

#[tokio::test]
async fn a_receiver_can_ask_for_time() {
    let answer = || std::future::ready((StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3600")]));
    let server = Server::start(Router::new().route("/hook", post(answer))).await;
    let post = Post::to(&[(&server.url("/hook"), "")]);
    let sending = post.sends(hasty(5)).await;
    let storage = post.storage();
    ends(&storage, "clerk", done()).await;
    let waiting = eventually(|| {
        deliveries(&storage, Some(DeliveryState::Pending)).pop().filter(|row| row.error.is_some())
    })
    .await;
    assert!(waiting.at > now() + 3_500 * 1_000_000, "{waiting:?}");
    sending.stops().await;
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn two_servers_on_one_home_share_the_work() {
    let server = receiver(&[StatusCode::OK]).await;
    let post = Post::to(&[(&server.url("/hook"), "")]);
    let (one, other) = (post.sends(hasty(3)).await, post.sends(hasty(3)).await);
    let storage = post.storage();
    for _ in 0..30 {
        ends(&storage, "clerk", done()).await;
    }
    eventually(|| {
        let sent = deliveries(&storage, Some(DeliveryState::Delivered)).len();
        (sent == 30).then_some(())
    })
    .await;
    one.stops().await;
    other.stops().await;
    assert_eq!(server.seen().len(), 30);
}

#[tokio::test]
async fn a_burst_of_ends_is_told_in_seconds() {
    let server = receiver(&[StatusCode::OK]).await;
    let post = Post::to(&[(&server.url("/hook"), "")]);
    let sending = post.sends(hasty(3)).await;
    let storage = post.storage();
    futures::future::join_all((0..1_000).map(|_| ends(&storage, "clerk", done()))).await;
    let start = Instant::now();
    comes(&server, 1_000).await;
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    sending.stops().await;
    assert_eq!(server.seen().len(), 1_000);
}

#[tokio::test]
async fn a_receiver_that_is_slow_does_not_keep_others_waiting() {
    let slow = Server::raw(holds_on).await;
    let quick = receiver(&[StatusCode::OK]).await;
    let post = Post::to(&[(&slow.url("/hook"), ""), (&quick.url("/hook"), "")]);
    let pace = Pace { timeout: Duration::from_secs(60), ..hasty(0) };
    let sending = post.sends(pace).await;
    let storage = post.storage();
    for _ in 0..10 {
        ends(&storage, "clerk", done()).await;
    }
    comes(&quick, 10).await;
    // Who stops does not wait for a receiver either.
    sending.stops().await;
}

#[tokio::test]
async fn the_database_holds_no_secret() {
    let server = receiver(&[StatusCode::INTERNAL_SERVER_ERROR]).await;
    let url = server.url("/hook").replace("http://", "http://user:hush-hush@");
    let post = Post::to(&[(&format!("{url}?token=very-secret"), "")]);
    let sending = post.sends(hasty(0)).await;
    let storage = post.storage();
    ends(&storage, "clerk", done()).await;
    settles(&storage, DeliveryState::Failed).await;
    sending.stops().await;
    drop(storage);
    let bytes = std::fs::read(post.database()).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("http://127.0.0.1"), "the origin is there");
    for secret in [&SECRET[6..], "very-secret", "hush-hush"] {
        assert!(!holds(secret), "{secret}");
    }
}

#[test]
fn an_unknown_secret_is_an_error_that_says_where_to_put_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("reenact.toml");
    let table = "[[webhooks]]\nurl = 'https://example.org/'\nsecret = '${REENACT_NO_SUCH_HOOK}'";
    std::fs::write(&file, table).unwrap();
    let config = Config::load(Path::new(&file), true).unwrap();
    let error = config.hooks(&config.vault()).unwrap_err();
    let path = file.display();
    assert_eq!(
        error.to_string(),
        format!(
            "`{path}`: webhook 1 has a `secret` for which there is no secret `REENACT_NO_SUCH_HOOK`: neither `[secrets]` nor the environment has it"
        )
    );
    let hint = format!("name it in `[secrets]` of `{path}`, or set the variable of that name");
    assert_eq!(error.hint(), Some(hint));
}

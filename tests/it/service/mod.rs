//! The service as its clients have it: the real program, over HTTP.

mod api;
mod at_once;
mod bad_requests;
mod contract;
mod keys;
mod killed;
mod load;
mod parked;
mod streams;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Home, guest, resealed};

/// Longer than anything takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// `reenact serve` on a home, until it is stopped, killed or dropped.
pub struct Server {
    child: Child,
    pub url: String,
    client: Client,
    /// Deleted with the server, if nobody else has it.
    home: Option<Home>,
    log: Mutex<Option<std::thread::JoinHandle<String>>>,
}

/// What the server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub json: Value,
}

impl Server {
    pub fn on(home: &Home) -> Self {
        Self::at(home, "127.0.0.1:0")
    }

    /// Serves a home that nobody else needs.
    pub fn keeping(home: Home) -> Self {
        let mut server = Self::on(&home);
        server.home = Some(home);
        server
    }

    /// Serves at this address.
    pub fn at(home: &Home, address: &str) -> Self {
        Self::with(home, address, &[])
    }

    /// Serves with more on the command line.
    pub fn with(home: &Home, address: &str, args: &[&str]) -> Self {
        let mut command = home.command(&["serve", "--listen", address]);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = collect(child.stderr.take().unwrap());
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let Some((_, url)) = line.trim().split_once("listening on ") else {
            let _ = child.kill();
            panic!("it did not start: {line} {}", log.join().unwrap());
        };
        let url = url.to_owned();
        let log = Mutex::new(Some(log));
        Self { child, url, client: Client::new(), home: None, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that it has.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// Ends it the hard way.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop, and waits until it has; answers how it exited and what it logged.
    pub fn stop(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        let told = std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(told.success());
        let code = self.child.wait().unwrap().code();
        let log = self.log.lock().unwrap().take().unwrap();
        (code, log.join().unwrap())
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        answer(self.request(Method::POST, path).json(&body)).await
    }

    /// Starts a run; answers its id.
    pub async fn starts(&self, agent: &str, input: Value) -> String {
        let body = json!({ "input": input });
        let answer = self.post(&format!("/v0.1/agents/{agent}/runs"), body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:#?}");
        answer.json["id"].as_str().unwrap().to_owned()
    }

    pub async fn run(&self, run: &str) -> Value {
        let answer = self.get(&format!("/v0.1/runs/{run}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:#?}");
        answer.json
    }

    /// Waits until a run has ended.
    pub async fn ended(&self, run: &str) -> Value {
        self.run_that(run, |run| run["status"] == "done" || run["status"] == "error").await
    }

    /// Waits until a run is as it should be.
    pub async fn run_that(&self, run: &str, is: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let found = self.run(run).await;
            if is(&found) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{found:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Insists on a replay that proves the run.
    pub async fn proves(&self, run: &str) {
        let proof = self.request(Method::POST, &format!("/v0.1/runs/{run}/replay"));
        let proof = answer(proof).await;
        assert_eq!(
            (proof.status, &proof.json["same"]),
            (StatusCode::OK, &json!(true)),
            "{proof:#?}"
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.home.take());
        if let (true, Some(log)) = (std::thread::panicking(), self.log.lock().unwrap().take()) {
            eprintln!("the server's log:\n{}", log.join().unwrap());
        }
    }
}

/// Reads the log so that the server never waits for a reader.
fn collect(stderr: ChildStderr) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = BufReader::new(stderr).read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, headers, json }
}

impl Answer {
    /// Insists on a problem of this status and kind.
    pub fn is_problem(&self, status: u16, kind: &str) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{self:#?}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:#?}");
        assert_eq!(self.json["type"], format!("urn:reenact:problem:{kind}"), "{self:#?}");
        assert_eq!(self.json["status"], status);
        assert!(self.json["title"].is_string() && self.json["detail"].is_string(), "{self:#?}");
        self
    }
}

/// A home with the hostile guest and the smallest agent published.
pub fn home() -> Home {
    let home = Home::new();
    // A loop is to last until somebody ends it.
    home.publishes(&resealed(&guest("hostile"), |manifest| {
        manifest.limits.fuel = Some(1 << 50);
    }));
    home.publishes(&guest("minimal"));
    home
}

/// A home whose configuration says this.
pub fn configured(toml: &str) -> Home {
    let home = home();
    std::fs::write(home.path().join("reenact.toml"), toml).unwrap();
    home
}

/// What a command said that had to fail.
pub fn refusal(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

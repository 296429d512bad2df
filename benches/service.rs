//! The server under load, and the whole program: the real binary, over HTTP,
//! with keys on.
//!
//! `cargo bench --bench service` measures all rows, `-- NAME…` those of some
//! names: `http`, `command`, `home`, `waiting`, `loaded`. The environment says
//! how large they are:
//!
//! | variable | default | what |
//! | --- | --- | --- |
//! | `REENACT_BENCH_SECONDS` | 10 | how long each load lasts |
//! | `REENACT_BENCH_CONNECTIONS` | 64 | clients at once |
//! | `REENACT_BENCH_REVISIONS` | 10,000 | revisions in the large home |
//! | `REENACT_BENCH_RUNS` | 1,000,000 | runs in the large home |
//! | `REENACT_BENCH_WAITING` | 100,000 | runs that wait without a process |
//! | `REENACT_BENCH_LOADED` | 10,000 | guests that wait in memory |

mod common;

use std::fs;
use std::io::{BufRead, BufReader as Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use common::{Report, SHORT_RUN, guest, rate, scratch, time};

/// Whole processes that are timed.
const PROCESSES: usize = 30;

/// Lists that are timed.
const LISTS: usize = 200;

/// Agents among which the runs of the large home are dealt out.
const AGENTS: usize = 100;

/// Runs that the server takes beyond those that it may have loaded.
const QUEUE: usize = 100;

/// How long a server may do nothing of what is waited for before it will never do it.
const STANDSTILL: Duration = Duration::from_secs(20);

/// Longer than anything that is measured.
const LONG: u64 = 86_400;

fn main() {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let is_bench = names.iter().any(|name| name == "--bench");
    names.retain(|name| !name.starts_with("--"));
    if !is_bench {
        // Tests of all targets need it to compile, and no more.
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut report = Report::new();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    if wanted("http") {
        runtime.block_on(http(&mut report));
    }
    if wanted("command") {
        command(&mut report);
    }
    if wanted("home") {
        runtime.block_on(large_home(&mut report));
    }
    if wanted("waiting") {
        runtime.block_on(waiting(&mut report));
    }
    if wanted("loaded") {
        runtime.block_on(loaded(&mut report));
    }
    report.print();
}

/// Short runs from the request to their end: one after the other, then many at once.
async fn http(report: &mut Report) {
    let folder = scratch();
    let home = Home::new(folder.path(), "");
    let key = home.key();
    let server = Server::start(&home);
    let for_as_long = Duration::from_secs(size("SECONDS", 10) as u64);
    let connections = size("CONNECTIONS", 64);

    let begun = Instant::now();
    let mut client = server.client(&key).await;
    client.runs(SHORT_RUN).await;
    let mut took = Vec::new();
    while begun.elapsed() < for_as_long / 2 {
        let begun = Instant::now();
        client.runs(SHORT_RUN).await;
        took.push(begun.elapsed().as_secs_f64());
    }
    let (p50, p99) = (percentile(&mut took, 50), percentile(&mut took, 99));
    let figure = format!("p50 {}, p99 {}", time(p50), time(p99));
    report.row("run over HTTP, alone", &figure, "", None, "p50 ≤ 2 ms");

    let (begun, before) = (Instant::now(), server.used());
    let load = async || {
        let mut client = server.client(&key).await;
        let mut took = Vec::new();
        while begun.elapsed() < for_as_long {
            let begun = Instant::now();
            client.runs(SHORT_RUN).await;
            took.push(begun.elapsed().as_secs_f64());
        }
        took
    };
    let mut took = join_all((0..connections).map(|_| load())).await.concat();
    let elapsed = begun.elapsed().as_secs_f64();
    let each = elapsed / took.len() as f64;
    let (p50, p99) = (percentile(&mut took, 50), percentile(&mut took, 99));
    let what = format!("runs over HTTP, {connections} at once");
    let figure = format!("{}, p50 {}, p99 {}", rate(each), time(p50), time(p99));
    // What the clients take of the machine is not there for the server.
    let processor = (server.used() - before) / elapsed;
    let baseline = format!("{processor:.2} cores of the server's");
    report.row(&what, &figure, &baseline, None, "≥ 6,000/s");
}

/// The whole process of a run, from its start to its exit.
fn command(report: &mut Report) {
    let folder = scratch();
    let home = Home::new(folder.path(), "");
    let median = |args: &[&str]| {
        home.ok(args);
        let once = |_| {
            let begun = Instant::now();
            home.ok(args);
            begun.elapsed().as_secs_f64()
        };
        percentile(&mut (0..PROCESSES).map(once).collect::<Vec<_>>(), 50)
    };
    let figure = median(&["run", "bench", "--input", SHORT_RUN]);
    let baseline = median(&["--version"]);
    let (run, version) = (time(figure), format!("`--version`: {}", time(baseline)));
    report.row("`reenact run`, whole process", &run, &version, Some(figure / baseline), "≤ 30 ms");
}

/// A home with many revisions and runs: how soon it is served, and how soon some
/// of its runs are listed.
async fn large_home(report: &mut Report) {
    let (revisions, runs) = (size("REVISIONS", 10_000), size("RUNS", 1_000_000));
    let home = Home { path: filled_home(revisions, runs) };
    let key = home.key();
    let mut ready = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let server = Server::start(&home);
        let (status, _) = server.client(&key).await.send("GET", "/readyz", "").await;
        assert_eq!(status, 200);
        ready.push(begun.elapsed().as_secs_f64());
    }
    let what = format!("server ready with {revisions} revisions, {runs} runs");
    report.row(&what, &time(percentile(&mut ready, 50)), "", None, "≤ 1 s");

    let server = Server::start(&home);
    let mut client = server.client(&key).await;
    for (status, limit) in [("error", 50), ("done", 100)] {
        let mut took = Vec::new();
        for list in 0..LISTS {
            let agent = agent(list);
            let path = format!("/v0.1/agents/{agent}/runs?status={status}&limit={limit}");
            let begun = Instant::now();
            let (answered, body) = client.send("GET", &path, "").await;
            took.push(begun.elapsed().as_secs_f64());
            assert_eq!(answered, 200, "{body}");
        }
        let (p50, p99) = (percentile(&mut took, 50), percentile(&mut took, 99));
        let what = format!("list {limit} of {runs} runs by agent and status");
        let figure = format!("p50 {}, p99 {}", time(p50), time(p99));
        report.row(&what, &figure, "", None, "≤ 10 ms");
    }
}

/// Runs that sleep for long, which no process has loaded.
async fn waiting(report: &mut Report) {
    let runs = size("WAITING", 100_000);
    let folder = scratch();
    let home = Home::new(folder.path(), "");
    let key = home.key();
    let server = Server::start(&home);
    let before = server.resident();
    server.starts(&key, runs).await;
    let asleep = server.comes_to(&key, "sleeping", runs).await;
    let after = server.resident();
    let what = format!("{asleep} waiting runs, unloaded");
    let bytes = format!("{} before them", mib(before));
    report.row(&what, &mib(after), &bytes, None, "100,000 in ≤ 1 GiB");
    drop(server);
    let server = Server::start(&home);
    server.comes_to(&key, "sleeping", asleep).await;
    report.row(&format!("{what}, after a restart"), &mib(server.resident()), "", None, "");
}

/// Runs that sleep with their guests in memory, and what happens to more of them.
async fn loaded(report: &mut Report) {
    let guests = size("LOADED", 10_000);
    let folder = scratch();
    let config = format!(
        "parallel = {guests}\nparallel_per_agent = {guests}\nunder_way = {}\nqueue = {QUEUE}\n\
         patience_ms = {}\n",
        2 * guests,
        LONG * 2_000
    );
    let home = Home::new(folder.path(), &config);
    let key = home.key();
    let server = Server::start(&home);
    let before = server.resident();
    server.starts(&key, guests).await;
    let loaded = server.comes_to(&key, "loaded", guests).await;
    let after = server.resident();
    let each = after.saturating_sub(before) as f64 / loaded.max(1) as f64 / 1024.0;
    let maps = server.maps();
    let what = format!("{loaded} of {guests} guests loaded, parked");
    let notes = format!("{each:.0} KiB each, {maps} memory maps");
    report.row(&what, &mib(after), &notes, None, "10,000 in ≤ 1.2 GiB");

    let mut client = server.client(&key).await;
    let mut taken = 0;
    let refusal = loop {
        let (status, body) = client.start(LONG).await;
        if status != 201 {
            break format!("{status} {}", body["detail"].as_str().unwrap_or_default());
        }
        taken += 1;
        assert!(taken <= QUEUE + 1, "more than the limits allow");
    };
    let what = format!("one more, when {taken} wait for their turn");
    report.row(&what, &refusal, "", None, "a clear refusal");
}

/// A number that the environment may change.
fn size(name: &str, default: usize) -> usize {
    let name = format!("REENACT_BENCH_{name}");
    match std::env::var(&name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("`{name}` is `{text}`, not a number")),
        Err(_) => default,
    }
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// A home folder for the program.
struct Home {
    path: PathBuf,
}

impl Home {
    /// A home with the guest of the benchmarks published. The rates of keys are no
    /// limit; `server` goes into the table `[server]`.
    fn new(path: &Path, server: &str) -> Self {
        let home = Self { path: path.to_owned() };
        fs::create_dir_all(path.join("files")).unwrap();
        fs::write(path.join("files/a.md"), "a").unwrap();
        let config = format!(
            "[grants.files]\nroot = 'files'\n[server]\nrequests_per_second = 1_000_000\n\
             burst = 1_000_000\n{server}"
        );
        fs::write(path.join("reenact.toml"), config).unwrap();
        let sealed = path.join("bench.wasm");
        fs::write(&sealed, &guest().bytes).unwrap();
        home.ok(&["publish", sealed.to_str().unwrap()]);
        home
    }

    /// The program, with this home and no configuration from outside.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
        command.args(args).current_dir(&self.path).env("REENACT_HOME", &self.path);
        for variable in ["REENACT_CONFIG", "REENACT_LOG", "REENACT_SERVER", "REENACT_KEY"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed; answers its stdout.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn key(&self) -> String {
        self.ok(&["keys", "create", "bench"]).trim().to_owned()
    }
}

fn agent(number: usize) -> String {
    format!("agent-{:03}", number % AGENTS)
}

/// A home with so much in it, which is filled once and kept.
fn filled_home(revisions: usize, runs: usize) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("home-{revisions}-{runs}"));
    let done = path.join("filled");
    if done.exists() {
        return path;
    }
    let _ = fs::remove_dir_all(&path);
    let home = Home::new(&path, "");
    home.ok(&["run", "bench", "--input", SHORT_RUN]);
    let db = Connection::open(path.join("reenact.db")).unwrap();
    fill(&db, revisions, runs);
    fs::write(done, "").unwrap();
    path
}

/// Copies the only run, so that all have a first and a last entry that can be
/// read; what is between them nobody reads here.
fn fill(db: &Connection, revisions: usize, runs: usize) {
    db.execute_batch("PRAGMA synchronous = off; BEGIN").unwrap();
    for number in 0..AGENTS {
        let insert = "INSERT INTO agents (name, description, created_at, updated_at)
                      SELECT ?1, description, created_at, updated_at FROM agents WHERE name = 'bench'";
        db.execute(insert, [agent(number)]).unwrap();
    }
    let numbers = "WITH RECURSIVE numbers (n) AS
                   (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?1)";
    let name = format!("printf('agent-%03d', n % {AGENTS})");
    let insert = format!(
        "{numbers} INSERT INTO revisions (digest, agent, version, description, manifest, size, created_at)
         SELECT randomblob(32), {name}, version, description, manifest, size, created_at + n
         FROM numbers, (SELECT * FROM revisions LIMIT 1)"
    );
    db.execute(&insert, params![revisions]).unwrap();
    // One in ten has failed. Neighbours in time belong to different agents.
    let insert = format!(
        "{numbers} INSERT INTO runs (key, id, agent, revision, status, code, created_at,
                                     updated_at, entries, fuel, head, lease_epoch, lease_until)
         SELECT key + 1 + n, printf('%08x-0000-7000-8000-%012x', n, n), {name}, revision,
                iif(n / {AGENTS} % 10 = 0, 'error', 'done'), iif(n / {AGENTS} % 10 = 0, 'trap', NULL),
                created_at + n, updated_at + n, entries, fuel, head, lease_epoch, lease_until
         FROM numbers, (SELECT * FROM runs ORDER BY key DESC LIMIT 1)"
    );
    db.execute(&insert, params![runs]).unwrap();
    let copy = "INSERT INTO entries (run, seq, hash, body, coding, parts)
                SELECT runs.key, seq, hash, body, coding, parts
                FROM (SELECT * FROM entries
                      WHERE run = (SELECT min(key) FROM runs)
                      AND seq IN (0, (SELECT max(seq) FROM entries))), runs
                WHERE runs.key > (SELECT min(key) FROM runs)";
    db.execute(copy, []).unwrap();
    db.execute_batch("COMMIT").unwrap();
}

/// `reenact serve` on a home, until it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(home: &Home) -> Self {
        let mut command = home.command(&["serve", "--listen", "127.0.0.1:0"]);
        let log = fs::File::create(home.path.join("server.log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        Lines::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().rsplit("http://").next();
        let address = url.filter(|_| line.contains("http://")).expect("it starts").to_owned();
        Self { child, address }
    }

    async fn client(&self, key: &str) -> Client {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::new(stream), key: key.to_owned() }
    }

    /// Starts runs that sleep for long.
    async fn starts(&self, key: &str, runs: usize) {
        let left = AtomicUsize::new(runs);
        let start = async || {
            let mut client = self.client(key).await;
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                // The queue is full now and then.
                while client.start(LONG).await.0 == 503 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        join_all((0..16).map(|_| start())).await;
    }

    /// Waits until so many runs are in a state, as the server counts them, or until
    /// no more get there; answers how many are.
    async fn comes_to(&self, key: &str, state: &str, runs: usize) -> usize {
        let name = format!("reenact_runs{{state=\"{state}\"}} ");
        let mut client = self.client(key).await;
        let (mut most, mut since) = (0, Instant::now());
        loop {
            let (_, metrics) = client.send("GET", "/metrics", "").await;
            let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
            let count = count.map_or(0, |count| count.parse().unwrap());
            if count > most {
                (most, since) = (count, Instant::now());
            }
            if count == runs || since.elapsed() > STANDSTILL {
                return count;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Bytes of memory that it has.
    fn resident(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    fn maps(&self) -> usize {
        self.proc("maps").lines().count()
    }

    /// Seconds of processor time that it has used.
    fn used(&self) -> f64 {
        /// Of all Linux machines today.
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = self.proc("stat");
        // The name of the program, which stands in brackets, may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / TICKS_PER_SECOND
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection that is kept. It does as little as it can, because what it
/// takes of the machine is not there for the server.
struct Client {
    stream: BufReader<TcpStream>,
    key: String,
}

impl Client {
    /// Starts a run and waits until it is done.
    async fn runs(&mut self, input: &str) {
        let body = format!("{{\"input\":{input}}}");
        let (status, body) = self.send("POST", "/v0.1/agents/bench/runs?wait=60", &body).await;
        assert!(status == 201 && body.contains("\"status\":\"done\""), "{status} {body}");
    }

    /// Starts a run that sleeps.
    async fn start(&mut self, seconds: u64) -> (u16, Value) {
        let body = json!({ "input": { "sleep": seconds } }).to_string();
        let (status, body) = self.send("POST", "/v0.1/agents/bench/runs", &body).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.key,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let (mut status, mut length, mut line) = (None, 0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).await.unwrap();
            let line = line.trim().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None if line.is_empty() => break,
                None => status = line.split(' ').nth(1).and_then(|status| status.parse().ok()),
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        (status.expect("an answer has a status"), String::from_utf8(body).unwrap())
    }
}

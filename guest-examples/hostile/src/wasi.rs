//! Deeds that reach for the outside through WASI, mostly as `std` does.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, Method, OutgoingRequest};
use wasip2::random::{insecure, insecure_seed, random};

use crate::compute::mixed;
use crate::times;

pub fn stdout(n: u64) -> Value {
    for line in 1..=n {
        println!("line {line} of {n}");
    }
    eprintln!("a line for stderr");
    json!({ "lines": n })
}

pub fn flood_stdout() -> ! {
    let line = "x".repeat(1023);
    loop {
        println!("{line}");
    }
}

pub fn pollables(n: Option<u64>) -> Value {
    let mut made = 0;
    for _ in times(n) {
        std::mem::forget(monotonic_clock::subscribe_duration(1_000_000_000));
        made += 1;
    }
    json!({ "pollables": made })
}

pub fn sleep(seconds: u64) -> Value {
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    json!({ "elapsed_ms": start.elapsed().as_millis() as u64 })
}

pub fn half_line(seconds: u64) -> Value {
    eprint!("working … ");
    sleep(seconds)
}

pub fn big_write(n: u64) -> Value {
    let lines = vec![b'\n'; (n << 20) as usize];
    let written = wasip2::cli::stdout::get_stdout().write(&lines);
    json!({ "written": format!("{written:?}") })
}

pub fn http() -> Value {
    let request = OutgoingRequest::new(Fields::new());
    let method = request.set_method(&Method::Other("x".repeat(1 << 20)));
    let authority = request.set_authority(Some("localhost:80"));
    let body = request.body().map(|_| ());
    let sent = outgoing_handler::handle(request, None).map(|_| ());
    json!({
        "set-method": format!("{method:?}"),
        "set-authority": format!("{authority:?}"),
        "body": format!("{body:?}"),
        "handle": format!("{sent:?}"),
    })
}

pub fn look_around() -> Value {
    json!({
        "clock": clocks(),
        "random": randomness(),
        "environment": environment(),
        "files": files(),
        "network": network(),
    })
}

fn clocks() -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let start = Instant::now();
    let value = mixed(100_000);
    json!({
        "wall_ms": now.map(|now| now.as_millis() as u64).unwrap_or(0),
        "monotonic_ns_around_a_loop": start.elapsed().as_nanos() as u64,
        "loop_value": format!("{value:016x}"),
        "monotonic_resolution_ns": monotonic_clock::resolution(),
    })
}

/// Whole 64-bit numbers are written in hex: as JSON numbers they would lose
/// digits in many readers.
fn randomness() -> Value {
    let hex = |n: u64| format!("{n:016x}");
    let secure = [0; 4].map(|_| hex(random::get_random_u64()));
    let (seed_a, seed_b) = insecure_seed::insecure_seed();
    let map: HashMap<u32, ()> = (0..16).map(|key| (key, ())).collect();
    let order: Vec<u32> = map.into_keys().collect();
    json!({
        "secure": secure,
        "insecure": hex(insecure::get_insecure_random_u64()),
        "insecure_seed": [hex(seed_a), hex(seed_b)],
        "hash_map_order": order,
    })
}

fn environment() -> Value {
    let variables: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.display(), value.display()))
        .collect();
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.display().to_string()).collect();
    let mut stdin = Vec::new();
    json!({
        "variables": variables,
        "arguments": arguments,
        "current_dir": outcome(std::env::current_dir(), |path| path.display().to_string()),
        "stdin": outcome(io::stdin().read_to_end(&mut stdin), |n| format!("{n} bytes")),
    })
}

fn files() -> Value {
    json!({
        "open": outcome(File::open("/etc/passwd"), |_| "opened"),
        "create": outcome(File::create("/tmp/hostile"), |_| "created"),
        "read_dir": outcome(fs::read_dir("/"), |entries| format!("{} entries", entries.count())),
    })
}

fn network() -> Value {
    json!({
        "tcp_connect": outcome(TcpStream::connect("127.0.0.1:80"), |_| "connected"),
        "tcp_listen": outcome(TcpListener::bind("127.0.0.1:0"), |_| "bound"),
        "udp_bind": outcome(UdpSocket::bind("127.0.0.1:0"), |_| "bound"),
        "resolve": outcome("localhost:80".to_socket_addrs(), |addresses| {
            format!("{} addresses", addresses.count())
        }),
    })
}

/// `ok: …` or `error: …`.
fn outcome<T, D: Display>(result: io::Result<T>, describe: impl FnOnce(T) -> D) -> String {
    match result {
        Ok(value) => format!("ok: {}", describe(value)),
        Err(error) => format!("error: {error}"),
    }
}

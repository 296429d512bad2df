//! Servers end with their host, however it ends, and so does what they started.
#![cfg(target_os = "linux")]

use std::process::Stdio;

use serde_json::json;

use super::*;
use crate::mcp::runs::caller;
use crate::support::Home;

/// Processes whose command line names the odd server's log: the server and what
/// it started.
fn processes(servers: &Servers) -> Vec<u32> {
    let marker = servers.log().to_str().unwrap().to_owned();
    let is_marked = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&marker)
    };
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_marked).collect()
}

#[tokio::test]
async fn dropping_the_catalogue_ends_a_server_and_its_offspring() {
    let servers = Servers::odd(&[]);
    let catalogue = servers.open().await;
    answer(&tools(&catalogue), "odd.offspring", json!({})).await;
    assert_eq!(processes(&servers).len(), 2);
    drop(catalogue);
    soon("no process is left", || processes(&servers).is_empty()).await;
}

#[tokio::test]
async fn a_server_that_died_leaves_no_offspring() {
    let servers = Servers::odd(&[]);
    let catalogue = servers.open().await;
    answer(&tools(&catalogue), "odd.offspring", json!({})).await;
    // The offspring holds the server's pipes, so that nothing hangs up by itself.
    let told = call(&tools(&catalogue), "odd.die", json!({})).await.unwrap_err();
    assert!(told.1.contains("hung up (exit status: 7)"), "{}", told.1);
    answer(&tools(&catalogue), "odd.echo", json!({})).await;
    soon("only the new server is left", || processes(&servers).len() == 1).await;
}

/// A run that waits for an answer that never comes, with a stubborn offspring.
async fn waiting_run(servers: &Servers, home: &Home) -> std::process::Child {
    let (_folder, agent) = caller(&["odd.*"]);
    let input = json!({ "do": "calls", "text": "odd.offspring\nodd.never" }).to_string();
    let agent = agent.to_str().unwrap();
    let mut command = home.command(&["run", agent, "--input", &input, "--grant", &servers.flag()]);
    let mut host = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waits = |message: &Value| message["params"]["name"] == "never";
    for _ in 0..1_200 {
        if servers.heard().iter().any(waits) {
            assert_eq!(processes(servers).len(), 2);
            return host;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    host.kill().unwrap();
    let status = host.wait().unwrap();
    panic!("the run does not come to its call: {status}");
}

#[tokio::test]
async fn a_host_that_is_killed_takes_its_servers_along() {
    let (servers, home) = (Servers::odd(&[]), Home::new());
    let mut host = waiting_run(&servers, &home).await;
    // SIGKILL: nothing of the host's own code runs any more.
    host.kill().unwrap();
    host.wait().unwrap();
    soon("no process is left", || processes(&servers).is_empty()).await;
}

#[tokio::test]
async fn a_run_that_is_cancelled_takes_its_servers_along() {
    let (servers, home) = (Servers::odd(&[]), Home::new());
    let mut host = waiting_run(&servers, &home).await;
    interrupt(&host);
    assert_eq!(host.wait().unwrap().code(), Some(130));
    soon("no process is left", || processes(&servers).is_empty()).await;
}

/// Ctrl-C.
fn interrupt(process: &std::process::Child) {
    let pid = process.id().to_string();
    let sent = std::process::Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status();
    assert!(sent.unwrap().success());
}

#[tokio::test]
async fn ctrl_c_ends_a_call_from_the_command_line() {
    let (servers, home) = (Servers::odd(&[]), Home::new());
    let mut command = home.command(&["tools", "call", "odd.never", "--grant", &servers.flag()]);
    let mut host = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waits = |message: &Value| message["params"]["name"] == "never";
    soon("it is called", || servers.heard().iter().any(waits)).await;
    interrupt(&host);
    assert_eq!(host.wait().unwrap().code(), Some(130));
    soon("no process is left", || processes(&servers).is_empty()).await;
    let is_told = |message: &Value| message["method"] == "notifications/cancelled";
    assert!(servers.heard().iter().any(is_told), "{:?}", servers.heard());
}

/// The most memory that the host holds during a call, in bytes.
fn peak(tool: &str) -> u64 {
    let (servers, home) = (Servers::odd(&[]), Home::new());
    let mut command = home.command(&["tools", "call", tool, "{}", "--grant", &servers.flag()]);
    let mut host = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while host.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", host.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kib.unwrap_or(0u64) << 10);
        std::thread::sleep(Duration::from_millis(5));
    }
    peak
}

#[test]
fn an_answer_of_100_mb_does_not_take_100_mb() {
    let (plain, huge) = (peak("odd.echo"), peak("odd.huge"));
    assert!(plain > 0);
    assert!(huge < plain + (64 << 20), "{plain} and {huge} bytes");
}

//! `SIGKILL` at many moments: the home opens, nothing that was shown is lost,
//! and what is left of a run still proves itself.

use std::fs;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use reenact::registry::Home as Layout;
use reenact::revision::Digest;
use serde_json::{Value, json};

use crate::support::{Home, guest, resealed};

const KILLS: u32 = 40;

/// Lets the command live for so long, then ends it the hard way.
fn killed_after(home: &Home, args: &[&str], life: Duration) -> Output {
    let mut command = home.command(args);
    let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child: Child = pipes.spawn().unwrap();
    std::thread::sleep(life);
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

/// The moments to kill at, spread over what the command usually takes.
fn moments(kills: u32, usual: Duration) -> impl Iterator<Item = Duration> {
    (0..kills).map(move |kill| usual * kill / (kills - 1))
}

fn time(action: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    action();
    begun.elapsed()
}

/// Every listed revision is whole.
fn verify_revisions(home: &Home, agent: &str) -> usize {
    let listed = home.json(&["revisions", agent, "--json"]);
    let layout = Layout::at(home.path());
    for revision in listed.as_array().unwrap() {
        let digest: Digest = revision["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(Digest::of(&fs::read(layout.blob(digest)).unwrap()), digest);
    }
    listed.as_array().unwrap().len()
}

#[test]
fn a_killed_run_leaves_what_it_has_shown() {
    let home = Home::new();
    home.publishes(&guest("hostile"));
    let input = r#"{"do":"tool-calls","n":150}"#;
    let run = ["run", "hostile", "--input", input, "--grant", "files=wit", "--events", "ndjson"];
    let usual = time(|| drop(home.ok(&run)));

    let (mut stopped, mut shown_lines) = (0, 0);
    for life in moments(KILLS, usual) {
        let output = killed_after(&home, &run, life);
        let stdout = String::from_utf8(output.stdout).unwrap();
        // The last line may have been cut off.
        let whole = stdout.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let shown: Vec<Value> = whole.map(|line| serde_json::from_str(line).unwrap()).collect();
        let listed = home.json(&["runs", "--json"]);
        let Some(first) = shown.first() else { continue };
        let id = first["body"]["started"]["run"].as_str().unwrap();
        assert_eq!(listed[0]["id"], id, "an acknowledged run is listed");

        let durable = home.json(&["show", id, "--json"]);
        let entries = durable["entryList"].as_array().unwrap();
        assert_eq!(entries[..shown.len()], shown, "what was shown is durable");
        let replay = home.json(&["replay", id, "--json"]);
        assert_eq!(replay["same"], true, "{replay:#}");
        assert_eq!(replay["entries"], entries.len());
        if listed[0]["status"] == "running" {
            assert_eq!((&replay["ended"], &durable["status"]), (&json!(false), &json!("running")));
            stopped += 1;
            shown_lines += shown.len();
        }
    }
    assert!(stopped >= 5 && shown_lines > stopped, "{stopped} runs with {shown_lines} entries");

    let listed = home.json(&["runs", "--json"]);
    let all = home.json(&["replay", "--all", "--json"]);
    assert_eq!((&all["failed"], all["same"].as_u64()), (&json!([]), all["runs"].as_u64()));
    assert_eq!(listed.as_array().unwrap().len() as u64, all["runs"]);
    abandoned_runs_look_so(&home);
}

/// As if the time of every lease had gone by.
fn leases_lapse(home: &Home) {
    let db = rusqlite::Connection::open(Layout::at(home.path()).database()).unwrap();
    db.execute("UPDATE runs SET lease_until = 0", []).unwrap();
}

fn abandoned_runs_look_so(home: &Home) {
    let running = home.json(&["runs", "--status", "running", "--json"]);
    let id = running[0]["id"].as_str().unwrap();
    leases_lapse(home);
    assert!(home.ok(&["runs"]).contains("running (abandoned)"));
    let shown = home.ok(&["show", id]);
    assert!(shown.contains("running (abandoned)"), "{shown}");
    assert!(shown.contains("the run has not ended: this is what is durable of it"), "{shown}");
    let replayed = home.ok(&["replay", id]);
    assert!(replayed.contains("came out the same as far as the record goes"), "{replayed}");
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let home = Home::new();
    home.publishes(&guest("hostile"));
    let input = r#"{"do":"tool-calls","n":150}"#;
    let run = ["run", "hostile", "--input", input, "--grant", "files=wit", "--events", "none"];
    let usual = time(|| drop(home.ok(&run)));
    let left = moments(KILLS, usual).find_map(|life| {
        killed_after(&home, &run, life);
        let running = home.json(&["runs", "--status", "running", "--json"]);
        let run = running.as_array()?.iter().find(|run| run["entries"].as_u64() > Some(5))?;
        Some((run["id"].as_str()?.to_owned(), run["entries"].as_u64()?))
    });
    let (id, entries) = left.expect("a run that was killed half-way");

    let resume = ["resume", &id, "--grant", "files=wit", "--json", "--events", "none"];
    let held = home.fails(1, &resume);
    assert!(held.contains("belongs to another process"), "{held}");
    leases_lapse(&home);
    let done = home.json(&resume);
    assert_eq!(
        (&done["status"], &done["resultData"]["result"]["answers"]),
        (&json!("done"), &json!(150))
    );
    assert!(done["entries"].as_u64().unwrap() > entries);
    assert_eq!(home.json(&["replay", &id, "--json"])["same"], true);
    let again = home.fails(1, &resume);
    assert!(again.contains("has ended: it is `done`"), "{again}");
}

#[test]
fn a_killed_publish_leaves_no_half_of_a_revision() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let seal = |number: u32| {
        let revision = resealed(&guest("minimal"), |manifest| {
            manifest.description = format!("number {number}");
        });
        let file = dir.path().join(format!("{number}.wasm"));
        fs::write(&file, &revision.bytes).unwrap();
        (file.to_str().unwrap().to_owned(), revision.digest)
    };
    let first = seal(1_000).0;
    home.ok(&["publish", &first]);
    let second = seal(1_001).0;
    let usual = time(|| drop(home.ok(&["publish", &second])));

    for (number, life) in (0..).zip(moments(KILLS, usual)) {
        let (file, digest) = seal(number);
        killed_after(&home, &["publish", &file], life);
        let before = verify_revisions(&home, "minimal");
        let agents = home.json(&["agents", "--json"]);
        assert_eq!(agents[0]["revisions"], before);
        // What is published can be run, whichever it is.
        if number % 8 == 0 {
            home.ok(&["run", "minimal", "--input", r#"{"name":"Ada"}"#]);
        }
        home.ok(&["publish", &file]);
        let agents = home.json(&["agents", "--json"]);
        assert_eq!(agents[0]["published"], digest.to_string());
        assert!(verify_revisions(&home, "minimal") - before <= 1);
    }
}

#[test]
fn a_killed_build_writes_all_of_the_file_or_nothing() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let revision = guest("hostile");
    // A sealed component can be sealed again: there is nothing to compile.
    fs::write(dir.path().join("part.wasm"), &revision.bytes).unwrap();
    let toml = "name = \"hostile\"\ncomponent = \"part.wasm\"\n";
    fs::write(dir.path().join("agent.toml"), toml).unwrap();
    let folder = dir.path().to_str().unwrap();
    let usual = time(|| drop(home.ok(&["build", folder])));
    let output = dir.path().join("hostile.wasm");
    let whole = fs::read(&output).unwrap();

    let (mut written, mut absent) = (0, 0);
    for life in moments(KILLS, usual) {
        fs::remove_file(&output).or_else(ignore_absent).unwrap();
        killed_after(&home, &["build", folder], life);
        match fs::read(&output) {
            Ok(bytes) => {
                assert!(bytes == whole, "{} of {} bytes", bytes.len(), whole.len());
                written += 1;
            }
            Err(_) => absent += 1,
        }
    }
    assert!(absent > 0, "{written} written");
    home.ok(&["build", folder]);
    assert!(is_sealed(&home, &output));
}

fn ignore_absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn is_sealed(home: &Home, file: &Path) -> bool {
    home.json(&["inspect", file.to_str().unwrap(), "--json"])["manifest"]["name"] == "hostile"
}

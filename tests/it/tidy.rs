//! Holds the tree against the invariants that `src/lib.rs` states, and the
//! documentation against the code.

use std::fs;
use std::path::{Path, PathBuf};

use reenact::journal::ErrorCode;
use reenact::revision::Limits;

use crate::support::root;

/// Modules from the top of the house to its ground. Each may use those below.
const FLOORS: [&str; 15] = [
    "main",
    "cli",
    "server",
    "service",
    "telemetry",
    "build",
    "config",
    "runtime",
    "sandbox",
    "tools",
    "registry",
    "storage",
    "journal",
    "revision",
    "json",
];

/// A source file: its path below `src/` and its lines of code, without comments.
struct Source {
    path: String,
    code: Vec<String>,
    text: String,
}

impl Source {
    fn floor(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    fn is_test(&self) -> bool {
        self.path.contains("tests")
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    let mut sources: Vec<Source> = files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let is_code = |line: &&str| !line.trim_start().starts_with("//");
            let code = text.lines().filter(is_code).map(str::to_owned).collect();
            let path = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            Source { path, code, text }
        })
        .collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 40, "the tree was not found");
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Files outside of `home` with a line of code that holds one of `words`.
fn strays(home: &str, words: &[&str]) -> Vec<String> {
    let mut strays = Vec::new();
    for source in sources() {
        if source.path.starts_with(home) || source.is_test() {
            continue;
        }
        // What stands below is the file's own tests.
        let code = source.code.iter().take_while(|line| !line.starts_with("#[cfg(test)]"));
        for line in code {
            if words.iter().any(|word| line.contains(word)) {
                strays.push(format!("{}: {}", source.path, line.trim()));
            }
        }
    }
    strays
}

#[test]
fn wasmtime_is_named_in_the_sandbox_only() {
    assert_eq!(strays("sandbox/", &["wasmtime::", "wasmtime_wasi"]), [""; 0]);
}

#[test]
fn sqlite_is_named_in_storage_only() {
    assert_eq!(strays("storage/", &["rusqlite"]), [""; 0]);
}

#[test]
fn http_is_served_by_the_server_only() {
    assert_eq!(strays("server/", &["axum::", "utoipa_axum::"]), [""; 0]);
}

#[test]
fn each_protocol_is_named_by_its_provider_only() {
    assert_eq!(strays("tools/mcp", &["rmcp::"]), [""; 0]);
    assert_eq!(strays("tools/model", &["genai::"]), [""; 0]);
    let senders = ["service/webhooks.rs"];
    let mut strays = strays("tools/", &["reqwest::"]);
    strays.retain(|line| !senders.iter().any(|sender| line.starts_with(sender)));
    assert_eq!(strays, [""; 0]);
}

#[test]
fn nothing_above_the_tools_names_a_provider() {
    let runtime = sources().into_iter().filter(|source| source.path.starts_with("runtime/"));
    for source in runtime {
        for word in ["files::", "http::", "mcp", "model::", "\"files.", "\"model.", "\"http."] {
            let named = source.code.iter().find(|line| line.contains(word));
            assert!(named.is_none(), "{}: {named:?}", source.path);
        }
    }
}

#[test]
fn the_clock_and_randomness_are_read_in_one_file() {
    let words = ["SystemTime::now", "SysRng", "rand::", "now_v4", "now_v7", "getrandom"];
    let strays = strays("runtime/effects/system.rs", &words);
    // The guest's own stream, which starts from the recorded seed.
    let strays: Vec<_> = strays.iter().filter(|line| !line.contains("ChaCha20Rng")).collect();
    let strays: Vec<_> = strays.iter().filter(|line| !line.contains("rand_core::")).collect();
    assert!(strays.is_empty(), "{strays:#?}");
}

#[test]
fn only_the_command_line_prints() {
    let words = ["println!", "print!(", "eprint!(", "dbg!(", "stdout()"];
    assert_eq!(strays("cli/", &words), [""; 0]);
}

#[test]
fn the_replay_decision_does_no_io() {
    let decide = sources().into_iter().find(|s| s.path == "runtime/effects/decide.rs").unwrap();
    for word in ["std::fs", "std::io", "tokio", "async ", "storage", "now()"] {
        assert!(!decide.code.iter().any(|line| line.contains(word)), "`{word}`");
    }
}

#[test]
fn nobody_uses_a_floor_above() {
    let height = |floor: &str| FLOORS.iter().position(|known| *known == floor);
    let mut climbs = Vec::new();
    for source in sources().iter().filter(|source| source.path != "lib.rs") {
        let own = height(source.floor()).unwrap_or_else(|| panic!("{} has no floor", source.path));
        for line in &source.code {
            for (at, _) in line.match_indices("crate::") {
                let used = &line[at + "crate::".len()..];
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                if height(used).is_some_and(|used| used < own) {
                    climbs.push(format!("{}: {}", source.path, line.trim()));
                }
            }
        }
    }
    assert!(climbs.is_empty(), "{climbs:#?}");
}

#[test]
fn every_file_says_what_it_owns_and_fits_in_a_head() {
    for source in sources() {
        assert!(source.text.starts_with("//!"), "{} has no head", source.path);
        let lines = source.text.lines().count();
        assert!(lines <= 450, "{} has {lines} lines", source.path);
    }
}

#[test]
fn the_reference_lists_every_limit_and_every_error_code() {
    let reference = fs::read_to_string(root().join("docs/limits-and-errors.md")).unwrap();
    for info in Limits::TABLE {
        let meaning = info.meaning.trim();
        let row = format!("| `{}` | {} | {} | {meaning} |", info.name, info.default, info.ceiling);
        assert!(reference.contains(&row), "missing: {row}");
    }
    for code in ErrorCode::ALL {
        let row = format!("| `{code}` | {} |", code.meaning().trim());
        assert!(reference.contains(&row), "missing: {row}");
    }
}

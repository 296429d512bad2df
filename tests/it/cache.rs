//! Compiled code is a convenience: with or without it a run is the same, and
//! code that is not this engine's for this revision is never run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reenact::journal::Encoded;
use reenact::revision::{Digest, Revision};
use reenact::runtime::{Executor, Verdict};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Home, Lab, guest};

/// A run of `minimal`, for others to compare with.
async fn journal() -> Vec<Encoded> {
    Lab::new().run(&guest("minimal"), json!({ "name": "Ada" })).ends().await.journal
}

/// Loads `minimal` with this cache and replays the run, which compares fuel and
/// hashes. Answers whether the code came from the cache.
async fn proves(cache: Option<&Path>, journal: &[Encoded]) -> bool {
    let executor = Executor::new(cache).unwrap();
    let prepared = executor.prepare(guest("minimal")).unwrap();
    let replay = executor.replay(&prepared, journal.to_vec()).await.unwrap();
    let Verdict::Same(ran) = replay.verdict else { panic!("{:?}", replay.verdict) };
    assert_eq!(ran.head, journal.last().unwrap().hash);
    prepared.cached
}

/// The compiled code of a revision under `cache`.
fn file(cache: &Path, revision: &Revision) -> PathBuf {
    let folder = fs::read_dir(cache).unwrap().next().unwrap().unwrap().path();
    folder.join(format!("{}.cwasm", revision.digest.hex()))
}

/// A folder that holds the compiled code of `minimal`.
async fn filled() -> (TempDir, PathBuf, Vec<Encoded>) {
    let cache = tempfile::tempdir().unwrap();
    let journal = journal().await;
    assert!(!proves(Some(cache.path()), &journal).await);
    let file = file(cache.path(), &guest("minimal"));
    (cache, file, journal)
}

#[tokio::test]
async fn a_revision_is_compiled_once_and_runs_the_same_with_and_without_the_cache() {
    let (cache, file, journal) = filled().await;
    let code = fs::read(&file).unwrap();
    assert!(proves(Some(cache.path()), &journal).await);
    assert!(!proves(None, &journal).await);
    assert_eq!(fs::read(&file).unwrap(), code);
}

#[tokio::test]
async fn damaged_code_is_compiled_again() {
    let (cache, file, journal) = filled().await;
    let good = fs::read(&file).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let damaged = [
        vec![],
        good[..16].to_vec(),
        good[..32].to_vec(),
        good[..good.len() / 2].to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], b"more"].concat(),
        flipped(0),
        flipped(40),
        flipped(good.len() / 2),
        flipped(good.len() - 1),
    ];
    for bytes in damaged {
        fs::write(&file, &bytes).unwrap();
        assert!(!proves(Some(cache.path()), &journal).await, "{} bytes", bytes.len());
        // And mended.
        assert_eq!(fs::read(&file).unwrap(), good);
        assert!(proves(Some(cache.path()), &journal).await);
    }
}

#[tokio::test]
async fn code_of_another_engine_is_not_run() {
    let (cache, file, journal) = filled().await;
    let mut config = wasmtime::Config::new();
    config.consume_fuel(false);
    let other = wasmtime::Engine::new(&config).unwrap();
    let revision = guest("minimal");
    let code = other.precompile_component(&revision.bytes).unwrap();
    // As the cache would have written it: only the code itself is wrong.
    for of in [&[revision.digest.as_bytes(), &code[..]][..], &[&code]] {
        let stored = [Digest::of_parts(of).as_bytes(), &code[..]].concat();
        fs::write(&file, stored).unwrap();
        assert!(!proves(Some(cache.path()), &journal).await);
    }
}

#[tokio::test]
async fn code_of_another_revision_is_not_run() {
    let (cache, place, journal) = filled().await;
    let other = guest("word-count");
    let executor = Executor::new(Some(cache.path())).unwrap();
    executor.prepare(Arc::clone(&other)).unwrap();
    fs::copy(file(cache.path(), &other), &place).unwrap();
    assert!(!proves(Some(cache.path()), &journal).await);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_no_error() {
    let journal = journal().await;
    let cache = tempfile::tempdir().unwrap();
    // No user can make a folder below a file; a mode would not keep root out.
    let blocked = cache.path().join("file");
    fs::write(&blocked, "").unwrap();
    for _ in 0..2 {
        assert!(!proves(Some(&blocked), &journal).await);
    }
    assert_eq!(fs::read(&blocked).unwrap(), b"");
}

#[cfg(unix)]
#[tokio::test]
async fn a_read_only_cache_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let (cache, file, journal) = filled().await;
    let mode = |mode| fs::set_permissions(file.parent().unwrap(), PermissionsExt::from_mode(mode));
    mode(0o500).unwrap();
    assert!(proves(Some(cache.path()), &journal).await);
    mode(0o700).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn the_cache_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let (_cache, file, _) = filled().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&file), 0o600);
}

#[tokio::test]
async fn many_threads_fill_one_cache() {
    let journal = journal().await;
    let cache = tempfile::tempdir().unwrap();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                runtime.block_on(proves(Some(cache.path()), &journal))
            });
        }
    });
    assert!(proves(Some(cache.path()), &journal).await);
    let folder = file(cache.path(), &guest("minimal"));
    let files = fs::read_dir(folder.parent().unwrap()).unwrap().count();
    assert_eq!(files, 1, "nothing half-written stays behind");
}

#[test]
fn two_processes_fill_one_cache() {
    let home = Home::new();
    let file = home.path().join("minimal.wasm");
    fs::write(&file, &guest("minimal").bytes).unwrap();
    let run = ["run", file.to_str().unwrap(), "--input", r#"{"name":"Ada"}"#, "--json"];
    let start = || home.command(&run).stdout(std::process::Stdio::null()).spawn().unwrap();
    for mut process in [start(), start()] {
        assert!(process.wait().unwrap().success());
    }
    let replay = home.json(&["replay", "--all", "--json"]);
    assert_eq!((&replay["runs"], &replay["same"]), (&json!(2), &json!(2)));
}

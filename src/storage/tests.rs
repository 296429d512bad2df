//! The database on real files: durability, order, leases, several processes.

use std::path::PathBuf;

use super::*;
use crate::journal::{Encoded, Micros};
use crate::revision::Digest;

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    Place { path: folder.path().join("reenact.db"), _folder: folder }
}

/// Each call is what another process would do.
fn open(place: &Place) -> Storage {
    Storage::open(&place.path).unwrap()
}

fn entry(seq: u64) -> Encoded {
    let bytes = format!("entry {seq}").into_bytes();
    Encoded { seq, hash: Digest::of(&bytes), bytes }
}

fn run(id: &str) -> NewRun {
    NewRun {
        id: id.into(),
        agent: "research".into(),
        revision: Digest::of(b"revision"),
        created_at: 100,
        lease_until: 1_000,
        pending: false,
    }
}

async fn create(storage: &Storage, id: &str) -> Appender {
    storage.create_run(run(id), entry(0), None).await.unwrap()
}

fn seqs(storage: &Storage, run: &str) -> Vec<u64> {
    storage.entries(run).unwrap().iter().map(|entry| entry.seq).collect()
}

#[tokio::test]
async fn many_appenders_share_commits_and_keep_their_order() {
    const RUNS: u64 = 50;
    const ENTRIES: u64 = 40;
    let place = place();
    let storage = open(&place);
    let tasks: Vec<_> = (0..RUNS)
        .map(|number| {
            let storage = storage.clone();
            tokio::spawn(async move {
                let appender = create(&storage, &format!("{number:04}")).await;
                for seq in 1..=ENTRIES {
                    appender.push(entry(seq), seq * 10, 100 + seq);
                    if seq % 8 == 0 {
                        appender.commit().await.unwrap();
                        assert_eq!(appender.pending_bytes(), 0);
                    }
                }
                appender.finish(Ending::Done, 999, 500).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let rows = storage.runs(&RunFilter { limit: 1_000, ..RunFilter::default() }).unwrap();
    assert_eq!(rows.len() as u64, RUNS);
    for row in rows {
        assert_eq!((row.entries, row.fuel, row.updated_at), (ENTRIES + 1, 999, 500));
        assert_eq!((row.status, row.head), (RunStatus::Done, entry(ENTRIES).hash));
        let entries = storage.entries(&row.id).unwrap();
        assert_eq!(entries, (0..=ENTRIES).map(entry).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_follower_sees_durable_entries_in_order_without_anybody_waiting() {
    let place = place();
    let storage = open(&place);
    let (sender, mut follower) = follower();
    let appender = storage.create_run(run("a"), entry(0), Some(sender)).await.unwrap();
    for seq in 1..200 {
        appender.push(entry(seq), seq, 100);
        if seq % 50 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(7)).await;
        }
    }
    for expected in 0..200 {
        let seen = follower.recv().await.unwrap();
        assert_eq!(seen.seq, expected);
        assert!(storage.entries_from("a", expected, 1).unwrap() == [(*seen).clone()]);
    }
    appender.finish(Ending::Done, 200, 101).await.unwrap();
    assert!(follower.recv().await.is_none(), "the end of the run is the end of the stream");
}

#[tokio::test]
async fn a_gap_is_refused_and_so_is_everything_after_it() {
    let place = place();
    let storage = open(&place);
    let appender = create(&storage, "a").await;
    appender.push(entry(1), 1, 100);
    appender.push(entry(3), 3, 100);
    let error = appender.commit().await.unwrap_err();
    assert_eq!(error, StorageError::NotDense { run: "a".into(), expected: 2, found: 3 });
    appender.push(entry(1), 1, 100);
    assert_eq!(appender.commit().await.unwrap_err(), error);
    assert_eq!(appender.finish(Ending::Done, 1, 100).await.unwrap_err(), error);
    assert_eq!(seqs(&storage, "a"), [0], "the failed job is undone as a whole");

    let refused = storage.create_run(run("b"), entry(1), None).await.map(drop).unwrap_err();
    assert!(matches!(refused, StorageError::NotDense { expected: 0, found: 1, .. }));
}

#[tokio::test]
async fn a_job_that_fails_fails_alone() {
    let place = place();
    let storage = open(&place);
    let (good, bad) = (create(&storage, "good").await, create(&storage, "bad").await);
    // All of them wait for the next commit, which they share.
    good.push(entry(1), 1, 100);
    bad.push(entry(7), 1, 100);
    let (one, two, again) =
        tokio::join!(good.commit(), bad.commit(), storage.create_run(run("good"), entry(0), None));
    one.unwrap();
    assert!(matches!(two, Err(StorageError::NotDense { .. })));
    assert!(matches!(again.map(drop), Err(StorageError::Database { .. })), "the id is taken");
    assert_eq!(seqs(&storage, "good"), [0, 1]);
}

/// Keeps the writer busy until the answer is dropped: what is asked of it meanwhile is
/// one commit.
fn hold(storage: &Storage) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (begins, begun) = mpsc::channel();
    let work = move |_: &Connection| {
        begins.send(()).unwrap();
        // It is never sent anything.
        let _ = released.recv();
        Ok(())
    };
    storage.0.add(work, drop).unwrap();
    begun.recv().unwrap();
    release
}

#[tokio::test]
async fn a_job_that_fails_half_way_takes_nothing_of_the_others_along() {
    let place = place();
    let storage = open(&place);
    let good = create(&storage, "good").await;
    let before = storage.commits();
    let held = hold(&storage);
    let half_way = storage.write(|db| {
        let newest = runs::Newest::default();
        runs::insert(db, &run("half"), None, &[entry(0).into()], newest)?;
        Err::<(), _>(StorageError::UnknownRun { run: "on purpose".into() }.into())
    });
    let new = storage.begin_run(run("new"), None, None);
    new.push(entry(0), 0, 100);
    good.push(entry(1), 1, 100);
    let (first, failed, second, third, ()) =
        tokio::join!(new.commit(), half_way, new.renew_lease(7_000), good.commit(), async {
            drop(held);
        });
    assert_eq!(failed, Err(StorageError::UnknownRun { run: "on purpose".into() }));
    assert_eq!((first, second, third), (Ok(()), Ok(()), Ok(())));
    assert_eq!((seqs(&storage, "new"), seqs(&storage, "good")), (vec![0], vec![0, 1]));
    assert_eq!(storage.run("new").unwrap().lease_until, 7_000);
    assert_eq!(storage.run("good").unwrap().lease_until, 1_000);
    assert!(matches!(storage.run("half"), Err(StorageError::UnknownRun { .. })));
    assert_eq!(storage.commits().commits, before.commits + 2, "the held one and this");
}

#[tokio::test]
async fn a_new_run_is_created_with_what_it_writes_first() {
    let place = place();
    let storage = open(&place);
    let held = hold(&storage);
    let (sender, mut follower) = follower();
    let (before, new) = (storage.commits(), storage.begin_run(run("a"), None, Some(sender)));
    (0..3).for_each(|seq| new.push(entry(seq), seq, 100 + seq));
    assert!(follower.try_recv().is_err() && new.pending_bytes() > 0, "nothing is durable yet");
    let (ended, ()) = tokio::join!(new.finish(Ending::Done, 9, 200), async { drop(held) });
    ended.unwrap();
    let seen: Vec<u64> = (0..3).map(|_| follower.try_recv().unwrap().seq).collect();
    assert_eq!((seen, seqs(&storage, "a")), (vec![0, 1, 2], vec![0, 1, 2]));
    let row = storage.run("a").unwrap();
    assert_eq!((row.status, row.entries, row.head), (RunStatus::Done, 3, entry(2).hash));
    assert_eq!((row.fuel, row.updated_at, row.lease_until), (9, 200, 0));
    let after = storage.commits();
    assert_eq!(after.jobs, before.jobs + 2, "the held one, and one for all of the run");
}

#[tokio::test]
async fn a_run_that_cannot_be_created_hears_of_it() {
    let place = place();
    let storage = open(&place);
    let owner = create(&storage, "a").await;
    let (sender, mut follower) = follower();
    let second = storage.begin_run(run("a"), None, Some(sender));
    second.push(entry(0), 0, 100);
    second.push(entry(1), 1, 100);
    let error = second.commit().await.unwrap_err();
    assert!(matches!(error, StorageError::Database { .. }), "the id is taken: {error}");
    assert_eq!(second.renew_lease(9_999).await, Err(error.clone()));
    assert_eq!(second.finish(Ending::Done, 1, 100).await, Err(error));
    assert!(follower.recv().await.is_none(), "nothing was shown");

    let nothing = storage.begin_run(run("b"), None, None).commit().await;
    assert!(matches!(nothing, Err(StorageError::NotDense { .. })), "it has no first entry");
    owner.push(entry(1), 1, 100);
    owner.finish(Ending::Done, 1, 100).await.unwrap();
    assert_eq!((seqs(&storage, "a"), storage.run("b").is_err()), (vec![0, 1], true));
}

#[tokio::test]
async fn whoever_lost_the_lease_cannot_write_from_any_process() {
    let place = place();
    let (first, second) = (open(&place), open(&place));
    let (sender, mut follower) = follower();
    let zombie = first.create_run(run("a"), entry(0), Some(sender)).await.unwrap();
    let held = second.take_over("a", 999, 9_999, None).await.map(drop).unwrap_err();
    assert_eq!(held, StorageError::LeaseHeld { run: "a".into(), until: 1_000 });
    assert_eq!(second.abandoned_runs(1_000).unwrap(), []);
    assert_eq!(second.abandoned_runs(1_001).unwrap().len(), 1);

    let owner = second.take_over("a", 1_001, 9_999, None).await.unwrap();
    let lost = StorageError::LeaseLost { run: "a".into() };
    zombie.push(entry(1), 1, 100);
    assert_eq!(zombie.commit().await.unwrap_err(), lost);
    assert_eq!(zombie.renew_lease(99_999).await.unwrap_err(), lost);
    assert_eq!(zombie.finish(Ending::Error("trap"), 1, 100).await.unwrap_err(), lost);
    assert_eq!(follower.recv().await.unwrap().seq, 0);
    assert!(follower.recv().await.is_none(), "what was not durable was not shown");

    owner.push(entry(1), 1, 100);
    owner.finish(Ending::Error("trap"), 1, 100).await.unwrap();
    let row = first.run_by_prefix("a").unwrap();
    assert_eq!((row.status, row.code.as_deref(), row.entries), (RunStatus::Error, Some("trap"), 2));
    let ended = second.take_over("a", 1_001, 9_999, None).await.map(drop).unwrap_err();
    assert_eq!(ended, StorageError::WrongStatus { run: "a".into(), status: RunStatus::Error });
}

#[tokio::test]
async fn a_run_that_has_ended_or_not_begun_takes_no_entries() {
    let place = place();
    let storage = open(&place);
    let waiting = NewRun { pending: true, ..run("a") };
    let appender = storage.create_run(waiting.clone(), entry(0), None).await.unwrap();
    assert_eq!(storage.run_by_prefix("a").unwrap().status, RunStatus::Pending);
    appender.renew_lease(0).await.unwrap();
    drop(appender);
    let appender = storage.take_over("a", 101, 9_999, None).await.unwrap();
    assert_eq!(storage.run_by_prefix("a").unwrap().status, RunStatus::Running);
    appender.push(entry(1), 1, 102);
    appender.finish(Ending::Done, 1, 103).await.unwrap();
    appender.push(entry(2), 2, 104);
    let ended = StorageError::WrongStatus { run: "a".into(), status: RunStatus::Done };
    assert_eq!(appender.commit().await.unwrap_err(), ended);

    let early = NewRun { id: "b".into(), ..waiting };
    let appender = storage.create_run(early, entry(0), None).await.unwrap();
    appender.push(entry(1), 1, 102);
    let pending = StorageError::WrongStatus { run: "b".into(), status: RunStatus::Pending };
    assert_eq!(appender.commit().await.unwrap_err(), pending);
}

#[tokio::test]
async fn a_parked_run_waits_until_its_time_or_until_somebody_decides() {
    let place = place();
    let storage = open(&place);
    let (asleep, asking) = (create(&storage, "a").await, create(&storage, "b").await);
    asleep.park(5_000, vec![]).await.unwrap();
    asking.park(6_000, vec![3]).await.unwrap();
    let row = |run| storage.run_by_prefix(run).unwrap();
    assert_eq!((row("a").waits, row("a").wake_at), (Some(Waits::Sleep), 5_000));
    assert_eq!((row("b").waits, row("b").wake_at), (Some(Waits::Approval), 6_000));
    let decision = || ApprovalRow { decision: "{}".into(), by: "ada".into(), at: 1 };
    assert!(storage.decide("b", 3, decision()).unwrap());
    assert_eq!(row("b").wake_at, 0, "it can go on at once");

    let taken = storage.take_over("b", 200, 9_999, None).await.unwrap();
    assert_eq!((row("b").waits, taken.idle_since()), (None, None));
    // Somebody may decide before the run is parked.
    assert!(storage.decide("b", 4, decision()).unwrap());
    taken.park(6_000, vec![4]).await.unwrap();
    assert_eq!(row("b").wake_at, 0);
}

#[tokio::test]
async fn what_was_pushed_survives_dropping_everything() {
    let place = place();
    let storage = open(&place);
    let appender = create(&storage, "a").await;
    drop(storage);
    appender.push(entry(1), 1, 100);
    appender.push(entry(2), 2, 100);
    drop(appender);
    assert!(!place.path.with_extension("db-wal").exists(), "the log was folded into the file");

    let storage = open(&place);
    assert_eq!(seqs(&storage, "a"), [0, 1, 2]);
    let row = storage.run_by_prefix("a").unwrap();
    assert_eq!((row.status, row.entries, row.fuel), (RunStatus::Running, 3, 2));
}

#[tokio::test]
async fn what_was_committed_survives_the_end_of_the_process() {
    let (place, after) = (place(), self::place());
    let storage = open(&place);
    let appender = create(&storage, "a").await;
    appender.push(entry(1), 1, 100);
    appender.commit().await.unwrap();
    // What a killed process leaves: both files, and nobody who closes them.
    for extension in ["db", "db-wal"] {
        let file = |place: &Place| place.path.with_extension(extension);
        std::fs::copy(file(&place), file(&after)).unwrap();
    }
    let storage = open(&after);
    assert_eq!(seqs(&storage, "a"), [0, 1]);
    let appender = storage.take_over("a", 1_001, 2_000, None).await.unwrap();
    appender.push(entry(2), 2, 100);
    appender.finish(Ending::Done, 2, 100).await.unwrap();
    assert_eq!(seqs(&storage, "a"), [0, 1, 2]);
}

#[test]
fn many_processes_create_and_write_one_database_at_once() {
    let place = place();
    std::thread::scope(|scope| {
        for process in 0..8 {
            let place = &place;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let storage = open(place);
                runtime.block_on(async {
                    for number in 0..10 {
                        let appender = create(&storage, &format!("{process}{number}")).await;
                        appender.push(entry(1), 1, 100);
                        appender.finish(Ending::Done, 1, 100).await.unwrap();
                    }
                });
            });
        }
    });
    let done = RunFilter { status: Some(RunStatus::Done), ..RunFilter::default() };
    assert_eq!(open(&place).runs(&done).unwrap().len(), 80);
}

#[tokio::test]
async fn runs_are_found_by_prefix_and_listed_by_page() {
    let place = place();
    let storage = open(&place);
    for (id, agent, created_at) in [
        ("0a1", "research", 1),
        ("0a2", "writer", 2),
        ("0b1", "research", 2),
        ("0c1", "research", 3),
    ] {
        let new = NewRun { agent: agent.into(), created_at: created_at as Micros, ..run(id) };
        let appender = storage.create_run(new, entry(0), None).await.unwrap();
        if id == "0c1" {
            appender.finish(Ending::Error("trap"), 0, 4).await.unwrap();
        }
    }
    let ids = |filter: RunFilter| -> Vec<String> {
        storage.runs(&filter).unwrap().into_iter().map(|run| run.id).collect()
    };
    let all = RunFilter::default();
    let research = RunFilter { agent: Some("research".into()), ..all.clone() };
    let running =
        |filter: &RunFilter| RunFilter { status: Some(RunStatus::Running), ..filter.clone() };
    assert_eq!(ids(all.clone()), ["0c1", "0b1", "0a2", "0a1"]);
    assert_eq!(ids(research.clone()), ["0c1", "0b1", "0a1"]);
    assert_eq!(ids(running(&all)), ["0b1", "0a2", "0a1"]);
    assert_eq!(ids(running(&research)), ["0b1", "0a1"]);
    assert_eq!(ids(RunFilter { limit: 2, ..all.clone() }), ["0c1", "0b1"]);
    assert_eq!(ids(RunFilter { before: Some("0b1".into()), ..all.clone() }), ["0a2", "0a1"]);
    let unknown = storage.runs(&RunFilter { before: Some("9".into()), ..all }).unwrap_err();
    assert_eq!(unknown, StorageError::UnknownRun { run: "9".into() });

    assert_eq!(storage.run_by_prefix("0B").unwrap().id, "0b1");
    assert!(matches!(storage.run_by_prefix("0d"), Err(StorageError::UnknownRun { .. })));
    let ambiguous = storage.run_by_prefix("0a").unwrap_err();
    assert_eq!(ambiguous.to_string(), "`0a` could be any of the runs `0a1`, `0a2`");
    assert!(matches!(storage.entries("0d"), Err(StorageError::UnknownRun { .. })));
}

#[test]
fn other_files_and_newer_versions_are_refused_untouched() {
    let place = place();
    std::fs::write(&place.path, "not a database, but long enough to look like a file ".repeat(20))
        .unwrap();
    let text = std::fs::read(&place.path).unwrap();
    let error = Storage::open(&place.path).map(drop).unwrap_err();
    assert!(matches!(error, StorageError::NotADatabase { .. }), "{error}");
    assert_eq!(std::fs::read(&place.path).unwrap(), text);

    std::fs::remove_file(&place.path).unwrap();
    let other = Connection::open(&place.path).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = Storage::open(&place.path).map(drop).unwrap_err();
    assert!(error.to_string().ends_with("is not a reenact database: another application wrote it"));
    drop(other);

    std::fs::remove_file(&place.path).unwrap();
    drop(open(&place));
    let ours = Connection::open(&place.path).unwrap();
    ours.pragma_update(None, "user_version", 99).unwrap();
    let error = Storage::open(&place.path).map(drop).unwrap_err();
    assert!(
        matches!(error, StorageError::Newer { found: 99, known: migrations::NEWEST, .. }),
        "{error}"
    );

    let nowhere = place.path.join("nowhere.db");
    assert!(matches!(Storage::open(&nowhere).map(drop), Err(StorageError::Open { .. })));
}

#[tokio::test]
async fn a_full_disk_is_an_error_for_all_and_damages_nothing() {
    let place = place();
    let storage = open(&place);
    let appender = create(&storage, "a").await;
    // The file may not grow: SQLite answers as if the disk were full.
    let limit = |pages: u32| {
        storage.write_blocking(move |db| {
            Ok(db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)
        })
    };
    limit(1).unwrap();
    let bytes = vec![b'x'; 1 << 20];
    appender.push(Encoded { seq: 1, hash: Digest::of(&bytes), bytes }, 1, 100);
    assert!(matches!(appender.commit().await, Err(StorageError::DiskFull { .. })));
    assert!(matches!(
        appender.finish(Ending::Done, 1, 100).await,
        Err(StorageError::DiskFull { .. })
    ));
    limit(1_000_000).unwrap();
    assert_eq!(seqs(&storage, "a"), [0]);
    create(&storage, "b").await;
}

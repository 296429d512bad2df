//! Packed entries in real files: read from any place on, by any version, and
//! refused where they are damaged.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rusqlite::Connection;

use super::*;
use crate::journal::{Body, Chain, Entry, Event, Packer, ToolCalled, verify_prefix};
use crate::json::Json;
use crate::storage::migrations::{MIGRATIONS, NEWEST};
use crate::storage::{Ending, NewRun, follower};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("reenact.db")
    }

    fn open(&self) -> Storage {
        Storage::open(&self.path()).unwrap()
    }

    /// What somebody does to the file behind our back.
    fn tamper(&self, sql: &str) {
        assert_eq!(Connection::open(self.path()).unwrap().execute(sql, []).unwrap(), 1, "{sql}");
    }
}

/// The journal of two conversations that take turns, with an event after each call.
fn conversation(turns: usize) -> Vec<Encoded> {
    let mut random = ChaCha20Rng::from_seed([3; 32]);
    let mut noise = move || -> String {
        (0..1_500).map(|_| char::from(b'a' + (random.next_u32() % 26) as u8)).collect()
    };
    let mut histories = [String::new(), String::new()];
    let mut chain = Chain::default();
    let mut bodies = Vec::new();
    for turn in 0..turns {
        let history = &mut histories[turn % 2];
        history.push_str(&noise());
        let arguments = Json::from_value(&history.as_str().into());
        let call = turn as u64;
        bodies.push(Body::ToolCalled(ToolCalled { call, name: "chat".into(), arguments }));
        let data = Json::from_value(&call.into());
        bodies.push(Body::Event(Event { kind: "reasoning".into(), data }));
    }
    let entry = |(seq, body)| chain.push(&Entry { seq, at: 100 + seq, fuel: seq, body });
    (0..).zip(bodies).map(entry).collect()
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

/// Records the journal as a run does, and ends the run.
async fn record(storage: &Storage, journal: &[Encoded]) -> Vec<Stored> {
    let mut packer = Packer::default();
    let stored: Vec<Stored> = journal.iter().cloned().map(|entry| packer.pack(entry)).collect();
    let appender = storage.create_run(run("a"), stored[0].clone(), None).await.unwrap();
    for one in &stored[1..] {
        appender.push(one.clone(), one.entry.seq, 100);
    }
    appender.finish(Ending::Done, 1, 100).await.unwrap();
    stored
}

#[tokio::test]
async fn a_packed_journal_is_read_from_any_place_on() {
    let (place, journal) = (Place::new(), conversation(20));
    let storage = place.open();
    let stored = record(&storage, &journal).await;
    let packed = stored.iter().filter(|stored| stored.packed.is_some()).count();
    assert!(packed >= 18, "{packed} are packed");
    assert_eq!(storage.entries("a").unwrap(), journal);
    for first in 0..=journal.len() {
        for limit in [1, 3, u32::MAX] {
            let expected = journal.iter().skip(first).take(limit as usize);
            let expected: Vec<Encoded> = expected.cloned().collect();
            assert_eq!(storage.entries_from("a", first as u64, limit).unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn a_follower_is_sent_plain_entries() {
    let (place, journal) = (Place::new(), conversation(6));
    let storage = place.open();
    let (sender, mut follower) = follower();
    let mut packer = Packer::default();
    let first = packer.pack(journal[0].clone());
    let appender = storage.create_run(run("a"), first, Some(sender)).await.unwrap();
    for entry in &journal[1..] {
        appender.push(packer.pack(entry.clone()), entry.seq, 100);
    }
    let plain: usize = journal[1..].iter().map(|entry| entry.bytes.len()).sum();
    assert!(appender.pending_bytes() <= plain as u64);
    appender.finish(Ending::Done, 1, 100).await.unwrap();
    for entry in &journal {
        assert_eq!(*follower.recv().await.unwrap(), *entry);
    }
    assert!(follower.recv().await.is_none());
}

#[tokio::test]
async fn a_database_of_the_first_version_reads_and_goes_on() {
    let (place, journal) = (Place::new(), conversation(8));
    let mut old = Connection::open(place.path()).unwrap();
    MIGRATIONS.to_version(&mut old, 1).unwrap();
    old.execute(
        "INSERT INTO runs (key, id, agent, revision, status, created_at, updated_at, entries,
                           fuel, head, lease_epoch, lease_until)
         VALUES (1, 'a', 'research', zeroblob(32), 'running', 1, 1, 9, 0, ?1, 1, 0)",
        [journal[8].hash.as_bytes()],
    )
    .unwrap();
    for Encoded { seq, bytes, hash } in &journal[..9] {
        let sql = "INSERT INTO entries (run, seq, hash, body) VALUES (1, ?1, ?2, ?3)";
        old.execute(sql, params![seq, hash.as_bytes(), bytes]).unwrap();
    }
    drop(old);

    let storage = place.open();
    let recorded = storage.entries("a").unwrap();
    assert_eq!(recorded, journal[..9]);
    let mut packer = Packer::default();
    recorded.iter().for_each(|entry| packer.follow(entry));
    let appender = storage.take_over("a", 1, 2, None).await.unwrap();
    for entry in &journal[9..] {
        appender.push(packer.pack(entry.clone()), entry.seq, 100);
    }
    appender.finish(Ending::Done, 1, 100).await.unwrap();
    assert_eq!(storage.entries("a").unwrap(), journal);
    drop((appender, storage));

    let file = Connection::open(place.path()).unwrap();
    let ask = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(ask("SELECT user_version FROM pragma_user_version"), NEWEST);
    assert_eq!(ask("SELECT count(*) FROM entries WHERE coding = 0 AND seq < 9"), 9);
    let packed = "SELECT count(*) FROM entries WHERE coding = 1 AND parts IS NOT NULL";
    assert_eq!(ask(packed), 3, "what is new repeats what the old version wrote");
}

#[tokio::test]
async fn damage_is_found_at_its_entry_and_spoils_only_what_needs_it() {
    let journal = conversation(12);
    // Entries 8 and 12 belong to one conversation, 10 to the other.
    for (tampering, reason) in [
        ("UPDATE entries SET body = zeroblob(40) WHERE seq = 8", "not a zstd frame"),
        ("UPDATE entries SET body = substr(body, 1, 900) WHERE seq = 8", "not a zstd frame"),
        (
            "UPDATE entries SET body = CAST(substr(body, 1, 500) || x'5555' || substr(body, 503)
             AS BLOB) WHERE seq = 8",
            "",
        ),
        ("UPDATE entries SET parts = '0' WHERE seq = 8", ""),
        ("UPDATE entries SET parts = NULL WHERE seq = 8", ""),
        ("UPDATE entries SET parts = '77' WHERE seq = 8", "entry 77, of which it repeats"),
        ("UPDATE entries SET parts = '8' WHERE seq = 8", "entry 8, of which it repeats"),
        ("UPDATE entries SET parts = '0-99999999999' WHERE seq = 8", "is not a list of entries"),
        ("UPDATE entries SET coding = 0 WHERE seq = 8", ""),
        ("UPDATE entries SET coding = 9 WHERE seq = 8", "in a form that is not known: 9"),
    ] {
        let place = Place::new();
        let storage = place.open();
        record(&storage, &journal).await;
        place.tamper(tampering);
        let found = storage.entries("a").unwrap();
        assert_eq!((&found[..8], &found[9..12]), (&journal[..8], &journal[9..12]), "{tampering}");
        assert_ne!(found[12], journal[12], "{tampering}");
        let (good, damage) = verify_prefix(&found);
        let damage = damage.unwrap();
        assert_eq!((good.len(), damage.index), (8, 8), "{tampering}");
        assert!(damage.what.contains(reason), "{tampering}: {damage}");
        // From the middle on it is the same.
        assert_eq!(storage.entries_from("a", 9, 5).unwrap(), found[9..14], "{tampering}");
    }
}

#[tokio::test]
async fn an_entry_whose_parts_are_lost_says_so() {
    let (place, journal) = (Place::new(), conversation(12));
    let storage = place.open();
    record(&storage, &journal).await;
    place.tamper("DELETE FROM entries WHERE seq = 8");
    for found in [storage.entries("a").unwrap(), storage.entries_from("a", 12, 1).unwrap()] {
        let lost = found.iter().find(|entry| entry.seq == 12).unwrap();
        let why = "entry 8, of which it repeats something, is not there";
        assert_eq!(*lost, Encoded::unreadable(12, journal[12].hash, why));
    }
}

#[test]
fn decisions_about_calls_have_a_table() {
    let place = Place::new();
    drop(place.open());
    let db = Connection::open(place.path()).unwrap();
    let columns = "SELECT group_concat(name, ' ') FROM pragma_table_info('approvals')";
    let columns: String = db.query_row(columns, [], |row| row.get(0)).unwrap();
    assert_eq!(columns, "run call decision by at");
}

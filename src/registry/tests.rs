//! The registry on real folders: what is kept, what is refused, what is repaired.

use std::fs;
use std::path::Path;

use super::*;

const DAY: Micros = 24 * 3600 * 1_000_000;

fn open(folder: &Path, now: Micros) -> (Home, Registry) {
    let home = Home::at(folder.join("home"));
    home.create().unwrap();
    let storage = Storage::open(&home.database()).unwrap();
    (home.clone(), Registry::open(&home, storage, now).unwrap())
}

fn row(agent: &str, bytes: &[u8], created_at: Micros) -> RevisionRow {
    RevisionRow {
        digest: Digest::of(bytes),
        agent: agent.into(),
        version: None,
        description: "finds things out".into(),
        manifest: "{}".into(),
        size: bytes.len() as u64,
        created_at,
    }
}

fn resolve(registry: &Registry, target: &str) -> Result<RevisionRow, RegistryError> {
    registry.resolve(&Target::from(target))
}

#[test]
fn bytes_come_back_and_damage_is_found_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let (home, registry) = open(folder.path(), 1);
    let (bytes, row) = (b"sealed", row("research", b"sealed", 1));
    assert!(registry.add(&row, bytes, false, 1).unwrap());
    assert_eq!(registry.read(row.digest).unwrap(), bytes);

    let path = home.blob(row.digest);
    let mut flipped = bytes.to_vec();
    flipped[3] ^= 1;
    fs::write(&path, &flipped).unwrap();
    let error = registry.read(row.digest).unwrap_err();
    assert!(
        matches!(&error, RegistryError::Damaged { found, .. } if *found == Digest::of(&flipped))
    );
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");

    assert!(!registry.add(&row, bytes, false, 2).unwrap());
    assert_eq!(registry.read(row.digest).unwrap(), bytes);

    fs::remove_file(&path).unwrap();
    assert!(matches!(registry.read(row.digest), Err(RegistryError::Missing { .. })));
}

#[test]
fn bytes_of_another_revision_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_, registry) = open(folder.path(), 1);
    let error = registry.add(&row("research", b"a", 1), b"b", false, 1).unwrap_err();
    assert!(matches!(error, RegistryError::WrongBytes { .. }));
    assert_eq!(registry.agents().unwrap(), []);
}

#[test]
fn a_half_written_file_is_ignored_and_removed_a_day_later() {
    let folder = tempfile::tempdir().unwrap();
    let (home, registry) = open(folder.path(), 1);
    let half = home.tmp().join(".tmpHalf");
    fs::write(&half, b"sea").unwrap();
    let changed = fs::metadata(&half).unwrap().modified().unwrap();
    let changed = changed.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as Micros;
    registry.add(&row("research", b"sealed", 1), b"sealed", false, 1).unwrap();
    drop(registry);

    drop(open(folder.path(), changed + DAY / 2));
    assert!(half.exists(), "it could still be in the making");
    drop(open(folder.path(), changed + 2 * DAY));
    assert!(!half.exists());
}

#[test]
fn the_state_follows_the_newest_and_the_published_revision() {
    let folder = tempfile::tempdir().unwrap();
    let (_, registry) = open(folder.path(), 1);
    let state = || AgentState::of(&registry.agent("research").unwrap());
    let (one, two) = (row("research", b"1", 5), row("research", b"2", 5));

    registry.add(&one, b"1", false, 5).unwrap();
    assert_eq!(state(), AgentState::Unpublished);
    registry.publish("research", one.digest, 6).unwrap();
    assert_eq!(state(), AgentState::Published);
    registry.add(&two, b"2", false, 5).unwrap();
    assert_eq!(state(), AgentState::UnpublishedChanges);
    assert_eq!(resolve(&registry, "research").unwrap().digest, one.digest);
    registry.add(&two, b"2", true, 7).unwrap();
    assert_eq!(state(), AgentState::Published);
    assert_eq!(resolve(&registry, "research").unwrap().digest, two.digest);
    let newest_first: Vec<_> = registry.revisions("research").unwrap();
    assert_eq!(
        newest_first.iter().map(|row| row.digest).collect::<Vec<_>>(),
        [two.digest, one.digest]
    );
}

#[test]
fn what_is_not_the_agents_cannot_be_published() {
    let folder = tempfile::tempdir().unwrap();
    let (_, registry) = open(folder.path(), 1);
    let (one, two) = (row("research", b"1", 1), row("writer", b"2", 1));
    registry.add(&one, b"1", false, 1).unwrap();
    registry.add(&two, b"2", false, 1).unwrap();

    let error = registry.publish("research", two.digest, 2).unwrap_err();
    assert!(
        matches!(&error, RegistryError::Storage(StorageError::OtherAgents { owner, .. }) if owner == "writer")
    );
    let error = registry.publish("research", Digest::of(b"3"), 2).unwrap_err();
    assert!(matches!(error, RegistryError::UnknownRevision { .. }));
    let error = registry.publish("reserch", one.digest, 2).unwrap_err();
    assert_eq!(error.hint().unwrap(), "did you mean `research`?");
    assert_eq!(registry.agent("research").unwrap().published, None);
}

#[test]
fn targets_resolve_by_prefix_or_say_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let (_, registry) = open(folder.path(), 1);
    let mut rows: Vec<RevisionRow> = Vec::new();
    // Among 17 digests two begin with the same digit.
    for number in 0..17_u8 {
        rows.push(row("research", &[number], 1));
        registry.add(&rows[usize::from(number)], &[number], false, 1).unwrap();
    }
    let hex = rows[4].digest.hex();
    for target in
        [format!("research@sha256:{hex}"), format!("research@{}", hex[..12].to_uppercase())]
    {
        assert_eq!(resolve(&registry, &target).unwrap().digest, rows[4].digest);
    }

    let first = |row: &RevisionRow| row.digest.hex()[..1].to_owned();
    let twice = rows
        .iter()
        .map(first)
        .find(|digit| rows.iter().filter(|row| first(row) == *digit).count() > 1);
    let error = resolve(&registry, &format!("research@{}", twice.unwrap())).unwrap_err();
    assert!(
        matches!(&error, RegistryError::AmbiguousRevision { candidates, .. } if candidates.len() > 1)
    );

    let error = resolve(&registry, "research").unwrap_err();
    let newest = rows[16].digest.short();
    assert_eq!(
        error.hint().unwrap(),
        format!("`reenact publish research@{newest}` publishes its newest draft")
    );
    for (target, expected) in [
        ("nobody", "there is no agent `nobody`"),
        ("research@abcdefabcdef", "agent `research` has no revision `abcdefabcdef`"),
        (
            "research@latest",
            "`latest` is not the beginning of a digest: expected hex digits, at most 64",
        ),
        ("research@", "`` is not the beginning of a digest: expected hex digits, at most 64"),
    ] {
        assert_eq!(resolve(&registry, target).unwrap_err().to_string(), expected);
    }
}

#[cfg(unix)]
#[test]
fn the_home_folder_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (home, _registry) = open(folder.path(), 1);
    for folder in [home.path(), &home.blobs(), &home.tmp(), &home.cache()] {
        let mode = fs::metadata(folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
}

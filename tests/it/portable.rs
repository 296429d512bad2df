//! A run as one file: it proves itself with nothing else, and says where it is
//! damaged.

use std::fs;
use std::path::Path;
use std::process::Command;

use reenact::journal::{Body, Chain, Encoded, PortableRun, Started, verify_all};
use reenact::revision::Digest;
use serde_json::Value;

use crate::support::{Home, Said, guest};

/// An exported run of the research agent, and a folder to keep it in.
struct Exported {
    home: Home,
    dir: tempfile::TempDir,
    run: Value,
    bytes: Vec<u8>,
}

impl Exported {
    fn new() -> Self {
        let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
        let agent = dir.path().join("research.wasm");
        fs::write(&agent, &guest("research").bytes).unwrap();
        let agent = agent.to_str().unwrap();
        fs::create_dir(dir.path().join("papers")).unwrap();
        fs::write(dir.path().join("papers/a.md"), "A sandbox keeps the guest in.\n").unwrap();
        let grant = format!("files={}", dir.path().join("papers").display());
        let input = r#"{"topic":"sandbox"}"#;
        let run = home.json(&["run", agent, "--input", input, "--grant", &grant, "--json"]);
        let exported = Self { home, dir, run, bytes: vec![] };
        let bytes = exported.export("run.reenact");
        Self { bytes, ..exported }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn export(&self, name: &str) -> Vec<u8> {
        let id = self.run["id"].as_str().unwrap();
        assert_eq!(self.home.ok(&["export", id, "-o", &self.path(name)]), "");
        fs::read(self.path(name)).unwrap()
    }

    /// Replays these bytes where nothing else is: no home, no environment.
    fn replay(&self, bytes: &[u8]) -> Said {
        fs::write(self.path("sent.reenact"), bytes).unwrap();
        let mut command = self.home.command(&["replay", &self.path("sent.reenact")]);
        command.args(["--color", "always"]).env_clear().current_dir("/");
        command.env("HOME", self.path("no-home")).env("REENACT_HOME", self.path("no-home"));
        let said: Said = command.output().unwrap().into();
        assert!(!Path::new(&self.path("no-home")).exists(), "the file is enough");
        said
    }

    fn refused(&self, bytes: &[u8]) -> String {
        let said = self.replay(bytes);
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:#?}");
        assert!(said.stderr.contains("sent.reenact` is refused\n"), "{said:#?}");
        said.stderr
    }

    /// The run with a changed head and a chain that fits it: a forgery.
    fn forged(&self, change: impl FnOnce(&mut Started)) -> Vec<Encoded> {
        let journal = PortableRun::from_bytes(&self.bytes).unwrap().journal;
        let mut entries = verify_all(&journal).unwrap();
        let Body::Started(started) = &mut entries[0].body else { panic!() };
        change(started);
        let mut chain = Chain::default();
        entries.iter().map(|entry| chain.push(entry)).collect()
    }
}

#[test]
fn a_run_proves_itself_with_nothing_else() {
    let exported = Exported::new();
    let said = exported.replay(&exported.bytes);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("came out the same"), "{said:#?}");
    assert!(said.stdout.contains(exported.run["journalHash"].as_str().unwrap()), "{said:#?}");
    assert!(said.stdout.contains("from the journal, no tool was called"));
}

#[test]
fn exporting_twice_gives_the_same_bytes() {
    let exported = Exported::new();
    assert!(exported.export("again.reenact") == exported.bytes);
}

#[test]
fn everybodys_tar_opens_it() {
    let exported = Exported::new();
    let tar = |args: &[&str]| {
        let output = Command::new("tar").args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let file = exported.path("run.reenact");
    assert_eq!(tar(&["tf", &file]), b"run.json\njournal.jsonl\nrevision.wasm\n");
    let member = |name: &str| tar(&["xOf", &file, name]);
    let header: Value = serde_json::from_slice(&member("run.json")).unwrap();
    assert_eq!(header["head"], exported.run["journalHash"]);
    assert_eq!(header["entries"], exported.run["entries"]);
    let revision = Digest::of(&member("revision.wasm")).to_string();
    assert_eq!(
        (&header["revision"], &exported.run["revisionId"]),
        (&revision.clone().into(), &revision.into())
    );
    let journal = String::from_utf8(member("journal.jsonl")).unwrap();
    let last: Value = serde_json::from_str(journal.lines().last().unwrap()).unwrap();
    assert_eq!(last["hash"], header["head"]);
    assert_eq!(journal.lines().count() as u64, header["entries"]);
}

#[test]
fn what_is_not_an_export_is_named_as_such() {
    let exported = Exported::new();
    for (bytes, reason) in [
        (&b""[..], "it is not an exported run: it is empty"),
        (b"hello\n", "it is not an exported run: it is not a tar archive"),
        (&guest("minimal").bytes, "it is not an exported run: "),
    ] {
        let said = exported.refused(bytes);
        assert!(said.contains(reason), "{said}");
    }
    let said = exported.home.fails(1, &["replay", "./nowhere.reenact"]);
    assert_eq!(said, "error: there is no file `./nowhere.reenact`\n");
}

#[test]
fn a_file_that_was_cut_off_says_where() {
    let exported = Exported::new();
    let all = exported.bytes.len();
    let journal = 1024 + 512;
    let revision = exported.bytes.windows(13).position(|bytes| bytes == b"revision.wasm").unwrap();
    for (length, member) in [
        (100, "run.json"),
        (600, "run.json"),
        (1024, "journal.jsonl"),
        (1030, "journal.jsonl"),
        (journal + 77, "journal.jsonl"),
        (revision, "revision.wasm"),
        (revision + 512, "revision.wasm"),
        (all / 2, "revision.wasm"),
        (all - 1025, "the archive's end"),
        (all - 1, "the archive's end"),
    ] {
        let said = exported.refused(&exported.bytes[..length]);
        assert!(said.contains(member), "{length} of {all}: {said}");
        assert!(said.contains(&format!("it ends at byte {length}")), "{said}");
    }
}

#[test]
fn a_file_with_a_flipped_bit_says_where() {
    let exported = Exported::new();
    let find = |text: &str| {
        let found = exported.bytes.windows(text.len()).position(|bytes| bytes == text.as_bytes());
        found.unwrap_or_else(|| panic!("{text}"))
    };
    let (planning, revision) = (find("planning"), find("revision.wasm"));
    for (at, place) in [
        (512 + 20, "`run.json`"),
        (planning, "entry 1"),
        (planning + 40, "entry 1"),
        (revision - 1, "journal.jsonl"),
        (revision + 512 + 30_000, "`revision.wasm`"),
        (exported.bytes.len() - 100, "revision.wasm"),
    ] {
        let mut bytes = exported.bytes.clone();
        bytes[at] ^= 1;
        let said = exported.refused(&bytes);
        assert!(said.contains(place), "byte {at}: {said}");
    }
}

#[test]
fn the_wrong_revision_inside_is_found() {
    let exported = Exported::new();
    let other = guest("minimal");
    let journal = PortableRun::from_bytes(&exported.bytes).unwrap().journal;
    let swapped = PortableRun { revision: other.bytes.to_vec(), journal }.to_bytes().unwrap();
    let said = exported.refused(&swapped);
    let found = format!("in `revision.wasm`: it hashes to {}", other.digest);
    assert!(said.contains(&found), "{said}");

    // Even if everything inside fits, another agent does not act the same.
    let journal = exported.forged(|started| started.revision = other.digest);
    let forged = PortableRun { revision: other.bytes.to_vec(), journal }.to_bytes().unwrap();
    let said = exported.replay(&forged);
    assert_eq!(said.code, Some(4), "{said:#?}");
    assert!(said.stdout.contains("diverged at entry"), "{said:#?}");
    assert!(said.stdout.contains("expected") && said.stdout.contains("found"), "{said:#?}");
}

#[test]
fn a_sent_file_does_not_drive_the_terminal() {
    let exported = Exported::new();
    let escape = "\u{1b}]0;owned\u{7}";
    let revision = guest("research").bytes.to_vec();
    let journal = exported.forged(|started| {
        started.run = escape.to_owned();
        started.engine.wasmtime = escape.to_owned();
    });
    let forged = PortableRun { revision: revision.clone(), journal }.to_bytes().unwrap();
    let broken = String::from_utf8_lossy(&exported.bytes[512..700])
        .replace("\"format\"", &format!("\"{escape}\""));
    let mut head = exported.bytes.clone();
    head[512..700].copy_from_slice(&broken.as_bytes()[..188]);
    for bytes in [forged, head] {
        let said = exported.replay(&bytes);
        let text = said.stdout + &said.stderr;
        assert!(!text.contains("\u{1b}]") && !text.contains('\u{7}'), "{text:?}");
    }
}

//! Revisions from the file to the home: what they are called, what is
//! published, and that nothing but the very bytes ever runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use reenact::registry::Home as Layout;
use reenact::revision::{Digest, Revision};

use crate::support::{Home, guest, guest_folder, put, resealed};

const ADA: &str = r#"{"name":"Ada"}"#;

/// The minimal agent with another description: another revision.
fn variant(description: impl ToString) -> Arc<Revision> {
    resealed(&guest("minimal"), |manifest| manifest.description = description.to_string())
}

/// A folder with sealed files.
struct Shelf(tempfile::TempDir);

impl Shelf {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, revision: &Revision) -> String {
        put(self.0.path(), revision)
    }
}

fn state(home: &Home) -> String {
    home.json(&["agents", "--json"])[0]["state"].as_str().unwrap().to_owned()
}

/// An agent's folder that holds a component which is built already.
fn prebuilt(dir: &Path) -> PathBuf {
    guest("minimal");
    let source = guest_folder("minimal");
    let toml = fs::read_to_string(source.join("agent.toml")).unwrap();
    let component = "../target/wasm32-wasip2/release/minimal.wasm";
    let mut toml: toml::Table = toml.parse().unwrap();
    toml.remove("build").unwrap();
    toml.insert("component".into(), "minimal-plain.wasm".into());
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("agent.toml"), toml.to_string()).unwrap();
    fs::copy(source.join(component), dir.join("minimal-plain.wasm")).unwrap();
    dir.to_owned()
}

#[test]
fn the_id_is_what_sha256sum_prints() {
    let (home, shelf) = (Home::new(), tempfile::tempdir().unwrap());
    let file = shelf.path().join("minimal.wasm");
    let file = file.to_str().unwrap();
    let id = home.ok(&["build", "guest-examples/minimal", "-o", file]);
    let sum = Command::new("sha256sum").arg(file).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap();
    assert_eq!(id.trim(), format!("sha256:{}", sum.split(' ').next().unwrap()));
    assert_eq!(home.json(&["inspect", file, "--json"])["revision"], id.trim());
}

#[test]
fn the_same_inputs_seal_to_the_same_bytes() {
    let (home, shelf) = (Home::new(), tempfile::tempdir().unwrap());
    let build = |folder: &str| {
        let folder = prebuilt(&shelf.path().join(folder));
        home.ok(&["build", folder.to_str().unwrap()]);
        fs::read(folder.join("minimal.wasm")).unwrap()
    };
    let first = build("one");
    assert_eq!(build("one"), first);
    assert_eq!(build("two/deeper"), first);
    assert_eq!(guest("minimal").bytes[..], first);
}

#[test]
fn an_agent_goes_through_its_states_and_back() {
    let (home, shelf) = (Home::new(), Shelf::new());
    let (one, two) = (variant("one"), variant("two"));
    let (one_file, two_file) = (shelf.put(&one), shelf.put(&two));

    let said = home.ok(&["publish", &one_file, "--draft"]);
    assert_eq!(said, format!("stored as a draft minimal@{}\n", one.digest));
    assert_eq!(state(&home), "Unpublished");
    assert_eq!(
        home.fails(1, &["run", "minimal", "--input", ADA]),
        format!(
            "error: agent `minimal` has no published revision\n\n\
             hint: `reenact publish minimal@{}` publishes its newest draft\n",
            one.digest.short()
        )
    );
    let said = home.ok(&["publish", &format!("minimal@{}", one.digest.short())]);
    assert_eq!(said, format!("published minimal@{}\n", one.digest));
    assert_eq!(state(&home), "Published");

    home.ok(&["publish", &two_file, "--draft"]);
    assert_eq!(state(&home), "Unpublished changes");
    assert_eq!(home.published(), one.digest.to_string());
    home.ok(&["publish", &two_file]);
    assert_eq!((state(&home), home.published()), ("Published".into(), two.digest.to_string()));

    // Back to the older one: what runs is the older one.
    home.ok(&["publish", &format!("minimal@{}", &one.digest.hex()[..10])]);
    assert_eq!(state(&home), "Unpublished changes");
    let run = home.json(&["run", "minimal", "--input", ADA, "--json"]);
    assert_eq!(run["revisionId"], one.digest.to_string());
    let list = home.ok(&["revisions", "minimal"]);
    let rows: Vec<&str> = list.lines().skip(1).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows[0].starts_with(&two.digest.to_string()) && rows[0].contains(" draft "), "{list}");
    assert!(rows[1].contains(" published "), "{list}");
}

#[test]
fn publishing_a_folder_builds_it_and_again_changes_nothing() {
    let home = Home::new();
    let expected = format!("published minimal@{}\n", guest("minimal").digest);
    for _ in 0..2 {
        assert_eq!(home.ok(&["publish", "guest-examples/minimal"]), expected);
    }
    assert_eq!(home.json(&["revisions", "minimal", "--json"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_beginning_of_a_digest_is_enough_if_only_one_has_it() {
    let (home, shelf) = (Home::new(), Shelf::new());
    // Two whose digests begin with the same digit, and no third.
    let mut found: Vec<Arc<Revision>> = Vec::new();
    let digit = |revision: &Revision| revision.digest.hex()[..1].to_owned();
    let (one, two) = (0..)
        .find_map(|number| {
            let new = variant(number);
            let twin = found.iter().find(|old| digit(old) == digit(&new)).cloned();
            found.push(Arc::clone(&new));
            Some((twin?, new))
        })
        .unwrap();
    for revision in [&one, &two] {
        home.ok(&["publish", &shelf.put(revision), "--draft"]);
    }
    let target = format!("minimal@{}", digit(&one));
    let said = home.fails(1, &["run", &target, "--input", ADA]);
    assert!(said.starts_with(&format!("error: `{}` could be any of the revisions ", digit(&one))));
    assert!(said.contains(&one.digest.to_string()) && said.contains(&two.digest.to_string()));
    assert!(said.ends_with("\n\nhint: give more digits\n"), "{said}");

    let target = format!("minimal@sha256:{}", &two.digest.hex()[..16]);
    let run = home.json(&["run", &target, "--input", ADA, "--json"]);
    assert_eq!(run["revisionId"], two.digest.to_string());
    let id = run["id"].as_str().unwrap();
    assert_eq!(home.json(&["show", &id[..30], "--json"])["id"], id);
    home.ok(&["replay", &id[..30]]);
}

#[test]
fn what_is_not_there_is_named_with_a_way_out() {
    let (home, shelf) = (Home::new(), Shelf::new());
    home.ok(&["publish", &shelf.put(&guest("minimal"))]);
    for verb in ["run", "revisions"] {
        assert_eq!(
            home.fails(1, &[verb, "minmal"]),
            "error: there is no agent `minmal`\n\nhint: did you mean `minimal`?\n"
        );
    }
    assert_eq!(
        home.fails(1, &["run", "weather"]),
        "error: there is no agent `weather`\n\nhint: `reenact agents` lists all agents\n"
    );
    for verb in ["run", "publish"] {
        assert_eq!(
            home.fails(1, &[verb, "minimal@0000000000"]),
            "error: agent `minimal` has no revision `0000000000`\n\n\
             hint: `reenact revisions minimal` lists its revisions\n"
        );
    }
    for verb in ["show", "replay", "export"] {
        let said = home.fails(1, &[verb, "ffff"]);
        assert_eq!(said, "error: there is no run `ffff`\n\nhint: `reenact runs` lists the runs\n");
    }
}

#[test]
fn a_flipped_bit_is_an_error_and_never_a_run() {
    let (home, shelf) = (Home::new(), Shelf::new());
    let revision = guest("minimal");
    let file = shelf.put(&revision);
    home.ok(&["publish", &file]);
    let run = home.json(&["run", "minimal", "--input", ADA, "--json"]);
    let run = run["id"].as_str().unwrap();

    let blob = Layout::at(home.path()).blob(revision.digest);
    let mut bytes = revision.bytes.to_vec();
    bytes[revision.bytes.len() / 2] ^= 4;
    fs::write(&blob, &bytes).unwrap();
    let damage = format!(
        "`{}` is damaged: expected `{}`, found `{}`",
        blob.display(),
        revision.digest,
        Digest::of(&bytes)
    );
    let target = format!("minimal@{}", revision.digest);
    let export = shelf.0.path().join("run.reenact");
    for args in [
        &["run", "minimal", "--input", ADA][..],
        &["replay", run],
        &["export", run, "-o", export.to_str().unwrap()],
        &["publish", &target],
    ] {
        let said = home.fails(1, args);
        assert!(said.contains(&damage), "{args:?}: {said}");
        assert!(said.contains("hint: add the same sealed file again"), "{said}");
    }
    assert!(home.says(&["replay", "--all"]).stdout.contains(&damage));
    home.fails(4, &["replay", "--all"]);
    assert_eq!(home.json(&["runs", "--json"]).as_array().unwrap().len(), 1);
    assert!(!export.exists());

    home.ok(&["publish", &file]);
    home.ok(&["replay", run]);
}

#[test]
fn many_processes_publish_and_run_in_one_home() {
    let (home, shelf) = (Home::new(), Shelf::new());
    home.ok(&["publish", &shelf.put(&guest("minimal"))]);
    let files: Vec<String> = (0..4).map(|number| shelf.put(&variant(number))).collect();
    let spawn = |args: &[&str]| {
        let mut command = home.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut children = Vec::new();
    for file in &files {
        children.push(spawn(&["publish", file]));
        children.push(spawn(&["run", "minimal", "--input", ADA]));
        children.push(spawn(&["run", file, "--input", ADA]));
    }
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(home.json(&["revisions", "minimal", "--json"]).as_array().unwrap().len(), 5);
    assert_eq!(home.json(&["replay", "--all", "--json"])["same"], 8);
}

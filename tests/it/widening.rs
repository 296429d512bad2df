//! What a revision asks for beyond the published one: shown, and refused unless
//! somebody says that it is meant.

use std::sync::Arc;

use reenact::revision::Revision;
use serde_json::json;

use crate::support::{Home, guest, put, resealed};

/// Puts a revision of the minimal guest that asks for these tools into a file.
fn asking(home: &Home, tools: &[&str]) -> (Arc<Revision>, String) {
    let revision = resealed(&guest("minimal"), |manifest| {
        manifest.tools = tools.iter().map(|tool| tool.parse().unwrap()).collect();
    });
    let file = put(home.path(), &revision);
    (revision, file)
}

#[test]
fn a_revision_that_asks_for_more_is_published_only_on_request() {
    let home = Home::new();
    let (narrow, narrow_file) = asking(&home, &["files.read"]);
    let (wide, wide_file) = asking(&home, &["files.read", "http.fetch"]);

    // Nothing is published yet, so there is nothing to compare with.
    let said = home.says(&["publish", &narrow_file]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), "asks for files.read\n"));

    let said = home.fails(1, &["publish", &wide_file]);
    assert_eq!(
        said,
        "asks for files.read\n\
         asks for more than the published revision: http.fetch\n\
         error: `minimal` asks for more than its published revision: http.fetch\n\n\
         hint: `--allow-new-tools` publishes it all the same, `--draft` only stores it\n"
    );
    assert_eq!(home.published(), narrow.digest.to_string());
    let revisions = home.json(&["revisions", "minimal", "--json"]);
    assert_eq!(revisions.as_array().unwrap().len(), 1, "what is refused is not stored");

    let answer = home.json(&["publish", &wide_file, "--allow-new-tools", "--json"]);
    assert_eq!(answer["asksNew"], json!(["http.fetch"]));
    assert_eq!(answer["asks"], json!(["files.read", "http.fetch"]));
    assert_eq!(home.published(), wide.digest.to_string());
}

#[test]
fn a_draft_and_a_way_back_to_less_need_no_request() {
    let home = Home::new();
    let (narrow, narrow_file) = asking(&home, &["files.read"]);
    let (wide, wide_file) = asking(&home, &["files.*"]);
    home.ok(&["publish", &narrow_file]);
    home.ok(&["publish", &wide_file, "--draft"]);
    assert_eq!(home.published(), narrow.digest.to_string());

    // The draft is stored, but pointing the agent at it widens what it may do.
    let target = format!("minimal@{}", wide.digest.short());
    let said = home.fails(1, &["publish", &target]);
    assert!(said.contains("asks for more than its published revision: files.*"), "{said}");
    home.ok(&["publish", &target, "--allow-new-tools"]);

    // The way back asks for less.
    home.ok(&["publish", &format!("minimal@{}", narrow.digest.short())]);
    assert_eq!(home.published(), narrow.digest.to_string());
}

//! Searching a granted folder.

use super::super::{folder, walk};
use super::*;

#[tokio::test]
async fn search_skips_what_is_not_text_for_people() {
    let tree = Tree::new();
    for path in [".git/a", ".hidden", "target/a", "node_modules/a", "sub/.x/a"] {
        tree.write(path, "needle");
    }
    tree.write("binary", b"needle\0");
    tree.write("huge", "needle ".repeat(200_000));
    tree.write("exact", format!("needle{}", " ".repeat((1 << 20) - 6)));
    tree.write("late_nul", [&[b'x'; 9_000][..], b"\0\nneedle"].concat());
    tree.write("latin1", b"caf\xE9 needle");
    tree.write("empty", "");
    // The names are skipped as folders, not as files.
    tree.write("sub/target", "needle");
    assert_eq!(tree.search("needle").await, ["exact:1", "late_nul:2", "latin1:1", "sub/target:1"]);
    let found = tree.ok("search", json!({ "query": "CAFÉ" })).await;
    assert_eq!(found["files_searched"], 5);
    assert_eq!(found["matches"], json!([]));
    assert_eq!(
        tree.ok("search", json!({ "query": "caf" })).await["matches"][0]["text"],
        "caf\u{FFFD} needle"
    );
}

#[tokio::test]
async fn matches_come_in_the_order_of_their_paths() {
    let tree = Tree::new();
    let paths = ["a-b.md", "a.md", "a/b.md", "a/c/d.md", "a0.md", "b.md"];
    for path in paths.iter().rev() {
        tree.write(path, "x\n  the Needle ");
    }
    let places = paths.map(|path| format!("{path}:2"));
    assert_eq!(tree.search("nEEDle").await, places);
    let success =
        tree.call("search", json!({ "query": "needle", "max_results": 2 })).await.unwrap();
    assert_eq!(
        success.content,
        json!({
            "matches": [
                { "path": "a-b.md", "line": 2, "text": "the Needle" },
                { "path": "a.md", "line": 2, "text": "the Needle" },
            ],
            "truncated": true,
            "files_searched": 3,
        })
    );
    let urls: Vec<_> = success.sources.iter().map(|source| source.url.as_str()).collect();
    assert_eq!(urls, ["files:a-b.md", "files:a.md"]);
    let below = tree.ok("search", json!({ "query": "needle", "path": "a/./c/" })).await;
    assert_eq!(below["matches"][0]["path"], "a/c/d.md");
    let all = tree.ok("search", json!({ "query": "needle", "max_results": 6 })).await;
    assert_eq!(all["truncated"], false);
}

#[tokio::test]
async fn one_file_gives_five_matches_at_most() {
    let tree = Tree::new();
    tree.write("a", "needle\n".repeat(5));
    assert_eq!(tree.ok("search", json!({ "query": "needle" })).await["truncated"], false);
    tree.write("b", "needle\n".repeat(6));
    let found = tree.ok("search", json!({ "query": "needle" })).await;
    assert_eq!(found["matches"].as_array().unwrap().len(), 10);
    assert_eq!(found["truncated"], true);
}

#[tokio::test]
async fn words_are_looked_for_if_the_whole_query_is_nowhere() {
    let tree = Tree::new();
    tree.write("a", "tar and Feathers\nfeathers");
    tree.write("b", "FEATHERS, then tar");
    assert_eq!(tree.search("feathers tar").await, ["a:1", "b:1"]);
    tree.write("c", "feathers tar");
    assert_eq!(tree.search("feathers tar").await, ["c:1"]);
    assert_eq!(tree.search("feathers\ntar").await, ["a:1", "b:1", "c:1"]);
    assert!(tree.search("feathers glue").await.is_empty());
}

#[tokio::test]
async fn a_long_line_is_shown_around_its_match() {
    let tree = Tree::new();
    tree.write("a", format!("{}Ünïcode needle{}", "ü ".repeat(1_000), " é".repeat(1_000)));
    let found = tree.ok("search", json!({ "query": "ÜNÏCODE" })).await;
    let text = found["matches"][0]["text"].as_str().unwrap();
    assert_eq!(text.chars().count(), 400);
    assert!(text.starts_with("…") && text.ends_with("…") && text.contains("Ünïcode needle"));
    tree.write("a", format!("needle{}", "x".repeat(1_000)));
    let found = tree.ok("search", json!({ "query": "needle" })).await;
    assert!(found["matches"][0]["text"].as_str().unwrap().starts_with("needlexx"));
}

#[tokio::test]
async fn a_tree_that_is_too_deep_is_searched_in_part() {
    let tree = Tree::new();
    let deep = |levels| format!("{}f", "d/".repeat(levels));
    tree.write(&deep(64), "needle");
    assert_eq!(tree.search("needle").await, [format!("{}:1", deep(64))]);
    assert_eq!(tree.ok("search", json!({ "query": "needle" })).await["truncated"], false);
    tree.write(&deep(65), "needle");
    assert_eq!(tree.search("needle").await.len(), 1);
    assert_eq!(tree.ok("search", json!({ "query": "needle" })).await["truncated"], true);
}

#[test]
fn a_walk_ends_at_its_bounds_and_when_it_is_cancelled() {
    let tree = Tree::new();
    for n in 0..10 {
        tree.write(&format!("{n}.md"), "x");
    }
    let folder = Folder::open(&tree.path(""), None).unwrap();
    let cancel = Cancel::default();
    let walk = |files, entries| {
        let bounds = walk::Bounds { files, depth: 3, entries, bytes: 0 };
        walk::Walk::start(&folder, &cancel, folder::RelPath::parse("").unwrap(), "", bounds)
    };
    for (files, entries, seen, incomplete) in
        [(10, 10, 10, false), (9, 100, 9, true), (100, 9, 9, true)]
    {
        let mut walk = walk(files, entries).unwrap();
        let mut count = 0;
        while walk.next_file().unwrap().is_some() {
            count += 1;
        }
        assert_eq!((count, walk.incomplete), (seen, incomplete));
    }
    let mut started = walk(10, 10).unwrap();
    started.next_file().unwrap();
    cancel.0.store(true, Ordering::Relaxed);
    assert!(started.next_file().is_err());
    assert!(walk(10, 10).is_err());
}

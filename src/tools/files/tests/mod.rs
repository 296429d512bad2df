//! A granted folder: reading, listing, and every way out of it.

mod search;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::tools::{Budget, Call, Report};

/// A granted folder `in`, with a secret beside it.
struct Tree {
    outer: TempDir,
    provider: Arc<dyn Provider>,
}

impl Tree {
    fn new() -> Self {
        Self::with_url(None)
    }

    fn with_url(url: Option<&str>) -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("in")).unwrap();
        fs::create_dir(outer.path().join("out")).unwrap();
        fs::write(outer.path().join("out/secret.md"), "the secret needle").unwrap();
        let mut table = toml::Table::from_iter([("root".to_owned(), "in".into())]);
        table.extend(url.map(|url| ("url".to_owned(), url.into())));
        let grant = Grant::Table { table, file: outer.path().join("reenact.toml") };
        let provider = Files::open(&grant).unwrap();
        Self { outer, provider }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.outer.path().join("in").join(path)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn fifo(&self, path: &str) {
        let made = std::process::Command::new("mkfifo").arg(self.path(path)).status().unwrap();
        assert!(made.success());
    }

    async fn call(&self, tool: &str, arguments: Value) -> Result<Success, ToolError> {
        let context = CallContext {
            key: "run/0".to_owned(),
            needs: Value::Null,
            budget: Budget::UNLIMITED,
            report: Report::default(),
        };
        let call = self.provider.call(&format!("files.{tool}"), arguments, context);
        tokio::time::timeout(Duration::from_secs(20), call).await.expect("it hangs")
    }

    async fn ok(&self, tool: &str, arguments: Value) -> Value {
        self.call(tool, arguments).await.unwrap().content
    }

    async fn fails(&self, tool: &str, arguments: Value) -> ToolError {
        let failure = self.call(tool, arguments).await.unwrap_err();
        let host = self.outer.path().to_str().unwrap();
        assert!(!failure.message.contains(host), "{failure}");
        failure
    }

    /// `path:line` of each match.
    async fn search(&self, query: &str) -> Vec<String> {
        let content = self.ok("search", json!({ "query": query, "max_results": 100 })).await;
        let place =
            |found: &Value| format!("{}:{}", found["path"].as_str().unwrap(), found["line"]);
        content["matches"].as_array().unwrap().iter().map(place).collect()
    }
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder() {
    let tree = Tree::new();
    let outside = tree.outer.path().join("out");
    tree.write("inside/a.md", "x");
    symlink(&outside, tree.path("abs_folder")).unwrap();
    symlink("../out", tree.path("rel_folder")).unwrap();
    symlink(outside.join("secret.md"), tree.path("abs_file")).unwrap();
    symlink("../out/secret.md", tree.path("rel_file")).unwrap();
    symlink("../../out/secret.md", tree.path("inside/deep_file")).unwrap();
    symlink("..", tree.path("up")).unwrap();
    for path in [
        "../out/secret.md",
        "inside/../../out/secret.md",
        outside.join("secret.md").to_str().unwrap(),
        "/etc/passwd",
        "..",
        "inside/../inside/a.md",
        "a\0b",
    ] {
        let failure = match tree.call("read", json!({ "path": path })).await {
            Err(failure) => failure,
            Ok(success) => panic!("{path}: {success:?}"),
        };
        assert_eq!(failure.code, ToolErrorCode::InvalidArguments, "{path}: {failure}");
    }
    for path in [
        "abs_folder/secret.md",
        "rel_folder/secret.md",
        "abs_file",
        "rel_file",
        "inside/deep_file",
        "up/out/secret.md",
    ] {
        let failure = tree.fails("read", json!({ "path": path })).await;
        let expected = format!("cannot read `{path}`: it leads out of the granted folder");
        assert_eq!((failure.code, failure.message), (ToolErrorCode::Failed, expected));
    }
    for path in ["abs_folder", "rel_folder", "up"] {
        for (tool, arguments) in [
            ("list", json!({ "path": path })),
            ("search", json!({ "path": path, "query": "needle" })),
        ] {
            let failure = tree.fails(tool, arguments).await;
            assert!(failure.message.contains("leads out of the granted folder"), "{failure}");
        }
    }
    assert!(tree.search("needle").await.is_empty());
}

#[tokio::test]
async fn links_that_stay_inside_are_followed_and_loops_are_not() {
    let tree = Tree::new();
    tree.write("real/a.md", "needle");
    symlink("real", tree.path("folder")).unwrap();
    symlink("a.md", tree.path("real/again.md")).unwrap();
    symlink("loop", tree.path("loop")).unwrap();
    symlink("..", tree.path("real/parent")).unwrap();
    assert_eq!(tree.ok("read", json!({ "path": "folder/again.md" })).await["text"], "needle");
    assert_eq!(tree.ok("read", json!({ "path": "real/parent/real/a.md" })).await["text"], "needle");
    // Once, under its own path.
    assert_eq!(tree.search("needle").await, ["real/a.md:1"]);
    let failure = tree.fails("read", json!({ "path": "loop" })).await;
    assert!(failure.message.starts_with("cannot read `loop`: "), "{failure}");
    tree.fails("list", json!({ "path": "loop" })).await;
}

#[tokio::test]
async fn what_is_no_regular_file_is_never_opened() {
    let tree = Tree::new();
    tree.write("z.md", "needle");
    tree.fifo("a.md");
    symlink("a.md", tree.path("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.path("socket")).unwrap();
    assert_eq!(tree.search("needle").await, ["z.md:1"]);
    for path in ["a.md", "link", "socket"] {
        let failure = tree.fails("read", json!({ "path": path })).await;
        assert_eq!(failure.message, format!("cannot read `{path}`: it is not a regular file"));
    }
    let failure = tree.fails("read", json!({ "path": "" })).await;
    assert_eq!(failure.message, "cannot read `.`: it is a folder");
    let entries = tree.ok("list", json!({})).await["entries"].clone();
    assert_eq!(
        entries,
        json!([
            { "name": "a.md", "type": "other" },
            { "name": "link", "type": "link" },
            { "name": "socket", "type": "other" },
            { "name": "z.md", "type": "file", "size": 6 },
        ])
    );
}

#[tokio::test]
async fn errors_name_what_is_wrong() {
    let tree = Tree::new();
    tree.write("a.md", "x");
    for (tool, arguments, message) in [
        ("read", json!({ "path": "./no//file" }), "cannot read `./no//file`: it does not exist"),
        ("list", json!({ "path": "none" }), "cannot list `none`: it does not exist"),
        ("list", json!({ "path": "a.md" }), "cannot list `a.md`: Not a directory (os error 20)"),
        (
            "search",
            json!({ "query": "x", "path": "none" }),
            "cannot search `none`: it does not exist",
        ),
        ("search", json!({ "query": " \n" }), "`query` is only white space"),
    ] {
        assert_eq!(tree.fails(tool, arguments).await.message, message);
    }
}

#[tokio::test]
async fn an_abandoned_call_gives_its_place_back() {
    let tree = Tree::new();
    let outer = Arc::new(Folder::open(&tree.path(""), None).unwrap());
    let places = Arc::new(Semaphore::new(1));
    let files = Files { folder: outer, places: places.clone() };
    let work = files.work(json!({}), |_, _: Value, cancel| {
        loop {
            cancel.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert!(tokio::time::timeout(Duration::from_millis(50), work).await.is_err());
    let start = Instant::now();
    let _place = places.acquire().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_file_is_read_in_parts_without_splitting_characters() {
    let tree = Tree::new();
    let text = "añ€😀 ".repeat(20);
    tree.write("u.txt", &text);
    for max in 4..12 {
        let (mut offset, mut parts) = (0, String::new());
        loop {
            let part = tree
                .ok("read", json!({ "path": "u.txt", "offset": offset, "max_bytes": max }))
                .await;
            parts.push_str(part["text"].as_str().unwrap());
            assert_eq!(part["size"], text.len());
            if part["truncated"] == false {
                assert!(part.get("next_offset").is_none());
                break;
            }
            offset = part["next_offset"].as_u64().unwrap();
        }
        assert_eq!(parts, text);
    }
    let past = tree.ok("read", json!({ "path": "u.txt", "offset": 10_000 })).await;
    assert_eq!((&past["text"], &past["truncated"]), (&json!(""), &json!(false)));
}

#[tokio::test]
async fn a_file_may_be_large_or_no_text_at_all() {
    let tree = Tree::new();
    tree.write("large", vec![b'x'; 70_000]);
    let part = tree.ok("read", json!({ "path": "large" })).await;
    assert_eq!(
        (part["text"].as_str().unwrap().len(), &part["next_offset"]),
        (65_536, &json!(65_536))
    );
    let whole = tree.ok("read", json!({ "path": "large", "max_bytes": 70_000 })).await;
    assert_eq!(whole["truncated"], false);
    tree.write("bytes", b"\xFF\x00\x80\xF0\x9F");
    let part = tree.ok("read", json!({ "path": "bytes" })).await;
    assert_eq!(part["text"], "\u{FFFD}\0\u{FFFD}\u{FFFD}");
}

#[tokio::test]
async fn a_folder_is_listed_by_name_up_to_a_thousand() {
    let tree = Tree::new();
    for n in 0..1_000 {
        tree.write(&format!("many/{n:04}"), "");
    }
    let list = tree.ok("list", json!({ "path": "many" })).await;
    assert_eq!(
        (list["entries"].as_array().unwrap().len(), &list["truncated"]),
        (1_000, &json!(false))
    );
    tree.write("many/x/y", "");
    let list = tree.ok("list", json!({ "path": "many/" })).await;
    assert_eq!((&list["entries"][999]["name"], &list["truncated"]), (&json!("0999"), &json!(true)));
    let list = tree.ok("list", json!({})).await;
    assert_eq!(list["entries"], json!([{ "name": "many", "type": "folder" }]));
}

#[tokio::test]
async fn sources_have_titles_and_never_the_hosts_paths() {
    let plain = Tree::new();
    let online = Tree::with_url(Some("https://docs.example.com/v1/"));
    for tree in [&plain, &online] {
        tree.write("a b/ü?.md", "\u{FEFF}\n# The  title \nneedle");
        tree.write("n.md", "text\n# not the start\nneedle");
        tree.write("p.txt", "# no Markdown\nneedle");
    }
    for (tree, prefix, root) in [
        (&plain, "files:", "files:./"),
        (&online, "https://docs.example.com/v1/", "https://docs.example.com/v1/"),
    ] {
        let found = tree.call("search", json!({ "query": "needle" })).await.unwrap();
        let source = |url: &str, title: &str| super::super::Source {
            url: format!("{prefix}{url}"),
            title: title.to_owned(),
        };
        let titled = source("a%20b/%C3%BC%3F.md", "The  title");
        assert_eq!(
            found.sources,
            [titled.clone(), source("n.md", "n.md"), source("p.txt", "p.txt")]
        );
        // The title is known wherever reading starts.
        let part = tree.call("read", json!({ "path": "a b/ü?.md", "offset": 15 })).await.unwrap();
        assert_eq!(part.sources, [titled]);
        let list = tree.call("list", json!({ "path": "a b" })).await.unwrap();
        assert_eq!(list.sources, [source("a%20b/", "a b/")]);
        assert_eq!(tree.call("list", json!({})).await.unwrap().sources[0].url, root);
    }
}

#[tokio::test]
async fn a_run_calls_the_tools_through_their_schemas() {
    use crate::journal::Answer;
    use crate::tools::{Catalogue, ToolLimits};

    let tree = Tree::new();
    tree.write("a.md", "# Title\n");
    let catalogue = Catalogue::of([("files".to_owned(), tree.provider.clone())].into()).unwrap();
    let names: Vec<_> = catalogue.specs().iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["files.list", "files.read", "files.search"]);
    let limits = ToolLimits::from(&crate::revision::Limits::DEFAULT);
    let tools = catalogue.for_run(|name| name != "files.list", limits);
    let call = |name, arguments| {
        let key = "run/0".to_owned();
        tools.call(Call { key, name, arguments, budget: Budget::UNLIMITED })
    };
    let Answer::Ok(output) = call("files.read", r#"{"path":"a.md"}"#).await.answer else {
        panic!()
    };
    let text = r##"{"path":"a.md","text":"# Title\n","size":8,"truncated":false}"##;
    assert_eq!((output.content.as_str(), output.sources[0].title.as_str()), (text, "Title"));
    for (name, arguments, code) in [
        ("files.list", "{}", ToolErrorCode::Denied),
        ("files.write", "{}", ToolErrorCode::UnknownTool),
        ("files.read", "{}", ToolErrorCode::InvalidArguments),
        ("files.read", r#"{"path":"a.md","max_bytes":3}"#, ToolErrorCode::InvalidArguments),
        ("files.read", r#"{"path":"a.md","max_bytes":1048577}"#, ToolErrorCode::InvalidArguments),
        ("files.search", r#"{"query":""}"#, ToolErrorCode::InvalidArguments),
        ("files.search", r#"{"query":"x","max_results":101}"#, ToolErrorCode::InvalidArguments),
        ("files.search", r#"{"query":"x","regex":true}"#, ToolErrorCode::InvalidArguments),
        ("files.read", r#"{"path":"none"}"#, ToolErrorCode::Failed),
    ] {
        let Answer::Error(failure) = call(name, arguments).await.answer else {
            panic!("{arguments}")
        };
        assert_eq!(failure.code, code, "{failure}");
    }
}

#[tokio::test]
async fn hidden_files_are_not_granted() {
    let tree = Tree::new();
    for path in [".env", ".git/config", "sub/.key"] {
        tree.write(path, "secret");
        let failure = tree.fails("read", json!({ "path": path })).await;
        assert_eq!(failure.code, ToolErrorCode::InvalidArguments, "{path}");
        assert!(failure.message.contains("hidden"), "{failure}");
    }
    tree.write("sub/seen", "");
    assert_eq!(tree.ok("list", json!({})).await["entries"].as_array().unwrap().len(), 1);
    let listed = tree.ok("list", json!({ "path": "sub" })).await;
    assert_eq!(listed["entries"][0]["name"], "seen");
    assert_eq!(listed["entries"].as_array().unwrap().len(), 1);
    tree.fails("search", json!({ "query": "secret", "path": ".git" })).await;
}

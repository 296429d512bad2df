//! Manifests: what they must say and what they may not.

use serde_json::json;

use super::*;

fn manifest() -> Value {
    json!({
        "format": 1,
        "name": "a-1",
        "license": "Apache-2.0",
        "input": { "type": "object" },
        "output": { "type": "json", "schema": true },
        "tools": ["files.search", "web.*"],
        "limits": { "fuel": 1000 },
        "config": { "b": 1.0, "a": "ü" },
    })
}

fn with(pointer: &str, value: Value) -> Result<Manifest, InvalidManifest> {
    let mut manifest = manifest();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    manifest.pointer_mut(parent).unwrap()[name] = value;
    Manifest::from_json(manifest.to_string().as_bytes())
}

#[test]
fn canonical_json_is_sorted_complete_and_read_back() {
    let manifest = Manifest::from_json(manifest().to_string().as_bytes()).unwrap();
    let text = String::from_utf8(manifest.to_canonical_json()).unwrap();
    assert_eq!(
        text,
        r#"{"authors":[],"config":{"a":"ü","b":1},"description":"","format":1,"input":{"type":"object"},"license":"Apache-2.0","limits":{"fuel":1000},"name":"a-1","output":{"schema":true,"type":"json"},"tools":["files.search","web.*"]}"#
    );
    assert_eq!(Manifest::from_json(text.as_bytes()).unwrap().to_canonical_json(), text.as_bytes());
}

#[test]
fn each_refusal_says_what_is_wrong() {
    for (pointer, value, text) in [
        (
            "/format",
            json!(2),
            "the manifest has format `2`, but this version of reenact reads format `1`",
        ),
        ("/format", json!("1"), "the manifest is malformed: "),
        ("/goal", json!(""), "the manifest is malformed: unknown field `goal`"),
        (
            "/name",
            json!("Research"),
            "the manifest is malformed: `Research` is not an agent's name",
        ),
        ("/tools", json!(["files"]), "the manifest is malformed: `files` is not a tool"),
        ("/version", json!("x".repeat(300)), "`version` has 300 bytes, at most 256 are allowed"),
        ("/version", json!("1\n2"), "`version` must be one line"),
        ("/license", json!("my own"), "`license` is `my own`, which is not an SPDX expression: "),
        ("/output/type", json!("document"), "`output.schema` is given"),
        ("/output/schema", json!(null), "`output.schema` is missing"),
        ("/input/type", json!("text"), "the input schema is not a valid JSON Schema: at `/type`: "),
        (
            "/output/schema",
            json!({ "$ref": "#/x" }),
            "the output schema is not a valid JSON Schema: at `/$ref`: ",
        ),
        (
            "/config/a",
            json!([1_u64 << 60]),
            "`config` holds `1152921504606846976` at `/a/0`, which is too",
        ),
        ("/config/a", json!("x".repeat(MAX_CONFIG_BYTES)), "`config` has 262"),
        ("/limits/fuel", json!(0), "limit `fuel` is `0`"),
    ] {
        let error = with(pointer, value).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
}

#[test]
fn patterns_match_whole_names() {
    let all: ToolPattern = "files.*".parse().unwrap();
    let one: ToolPattern = "files.read".parse().unwrap();
    for (name, by_all, by_one) in [
        ("files.read", true, true),
        ("files.read.all", true, false),
        ("files.", false, false),
        ("filesystem.read", false, false),
    ] {
        assert_eq!((all.matches(name), one.matches(name)), (by_all, by_one), "{name}");
    }
    for bad in ["", "*", "files", "files.", "*.read", "files.re*", "files.**", "9iles.read"] {
        assert!(bad.parse::<ToolPattern>().is_err(), "{bad}");
    }
}

//! Sealing and opening: the same bytes, and each refusal.

use serde_json::json;

use super::*;

const RUN: &str = r#"
    (core module $m (func (export "run")))
    (core instance $i (instantiate $m))
    (func $run (canon lift (core func $i "run")))
    (instance $guest (export "run" (func $run)))
"#;

fn component(wat: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {wat})")).unwrap()
}

fn agent(version: &str, more: &str) -> Vec<u8> {
    component(&format!(
        r#"{more} {RUN} (export "reenact:agent/guest@{version}" (instance $guest))"#
    ))
}

fn manifest() -> Manifest {
    let manifest = json!({
        "format": 1,
        "name": "research",
        "version": "0.1.0",
        "description": "Finds things",
        "authors": ["A", "B"],
        "license": "Apache-2.0",
        "input": {},
        "output": { "type": "document" },
    });
    Manifest::from_json(manifest.to_string().as_bytes()).unwrap()
}

fn with_section(mut bytes: Vec<u8>, data: &[u8]) -> Vec<u8> {
    CustomSection { name: MANIFEST_SECTION.into(), data: data.into() }
        .append_to_component(&mut bytes);
    bytes
}

#[test]
fn what_is_sealed_is_opened() {
    let imports = r#"(import "wasi:cli/exit@0.2.6" (instance)) (import "reenact:agent/tools@0.1.3" (instance))"#;
    let sealed = seal(&agent("0.1.0", imports), &manifest()).unwrap();
    let revision = Revision::open(sealed.clone()).unwrap();
    assert_eq!(revision.manifest, manifest());
    assert_eq!(revision.digest, Digest::of(&sealed));
    assert_eq!(revision.imports, ["reenact:agent/tools@0.1.3", "wasi:cli/exit@0.2.6"]);
    assert_eq!(revision.exports, ["reenact:agent/guest@0.1.0"]);
    let found = wasm_metadata::Payload::from_binary(&sealed).unwrap();
    let found = found.metadata();
    assert_eq!(found.name.as_deref(), Some("research"));
    assert_eq!(found.authors.as_ref().unwrap().to_string(), "A, B");
    assert_eq!(found.licenses.as_ref().unwrap().to_string(), "Apache-2.0");
    assert_eq!(found.version.as_ref().unwrap().to_string(), "0.1.0");
    assert_eq!(found.description.as_ref().unwrap().to_string(), "Finds things");
}

#[test]
fn sealing_again_replaces_the_manifest() {
    let mut other = manifest();
    other.name = "other".parse().unwrap();
    other.version = None;
    other.authors.clear();
    let plain = agent("0.1.0", r#"(@custom "version" "9") (@producers (language "Rust" "1"))"#);
    let sealed = seal(&plain, &manifest()).unwrap();
    assert_eq!(seal(&sealed, &manifest()).unwrap(), sealed);
    let resealed = seal(&sealed, &other).unwrap();
    assert_eq!(resealed, seal(&plain, &other).unwrap());
    assert_eq!(Revision::open(resealed).unwrap().manifest, other);
}

#[test]
fn each_refusal_says_what_is_wrong() {
    let format = br#"{"format":2}"#;
    for (bytes, text) in [
        (b"\x7fELF".to_vec(), "the file is not WebAssembly"),
        (vec![], "the file is not WebAssembly"),
        (b" (component)".to_vec(), "the file is WebAssembly text"),
        (wat::parse_str("(module)").unwrap(), "the file is a core module"),
        (vec![0; MAX_COMPONENT_BYTES + 1], "the component has 67108865 bytes"),
        (agent("0.1.0", "")[..40].to_vec(), "the component is not valid: "),
        (
            component(""),
            "the component does not export `reenact:agent/guest@0.1.0`: it exports nothing",
        ),
        (
            agent("0.2.0", ""),
            "the component does not export `reenact:agent/guest@0.1.0`: it exports `reen",
        ),
        (agent("0.1.0-rc.1", ""), "the component does not export"),
        (agent("0.1.7", ""), "the component has no manifest"),
        (
            agent("0.1.0", r#"(import "wasi:cli/exit@0.3.0" (instance))"#),
            "the component imports `wasi:cli/exit@0.3.0`",
        ),
        (
            agent("0.1.0", r#"(import "wasi:cli/exit" (instance))"#),
            "the component imports `wasi:cli/exit`,",
        ),
        (
            agent("0.1.0", r#"(import "wasi:nn/graph@0.2.0" (instance))"#),
            "the component imports `wasi:nn/graph@0.2.0`",
        ),
        (agent("0.1.0", r#"(import "print" (func))"#), "the component imports `print`"),
        (with_section(agent("0.1.0", ""), b"{"), "the manifest is malformed"),
        (with_section(agent("0.1.0", ""), format), "the manifest has format `2`"),
        (
            with_section(seal(&agent("0.1.0", ""), &manifest()).unwrap(), b"{}"),
            "the component has 2 manifests",
        ),
        (agent("0.1.0", "(core module (memory 1 1 shared))"), "the component is not valid: "),
    ] {
        let error = Revision::open(bytes).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
    assert_eq!(seal(&component(""), &manifest()), Err(RevisionError::NoGuest { exports: vec![] }));
}

#[test]
fn functions_are_bounded_in_size_and_number() {
    let large = format!("(core module (func {}))", "nop ".repeat(MAX_FUNCTION_BYTES + 1));
    let many = format!("(core module {})", "(func)".repeat(MAX_FUNCTIONS + 1));
    let error = |more: &str| Revision::open(agent("0.1.0", more)).unwrap_err();
    assert!(matches!(error(&large), RevisionError::FunctionTooLarge { .. }));
    assert_eq!(error(&many), RevisionError::TooManyFunctions);
}

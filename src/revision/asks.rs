//! What a revision asks for, and what it asks for beyond another one.

use serde_json::Value;

use super::manifest::{Manifest, ToolPattern};

/// What a manifest asks of the operator, a line each: tools, then needs.
pub fn asks(manifest: &Manifest) -> Vec<String> {
    let tools = manifest.tools.iter().map(ToString::to_string);
    let needs = manifest.needs.iter().flat_map(|(provider, needs)| lines(provider, needs));
    tools.chain(needs).collect()
}

/// What `new` asks for and `old` does not.
pub fn widening(old: &Manifest, new: &Manifest) -> Vec<String> {
    let is_covered = |tool: &&ToolPattern| !old.tools.iter().any(|known| known.covers(tool));
    let tools = new.tools.iter().filter(is_covered).map(ToString::to_string);
    let known: Vec<String> =
        old.needs.iter().flat_map(|(provider, needs)| lines(provider, needs)).collect();
    let needs = new.needs.iter().flat_map(|(provider, needs)| lines(provider, needs));
    tools.chain(needs.filter(|need| !known.contains(need))).collect()
}

/// The leaves of what is needed of a provider, with their names before them:
/// `http hosts: example.com`.
fn lines(name: &str, needs: &Value) -> Vec<String> {
    match needs {
        Value::Object(members) => {
            members.iter().flat_map(|(key, value)| lines(&format!("{name} {key}"), value)).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| lines(name, item)).collect(),
        Value::String(text) => vec![format!("{name}: {text}")],
        other => vec![format!("{name}: {other}")],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(tools: &[&str], needs: Value) -> Manifest {
        let manifest = json!({
            "format": 1, "name": "a", "input": true, "output": { "type": "document" },
            "tools": tools, "needs": needs,
        });
        serde_json::from_value(manifest).unwrap()
    }

    #[test]
    fn only_what_is_not_covered_yet_widens() {
        let old = manifest(&["files.*", "time.now"], json!({ "http": { "hosts": ["a.org"] } }));
        let new = manifest(
            &["files.read", "time.now", "time.*", "http.fetch"],
            json!({ "http": { "hosts": ["a.org", "b.org"] }, "x": { "n": 1 } }),
        );
        assert_eq!(widening(&old, &new), ["time.*", "http.fetch", "http hosts: b.org", "x n: 1"]);
        assert_eq!(widening(&new, &old), ["files.*"]);
        assert_eq!(widening(&new, &new), [""; 0]);
        assert_eq!(asks(&old), ["files.*", "time.now", "http hosts: a.org"]);
    }
}

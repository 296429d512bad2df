//! Schemas: what they refuse, what they say, and that none runs away.

use serde_json::json;

use super::*;

fn violations(schema: Value, value: Value) -> Vec<String> {
    let found = Schema::compile(&schema).unwrap().check(&value).err().unwrap_or_default();
    found.iter().map(ToString::to_string).collect()
}

fn refusal(schema: Value) -> String {
    Schema::compile(&schema).unwrap_err().to_string()
}

/// `n` definitions, each of which refers twice to the next, and to `last`.
fn doubling(n: usize, keyword: &str, last: Value) -> Value {
    let mut definitions = serde_json::Map::new();
    for i in 0..n {
        let next = json!({ "$ref": format!("#/$defs/{}", i + 1) });
        definitions.insert(i.to_string(), json!({ keyword: [next, next] }));
    }
    definitions.insert(n.to_string(), last);
    json!({ "$ref": "#/$defs/0", "$defs": definitions })
}

#[test]
fn violations_name_the_place_and_the_reason() {
    let schema = json!({
        "type": "object",
        "required": ["q"],
        "properties": { "a/b": { "items": { "type": "integer" } } },
    });
    assert_eq!(violations(schema.clone(), json!({ "q": 1, "a/b": [1] })), Vec::<String>::new());
    assert_eq!(
        violations(schema.clone(), json!({ "a/b": [1, "x"] })),
        [
            "at the root: \"q\" is a required property",
            "at `/a~1b/1`: \"x\" is not of type \"integer\""
        ]
    );
    let many = json!({ "q": 1, "a/b": vec!["x"; 100] });
    assert_eq!(violations(schema.clone(), many).len(), MAX_VIOLATIONS);
    let long = violations(schema, json!(["long".repeat(10_000)]));
    assert_eq!(long, ["at the root: value is not of type \"object\""]);
}

#[test]
fn refusals_name_the_place_within_the_schema() {
    for (schema, text) in [
        (json!({ "properties": { "a": { "type": "strnig" } } }), "at `/properties/a/type`: "),
        (json!({ "items": { "pattern": "(?=a)b" } }), "at `/items/pattern`: "),
        (json!({ "items": { "pattern": "(a{1000}){1000}" } }), "at `/items/pattern`: "),
        (json!(42), "at the root: "),
        (
            json!({ "items": { "$ref": "#/$defs/x" } }),
            "at `/items/$ref`: `#/$defs/x` leads to nothing",
        ),
        (json!({ "enum": [{}], "$ref": "#/enum/0" }), "at `/$ref`: `#/enum/0` leads to data"),
        (
            json!({ "$ref": "https://example.com/s" }),
            "at `/$ref`: `https://example.com/s` leads out",
        ),
        (json!({ "$ref": "file:///etc/passwd" }), "at `/$ref`: `file:///etc/passwd` leads out"),
        (json!({ "items": { "$id": "a" } }), "at `/items/$id`: is only allowed at the root"),
        (json!({ "$schema": "https://example.com/s" }), "at the root: "),
        (json!({ "$ref": "#nowhere" }), "at the root: "),
    ] {
        let refusal = refusal(schema);
        assert!(refusal.starts_with(text), "{refusal}");
    }
}

#[test]
fn names_of_properties_are_not_keywords() {
    let schema = json!({
        "properties": { "$ref": { "type": "string" }, "$id": true, "enum": { "$ref": "#/$defs/const" } },
        "$defs": { "const": { "type": "integer" } },
        "examples": [{ "$ref": "https://example.com" }],
    });
    assert_eq!(violations(schema.clone(), json!({ "$ref": "x", "enum": 1 })), Vec::<String>::new());
    assert_eq!(
        violations(schema, json!({ "enum": "x" })),
        ["at `/enum`: \"x\" is not of type \"integer\""]
    );
}

#[test]
fn references_that_lead_to_themselves_end() {
    let this = json!({ "$ref": "#" });
    for schema in [
        this.clone(),
        json!({ "allOf": [this, this] }),
        json!({ "anyOf": [this, this], "items": this }),
        json!({ "if": this, "then": this, "else": this }),
        json!({ "not": this }),
        json!({ "propertyNames": this, "additionalProperties": this }),
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }),
        json!({ "$anchor": "a", "$ref": "#a" }),
        json!({ "$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#" }),
    ] {
        let compiled = Schema::compile(&schema).unwrap();
        for value in [json!(1), json!([[1]]), json!({ "a": {} })] {
            let _ = compiled.check(&value);
        }
    }
}

#[test]
fn a_recursive_schema_describes_a_tree() {
    let schema = json!({
        "$ref": "#/$defs/tree",
        "$defs": { "tree": {
            "type": "object",
            "properties": { "children": { "items": { "$ref": "#/$defs/tree" } } },
            "unevaluatedProperties": false,
        } },
    });
    let tree = json!({ "children": [{ "children": [] }, { "children": [{}] }] });
    assert_eq!(violations(schema.clone(), tree), Vec::<String>::new());
    let found = violations(schema, json!({ "children": [{ "children": [3] }] }));
    assert_eq!(found, ["at `/children/0/children/0`: 3 is not of type \"object\""]);
}

#[test]
fn work_that_doubles_at_each_level_is_ended() {
    for (keyword, last) in
        [("allOf", "integer"), ("allOf", "string"), ("anyOf", "string"), ("oneOf", "integer")]
    {
        let schema = doubling(60, keyword, json!({ "type": last }));
        let _ = violations(schema, json!(1));
    }
    let tree = |reference: &str| json!({ "properties": { "l": { "$ref": reference } }, "required": ["l"] });
    let schema = json!({ "oneOf": [tree("#"), tree("#"), { "type": "integer" }] });
    let deep = (0..100).fold(json!(1), |inner, _| json!({ "l": inner }));
    let _ = violations(schema, deep);
}

#[test]
fn what_nests_nests_within_bounds() {
    let nested = |n, keyword: &str| (0..n).fold(json!(true), |inner, _| json!({ keyword: inner }));
    assert!(refusal(nested(100, "not")).contains("nests deeper"));
    assert!(refusal(nested(5, "unevaluatedItems")).contains("`unevaluated…` nests"));
    for keyword in ["not", "items", "if", "contains", "propertyNames", "additionalProperties"] {
        let _ = violations(nested(60, keyword), json!({ "a": [[1]] }));
    }
    let wrapped = |n, last: &str, wrap: fn(Value) -> Value| {
        (0..n).fold(json!({ "type": last }), |inner, _| wrap(inner))
    };
    for (n, wrap) in [
        (30, (|s| json!({ "allOf": [s] })) as fn(_) -> _),
        (30, |s| json!({ "anyOf": [s, false] })),
        (30, |s| json!({ "oneOf": [s, false], "if": true })),
        (60, |s| json!({ "if": s, "then": true, "else": true })),
        (30, |s| json!({ "dependentSchemas": { "a": s } })),
        (4, |s| json!({ "oneOf": [s], "unevaluatedProperties": false, "unevaluatedItems": s })),
    ] {
        for last in ["string", "array", "object"] {
            let _ = violations(wrapped(n, last, wrap), json!({ "a": 1 }));
            let _ = violations(wrapped(n, last, wrap), json!([1]));
        }
    }
    let chain: serde_json::Map<_, _> = (0..900)
        .map(|i| (i.to_string(), json!({ "allOf": [{ "$ref": format!("#/$defs/{}", i + 1) }] })))
        .chain([("900".to_owned(), json!({ "items": { "$ref": "#/$defs/0" } }))])
        .collect();
    let schema = json!({ "$ref": "#/$defs/0", "$defs": chain });
    let deep = (0..120).fold(json!(1), |inner, _| json!([inner]));
    let _ = violations(schema, deep);
}

#[test]
fn a_large_value_that_does_not_fit_is_cheap_to_refuse() {
    let schema = json!({ "items": { "type": "integer" } });
    let found = violations(schema, json!(vec!["x"; 2_000_000]));
    assert_eq!(found, ["at the root: does not fit; it is too large to say where"]);
}

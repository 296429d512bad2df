//! What a schema must not have before it is compiled, and the copy of it whose
//! references are charged.
//!
//! References stay inside the document, and only its root may say what it is
//! (`$id`, `$schema`): so nothing is ever fetched, and every reference that a
//! check can follow was seen here.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::manifest::escaped;
use super::{InvalidSchema, budget};

/// Bytes of a schema as JSON text. Compiling takes time and memory in proportion.
pub const MAX_SCHEMA_BYTES: usize = 256 << 10;

/// Levels that a schema may nest. Compiling and checking nest calls alike.
pub const MAX_SCHEMA_DEPTH: usize = 64;

/// Patterns in a schema. Each may take up to half a MiB once compiled.
pub const MAX_PATTERNS: usize = 100;

/// References in a schema. A chain of them nests calls when it is freed.
pub const MAX_REFERENCES: usize = 1_000;

/// Schemas with `unevaluated…` inside one another. Each checks all that is
/// inside of it twice and more.
pub const MAX_UNEVALUATED: usize = 4;

/// Keywords whose members are named by the schema's author.
const TABLES: &[&str] = &[
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "dependencies",
];

/// Keywords whose values are data, not schemas.
const LITERALS: &[&str] = &["const", "enum", "default", "examples"];

/// Member of the copy's root that holds the charged references.
const CHARGED: &str = "x-reenact-references";

pub struct Screened {
    /// The schema to compile: each `$ref` goes by way of a charge.
    pub schema: Value,
    pub has_references: bool,
}

/// What the members of an object are.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Schema,
    Table,
    Literal,
}

struct Screen<'a> {
    root: &'a Value,
    pointer: String,
    patterns: usize,
    references: usize,
    /// Schemas around this place that have `unevaluated…`.
    unevaluated: usize,
    /// Number of each different target.
    targets: BTreeMap<String, usize>,
}

pub fn screen(schema: &Value) -> Result<Screened, InvalidSchema> {
    let mut screen = Screen {
        root: schema,
        pointer: String::new(),
        patterns: 0,
        references: 0,
        unevaluated: 0,
        targets: BTreeMap::new(),
    };
    let mut copy = screen.visit(schema, Place::Schema, 0)?;
    let bytes = schema.to_string().len();
    if bytes > MAX_SCHEMA_BYTES {
        return screen.refuse(format!("has {bytes} bytes, at most {MAX_SCHEMA_BYTES} are allowed"));
    }
    if let (Value::Object(root), false) = (&mut copy, screen.targets.is_empty()) {
        root.insert(CHARGED.to_owned(), screen.charged_references());
    }
    Ok(Screened { schema: copy, has_references: screen.references > 0 })
}

impl Screen<'_> {
    fn refuse<T>(&self, message: impl Into<String>) -> Result<T, InvalidSchema> {
        Err(InvalidSchema { pointer: self.pointer.clone(), message: message.into() })
    }

    fn visit(&mut self, value: &Value, place: Place, depth: usize) -> Result<Value, InvalidSchema> {
        if depth > MAX_SCHEMA_DEPTH {
            self.pointer.clear();
            return self.refuse(format!("nests deeper than {MAX_SCHEMA_DEPTH} levels"));
        }
        let length = self.pointer.len();
        let enter = |this: &mut Self, segment: &str, value, place| {
            this.pointer.push('/');
            this.pointer.push_str(&escaped(segment));
            let result = this.member(segment, value, place, depth + 1)?;
            this.pointer.truncate(length);
            Ok(result)
        };
        Ok(match value {
            Value::Array(items) => {
                // Inside an array nothing has a name that means something.
                let inside = if place == Place::Literal { place } else { Place::Table };
                let items = items.iter().enumerate();
                let copies =
                    items.map(|(index, item)| enter(self, &index.to_string(), item, inside));
                Value::Array(copies.collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let unevaluated = place == Place::Schema && members.keys().any(is_unevaluated);
                self.unevaluated += usize::from(unevaluated);
                if self.unevaluated > MAX_UNEVALUATED {
                    return self
                        .refuse(format!("`unevaluated…` nests more than {MAX_UNEVALUATED} times"));
                }
                let copies = members
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), enter(self, name, value, place)?)));
                let copy = copies.collect::<Result<Map<_, _>, _>>()?;
                self.unevaluated -= usize::from(unevaluated);
                Value::Object(copy)
            }
            other => other.clone(),
        })
    }

    /// Visits the value of the member `name` of something at `place`.
    fn member(
        &mut self,
        name: &str,
        value: &Value,
        place: Place,
        depth: usize,
    ) -> Result<Value, InvalidSchema> {
        if place != Place::Schema {
            return self.visit(value, next(place, name), depth);
        }
        match (name, value) {
            ("pattern", Value::String(_)) => self.count_patterns(1)?,
            ("patternProperties", Value::Object(members)) => self.count_patterns(members.len())?,
            ("$ref", Value::String(target)) => return self.reference(target),
            ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                return self.refuse("is not supported: use `$ref`");
            }
            ("$id" | "$schema", Value::String(_)) if depth > 1 => {
                return self.refuse("is only allowed at the root");
            }
            ("$schema", Value::String(draft)) if draft.contains("draft-04") => {
                return self.refuse("draft 4 is not supported: use draft 2020-12");
            }
            (CHARGED | budget::KEYWORD, _) => return self.refuse("is a reserved name"),
            _ => {}
        }
        self.visit(value, next(place, name), depth)
    }

    fn count_patterns(&mut self, more: usize) -> Result<(), InvalidSchema> {
        self.patterns += more;
        if self.patterns > MAX_PATTERNS {
            return self.refuse(format!("more than {MAX_PATTERNS} patterns"));
        }
        Ok(())
    }

    /// Answers the charged form of a reference to `target`.
    fn reference(&mut self, target: &str) -> Result<Value, InvalidSchema> {
        let Some(fragment) = target.strip_prefix('#') else {
            return self
                .refuse(format!("`{target}` leads out of the schema: only `#…` is allowed"));
        };
        self.references += 1;
        if self.references > MAX_REFERENCES {
            return self.refuse(format!("more than {MAX_REFERENCES} references"));
        }
        if fragment.is_empty() || fragment.starts_with('/') {
            let fragment = percent_decoded(fragment);
            if self.root.pointer(&fragment).is_none() {
                return self.refuse(format!("`{target}` leads to nothing"));
            }
            if place_of(&fragment) == Place::Literal {
                return self.refuse(format!("`{target}` leads to data, not to a schema"));
            }
        }
        let number = self.targets.len();
        let number = *self.targets.entry(target.to_owned()).or_insert(number);
        Ok(Value::String(format!("#/{CHARGED}/{number}")))
    }

    /// The table to which the copy's references lead, and from which they go on.
    fn charged_references(&self) -> Value {
        let charged = |target: &String| {
            let fragment = percent_decoded(&target[1..]);
            let size = budget::size(self.root.pointer(&fragment).unwrap_or(self.root));
            json!({ "allOf": [{ budget::KEYWORD: size }, { "$ref": target }] })
        };
        let entries = self.targets.iter();
        entries.map(|(target, number)| (number.to_string(), charged(target))).collect()
    }
}

fn is_unevaluated(keyword: &String) -> bool {
    keyword == "unevaluatedProperties" || keyword == "unevaluatedItems"
}

/// What is below the member `name` of something at `place`.
fn next(place: Place, name: &str) -> Place {
    match place {
        Place::Literal => Place::Literal,
        Place::Table => Place::Schema,
        Place::Schema if TABLES.contains(&name) => Place::Table,
        Place::Schema if LITERALS.contains(&name) => Place::Literal,
        Place::Schema => Place::Schema,
    }
}

/// Where `pointer` leads, going by the names on its way.
fn place_of(pointer: &str) -> Place {
    pointer.split('/').skip(1).fold(Place::Schema, next)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        match hex.and_then(|digits| hex::decode(digits).ok()) {
            Some(decoded) => (bytes.extend(decoded), rest = &after[2..]).1,
            None => (bytes.push(*first), rest = after).1,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

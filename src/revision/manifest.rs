//! The manifest: what a revision declares about itself, sealed inside of it.
//!
//! Canonical JSON (RFC 8785) is its only encoding, so the same manifest always
//! becomes the same bytes. Reading the file that a developer writes is `build`'s work.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::limits::{InvalidLimit, SomeLimits};
use super::schema::{At, InvalidSchema, Schema};

/// Version of the manifest's shape.
pub const MANIFEST_FORMAT: u32 = 1;

/// Bytes of a manifest: two schemas and a config of the largest size, and room
/// for the rest. It is parsed whenever a revision is opened.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;

/// Bytes of `config` as JSON text: prompts of many pages, but not data sets.
/// The guest copies it into its memory with every call of `context.config`.
pub const MAX_CONFIG_BYTES: usize = 256 << 10;

/// Bytes of `needs` as JSON text: lists of some hundred names.
pub const MAX_NEEDS_BYTES: usize = 64 << 10;

/// Bytes of the description, which listings show and models read.
pub const MAX_DESCRIPTION_BYTES: usize = 4 << 10;

/// Authors, and bytes of one author, of the licence and of the version: each
/// is printed on a line.
pub const MAX_AUTHORS: usize = 32;
pub const MAX_LINE_BYTES: usize = 256;

/// Tool patterns. Every tool that is granted is matched with every pattern.
pub const MAX_TOOLS: usize = 256;

/// Bytes of a tool's name: the longest that model providers accept is 128.
pub const MAX_TOOL_BYTES: usize = 128;

/// Canonical JSON writes numbers as 64-bit floats; larger integers would change.
const MAX_EXACT_INTEGER: u64 = 1 << 53;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`] of the writer.
    pub format: u32,
    pub name: AgentName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub authors: Vec<String>,
    /// SPDX expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// JSON Schema of a run's input.
    pub input: Value,
    pub output: OutputSpec,
    /// The tools that a run may ask for. The operator's policy decides.
    #[serde(default)]
    pub tools: Vec<ToolPattern>,
    /// What the agent needs of a provider beyond the names of tools, by provider:
    /// for `http` the hosts that it fetches from. The operator's grant decides.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub needs: Map<String, Value>,
    #[serde(default)]
    pub limits: SomeLimits,
    /// Whatever the agent wants to know: a prompt, the name of a model, …
    #[serde(default)]
    pub config: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    #[serde(rename = "type")]
    pub kind: OutputType,
    /// JSON Schema of a `json` output; a `document` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    /// Text for people, usually Markdown.
    Document,
    /// A JSON value that fits a schema.
    Json,
}

/// Why a manifest was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidManifest {
    #[error("the manifest is malformed: {0}")]
    Malformed(String),
    #[error(
        "the manifest has format `{0}`, but this version of reenact reads format `{MANIFEST_FORMAT}`"
    )]
    UnsupportedFormat(u64),
    /// A list or a text that is too large. The unit is `bytes` or `entries`.
    #[error("`{field}` has {size} {unit}, at most {limit} are allowed")]
    TooLarge { field: &'static str, size: usize, limit: usize, unit: &'static str },
    #[error("`{field}` must be one line without control characters")]
    NotOneLine { field: &'static str },
    #[error("`license` is `{license}`, which is not an SPDX expression: {cause}")]
    License { license: String, cause: String },
    #[error("`output.schema` is missing, and outputs of type `json` need one")]
    MissingOutputSchema,
    #[error("`output.schema` is given, but outputs of type `document` have none")]
    NeedlessOutputSchema,
    /// The field is `input` or `output`.
    #[error("the {field} schema is not a valid JSON Schema: {cause}")]
    Schema { field: &'static str, cause: InvalidSchema },
    #[error("`{field}` holds `{number}` {}, which is too large to stay exact", At(.pointer))]
    InexactNumber { field: &'static str, pointer: String, number: String },
    #[error(transparent)]
    Limit(#[from] InvalidLimit),
}

impl InvalidManifest {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UnsupportedFormat(_) => Some("a newer version of reenact sealed this revision"),
            Self::License { .. } => Some("see https://spdx.org/licenses, such as `Apache-2.0`"),
            Self::NeedlessOutputSchema => Some("say `type = \"json\"` under `[output]`"),
            Self::MissingOutputSchema => Some("`[output.schema]` with nothing in it allows all"),
            Self::InexactNumber { .. } => Some("write the number as a string"),
            _ => None,
        }
    }
}

impl Manifest {
    /// Reads and validates.
    pub fn from_json(bytes: &[u8]) -> Result<Self, InvalidManifest> {
        too_large("manifest", bytes.len(), MAX_MANIFEST_BYTES, "bytes")?;
        let malformed = |error: serde_json::Error| InvalidManifest::Malformed(error.to_string());
        let value: Value = serde_json::from_slice(bytes).map_err(malformed)?;
        // Another format may have other fields, so it is looked at first.
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format != u64::from(MANIFEST_FORMAT) => {
                return Err(InvalidManifest::UnsupportedFormat(format));
            }
            _ => {}
        }
        let manifest: Self = serde_json::from_value(value).map_err(malformed)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The bytes that are sealed.
    pub fn to_canonical_json(&self) -> Vec<u8> {
        // A manifest has string keys and finite numbers only, so it always serialises.
        serde_json_canonicalizer::to_vec(self).expect("a manifest serialises")
    }

    pub fn validate(&self) -> Result<(), InvalidManifest> {
        if self.format != MANIFEST_FORMAT {
            return Err(InvalidManifest::UnsupportedFormat(self.format.into()));
        }
        self.validate_texts()?;
        too_large("tools", self.tools.len(), MAX_TOOLS, "entries")?;
        self.limits.check()?;
        let config = serde_json::to_vec(&self.config).map_or(0, |text| text.len());
        too_large("config", config, MAX_CONFIG_BYTES, "bytes")?;
        let needs = serde_json::to_vec(&self.needs).map_or(0, |text| text.len());
        too_large("needs", needs, MAX_NEEDS_BYTES, "bytes")?;
        for (field, members) in [("config", &self.config), ("needs", &self.needs)] {
            for (name, value) in members {
                exact(field, format!("/{}", escaped(name)), value)?;
            }
        }
        self.input_schema()?;
        self.output_schema()?;
        too_large("manifest", self.to_canonical_json().len(), MAX_MANIFEST_BYTES, "bytes")
    }

    /// The input schema, ready to check with.
    pub fn input_schema(&self) -> Result<Schema, InvalidManifest> {
        compile("input", &self.input)
    }

    /// The output schema, ready to check with; none for a `document`.
    pub fn output_schema(&self) -> Result<Option<Schema>, InvalidManifest> {
        match (self.output.kind, &self.output.schema) {
            (OutputType::Json, Some(schema)) => compile("output", schema).map(Some),
            (OutputType::Json, None) => Err(InvalidManifest::MissingOutputSchema),
            (OutputType::Document, Some(_)) => Err(InvalidManifest::NeedlessOutputSchema),
            (OutputType::Document, None) => Ok(None),
        }
    }

    /// Whether the manifest asks for the tool.
    pub fn asks_for(&self, tool: &str) -> bool {
        self.tools.iter().any(|pattern| pattern.matches(tool))
    }

    /// Whether the manifest asks for any tool of the provider.
    pub fn asks_for_any_of(&self, provider: &str) -> bool {
        self.tools.iter().any(|pattern| pattern.provider() == provider)
    }

    fn validate_texts(&self) -> Result<(), InvalidManifest> {
        too_large("description", self.description.len(), MAX_DESCRIPTION_BYTES, "bytes")?;
        too_large("authors", self.authors.len(), MAX_AUTHORS, "entries")?;
        let authors = self.authors.iter().map(|author| ("authors", author));
        let version = self.version.iter().map(|version| ("version", version));
        let license = self.license.iter().map(|license| ("license", license));
        for (field, text) in authors.chain(version).chain(license) {
            too_large(field, text.len(), MAX_LINE_BYTES, "bytes")?;
            if text.is_empty() || text.chars().any(char::is_control) {
                return Err(InvalidManifest::NotOneLine { field });
            }
        }
        if let Some(license) = &self.license {
            wasm_metadata::Licenses::new(license).map_err(|error| InvalidManifest::License {
                license: license.clone(),
                cause: error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
            })?;
        }
        Ok(())
    }
}

fn too_large(
    field: &'static str,
    size: usize,
    limit: usize,
    unit: &'static str,
) -> Result<(), InvalidManifest> {
    if size > limit {
        return Err(InvalidManifest::TooLarge { field, size, limit, unit });
    }
    Ok(())
}

fn compile(field: &'static str, schema: &Value) -> Result<Schema, InvalidManifest> {
    let compiled = Schema::compile(schema);
    let compiled = compiled.map_err(|cause| InvalidManifest::Schema { field, cause })?;
    exact(field, String::new(), schema)?;
    Ok(compiled)
}

/// Refuses integers that canonical JSON would round.
fn exact(field: &'static str, pointer: String, value: &Value) -> Result<(), InvalidManifest> {
    match value {
        Value::Number(number) => {
            let magnitude = number.as_u64().or(number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_some_and(|magnitude| magnitude > MAX_EXACT_INTEGER) {
                let number = number.to_string();
                return Err(InvalidManifest::InexactNumber { field, pointer, number });
            }
            Ok(())
        }
        Value::Array(items) => (items.iter().enumerate())
            .try_for_each(|(index, item)| exact(field, format!("{pointer}/{index}"), item)),
        Value::Object(members) => (members.iter()).try_for_each(|(name, value)| {
            exact(field, format!("{pointer}/{}", escaped(name)), value)
        }),
        _ => Ok(()),
    }
}

/// A name as a segment of an RFC 6901 pointer.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

macro_rules! checked_text {
    ($(#[doc = $doc:literal])+ $name:ident, $invalid:ident, $error:literal, $check:expr) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[error($error)]
        pub struct $invalid(pub String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $invalid;

            fn try_from(text: String) -> Result<Self, $invalid> {
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err($invalid(text)) }
            }
        }

        impl FromStr for $name {
            type Err = $invalid;

            fn from_str(text: &str) -> Result<Self, $invalid> {
                text.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text! {
    /// The name of an agent: 1 to 63 of `a-z 0-9 -`, a letter first. It is a
    /// part of URLs, of file names and of OCI references.
    AgentName, InvalidAgentName,
    "`{0}` is not an agent's name: expected 1 to 63 of `a-z 0-9 -`, a letter first",
    |text| text.len() <= 63 && is_word(text)
}

checked_text! {
    /// One tool, `provider.tool`, or all of a provider's, `provider.*`.
    ToolPattern, InvalidToolPattern,
    "`{0}` is not a tool: expected `provider.tool` or `provider.*`",
    |text| {
        let of_tool = |b: u8| b.is_ascii_alphanumeric() || b"_-./".contains(&b);
        text.len() <= MAX_TOOL_BYTES
            && text.split_once('.').is_some_and(|(provider, tool)| {
                is_provider(provider) && !tool.is_empty() && (tool == "*" || tool.bytes().all(of_tool))
            })
    }
}

/// Whether `text` can be the name of a provider: a letter, then letters, digits,
/// `_` and `-`. Existing configurations of servers use all of them.
pub fn is_provider(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl ToolPattern {
    /// The name before the dot.
    pub fn provider(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// Whether every tool of the other pattern is one of this.
    pub fn covers(&self, other: &Self) -> bool {
        self == other || (!other.0.ends_with(".*") && self.matches(&other.0))
    }

    /// Whether the pattern covers the tool of this name.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(provider) => name.len() > provider.len() && name.starts_with(provider),
            None => self.0 == name,
        }
    }
}

#[cfg(test)]
mod tests;

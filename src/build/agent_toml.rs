//! `agent.toml` as a developer writes it, and the manifest that it becomes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{BuildError, read_schema};
use crate::revision::{
    AgentName, MANIFEST_FORMAT, Manifest, OutputSpec, OutputType, SomeLimits, ToolPattern,
};

/// The whole of `agent.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentToml {
    pub name: AgentName,
    pub version: Option<String>,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub authors: Vec<String>,
    pub license: Option<String>,
    /// The component file, from the agent's folder.
    pub component: PathBuf,
    #[serde(default)]
    pub tools: Vec<ToolPattern>,
    /// What the agent needs of each provider, such as the hosts that it fetches from.
    #[serde(default)]
    pub needs: toml::Table,
    /// Without it the component is taken as it is.
    pub build: Option<BuildToml>,
    /// Without it every input is taken.
    #[serde(default)]
    pub input: InputToml,
    /// Without it the output is a document.
    #[serde(default)]
    pub output: OutputToml,
    #[serde(default)]
    pub limits: SomeLimits,
    #[serde(default)]
    pub config: toml::Table,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildToml {
    pub command: CommandLine,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputToml {
    pub schema: Option<SchemaToml>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputToml {
    #[serde(rename = "type")]
    pub kind: Option<OutputType>,
    pub schema: Option<SchemaToml>,
}

/// A JSON Schema.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a table, or the path of a JSON file")]
pub enum SchemaToml {
    /// A JSON file in the agent's folder.
    File(PathBuf),
    Inline(toml::Table),
}

/// A command as text for `sh -c`, or as a program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub enum CommandLine {
    Shell(String),
    Program(Vec<String>),
}

impl AgentToml {
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, BuildError> {
        toml::from_str(text)
            .map_err(|cause| BuildError::Toml { path: path.to_owned(), cause: Box::new(cause) })
    }

    /// Reads schema files from `folder`. `path` is where the text came from.
    pub(super) fn into_manifest(self, folder: &Path, path: &Path) -> Result<Manifest, BuildError> {
        let schema = |field: &str, schema| match schema {
            SchemaToml::File(file) => read_schema(folder, &file),
            SchemaToml::Inline(table) => object(path, field, table).map(Value::Object),
        };
        let input = self.input.schema.map(|input| schema("input.schema", input));
        let output = self.output.schema.map(|output| schema("output.schema", output));
        Ok(Manifest {
            format: MANIFEST_FORMAT,
            name: self.name,
            version: self.version,
            description: self.description,
            authors: self.authors,
            license: self.license,
            input: input.transpose()?.unwrap_or(Value::Bool(true)),
            output: OutputSpec {
                kind: self.output.kind.unwrap_or(OutputType::Document),
                schema: output.transpose()?,
            },
            tools: self.tools,
            needs: object(path, "needs", self.needs)?,
            limits: self.limits,
            config: object(path, "config", self.config)?,
        })
    }
}

/// TOML as JSON: dates and times become text, and there is no infinity.
fn json(path: &Path, field: &str, value: toml::Value) -> Result<Value, BuildError> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(value) => {
            let number = serde_json::Number::from_f64(value).map(Value::Number);
            let (path, field) = (path.to_owned(), field.to_owned());
            number.ok_or(BuildError::NotJson { path, field, value })?
        }
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => {
            items.into_iter().map(|item| json(path, field, item)).collect::<Result<_, _>>()?
        }
        toml::Value::Table(table) => Value::Object(object(path, field, table)?),
    })
}

fn object(path: &Path, field: &str, table: toml::Table) -> Result<Map<String, Value>, BuildError> {
    let member = |(name, value)| {
        let value = json(path, &format!("{field}.{name}"), value)?;
        Ok((name, value))
    };
    table.into_iter().map(member).collect()
}

impl CommandLine {
    pub(super) fn command(&self) -> Command {
        match self {
            Self::Shell(text) => {
                let mut command = Command::new("sh");
                command.args(["-c", text]);
                command
            }
            Self::Program(words) => {
                // No words at all is a program without a name, which does not start.
                let mut words = words.iter();
                let mut command = Command::new(words.next().map_or("", String::as_str));
                command.args(words);
                command
            }
        }
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(text) => f.write_str(text),
            Self::Program(words) => f.write_str(&words.join(" ")),
        }
    }
}

//! From an agent's folder to a sealed revision: reads `agent.toml`, runs the
//! build command, seals. It touches files and starts one process; what that
//! prints goes to our stderr, and nothing ever to stdout.

mod agent_toml;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::revision::{self, InvalidManifest, MAX_COMPONENT_BYTES, Manifest, RevisionError};

pub use agent_toml::{AgentToml, CommandLine};

/// Name of the file that makes a folder an agent's.
pub const AGENT_TOML: &str = "agent.toml";

/// Bytes of `agent.toml` and of a schema file: what a manifest can hold, and comments.
const MAX_TEXT_BYTES: usize = 2 << 20;

const RUST_TARGET: &str = "wasm32-wasip2";

/// An agent's folder, read and validated.
#[derive(Debug, Clone)]
pub struct Project {
    pub folder: PathBuf,
    pub manifest: Manifest,
    /// The component before sealing.
    pub component: PathBuf,
    pub command: Option<CommandLine>,
}

/// Where a build command's stdout and stderr go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildOutput {
    /// Both to our stderr.
    Stderr,
    Discard,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("there is no `{AGENT_TOML}` in `{}`", .0.display())]
    NoAgentToml(PathBuf),
    #[error("cannot read `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    #[error("cannot write `{}`: {cause}", path.display())]
    Write { path: PathBuf, cause: io::Error },
    #[error("`{}` has more than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: usize },
    /// The cause says line and column.
    #[error("`{}` is malformed: {}", path.display(), cause.to_string().trim_end())]
    Toml { path: PathBuf, cause: Box<toml::de::Error> },
    #[error("`{field}` in `{}` is `{value}`, which JSON cannot say", path.display())]
    NotJson { path: PathBuf, field: String, value: f64 },
    #[error("schema `{}` is outside of the agent's folder `{}`", path.display(), folder.display())]
    SchemaOutside { path: PathBuf, folder: PathBuf },
    #[error("`{}` is not JSON: {cause}", path.display())]
    SchemaFile { path: PathBuf, cause: serde_json::Error },
    #[error("`{}`: {cause}", path.display())]
    Manifest { path: PathBuf, cause: InvalidManifest },
    #[error("cannot start the build command `{command}`: {cause}")]
    Spawn { command: CommandLine, cause: io::Error },
    #[error("the build command `{command}` failed: {status}")]
    Failed { command: CommandLine, status: ExitStatus, rust_target_missing: bool },
    #[error("there is no component `{}`{}", path.display(), if *.built { " after the build" } else { "" })]
    NoComponent { path: PathBuf, built: bool },
    #[error("`{}`: {cause}", path.display())]
    Component { path: PathBuf, cause: RevisionError },
}

impl BuildError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoAgentToml(_) => Some("give the folder that holds the agent's `agent.toml`"),
            Self::NotJson { .. } => Some("write it as a string"),
            Self::SchemaOutside { .. } => Some("copy the schema into the agent's folder"),
            Self::Manifest { cause, .. } => cause.hint(),
            Self::Spawn { .. } => Some("`[build] command` starts a program from your `PATH`"),
            Self::Failed { rust_target_missing: true, .. } => {
                Some("run `rustup target add wasm32-wasip2`")
            }
            Self::Failed { status, .. } if status.code() == Some(127) => {
                Some("the shell did not find a program: is the agent's toolchain installed?")
            }
            Self::NoComponent { built: true, .. } => {
                Some("`component` in `agent.toml` names the file that the build command writes")
            }
            Self::NoComponent { built: false, .. } => {
                Some("build the component first, or say how under `[build] command`")
            }
            Self::Component { cause, .. } => cause.hint(),
            _ => None,
        }
    }
}

/// Reads the agent in `folder`, up to everything that can be known before the build.
pub fn load(folder: &Path) -> Result<Project, BuildError> {
    let path = folder.join(AGENT_TOML);
    let text = match read(&path, MAX_TEXT_BYTES) {
        Err(BuildError::Read { cause, .. }) if is_absent(&cause) => {
            return Err(BuildError::NoAgentToml(folder.to_owned()));
        }
        other => utf8(&path, other?)?,
    };
    let toml = AgentToml::parse(&path, &text)?;
    let component = folder.join(&toml.component);
    let command = toml.build.as_ref().map(|build| build.command.clone());
    let manifest = toml.into_manifest(folder, &path)?;
    manifest.validate().map_err(|cause| BuildError::Manifest { path, cause })?;
    Ok(Project { folder: folder.to_owned(), manifest, component, command })
}

impl Project {
    /// Runs the build command, if there is one, and seals what it made.
    pub fn build(&self, output: BuildOutput) -> Result<Vec<u8>, BuildError> {
        if let Some(command) = &self.command {
            self.run(command, output)?;
        }
        let path = || self.component.clone();
        let component = match read(&self.component, MAX_COMPONENT_BYTES) {
            Err(BuildError::Read { cause, .. }) if is_absent(&cause) => {
                let built = self.command.is_some();
                return Err(BuildError::NoComponent { path: path(), built });
            }
            other => other?,
        };
        revision::seal(&component, &self.manifest)
            .map_err(|cause| BuildError::Component { path: path(), cause })
    }

    fn run(&self, line: &CommandLine, output: BuildOutput) -> Result<(), BuildError> {
        let stdio = || match output {
            BuildOutput::Stderr => Stdio::from(io::stderr()),
            BuildOutput::Discard => Stdio::null(),
        };
        let status = line
            .command()
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(stdio())
            .stderr(stdio())
            .status()
            .map_err(|cause| BuildError::Spawn { command: line.clone(), cause })?;
        if status.success() {
            return Ok(());
        }
        let rust_target_missing =
            line.to_string().contains(RUST_TARGET) && rust_target_is_missing(&self.folder);
        Err(BuildError::Failed { command: line.clone(), status, rust_target_missing })
    }
}

/// Asks the Rust toolchain that is in use in `folder`. If there is none, that
/// is another problem than a missing target.
fn rust_target_is_missing(folder: &Path) -> bool {
    Command::new("rustc")
        .args(["--print", "target-libdir", "--target", RUST_TARGET])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .is_some_and(|libdir| !Path::new(libdir.trim_end()).is_dir())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads a whole file of at most `limit` bytes.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>, BuildError> {
    let failed = |cause| BuildError::Read { path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(BuildError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String, BuildError> {
    String::from_utf8(bytes).map_err(|error| BuildError::Read {
        path: path.to_owned(),
        cause: io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()),
    })
}

/// Puts `bytes` at `path`, durably and all at once: a reader sees the old file
/// or the new one, never a part.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let write = || {
        let mut file = temporary_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // The new name is durable only when the folder is.
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(())
    };
    write().map_err(|cause| BuildError::Write { path: path.to_owned(), cause })
}

fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".reenact-");
    // A sealed file is nobody's secret: the usual permissions, less the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Reads a schema file, which must be in the agent's folder.
fn read_schema(folder: &Path, path: &Path) -> Result<serde_json::Value, BuildError> {
    let path = folder.join(path);
    let resolve = |path: &Path| {
        fs::canonicalize(path).map_err(|cause| BuildError::Read { path: path.to_owned(), cause })
    };
    if !resolve(&path)?.starts_with(resolve(folder)?) {
        return Err(BuildError::SchemaOutside { path, folder: folder.to_owned() });
    }
    let bytes = read(&path, MAX_TEXT_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|cause| BuildError::SchemaFile { path, cause })
}

#[cfg(test)]
mod tests;

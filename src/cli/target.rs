//! What a user can name a revision by: an agent, a folder or a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::context::Context;
use super::render::style;
use super::{Failure, note};
use crate::build::{self, BuildOutput};
use crate::registry::Target;
use crate::revision::{Digest, MAX_COMPONENT_BYTES, Revision};
use crate::service;
use crate::storage::RevisionRow;

/// Where a revision is to come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder with an `agent.toml`.
    Folder(PathBuf),
    /// A sealed file.
    File(PathBuf),
    /// `AGENT` or `AGENT@DIGEST`.
    Registered(String),
}

impl Source {
    /// A path that exists is a path, all else names an agent. `./NAME` is never
    /// an agent.
    pub fn of(text: &str) -> Self {
        let path = Path::new(text);
        if path.is_dir() {
            Self::Folder(path.to_owned())
        } else if path.is_file() || text.contains(['/', '\\']) || text.ends_with(".wasm") {
            Self::File(path.to_owned())
        } else {
            Self::Registered(text.to_owned())
        }
    }
}

/// A revision that was asked for.
pub struct Resolved {
    pub revision: Arc<Revision>,
    is_stored: bool,
}

/// Builds, reads or looks up a revision.
pub fn resolve(context: &Context, text: &str) -> Result<Resolved, Failure> {
    if let Some(revision) = from_path(text)? {
        return Ok(Resolved { revision, is_stored: false });
    }
    let row = context.registry.resolve(&Target::from(text))?;
    Ok(Resolved::stored(registered(context, &row)?))
}

/// Builds or reads a revision for which no home is needed; `None` if the text names
/// one that is stored.
pub fn from_path(text: &str) -> Result<Option<Arc<Revision>>, Failure> {
    Ok(match Source::of(text) {
        Source::Folder(dir) => Some(Arc::new(build_folder(&dir)?)),
        Source::File(path) => Some(Arc::new(read_file(&path)?)),
        Source::Registered(_) => None,
    })
}

/// A revision as it can be named where its agent is known: `@DIGEST` and
/// `sha256:DIGEST` are the agent's.
pub fn of_agent(text: &str, agent: &str) -> String {
    match text.strip_prefix('@') {
        Some(digest) => format!("{agent}@{digest}"),
        None if text.starts_with("sha256:") => format!("{agent}@{text}"),
        None => text.to_owned(),
    }
}

impl Resolved {
    /// One from the registry.
    pub fn stored(revision: Arc<Revision>) -> Self {
        Self { revision, is_stored: true }
    }

    /// Stores what is not in the registry yet as a draft, so that its runs can
    /// be replayed. Until then nothing is kept of a revision that does not run.
    pub fn keep(&self, context: &Context) -> Result<(), Failure> {
        if !self.is_stored {
            store(context, &self.revision, false)?;
        }
        Ok(())
    }
}

/// Reads a stored revision; its bytes are verified against its digest.
pub fn registered(context: &Context, row: &RevisionRow) -> Result<Arc<Revision>, Failure> {
    registered_digest(context, row.digest)
}

/// As [`registered`], by its whole digest.
pub fn registered_digest(context: &Context, digest: Digest) -> Result<Arc<Revision>, Failure> {
    Ok(Arc::new(Revision::open(context.registry.read(digest)?)?))
}

/// Stores a revision and answers whether it is new.
pub fn store(context: &Context, revision: &Revision, publish: bool) -> Result<bool, Failure> {
    Ok(service::store(&context.registry, revision, publish)?)
}

/// Builds and seals an agent's folder.
pub fn build_folder(dir: &Path) -> Result<Revision, Failure> {
    let project = build::load(dir)?;
    if let Some(command) = &project.command {
        note(format!("{} {command}", style::label("building")));
    }
    Ok(Revision::open(project.build(BuildOutput::Stderr)?)?)
}

/// Reads a sealed file.
pub fn read_file(path: &Path) -> Result<Revision, Failure> {
    let cannot = |cause: std::io::Error| {
        Failure::from(cause).context(format!("cannot read `{}`", path.display()))
    };
    let size = fs::metadata(path).map_err(cannot)?.len();
    if size > MAX_COMPONENT_BYTES as u64 {
        return Err(Failure::new(format!(
            "`{}` has {size} bytes, a revision has at most {MAX_COMPONENT_BYTES}",
            path.display()
        )));
    }
    let bytes = fs::read(path).map_err(cannot)?;
    Revision::open(bytes)
        .map_err(|error| Failure::from(error).context(format!("`{}` is refused", path.display())))
}

//! Why the registry has no answer.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use crate::revision::Digest;
use crate::storage::StorageError;

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("cannot {doing} `{path}`: {cause}")]
    Io { doing: &'static str, path: PathBuf, cause: io::Error },

    #[error("`{path}` is damaged: expected `{expected}`, found `{found}`")]
    Damaged { path: PathBuf, expected: Digest, found: Digest },
    #[error("`{path}` is missing: it should hold revision `{digest}`")]
    Missing { path: PathBuf, digest: Digest },
    /// The bytes to add are not those of the revision.
    #[error("the file is not revision `{expected}`: it hashes to `{found}`")]
    WrongBytes { expected: Digest, found: Digest },

    #[error("there is no agent `{name}`")]
    UnknownAgent { name: String, similar: Vec<String> },
    #[error("there is an agent `{name}` already")]
    AgentExists { name: String },
    /// The agent has drafts only.
    #[error("agent `{agent}` has no published revision")]
    NoPublished { agent: String, newest: Option<Digest> },
    #[error("agent `{agent}` has no revision `{prefix}`")]
    UnknownRevision { agent: String, prefix: String },
    #[error("`{prefix}` could be any of the revisions {}", list(candidates))]
    AmbiguousRevision { agent: String, prefix: String, candidates: Vec<Digest> },
    #[error("`{text}` is not the beginning of a digest: expected hex digits, at most 64")]
    NotADigestPrefix { text: String },
}

impl RegistryError {
    pub(super) fn io(doing: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), cause }
    }

    /// What the reader can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Storage(error) => return error.hint(),
            Self::Damaged { .. } | Self::Missing { .. } => {
                "add the same sealed file again: that restores it".into()
            }
            Self::UnknownAgent { similar, .. } if similar.is_empty() => {
                "`reenact agents` lists all agents".into()
            }
            Self::UnknownAgent { similar, .. } => format!("did you mean {}?", list(similar)),
            Self::NoPublished { agent, newest: Some(newest) } => {
                format!("`reenact publish {agent}@{}` publishes its newest draft", newest.short())
            }
            Self::AgentExists { .. } => "change it, or choose another name".into(),
            Self::NoPublished { newest: None, .. } => {
                "it has no revision at all: publish one first".into()
            }
            Self::UnknownRevision { agent, .. } => {
                format!("`reenact revisions {agent}` lists its revisions")
            }
            Self::AmbiguousRevision { .. } => "give more digits".into(),
            Self::NotADigestPrefix { .. } => {
                "a revision is written as `AGENT@sha256:DIGITS`, or as `AGENT@DIGITS`".into()
            }
            Self::Io { .. } | Self::WrongBytes { .. } => return None,
        })
    }
}

fn list<T: Display>(candidates: &[T]) -> String {
    candidates.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")
}

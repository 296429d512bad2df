//! Agents, revisions and the published pointer; bytes by digest, verified on
//! every read.
//!
//! The rows are in the database, the sealed files beside it in the home folder
//! (`home`). What a manifest says is none of the registry's business: it comes
//! as text and goes as text.

mod blobs;
mod error;
mod home;
#[cfg(test)]
mod tests;

use crate::journal::Micros;
use crate::revision::Digest;
use crate::storage::{Storage, StorageError};

pub use crate::storage::{AgentEdit, AgentRow, AgentTotals, RevisionRow};
pub use error::RegistryError;
pub use home::Home;

/// Names that are at least so similar are worth a suggestion (Jaro-Winkler, 0 to 1).
const SIMILAR: f64 = 0.8;

/// Suggestions that an error makes at most.
const SUGGESTIONS: usize = 3;

/// A cheap handle to the registry of one home folder.
#[derive(Clone)]
pub struct Registry {
    home: Home,
    storage: Storage,
}

/// What somebody wrote to name a revision: `AGENT` for the published one,
/// `AGENT@sha256:DIGITS` or `AGENT@DIGITS` for any. Nothing is checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub agent: String,
    pub prefix: Option<String>,
}

impl From<&str> for Target {
    fn from(text: &str) -> Self {
        match text.split_once('@') {
            Some((agent, prefix)) => Self { agent: agent.into(), prefix: Some(prefix.into()) },
            None => Self { agent: text.into(), prefix: None },
        }
    }
}

/// How an agent's newest revision relates to its published one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    Unpublished,
    Published,
    /// The newest revision is not the published one; so it is, too, after an older
    /// revision was published again.
    UnpublishedChanges,
}

impl AgentState {
    pub fn of(agent: &AgentRow) -> Self {
        match agent.published {
            None => Self::Unpublished,
            Some(published) if Some(published) == agent.newest => Self::Published,
            Some(_) => Self::UnpublishedChanges,
        }
    }
}

impl Registry {
    /// Opens the registry, creates its folders, and removes temporary files that
    /// dead processes have left there.
    pub fn open(home: &Home, storage: Storage, now: Micros) -> Result<Self, RegistryError> {
        home.create().map_err(|error| RegistryError::io("create", home.path(), error))?;
        blobs::sweep(home, now)?;
        Ok(Self { home: home.clone(), storage })
    }

    /// Adds a sealed file, and publishes it if asked to. Answers whether it is new;
    /// one that is known only gets its file repaired if that is damaged.
    pub fn add(
        &self,
        revision: &RevisionRow,
        bytes: &[u8],
        publish: bool,
        now: Micros,
    ) -> Result<bool, RegistryError> {
        let (expected, found) = (revision.digest, Digest::of(bytes));
        if expected != found {
            return Err(RegistryError::WrongBytes { expected, found });
        }
        blobs::write(&self.home, expected, bytes)?;
        Ok(self.storage.insert_revision(revision, publish, now)?)
    }

    /// Makes a revision of the agent its published one.
    pub fn publish(&self, agent: &str, digest: Digest, now: Micros) -> Result<(), RegistryError> {
        self.agent(agent)?;
        match self.storage.set_published(agent, digest, now) {
            Err(StorageError::UnknownRevision { agent, digest }) => {
                Err(RegistryError::UnknownRevision { agent, prefix: digest.to_string() })
            }
            result => Ok(result?),
        }
    }

    /// The sealed file of a revision.
    pub fn read(&self, digest: Digest) -> Result<Vec<u8>, RegistryError> {
        blobs::read(&self.home, digest)
    }

    /// All agents by name.
    pub fn agents(&self) -> Result<Vec<AgentRow>, RegistryError> {
        Ok(self.storage.agents()?)
    }

    pub fn agent(&self, name: &str) -> Result<AgentRow, RegistryError> {
        match self.storage.agent(name)? {
            Some(agent) => Ok(agent),
            None => {
                let names = self.storage.agents()?.into_iter().map(|agent| agent.name);
                Err(RegistryError::UnknownAgent {
                    name: name.into(),
                    similar: similar(name, names),
                })
            }
        }
    }

    /// How much there is of an agent.
    pub fn totals(&self, agent: &str) -> Result<AgentTotals, RegistryError> {
        Ok(self.storage.agent_totals(agent)?)
    }

    /// Creates an agent that has no revision yet.
    pub fn create(&self, name: &str, edit: AgentEdit, now: Micros) -> Result<(), RegistryError> {
        match self.storage.create_agent(name, edit, now)? {
            true => Ok(()),
            false => Err(RegistryError::AgentExists { name: name.to_owned() }),
        }
    }

    /// Changes what people say of an agent; its revisions stay as they are.
    pub fn edit(&self, name: &str, edit: AgentEdit, now: Micros) -> Result<(), RegistryError> {
        match self.storage.edit_agent(name, edit, now)? {
            true => Ok(()),
            false => self.agent(name).map(drop),
        }
    }

    /// The agent's revisions, newest first.
    pub fn revisions(&self, agent: &str) -> Result<Vec<RevisionRow>, RegistryError> {
        self.agent(agent)?;
        Ok(self.storage.revisions(agent)?)
    }

    /// The id of the agent's published revision.
    pub fn published(&self, agent: &str) -> Result<Digest, RegistryError> {
        let AgentRow { published, newest, name: agent, .. } = self.agent(agent)?;
        published.ok_or(RegistryError::NoPublished { agent, newest })
    }

    /// The one revision that `target` means.
    pub fn resolve(&self, target: &Target) -> Result<RevisionRow, RegistryError> {
        let prefix = match &target.prefix {
            Some(text) => {
                self.agent(&target.agent)?;
                digits(text)?.to_owned()
            }
            None => self.published(&target.agent)?.hex(),
        };
        let agent = target.agent.clone();
        let mut found = self.storage.revisions_by_prefix(Some(&agent), &prefix)?;
        match found.len() {
            0 => Err(RegistryError::UnknownRevision { agent, prefix }),
            1 => Ok(found.remove(0)),
            _ => {
                let candidates = found.into_iter().map(|row| row.digest).collect();
                Err(RegistryError::AmbiguousRevision { agent, prefix, candidates })
            }
        }
    }
}

/// The hex digits of `sha256:DIGITS` or `DIGITS`.
fn digits(text: &str) -> Result<&str, RegistryError> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex || digits.is_empty() || digits.len() > 64 {
        return Err(RegistryError::NotADigestPrefix { text: text.to_owned() });
    }
    Ok(digits)
}

fn similar(name: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let mut scored: Vec<_> = names
        .map(|other| (strsim::jaro_winkler(name, &other), other))
        .filter(|(score, _)| *score >= SIMILAR)
        .collect();
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    scored.into_iter().take(SUGGESTIONS).map(|(_, other)| other).collect()
}

//! Agents and revisions as they are shown and changed.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Service, ServiceError, blocking};
use crate::journal::rfc3339;
use crate::registry::{AgentEdit, AgentRow, AgentState, RegistryError, RevisionRow, Target};
use crate::revision::{AgentName, Digest, Manifest};
use crate::runtime;

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    /// The name in its manifests, which never changes.
    pub id: String,
    /// What people call it.
    pub name: String,
    pub description: String,
    /// Whether it has a published revision: only then a run needs not name one.
    pub is_published: bool,
    /// Whether its newest revision is another one than the published.
    pub has_changes: bool,
    pub published_revision_id: Option<String>,
    pub newest_revision_id: Option<String>,
    pub created_at: String,
    pub updated_at: String,
}

/// One sealed revision of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionView {
    /// `sha256:` and the hex digits of the sealed file.
    pub id: String,
    pub agent_id: String,
    pub version: Option<String>,
    pub description: String,
    /// What is sealed into it.
    pub manifest: Value,
    /// Bytes of the sealed file.
    pub size: u64,
    pub is_published: bool,
    pub created_at: String,
}

/// What differs between the manifests of two revisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiffView {
    pub from: String,
    pub to: String,
    /// By path, in the order of the paths.
    pub changes: Vec<Change>,
    /// What the second one asks for that the first one does not.
    pub new_asks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// JSON Pointer (RFC 6901) into the manifest.
    pub path: String,
    /// What is there in the first one; absent if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What is there in the second one; absent if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

impl AgentView {
    fn of(row: AgentRow) -> Self {
        let state = AgentState::of(&row);
        Self {
            name: row.title.unwrap_or_else(|| row.name.clone()),
            id: row.name,
            description: row.description,
            is_published: row.published.is_some(),
            has_changes: state == AgentState::UnpublishedChanges
                || (state == AgentState::Unpublished && row.newest.is_some()),
            published_revision_id: row.published.map(|digest| digest.to_string()),
            newest_revision_id: row.newest.map(|digest| digest.to_string()),
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
        }
    }
}

impl RevisionView {
    fn of(row: RevisionRow, published: Option<Digest>) -> Result<Self, ServiceError> {
        let manifest = serde_json::from_str(&row.manifest).map_err(|error| {
            let digest = row.digest;
            ServiceError::Machine(format!("the manifest of {digest} is damaged: {error}"))
        })?;
        Ok(Self {
            id: row.digest.to_string(),
            agent_id: row.agent,
            version: row.version,
            description: row.description,
            manifest,
            size: row.size,
            is_published: published == Some(row.digest),
            created_at: rfc3339(row.created_at),
        })
    }
}

/// The manifest as it is sealed.
pub(super) fn manifest(row: &RevisionRow) -> Result<Manifest, ServiceError> {
    Manifest::from_json(row.manifest.as_bytes()).map_err(|error| {
        ServiceError::Machine(format!("the manifest of {} is damaged: {error}", row.digest))
    })
}

impl Service {
    /// At most `limit` agents by id, those after `after`.
    pub async fn agents(&self, after: &str, limit: u32) -> Result<Vec<AgentView>, ServiceError> {
        let (storage, after) = (self.0.storage.clone(), after.to_owned());
        blocking(move || {
            Ok(storage.agents_after(&after, limit)?.into_iter().map(AgentView::of).collect())
        })
        .await
    }

    pub fn agent(&self, id: &str) -> Result<AgentView, ServiceError> {
        Ok(AgentView::of(self.0.registry.agent(id)?))
    }

    /// Creates an agent that has no revision yet.
    pub async fn create_agent(&self, id: &str, edit: AgentEdit) -> Result<AgentView, ServiceError> {
        let name: AgentName = id.parse().map_err(|cause| ServiceError::BadName {
            text: id.to_owned(),
            cause: format!("{cause}"),
        })?;
        let service = self.clone();
        blocking(move || {
            service.0.registry.create(name.as_str(), edit, runtime::now())?;
            service.agent(name.as_str())
        })
        .await
    }

    /// Changes what people say of an agent; that makes no new revision.
    pub async fn edit_agent(&self, id: &str, edit: AgentEdit) -> Result<AgentView, ServiceError> {
        let (service, id) = (self.clone(), id.to_owned());
        blocking(move || {
            service.0.registry.edit(&id, edit, runtime::now())?;
            service.agent(&id)
        })
        .await
    }

    /// An agent's revisions, newest first: at most `limit`, those after the one that is
    /// named.
    pub async fn revisions(
        &self,
        agent: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<RevisionView>, ServiceError> {
        let (service, agent) = (self.clone(), agent.to_owned());
        let after = after.map(str::to_owned);
        blocking(move || {
            let published = service.0.registry.agent(&agent)?.published;
            let mut rows = service.0.registry.revisions(&agent)?;
            if let Some(after) = after {
                let at = rows.iter().position(|row| row.digest.to_string() == after);
                let at = at.ok_or(RegistryError::UnknownRevision { agent, prefix: after })?;
                rows.drain(..=at);
            }
            rows.truncate(limit);
            rows.into_iter().map(|row| RevisionView::of(row, published)).collect()
        })
        .await
    }

    /// One revision, by its id or a beginning of it that no other one has.
    pub fn revision(&self, agent: &str, prefix: &str) -> Result<RevisionView, ServiceError> {
        let published = self.0.registry.agent(agent)?.published;
        RevisionView::of(self.resolve(agent, prefix)?, published)
    }

    /// The digest of a revision, by its id or a beginning of it.
    pub fn digest(&self, agent: &str, prefix: &str) -> Result<Digest, ServiceError> {
        Ok(self.resolve(agent, prefix)?.digest)
    }

    /// The sealed file of a revision.
    pub async fn download(
        &self,
        agent: &str,
        prefix: &str,
    ) -> Result<(Digest, Vec<u8>), ServiceError> {
        let digest = self.resolve(agent, prefix)?.digest;
        let registry = self.0.registry.clone();
        blocking(move || Ok((digest, registry.read(digest)?))).await
    }

    /// What differs between two revisions of an agent.
    pub fn diff(&self, agent: &str, from: &str, to: &str) -> Result<DiffView, ServiceError> {
        let (from, to) = (self.resolve(agent, from)?, self.resolve(agent, to)?);
        let (old, new) = (manifest(&from)?, manifest(&to)?);
        let value = |manifest: &Manifest| {
            serde_json::to_value(manifest).map_err(|error| ServiceError::Machine(error.to_string()))
        };
        let mut changes = Vec::new();
        differ(String::new(), Some(&value(&old)?), Some(&value(&new)?), &mut changes);
        Ok(DiffView {
            from: from.digest.to_string(),
            to: to.digest.to_string(),
            changes,
            new_asks: crate::revision::widening(&old, &new),
        })
    }

    pub(super) fn revision_view(
        &self,
        agent: &str,
        digest: Digest,
    ) -> Result<RevisionView, ServiceError> {
        self.revision(agent, &digest.hex())
    }

    fn resolve(&self, agent: &str, prefix: &str) -> Result<RevisionRow, ServiceError> {
        let target = Target { agent: agent.to_owned(), prefix: Some(prefix.to_owned()) };
        Ok(self.0.registry.resolve(&target)?)
    }
}

/// Objects are compared member by member, all else as a whole.
fn differ(path: String, from: Option<&Value>, to: Option<&Value>, changes: &mut Vec<Change>) {
    if from == to {
        return;
    }
    let (Some(Value::Object(old)), Some(Value::Object(new))) = (from, to) else {
        let (from, to) = (from.cloned(), to.cloned());
        changes.push(Change { path, from, to });
        return;
    };
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let token = name.replace('~', "~0").replace('/', "~1");
        differ(format!("{path}/{token}"), old.get(name), new.get(name), changes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_named_by_its_path() {
        let old = json!({ "a": 1, "b": { "c/d": [1], "same": null }, "gone": true });
        let new = json!({ "a": 1, "b": { "c/d": [2], "same": null }, "new": "x" });
        let mut changes = Vec::new();
        differ(String::new(), Some(&old), Some(&new), &mut changes);
        let changes = serde_json::to_value(changes).unwrap();
        assert_eq!(
            changes,
            json!([
                { "path": "/b/c~1d", "from": [1], "to": [2] },
                { "path": "/gone", "from": true },
                { "path": "/new", "to": "x" },
            ])
        );
    }
}

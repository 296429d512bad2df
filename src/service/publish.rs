//! Taking revisions in: stored as drafts, or published if nobody has to be asked.

use std::sync::Arc;

use super::{RevisionView, Service, ServiceError, blocking};
use crate::registry::{Registry, RegistryError, Target};
use crate::revision::{Digest, Manifest, Revision, widening};
use crate::runtime;
use crate::storage::RevisionRow;

/// What to do with a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// Make it the agent's published one.
    pub publish: bool,
    /// Also if it asks for more than the one that is published.
    pub allow_new_tools: bool,
}

/// Stores a revision and answers whether it is new.
pub fn store(
    registry: &Registry,
    revision: &Revision,
    publish: bool,
) -> Result<bool, RegistryError> {
    let now = runtime::now();
    let manifest = &revision.manifest;
    let row = RevisionRow {
        digest: revision.digest,
        agent: manifest.name.to_string(),
        version: manifest.version.clone(),
        description: manifest.description.clone(),
        manifest: String::from_utf8_lossy(&manifest.to_canonical_json()).into_owned(),
        size: revision.bytes.len() as u64,
        created_at: now,
    };
    registry.add(&row, &revision.bytes, publish, now)
}

impl Service {
    /// Takes in a sealed file for an agent: it is compiled, so that it is known to run,
    /// and stored. Answers the revision and whether it is new.
    pub async fn upload(
        &self,
        agent: &str,
        bytes: Vec<u8>,
        how: Publish,
    ) -> Result<(RevisionView, bool), ServiceError> {
        let revision = blocking(move || Ok(Arc::new(Revision::open(bytes)?))).await?;
        let found = revision.manifest.name.as_str();
        if found != agent {
            let (agent, found) = (agent.to_owned(), found.to_owned());
            return Err(ServiceError::OtherAgent { agent, found });
        }
        let prepared = {
            let _permit = self.0.heavy.acquire().await;
            self.0.shelf.prepare(Arc::clone(&revision)).await?
        };
        let service = self.clone();
        let agent = agent.to_owned();
        let answer = blocking(move || {
            if how.publish {
                service.check_widening(&agent, &revision.manifest, how)?;
            }
            let is_new = store(&service.0.registry, &revision, how.publish)?;
            let view = service.revision_view(&agent, revision.digest)?;
            Ok((view, is_new))
        })
        .await?;
        self.0.shelf.keep(prepared);
        Ok(answer)
    }

    /// Makes a stored revision the published one: a newer one, or an older one again.
    pub async fn publish(
        &self,
        agent: &str,
        prefix: &str,
        allow_new_tools: bool,
    ) -> Result<RevisionView, ServiceError> {
        let (service, agent, prefix) = (self.clone(), agent.to_owned(), prefix.to_owned());
        blocking(move || {
            let target = Target { agent: agent.clone(), prefix: Some(prefix) };
            let row = service.0.registry.resolve(&target)?;
            let how = Publish { publish: true, allow_new_tools };
            service.check_widening(&agent, &super::agents::manifest(&row)?, how)?;
            service.0.registry.publish(&agent, row.digest, runtime::now())?;
            service.revision_view(&agent, row.digest)
        })
        .await
    }

    /// Refuses a revision that asks for more than the published one, unless that is wanted.
    fn check_widening(
        &self,
        agent: &str,
        manifest: &Manifest,
        how: Publish,
    ) -> Result<(), ServiceError> {
        let published = match self.0.registry.agent(agent) {
            Ok(row) => row.published,
            Err(RegistryError::UnknownAgent { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(published) = published.filter(|_| !how.allow_new_tools) else { return Ok(()) };
        let old = self.manifest_of(published)?;
        let asks = widening(&old, manifest);
        match asks.is_empty() {
            true => Ok(()),
            false => Err(ServiceError::Widens { agent: agent.to_owned(), asks }),
        }
    }

    fn manifest_of(&self, digest: Digest) -> Result<Manifest, ServiceError> {
        match self.0.storage.revision(digest)? {
            Some(row) => super::agents::manifest(&row),
            None => Err(ServiceError::Machine(format!("revision {digest} is not listed"))),
        }
    }
}

//! The calls of the API, each with what it takes and answers.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::send::{Call, HEAVY};
use super::{Client, ClientError};
use crate::json::Json;
use crate::server::PendingCall;
use crate::service::view::{RunView, Status};
use crate::service::{AgentView, ProofView, RevisionView};
use crate::storage::RunStatus;

/// Bytes of an exported run: a revision and the largest journal.
const MAX_EXPORT: u64 = 4 << 30;

/// Items of a list that is asked for as a whole.
pub const ALL: usize = 1_000_000;

/// How many a page has at most.
const PAGE: usize = 100;

/// What to do with an uploaded revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publishing {
    /// Make it the published one.
    pub publish: bool,
    /// Also if it asks for more tools than the published one.
    pub allow_new_tools: bool,
}

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRuns {
    pub agent: Option<String>,
    pub status: Option<Status>,
}

/// What somebody decides about a call that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Approve,
    /// With other arguments than the agent's.
    ApproveAs(Json),
    /// The agent is told why.
    Deny(String),
}

/// A part of a list.
#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl Client {
    /// All agents, by name.
    pub async fn agents(&self) -> Result<Vec<AgentView>, ClientError> {
        self.list(&["agents"], &[], ALL).await
    }

    pub async fn agent(&self, agent: &str) -> Result<AgentView, ClientError> {
        self.ask(Call::get(&["agents", agent])).await
    }

    /// All revisions of an agent, the newest first.
    pub async fn revisions(&self, agent: &str) -> Result<Vec<RevisionView>, ClientError> {
        self.list(&["agents", agent, "revisions"], &[], ALL).await
    }

    /// One revision, by its id or a beginning of it.
    pub async fn revision(&self, agent: &str, id: &str) -> Result<RevisionView, ClientError> {
        self.ask(Call::get(&["agents", agent, "revisions", id])).await
    }

    /// Stores a sealed file, and publishes it if that is wanted and allowed.
    pub async fn upload(
        &self,
        agent: &str,
        bytes: Arc<[u8]>,
        how: Publishing,
    ) -> Result<RevisionView, ClientError> {
        let mut call = Call::post(&["agents", agent, "revisions"]);
        call.query = vec![
            ("publish", how.publish.to_string()),
            ("allowNewTools", how.allow_new_tools.to_string()),
        ];
        call.body = Some(("application/wasm", Bytes::from_owner(bytes)));
        call.patience = HEAVY;
        self.ask(call).await
    }

    /// Makes a stored revision the published one.
    pub async fn publish(
        &self,
        agent: &str,
        revision: &str,
        allow_new_tools: bool,
    ) -> Result<RevisionView, ClientError> {
        let body = serde_json::json!({ "revision": revision, "allowNewTools": allow_new_tools });
        self.ask(Call::post(&["agents", agent, "publish"]).json(&body)).await
    }

    /// Starts a run. However often this has to be sent, one run is started.
    pub async fn start(
        &self,
        agent: &str,
        revision: Option<&str>,
        input: &Json,
    ) -> Result<RunView, ClientError> {
        #[derive(Serialize)]
        struct NewRun<'a> {
            input: &'a Json,
            #[serde(skip_serializing_if = "Option::is_none")]
            revision: Option<&'a str>,
        }
        let call = Call::post(&["agents", agent, "runs"]).json(&NewRun { input, revision });
        let call = call.header("idempotency-key", crate::runtime::run_id());
        self.checked(self.ask(call).await?)
    }

    /// One run, by its id or a beginning of it.
    pub async fn run(&self, run: &str) -> Result<RunView, ClientError> {
        self.checked(self.ask(Call::get(&["runs", run])).await?)
    }

    /// A run whose id is one: it names files and routes.
    fn checked(&self, run: RunView) -> Result<RunView, ClientError> {
        let is_id = run.id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        match is_id && !run.id.is_empty() {
            true => Ok(run),
            false => Err(self.unexpected("a run has an id that is none")),
        }
    }

    /// The newest runs, at most `most`.
    pub async fn runs(&self, which: &ListRuns, most: usize) -> Result<Vec<RunView>, ClientError> {
        let mut query = Vec::new();
        query.extend(which.agent.clone().map(|agent| ("agent", agent)));
        query.extend(which.status.map(|status| ("status", RunStatus::from(status).to_string())));
        self.list(&["runs"], &query, most).await
    }

    /// Asks for a run to be cancelled; one that has ended stays as it is.
    pub async fn cancel(&self, run: &str) -> Result<RunView, ClientError> {
        self.ask(Call::post(&["runs", run, "cancel"])).await
    }

    /// The calls of a run that wait for a person.
    pub async fn approvals(&self, run: &str) -> Result<Vec<PendingCall>, ClientError> {
        self.ask(Call::get(&["runs", run, "approvals"])).await
    }

    /// Decides about a call that waits; the first decision counts.
    pub async fn decide(
        &self,
        run: &str,
        call: u64,
        decision: &Decision,
    ) -> Result<RunView, ClientError> {
        #[derive(Serialize)]
        struct Body<'a> {
            decision: &'static str,
            call: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            arguments: Option<&'a Json>,
        }
        let (decision, reason, arguments) = match decision {
            Decision::Approve => ("approve", None, None),
            Decision::ApproveAs(arguments) => ("approve", None, Some(arguments)),
            Decision::Deny(reason) => ("deny", Some(reason.as_str()), None),
        };
        let body = Body { decision, call, reason, arguments };
        let mut call = Call::post(&["runs", run, "approve"]).json(&body);
        // The second time it would be refused, as decided already.
        call.is_repeatable = false;
        self.ask(call).await
    }

    /// Runs a run again on the server, from its journal alone.
    pub async fn replay(&self, run: &str) -> Result<ProofView, ClientError> {
        let mut call = Call::post(&["runs", run, "replay"]);
        call.patience = HEAVY;
        self.ask(call).await
    }

    /// A run and its revision as one file.
    pub async fn export(&self, run: &str) -> Result<Vec<u8>, ClientError> {
        let mut call = Call::get(&["runs", run, "export"]);
        call.patience = HEAVY;
        self.fetch(call, MAX_EXPORT).await
    }

    /// The first of a list, at most `most`, page by page.
    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        route: &[&str],
        query: &[(&'static str, String)],
        most: usize,
    ) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let limit = PAGE.min(most - items.len());
            if limit == 0 {
                return Ok(items);
            }
            let mut call = Call::get(route);
            call.query = query.to_vec();
            call.query.push(("limit", limit.to_string()));
            call.query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page: Page<T> = self.ask(call).await?;
            let is_empty = page.items.is_empty();
            items.extend(page.items);
            cursor = page.next;
            if cursor.is_none() || is_empty {
                items.truncate(most);
                return Ok(items);
            }
        }
    }
}

//! What a server sees of its host: nothing to reach in by.
//!
//! No capability is offered. Whoever asks all the same for a model's answer,
//! for folders or for a person's input is told that there is no such method.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult,
    ElicitationCreateRequestMethod, ErrorData, Implementation, ListRootsRequestMethod,
    ProgressNotificationParam, ProgressToken, ProtocolVersion,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient};

use crate::tools::{Report, clip};

/// Bytes of one message about progress, and how many of them one call may show.
const MAX_PROGRESS_TEXT: usize = 500;
const MAX_PROGRESS: usize = 200;

/// The host's side of one connection. Cheap to clone.
#[derive(Clone, Default)]
pub struct Client {
    watched: Arc<Mutex<HashMap<ProgressToken, Watched>>>,
}

struct Watched {
    report: Report,
    shown: usize,
}

impl Client {
    /// Shows the progress of a call to whoever watches it, until the guard is
    /// dropped.
    pub fn watch(&self, token: ProgressToken, report: Report) -> Unwatch {
        lock(&self.watched).insert(token.clone(), Watched { report, shown: 0 });
        Unwatch { client: self.clone(), token }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the watching of a call.
pub struct Unwatch {
    client: Client,
    token: ProgressToken,
}

impl Drop for Unwatch {
    fn drop(&mut self) {
        lock(&self.client.watched).remove(&self.token);
    }
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let host = Implementation::new("reenact", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), host)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    #[expect(deprecated, reason = "servers of older protocols ask for roots")]
    async fn list_roots(
        &self,
        _: RequestContext<RoleClient>,
    ) -> Result<rmcp::model::ListRootsResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListRootsRequestMethod>())
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Err(ErrorData::method_not_found::<ElicitationCreateRequestMethod>())
    }

    async fn on_progress(
        &self,
        progress: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        if let Some(watched) = lock(&self.watched).get_mut(&progress.progress_token)
            && watched.shown < MAX_PROGRESS
        {
            watched.shown += 1;
            watched.report.text(&text_of(&progress));
        }
    }
}

/// A line such as `copying (3 of 10)`.
fn text_of(progress: &ProgressNotificationParam) -> String {
    let message = clip(progress.message.as_deref().unwrap_or("working"), MAX_PROGRESS_TEXT);
    let done = progress.progress;
    match progress.total {
        Some(total) => format!("{message} ({done} of {total})\n"),
        None => format!("{message} ({done})\n"),
    }
}

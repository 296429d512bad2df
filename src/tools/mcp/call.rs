//! One call of one tool.

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientRequest, JsonObject, Request, RequestMetaObject,
    ServerResult,
};
use rmcp::service::{PeerRequestOptions, RequestHandle, RoleClient, ServiceError};
use serde_json::Value;
use tokio::runtime::Handle;

use super::connection::Connection;
use super::{content, failed};
use crate::tools::{CallContext, Success, ToolError};

/// Where in a request's `_meta` the key stands that is the same whenever the
/// very same call is made again.
const KEY: &str = "reenact/idempotency-key";

/// Calls the tool that the server knows as `tool`. Dropping the future tells
/// the server that nobody waits any more.
pub async fn call(
    connection: &Connection,
    tool: String,
    arguments: JsonObject,
    context: CallContext,
) -> Result<Success, ToolError> {
    let meta = JsonObject::from_iter([(KEY.to_owned(), Value::String(context.key))]);
    let options = PeerRequestOptions::no_options().with_meta(RequestMetaObject::from(meta));
    let params = CallToolRequestParams::new(tool).with_arguments(arguments);
    let request = ClientRequest::CallToolRequest(Request::new(params));
    let sent = connection.peer().send_cancellable_request(request, options).await;
    let pending = match sent {
        Ok(handle) => Pending(Some(handle)),
        Err(cause) => return Err(connection.explain(cause).await),
    };
    let _watch = pending.0.as_ref().map(|handle| {
        connection.client().watch(handle.progress_token.clone(), context.report.clone())
    });
    match pending.answer().await.and_then(completed) {
        Ok(Some(result)) => content::outcome(result),
        Ok(None) => Err(failed(
            "the tool asks for more input or for patience, which this host does not give"
                .to_owned(),
        )),
        Err(cause) => Err(connection.explain(cause).await),
    }
}

/// The result of a call that is over; none if the server wants something first.
fn completed(result: ServerResult) -> Result<Option<CallToolResult>, ServiceError> {
    match result {
        ServerResult::CallToolResult(result) => Ok(Some(result)),
        // An answer without any content looks like this.
        ServerResult::EmptyResult(_) => Ok(Some(CallToolResult::success(Vec::new()))),
        ServerResult::InputRequiredResult(_) | ServerResult::CreateTaskResult(_) => Ok(None),
        _ => Err(ServiceError::UnexpectedResponse),
    }
}

/// A request that waits for its answer, and is cancelled when it is dropped
/// before that.
struct Pending(Option<RequestHandle<RoleClient>>);

impl Pending {
    async fn answer(mut self) -> Result<ServerResult, ServiceError> {
        let Some(handle) = &mut self.0 else { return Err(ServiceError::TransportClosed) };
        let answer = (&mut handle.rx).await;
        self.0 = None;
        answer.unwrap_or(Err(ServiceError::TransportClosed))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(handle) = self.0.take() else { return };
        // Without a runtime the host is ending, and its servers with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(handle.cancel(Some("nobody waits for the answer any more".to_owned())));
        }
    }
}

//! One attempt at a call: a request to a provider, and its answer while it comes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use genai::chat::{ChatStream, ChatStreamEvent, RawFrameRef};
use genai::resolver::{AuthData, Endpoint};
use genai::{ModelIden, ServiceTarget};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::fault::Fault;
use super::relay::{EXCHANGE, Relay};
use super::request::Request;
use super::settings::Model;
use crate::tools::Report;

/// Text is shown this often; more often nobody could read it.
const SHOWN_EVERY: Duration = Duration::from_millis(50);
/// Of an event that says what went wrong.
const MAX_ERROR: usize = 16 << 10;

/// Asks `model` once. What it writes is shown while it comes.
pub(super) async fn attempt(
    relay: &Relay,
    model: Model<'_>,
    request: &Request,
    report: &Report,
) -> Result<Answer, Fault> {
    let adapter = model.provider.adapter;
    let place = relay.expect(model.provider, request.amendments.clone());
    let told = Told::default();
    let listener = told.clone();
    let options = request
        .options
        .clone()
        .with_extra_headers((EXCHANGE, place.id.to_string()))
        .with_raw_frame_fn(move |_: &_, frame: RawFrameRef<'_>| listener.hear(frame.data));
    let target = ServiceTarget {
        // The relay knows the address and the key.
        endpoint: Endpoint::from_static("http://localhost/"),
        auth: AuthData::from_single("none"),
        model: ModelIden::new(adapter.kind(), model.name),
    };
    let mut answer = Answer::new(adapter);
    let sent = relay.client.exec_chat_stream(target, request.chat.clone(), Some(&options)).await;
    let read = match sent {
        Ok(response) => read(response.stream, &mut answer, report).await,
        Err(error) => Err(blame(error)),
    };
    match (read, place.fault(), told.take()) {
        (Ok(()), ..) => Ok(answer),
        // The nearer to the cause, the better it is told.
        (Err(fault @ Fault::TooLarge { .. }), ..)
        | (_, Some(fault @ Fault::TooLarge { .. }), _) => Err(fault),
        (_, _, Some(body)) => Err(Fault::Said { body }),
        (_, Some(fault), _) => Err(fault),
        (Err(fault), ..) => Err(fault),
    }
}

async fn read(mut stream: ChatStream, answer: &mut Answer, report: &Report) -> Result<(), Fault> {
    let incomplete = || Fault::Broken { cause: "the stream ended early".to_owned() };
    let mut live = Live { report, pending: String::new(), due: Instant::now() };
    loop {
        let Some(event) = live.next(&mut stream).await else { return Err(incomplete()) };
        match event.map_err(blame)? {
            ChatStreamEvent::Chunk(chunk) => {
                answer.add_text(&chunk.content)?;
                live.add(&chunk.content);
            }
            ChatStreamEvent::ToolCallChunk(chunk) => answer.add_call(chunk.tool_call)?,
            ChatStreamEvent::End(end) => {
                live.show();
                return if answer.end(end) { Ok(()) } else { Err(incomplete()) };
            }
            // What a model thinks is no part of what it says.
            ChatStreamEvent::Start
            | ChatStreamEvent::ReasoningChunk(_)
            | ChatStreamEvent::ThoughtSignatureChunk(_)
            | ChatStreamEvent::Heartbeat => {}
        }
    }
}

/// Hands on text now and then instead of with every token.
struct Live<'a> {
    report: &'a Report,
    pending: String,
    due: Instant,
}

impl Live<'_> {
    async fn next(&mut self, stream: &mut ChatStream) -> Option<genai::Result<ChatStreamEvent>> {
        if self.pending.is_empty() {
            return stream.next().await;
        }
        // `next` can be dropped between two polls without losing an event.
        match timeout_at(self.due, stream.next()).await {
            Ok(event) => event,
            Err(_) => {
                self.show();
                stream.next().await
            }
        }
    }

    fn add(&mut self, piece: &str) {
        self.pending.push_str(piece);
        if Instant::now() >= self.due {
            self.show();
        }
    }

    fn show(&mut self) {
        if !self.pending.is_empty() {
            self.report.text(&std::mem::take(&mut self.pending));
        }
        self.due = Instant::now() + SHOWN_EVERY;
    }
}

/// What a provider says in a stream about an error. genai passes over some of it.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Option<String>>>);

impl Told {
    fn hear(&self, event: &str) {
        let mentions = ["\"error\"", "\"blockReason\""].iter().any(|word| event.contains(word));
        if event.len() <= MAX_ERROR && mentions && is_error(event) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.to_owned());
        }
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn is_error(event: &str) -> bool {
    let Ok(event) = serde_json::from_str::<Value>(event) else { return false };
    let places = ["/error", "/promptFeedback/blockReason"];
    places.iter().any(|place| event.pointer(place).is_some_and(|value| !value.is_null()))
}

/// genai's errors may quote the whole request, so their texts are not used.
fn blame(error: genai::Error) -> Fault {
    use genai::Error as E;
    match error {
        E::ChatResponse { body, .. } => Fault::Said { body: body.to_string() },
        E::StreamParse { serde_error, .. } if serde_error.is_eof() => {
            Fault::Broken { cause: "the stream ended within an event".to_owned() }
        }
        E::StreamParse { serde_error, .. } => Fault::Nonsense { what: serde_error.to_string() },
        E::WebStream { cause, .. } => Fault::Broken { cause },
        _ => Fault::Nonsense { what: "it is of another form".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_is_an_error() {
        for event in [
            r#"{"error":"model runner has stopped"}"#,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{}}"#,
        ] {
            assert!(is_error(event), "{event}");
        }
        for event in [
            r#"{"message":{"content":"an \"error\": 5"}}"#,
            r#"{"choices":[],"error":null}"#,
            r#"[DONE] "error""#,
        ] {
            assert!(!is_error(event), "{event}");
        }
    }
}

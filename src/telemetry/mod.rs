//! Traces of runs that have ended, exported over OTLP where the operator wants that.
//!
//! A trace is made of a run's journal alone ([`spans()`]), so nothing of a run waits for it,
//! and one that was not exported can be made again. What is to be exported waits in memory
//! within bounds; a collector that is down costs some warnings and the traces that do not
//! fit, never a run.
//!
//! Metrics of the process are not here.

mod calls;
mod contents;
mod spans;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::{KeyValue, Value};
use opentelemetry_otlp::{
    Protocol, SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use crate::config::TelemetrySettings;
use crate::journal::Entry;

pub use spans::spans;

/// Bytes of spans that may wait, as they are in memory. A collector that is away for a
/// minute loses nothing of a hundred runs a second.
const MAX_WAITING: usize = 32 << 20;

/// Traces that may wait, whatever their size.
const MAX_TRACES: usize = 10_000;

/// Spans of one request, as the batch processors of OpenTelemetry send them.
const MAX_BATCH: usize = 512;

/// Bytes of one request, about: collectors take 4 MiB as a rule.
const MAX_BATCH_BYTES: usize = 2 << 20;

/// For one request with its own attempts.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Between attempts at a batch that was not taken; after the last one it is dropped.
const WAITS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];

/// What waits when the process stops has so long to be sent.
const FLUSH: Duration = Duration::from_secs(5);

/// There is one warning about a collector in this time.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Exports traces, or does not. Cheap to clone.
#[derive(Clone, Default)]
pub struct Telemetry(Option<Arc<Inner>>);

struct Inner {
    contents: bool,
    queue: Mutex<Option<Sender<Batch>>>,
    waiting: Arc<AtomicUsize>,
    grumble: Arc<Grumble>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Why traces cannot be exported at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the export of traces to `{endpoint}`: {cause}")]
pub struct TelemetryError {
    endpoint: String,
    cause: String,
}

impl Telemetry {
    /// Starts to export as the configuration says, if it does. To be called where tokio runs.
    pub fn open(settings: Option<TelemetrySettings>) -> Result<Self, TelemetryError> {
        let Some(settings) = settings else { return Ok(Self::default()) };
        let exporter = exporter(&settings).map_err(|cause| {
            let endpoint = settings.endpoint.origin().ascii_serialization();
            TelemetryError { endpoint, cause }
        })?;
        let (sender, receiver) = channel(MAX_TRACES);
        let (waiting, grumble) = (Arc::<AtomicUsize>::default(), Arc::<Grumble>::default());
        let task = export(exporter, receiver, Arc::clone(&waiting), Arc::clone(&grumble));
        Ok(Self(Some(Arc::new(Inner {
            contents: settings.contents,
            queue: Mutex::new(Some(sender)),
            waiting,
            grumble,
            task: Mutex::new(Some(tokio::spawn(task))),
        }))))
    }

    /// Whether anything is exported: if not, nobody needs to read a journal for it.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Exports the trace of a run, given all its entries. It does not wait: what finds no
    /// room is dropped. A run that has not ended has no trace. For a large journal it
    /// computes for some milliseconds.
    pub fn run_ended(&self, entries: &[Entry]) {
        let Some(inner) = &self.0 else { return };
        let spans = spans(entries, inner.contents);
        for batch in batches(spans) {
            let (size, count) = (batch.size, batch.spans.len());
            let fits = inner.waiting.fetch_add(size, Ordering::Relaxed) + size <= MAX_WAITING;
            let queue = inner.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = fits && queue.as_ref().is_some_and(|queue| queue.try_send(batch).is_ok());
            if !taken {
                inner.waiting.fetch_sub(size, Ordering::Relaxed);
                inner.grumble.lost(count, "too many wait to be exported");
            }
        }
    }

    /// Exports what waits, within some seconds, and nothing after that.
    pub async fn shutdown(&self) {
        let Some(inner) = &self.0 else { return };
        // Without its sender the task ends when nothing waits any more.
        drop(inner.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let task = inner.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout(FLUSH, &mut task).await.is_err() {
            task.abort();
            tracing::warn!("traces were not all exported: the collector did not take them in time");
        }
    }
}

fn exporter(settings: &TelemetrySettings) -> Result<OtlpExporter, String> {
    let headers = settings.headers.iter();
    let headers = headers.map(|(name, value)| (name.clone(), value.reveal().to_owned()));
    let mut exporter = OtlpExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.endpoint.as_str())
        .with_timeout(TIMEOUT)
        .with_headers(headers.collect::<HashMap<_, _>>())
        .build()
        .map_err(|error| error.to_string())?;
    exporter.set_resource(&resource());
    Ok(exporter)
}

/// What exports: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, if they are set, else us.
fn resource() -> Resource {
    let ours = KeyValue::new("service.name", "reenact");
    let resource = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let named = resource.get(&ours.key).is_some_and(|name| !is_unknown(&name));
    let builder = Resource::builder_empty().with_attributes(
        resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())),
    );
    if named { builder.build() } else { builder.with_attribute(ours).build() }
}

/// What OpenTelemetry calls a service without a name.
fn is_unknown(name: &Value) -> bool {
    name.as_str().starts_with("unknown_service")
}

/// Spans that go into one request.
struct Batch {
    spans: Vec<SpanData>,
    /// Bytes, about.
    size: usize,
}

/// The spans of a trace in portions that a collector takes.
fn batches(spans: Vec<SpanData>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for span in spans {
        let size = size(&span);
        let room = |batch: &&mut Batch| {
            batch.spans.len() < MAX_BATCH && batch.size + size <= MAX_BATCH_BYTES
        };
        match batches.last_mut().filter(room) {
            Some(batch) => {
                batch.spans.push(span);
                batch.size += size;
            }
            None => batches.push(Batch { spans: vec![span], size }),
        }
    }
    batches
}

fn size(span: &SpanData) -> usize {
    let attribute = |attribute: &KeyValue| {
        let value = match &attribute.value {
            Value::String(text) => text.as_str().len(),
            _ => 0,
        };
        size_of::<KeyValue>() + value
    };
    size_of::<SpanData>() + span.attributes.iter().map(attribute).sum::<usize>()
}

/// Sends one batch after the other until nobody adds any more. Small ones that wait share
/// a request.
async fn export(
    exporter: OtlpExporter,
    mut queue: Receiver<Batch>,
    waiting: Arc<AtomicUsize>,
    grumble: Arc<Grumble>,
) {
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(batch) => Some(batch),
            None => queue.recv().await,
        };
        let Some(mut batch) = first else { return };
        while let Ok(more) = queue.try_recv() {
            let fits = batch.spans.len() + more.spans.len() <= MAX_BATCH
                && batch.size + more.size <= MAX_BATCH_BYTES;
            if !fits {
                next = Some(more);
                break;
            }
            batch.size += more.size;
            batch.spans.extend(more.spans);
        }
        send(&exporter, &batch.spans, &grumble).await;
        waiting.fetch_sub(batch.size, Ordering::Relaxed);
    }
}

async fn send(exporter: &OtlpExporter, spans: &[SpanData], grumble: &Grumble) {
    for wait in WAITS.into_iter().map(Some).chain([None]) {
        let error = match exporter.export(spans.to_vec()).await {
            Ok(()) => return,
            Err(error) => error,
        };
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => grumble.lost(spans.len(), &error.to_string()),
        }
    }
}

/// Complains about what was lost, now and then.
#[derive(Default)]
struct Grumble(Mutex<Losses>);

#[derive(Default)]
struct Losses {
    spans: usize,
    warned: Option<Instant>,
}

impl Grumble {
    fn lost(&self, spans: usize, why: &str) {
        let mut losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        losses.spans += spans;
        if losses.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
            tracing::warn!("{} spans are not exported: {why}", losses.spans);
            *losses = Losses { spans: 0, warned: Some(Instant::now()) };
        }
    }
}

//! Spans on their way out: OTLP over HTTP, in batches.
//!
//! opentelemetry's batch processor and OTLP exporter do the work, on a thread of the processor's own.
//! What is added here is what they lack for a proxy: a bound whose drops are counted, a count of spans
//! that a collector did not take, complaints at a limited rate, and an HTTP client made of what is in
//! this program already. A collector that is slow or gone costs spans, never requests.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor as _,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::super::count::Counter;
use super::SpanSink;
use crate::config::fields;

/// A collector says `{}` or why not; more is not read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Whether and how requests are traced.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracingOptions {
    /// The collector, such as `http://127.0.0.1:4318/v1/traces`. Tracing is off without one.
    pub otlp_endpoint: Option<OtlpEndpoint>,
    /// The share of traces that begin here and are kept, from 0 to 1; where a caller has decided,
    /// that holds. 0.01, as Istio's: a span costs more than the counters of a request together.
    #[serde(deserialize_with = "ratio")]
    pub sample_ratio: f64,
    /// `service.name` of the spans. `sidecar`, which says whose they are if nothing else does.
    pub service_name: String,
    /// Spans that may wait for their export; further ones are dropped. 2048, as OpenTelemetry's.
    pub queue: NonZeroUsize,
    /// How often waiting spans are sent; earlier when 512 wait. 5 s, as OpenTelemetry's.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub interval: Duration,
    /// How long the collector may take for a batch. 10 s, as OTLP's.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub timeout: Duration,
}

impl Default for TracingOptions {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            sample_ratio: 0.01,
            service_name: "sidecar".to_owned(),
            queue: NonZeroUsize::MIN.saturating_add(2047),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
        }
    }
}

/// The URL of a collector that takes OTLP over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint(Uri);

impl OtlpEndpoint {
    /// Checks a URL.
    ///
    /// # Errors
    /// Says what one looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hint = "write its URL, such as \"http://127.0.0.1:4318/v1/traces\"";
        let uri: Uri = text.parse().map_err(|_| format!("`{text}` is not a URL; {hint}"))?;
        if uri.scheme() != Some(&Scheme::HTTP) || uri.host().is_none_or(str::is_empty) {
            return Err(format!("`{text}` is not a collector that is reached by http; {hint}"));
        }
        Ok(Self(uri))
    }
}

impl Serialize for OtlpEndpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for OtlpEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let ratio = f64::deserialize(deserializer)?;
    if !(0.0..=1.0).contains(&ratio) {
        let message = format!("`{ratio}` is not a share; write a number from 0.0 to 1.0");
        return Err(serde::de::Error::custom(message));
    }
    Ok(ratio)
}

/// What became of spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpanCounts {
    /// Taken by the collector.
    pub exported: u64,
    /// Not taken by it.
    pub failed: u64,
    /// Dropped because too many were waiting.
    pub dropped: u64,
}

/// Tracing could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot export spans to {endpoint}")]
pub struct StartError {
    endpoint: Uri,
    #[source]
    source: opentelemetry_otlp::ExporterBuildError,
}

/// Sends spans to a collector.
#[derive(Debug)]
pub struct Exporter {
    processor: Arc<BatchSpanProcessor>,
    queue: u64,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    exported: Counter,
    failed: Counter,
    dropped: Counter,
    /// Handed to the processor, and neither exported nor failed.
    waiting: AtomicU64,
    /// Batches that failed.
    failures: Counter,
}

impl Exporter {
    /// Starts the thread that sends. Connections are made on `runtime`.
    ///
    /// # Errors
    /// When the exporter cannot be made of the options and the environment's `OTEL_…` variables.
    pub fn start(
        endpoint: &OtlpEndpoint,
        options: &TracingOptions,
        runtime: Handle,
    ) -> Result<Arc<Self>, StartError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Client { runtime, timeout: options.timeout })
            .with_endpoint(endpoint.0.to_string())
            .with_timeout(options.timeout)
            .build()
            .map_err(|source| StartError { endpoint: endpoint.0.clone(), source })?;
        let counts = Arc::<Counts>::default();
        let counting = Counting { exporter, counts: counts.clone() };
        let queue = options.queue.get();
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(queue)
            .with_max_export_batch_size(queue.min(512))
            .with_scheduled_delay(options.interval)
            .build();
        let mut processor = BatchSpanProcessor::new(counting, config);
        let resource = Resource::builder_empty().with_service_name(options.service_name.clone());
        processor.set_resource(&resource.build());
        Ok(Arc::new(Self { processor: Arc::new(processor), queue: queue as u64, counts }))
    }

    /// Sends what waits; true if that is done within `limit`. The processor waits by blocking, and
    /// the connection needs our workers, so a thread of its own does the waiting.
    pub async fn flush(&self, limit: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        let processor = self.processor.clone();
        let thread = std::thread::Builder::new().name("span-flush".to_owned());
        let spawned = thread.spawn(move || {
            // Who asked may have stopped waiting.
            let _ = done.send(processor.force_flush().is_ok());
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "spans cannot be flushed");
            return false;
        }
        matches!(tokio::time::timeout(limit, flushed).await, Ok(Ok(true)))
    }
}

impl SpanSink for Exporter {
    fn take(&self, span: SpanData) {
        // Counted here, so that the processor's own queue, which drops in silence, is never full.
        if self.counts.waiting.fetch_add(1, Ordering::AcqRel) >= self.queue {
            self.counts.waiting.fetch_sub(1, Ordering::AcqRel);
            self.counts.dropped.up();
            return;
        }
        self.processor.on_end(span);
    }

    fn counts(&self) -> SpanCounts {
        let Counts { exported, failed, dropped, .. } = &*self.counts;
        SpanCounts { exported: exported.get(), failed: failed.get(), dropped: dropped.get() }
    }
}

/// Counts what the exporter says of each batch.
#[derive(Debug)]
struct Counting {
    exporter: opentelemetry_otlp::SpanExporter,
    counts: Arc<Counts>,
}

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        let counts = &*self.counts;
        counts.waiting.fetch_sub(spans, Ordering::AcqRel);
        match &result {
            Ok(()) => counts.exported.add(spans),
            Err(error) => {
                counts.failed.add(spans);
                counts.failures.up();
                let times = counts.failures.get();
                // A collector that is gone fails every few seconds.
                if times.is_power_of_two() {
                    tracing::warn!(%error, spans, times, "spans were not exported");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// An HTTP client of one connection a request: there is one every few seconds.
#[derive(Debug)]
struct Client {
    runtime: Handle,
    timeout: Duration,
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The processor's thread has no reactor; ours has.
        let limited = tokio::time::timeout;
        let timeout = self.timeout;
        self.runtime.spawn(async move { limited(timeout, exchange(request)).await }).await??
    }
}

async fn exchange(mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let authority = request.uri().authority().ok_or("the collector's URL has no host")?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) = handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
    let origin_form = request.uri().path_and_query().cloned().map_or_else(Uri::default, Uri::from);
    *request.uri_mut() = origin_form;
    request.headers_mut().insert(http::header::HOST, HeaderValue::from_str(authority.as_str())?);
    let answer = async move {
        let (head, body) = sender.send_request(request.map(Full::from)).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It ends first when it breaks; the answer then says how.
        _ = connection => answer.await,
    }
}

//! Spans: one for each request, and one for each attempt below it.
//!
//! Counters say that a retry happened, a trace which attempt went where and what it cost the caller.
//! Names of attributes are OpenTelemetry's (semantic conventions for HTTP, stable); what those have no
//! word for begins with `sidecar.`. Query strings are left out: that is where people put secrets.
//!
//! Spans are not events: an event belongs to an endpoint or a cluster, a span to one request, and a
//! request carries its own. When tracing is off, a request costs one branch, and `traceparent`,
//! `tracestate` and `b3` pass as they came. `b3` always does.
//!
//! A span is timed by the same clock as everything else, from one reading of the wall clock at the
//! request's start: a wall clock that is set in between makes no span that ends before it begins.

mod context;
mod export;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::header::HOST;
use http::{HeaderMap, Method, Request, StatusCode};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use rand::RngExt as _;

pub use context::{Context, TRACEPARENT, TRACESTATE};
pub use export::{Exporter, OtlpEndpoint, SpanCounts, StartError, TracingOptions};

use super::WallClock;
use super::event::{AttemptEnd, AttemptKind, Named as _, RequestEnd};
use crate::rng::StreamRng;

/// Where finished spans go. It must not wait.
pub trait SpanSink: fmt::Debug + Send + Sync {
    /// A span ended.
    fn take(&self, span: SpanData);

    /// What became of the spans so far.
    fn counts(&self) -> SpanCounts {
        SpanCounts::default()
    }
}

/// Keeps them, for tests and simulations.
impl SpanSink for Mutex<Vec<SpanData>> {
    fn take(&self, span: SpanData) {
        self.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }
}

/// Starts a span for each request, or none.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Tracing>>);

/// What a tracer that is on is made of.
pub struct TracerParts {
    /// The share of traces that begin here and are kept, from 0 to 1. Where the caller's
    /// `traceparent` has decided, that holds.
    pub sample_ratio: f64,
    /// Draws identifiers and samples.
    pub rng: StreamRng,
    /// What time it is outside.
    pub wall_clock: WallClock,
    /// Takes the spans.
    pub sink: Arc<dyn SpanSink>,
}

struct Tracing {
    sample_ratio: f64,
    rng: Mutex<StreamRng>,
    wall_clock: WallClock,
    sink: Arc<dyn SpanSink>,
    scope: InstrumentationScope,
}

impl Tracer {
    /// Traces nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Traces.
    pub fn new(parts: TracerParts) -> Self {
        let TracerParts { sample_ratio, rng, wall_clock, sink } = parts;
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let rng = Mutex::new(rng);
        Self(Some(Arc::new(Tracing { sample_ratio, rng, wall_clock, sink, scope })))
    }

    /// The span of a request that was received at `now`; `None` when tracing is off.
    pub fn start<B>(
        &self,
        now: Instant,
        request: &Request<B>,
        peer: Option<SocketAddr>,
    ) -> Option<RequestSpan> {
        let tracing = self.0.as_ref()?;
        Some(tracing.clone().start(now, request, peer))
    }

    /// What became of the spans so far; `None` when tracing is off.
    pub fn counts(&self) -> Option<SpanCounts> {
        self.0.as_ref().map(|tracing| tracing.sink.counts())
    }
}

impl Tracing {
    fn start<B>(
        self: Arc<Self>,
        now: Instant,
        request: &Request<B>,
        peer: Option<SocketAddr>,
    ) -> RequestSpan {
        let parent = Context::extract(request.headers());
        let context = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            match parent {
                Some(parent) => parent.child(&mut *rng),
                None => {
                    let sampled = rng.random_bool(self.sample_ratio);
                    Context::root(sampled, &mut *rng)
                }
            }
        };
        let recorded = context.is_sampled().then(|| {
            let (address, port) = host_and_port(request);
            let mut attributes = vec![
                KeyValue::new("http.request.method", method(request.method())),
                KeyValue::new("url.scheme", "http"),
                KeyValue::new("url.path", request.uri().path().to_owned()),
                KeyValue::new("server.address", address),
            ];
            attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
            if let Some(peer) = peer {
                attributes.push(KeyValue::new("client.address", peer.ip().to_string()));
                attributes.push(KeyValue::new("client.port", i64::from(peer.port())));
            }
            Box::new(Recorded {
                method: method(request.method()),
                path: request.uri().path().to_owned(),
                wall: (self.wall_clock)(),
                attributes,
            })
        });
        RequestSpan { tracing: self, context, parent, start: now, recorded }
    }

    fn child(&self, of: &Context) -> Context {
        of.child(&mut *self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sample_ratio, sink, .. } = self;
        f.debug_struct("Tracing").field("sample_ratio", sample_ratio).field("sink", sink).finish()
    }
}

/// A request that is traced. It has no end of its own: who drops it unended traces nothing.
#[derive(Debug)]
pub struct RequestSpan {
    tracing: Arc<Tracing>,
    context: Context,
    parent: Option<Context>,
    start: Instant,
    /// `None` when the trace is not sampled, and only passed on.
    recorded: Option<Box<Recorded>>,
}

#[derive(Debug)]
struct Recorded {
    method: &'static str,
    path: String,
    wall: SystemTime,
    attributes: Vec<KeyValue>,
}

/// An attempt, for its span.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The endpoint's `host:port`.
    pub endpoint: &'a str,
    /// 1 for the first.
    pub number: u32,
    /// Why it is made.
    pub kind: AttemptKind,
}

impl RequestSpan {
    /// The trace's identifier, in hexadecimal.
    pub fn trace_id(&self) -> String {
        self.context.trace.to_string()
    }

    /// The span of an attempt that starts at `now`.
    pub fn attempt(&self, now: Instant, attempt: Attempt<'_>) -> AttemptSpan {
        let recorded = self.recorded.as_ref().map(|recorded| {
            let Attempt { cluster, endpoint, number, kind } = attempt;
            let url = format!("http://{endpoint}{}", recorded.path);
            let (address, port) = split_port(endpoint);
            let mut attributes = vec![
                KeyValue::new("http.request.method", recorded.method),
                KeyValue::new("url.full", url),
                KeyValue::new("server.address", address.to_owned()),
                KeyValue::new("sidecar.cluster", cluster.to_owned()),
                KeyValue::new("sidecar.attempt.number", i64::from(number)),
                KeyValue::new("sidecar.attempt.kind", kind.name()),
            ];
            attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
            if number > 1 {
                let again = i64::from(number) - 1;
                attributes.push(KeyValue::new("http.request.resend_count", again));
            }
            let wall = recorded.wall + now.saturating_duration_since(self.start);
            let (method, path) = (recorded.method, String::new());
            Box::new(Recorded { method, path, wall, attributes })
        });
        AttemptSpan {
            context: self.tracing.child(&self.context),
            tracing: self.tracing.clone(),
            parent: self.context,
            begins_trace: self.parent.is_none(),
            start: now,
            status: None,
            recorded,
        }
    }

    /// The request ended at `now`.
    pub fn end(self, now: Instant, end: &RequestEnd) {
        let Some(mut recorded) = self.recorded else { return };
        let attributes = &mut recorded.attributes;
        attributes.push(KeyValue::new("sidecar.outcome", end.outcome.name()));
        attributes.push(KeyValue::new("sidecar.attempts", i64::from(end.attempts)));
        let flag = end.outcome.flag().map(|flag| flag.letters());
        attributes.extend(flag.map(|letters| KeyValue::new("sidecar.flags", letters)));
        // A caller's mistake is not the server's error (semantic conventions, span status).
        let error = match end.status {
            Some(status) if !status.is_server_error() => None,
            Some(status) => Some(status.as_str().to_owned()),
            None => Some(flag.unwrap_or("_OTHER").to_owned()),
        };
        let span = Span {
            kind: SpanKind::Server,
            context: self.context,
            parent: self.parent,
            parent_is_remote: true,
            took: now.saturating_duration_since(self.start),
            status: end.status,
            error,
        };
        self.tracing.sink.take(span.data(*recorded, &self.tracing.scope));
    }
}

/// An attempt that is traced; as with requests, who drops it unended traces nothing.
#[derive(Debug)]
pub struct AttemptSpan {
    tracing: Arc<Tracing>,
    context: Context,
    parent: Context,
    begins_trace: bool,
    start: Instant,
    status: Option<StatusCode>,
    recorded: Option<Box<Recorded>>,
}

impl AttemptSpan {
    /// Makes the outgoing request carry the attempt. A `tracestate` that came without a valid
    /// `traceparent` belongs to no trace and goes.
    pub fn inject(&self, headers: &mut HeaderMap) {
        self.context.inject(headers);
        if self.begins_trace {
            headers.remove(&TRACESTATE);
        }
    }

    /// The head of its response arrived.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// It ended at `now`.
    pub fn end(self, now: Instant, end: AttemptEnd) {
        let Some(mut recorded) = self.recorded else { return };
        recorded.attributes.push(KeyValue::new("sidecar.attempt.end", end.name()));
        let status = end.status().or(self.status);
        let error = match end.status() {
            Some(status) if status.is_client_error() || status.is_server_error() => {
                Some(status.as_str().to_owned())
            }
            Some(_) => None,
            None => Some(end.name().to_owned()),
        };
        let span = Span {
            kind: SpanKind::Client,
            context: self.context,
            parent: Some(self.parent),
            parent_is_remote: false,
            took: now.saturating_duration_since(self.start),
            status,
            error,
        };
        self.tracing.sink.take(span.data(*recorded, &self.tracing.scope));
    }
}

/// A span that ended.
struct Span {
    kind: SpanKind,
    context: Context,
    parent: Option<Context>,
    parent_is_remote: bool,
    took: Duration,
    status: Option<StatusCode>,
    error: Option<String>,
}

impl Span {
    fn data(self, recorded: Recorded, scope: &InstrumentationScope) -> SpanData {
        let Recorded { method, wall, mut attributes, .. } = recorded;
        let status = self.status.map(|status| i64::from(status.as_u16()));
        attributes.extend(status.map(|code| KeyValue::new("http.response.status_code", code)));
        let outcome = if self.error.is_some() { Status::error("") } else { Status::Unset };
        attributes.extend(self.error.map(|kind| KeyValue::new("error.type", kind)));
        SpanData {
            span_context: SpanContext::new(
                self.context.trace,
                self.context.span,
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: self.parent.map_or(SpanId::INVALID, |parent| parent.span),
            parent_span_is_remote: self.parent.is_some() && self.parent_is_remote,
            span_kind: self.kind,
            // Without a template of the path, the method alone: a name has few values.
            name: method.into(),
            start_time: wall,
            end_time: wall + self.took,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: outcome,
            instrumentation_scope: scope.clone(),
        }
    }
}

/// A method by its name, of which there are few.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => "_OTHER",
    }
}

fn host_and_port<B>(request: &Request<B>) -> (String, Option<u16>) {
    let field = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let authority = request.uri().authority().map_or(field, |authority| authority.as_str());
    let (host, port) = split_port(authority);
    (host.to_owned(), port)
}

/// A host without its port; a literal IPv6 address has colons of its own, in brackets.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

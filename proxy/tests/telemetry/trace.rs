//! Spans: whose children they are, what requests carry, and what arrives at a collector.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry::trace::SpanId;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;
use proxy::rng::stream;
use proxy::telemetry::event::{AttemptEnd, AttemptKind, RequestOutcome};
use proxy::telemetry::trace::{
    Attempt, Context, Exporter, OtlpEndpoint, SpanSink, TRACEPARENT, TRACESTATE, TracerParts,
};
use proxy::telemetry::{Tracer, TracingOptions};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{request_end, wall_clock};

const FOR_EVER: Duration = Duration::from_secs(60);
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

fn tracer(sample_ratio: f64, sink: Arc<dyn SpanSink>) -> Tracer {
    let rng = stream(1, "trace");
    Tracer::new(TracerParts { sample_ratio, rng, wall_clock: wall_clock(), sink })
}

fn request(traceparent: Option<&'static str>) -> Request<()> {
    let mut request = Request::get("/orders?secret=1").header("host", "web.mesh:8080");
    if let Some(traceparent) = traceparent {
        request = request.header(&TRACEPARENT, traceparent);
    }
    request.header(&TRACESTATE, "vendor=1").header("b3", "0").body(()).expect("a request")
}

fn attempt(number: u32, kind: AttemptKind) -> Attempt<'static> {
    Attempt { cluster: "web", endpoint: "10.0.0.1:80", number, kind }
}

/// A request of two attempts: the first is refused, the second answers. What they carried.
fn two_attempts(tracer: &Tracer, incoming: &Request<()>) -> [HeaderMap; 2] {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let peer = Some(([192, 0, 2, 1], 4321).into());
    let span = tracer.start(start, incoming, peer).expect("tracing is on");
    let first = span.attempt(after(1), attempt(1, AttemptKind::First));
    let mut headers = [incoming.headers().clone(), incoming.headers().clone()];
    first.inject(&mut headers[0]);
    first.end(after(3), AttemptEnd::Failed);
    let mut second = span.attempt(after(10), attempt(2, AttemptKind::Retry));
    second.inject(&mut headers[1]);
    second.answered(StatusCode::OK);
    second.end(after(40), AttemptEnd::Completed(StatusCode::OK));
    span.end(after(41), &request_end(RequestOutcome::Ok, 200, 2));
    headers
}

fn spans(sink: &Mutex<Vec<SpanData>>) -> Vec<SpanData> {
    std::mem::take(&mut *sink.lock().expect("a lock"))
}

#[test]
fn no_span_is_started_when_tracing_is_off() {
    assert!(Tracer::off().start(Instant::now(), &request(Some(PARENT)), None).is_none());
    assert_eq!(Tracer::off().counts(), None);
}

/// The caller's trace goes on: the request is a child of its span, attempts are of the request's.
#[test]
fn a_trace_that_comes_in_goes_on() {
    let sink = Arc::<Mutex<Vec<SpanData>>>::default();
    let headers = two_attempts(&tracer(0.0, sink.clone()), &request(Some(PARENT)));
    let [first, second, whole] = spans(&sink).try_into().expect("three spans");
    let parent = Context::extract(request(Some(PARENT)).headers()).expect("a parent");
    assert_eq!((whole.parent_span_id, whole.parent_span_is_remote), (parent.span, true));
    for (span, headers) in [(first, &headers[0]), (second, &headers[1])] {
        assert_eq!(span.span_context.trace_id(), parent.trace);
        assert_eq!(span.parent_span_id, whole.span_context.span_id());
        let carried = Context::extract(headers).expect("a parent");
        assert_eq!((carried.trace, carried.span), (parent.trace, span.span_context.span_id()));
        assert!(carried.is_sampled());
        assert_eq!(headers[&TRACESTATE], "vendor=1");
        assert_eq!(headers["b3"], "0");
    }
}

/// A trace that its caller did not want is passed on and not kept, whatever our share is.
#[test]
fn the_callers_sampling_holds() {
    let sink = Arc::<Mutex<Vec<SpanData>>>::default();
    let headers = two_attempts(&tracer(1.0, sink.clone()), &request(Some(UNSAMPLED)));
    assert!(spans(&sink).is_empty());
    let carried = headers.map(|headers| Context::extract(&headers).expect("a parent"));
    assert!(carried.iter().all(|context| !context.is_sampled()));
    assert_ne!(carried[0].span, carried[1].span, "each attempt is a span, kept or not");
}

/// Nothing valid came in: a trace begins, and a `tracestate` of no trace is not handed on.
#[test]
fn without_a_parent_a_trace_begins() {
    for incoming in [None, Some("00-what-ever-01")] {
        let sink = Arc::<Mutex<Vec<SpanData>>>::default();
        let headers = two_attempts(&tracer(1.0, sink.clone()), &request(incoming));
        let [first, second, whole] = spans(&sink).try_into().expect("three spans");
        assert_eq!((whole.parent_span_id, whole.parent_span_is_remote), (SpanId::INVALID, false));
        assert!(whole.span_context.is_valid());
        for span in [first, second] {
            assert_eq!(span.span_context.trace_id(), whole.span_context.trace_id());
        }
        assert!(headers.iter().all(|headers| !headers.contains_key(&TRACESTATE)));
    }
}

#[test]
fn about_the_share_that_was_asked_for_is_kept() {
    let sink = Arc::<Mutex<Vec<SpanData>>>::default();
    let tracer = tracer(0.25, sink.clone());
    for _ in 0..4000 {
        let now = Instant::now();
        let span = tracer.start(now, &request(None), None).expect("tracing is on");
        span.end(now, &request_end(RequestOutcome::Ok, 200, 1));
    }
    // Binomial: 1000 expected, standard deviation 27; the seed is fixed.
    assert!((900..1100).contains(&spans(&sink).len()));
}

/// What a collector was sent, batch by batch.
async fn collector() -> (OtlpEndpoint, mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let url = format!("http://{}/v1/traces", socket.local_addr().expect("an address"));
    let (to_test, batches) = mpsc::unbounded_channel();
    let answer = move |request: Request<Incoming>| {
        let to_test = to_test.clone();
        async move {
            assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/traces"));
            assert_eq!(request.headers()["content-type"], "application/x-protobuf");
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            to_test.send(ExportTraceServiceRequest::decode(body).expect("OTLP")).expect("a test");
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::new())))
        }
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer.clone()));
            tokio::spawn(connection);
        }
    });
    (OtlpEndpoint::parse(&url).expect("a URL"), batches)
}

fn options() -> TracingOptions {
    // Longer than the test: what is sent is sent by a flush.
    TracingOptions { interval: FOR_EVER, ..TracingOptions::default() }
}

fn start(endpoint: &OtlpEndpoint, options: &TracingOptions) -> Arc<Exporter> {
    Exporter::start(endpoint, options, tokio::runtime::Handle::current()).expect("an exporter")
}

/// Attributes as text, sorted, without what a run makes up.
fn attributes(of: &[KeyValue]) -> String {
    let mut lines: Vec<_> = of
        .iter()
        .map(|KeyValue { key, value, .. }| {
            let value = value.as_ref().and_then(|value| value.value.as_ref());
            match value {
                Some(Value::StringValue(text)) => format!("    {key} = {text}"),
                Some(Value::IntValue(number)) => format!("    {key} = {number}"),
                other => panic!("{key} is {other:?}"),
            }
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

fn describe(span: &Span) -> String {
    let took = Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano);
    let kind = SpanKind::try_from(span.kind).expect("a kind");
    let status = span.status.as_ref().map_or(0, |status| status.code);
    let name = &span.name;
    format!("{name} {kind:?} took {took:?} status {status}\n{}", attributes(&span.attributes))
}

#[tokio::test]
async fn a_collector_gets_the_spans_with_their_parents() {
    let (endpoint, mut batches) = collector().await;
    let exporter = start(&endpoint, &options());
    let headers = two_attempts(&tracer(0.0, exporter.clone()), &request(Some(PARENT)));
    assert!(exporter.flush(FOR_EVER).await, "not flushed: {:?}", exporter.counts());
    let batch = batches.try_recv().expect("a batch");
    let [resource] = &batch.resource_spans[..] else { panic!("{batch:?}") };
    let service = attributes(&resource.resource.as_ref().expect("a resource").attributes);
    assert_eq!(service, "    service.name = sidecar");
    let [scope] = &resource.scope_spans[..] else { panic!("{batch:?}") };
    let [first, second, whole] = &scope.spans[..] else { panic!("{:?}", scope.spans) };
    let parent = Context::extract(request(Some(PARENT)).headers()).expect("a parent");
    assert_eq!(whole.parent_span_id, parent.span.to_bytes());
    for (span, headers) in [(first, &headers[0]), (second, &headers[1])] {
        assert_eq!(span.parent_span_id, whole.span_id);
        let carried = Context::extract(headers).expect("a parent");
        assert_eq!(span.span_id, carried.span.to_bytes());
    }
    assert!([first, second, whole].iter().all(|span| span.trace_id == parent.trace.to_bytes()));
    assert_eq!(whole.start_time_unix_nano, 1_767_323_045_678_000_000);
    insta::assert_snapshot!([whole, first, second].map(describe).join("\n"));
    let counts = exporter.counts();
    assert_eq!((counts.exported, counts.failed, counts.dropped), (3, 0, 0));
}

/// A collector that is gone costs spans, which are counted.
#[tokio::test]
async fn spans_that_nobody_takes_are_counted() {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let url = format!("http://{}/v1/traces", socket.local_addr().expect("an address"));
    drop(socket);
    let endpoint = OtlpEndpoint::parse(&url).expect("a URL");
    let timeout = Duration::from_millis(100);
    let exporter = start(&endpoint, &TracingOptions { timeout, ..options() });
    two_attempts(&tracer(0.0, exporter.clone()), &request(Some(PARENT)));
    assert!(!exporter.flush(FOR_EVER).await);
    let counts = exporter.counts();
    assert_eq!((counts.exported, counts.failed, counts.dropped), (0, 3, 0));
}

/// A collector that takes a connection and says nothing: no more than the bound waits.
#[tokio::test]
async fn spans_beyond_the_bound_are_dropped_and_counted() {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let url = format!("http://{}/v1/traces", socket.local_addr().expect("an address"));
    let endpoint = OtlpEndpoint::parse(&url).expect("a URL");
    let queue = NonZeroUsize::new(4).expect("not zero");
    let exporter = start(&endpoint, &TracingOptions { queue, timeout: FOR_EVER, ..options() });
    let tracer = tracer(1.0, exporter.clone());
    let span = || tracer.start(Instant::now(), &request(None), None).expect("tracing is on");
    for dropped in [0, 0, 0, 0, 1, 2] {
        span().end(Instant::now(), &request_end(RequestOutcome::Ok, 200, 1));
        assert_eq!(exporter.counts().dropped, dropped);
    }
}

#[test]
fn options_are_checked_while_they_are_read() {
    let read = |text| toml::from_str::<TracingOptions>(text);
    let on = read("otlp_endpoint = \"http://127.0.0.1:4318/v1/traces\"").expect("right");
    assert!(on.otlp_endpoint.is_some());
    assert!(read("").expect("defaults").otlp_endpoint.is_none());
    for (right, wrong) in [
        ("sample_ratio = 1.0", "sample_ratio = 1.01"),
        ("sample_ratio = 0.0", "sample_ratio = -0.01"),
        ("queue = 1", "queue = 0"),
        ("interval = \"1ms\"", "interval = \"0s\""),
        ("otlp_endpoint = \"http://a/\"", "otlp_endpoint = \"https://a/\""),
        ("otlp_endpoint = \"http://[::1]:1\"", "otlp_endpoint = \"127.0.0.1:4318\""),
    ] {
        read(right).expect(right);
        read(wrong).expect_err(wrong);
    }
}

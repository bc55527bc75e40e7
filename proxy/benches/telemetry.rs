//! What the events of one request cost together: received, attempt started, answered, attempt ended,
//! request ended; and what a request pays when tracing is off.
//!
//! `cargo bench -p proxy --bench telemetry`
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::disallowed_methods, reason = "the origin of a scripted clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, StatusCode};
use proxy::policy::balance::EndpointId;
use proxy::telemetry::event::{AttemptEnd, AttemptKind, RequestEnd, RequestOutcome};
use proxy::telemetry::{
    ClusterId, ClusterLabels, EndpointRef, Event, Telemetry, TelemetryParts, Tracer,
};

fn emit(criterion: &mut Criterion) {
    let clusters: Vec<_> = (0..4)
        .map(|cluster| ClusterLabels {
            name: format!("cluster-{cluster}"),
            endpoints: (0..8).map(|n| format!("10.0.{cluster}.{n}:80")).collect(),
        })
        .collect();
    let start = Instant::now();
    let telemetry = Telemetry::of(&clusters, TelemetryParts::starting(start));
    let mut turn = 0;
    let mut group = criterion.benchmark_group("telemetry");
    group.bench_function("the five events of a request", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % 32;
            let at = EndpointRef { cluster: ClusterId(turn / 8), endpoint: EndpointId(turn % 8) };
            let elapsed = black_box(Duration::from_micros(1_300));
            let now = black_box(start);
            telemetry.emit(now, &Event::RequestReceived);
            telemetry.emit(now, &Event::AttemptStarted { at, kind: AttemptKind::First });
            let status = StatusCode::OK;
            telemetry.emit(now, &Event::AttemptAnswered { at, status, latency: elapsed });
            telemetry.emit(now, &Event::AttemptEnded { at, end: AttemptEnd::Completed(status) });
            let outcome = RequestOutcome::Ok;
            let status = Some(status);
            let end = RequestEnd { outcome, status, elapsed, attempts: 1, line: None };
            telemetry.emit(now, &Event::RequestEnded(end));
        });
    });
    let tracer = Tracer::off();
    let request = Request::new(());
    group.bench_function("a span, tracing off", |bencher| {
        bencher.iter(|| black_box(&tracer).start(black_box(start), &request, None).is_some());
    });
    group.bench_function("a scrape of 4 clusters, 32 endpoints", |bencher| {
        bencher.iter(|| telemetry.exposition().len());
    });
    group.finish();
}

criterion_group!(benches, emit);
criterion_main!(benches);

//! What retries cost a request that needs none, and one that does.
//!
//! `cargo bench -p proxy --bench retry`
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::disallowed_methods, reason = "the origin of a scripted clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, SERVER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use proxy::policy::budget::{Budget, BudgetOptions};
use proxy::policy::deadline::{EXPECTED_TIMEOUT, Limit, stamp};
use proxy::policy::hedge::{DigestOptions, LatencyDigest};
use proxy::policy::retry::{
    Attempt, AttemptOutcome, BodyState, Overrides, RequestFacts, RetryOptions, Verdict,
};
use proxy::rng::stream;

/// As many as a small response has.
fn headers() -> HeaderMap {
    let text = HeaderValue::from_static;
    HeaderMap::from_iter([
        (CONTENT_TYPE, text("application/json")),
        (CONTENT_LENGTH, text("11")),
        (DATE, text("Fri, 31 Dec 1999 23:59:59 GMT")),
        (SERVER, text("bench")),
    ])
}

/// A steady stream of events: a hundred thousand a second, so that buckets expire as they do.
fn clock(start: Instant) -> impl FnMut() -> Instant {
    let mut now = start;
    move || {
        now += Duration::from_micros(10);
        now
    }
}

fn budget(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("budget");
    let start = Instant::now();
    group.bench_function("deposit", |bencher| {
        let mut budget = Budget::new(&BudgetOptions::default());
        let mut now = clock(start);
        bencher.iter(|| budget.deposit(black_box(now())));
    });
    group.bench_function("reserve and give back", |bencher| {
        let mut budget = Budget::new(&BudgetOptions::default());
        let mut now = clock(start);
        bencher.iter(|| {
            if let Some(reservation) = budget.try_reserve(black_box(now())) {
                budget.give_back(reservation);
            }
        });
    });
    group.finish();
}

fn judge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("judge");
    let start = Instant::now();
    let options = RetryOptions::default();
    let headers = headers();
    for (name, status) in [("accept", StatusCode::OK), ("retry", StatusCode::BAD_GATEWAY)] {
        let attempt = Attempt {
            request: RequestFacts::of(&Method::GET, BodyState::Replayable),
            outcome: AttemptOutcome::Response { status, headers: &headers },
            made: 1,
            remaining: Duration::from_secs(15),
            expected_try: Some(Duration::from_millis(10)),
        };
        let mut budget = Budget::new(&BudgetOptions::default());
        let mut rng = stream(1, "bench");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                match options.judge(black_box(&attempt), &mut budget, start, &mut rng) {
                    Verdict::Retry { reservation, .. } => budget.give_back(reservation),
                    Verdict::Accept | Verdict::GiveUp(_) => {}
                }
            });
        });
    }
    group.finish();
}

fn digest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("digest");
    let start = Instant::now();
    let mut digest = LatencyDigest::new(&DigestOptions::default());
    let mut now = clock(start);
    let mut latency_us = 1;
    group.bench_function("record", |bencher| {
        bencher.iter(|| {
            latency_us = latency_us * 31 % 65_521;
            digest.record(Duration::from_micros(black_box(latency_us)), now());
        });
    });
    let now = now();
    group.bench_function("percentile", |bencher| {
        bencher.iter(|| digest.percentile(black_box(0.95), now));
    });
    group.finish();
}

fn request(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request headers");
    let mut headers = headers();
    group.bench_function("overrides, none asked", |bencher| {
        bencher.iter(|| Overrides::take(black_box(&mut headers)));
    });
    let route_timeout = Duration::from_secs(15);
    group.bench_function("limit, none asked", |bencher| {
        bencher.iter(|| Limit::of(black_box(&headers), route_timeout));
    });
    headers.insert(EXPECTED_TIMEOUT.clone(), HeaderValue::from_static("5000"));
    group.bench_function("limit", |bencher| {
        bencher.iter(|| Limit::of(black_box(&headers), route_timeout));
    });
    group.bench_function("stamp", |bencher| {
        bencher.iter(|| stamp(&mut headers, black_box(Duration::from_millis(4_321)), false));
    });
    group.finish();
}

criterion_group!(benches, budget, judge, digest, request);
criterion_main!(benches);

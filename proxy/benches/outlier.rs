//! What endpoint health costs each request, and what a sweep costs each second.
//!
//! `cargo bench -p proxy --bench outlier`
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::disallowed_methods, reason = "the origin of a scripted clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use proxy::policy::balance::EndpointId;
use proxy::policy::membership::{EndpointAttributes, Membership, MembershipOptions, SubsetId};
use proxy::policy::outlier::{Outcome, Outlier, OutlierOptions};
use proxy::rng::stream;

const SIZES: [usize; 3] = [3, 30, 300];

fn latency(n: usize) -> Duration {
    Duration::from_micros(10_000 + 37 * (n as u64 % 100))
}

/// A cluster that has served 30 requests each, and whose first sweep is due at the end.
fn served(endpoints: usize, start: Instant) -> Outlier {
    let mut outlier = Outlier::new(endpoints, OutlierOptions::default());
    let mut rng = stream(1, "bench");
    for n in 0..30 * endpoints {
        let endpoint = EndpointId(n % endpoints);
        let epoch = outlier.epoch(endpoint);
        outlier.record(endpoint, epoch, Outcome::Success { latency: latency(n) }, start, &mut rng);
    }
    outlier
}

/// One success, on each endpoint in turn, within one interval.
fn record(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let start = Instant::now();
    for endpoints in SIZES {
        let mut outlier = served(endpoints, start);
        let mut rng = stream(1, "bench");
        let mut n = 0;
        group.bench_function(BenchmarkId::from_parameter(endpoints), |bencher| {
            bencher.iter(|| {
                n += 1;
                let endpoint = EndpointId(n % endpoints);
                let epoch = outlier.epoch(endpoint);
                let outcome = Outcome::Success { latency: latency(n) };
                outlier.record(endpoint, epoch, black_box(outcome), black_box(start), &mut rng)
            });
        });
    }
    group.finish();
}

/// What is asked before each pick while nothing is due, with one endpoint ejected.
fn before_a_pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("before a pick");
    let start = Instant::now();
    for endpoints in SIZES {
        let mut outlier = served(endpoints, start);
        let mut rng = stream(1, "bench");
        for _ in 0..5 {
            let epoch = outlier.epoch(EndpointId(0));
            outlier.record(EndpointId(0), epoch, Outcome::LocalOrigin, start, &mut rng);
        }
        assert_eq!(outlier.active_ejections(), 1);
        group.bench_function(BenchmarkId::from_parameter(endpoints), |bencher| {
            bencher.iter(|| {
                let now = black_box(start);
                let due = outlier.next_sweep().is_some_and(|sweep| now >= sweep);
                (due, outlier.take_probe(now, |_| true))
            });
        });
    }
    group.finish();
}

/// A choice between two zones, which costs a draw.
fn choose(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("choose");
    for endpoints in SIZES {
        let zone = |index| Some(if index % 3 == 2 { "b" } else { "a" }.to_owned());
        let attributes = (0..endpoints)
            .map(|index| EndpointAttributes { zone: zone(index), ..Default::default() })
            .collect();
        let options = MembershipOptions { zone: Some("a".to_owned()), ..Default::default() };
        let mut membership = Membership::new(attributes, Vec::new(), options);
        let locals = (0..endpoints).filter(|index| index % 3 != 2);
        locals.take(endpoints / 3).for_each(|i| membership.set_available(EndpointId(i), false));
        let mut rng = stream(1, "bench");
        group.bench_function(BenchmarkId::from_parameter(endpoints), |bencher| {
            bencher.iter(|| membership.choose(SubsetId::ALL, &mut rng).map(|c| c.ready.len()));
        });
    }
    group.finish();
}

fn set_available(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("set_available");
    for endpoints in SIZES {
        let attributes = vec![EndpointAttributes::default(); endpoints];
        let mut membership = Membership::new(attributes, Vec::new(), MembershipOptions::default());
        let mut available = true;
        group.bench_function(BenchmarkId::from_parameter(endpoints), |bencher| {
            bencher.iter(|| {
                available = !available;
                membership.set_available(EndpointId(0), black_box(available));
            });
        });
    }
    group.finish();
}

/// A sweep that moves every window on by one interval and finds nothing.
fn sweep(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sweep");
    let start = Instant::now();
    for endpoints in SIZES {
        let outlier = served(endpoints, start);
        let mut rng = stream(1, "bench");
        let mut out = Vec::new();
        let now = start + Duration::from_secs(1);
        group.bench_function(BenchmarkId::from_parameter(endpoints), |bencher| {
            bencher.iter_batched_ref(
                || outlier.clone(),
                |outlier| outlier.sweep(black_box(now), &mut rng, &mut out),
                BatchSize::LargeInput,
            );
        });
        assert_eq!(out, []);
    }
    group.finish();
}

criterion_group!(benches, record, before_a_pick, choose, set_available, sweep);
criterion_main!(benches);

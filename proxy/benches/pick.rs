//! What a pick costs, with every endpoint busy, at 3 and at 300 endpoints.
//!
//! `cargo bench -p proxy`
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::disallowed_methods, reason = "the origin of a scripted clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use proxy::policy::balance::{BalancerOptions, EndpointId, LoadEvent, STRATEGIES};
use proxy::rng::stream;

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    let start = Instant::now();
    for strategy in STRATEGIES {
        for endpoints in [3_usize, 300] {
            let ready: Vec<_> = (0..endpoints).map(EndpointId).collect();
            let mut balancer = strategy.build(endpoints, &BalancerOptions::default());
            for endpoint in &ready {
                let latency = Duration::from_millis(10 + endpoint.0 as u64);
                balancer.observe(*endpoint, LoadEvent::Sent, start);
                balancer.observe(*endpoint, LoadEvent::Answered { latency }, start);
            }
            let mut rng = stream(1, "bench");
            let now = start + Duration::from_millis(5);
            group.bench_function(BenchmarkId::new(strategy.name, endpoints), |bencher| {
                bencher.iter(|| balancer.pick(black_box(&ready), black_box(now), &mut rng));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pick);
criterion_main!(benches);

//! What a limit costs each request.
//!
//! `cargo bench -p proxy --bench limit`
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::disallowed_methods, reason = "the origin of a scripted clock")]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use proxy::config::{Balance, ClusterConfig, EndpointAddr, EndpointConfig};
use proxy::policy::balance::EndpointId;
use proxy::policy::limit::breaker::{Breaker, BreakerOptions, Kind};
use proxy::policy::limit::circuit::{Circuit, CircuitOptions, Outcome};
use proxy::policy::limit::gradient::{Ended, Gradient, GradientOptions};
use proxy::policy::limit::rate::{Rate, RateLimit, RateLimitKey, RateLimitOptions};
use proxy::policy::limit::shed::{Next, ShedOptions, ShedQueue};
use proxy::pool::{Pool, PoolParts, SeatHold};
use proxy::seam::dialer;
use proxy::telemetry::{ClusterId, ClusterLabels, EndpointRef, Telemetry, TelemetryParts};

/// The way of nearly every request: a permit is free and a connection is idle.
fn lease(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let addr = EndpointAddr::parse("web:80").expect("an address");
    let config =
        ClusterConfig::new("web", vec![EndpointConfig::at(addr.clone())], Balance::default());
    let (near, _far) = tokio::io::duplex(1024);
    let stream = Arc::new(Mutex::new(Some(near)));
    let dialer = dialer(move |_| {
        let stream = stream.lock().expect("nobody panics").take();
        async move { stream.ok_or_else(|| std::io::ErrorKind::ConnectionRefused.into()) }
    });
    let at = EndpointRef { cluster: ClusterId(0), endpoint: EndpointId(0) };
    let labels = ClusterLabels { name: "web".to_owned(), endpoints: vec![addr.to_string()] };
    let parts = TelemetryParts::starting(tokio::time::Instant::now().into_std());
    let telemetry = Arc::new(Telemetry::of(&[labels], parts));
    let breaker = Arc::new(Breaker::new(&config.limits));
    let of = PoolParts { at, addr, hold: SeatHold::new(&Arc::default()) };
    let pool = Arc::new(Pool::new(of, dialer, &config, breaker, telemetry));
    runtime.block_on(async {
        let lease = pool.lease().await.expect("the first connection");
        // Its task has to run once before it takes requests.
        tokio::task::yield_now().await;
        lease.give_back(tokio::time::Instant::now());
        assert_eq!(pool.idle_count(), 1);
    });
    let _entered = runtime.enter();
    criterion.bench_function("lease and give back", |bencher| {
        bencher.iter(|| {
            let leasing = pin!(pool.lease());
            match leasing.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(lease)) => lease.give_back(tokio::time::Instant::now()),
                _ => unreachable!("a connection is idle"),
            }
        });
    });
}

/// A check, over as many keys as there are callers; 30,000 are more than are told apart.
fn rate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rate");
    let start = Instant::now();
    for keys in [3, 300, 30_000] {
        let rate = Rate::try_from(1000.0).expect("a rate");
        let options = RateLimitOptions {
            burst: NonZeroU32::new(10),
            by: RateLimitKey::Source,
            ..RateLimitOptions::new(rate)
        };
        let mut limit = RateLimit::new(&options, start);
        let (mut nth, mut now) = (0_u64, start);
        group.bench_function(BenchmarkId::new("check", keys), |bencher| {
            bencher.iter(|| {
                nth += 1;
                now += Duration::from_micros(1);
                // A multiplication to mix: the low bits choose the set.
                let hash = (nth % keys).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
                limit.check(black_box(hash), now)
            });
        });
    }
    group.finish();
}

/// Admission and end of one request, windows included.
fn adaptive(criterion: &mut Criterion) {
    let mut now = Instant::now();
    let mut gradient = Gradient::new(GradientOptions::default(), now);
    criterion.bench_function("gradient", |bencher| {
        bencher.iter(|| {
            now += Duration::from_micros(100);
            let admitted = gradient.admit();
            gradient.on_end(Ended::After(black_box(Duration::from_millis(10))), now);
            admitted
        });
    });
    let mut circuit = Circuit::new(CircuitOptions::default(), now);
    criterion.bench_function("circuit", |bencher| {
        bencher.iter(|| {
            now += Duration::from_micros(100);
            if let Ok(pass) = circuit.admit(now) {
                circuit.record(pass, black_box(Outcome::Success), now);
            }
        });
    });
    let breaker = Breaker::new(&BreakerOptions::default());
    criterion.bench_function("breaker", |bencher| {
        bencher.iter(|| {
            if breaker.try_enter(black_box(Kind::Request)) {
                breaker.leave(Kind::Request);
            }
        });
    });
}

/// One comes and one is served, in a queue of so many.
fn shed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shed");
    let now = Instant::now();
    for waiting in [3, 30, 300] {
        let mut queue = ShedQueue::new(ShedOptions::default());
        for nth in 0..waiting {
            queue.enter(nth, now);
        }
        group.bench_function(BenchmarkId::new("enter and next", waiting), |bencher| {
            bencher.iter(|| {
                queue.enter(black_box(0), now);
                match queue.next(now) {
                    Some(Next::Serve(nth) | Next::Refuse(nth)) => nth,
                    None => unreachable!("one has come"),
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lease, rate, adaptive, shed);
criterion_main!(benches);

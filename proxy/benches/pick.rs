//! What a decision costs, with every endpoint busy, at 3, 30 and 300 endpoints.
//!
//! `pick` is the choice alone, `observe` the three events of a request, and `query` all that a
//! request brings: both of these, and for strategies that probe, the probes and their answers.
//! Prequal's `pick` alone is that on a pool which nothing refills; its `query` is the figure to
//! look at.
//!
//! `cargo bench -p proxy`
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::disallowed_methods, reason = "the origin of a scripted clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use proxy::policy::balance::{
    Balancer, BalancerOptions, Choices, EndpointId, LoadEvent, Member, ProbeAnswer, STRATEGIES,
    Strategy,
};
use proxy::policy::ready::ReadySet;
use proxy::rng::{StreamRng, stream};
use rand::Rng as _;

/// A balancer in the middle of its life.
struct Subject {
    balancer: Box<dyn Balancer>,
    ready: ReadySet,
    now: Instant,
    rng: StreamRng,
    ask: Vec<EndpointId>,
}

impl Subject {
    fn new(strategy: &Strategy, endpoints: usize, options: &BalancerOptions) -> Self {
        let names: Vec<_> = (0..endpoints).map(|n| format!("10.0.0.{n}:8080")).collect();
        let member = |(n, key): (usize, &'static str)| Member { weight: 1 + n as u32 % 4, key };
        // Leaked, because a bench ends with its process.
        let names = names.into_iter().map(|name| &*name.leak());
        let members: Vec<_> = names.enumerate().map(member).collect();
        let mut new = Self {
            balancer: strategy.build(&members, options),
            ready: ReadySet::all(endpoints),
            now: Instant::now(),
            rng: stream(1, "bench"),
            ask: Vec::new(),
        };
        for endpoint in (0..endpoints).map(EndpointId) {
            let latency = Duration::from_millis(10 + endpoint.0 as u64);
            new.balancer.observe(endpoint, LoadEvent::Sent, new.now);
            new.balancer.observe(endpoint, LoadEvent::Answered { latency }, new.now);
            let answer = ProbeAnswer { in_flight: endpoint.0 as u32 % 7, latency };
            new.balancer.probed(endpoint, Some(answer), new.now);
        }
        new.now += Duration::from_millis(5);
        new
    }

    fn pick(&mut self) -> Option<EndpointId> {
        let key = self.rng.next_u64();
        self.balancer.pick(black_box(&self.ready), Some(key), black_box(self.now), &mut self.rng)
    }

    fn only_pick(&mut self) {
        black_box(self.pick());
    }

    fn observe(&mut self, endpoint: EndpointId) {
        let latency = Duration::from_millis(10 + endpoint.0 as u64 % 16);
        self.balancer.observe(endpoint, LoadEvent::Sent, self.now);
        self.balancer.observe(endpoint, LoadEvent::Answered { latency }, self.now);
        self.balancer.observe(endpoint, LoadEvent::Ended, self.now);
    }

    fn query(&mut self) {
        if let Some(endpoint) = self.pick() {
            self.observe(endpoint);
        }
        self.ask.clear();
        self.balancer.probes(&self.ready, self.now, &mut self.rng, &mut self.ask);
        for endpoint in &self.ask {
            let latency = Duration::from_millis(10 + endpoint.0 as u64 % 16);
            let answer = ProbeAnswer { in_flight: endpoint.0 as u32 % 7, latency };
            self.balancer.probed(*endpoint, Some(answer), self.now);
        }
    }
}

/// Every strategy with its defaults, and least request over all.
fn subjects() -> Vec<(&'static str, &'static Strategy, BalancerOptions)> {
    let mut all: Vec<_> = STRATEGIES
        .iter()
        .map(|strategy| (strategy.name, strategy, BalancerOptions::default()))
        .collect();
    if let Some(strategy) = Strategy::named("least_request") {
        let mut options = BalancerOptions::default();
        options.least_request.choices = Choices::All;
        all.push(("least_request_of_all", strategy, options));
    }
    all
}

fn decide(criterion: &mut Criterion) {
    for (what, run) in [
        ("pick", Subject::only_pick as fn(&mut Subject)),
        ("observe", |subject| subject.observe(black_box(EndpointId(1)))),
        ("query", Subject::query),
    ] {
        let mut group = criterion.benchmark_group(what);
        for (name, strategy, options) in subjects() {
            for endpoints in [3_usize, 30, 300] {
                let mut subject = Subject::new(strategy, endpoints, &options);
                group.bench_function(BenchmarkId::new(name, endpoints), |bencher| {
                    bencher.iter(|| run(&mut subject));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);

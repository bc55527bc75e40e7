//! A decision allocates nothing: not when it is made, and not when its outcome comes in.
//!
//! The allocator's locks and its rare slow paths belong to no request. Failures, ejections and
//! probes are part of the life that is counted, because they come when it matters most.
#![allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]

use std::time::{Duration, Instant};

use proxy::policy::balance::{
    Balancer, BalancerOptions, Choices, EndpointId, LoadEvent, Member, ProbeAnswer, STRATEGIES,
};
use proxy::policy::ready::ReadySet;
use proxy::rng::{StreamRng, stream};
use rand::{Rng as _, RngExt as _};

const ENDPOINTS: usize = 30;

struct Life {
    balancer: Box<dyn Balancer>,
    sets: [ReadySet; 3],
    now: Instant,
    rng: StreamRng,
    ask: Vec<EndpointId>,
    open: Vec<EndpointId>,
}

impl Life {
    /// Some requests, of which a few fail or are given up, under a ready set that changes.
    fn go_on(&mut self, picks: usize) {
        for n in 0..picks {
            self.now += Duration::from_micros(500);
            let ready = &self.sets[n / 100 % 3];
            let key = self.rng.next_u64();
            let pick = self.balancer.pick(ready, Some(key), self.now, &mut self.rng);
            let Some(endpoint) = pick else { panic!("nothing was picked of {ready:?}") };
            self.balancer.observe(endpoint, LoadEvent::Sent, self.now);
            self.open.push(endpoint);
            self.ask.clear();
            self.balancer.probes(ready, self.now, &mut self.rng, &mut self.ask);
            for endpoint in &self.ask {
                let in_flight = self.rng.random_range(0..20);
                let answer = ProbeAnswer { in_flight, latency: Duration::from_millis(20) };
                self.balancer.probed(*endpoint, (in_flight != 7).then_some(answer), self.now);
            }
            if self.open.len() == 60 {
                self.end_one();
            }
            if n % 1000 == 0 {
                self.balancer.returned(endpoint, self.now);
            }
        }
    }

    fn end_one(&mut self) {
        let endpoint = self.open.swap_remove(self.rng.random_range(0..self.open.len()));
        let elapsed = Duration::from_millis(self.rng.random_range(1..200));
        let event = match self.rng.random_range(0..20) {
            0 => LoadEvent::Failed { elapsed, retry_after: Some(elapsed) },
            1 => LoadEvent::Cancelled { elapsed },
            _ => LoadEvent::Answered { latency: elapsed },
        };
        self.balancer.observe(endpoint, event, self.now);
        self.balancer.observe(endpoint, LoadEvent::Ended, self.now);
        self.balancer.load(endpoint, self.now);
    }
}

#[test]
fn no_decision_allocates() {
    let names: Vec<_> = (0..ENDPOINTS).map(|n| format!("10.0.0.{n}:8080")).collect();
    let member = |(n, key): (usize, &'static str)| Member { weight: 1 + n as u32 % 4, key };
    let names = names.into_iter().map(|name| &*name.leak());
    let members: Vec<_> = names.enumerate().map(member).collect();
    for choices in [Choices::Of(2), Choices::Of(5), Choices::All] {
        let mut options = BalancerOptions::default();
        options.least_request.choices = choices;
        options.least_time.choices = choices;
        for strategy in STRATEGIES {
            let mut life = Life {
                balancer: strategy.build(&members, &options),
                sets: [
                    ReadySet::all(ENDPOINTS),
                    ReadySet::of(ENDPOINTS, |endpoint| endpoint.0 % 3 != 0),
                    ReadySet::of(ENDPOINTS, |endpoint| endpoint.0 < 2),
                ],
                now: Instant::now(),
                rng: stream(1, "test"),
                ask: Vec::with_capacity(ENDPOINTS),
                open: Vec::with_capacity(100),
            };
            let counted = allocation_counter::measure(|| life.go_on(10_000));
            assert_eq!(counted.count_total, 0, "{} with {choices:?}", strategy.name);
        }
    }
}

/// Without this, a counter that counts nothing would pass.
#[test]
fn an_allocation_is_counted() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counted.count_total, 1);
}

//! Which endpoint gets the next request.
//!
//! A [`Balancer`] chooses among the endpoints that are ready and hears what became of each request
//! it placed. Whether an endpoint *is* ready is not its business: that is the outlier gate's.
//!
//! A new strategy is one file beside the ones here and one line in [`STRATEGIES`].

mod least_request;
mod peak_ewma;
mod random;
mod round_robin;

use std::fmt;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};

pub use least_request::LeastRequest;
pub use peak_ewma::{PeakEwma, PeakEwmaOptions};
pub use random::Random;
pub use round_robin::RoundRobin;

/// An endpoint's place in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub usize);

/// What became of a request that was placed on an endpoint.
///
/// Each request brings [`LoadEvent::Sent`], then exactly one of [`LoadEvent::Answered`],
/// [`LoadEvent::Failed`] and [`LoadEvent::Cancelled`], then [`LoadEvent::Ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadEvent {
    /// It was handed to the endpoint.
    Sent,
    /// The head of a response below 500 arrived this long after it was sent.
    Answered {
        /// Time to the response head.
        latency: Duration,
    },
    /// It came to nothing by the endpoint's doing: no connection, a broken one, or a status of 500
    /// and above.
    Failed {
        /// Time until that was known.
        elapsed: Duration,
    },
    /// The caller left or the deadline passed before a response. How long the endpoint would have
    /// taken is unknown, but it is at least this.
    Cancelled {
        /// Time waited in vain.
        elapsed: Duration,
    },
    /// The endpoint is done with it: the response is complete or was given up.
    Ended,
}

/// What a strategy believes about an endpoint, for people to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EndpointLoad {
    /// Requests sent and not ended.
    pub in_flight: u32,
    /// The latency that it expects, for strategies that expect one.
    pub latency_estimate: Option<Duration>,
}

/// Chooses an endpoint for each request.
pub trait Balancer: Send {
    /// The endpoint for the next request, one of `ready`; `None` only when `ready` is empty.
    ///
    /// Choosing changes no load: that is what [`LoadEvent::Sent`] does.
    fn pick(&mut self, ready: &[EndpointId], now: Instant, rng: &mut dyn Rng)
    -> Option<EndpointId>;

    /// Takes note of what happened to a request on `endpoint`.
    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, now: Instant);

    /// What it believes about `endpoint` as of `now`.
    fn load(&self, endpoint: EndpointId, now: Instant) -> EndpointLoad;
}

/// The knobs of all strategies; each reads its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BalancerOptions {
    /// Of [`PeakEwma`].
    pub peak_ewma: PeakEwmaOptions,
}

/// A strategy by name.
pub struct Strategy {
    /// As configuration files spell it.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    build: fn(endpoints: usize, options: &BalancerOptions) -> Box<dyn Balancer>,
}

impl Strategy {
    /// The strategy of this name, if there is one.
    pub fn named(name: &str) -> Option<&'static Strategy> {
        STRATEGIES.iter().find(|strategy| strategy.name == name)
    }

    /// A balancer over endpoints `0..endpoints`, none of which has been tried.
    pub fn build(&self, endpoints: usize, options: &BalancerOptions) -> Box<dyn Balancer> {
        (self.build)(endpoints, options)
    }
}

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Strategy {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Every strategy there is.
pub static STRATEGIES: &[Strategy] = &[
    Strategy {
        name: "round_robin",
        summary: "each endpoint in turn",
        build: |endpoints, _| Box::new(RoundRobin::new(endpoints)),
    },
    Strategy {
        name: "random",
        summary: "any endpoint, all equally likely",
        build: |endpoints, _| Box::new(Random::new(endpoints)),
    },
    Strategy {
        name: "least_request",
        summary: "of two random endpoints the one with fewer requests in flight",
        build: |endpoints, _| Box::new(LeastRequest::new(endpoints)),
    },
    Strategy {
        name: "peak_ewma",
        summary: "of two random endpoints the one with the lower expected wait",
        build: |endpoints, options| Box::new(PeakEwma::new(endpoints, options.peak_ewma)),
    },
];

/// Requests in flight per endpoint: the part of the state that all strategies share.
#[derive(Clone, Debug)]
struct InFlight(Vec<u32>);

impl InFlight {
    fn new(endpoints: usize) -> Self {
        Self(vec![0; endpoints])
    }

    fn get(&self, endpoint: EndpointId) -> u32 {
        self.0[endpoint.0]
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent) {
        let count = &mut self.0[endpoint.0];
        match event {
            LoadEvent::Sent => *count += 1,
            LoadEvent::Ended => {
                assert!(*count > 0, "a request ended on an endpoint that had none");
                *count -= 1;
            }
            LoadEvent::Answered { .. } | LoadEvent::Failed { .. } | LoadEvent::Cancelled { .. } => {
            }
        }
    }
}

/// Two different members of `ready` in random order, or the only one twice.
///
/// Drawing *without* replacement matters when there are few endpoints: with replacement, two
/// endpoints leave a quarter of all picks to the busier one without a comparison.
fn two_distinct(ready: &[EndpointId], rng: &mut dyn Rng) -> Option<(EndpointId, EndpointId)> {
    match ready {
        [] => None,
        [only] => Some((*only, *only)),
        _ => {
            let first = rng.random_range(0..ready.len());
            let other = rng.random_range(0..ready.len() - 1);
            let second = if other >= first { other + 1 } else { other };
            Some((ready[first], ready[second]))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{
        Just, TestCaseError, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
    };
    use proptest::strategy::Strategy as Generate;

    use super::*;
    use crate::rng::stream;

    /// A random but orderly life of requests against one balancer.
    #[derive(Clone, Debug)]
    enum Step {
        Pick,
        Finish { nth: usize, latency_ms: u64, how: u8 },
    }

    fn steps() -> impl Generate<Value = Vec<Step>> {
        let finish = (0..64usize, 0..3_000u64, 0..3u8)
            .prop_map(|(nth, latency_ms, how)| Step::Finish { nth, latency_ms, how });
        prop::collection::vec(prop_oneof![3 => Just(Step::Pick), 2 => finish], 1..300)
    }

    proptest! {
        /// Every strategy picks only what is ready, counts exactly what is in flight, and does
        /// the same again from the same seed.
        #[test]
        fn picks_are_ready_counted_and_repeatable(
            endpoints in 1..12usize, mask in 1..4096u32, seed: u64, steps in steps(),
        ) {
            let ready: Vec<_> =
                (0..endpoints).filter(|i| mask & (1 << i) != 0).map(EndpointId).collect();
            for strategy in STRATEGIES {
                let first = play(strategy, endpoints, &ready, seed, &steps)?;
                let second = play(strategy, endpoints, &ready, seed, &steps)?;
                prop_assert_eq!(first, second, "{} is not repeatable", strategy.name);
            }
        }
    }

    fn play(
        strategy: &Strategy,
        endpoints: usize,
        ready: &[EndpointId],
        seed: u64,
        steps: &[Step],
    ) -> Result<Vec<Option<EndpointId>>, TestCaseError> {
        let mut balancer = strategy.build(endpoints, &BalancerOptions::default());
        let mut rng = stream(seed, "test");
        let mut now = Instant::now_for_test();
        let mut open: Vec<EndpointId> = Vec::new();
        let mut picks = Vec::new();
        for step in steps {
            now += Duration::from_millis(7);
            match step {
                Step::Pick => {
                    let pick = balancer.pick(ready, now, &mut rng);
                    prop_assert_eq!(pick.is_none(), ready.is_empty());
                    picks.push(pick);
                    if let Some(endpoint) = pick {
                        prop_assert!(ready.contains(&endpoint));
                        balancer.observe(endpoint, LoadEvent::Sent, now);
                        open.push(endpoint);
                    }
                }
                Step::Finish { nth, latency_ms, how } if !open.is_empty() => {
                    let endpoint = open.swap_remove(nth % open.len());
                    let elapsed = Duration::from_millis(*latency_ms);
                    let event = match how {
                        0 => LoadEvent::Answered { latency: elapsed },
                        1 => LoadEvent::Failed { elapsed },
                        _ => LoadEvent::Cancelled { elapsed },
                    };
                    balancer.observe(endpoint, event, now);
                    balancer.observe(endpoint, LoadEvent::Ended, now);
                }
                Step::Finish { .. } => {}
            }
            for i in (0..endpoints).map(EndpointId) {
                let expected = open.iter().filter(|e| **e == i).count() as u32;
                prop_assert_eq!(balancer.load(i, now).in_flight, expected);
            }
        }
        Ok(picks)
    }

    /// A start for scripted clocks; policies only ever see differences from it.
    trait NowForTest {
        fn now_for_test() -> Instant;
    }

    impl NowForTest for Instant {
        #[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
        fn now_for_test() -> Instant {
            Instant::now()
        }
    }

    #[test]
    fn two_distinct_gives_every_ordered_pair_and_never_the_same_twice() {
        let ready: Vec<_> = (0..3).map(EndpointId).collect();
        let mut rng = stream(1, "test");
        let pairs: BTreeSet<_> = (0..1000).filter_map(|_| two_distinct(&ready, &mut rng)).collect();
        assert_eq!(pairs.len(), 6);
        assert!(pairs.iter().all(|(a, b)| a != b));
    }

    #[test]
    fn names_are_unique_and_found() {
        let names: BTreeSet<_> = STRATEGIES.iter().map(|s| s.name).collect();
        assert_eq!(names.len(), STRATEGIES.len());
        assert!(names.iter().all(|name| Strategy::named(name).is_some()));
        assert!(Strategy::named("fastest").is_none());
    }
}

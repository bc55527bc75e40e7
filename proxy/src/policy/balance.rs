//! Which endpoint gets the next request.
//!
//! A [`Balancer`] chooses among the endpoints that are ready and hears what became of each request
//! it placed. Whether an endpoint *is* ready is not its business: that is the outlier gate's.
//!
//! A new strategy is one file beside the ones here and one line in [`STRATEGIES`].

mod choice;
mod hashing;
mod least_request;
mod least_time;
mod maglev;
mod peak_ewma;
mod penalty;
mod prequal;
mod random;
mod ring_hash;
mod round_robin;
mod weighted_round_robin;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::any::Any;
use std::fmt;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};
use serde::Deserialize;

pub use choice::Choices;
pub use least_request::{LeastRequest, LeastRequestOptions};
pub use least_time::{LeastTime, LeastTimeOptions};
pub use maglev::{Maglev, MaglevOptions};
pub use peak_ewma::{PeakEwma, PeakEwmaOptions};
pub use prequal::{Prequal, PrequalOptions};
pub use random::Random;
pub use ring_hash::{RingHash, RingHashOptions};
pub use round_robin::RoundRobin;
pub use weighted_round_robin::WeightedRoundRobin;

use crate::policy::ready::ReadySet;

/// An endpoint's place in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub usize);

/// What a strategy is told about an endpoint when it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its capacity relative to the others'; 1 or more. 0 stands for a place that nobody has: it is
    /// never ready.
    pub weight: u32,
    /// What identifies it across restarts and among sidecars, such as `host:port`. Consistent
    /// hashing places it by this.
    pub key: &'a str,
}

/// What became of a request that was placed on an endpoint.
///
/// Each request brings [`LoadEvent::Sent`], then exactly one of [`LoadEvent::Answered`],
/// [`LoadEvent::Failed`] and [`LoadEvent::Cancelled`], then [`LoadEvent::Ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadEvent {
    /// It was handed to the endpoint.
    Sent,
    /// The head of a response that is not a failure arrived this long after it was sent.
    Answered {
        /// Time to the response head.
        latency: Duration,
    },
    /// It came to nothing by the endpoint's doing: no connection, a broken one, a status of 500
    /// and above, or 429. That is what Linkerd's load biaser counts.
    Failed {
        /// Time until that was known.
        elapsed: Duration,
        /// For how long the response asked to be left alone, if it did.
        retry_after: Option<Duration>,
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

/// What an endpoint says about its own load when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// Requests that it is working on or has queued, everybody's.
    pub in_flight: u32,
    /// What a request that arrives at this load can expect to take.
    pub latency: Duration,
}

/// What a strategy believes about an endpoint, for people to look at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EndpointLoad {
    /// Requests sent and not ended.
    pub in_flight: u32,
    /// The weight that the strategy goes by: 1 where it ignores weights.
    pub weight: u32,
    /// The latency that it expects, for strategies that expect one and have seen enough.
    pub latency_estimate: Option<Duration>,
    /// Requests that it is charged with for recent failures, beyond those in flight; 0 for
    /// strategies that count failures otherwise or not at all.
    pub penalty: f64,
}

/// Chooses an endpoint for each request.
pub trait Balancer: Any + Send {
    /// The endpoint for the next request, one of `ready`; `None` only when `ready` is empty.
    ///
    /// `key` is the request's hash, for strategies that send equal keys to the same endpoint; they
    /// draw one if there is none. Choosing changes no load: that is what [`LoadEvent::Sent`] does.
    fn pick(
        &mut self,
        ready: &ReadySet,
        key: Option<u64>,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId>;

    /// Takes note of what happened to a request on `endpoint`.
    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, now: Instant);

    /// What it believes about `endpoint` as of `now`.
    fn load(&self, endpoint: EndpointId, now: Instant) -> EndpointLoad;

    /// Appends the endpoints that are to be asked for their load now. To be called after each pick
    /// and from time to time without one: it asks for what has become due, and no more.
    fn probes(
        &mut self,
        _ready: &ReadySet,
        _now: Instant,
        _rng: &mut dyn Rng,
        _ask: &mut Vec<EndpointId>,
    ) {
    }

    /// What an endpoint that was asked has answered; `None` when it has not.
    fn probed(&mut self, _endpoint: EndpointId, _answer: Option<ProbeAnswer>, _now: Instant) {}

    /// The endpoint is back from an ejection, or new: what was learnt about it no longer holds.
    /// Requests that are still in flight stay counted.
    fn returned(&mut self, _endpoint: EndpointId, _now: Instant) {}

    /// Takes the place of `old`, a balancer of the same strategy and options, because endpoints
    /// came or went: what `old` knows of the places for which `keeps` says true holds further on,
    /// requests in flight included. The other places have somebody new since `now`, or nobody.
    ///
    /// It is built before, and by this brought up to date, because a ring or a table takes longer
    /// to build than picks should have to wait.
    ///
    /// # Panics
    /// When `old` is of another strategy.
    fn succeed(&mut self, old: Box<dyn Balancer>, keeps: &[bool], now: Instant);
}

/// What `old` is, for a successor of the same type.
fn same<T: Balancer>(old: Box<dyn Balancer>) -> Box<T> {
    let old: Box<dyn Any> = old;
    match old.downcast() {
        Ok(same) => same,
        Err(_) => panic!("a balancer is succeeded by one of its own strategy"),
    }
}

/// Copies what is kept from `old` into `new`, by place.
fn keep<T: Clone>(new: &mut [T], old: &[T], keeps: &[bool]) {
    for ((new, old), _) in new.iter_mut().zip(old).zip(keeps).filter(|(_, keeps)| **keeps) {
        new.clone_from(old);
    }
}

/// The places that were there before the last change, and have somebody else or nobody now.
fn changed(keeps: &[bool]) -> impl Iterator<Item = EndpointId> {
    let places = keeps.iter().enumerate().filter(|(_, keeps)| !**keeps);
    places.map(|(place, _)| EndpointId(place))
}

/// The knobs of all strategies; each reads its own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BalancerOptions {
    /// Of [`LeastRequest`].
    pub least_request: LeastRequestOptions,
    /// Of [`LeastTime`].
    pub least_time: LeastTimeOptions,
    /// Of [`PeakEwma`].
    pub peak_ewma: PeakEwmaOptions,
    /// Of [`Prequal`].
    pub prequal: PrequalOptions,
    /// Of [`RingHash`].
    pub ring_hash: RingHashOptions,
    /// Of [`Maglev`].
    pub maglev: MaglevOptions,
}

/// A strategy by name.
pub struct Strategy {
    /// As configuration files spell it.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    build: fn(members: &[Member<'_>], options: &BalancerOptions) -> Box<dyn Balancer>,
}

impl Strategy {
    /// A strategy of one's own, beside [`STRATEGIES`], for who has the proxy as a library.
    pub const fn new(
        name: &'static str,
        summary: &'static str,
        build: fn(members: &[Member<'_>], options: &BalancerOptions) -> Box<dyn Balancer>,
    ) -> Self {
        Self { name, summary, build }
    }

    /// The strategy of this name, if there is one.
    pub fn named(name: &str) -> Option<&'static Strategy> {
        STRATEGIES.iter().find(|strategy| strategy.name == name)
    }

    /// A balancer over endpoints `0..members.len()`, none of which has been tried.
    pub fn build(&self, members: &[Member<'_>], options: &BalancerOptions) -> Box<dyn Balancer> {
        (self.build)(members, options)
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
        build: |members, _| Box::new(RoundRobin::new(members.len())),
    },
    Strategy {
        name: "weighted_round_robin",
        summary: "each endpoint in turn, as often as its weight says, evenly spread",
        build: |members, _| Box::new(WeightedRoundRobin::new(members)),
    },
    Strategy {
        name: "random",
        summary: "any endpoint, all equally likely",
        build: |members, _| Box::new(Random::new(members.len())),
    },
    Strategy {
        name: "least_request",
        summary: "of a few random endpoints the one with the fewest requests in flight",
        build: |members, options| Box::new(LeastRequest::new(members, options.least_request)),
    },
    Strategy {
        name: "least_time",
        summary: "of all endpoints the one with the lowest average latency times its load",
        build: |members, options| Box::new(LeastTime::new(members, options.least_time)),
    },
    Strategy {
        name: "peak_ewma",
        summary: "of two random endpoints the one with the lower expected wait",
        build: |members, options| Box::new(PeakEwma::new(members, options.peak_ewma)),
    },
    Strategy {
        name: "prequal",
        summary: "of the endpoints that were asked lately a cold one with the lowest latency",
        build: |members, options| Box::new(Prequal::new(members, options.prequal)),
    },
    Strategy {
        name: "ring_hash",
        summary: "equal keys to the same endpoint, next on a ring, within a bound on its load",
        build: |members, options| Box::new(RingHash::new(members, options.ring_hash)),
    },
    Strategy {
        name: "maglev",
        summary: "equal keys to the same endpoint, by a table, within a bound on its load",
        build: |members, options| Box::new(Maglev::new(members, options.maglev)),
    },
];

/// Requests in flight per endpoint: the part of the state that all strategies share.
#[derive(Clone, Debug)]
struct InFlight {
    of: Vec<u32>,
    total: u64,
}

impl InFlight {
    fn new(endpoints: usize) -> Self {
        Self { of: vec![0; endpoints], total: 0 }
    }

    fn get(&self, endpoint: EndpointId) -> u32 {
        self.of[endpoint.0]
    }

    fn succeed(&mut self, old: &Self, keeps: &[bool]) {
        keep(&mut self.of, &old.of, keeps);
        self.total = self.of.iter().copied().map(u64::from).sum();
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent) {
        let count = &mut self.of[endpoint.0];
        match event {
            LoadEvent::Sent => {
                *count += 1;
                self.total += 1;
            }
            LoadEvent::Ended => {
                assert!(*count > 0, "a request ended on an endpoint that had none");
                *count -= 1;
                self.total -= 1;
            }
            LoadEvent::Answered { .. } | LoadEvent::Failed { .. } | LoadEvent::Cancelled { .. } => {
            }
        }
    }

    /// What a strategy that knows nothing more can say of `endpoint`.
    fn load(&self, endpoint: EndpointId) -> EndpointLoad {
        EndpointLoad {
            in_flight: self.get(endpoint),
            weight: 1,
            latency_estimate: None,
            penalty: 0.0,
        }
    }
}

/// The weights of `members`, by place; that of a place that nobody has is never asked for, but has
/// to be one to divide by.
fn weights(members: &[Member<'_>]) -> Vec<u32> {
    members.iter().map(|member| member.weight.max(1)).collect()
}

/// Two different members of `ready` in random order, or the only one twice.
///
/// Drawing *without* replacement matters when there are few endpoints: with replacement, two
/// endpoints leave a quarter of all picks to the busier one without a comparison.
fn two_distinct(ready: &ReadySet, rng: &mut dyn Rng) -> Option<(EndpointId, EndpointId)> {
    match ready.as_slice() {
        [] => None,
        [only] => Some((*only, *only)),
        list => {
            let first = rng.random_range(0..list.len());
            let other = rng.random_range(0..list.len() - 1);
            let second = if other >= first { other + 1 } else { other };
            Some((list[first], list[second]))
        }
    }
}

/// Without `as_nanos`, whose 128 bits take longer to convert than all the rest.
fn nanos(duration: Duration) -> f64 {
    duration.as_secs() as f64 * 1e9 + f64::from(duration.subsec_nanos())
}

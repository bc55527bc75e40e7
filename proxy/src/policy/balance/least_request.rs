//! Of a few random endpoints, the one with the fewest requests in flight.
//!
//! The power of two choices (Mitzenmacher, 2001): most of what a full scan gains, without the herd
//! that forms when many sidecars see the same idle endpoint. The two are *distinct*, unlike
//! Envoy's, which draws with replacement and so sends a quarter of all requests to the busier of
//! two endpoints.
//!
//! **Weights** divide: an endpoint costs (in flight + penalty + 1) / weight. Envoy instead leaves
//! comparing when weights differ, and takes turns by weight / (in flight + 1)^bias. Dividing keeps
//! one rule for both cases and lets every pick see the counts; the price is that an endpoint is
//! one of a random pair only 2/n of the time, so a weight can earn it no more than that share.
//! Where weights differ by more, compare `"all"`.
//!
//! **Failures** stay in the count for a while, see [`super::penalty`]. Without that a dead
//! endpoint, which never has a request in flight, is the idlest and gets everything.
//!
//! It sees slowness only as a queue. At low concurrency every count is 0 and it cannot tell a slow
//! endpoint from a fast one, and a caller that cancels frees the count of the endpoint that made
//! it wait.

use std::time::{Duration, Instant};

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::choice::Costs;
use super::penalty::Penalties;
use super::{
    Balancer, Choices, EndpointId, EndpointLoad, InFlight, LoadEvent, Member, same, weights,
};
use crate::config::fields;
use crate::policy::ready::ReadySet;

/// Knobs of [`LeastRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeastRequestOptions {
    /// How many are compared. 2: the step from 1 to 2 is the one that pays, and many sidecars do
    /// not stampede.
    pub choices: Choices,
    /// How long a failed request goes on counting as one in flight, decaying; `"0s"` for not at
    /// all. 5 s, which is what Linkerd lets a failure count as.
    #[serde(deserialize_with = "fields::duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub failure_hold: Duration,
    /// The longest `Retry-After` that is heeded. 300 s, Linkerd's: long enough for a restart, and
    /// a mistaken header does not take an endpoint away for a day.
    #[serde(deserialize_with = "fields::duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub max_retry_after: Duration,
}

impl Default for LeastRequestOptions {
    fn default() -> Self {
        Self {
            choices: Choices::Of(2),
            failure_hold: Duration::from_secs(5),
            max_retry_after: Duration::from_secs(300),
        }
    }
}

/// Requests in flight per endpoint, and what they cost.
#[derive(Clone, Debug)]
pub struct LeastRequest {
    choices: Choices,
    weights: Vec<u32>,
    in_flight: InFlight,
    penalties: Penalties,
    costs: Costs,
}

impl LeastRequest {
    /// Over endpoints `0..members.len()`.
    pub fn new(members: &[Member<'_>], options: LeastRequestOptions) -> Self {
        let LeastRequestOptions { choices, failure_hold, max_retry_after } = options;
        let endpoints = members.len();
        let mut new = Self {
            choices,
            weights: weights(members),
            in_flight: InFlight::new(endpoints),
            penalties: Penalties::new(endpoints, failure_hold, max_retry_after),
            costs: Costs::new(endpoints),
        };
        (0..endpoints).map(EndpointId).for_each(|endpoint| new.weigh(endpoint, 0.0));
        new
    }

    fn weigh(&mut self, endpoint: EndpointId, penalty: f64) {
        let cost = cost(self.in_flight.get(endpoint), penalty, self.weights[endpoint.0]);
        self.costs.set(endpoint, cost);
    }
}

/// What one more request costs.
fn cost(in_flight: u32, penalty: f64, weight: u32) -> f64 {
    (f64::from(in_flight) + penalty + 1.0) / f64::from(weight)
}

impl Balancer for LeastRequest {
    fn pick(
        &mut self,
        ready: &ReadySet,
        _key: Option<u64>,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        let Self { choices, weights, in_flight, penalties, costs } = self;
        // Penalties decay between events, so the costs that contain one have to be made anew.
        penalties.refresh(now, |endpoint, penalty| {
            costs.set(endpoint, cost(in_flight.get(endpoint), penalty, weights[endpoint.0]));
        });
        costs.least(ready, *choices, rng)
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, now: Instant) {
        self.in_flight.observe(endpoint, event);
        if let LoadEvent::Failed { retry_after, .. } = event {
            self.penalties.failed(endpoint, retry_after, now);
        }
        self.weigh(endpoint, self.penalties.requests(endpoint, now));
    }

    fn load(&self, endpoint: EndpointId, now: Instant) -> EndpointLoad {
        EndpointLoad {
            weight: self.weights[endpoint.0],
            penalty: self.penalties.requests(endpoint, now),
            ..self.in_flight.load(endpoint)
        }
    }

    fn returned(&mut self, endpoint: EndpointId, _now: Instant) {
        self.penalties.forget(endpoint);
        self.weigh(endpoint, 0.0);
    }

    fn succeed(&mut self, old: Box<dyn Balancer>, keeps: &[bool], now: Instant) {
        let old = same::<Self>(old);
        self.in_flight.succeed(&old.in_flight, keeps);
        self.penalties.succeed(&old.penalties, keeps);
        for endpoint in (0..self.weights.len()).map(EndpointId) {
            self.weigh(endpoint, self.penalties.requests(endpoint, now));
        }
    }
}

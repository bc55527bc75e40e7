//! Any endpoint, all equally likely.
//!
//! Needs no state and no agreement between sidecars. Its uneven short-term shares cost it against
//! round robin wherever endpoints queue. Weights are ignored, as Envoy's random balancer ignores
//! them: whoever has weights wants shares, and [`super::WeightedRoundRobin`] keeps them exactly.

use std::time::Instant;

use rand::{Rng, RngExt as _};

use super::{Balancer, EndpointId, EndpointLoad, InFlight, LoadEvent, same};
use crate::policy::ready::ReadySet;

/// Keeps count only so that people can see it.
#[derive(Clone, Debug)]
pub struct Random {
    in_flight: InFlight,
}

impl Random {
    /// Over endpoints `0..endpoints`.
    pub fn new(endpoints: usize) -> Self {
        Self { in_flight: InFlight::new(endpoints) }
    }
}

impl Balancer for Random {
    fn pick(
        &mut self,
        ready: &ReadySet,
        _key: Option<u64>,
        _now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        if ready.is_empty() {
            None
        } else {
            Some(ready.as_slice()[rng.random_range(0..ready.len())])
        }
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, _now: Instant) {
        self.in_flight.observe(endpoint, event);
    }

    fn load(&self, endpoint: EndpointId, _now: Instant) -> EndpointLoad {
        self.in_flight.load(endpoint)
    }

    fn succeed(&mut self, old: Box<dyn Balancer>, keeps: &[bool], _now: Instant) {
        self.in_flight.succeed(&same::<Self>(old).in_flight, keeps);
    }
}

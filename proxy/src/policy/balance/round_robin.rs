//! Each endpoint in turn.
//!
//! The yardstick that every other strategy is compared with: even shares whatever happens, so a
//! slow endpoint gets as much work as a fast one. Weights are ignored; see
//! [`super::WeightedRoundRobin`].
//!
//! What is remembered is the endpoint that was last, not a place in the list of the ready ones:
//! such a place names another endpoint whenever one before it comes or goes, and an ejection that
//! flaps would skip the same endpoints again and again.

use std::time::Instant;

use rand::{Rng, RngExt as _};

use super::{Balancer, EndpointId, EndpointLoad, InFlight, LoadEvent, same};
use crate::policy::ready::ReadySet;

/// State of the rotation.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    /// Whose turn it was; `None` until the first pick has drawn a start. A fleet of sidecars that
    /// all began with endpoint 0 would send it a burst.
    last: Option<EndpointId>,
    in_flight: InFlight,
}

impl RoundRobin {
    /// A rotation that starts at a random endpoint.
    pub fn new(endpoints: usize) -> Self {
        Self { last: None, in_flight: InFlight::new(endpoints) }
    }
}

impl Balancer for RoundRobin {
    fn pick(
        &mut self,
        ready: &ReadySet,
        _key: Option<u64>,
        _now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        let list = ready.as_slice();
        if list.is_empty() {
            return None;
        }
        let turn = match self.last {
            None => rng.random_range(0..list.len()),
            Some(last) => list.partition_point(|endpoint| *endpoint <= last) % list.len(),
        };
        self.last = Some(list[turn]);
        self.last
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, _now: Instant) {
        self.in_flight.observe(endpoint, event);
    }

    fn load(&self, endpoint: EndpointId, _now: Instant) -> EndpointLoad {
        self.in_flight.load(endpoint)
    }

    fn succeed(&mut self, old: Box<dyn Balancer>, keeps: &[bool], _now: Instant) {
        let old = same::<Self>(old);
        self.last = old.last;
        self.in_flight.succeed(&old.in_flight, keeps);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn a_flapping_endpoint_costs_nobody_a_turn() {
        let now = Instant::now();
        let mut balancer = RoundRobin::new(4);
        let mut rng = stream(1, "test");
        let mut picks = [0_u32; 4];
        for n in 0..600 {
            let ready = ReadySet::of(4, |endpoint| endpoint.0 != 0 || n % 2 == 0);
            picks[balancer.pick(&ready, None, now, &mut rng).unwrap().0] += 1;
        }
        // The steady three take turns, whenever it is not the flapping one's.
        assert!(picks[1] == picks[2] && picks[2].abs_diff(picks[3]) <= 1, "{picks:?}");
    }
}

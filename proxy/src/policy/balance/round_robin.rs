//! Each endpoint in turn.
//!
//! The yardstick that every other strategy is compared with: even shares whatever happens, so a
//! slow endpoint gets as much work as a fast one.

use std::time::Instant;

use rand::{Rng, RngExt as _};

use super::{Balancer, EndpointId, EndpointLoad, InFlight, LoadEvent};

/// State of the rotation.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    /// Where the next turn begins; `None` until the first pick has drawn a start. A fleet of
    /// sidecars that all began with endpoint 0 would send it a burst.
    next: Option<usize>,
    in_flight: InFlight,
}

impl RoundRobin {
    /// A rotation that starts at a random endpoint.
    pub fn new(endpoints: usize) -> Self {
        Self { next: None, in_flight: InFlight::new(endpoints) }
    }
}

impl Balancer for RoundRobin {
    fn pick(
        &mut self,
        ready: &[EndpointId],
        _now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        if ready.is_empty() {
            return None;
        }
        let turn = self.next.unwrap_or_else(|| rng.random_range(0..ready.len())) % ready.len();
        self.next = Some(turn + 1);
        Some(ready[turn])
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, _now: Instant) {
        self.in_flight.observe(endpoint, event);
    }

    fn load(&self, endpoint: EndpointId, _now: Instant) -> EndpointLoad {
        EndpointLoad { in_flight: self.in_flight.get(endpoint), latency_estimate: None }
    }
}

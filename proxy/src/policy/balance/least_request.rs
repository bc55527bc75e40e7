//! Of two random endpoints, the one with fewer requests in flight.
//!
//! The power of two choices (Mitzenmacher, 2001): most of what a full scan gains, without the herd
//! that forms when many sidecars see the same idle endpoint. The two are *distinct*, unlike
//! Envoy's, which draws with replacement.
//!
//! It sees slowness only as a queue. At low concurrency every count is 0 and it cannot tell a slow
//! endpoint from a fast one, and a caller that cancels frees the count of the endpoint that made
//! it wait.

use std::time::Instant;

use rand::Rng;

use super::{Balancer, EndpointId, EndpointLoad, InFlight, LoadEvent, two_distinct};

/// Requests in flight per endpoint.
#[derive(Clone, Debug)]
pub struct LeastRequest {
    in_flight: InFlight,
}

impl LeastRequest {
    /// Over endpoints `0..endpoints`.
    pub fn new(endpoints: usize) -> Self {
        Self { in_flight: InFlight::new(endpoints) }
    }
}

impl Balancer for LeastRequest {
    fn pick(
        &mut self,
        ready: &[EndpointId],
        _now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        let (first, second) = two_distinct(ready, rng)?;
        // The pair is in random order, so a tie is broken at random.
        let second_is_freer = self.in_flight.get(second) < self.in_flight.get(first);
        Some(if second_is_freer { second } else { first })
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, _now: Instant) {
        self.in_flight.observe(endpoint, event);
    }

    fn load(&self, endpoint: EndpointId, _now: Instant) -> EndpointLoad {
        EndpointLoad { in_flight: self.in_flight.get(endpoint), latency_estimate: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
    fn of_two_endpoints_the_busier_one_is_never_picked() {
        let now = Instant::now();
        let ready = [EndpointId(0), EndpointId(1)];
        let mut balancer = LeastRequest::new(2);
        let mut rng = stream(1, "test");
        balancer.observe(EndpointId(0), LoadEvent::Sent, now);
        for _ in 0..1000 {
            assert_eq!(balancer.pick(&ready, now, &mut rng), Some(EndpointId(1)));
        }
    }
}

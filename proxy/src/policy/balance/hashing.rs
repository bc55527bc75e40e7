//! What ring and table have in common: the hash of an endpoint, and the bound on its load.
//!
//! Consistent hashing alone sends a popular key's whole load to one endpoint, and chance gives
//! some endpoints far more keys than others. Mirrokni, Thorup and Zadimoghaddam ("Consistent
//! Hashing with Bounded Loads", 2016) let nobody have more than (1 + ε) times its fair share of
//! the requests in flight; what is above goes on to where the key would go if that endpoint were
//! not there. Envoy's `hash_balance_factor` is 100 · (1 + ε).

use rand::Rng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{EndpointId, EndpointLoad, InFlight, Member, weights};
use crate::policy::ready::ReadySet;

/// The default of `slack`. What moves when a request comes or goes grows with 1/ε², so little is
/// gained in evenness, and much lost in stability, by going further below.
pub(super) const DEFAULT_SLACK: f64 = 0.25;

/// The `n`th hash of an endpoint. The same in every process, so that sidecars agree.
pub(super) fn hash_of(member: &Member<'_>, n: u64) -> u64 {
    xxh3_64_with_seed(member.key.as_bytes(), n)
}

/// The hash to look up.
pub(super) fn key_or_draw(key: Option<u64>, rng: &mut dyn Rng) -> u64 {
    key.unwrap_or_else(|| rng.next_u64())
}

/// Loads, and the bound on them.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    slack: f64,
    weights: Vec<u32>,
    /// The sum of the weights, so that nobody need add them up while all are ready.
    total_weight: u64,
    pub(super) in_flight: InFlight,
}

impl Bounded {
    pub(super) fn new(members: &[Member<'_>], slack: f64) -> Self {
        let weights = weights(members);
        let total_weight = weights.iter().copied().map(u64::from).sum();
        Self { slack, total_weight, in_flight: InFlight::new(weights.len()), weights }
    }

    /// Requests in flight per unit of weight that an endpoint may have *before* one more is
    /// placed. Some member of `ready` is always below it: if all had their fair share of the
    /// requests in flight and the new one, rounded up, they would have one more than there are.
    fn limit(&self, ready: &ReadySet) -> f64 {
        if self.slack.is_infinite() {
            return f64::INFINITY;
        }
        let weight = if ready.len() == self.weights.len() {
            self.total_weight
        } else {
            ready.as_slice().iter().map(|endpoint| u64::from(self.weights[endpoint.0])).sum()
        };
        (1.0 + self.slack) * (self.in_flight.total as f64 + 1.0) / weight as f64
    }

    /// The first of `order` from `start` on, and around to it, that is ready and has room.
    pub(super) fn walk<T>(
        &self,
        order: &[T],
        start: usize,
        endpoint: impl Fn(&T) -> EndpointId,
        ready: &ReadySet,
    ) -> Option<EndpointId> {
        let limit = self.limit(ready);
        let (before, after) = order.split_at(start);
        let mut walk = after.iter().chain(before).map(endpoint);
        walk.find(|endpoint| ready.contains(*endpoint) && self.has_room(*endpoint, limit))
    }

    /// True when `endpoint` may be given one more.
    fn has_room(&self, endpoint: EndpointId, limit: f64) -> bool {
        // Not ceil(limit · weight) > count: the same, without a call.
        f64::from(self.in_flight.get(endpoint)) < limit * f64::from(self.weights[endpoint.0])
    }

    pub(super) fn load(&self, endpoint: EndpointId) -> EndpointLoad {
        EndpointLoad { weight: self.weights[endpoint.0], ..self.in_flight.load(endpoint) }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use super::super::LoadEvent;
    use super::*;

    #[test]
    fn a_full_endpoint_has_a_quarter_more_than_its_share() {
        let members = [1, 3].map(|weight| Member { weight, key: "" });
        let mut loads = Bounded::new(&members, 0.25);
        let ready = ReadySet::all(2);
        let send = |loads: &mut Bounded, place, times| {
            (0..times).for_each(|_| loads.in_flight.observe(EndpointId(place), LoadEvent::Sent));
        };
        send(&mut loads, 0, 4);
        send(&mut loads, 1, 11);
        // 16 with the new one: 1.25 · 16 / 4 = 5 and 15.
        assert!(loads.has_room(EndpointId(0), loads.limit(&ready)));
        send(&mut loads, 0, 1);
        assert!(!loads.has_room(EndpointId(0), 5.0));
        assert!(loads.has_room(EndpointId(1), loads.limit(&ready)));
    }

    #[test]
    fn without_a_bound_there_is_always_room() {
        let mut loads = Bounded::new(&[Member { weight: 1, key: "" }; 2], f64::INFINITY);
        (0..1000).for_each(|_| loads.in_flight.observe(EndpointId(0), LoadEvent::Sent));
        assert!(loads.has_room(EndpointId(0), loads.limit(&ReadySet::all(2))));
    }
}

//! Recent answers to probes, and what counts as much load.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::{EndpointId, ProbeAnswer};
use crate::policy::ready::ReadySet;

/// The newest answer of some endpoints, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    entries: Vec<Entry>,
    size: usize,
    max_age: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    endpoint: EndpointId,
    answer: ProbeAnswer,
    uses_left: u32,
    at: Instant,
}

/// What entries are compared by: hot after cold, the cold by latency, the hot by load.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Rank {
    Cold(Duration),
    Hot(f64),
}

impl Entry {
    /// `penalty` is requests beyond those that the endpoint has told of.
    fn rank(&self, hot_above: u32, penalty: f64) -> Rank {
        let load = f64::from(self.answer.in_flight) + penalty;
        if load > f64::from(hot_above) { Rank::Hot(load) } else { Rank::Cold(self.answer.latency) }
    }
}

impl Pool {
    pub(super) fn new(size: usize, max_age: Duration) -> Self {
        Self { entries: Vec::with_capacity(size), size, max_age }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keeps what is ready and not too old.
    pub(super) fn retain(&mut self, ready: &ReadySet, now: Instant) {
        let max_age = self.max_age;
        self.entries.retain(|entry| {
            ready.contains(entry.endpoint) && now.saturating_duration_since(entry.at) <= max_age
        });
    }

    /// Takes an answer, in place of the endpoint's earlier one or else, when full, of the oldest.
    pub(super) fn add(
        &mut self,
        endpoint: EndpointId,
        answer: ProbeAnswer,
        uses: u32,
        now: Instant,
    ) {
        self.remove(endpoint);
        if self.entries.len() == self.size {
            self.remove_oldest();
        }
        self.entries.push(Entry { endpoint, answer, uses_left: uses, at: now });
    }

    /// Takes over the newest answers of those that are kept, as many as fit.
    pub(super) fn succeed(&mut self, old: &Self, keeps: &[bool]) {
        let kept = |entry: &&Entry| keeps.get(entry.endpoint.0).copied().unwrap_or(false);
        self.entries.extend(old.entries.iter().filter(kept));
        let too_many = self.entries.len().saturating_sub(self.size);
        self.entries.drain(..too_many);
    }

    pub(super) fn remove(&mut self, endpoint: EndpointId) {
        self.entries.retain(|entry| entry.endpoint != endpoint);
    }

    pub(super) fn remove_oldest(&mut self) {
        if !self.entries.is_empty() {
            self.entries.remove(0);
        }
    }

    pub(super) fn remove_worst(&mut self, hot_above: u32, penalty: impl Fn(EndpointId) -> f64) {
        let rank = |entry: &Entry| entry.rank(hot_above, penalty(entry.endpoint));
        let mut worst: Option<(usize, Rank)> = None;
        for (place, rank) in self.entries.iter().map(rank).enumerate() {
            if worst.is_none_or(|(_, worst)| rank > worst) {
                worst = Some((place, rank));
            }
        }
        if let Some((place, _)) = worst {
            self.entries.remove(place);
        }
    }

    /// The best endpoint; of equals the oldest, which is used up first.
    pub(super) fn best(
        &self,
        hot_above: u32,
        penalty: impl Fn(EndpointId) -> f64,
    ) -> Option<EndpointId> {
        let mut best: Option<(EndpointId, Rank)> = None;
        for entry in &self.entries {
            let rank = entry.rank(hot_above, penalty(entry.endpoint));
            if best.is_none_or(|(_, best)| rank < best) {
                best = Some((entry.endpoint, rank));
            }
        }
        best.map(|(endpoint, _)| endpoint)
    }

    /// A request was sent to `endpoint`, which it does not know of yet if it has answered before.
    pub(super) fn used(&mut self, endpoint: EndpointId) {
        let Some(place) = self.entries.iter().position(|entry| entry.endpoint == endpoint) else {
            return;
        };
        let entry = &mut self.entries[place];
        entry.answer.in_flight = entry.answer.in_flight.saturating_add(1);
        entry.uses_left = entry.uses_left.saturating_sub(1);
        if entry.uses_left == 0 {
            self.entries.remove(place);
        }
    }

    pub(super) fn latency(&self, endpoint: EndpointId) -> Option<Duration> {
        let entry = self.entries.iter().find(|entry| entry.endpoint == endpoint)?;
        Some(entry.answer.latency)
    }
}

/// How many recent values a quantile is of. 128: one in six of them is above 0.84, so that the
/// quantile rests on some twenty, and it is renewed in seconds at a few dozen probes a second.
const RECENT: usize = 128;

/// Any quantile of the last [`RECENT`] values.
#[derive(Clone, Debug)]
pub(super) struct Quantile {
    recent: VecDeque<u32>,
    /// The same, ascending.
    sorted: Vec<u32>,
}

impl Default for Quantile {
    fn default() -> Self {
        Self { recent: VecDeque::with_capacity(RECENT), sorted: Vec::with_capacity(RECENT) }
    }
}

impl Quantile {
    pub(super) fn add(&mut self, value: u32) {
        if self.recent.len() == RECENT
            && let Some(oldest) = self.recent.pop_front()
        {
            self.sorted.remove(self.sorted.partition_point(|other| *other < oldest));
        }
        self.recent.push_back(value);
        self.sorted.insert(self.sorted.partition_point(|other| *other < value), value);
    }

    /// The least value that at least `share` of the values do not exceed; 0 if there are none.
    pub(super) fn value(&self, share: f64) -> u32 {
        let rank = libm::ceil(share * self.sorted.len() as f64) as usize;
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, proptest};

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_splits_the_recent_values(
            values in prop::collection::vec(0..20u32, 1..400), share in 0.01..=1.0f64,
        ) {
            let mut quantile = Quantile::default();
            values.iter().for_each(|value| quantile.add(*value));
            let recent = &values[values.len().saturating_sub(RECENT)..];
            let value = quantile.value(share);
            let wanted = share * recent.len() as f64;
            prop_assert!(recent.iter().filter(|v| **v <= value).count() as f64 >= wanted);
            prop_assert!((recent.iter().filter(|v| **v < value).count() as f64) < wanted);
        }
    }
}

//! Equal keys to the same endpoint, next on a ring.
//!
//! Consistent hashing (Karger et al., 1997): each endpoint has many points on a circle of hashes,
//! and a key belongs to the first point after its own hash. When an endpoint goes, only its keys
//! move, each to the next point; when it returns, they return. That keeps caches warm that a hash
//! modulo the number of endpoints would all empty at once. The load of an endpoint is bounded, see
//! [`super::hashing`].
//!
//! **Points.** With v points each, shares scatter by about 1/√v: 8 % at 160. Envoy instead fills
//! the ring up to a least size, so that the points of one endpoint depend on how many others there
//! are, and keys move between endpoints that had nothing to do with a change. Here they depend on
//! an endpoint's weight relative to the least one, and on nothing else as long as the ring is below
//! its greatest size.
//!
//! **Cost.** A binary search of 48,000 points misses the cache a dozen times. Hashes are uniform,
//! so a table of about as many cells as there are points says where to begin, and the search is a
//! step or two.

use std::time::Instant;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::hashing::{Bounded, DEFAULT_SLACK, hash_of, key_or_draw};
use super::{Balancer, EndpointId, EndpointLoad, LoadEvent, Member, same};
use crate::config::fields;
use crate::policy::ready::ReadySet;

/// Knobs of [`RingHash`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RingHashOptions {
    /// Points on the ring of an endpoint of least weight; in proportion for heavier ones. 160, as
    /// ketama's: shares within about 8 % of even, and 1 MB at 300 endpoints.
    #[serde(deserialize_with = "fields::positive_count")]
    pub points: u32,
    /// The most points of all endpoints together; beyond, each has fewer, but at least one. A
    /// million: 16 MB, the bound on what weights such as 1 : 10,000 ask for.
    #[serde(deserialize_with = "fields::positive_count")]
    pub max_points: u32,
    /// ε: how far above its fair share of requests in flight an endpoint may get. 0.25, with which
    /// keys seldom move; `inf` for any load. At the least load, when a fair share is less than
    /// one, it means one request at a time.
    #[serde(deserialize_with = "fields::positive_number")]
    pub slack: f64,
}

impl Default for RingHashOptions {
    fn default() -> Self {
        Self { points: 160, max_points: 1 << 20, slack: DEFAULT_SLACK }
    }
}

/// A place on the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    hash: u64,
    endpoint: EndpointId,
}

/// The ring, and what is in flight.
#[derive(Clone, Debug)]
pub struct RingHash {
    /// Ascending.
    points: Vec<Point>,
    /// For each value of the highest bits of a hash, the first point that has it or a higher one.
    cells: Vec<u32>,
    /// How far to shift a hash to have only those bits left.
    shift: u32,
    loads: Bounded,
}

impl RingHash {
    /// Over endpoints `0..members.len()`.
    pub fn new(members: &[Member<'_>], options: RingHashOptions) -> Self {
        let mut points = Vec::new();
        for ((place, member), count) in members.iter().enumerate().zip(counts(members, options)) {
            let endpoint = EndpointId(place);
            points.extend((0..count).map(|n| Point { hash: hash_of(member, n), endpoint }));
        }
        points.sort_unstable();
        // At least two cells, because a shift by all 64 bits is not one.
        let bits = points.len().next_power_of_two().ilog2().max(1);
        let shift = u64::BITS - bits;
        let first = |cell: u64| points.partition_point(|point| point.hash >> shift < cell) as u32;
        let cells = (0..1 << bits).map(first).collect();
        Self { points, cells, shift, loads: Bounded::new(members, options.slack) }
    }

    /// The place of the first point at `hash` or after it.
    fn find(&self, hash: u64) -> usize {
        let start = self.cells[(hash >> self.shift) as usize] as usize;
        let ahead = self.points[start..].iter().position(|point| point.hash >= hash);
        ahead.map_or(0, |steps| start + steps)
    }
}

/// How many points each member has.
fn counts(members: &[Member<'_>], options: RingHashOptions) -> Vec<u64> {
    let weights = members.iter().map(|member| u64::from(member.weight));
    let least = weights.filter(|weight| *weight > 0).min().unwrap_or(1);
    let wanted = members
        .iter()
        .map(|member| u64::from(options.points) * u64::from(member.weight) / least)
        .collect::<Vec<_>>();
    let total = wanted.iter().map(|count| u128::from(*count)).sum::<u128>();
    let limit = u128::from(options.max_points);
    let fit = |count: u64| {
        if total <= limit || count == 0 {
            count
        } else {
            (u128::from(count) * limit / total).max(1) as u64
        }
    };
    wanted.into_iter().map(fit).collect()
}

impl Balancer for RingHash {
    fn pick(
        &mut self,
        ready: &ReadySet,
        key: Option<u64>,
        _now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        if ready.is_empty() {
            return None;
        }
        let start = self.find(key_or_draw(key, rng));
        // Somebody has room, so the walk ends before it is back.
        self.loads.walk(&self.points, start, |point| point.endpoint, ready)
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, _now: Instant) {
        self.loads.in_flight.observe(endpoint, event);
    }

    fn load(&self, endpoint: EndpointId, _now: Instant) -> EndpointLoad {
        self.loads.load(endpoint)
    }

    fn succeed(&mut self, old: Box<dyn Balancer>, keeps: &[bool], _now: Instant) {
        self.loads.in_flight.succeed(&same::<Self>(old).loads.in_flight, keeps);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::super::tests::{keys, members};
    use super::*;
    use crate::rng::stream;

    fn owner(ring: &mut RingHash, ready: &ReadySet, key: u64) -> EndpointId {
        ring.pick(ready, Some(key), Instant::now(), &mut stream(1, "test")).unwrap()
    }

    #[test]
    fn the_table_of_cells_finds_what_a_search_finds() {
        let names = keys(7);
        for points in [1, 2, 3, 160] {
            let options = RingHashOptions { points, ..RingHashOptions::default() };
            let ring = RingHash::new(&members(&names, &[1; 7]), options);
            let mut rng = stream(1, "test");
            let edges = ring.points.iter().flat_map(|p| [p.hash, p.hash.wrapping_add(1)]);
            let random = (0..10_000).map(|_| rng.next_u64());
            for hash in edges.chain(random).chain([0, u64::MAX]) {
                let right = ring.points.partition_point(|p| p.hash < hash) % ring.points.len();
                assert_eq!(ring.find(hash), right, "{hash:x} among {points} points");
            }
        }
    }

    #[test]
    fn weights_are_points_up_to_the_limit() {
        let names = keys(3);
        let count = |weights: &[u32], max_points| {
            let options = RingHashOptions { points: 100, max_points, ..Default::default() };
            counts(&members(&names, weights), options)
        };
        assert_eq!(count(&[2, 4, 5], 1000), [100, 200, 250]);
        assert_eq!(count(&[2, 4, 5], 550), [100, 200, 250]);
        assert_eq!(count(&[2, 4, 5], 55), [10, 20, 25]);
        assert_eq!(count(&[1, 1_000_000, u32::MAX], 1000)[0], 1);
    }

    #[test]
    fn shares_follow_weights() {
        let names = keys(4);
        let mut ring = RingHash::new(&members(&names, &[1, 1, 2, 4]), RingHashOptions::default());
        let mut rng = stream(1, "keys");
        let mut seen = [0.0; 4];
        for _ in 0..80_000 {
            seen[owner(&mut ring, &ReadySet::all(4), rng.next_u64()).0] += 1.0;
        }
        for (share, fair) in seen.into_iter().zip([10_000.0, 10_000.0, 20_000.0, 40_000.0]) {
            // Three standard deviations of 1/√160.
            assert!((share / fair - 1.0_f64).abs() < 0.24, "{seen:?}");
        }
    }

    /// A new endpoint takes keys, and nobody else does.
    #[test]
    fn a_ring_with_one_more_moves_keys_only_to_it() {
        let names = keys(5);
        let all = members(&names, &[1; 5]);
        let mut four = RingHash::new(&all[..4], RingHashOptions::default());
        let mut five = RingHash::new(&all, RingHashOptions::default());
        let mut rng = stream(1, "keys");
        let mut moved = 0;
        for _ in 0..10_000 {
            let key = rng.next_u64();
            let before = owner(&mut four, &ReadySet::all(4), key);
            let after = owner(&mut five, &ReadySet::all(5), key);
            assert!(after == before || after == EndpointId(4));
            moved += usize::from(after != before);
        }
        assert!((1500..2500).contains(&moved), "{moved} of 10000, fair are 2000");
    }

    #[test]
    fn a_hot_key_overflows_to_the_same_next_endpoints() {
        let now = Instant::now();
        let names = keys(4);
        let mut ring = RingHash::new(&members(&names, &[1; 4]), RingHashOptions::default());
        let ready = ReadySet::all(4);
        let mut seen = [0; 4];
        for _ in 0..400 {
            let endpoint = owner(&mut ring, &ready, 42);
            ring.observe(endpoint, LoadEvent::Sent, now);
            seen[endpoint.0] += 1;
        }
        seen.sort_unstable();
        assert_eq!(seen, [25, 125, 125, 125]);
    }

    proptest! {
        #[test]
        fn an_ejection_moves_only_its_own_keys(key: u64, gone in 0..8usize, weights in any::<[u8; 8]>()) {
            let names = keys(8);
            let weights = weights.map(|weight| u32::from(weight) + 1);
            let mut ring = RingHash::new(&members(&names, &weights), RingHashOptions::default());
            let before = owner(&mut ring, &ReadySet::all(8), key);
            let after = owner(&mut ring, &ReadySet::of(8, |endpoint| endpoint.0 != gone), key);
            prop_assert_eq!(before == after, before.0 != gone);
        }
    }
}

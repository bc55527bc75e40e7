//! Equal keys to the same endpoint, by a table.
//!
//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
//! NSDI 2016): endpoints take turns to claim cells of a table, each in an order of its own. Shares
//! are even to within one cell, far better than a ring's, and a lookup is a single load. The price
//! is that a *rebuilt* table moves a few keys more than it would have to.
//!
//! So readiness does not rebuild it. A key whose endpoint is not ready, or is full (see
//! [`super::hashing`]), goes to the owner of the next cells, which are other endpoints at random:
//! an ejection moves exactly the ejected endpoint's keys, spreads them over all others, and gives
//! them back when it ends.

use std::time::Instant;

use rand::Rng;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::hashing::{Bounded, DEFAULT_SLACK, hash_of, key_or_draw};
use super::{Balancer, EndpointId, EndpointLoad, LoadEvent, Member, same};
use crate::config::fields;
use crate::policy::ready::ReadySet;

/// Knobs of [`Maglev`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaglevOptions {
    /// Cells of the table: a prime, so that every endpoint's order visits all of them. 65,537, the
    /// paper's and Envoy's: a hundred cells for each of 655 endpoints, which makes shares even to
    /// 1 %.
    #[serde(deserialize_with = "prime")]
    pub table_size: u32,
    /// ε: how far above its fair share of requests in flight an endpoint may get. 0.25, with which
    /// keys seldom move; `inf` for any load. At the least load, when a fair share is less than
    /// one, it means one request at a time.
    #[serde(deserialize_with = "fields::positive_number")]
    pub slack: f64,
}

impl Default for MaglevOptions {
    fn default() -> Self {
        Self { table_size: 65_537, slack: DEFAULT_SLACK }
    }
}

/// The largest table that is taken, Envoy's limit: 20 MB, and more than a second to build.
const LARGEST: u32 = 5_000_011;

fn prime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let size = u32::deserialize(deserializer)?;
    if size > LARGEST || !is_prime(size) {
        let hint = format!("must be a prime up to {LARGEST}, such as 65537");
        return Err(D::Error::custom(format!("{size} is not a table size; it {hint}")));
    }
    Ok(size)
}

fn is_prime(n: u32) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

/// The table, and what is in flight.
#[derive(Clone, Debug)]
pub struct Maglev {
    /// Empty when there are no endpoints.
    table: Vec<EndpointId>,
    loads: Bounded,
}

impl Maglev {
    /// Over endpoints `0..members.len()`. The table grows to hold a cell for each.
    pub fn new(members: &[Member<'_>], options: MaglevOptions) -> Self {
        let least = u32::try_from(members.len()).unwrap_or(u32::MAX).max(options.table_size);
        let size = (least..).find(|size| is_prime(*size)).unwrap_or(options.table_size);
        Self { table: fill(members, size as usize), loads: Bounded::new(members, options.slack) }
    }
}

/// The order in which an endpoint claims cells.
struct Order {
    next: usize,
    skip: usize,
    /// Turns that it has had a right to and not taken, in units of the greatest weight.
    credit: u64,
}

/// Lets endpoints take turns, as often as their weights say, until all cells are claimed.
fn fill(members: &[Member<'_>], size: usize) -> Vec<EndpointId> {
    let greatest = members.iter().map(|member| u64::from(member.weight)).max().unwrap_or(0);
    if greatest == 0 {
        return Vec::new();
    }
    let order = |member: &Member<'_>| Order {
        next: (hash_of(member, 0) % size as u64) as usize,
        skip: (hash_of(member, 1) % (size as u64 - 1)) as usize + 1,
        credit: 0,
    };
    let mut orders: Vec<Order> = members.iter().map(order).collect();
    let mut table: Vec<Option<EndpointId>> = vec![None; size];
    let mut free = size;
    // The heaviest claims a cell in every round, so there are at most as many as cells.
    while free > 0 {
        for (place, (order, member)) in orders.iter_mut().zip(members).enumerate() {
            order.credit += u64::from(member.weight);
            if order.credit < greatest || free == 0 {
                continue;
            }
            order.credit -= greatest;
            while table[order.next].is_some() {
                order.next = (order.next + order.skip) % size;
            }
            table[order.next] = Some(EndpointId(place));
            free -= 1;
        }
    }
    table.into_iter().flatten().collect()
}

impl Balancer for Maglev {
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
        let start = key_or_draw(key, rng) % self.table.len() as u64;
        let found = self.loads.walk(&self.table, start as usize, |cell| *cell, ready);
        // Somebody has room, but where weights differ by more than the table's size, it may be an
        // endpoint without a cell.
        found.or_else(|| self.loads.walk(ready.as_slice(), 0, |endpoint| *endpoint, ready))
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
    use proptest::prelude::{any, prop_assert, proptest};

    use super::super::tests::{keys, members};
    use super::*;
    use crate::rng::stream;

    fn cells(table: &[EndpointId], endpoints: usize) -> Vec<usize> {
        (0..endpoints).map(|i| table.iter().filter(|e| e.0 == i).count()).collect()
    }

    #[test]
    fn cells_follow_weights_to_within_one() {
        let names = keys(30);
        let even = fill(&members(&names, &[1; 30]), 65_537);
        assert!(cells(&even, 30).iter().all(|n| n.abs_diff(65_537 / 30) <= 1));
        let weighted = cells(&fill(&members(&names, &[1, 2, 5]), 65_537), 3);
        let fair = [65_537 / 8, 65_537 / 4, 65_537 * 5 / 8];
        assert!(weighted.iter().zip(fair).all(|(n, fair)| n.abs_diff(fair) <= 2), "{weighted:?}");
    }

    #[test]
    fn a_rebuilt_table_moves_little_more_than_it_has_to() {
        let names = keys(20);
        let all = members(&names, &[1; 20]);
        let (before, after) = (fill(&all[..19], 65_537), fill(&all, 65_537));
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let needed = 65_537 / 20;
        assert!(moved >= needed && moved < needed * 3, "{moved} cells, needed {needed}");
    }

    #[test]
    fn a_table_size_is_a_prime_within_the_limit() {
        let read = |size: u32| toml::from_str::<MaglevOptions>(&format!("table_size = {size}"));
        assert_eq!(read(2).unwrap().table_size, 2);
        assert_eq!(read(LARGEST).unwrap().table_size, LARGEST);
        for wrong in [0, 1, 65_536, 5_000_077] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("a prime up to 5000011, such as 65537"), "{error}");
        }
    }

    #[test]
    fn a_table_grows_to_hold_everybody() {
        let names = keys(10);
        let options = MaglevOptions { table_size: 2, ..MaglevOptions::default() };
        let table = Maglev::new(&members(&names, &[1; 10]), options).table;
        assert_eq!(table.len(), 11);
        assert!(cells(&table, 10).iter().all(|n| *n >= 1));
    }

    proptest! {
        #[test]
        fn an_ejection_moves_only_its_own_keys(key: u64, gone in 0..8usize, weights in any::<[u8; 8]>()) {
            let names = keys(8);
            let weights = weights.map(|weight| u32::from(weight) + 1);
            let options = MaglevOptions { table_size: 251, ..MaglevOptions::default() };
            let mut maglev = Maglev::new(&members(&names, &weights), options);
            let mut owner = |ready: &ReadySet| {
                maglev.pick(ready, Some(key), Instant::now(), &mut stream(1, "test")).unwrap()
            };
            let before = owner(&ReadySet::all(8));
            let after = owner(&ReadySet::of(8, |endpoint| endpoint.0 != gone));
            prop_assert!((before == after) == (before.0 != gone));
        }
    }
}

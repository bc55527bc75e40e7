//! How many endpoints are compared for a pick, and the comparison.
//!
//! Comparing *all* with random ties is best for one sidecar that counts exactly. Comparing a few
//! random ones (Mitzenmacher, "The power of two choices", 2001) gains most of that and keeps many
//! sidecars, or one with stale figures, from stampeding to whichever endpoint looks idle.
//!
//! A comparison of all must not be the slow part of a request at 300 endpoints. So costs are kept
//! up to date as events come, not computed at the pick, and kept as `f32`'s bits in a flat array:
//! those of non-negative numbers are ordered as the numbers are, and a minimum over integers is
//! what the compiler vectorises.

use std::fmt;

use rand::{Rng, RngExt as _};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::{EndpointId, two_distinct};
use crate::policy::ready::ReadySet;

/// How many distinct endpoints are compared for a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choices {
    /// So many random ones, from 2 to [`Choices::MOST`].
    Of(u8),
    /// Every ready endpoint.
    All,
}

impl Choices {
    /// The most random ones that are compared: beyond it, draws cost more than looking at all.
    pub const MOST: u8 = 16;
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ChoicesVisitor)
    }
}

struct ChoicesVisitor;

impl Visitor<'_> for ChoicesVisitor {
    type Value = Choices;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number from 2 to {} or \"all\"", Choices::MOST)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Choices, E> {
        match u8::try_from(number) {
            Ok(number @ 2..=Choices::MOST) => Ok(Choices::Of(number)),
            _ => Err(E::invalid_value(serde::de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Choices, E> {
        match text {
            "all" => Ok(Choices::All),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }
}

/// What each endpoint would cost if it were picked, in the unit of whoever sets it.
#[derive(Clone, Debug)]
pub(super) struct Costs(Vec<u32>);

impl Costs {
    pub(super) fn new(endpoints: usize) -> Self {
        Self(vec![0; endpoints])
    }

    /// `cost` is 0 or more; it is kept with the 24 significant bits of an `f32`.
    pub(super) fn set(&mut self, endpoint: EndpointId, cost: f64) {
        assert!(cost >= 0.0, "a cost is a number, and not negative");
        self.0[endpoint.0] = (cost as f32).to_bits();
    }

    /// The one of least cost among as many of `ready` as `choices` says; a draw among equals.
    pub(super) fn least(
        &self,
        ready: &ReadySet,
        choices: Choices,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        match choices {
            Choices::Of(2) => {
                let (first, second) = two_distinct(ready, rng)?;
                // The pair is in random order, so a tie is broken at random.
                Some(if self.0[second.0] < self.0[first.0] { second } else { first })
            }
            Choices::Of(many) if usize::from(many) < ready.len() => {
                let mut drawn = [EndpointId(0); Choices::MOST as usize];
                let drawn = &mut drawn[..usize::from(many)];
                draw_distinct(ready.as_slice(), drawn, rng);
                self.least_of(drawn, rng)
            }
            _ if ready.len() == self.0.len() => {
                nth_least(self.0.iter().copied(), rng).map(EndpointId)
            }
            _ => self.least_of(ready.as_slice(), rng),
        }
    }

    fn least_of(&self, list: &[EndpointId], rng: &mut dyn Rng) -> Option<EndpointId> {
        let costs = list.iter().map(|endpoint| self.0[endpoint.0]);
        nth_least(costs, rng).map(|place| list[place])
    }
}

/// The place of a least one of `costs`, each of them equally likely.
fn nth_least(costs: impl Iterator<Item = u32> + Clone, rng: &mut dyn Rng) -> Option<usize> {
    // Passes with nothing but arithmetic in them are faster than one with a draw at every tie.
    let least = costs.clone().min()?;
    let ties = costs.clone().map(|cost| u32::from(cost == least)).sum::<u32>();
    let mut skip = if ties == 1 { 0 } else { rng.random_range(0..ties) };
    costs.enumerate().find_map(|(place, cost)| match (cost == least, skip) {
        (true, 0) => Some(place),
        (true, _) => {
            skip -= 1;
            None
        }
        (false, _) => None,
    })
}

/// Fills `drawn` with different members of `list`, which has more than that. Floyd's sampling: as
/// many draws as are wanted, whatever the length of the list. The order is not random.
pub(super) fn draw_distinct(list: &[EndpointId], drawn: &mut [EndpointId], rng: &mut dyn Rng) {
    let many = drawn.len();
    for (filled, last) in (list.len() - many..list.len()).enumerate() {
        let any = list[rng.random_range(0..=last)];
        let taken = drawn[..filled].contains(&any);
        drawn[filled] = if taken { list[last] } else { any };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::rng::stream;

    #[derive(Debug, Deserialize)]
    struct Table {
        choices: Choices,
    }

    #[test]
    fn choices_are_a_few_or_all() {
        let read = |text: &str| toml::from_str::<Table>(text).map(|table| table.choices);
        assert_eq!(read("choices = 2"), Ok(Choices::Of(2)));
        assert_eq!(read("choices = 16"), Ok(Choices::Of(16)));
        assert_eq!(read("choices = \"all\""), Ok(Choices::All));
        for wrong in ["1", "17", "-2", "\"most\"", "true"] {
            let error = read(&format!("choices = {wrong}")).unwrap_err().to_string();
            assert!(error.contains("a number from 2 to 16 or \"all\""), "{error}");
        }
    }

    #[test]
    fn draws_are_distinct_and_every_set_is_equally_likely() {
        let list: Vec<_> = (0..5).map(EndpointId).collect();
        let mut rng = stream(1, "test");
        let mut sets = BTreeMap::new();
        for _ in 0..10_000 {
            let mut drawn = [EndpointId(9); 3];
            draw_distinct(&list, &mut drawn, &mut rng);
            *sets.entry(BTreeSet::from(drawn)).or_insert(0) += 1;
        }
        // C(5, 3) sets of 3, each 1000 times, give or take five standard deviations of 30.
        assert_eq!(sets.len(), 10);
        assert!(sets.iter().all(|(set, n)| set.len() == 3 && (850..=1150).contains(n)), "{sets:?}");
    }

    #[test]
    fn the_least_is_found_and_ties_are_drawn_whoever_is_compared() {
        let mut costs = Costs::new(6);
        for (place, cost) in [0.5, 2.0, 1.0, 1.0, 3.0, 1.0].into_iter().enumerate() {
            costs.set(EndpointId(place), cost);
        }
        let mut rng = stream(1, "test");
        let picks = |ready: &ReadySet, choices, rng: &mut dyn Rng| {
            let mut picks = [0; 6];
            (0..3000).for_each(|_| picks[costs.least(ready, choices, rng).unwrap().0] += 1);
            picks
        };
        assert_eq!(picks(&ReadySet::all(6), Choices::All, &mut rng), [3000, 0, 0, 0, 0, 0]);
        let without = ReadySet::of(6, |endpoint| endpoint.0 != 0);
        for (choices, low, high) in [(Choices::All, 900, 1100), (Choices::Of(4), 900, 1100)] {
            let ties = picks(&without, choices, &mut rng);
            assert!([2, 3, 5].iter().all(|i| (low..high).contains(&ties[*i])), "{ties:?}");
        }
    }
}

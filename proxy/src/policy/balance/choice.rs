//! How many endpoints are compared for a pick, and the comparison.
//!
//! Comparing *all* with random ties is best for one sidecar that counts exactly. Comparing a few
//! random ones (Mitzenmacher, "The power of two choices", 2001) gains most of that and keeps many
//! sidecars, or one with stale figures, from stampeding to whichever endpoint looks idle.
//!
//! A comparison of all must not be the slow part of a request at 300 endpoints. So costs are kept
//! up to date as events come, not computed at the pick; they are kept as `f32`'s bits, because those
//! of non-negative numbers are ordered as the numbers are and comparing integers is what compilers
//! vectorise; and the least of each block of them is kept too, with how many equal it, so that a pick
//! looks at two numbers in sixteen and at the one block that it falls on.

use std::fmt;

use rand::{Rng, RngExt as _};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

impl Serialize for Choices {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Choices::Of(many) => serializer.serialize_u8(*many),
            Choices::All => serializer.serialize_str("all"),
        }
    }
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

/// Endpoints in a block: the least of so many is found again, at each event, within a few
/// instructions.
const BLOCK: usize = 16;

/// The cost of a place beyond the last endpoint: more than any number's bits.
const NOBODY: i32 = i32::MAX;

/// What each endpoint would cost if it were picked, in the unit of whoever sets it.
#[derive(Clone, Debug)]
pub(super) struct Costs {
    endpoints: usize,
    blocks: Vec<[i32; BLOCK]>,
    /// By block.
    least: Vec<i32>,
    /// By block, how many of it cost the least.
    ties: Vec<u32>,
}

impl Costs {
    /// All are 0.
    pub(super) fn new(endpoints: usize) -> Self {
        let mut blocks = vec![[0; BLOCK]; endpoints.div_ceil(BLOCK)];
        blocks.as_flattened_mut()[endpoints..].fill(NOBODY);
        let least = vec![0; blocks.len()];
        let ties = blocks.iter().map(|block| ties_in(block, 0)).collect();
        Self { endpoints, blocks, least, ties }
    }

    /// `cost` is 0 or more; it is kept with the 24 significant bits of an `f32`.
    pub(super) fn set(&mut self, endpoint: EndpointId, cost: f64) {
        assert!(cost >= 0.0, "a cost is a number, and not negative");
        let block = &mut self.blocks[endpoint.0 / BLOCK];
        // The sign's bit is not set: the bits are as a signed number what they are as another.
        block[endpoint.0 % BLOCK] = (cost as f32).to_bits().cast_signed();
        let least = block.iter().copied().fold(NOBODY, i32::min);
        self.least[endpoint.0 / BLOCK] = least;
        self.ties[endpoint.0 / BLOCK] = ties_in(block, least);
    }

    fn get(&self, endpoint: EndpointId) -> i32 {
        self.blocks[endpoint.0 / BLOCK][endpoint.0 % BLOCK]
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
                Some(if self.get(second) < self.get(first) { second } else { first })
            }
            Choices::Of(many) if usize::from(many) < ready.len() => {
                let mut drawn = [EndpointId(0); Choices::MOST as usize];
                let drawn = &mut drawn[..usize::from(many)];
                draw_distinct(ready.as_slice(), drawn, rng);
                self.least_of(drawn, rng)
            }
            _ if ready.len() == self.endpoints => self.least_of_all(rng),
            _ => self.least_of(ready.as_slice(), rng),
        }
    }

    /// The same as [`Costs::least_of`] all, in their order.
    fn least_of_all(&self, rng: &mut dyn Rng) -> Option<EndpointId> {
        let least = self.least.iter().copied().min()?;
        let blocks = || self.least.iter().zip(&self.ties);
        // Multiplied and not skipped: what does not branch is done for several blocks at once.
        let ties = blocks().map(|(of, ties)| u32::from(*of == least) * ties).sum();
        let mut skip = one_of(ties, rng);
        for (number, (of, ties)) in blocks().enumerate() {
            if *of != least {
                continue;
            }
            if skip < *ties {
                let place = nth(self.blocks[number].iter().copied(), least, skip)?;
                return Some(EndpointId(number * BLOCK + place));
            }
            skip -= ties;
        }
        None
    }

    fn least_of(&self, list: &[EndpointId], rng: &mut dyn Rng) -> Option<EndpointId> {
        // Passes with nothing but arithmetic in them are faster than one with a draw at every tie.
        let costs = || list.iter().map(|endpoint| self.get(*endpoint));
        let least = costs().min()?;
        let ties = costs().map(|cost| u32::from(cost == least)).sum();
        let place = nth(costs(), least, one_of(ties, rng))?;
        Some(list[place])
    }
}

/// How many of a block cost so much.
fn ties_in(block: &[i32; BLOCK], cost: i32) -> u32 {
    block.iter().map(|other| u32::from(*other == cost)).sum()
}

/// One of so many, each of them equally likely. Draws nothing where there is nothing to draw.
fn one_of(ties: u32, rng: &mut dyn Rng) -> u32 {
    if ties == 1 { 0 } else { rng.random_range(0..ties) }
}

/// The place of the cost that equals `least` after so many others.
fn nth(mut costs: impl Iterator<Item = i32>, least: i32, mut skip: u32) -> Option<usize> {
    costs.position(|cost| {
        let is_it = cost == least && skip == 0;
        skip -= u32::from(cost == least && skip > 0);
        is_it
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

    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

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

    proptest! {
        /// The blocks are a shorter way to the same pick, with the same draws.
        #[test]
        fn blocks_change_no_pick(
            costs in prop::collection::vec(0..4u8, 1..100),
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8), 0..50),
            seed in any::<u64>(),
        ) {
            let mut kept = Costs::new(costs.len());
            for (place, cost) in costs.iter().enumerate() {
                kept.set(EndpointId(place), f64::from(*cost));
            }
            let list: Vec<_> = (0..costs.len()).map(EndpointId).collect();
            let (mut one, mut other) = (stream(seed, "test"), stream(seed, "test"));
            for (place, cost) in changes {
                kept.set(EndpointId(place.index(costs.len())), f64::from(cost));
                prop_assert_eq!(kept.least_of_all(&mut one), kept.least_of(&list, &mut other));
            }
            prop_assert_eq!(one.random::<u64>(), other.random::<u64>());
        }
    }
}

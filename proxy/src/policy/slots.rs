//! Which place each endpoint has in the arrays of its cluster, while endpoints come and go. Pure.
//!
//! Everything that is known of an endpoint lies in flat arrays by place, and requests in flight
//! name their endpoint by it. So a place keeps its endpoint for as long as anybody may speak of it:
//! - Who stays keeps its place, whatever the order of the new list. Endpoints are told apart by
//!   address; of equal ones, the first in the list is the one that was first.
//! - Who goes is *leaving*: nothing new is sent to it, and its place is not given away while a
//!   request, a connection or a question to it is still under way.
//! - Who leaves and is back before its place was free has it again.
//! - Who is new takes the first free place, or else one at the end. Free places at the end are
//!   given up.
//!
//! So there are never more places than there were endpoints, listed or leaving, at one moment:
//! however many updates come, memory is bounded by the largest list and what was in flight.

use super::balance::EndpointId;

/// Who has a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot<K> {
    /// An endpoint of the present list.
    Listed(K),
    /// One that is no longer on it, and of which somebody may still speak.
    Leaving(K),
    /// Nobody.
    Free,
}

/// What an update is to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its endpoint is listed as before.
    Stays,
    /// Its endpoint was leaving, and is listed again.
    Returns,
    /// It has an endpoint that was not there before.
    Joins,
    /// Its endpoint is not listed, and may have requests in flight.
    Leaves,
    /// It has nobody.
    Free,
}

impl Fate {
    /// True when requests in flight may still be counted at the place.
    pub fn keeps_counts(self) -> bool {
        matches!(self, Fate::Stays | Fate::Returns | Fate::Leaves)
    }

    /// True when the place's endpoint is on the list.
    pub fn is_listed(self) -> bool {
        matches!(self, Fate::Stays | Fate::Returns | Fate::Joins)
    }
}

/// A new distribution of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seating {
    /// What becomes of each place.
    pub fates: Vec<Fate>,
    /// The place of each wanted endpoint, in their order.
    pub places: Vec<EndpointId>,
}

/// Gives each of `wanted` a place among `slots`. Those that leave and of whom nobody speaks any
/// more have to be [`Slot::Free`] already.
pub fn seat<K: PartialEq>(slots: &[Slot<K>], wanted: &[K]) -> Seating {
    let mut fates: Vec<Fate> = slots
        .iter()
        .map(|slot| match slot {
            Slot::Listed(_) | Slot::Leaving(_) => Fate::Leaves,
            Slot::Free => Fate::Free,
        })
        .collect();
    let mut places = vec![None; wanted.len()];
    // Those that are there come first: a newcomer must not take the place of one further down.
    for (place, key) in places.iter_mut().zip(wanted) {
        let mut known = slots.iter().zip(&fates).enumerate();
        let found = known.find_map(|(index, (slot, fate))| match slot {
            _ if *fate != Fate::Leaves => None,
            Slot::Listed(has) if has == key => Some((index, Fate::Stays)),
            Slot::Leaving(has) if has == key => Some((index, Fate::Returns)),
            _ => None,
        });
        if let Some((index, fate)) = found {
            fates[index] = fate;
            *place = Some(EndpointId(index));
        }
    }
    let places = places.into_iter().map(|known| {
        known.unwrap_or_else(|| {
            let free = fates.iter().position(|fate| *fate == Fate::Free);
            let index = free.unwrap_or(fates.len());
            fates.resize(fates.len().max(index + 1), Fate::Free);
            fates[index] = Fate::Joins;
            EndpointId(index)
        })
    });
    let places = places.collect();
    while fates.last() == Some(&Fate::Free) {
        fates.pop();
    }
    Seating { fates, places }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn places(seating: &Seating) -> Vec<usize> {
        seating.places.iter().map(|place| place.0).collect()
    }

    #[test]
    fn who_stays_keeps_its_place_whatever_the_order() {
        let slots = [Slot::Listed('a'), Slot::Listed('b'), Slot::Listed('c')];
        let seating = seat(&slots, &['d', 'c', 'a']);
        assert_eq!(seating.fates, [Fate::Stays, Fate::Leaves, Fate::Stays, Fate::Joins]);
        assert_eq!(places(&seating), [3, 2, 0]);
    }

    #[test]
    fn a_place_is_given_away_only_when_it_is_free() {
        let slots = [Slot::Leaving('a'), Slot::Free, Slot::Listed('c'), Slot::Free];
        let seating = seat(&slots, &['c', 'd']);
        assert_eq!(seating.fates, [Fate::Leaves, Fate::Joins, Fate::Stays]);
        let seating = seat(&slots, &['a']);
        assert_eq!(seating.fates, [Fate::Returns, Fate::Free, Fate::Leaves]);
    }

    #[test]
    fn an_address_that_is_listed_twice_has_two_places() {
        let seating = seat(&[Slot::Listed('a')], &['a', 'a']);
        assert_eq!(seating.fates, [Fate::Stays, Fate::Joins]);
    }

    proptest! {
        /// However lists and references change, nobody's place changes while it is listed or
        /// spoken of, and there are no more places than there were endpoints at one moment.
        #[test]
        fn places_are_stable_and_few(
            updates in prop::collection::vec(
                (prop::collection::btree_set(0..12_u8, 1..6), any::<u16>()), 1..60,
            ),
        ) {
            let mut slots: Vec<Slot<u8>> = Vec::new();
            let mut most = 0;
            for (wanted, spoken_of) in updates {
                for slot in &mut slots {
                    if let Slot::Leaving(who) = slot && spoken_of & (1 << *who) == 0 {
                        *slot = Slot::Free;
                    }
                }
                let wanted: Vec<u8> = wanted.into_iter().collect();
                let Seating { fates, places } = seat(&slots, &wanted);
                let distinct: BTreeSet<_> = places.iter().collect();
                prop_assert_eq!(distinct.len(), wanted.len());
                let before = std::mem::take(&mut slots);
                for (place, fate) in fates.iter().enumerate() {
                    let here = places.iter().position(|at| at.0 == place).map(|at| wanted[at]);
                    prop_assert_eq!(here.is_some(), fate.is_listed());
                    let had = before.get(place).and_then(|slot| match slot {
                        Slot::Listed(who) | Slot::Leaving(who) => Some(*who),
                        Slot::Free => None,
                    });
                    if let Some(had) = had {
                        prop_assert!(here.is_none_or(|who| who == had), "a place was taken");
                    }
                    slots.push(match (here, had, fate) {
                        (Some(who), ..) => Slot::Listed(who),
                        (None, Some(had), Fate::Leaves) => Slot::Leaving(had),
                        _ => Slot::Free,
                    });
                }
                let lost = before.len().saturating_sub(slots.len());
                prop_assert!(before[before.len() - lost..].iter().all(|slot| *slot == Slot::Free));
                let there = slots.iter().filter(|slot| **slot != Slot::Free).count();
                most = most.max(there);
                prop_assert!(slots.len() <= most, "{} places for {}", slots.len(), most);
            }
        }
    }
}

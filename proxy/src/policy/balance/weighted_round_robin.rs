//! Each endpoint in turn, as often as its weight says, evenly spread.
//!
//! Two naive ways fail. Handing each endpoint its whole weight in a row sends bursts; drawing by
//! weight gives shares that are right only in the long run. This one is exact: with weights 15
//! and 10, *every* five picks in a row are 3 and 2.
//!
//! Picture a time that only picks move. An endpoint of weight w has a tick every 1/w of it, for
//! ever, and picks go to the ticks in order (earliest deadline first, as Envoy's scheduler). What
//! keeps the promises is that an endpoint's ticks are *fixed*, and those of endpoints that are not
//! ready are passed over:
//! - In a stretch of 1/gcd(weights), an endpoint of weight w has exactly w/gcd ticks. So any
//!   window of sum/gcd picks is exact while the ready set stays as it is, from its first pick on.
//! - Whoever comes back neither catches up on what it missed, nor waits longer than its own
//!   interval; one that flaps shifts nobody else's ticks. A scheduler that starts anew at each
//!   change favours whoever is first in it, once changes come faster than rounds.
//! - Times are fractions of integers compared by cross-multiplication. Floating point would order
//!   ticks that coincide now one way and now the other, and shares would be inexact.
//!
//! Where the ticks begin is free, and decides about smoothness: if all began together, weights
//! 5, 1, 1 would be picked A A A A A B C. Endpoints of equal weight begin at even distances, and
//! the groups of equal weight are shifted against each other by the golden ratio, which keeps
//! any number of them apart. Gaps then vary by less than one pick for each endpoint whose weight
//! is not a multiple of the own, and not at all between equal weights.

use std::cmp::{Ordering, Reverse};
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::time::Instant;

use rand::{Rng, RngExt as _};

use super::{Balancer, EndpointId, EndpointLoad, InFlight, LoadEvent, Member, same, weights};
use crate::policy::ready::ReadySet;

/// Steps from one tick of an endpoint to its next. A power of two, and so fine that where ticks
/// begin is as good as continuous; so coarse that 64 bits of steps last for 2^48 picks of an
/// endpoint, nine years at a million a second.
const STEPS: u64 = 1 << 16;

/// The golden ratio's part of [`STEPS`]: multiples of it fall ever again into the widest gap.
const GOLDEN: u64 = 40_503;

/// An endpoint's next tick. It lies at `steps / weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tick {
    steps: u64,
    weight: u32,
    endpoint: EndpointId,
}

impl Ord for Tick {
    fn cmp(&self, other: &Self) -> Ordering {
        let mine = u128::from(self.steps) * u128::from(other.weight);
        let theirs = u128::from(other.steps) * u128::from(self.weight);
        mine.cmp(&theirs).then(self.endpoint.cmp(&other.endpoint))
    }
}

impl PartialOrd for Tick {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Tick {
    /// Its endpoint's first tick after `other`, at the earliest this one.
    fn after(mut self, other: Tick) -> Tick {
        if self < other {
            let there =
                u128::from(other.steps) * u128::from(self.weight) / u128::from(other.weight);
            // As many as it had made if it had always been ready: within the limit of 64 bits.
            self.steps += (there as u64).saturating_sub(self.steps) / STEPS * STEPS;
            while self < other {
                self.steps += STEPS;
            }
        }
        self
    }
}

/// The next tick of each endpoint.
#[derive(Clone, Debug)]
pub struct WeightedRoundRobin {
    weights: Vec<u32>,
    ticks: BinaryHeap<Reverse<Tick>>,
    /// Ticks that a pick passes over; empty between picks.
    passed: Vec<Tick>,
    /// False until the first pick has drawn a start. A fleet of sidecars that all began with the
    /// same endpoint would send it a burst.
    is_started: bool,
    in_flight: InFlight,
}

impl WeightedRoundRobin {
    /// A rotation that starts at a random place.
    pub fn new(members: &[Member<'_>]) -> Self {
        let weights = weights(members);
        Self {
            ticks: first_ticks(members).into_iter().map(Reverse).collect(),
            passed: Vec::with_capacity(weights.len()),
            is_started: false,
            in_flight: InFlight::new(weights.len()),
            weights,
        }
    }

    /// Moves every tick on to a random time within the first round.
    fn start(&mut self, rng: &mut dyn Rng) {
        let ticks = self.ticks.iter().map(|Reverse(tick)| tick.weight);
        let weight = ticks.fold(0, gcd);
        let steps = rng.random_range(0..STEPS);
        self.begin(Tick { steps, weight, endpoint: EndpointId(0) });
    }

    /// Moves every tick on to the time of `start`.
    fn begin(&mut self, start: Tick) {
        let ticks = std::mem::take(&mut self.ticks).into_vec();
        self.ticks = ticks.into_iter().map(|Reverse(tick)| Reverse(tick.after(start))).collect();
        self.is_started = true;
    }
}

/// Where the ticks of each endpoint begin.
fn first_ticks(members: &[Member<'_>]) -> Vec<Tick> {
    let weights = || members.iter().map(|member| member.weight);
    let mut groups: Vec<_> = weights().filter(|weight| *weight > 0).collect();
    groups.sort_unstable_by_key(|weight| Reverse(*weight));
    groups.dedup();
    let mut ticks = Vec::with_capacity(members.len());
    for (group, shift) in groups.into_iter().zip((0..).map(|n: u64| n * GOLDEN)) {
        let of_group = weights().enumerate().filter(|(_, weight)| *weight == group);
        let size = of_group.clone().count() as u64;
        ticks.extend(of_group.zip(0..).map(|((place, weight), rank)| Tick {
            steps: (shift + STEPS * rank / size) % STEPS,
            weight,
            endpoint: EndpointId(place),
        }));
    }
    ticks
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Balancer for WeightedRoundRobin {
    fn pick(
        &mut self,
        ready: &ReadySet,
        _key: Option<u64>,
        _now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        if ready.is_empty() {
            return None;
        }
        if !self.is_started {
            self.start(rng);
        }
        // Each endpoint has one tick in the heap and one of them is ready, so this ends.
        let picked = loop {
            let mut first = self.ticks.peek_mut()?;
            if ready.contains(first.0.endpoint) {
                let picked = first.0;
                first.0.steps += STEPS;
                break picked;
            }
            self.passed.push(PeekMut::pop(first).0);
        };
        for tick in self.passed.drain(..) {
            self.ticks.push(Reverse(tick.after(picked)));
        }
        Some(picked.endpoint)
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, _now: Instant) {
        self.in_flight.observe(endpoint, event);
    }

    fn load(&self, endpoint: EndpointId, _now: Instant) -> EndpointLoad {
        EndpointLoad { weight: self.weights[endpoint.0], ..self.in_flight.load(endpoint) }
    }

    fn succeed(&mut self, old: Box<dyn Balancer>, keeps: &[bool], _now: Instant) {
        let old = same::<Self>(old);
        self.in_flight.succeed(&old.in_flight, keeps);
        // The time goes on, or those that are first in it would be favoured at each change.
        if let Some(Reverse(next)) = old.ticks.peek().filter(|_| old.is_started) {
            self.begin(*next);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, prop_assume, proptest};

    use super::*;
    use crate::rng::stream;

    fn of(weights: &[u32]) -> WeightedRoundRobin {
        let members: Vec<_> =
            weights.iter().map(|weight| Member { weight: *weight, key: "" }).collect();
        WeightedRoundRobin::new(&members)
    }

    fn picks(balancer: &mut WeightedRoundRobin, ready: &ReadySet, count: usize) -> Vec<usize> {
        let now = Instant::now();
        let mut rng = stream(1, "test");
        (0..count).map(|_| balancer.pick(ready, None, now, &mut rng).unwrap().0).collect()
    }

    fn counts(picks: &[usize], endpoints: usize) -> Vec<usize> {
        (0..endpoints).map(|i| picks.iter().filter(|pick| **pick == i).count()).collect()
    }

    #[test]
    fn fifteen_to_ten_is_three_to_two_in_every_five_picks() {
        let picks = picks(&mut of(&[15, 10]), &ReadySet::all(2), 1000);
        assert!(picks.windows(5).all(|window| counts(window, 2) == [3, 2]));
    }

    #[test]
    fn a_heavy_endpoint_is_not_picked_in_a_row() {
        let picks = picks(&mut of(&[5, 1, 1]), &ReadySet::all(3), 700);
        assert!(picks.windows(7).all(|window| counts(window, 3) == [5, 1, 1]));
        // The others are never adjacent, so its runs are of 2 and 3, not of 5.
        assert!(picks.windows(2).all(|pair| pair.contains(&0)), "{picks:?}");
    }

    #[test]
    fn an_endpoint_that_comes_back_takes_its_turn_and_no_more() {
        let mut balancer = of(&[3, 1, 1, 1]);
        let without = ReadySet::of(4, |endpoint| endpoint.0 != 0);
        assert_eq!(counts(&picks(&mut balancer, &without, 300), 4), [0, 100, 100, 100]);
        // From the first pick on, as though it had never been away.
        let back = picks(&mut balancer, &ReadySet::all(4), 60);
        assert!(back.windows(6).all(|window| counts(window, 4) == [3, 1, 1, 1]), "{back:?}");
    }

    #[test]
    fn an_endpoint_that_flaps_shifts_nobody() {
        let mut balancer = of(&[2, 1, 1, 1]);
        let mut seen = [0_u32; 4];
        for n in 0..1000 {
            let ready = ReadySet::of(4, |endpoint| endpoint.0 != 1 || n % 2 == 0);
            seen[picks(&mut balancer, &ready, 1)[0]] += 1;
        }
        assert!(seen[2].abs_diff(seen[3]) <= 1 && seen[0].abs_diff(2 * seen[2]) <= 2, "{seen:?}");
    }

    proptest! {
        #[test]
        fn every_window_is_exact_and_gaps_are_even(
            weights in prop::collection::vec(1..40u32, 1..12), before in 0..4096u32,
            mask in 1..4096u32, warm_up in 0..50usize,
        ) {
            let n = weights.len();
            let set = |mask: u32| ReadySet::of(n, |endpoint| mask & (1 << endpoint.0) != 0);
            let (earlier, ready) = (set(before), set(mask));
            prop_assume!(!ready.is_empty());
            let mut balancer = of(&weights);
            if !earlier.is_empty() {
                picks(&mut balancer, &earlier, warm_up);
            }
            let divisor = ready.as_slice().iter().map(|e| weights[e.0]).fold(0, gcd);
            let shares: Vec<_> = (0..n)
                .map(|i| if ready.contains(EndpointId(i)) { (weights[i] / divisor) as usize } else { 0 })
                .collect();
            let round = shares.iter().sum::<usize>();
            let picks = picks(&mut balancer, &ready, 3 * round);
            for window in picks.windows(round) {
                prop_assert_eq!(&counts(window, n), &shares);
            }
            for i in (0..n).filter(|i| shares[*i] > 0) {
                let even = round as f64 / shares[i] as f64;
                let others = shares.iter().filter(|s| **s > 0 && **s % shares[i] != 0).count() as f64;
                let places: Vec<_> = (0..picks.len()).filter(|p| picks[*p] == i).collect();
                for pair in places.windows(2) {
                    let off = ((pair[1] - pair[0]) as f64 - even).abs();
                    prop_assert!(off == 0.0 || off < others, "{} off by {}", i, off);
                }
            }
        }
    }
}

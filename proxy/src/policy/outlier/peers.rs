//! Is this endpoint different from its peers?
//!
//! Envoy ejects below `mean − 1.9·stdev`, both taken over all hosts, the bad ones included. A bad
//! host drags the mean towards itself and inflates the deviation, so the test is blind for four
//! hosts or fewer and for `k` bad ones as soon as k/N ≥ 21.7 %: for any size of the fault, because
//! the test only knows ratios. Three things are different here:
//! - An endpoint is compared with the **median of the others**. Neither it nor any minority of bad
//!   peers moves that. Of an even number of peers the better of the two middle ones counts: half
//!   of the peers do at least so well. So two endpoints are enough, and up to half of them may be
//!   bad at once; of a majority nobody can say from a comparison who is at fault.
//! - The **spread** is the median absolute deviation of the others, scaled to a standard deviation
//!   (Hampel, "The influence curve and its role in robust estimation", 1974).
//! - As the spread of two good peers is often 0, a rate must also differ by more than **chance**,
//!   by a likelihood ratio: how many times likelier is what was counted, if the endpoint has a rate
//!   of its own, than if it shares its peers'? That weighs 2 failures of 20 and 200 of 2000 as what
//!   they are, without a table of minimum volumes.

use super::{EndpointId, Latency, SuccessRate};

/// Makes a median absolute deviation a standard deviation, for normal values.
const MAD_TO_STDEV: f64 = 1.4826;

/// What an endpoint shows; less is better.
#[derive(Clone, Copy, Debug)]
pub(super) struct Showing {
    pub(super) endpoint: EndpointId,
    pub(super) value: f64,
    pub(super) requests: u32,
}

/// The endpoints that showed enough to be compared, best first.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    sorted: Vec<Showing>,
    requests: f64,
    /// Scratch memory.
    deviations: Vec<f64>,
}

impl Peers {
    /// For clusters of so many.
    pub(super) fn with_capacity(endpoints: usize) -> Self {
        Self {
            sorted: Vec::with_capacity(endpoints),
            requests: 0.0,
            deviations: Vec::with_capacity(endpoints),
        }
    }

    pub(super) fn refill(&mut self, showings: impl Iterator<Item = Showing>) {
        self.sorted.clear();
        self.sorted.extend(showings);
        self.sorted.sort_unstable_by(|a, b| a.value.total_cmp(&b.value));
        self.requests = self.sorted.iter().map(|showing| f64::from(showing.requests)).sum();
    }

    /// The median of all.
    pub(super) fn median(&self) -> Option<f64> {
        let middle = self.sorted.len().checked_sub(1)? / 2;
        Some(self.sorted[middle].value)
    }

    /// Those whose failure rate is out of line, each with it.
    pub(super) fn failing(&mut self, options: &SuccessRate, found: impl FnMut(Showing)) {
        let needed = libm::log(options.min_odds);
        let requests = self.requests;
        self.above(found, |showing, median, spread| {
            let gap = showing.value - median;
            // Half of the peers' requests stand behind a median of theirs.
            let behind = (requests - f64::from(showing.requests)) / 2.0;
            gap >= options.min_gap
                && gap >= options.spread_factor * spread()
                && log_odds(showing.value, f64::from(showing.requests), median, behind) >= needed
        });
    }

    /// Those whose latency, in seconds, is out of line.
    pub(super) fn slow(&mut self, options: &Latency, found: impl FnMut(Showing)) {
        self.above(found, |showing, median, spread| {
            showing.value >= options.floor.as_secs_f64()
                && showing.value >= options.factor * median
                && showing.value - median >= options.spread_factor * spread()
        });
    }

    /// Those that show `threshold` or more, worst first.
    pub(super) fn from(&self, threshold: f64, found: impl FnMut(Showing)) {
        let worst_first = self.sorted.iter().rev().copied();
        worst_first.take_while(|showing| showing.value >= threshold).for_each(found);
    }

    /// Tells `found` of those that `stands_out` of the median and the spread of their peers, worst
    /// first. The spread costs a pass over the peers, so it is computed only if it is asked for.
    fn above(
        &mut self,
        mut found: impl FnMut(Showing),
        stands_out: impl Fn(Showing, f64, &mut dyn FnMut() -> f64) -> bool,
    ) {
        if self.sorted.len() < 2 {
            return;
        }
        // Among the others, the last of the better half.
        let middle = (self.sorted.len() - 2) / 2;
        for rank in (0..self.sorted.len()).rev() {
            let showing = self.sorted[rank];
            let median = self.sorted[if rank <= middle { middle + 1 } else { middle }].value;
            let (sorted, deviations) = (&self.sorted, &mut self.deviations);
            let mut spread = || spread_without(sorted, rank, median, deviations);
            if stands_out(showing, median, &mut spread) {
                found(showing);
            }
        }
    }
}

/// The robust standard deviation about `median` of all but the one at `rank`.
fn spread_without(sorted: &[Showing], rank: usize, median: f64, deviations: &mut Vec<f64>) -> f64 {
    let others = sorted.iter().enumerate().filter(|(other, _)| *other != rank);
    deviations.clear();
    deviations.extend(others.map(|(_, showing)| libm::fabs(showing.value - median)));
    let middle = (deviations.len() - 1) / 2;
    *deviations.select_nth_unstable_by(middle, f64::total_cmp).1 * MAD_TO_STDEV
}

/// The natural logarithm of how many times likelier it is to see a failure rate of `mine` in
/// `my_requests` and of `theirs` in `their_requests` if each has its own than if both share one.
fn log_odds(mine: f64, my_requests: f64, theirs: f64, their_requests: f64) -> f64 {
    let shared = (mine * my_requests + theirs * their_requests) / (my_requests + their_requests);
    my_requests * divergence(mine, shared) + their_requests * divergence(theirs, shared)
}

/// Kullback and Leibler's divergence of a yes with probability `from` from one with `to`, which is
/// not 0 or 1 unless `from` is.
fn divergence(from: f64, to: f64) -> f64 {
    let term = |p: f64, q: f64| if p > 0.0 { p * libm::log(p / q) } else { 0.0 };
    term(from, to) + term(1.0 - from, 1.0 - to)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn peers(values: &[f64], requests: u32) -> Peers {
        let mut peers = Peers::default();
        let showings = values.iter().enumerate();
        peers.refill(showings.map(|(i, value)| Showing {
            endpoint: EndpointId(i),
            value: *value,
            requests,
        }));
        peers
    }

    fn failing(values: &[f64], requests: u32) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut add = |showing: Showing| assert!(found.insert(showing.endpoint.0));
        peers(values, requests).failing(&SuccessRate::default(), &mut add);
        found
    }

    fn slow(values_ms: &[f64]) -> BTreeSet<usize> {
        let seconds: Vec<_> = values_ms.iter().map(|ms| ms / 1000.0).collect();
        let mut found = BTreeSet::new();
        peers(&seconds, 100)
            .slow(&Latency::default(), |showing| assert!(found.insert(showing.endpoint.0)));
        found
    }

    /// What mean − 1.9·stdev cannot do: any number of endpoints from two, up to half of them bad.
    #[test]
    fn up_to_half_of_any_number_of_endpoints_are_found_and_no_more() {
        for endpoints in 2..=40 {
            for bad in 1..endpoints {
                let rate = |i| if i < bad { 0.3 } else { 0.01 };
                let rates: Vec<f64> = (0..endpoints).map(rate).collect();
                let found = failing(&rates, 200);
                let all_bad: BTreeSet<_> = (0..bad).collect();
                let expected = if bad <= endpoints / 2 { all_bad.clone() } else { found.clone() };
                assert_eq!(found, expected, "{bad} of {endpoints}");
                assert!(found.is_subset(&all_bad), "{bad} of {endpoints}");
            }
            assert!(failing(&vec![0.3; endpoints], 200).is_empty());
        }
    }

    /// Envoy's test on the same numbers, to show that the claim about it is one.
    #[test]
    fn mean_and_deviation_are_blind_where_the_median_is_not() {
        let envoy_finds = |rates: &[f64]| {
            let n = rates.len() as f64;
            let mean = rates.iter().sum::<f64>() / n;
            let variance = rates.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / n;
            rates.iter().any(|r| *r > mean + 1.9 * libm::sqrt(variance))
        };
        let one_of_four = [1.0, 0.0, 0.0, 0.0];
        let three_of_ten = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert!(!envoy_finds(&one_of_four) && !envoy_finds(&three_of_ten));
        assert_eq!(failing(&one_of_four, 20).len(), 1);
        assert_eq!(failing(&three_of_ten, 20).len(), 3);
    }

    #[test]
    fn a_gap_has_to_be_wide_enough() {
        assert!(failing(&[0.0, 0.0, 0.049], 100_000).is_empty());
        assert_eq!(failing(&[0.0, 0.0, 0.051], 100_000).len(), 1);
        // The others' own spread of 1.4826 · 0.04, thrice: 0.178 above their median.
        assert!(failing(&[0.0, 0.04, 0.08, 0.21], 100_000).is_empty());
        assert_eq!(failing(&[0.0, 0.04, 0.08, 0.22], 100_000).len(), 1);
    }

    /// ln 10,000 = 9.21; a rate of 10 % against three clean peers gives 0.0947 for each request.
    #[test]
    fn a_gap_has_to_be_more_than_chance() {
        assert!(failing(&[0.0, 0.0, 0.0, 0.1], 97).is_empty());
        assert_eq!(failing(&[0.0, 0.0, 0.0, 0.1], 98).len(), 1);
    }

    #[test]
    fn latency_needs_the_factor_the_floor_and_more_than_the_usual_spread() {
        assert!(slow(&[20.0, 20.0, 99.0]).is_empty());
        assert_eq!(slow(&[20.0, 20.0, 100.0]).len(), 1);
        assert!(slow(&[1.0, 1.0, 49.0]).is_empty());
        assert_eq!(slow(&[1.0, 1.0, 50.0]).len(), 1);
        assert!(slow(&[500.0, 500.0, 500.0, 520.0]).is_empty());
        // Peers at 10, 100 and 190 ms: 100 + 3 · 1.4826 · 90 = 500.3 is above 5 · 100.
        assert!(slow(&[10.0, 100.0, 190.0, 500.2]).is_empty());
        assert_eq!(slow(&[10.0, 100.0, 190.0, 500.4]).len(), 1);
        let options = Latency { floor: Duration::ZERO, ..Latency::default() };
        let mut all = 0;
        peers(&[0.001, 0.001, 0.006], 20).slow(&options, |_| all += 1);
        assert_eq!(all, 1);
    }

    proptest! {
        /// The shortcut by rank is the median of the list without the element.
        #[test]
        fn leaving_one_out_is_leaving_it_out(values in prop::collection::vec(0.0..1.0, 2..40)) {
            let mut seen = 0;
            let mut all = peers(&values, 1);
            let sorted = all.sorted.clone();
            let found = std::cell::RefCell::new(Vec::new());
            all.above(|_| {}, |showing, median, spread| {
                found.borrow_mut().push((showing.endpoint, median, spread()));
                false
            });
            for (endpoint, median, spread) in found.into_inner() {
                let others: Vec<_> = sorted.iter().filter(|s| s.endpoint != endpoint).collect();
                prop_assert_eq!(others[(others.len() - 1) / 2].value, median);
                let mut deviations: Vec<_> =
                    others.iter().map(|s| (s.value - median).abs()).collect();
                deviations.sort_by(f64::total_cmp);
                prop_assert_eq!(deviations[(others.len() - 1) / 2] * MAD_TO_STDEV, spread);
                seen += 1;
            }
            prop_assert_eq!(seen, values.len());
        }

        /// Of the best half nobody stands out, whatever the others do.
        #[test]
        fn the_best_half_is_safe(values in prop::collection::vec(0.0..1.0, 2..40), many: bool) {
            let requests = if many { 1_000_000 } else { 20 };
            let found = failing(&values, requests);
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            for endpoint in found {
                prop_assert!(values[endpoint] >= sorted[values.len() / 2]);
            }
        }

        /// Odds are never below 1 and a number.
        #[test]
        fn odds_are_odds(mine in 0.0..=1.0, theirs in 0.0..=1.0, few in 1.0..50.0, more in any::<u32>()) {
            let odds = log_odds(mine, few, theirs, f64::from(more));
            prop_assert!(odds.is_finite() && odds >= -1e-6 * f64::from(more).max(1.0), "{odds}");
        }
    }
}

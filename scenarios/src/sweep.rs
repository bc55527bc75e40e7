//! A sweep: the same scenarios over many seeds, on all cores and on several machines.
//!
//! Nothing is kept of a run but what [`tally`] counts: what is judged is handed to a sink and
//! dropped, so that a sweep of a million seeds needs no more memory than one of ten.

pub mod shard;
pub mod tally;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::plan::jobs;
use crate::runner::{Outcome, run_here};
use crate::scenario::Scenario;
use shard::Shard;

/// All variants of one scenario with one seed, which are judged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The scenario's place in the list that was asked for.
    pub scenario: usize,
    /// What all randomness comes from.
    pub seed: u64,
    /// The seed's place in the sweep, from 0.
    pub nth_seed: u64,
}

/// What is swept over.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The first seed.
    pub base_seed: u64,
    /// How many; up to the last that there is, if absent.
    pub seeds: Option<u64>,
    /// Which part of it.
    pub shard: Shard,
}

impl Range {
    /// The `nth` item of the whole sweep, seed by seed; `None` behind the last.
    fn item(&self, scenarios: usize, nth: u64) -> Option<Item> {
        let scenarios = scenarios as u64;
        let nth_seed = nth.checked_div(scenarios)?;
        if self.seeds.is_some_and(|seeds| nth_seed >= seeds) {
            return None;
        }
        let seed = self.base_seed.checked_add(nth_seed)?;
        Some(Item { scenario: (nth % scenarios) as usize, seed, nth_seed })
    }

    /// How many items its shard has; `None` if that is not limited.
    pub fn count(&self, scenarios: usize) -> Option<u64> {
        let seeds = self.seeds?;
        let parts = (0..scenarios).map(|scenario| self.shard.part_of(scenario, seeds));
        Some(parts.fold(0, u64::saturating_add))
    }
}

/// Whether a sweep goes on.
pub trait Pace: Sync {
    /// Whether another item may begin.
    fn may_begin(&self) -> bool;
    /// Whether what is running may go on.
    fn may_go_on(&self) -> bool;
}

/// Carries out a range on all cores. Each item is handed to `sink`, on the thread that ran it, as
/// soon as it is judged; one that was given up in the middle is not.
pub fn sweep(
    scenarios: &[Scenario],
    range: &Range,
    pace: &dyn Pace,
    sink: &(dyn Fn(Item, Outcome) + Sync),
) {
    for_each(range, scenarios.len(), pace, &|item| {
        let of_item = jobs(item.scenario, &scenarios[item.scenario], item.seed..=item.seed);
        let outcome = run_here(scenarios, &of_item, &|| pace.may_go_on());
        if outcome.not_run.is_empty() {
            sink(item, outcome);
        }
    });
}

/// Does something with each item of a range of so many scenarios, on all cores.
pub fn for_each(range: &Range, scenarios: usize, pace: &dyn Pace, work_on: &(dyn Fn(Item) + Sync)) {
    let next = AtomicU64::new(0);
    let work = || {
        while pace.may_begin() {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = range.item(scenarios, nth) else { return };
            if range.shard.has(&item) {
                work_on(item);
            }
        }
    };
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).get();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_seed_by_seed_and_end() {
        let range = Range { base_seed: 5, seeds: Some(2), shard: Shard::WHOLE };
        let all: Vec<_> = (0..9).map_while(|nth| range.item(2, nth)).collect();
        let short: Vec<_> = all.iter().map(|item| (item.scenario, item.seed)).collect();
        assert_eq!(short, [(0, 5), (1, 5), (0, 6), (1, 6)]);
        assert_eq!(range.count(2), Some(4));
        let half = Range { shard: "2/2".parse().unwrap(), ..range };
        assert_eq!(half.count(2), Some(2));
    }

    #[test]
    fn the_last_seed_is_the_last() {
        let range = Range { base_seed: u64::MAX, seeds: None, shard: Shard::WHOLE };
        assert!(range.item(1, 0).is_some());
        assert_eq!(range.item(1, 1), None);
        assert_eq!(range.item(0, 0), None);
    }
}

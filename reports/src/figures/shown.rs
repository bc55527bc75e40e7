//! What figures are drawn from: the summary of a scenario, and the runs behind it.

use std::collections::BTreeMap;

use crate::record::{EndpointSeries, Interval, RunRecord};
use crate::summary::{Band, ScenarioSummary, VariantSummary};

/// A scenario and its runs.
pub(crate) struct Shown<'s> {
    pub(crate) scenario: &'s ScenarioSummary,
    /// The runs of each variant, in rising order of their seeds.
    runs: Vec<Vec<&'s RunRecord>>,
}

impl<'s> Shown<'s> {
    /// Sorts the scenario's runs by variant.
    pub(crate) fn of(
        scenario: &'s ScenarioSummary,
        runs: impl Iterator<Item = &'s RunRecord> + Clone,
    ) -> Self {
        let of_variant = |v: &VariantSummary| {
            let mine = runs.clone().filter(|r| r.variant == v.variant && v.has(r));
            let mut mine: Vec<&RunRecord> = mine.collect();
            mine.sort_by_key(|r| r.seed);
            mine
        };
        let runs = scenario.variants.iter().map(of_variant).collect();
        Self { scenario, runs }
    }

    /// Each variant with its runs.
    pub(crate) fn variants(
        &self,
    ) -> impl Iterator<Item = (&'s VariantSummary, &[&'s RunRecord])> + Clone {
        self.scenario.variants.iter().zip(self.runs.iter().map(Vec::as_slice))
    }
}

/// A value of each planned interval, over the runs; behind the plan's end nothing is offered, and a
/// rate of zero there would look like an outage.
pub(super) fn over_time(
    runs: &[&RunRecord],
    value: impl Fn(usize, &Interval) -> Option<f64>,
) -> Vec<Option<Band>> {
    bands(runs.iter().map(|run| (*run, ())), |(), i, interval| value(i, interval))
}

/// A value of each planned interval at one endpoint, over the runs that have it.
pub(super) fn at_endpoint(
    runs: &[&RunRecord],
    name: &str,
    value: impl Fn(&EndpointSeries, usize) -> Option<f64>,
) -> Vec<Option<Band>> {
    let with_series = runs.iter().filter_map(|run| {
        let endpoint = run.endpoints.iter().find(|e| e.name == name)?;
        Some((*run, &endpoint.series))
    });
    bands(with_series, |series, i, _| value(series, i))
}

fn bands<'r, T: Copy>(
    runs: impl Iterator<Item = (&'r RunRecord, T)>,
    value: impl Fn(T, usize, &Interval) -> Option<f64>,
) -> Vec<Option<Band>> {
    let mut by_start: BTreeMap<u64, (f64, Vec<f64>)> = BTreeMap::new();
    for (run, of) in runs {
        for (i, interval) in planned(run) {
            let values = by_start.entry(interval.start_ms).or_insert((middle_s(interval), vec![]));
            values.1.extend(value(of, i, interval).filter(|v| v.is_finite()));
        }
    }
    by_start.into_values().map(|(at_s, values)| Band::of(at_s, values)).collect()
}

/// The intervals up to the end of the plan, with their positions.
pub(super) fn planned(run: &RunRecord) -> impl Iterator<Item = (usize, &Interval)> {
    let duration_ms = run.plan.duration_ms;
    run.intervals.iter().enumerate().filter(move |(_, i)| i.start_ms < duration_ms)
}

fn middle_s(interval: &Interval) -> f64 {
    (interval.start_ms as f64 + interval.length_ms as f64 / 2.0) / 1e3
}

/// A count of an interval as a rate, per second.
pub(super) fn per_second(count: u64, interval: &Interval) -> Option<f64> {
    (interval.length_ms > 0).then(|| count as f64 * 1e3 / interval.length_ms as f64)
}

//! What happened over time: per interval, the median over seeds and how far the seeds differ.

use std::collections::BTreeMap;

use crate::record::{CoarseHistogram, Interval, RunRecord};

/// One interval, over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// The middle of the interval, in seconds from the start of the run.
    pub at_s: f64,
    /// Median over seeds; of a percentile, that of all seeds' requests together.
    pub median: f64,
    /// Smallest of any seed.
    pub min: f64,
    /// Largest of any seed.
    pub max: f64,
}

impl Band {
    /// Over the values of the seeds; `None` when no seed has one.
    pub fn of(at_s: f64, mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Self { at_s, median, min, max })
    }
}

/// Series over the intervals of a run; `None` where there was nothing to measure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// Median response time of the requests planned in the interval, in milliseconds.
    pub p50_ms: Vec<Option<Band>>,
    /// The same for the 99th percentile.
    pub p99_ms: Vec<Option<Band>>,
    /// Requests planned, per second.
    pub offered_per_s: Vec<Option<Band>>,
    /// Requests planned in the interval that were answered well and in time, per second.
    pub ok_per_s: Vec<Option<Band>>,
    /// Where the last interval ends, in seconds.
    pub end_s: f64,
}

/// The intervals of several runs, put beside each other by the time at which they begin.
pub(super) fn summarise(runs: &[&RunRecord]) -> Timeline {
    let mut by_start: BTreeMap<u64, Vec<&Interval>> = BTreeMap::new();
    for run in runs {
        for (_, interval) in planned(run) {
            by_start.entry(interval.start_ms).or_default().push(interval);
        }
    }
    let series = |value: &dyn Fn(&Interval) -> Option<f64>| -> Vec<Option<Band>> {
        by_start
            .values()
            .map(|seeds| {
                let values: Vec<f64> = seeds.iter().filter_map(|i| value(i)).collect();
                Band::of(middle_s(seeds[0]), values)
            })
            .collect()
    };
    let end_ms = by_start.values().flatten().map(|i| i.start_ms + i.length_ms).max().unwrap_or(0);
    Timeline {
        p50_ms: merged(&by_start, 0.5, series(&|i| i.response_us.map(|q| q.p50 as f64 / 1e3))),
        p99_ms: merged(&by_start, 0.99, series(&|i| i.response_us.map(|q| q.p99 as f64 / 1e3))),
        offered_per_s: series(&|i| per_second(i.accounting.planned, i)),
        ok_per_s: series(&|i| per_second(i.accounting.ok, i)),
        end_s: end_ms as f64 / 1e3,
    }
}

/// The bands with the percentile of all seeds' requests together in their middle, where every seed
/// has its times. The range stays that of the seeds.
fn merged(
    by_start: &BTreeMap<u64, Vec<&Interval>>,
    quantile: f64,
    mut bands: Vec<Option<Band>>,
) -> Vec<Option<Band>> {
    for (band, seeds) in bands.iter_mut().zip(by_start.values()) {
        let mut all = CoarseHistogram::new();
        let whole = seeds.iter().all(|interval| {
            interval.response.iter().for_each(|response| all.merge(response));
            interval.response.is_some() || interval.response_us.is_none()
        });
        // Of one seed the finer one is known.
        if seeds.len() > 1
            && whole
            && let (Some(band), Some(time)) = (band.as_mut(), all.quantile(quantile))
        {
            band.median = (time.as_secs_f64() * 1e3).clamp(band.min, band.max);
        }
    }
    bands
}

/// The intervals up to the end of the plan, with their positions; behind it nothing is planned, and
/// a rate of zero there would look like an outage.
pub(super) fn planned(run: &RunRecord) -> impl Iterator<Item = (usize, &Interval)> {
    let duration_ms = run.plan.duration_ms;
    run.intervals.iter().enumerate().filter(move |(_, i)| i.start_ms < duration_ms)
}

/// The middle of an interval, in seconds.
pub(super) fn middle_s(interval: &Interval) -> f64 {
    (interval.start_ms as f64 + interval.length_ms as f64 / 2.0) / 1e3
}

fn per_second(count: u64, interval: &Interval) -> Option<f64> {
    (interval.length_ms > 0).then(|| count as f64 * 1e3 / interval.length_ms as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_is_the_median_between_the_extremes() {
        let odd = Band::of(1.5, vec![3.0, 1.0, 8.0]);
        assert_eq!(odd, Some(Band { at_s: 1.5, median: 3.0, min: 1.0, max: 8.0 }));
        let even = Band::of(0.0, vec![4.0, 1.0, 2.0, 9.0]).map(|b| b.median);
        assert_eq!(even, Some(3.0));
        assert_eq!(Band::of(0.0, Vec::new()), None);
    }
}

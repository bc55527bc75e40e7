//! Long series made short without losing what matters: of what falls on one column of the drawing,
//! the smallest and the largest value stay, in the order in which they came.

use crate::summary::Band;

/// Columns of a plot over which a line is worth drawing; two points each.
const COLUMNS: usize = 380;

/// The series, with at most two points for each column of a plot. What is short is not changed.
pub(super) fn thinned(series: &[Option<Band>]) -> Vec<Option<Band>> {
    if series.len() <= 2 * COLUMNS {
        return series.to_vec();
    }
    let column = |i: usize| i * COLUMNS / series.len();
    let mut thin = Vec::with_capacity(2 * COLUMNS);
    let mut from = 0;
    while from < series.len() {
        let mut to = from + 1;
        while to < series.len() && column(to) == column(from) {
            to += 1;
        }
        thin.extend(extremes(&series[from..to]));
        from = to;
    }
    thin
}

/// The points with the lowest and the highest median, each with the range of all; a gap when there
/// is nothing else.
fn extremes(points: &[Option<Band>]) -> Vec<Option<Band>> {
    let known: Vec<Band> = points.iter().flatten().copied().collect();
    let by_median = |a: &&Band, b: &&Band| a.median.total_cmp(&b.median);
    let (Some(low), Some(high)) = (known.iter().min_by(by_median), known.iter().max_by(by_median))
    else {
        return vec![None];
    };
    let min = known.iter().map(|b| b.min).fold(f64::INFINITY, f64::min);
    let max = known.iter().map(|b| b.max).fold(f64::NEG_INFINITY, f64::max);
    let mut kept = vec![Band { min, max, ..*low }];
    if low.at_s != high.at_s {
        kept.push(Band { min, max, ..*high });
        kept.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    }
    kept.into_iter().map(Some).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(length: usize, spike: usize) -> Vec<Option<Band>> {
        let value = |i: usize| if i == spike { 1e6 } else { (i % 7) as f64 };
        let band = |i: usize| {
            let median = value(i);
            Band { at_s: i as f64, median, min: median - 1.0, max: median + 1.0 }
        };
        (0..length).map(|i| (i % 50 != 3).then(|| band(i))).collect()
    }

    #[test]
    fn a_spike_of_one_interval_in_a_day_stays() {
        for spike in [0, 1, 43_210, 86_399] {
            let thin = thinned(&series(86_400, spike));
            assert!(thin.len() <= 2 * COLUMNS);
            let kept: Vec<&Band> = thin.iter().flatten().collect();
            assert!(kept.iter().any(|b| b.median == 1e6 && b.at_s == spike as f64));
            assert!(kept.iter().any(|b| b.max == 1e6 + 1.0));
            assert!(kept.iter().any(|b| b.median == 0.0 && b.min == -1.0));
            assert!(kept.windows(2).all(|w| w[0].at_s < w[1].at_s));
        }
    }

    #[test]
    fn what_is_short_is_not_changed_and_a_long_gap_stays_a_gap() {
        let short = series(2 * COLUMNS, 5);
        assert_eq!(thinned(&short), short);
        let mut gap = series(100_000, 5);
        gap[40_000..60_000].fill(None);
        let thin = thinned(&gap);
        assert!(thin.iter().filter(|b| b.is_none()).count() > COLUMNS / 6);
    }
}

//! Two runs side by side: what differs, and by how much at least.
//!
//! A difference of two percentiles means nothing without the width of each. Percentiles have the
//! interval of their order statistics, shares that of Wilson (1927), and both are joined for the
//! difference by the method of variance estimates recovery (Zou & Donner, *Statistics in Medicine*
//! 27, 2008), which needs no assumption about the distribution. All of it takes requests to be
//! independent; neighbours in time are not, so an interval is the least that one should doubt.
//! Where several runs of each are merged, it is nearer to the truth.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::record::Record;

/// One number in two runs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Difference {
    /// What it is.
    pub name: String,
    /// Seconds, a share from 0 to 1, or a rate.
    pub unit: Unit,
    /// In the first.
    pub a: f64,
    /// In the second.
    pub b: f64,
    /// Between these the second less the first lies with 95 % confidence; `None` where there is
    /// no interval to be had.
    pub interval: Option<(f64, f64)>,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// A share of all.
    Share,
    /// Per second.
    PerSecond,
}

impl Difference {
    /// The difference may well be none.
    pub fn is_within_noise(&self) -> bool {
        self.interval.is_none_or(|(low, high)| low <= 0.0 && high >= 0.0)
    }
}

/// The percentiles that are compared.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// Everything that can be compared.
pub fn compare(a: &Record, b: &Record) -> Vec<Difference> {
    let mut differences = vec![
        Difference {
            name: "answered".to_owned(),
            unit: Unit::PerSecond,
            a: a.rate.answered_per_s,
            b: b.rate.answered_per_s,
            interval: None,
        },
        success(a, b),
    ];
    for kind in ["response", "service"] {
        let (Some(of_a), Some(of_b)) = (a.times.get(kind), b.times.get(kind)) else { continue };
        let beyond = |quantile: f64| {
            let fewest = of_a.count.min(of_b.count) as f64;
            fewest * (1.0 - quantile) >= crate::slo::SUPPORT || quantile == 1.0
        };
        for (name, quantile) in QUANTILES.into_iter().filter(|(_, q)| beyond(*q)) {
            let seconds = |d: Duration| d.as_secs_f64();
            let value = |times: &crate::record::Times| {
                let (low, high) = times.histogram.quantile_interval(quantile);
                let at = seconds(times.histogram.quantile(quantile));
                Estimate { low: seconds(low), at, high: seconds(high) }
            };
            let (one, two) = (value(of_a), value(of_b));
            differences.push(Difference {
                name: format!("{kind} {name}"),
                unit: Unit::Seconds,
                a: one.at,
                b: two.at,
                // The largest value of a sample has no bound above.
                interval: (quantile < 1.0).then(|| Estimate::difference(one, two)),
            });
        }
    }
    differences
}

fn success(a: &Record, b: &Record) -> Difference {
    let share = |record: &Record| wilson(record.accounting.ok, record.accounting.planned);
    let (one, two) = (share(a), share(b));
    Difference {
        name: "success".to_owned(),
        unit: Unit::Share,
        a: one.at,
        b: two.at,
        interval: Some(Estimate::difference(one, two)),
    }
}

/// A number, and where it may lie.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Estimate {
    low: f64,
    at: f64,
    high: f64,
}

impl Estimate {
    /// The interval of `b` less `a`.
    fn difference(a: Estimate, b: Estimate) -> (f64, f64) {
        let between = b.at - a.at;
        let below = libm::hypot(b.at - b.low, a.high - a.at);
        let above = libm::hypot(b.high - b.at, a.at - a.low);
        (between - below, between + above)
    }
}

/// The share of `good` among `all`, with Wilson's interval.
fn wilson(good: u64, all: u64) -> Estimate {
    if all == 0 {
        return Estimate { low: 0.0, at: 0.0, high: 1.0 };
    }
    const Z: f64 = 1.96;
    let (n, p) = (all as f64, good as f64 / all as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * libm::sqrt(p * (1.0 - p) / n + Z * Z / (4.0 * n * n));
    Estimate { low: (centre - half).max(0.0).min(p), at: p, high: (centre + half).min(1.0).max(p) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record_of;

    #[test]
    fn a_run_does_not_differ_from_itself_and_does_from_a_slower_one() {
        let run = record_of(1..=2000);
        assert!(compare(&run, &run).iter().all(Difference::is_within_noise));
        let slower = compare(&run, &record_of(1001..=3000));
        let median = slower.iter().find(|d| d.name == "response p50").unwrap();
        assert!(!median.is_within_noise());
        let (low, high) = median.interval.unwrap();
        assert!(low < 1.0 && 1.0 < high && high - low < 0.2, "{low} to {high}");
    }

    #[test]
    fn the_interval_of_a_median_holds_it_nineteen_times_of_twenty() {
        // Samples of 1000 even draws, whose true median is 5000.
        let mut held = 0_u32;
        let mut state = 1_u64;
        for _ in 0..400 {
            let draws = (0..1000).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % 10_000
            });
            let record = record_of(draws);
            let (low, high) = record.times["response"].histogram.quantile_interval(0.5);
            held += u32::from(low.as_millis() <= 5000 && high.as_millis() >= 5000);
        }
        // 380 expected, with a standard deviation of 4.4: five of them, and the histogram's edge.
        assert!((358..=400).contains(&held), "{held} of 400");
    }

    #[test]
    fn wilsons_interval_is_wilsons() {
        // 81 of 263: Newcombe (1998) gives 0.2553 to 0.3662.
        let estimate = wilson(81, 263);
        assert!((estimate.low - 0.2553).abs() < 1e-4, "{estimate:?}");
        assert!((estimate.high - 0.3662).abs() < 1e-4, "{estimate:?}");
        let none = wilson(0, 20);
        assert!(none.low == 0.0 && (none.high - 0.1611).abs() < 1e-3, "{none:?}");
    }
}

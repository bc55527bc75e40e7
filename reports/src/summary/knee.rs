//! The knee: up to which offered load a variant keeps up.

use serde::Serialize;

use super::metric::{Measured, Metric, MetricValue, as_pair};
use crate::format::{rate, significant};
use crate::record::RunRecord;
use crate::statistics::{Bounds, CONFIDENCE, Sections, mean};

/// A variant that keeps up answers at least this part of what is offered well and in time.
pub const KEEPS_UP: f64 = 0.95;

/// One variant at several rates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KneeCurve {
    /// The variant, without its rate.
    pub family: String,
    /// Its place among all variants, which is that of its colour.
    pub place: usize,
    /// By rising rate.
    pub points: Vec<KneePoint>,
    /// Where goodput no longer follows the offered load.
    pub knee: Knee,
}

/// A variant at one rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KneePoint {
    /// Planned requests per second.
    pub offered_per_s: f64,
    /// Requests per second that were answered well and in time.
    pub goodput: MetricValue,
    /// Response times.
    pub p99: MetricValue,
    /// The part of the offered load that was answered well and in time.
    pub success: MetricValue,
}

/// The highest offered load of which at least [`KEEPS_UP`] is answered well and in time, in
/// requests per second; between two rates in a straight line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Knee {
    /// Every run has one.
    At {
        /// The mean over runs.
        rate_per_s: f64,
        /// Where it lies with 95 % confidence; `None` of a single seed.
        #[serde(serialize_with = "as_pair")]
        interval: Option<Bounds>,
    },
    /// In some run it kept up with every rate: the knee lies beyond this one.
    Beyond {
        /// The highest rate.
        rate_per_s: f64,
    },
    /// In some run it kept up with no rate: the knee lies below this one.
    Below {
        /// The lowest rate.
        rate_per_s: f64,
    },
    /// No seed ran at every rate.
    Unknown,
}

impl KneeCurve {
    /// Where its knee is, with the rates that were tried around it.
    pub fn words(&self) -> String {
        let of = &self.family;
        match self.knee {
            Knee::At { rate_per_s, interval } => {
                let rates = || self.points.iter().map(|point| point.offered_per_s);
                let below = rates().filter(|rate| *rate <= rate_per_s).reduce(f64::max);
                let above = rates().filter(|rate| *rate >= rate_per_s).reduce(f64::min);
                let interval = interval.map_or(String::new(), |bounds| {
                    format!(" ({} to {})", significant(bounds.low), significant(bounds.high))
                });
                let tried = below.zip(above).map_or(String::new(), |(below, above)| {
                    format!(", between {} and {}", rate(below), rate(above))
                });
                format!("{of} at about {}{interval}{tried}", significant(rate_per_s))
            }
            Knee::Beyond { rate_per_s } => format!("{of} beyond {}", rate(rate_per_s)),
            Knee::Below { rate_per_s } => format!("{of} below {}", rate(rate_per_s)),
            Knee::Unknown => format!("{of} unknown"),
        }
    }
}

/// The curve of a variant from its runs at each rate, by rising rate; `None` of fewer than two
/// rates.
pub(super) fn curve(
    family: &str,
    place: usize,
    by_rate: &[(f64, Vec<&RunRecord>)],
) -> Option<KneeCurve> {
    if by_rate.len() < 2 {
        return None;
    }
    let point = |(rate, runs): &(f64, Vec<&RunRecord>)| {
        let of = |metric| Measured::of(metric, runs).value(metric);
        KneePoint {
            offered_per_s: *rate,
            goodput: of(Metric::Goodput),
            p99: of(Metric::P99),
            success: of(Metric::Success),
        }
    };
    let points = by_rate.iter().map(point).collect();
    Some(KneeCurve { family: family.to_owned(), place, points, knee: knee(by_rate) })
}

fn knee(by_rate: &[(f64, Vec<&RunRecord>)]) -> Knee {
    let seeds = by_rate[0].1.iter().map(|run| run.seed);
    let curves: Vec<Vec<(f64, f64)>> = seeds
        .filter_map(|seed| {
            let point = |(rate, runs): &(f64, Vec<&RunRecord>)| {
                let run = runs.iter().find(|run| run.seed == seed)?;
                Some((*rate, run.accounting.success_rate()))
            };
            by_rate.iter().map(point).collect()
        })
        .collect();
    let (Some((first, _)), Some((last, _))) = (by_rate.first(), by_rate.last()) else {
        return Knee::Unknown;
    };
    if curves.is_empty() {
        return Knee::Unknown;
    }
    let mut knees = Vec::new();
    for curve in &curves {
        match crossing(curve) {
            Crossing::At(rate) => knees.push(rate),
            Crossing::Beyond => return Knee::Beyond { rate_per_s: *last },
            Crossing::Below => return Knee::Below { rate_per_s: *first },
        }
    }
    let Some(center) = mean(&knees) else { return Knee::Unknown };
    let interval = Sections { center, of_runs: &knees }.interval(CONFIDENCE);
    Knee::At { rate_per_s: center, interval }
}

enum Crossing {
    At(f64),
    Beyond,
    Below,
}

/// Where the shares of a curve by rising rate first fall below [`KEEPS_UP`].
fn crossing(curve: &[(f64, f64)]) -> Crossing {
    let Some(place) = curve.iter().position(|(_, share)| *share < KEEPS_UP) else {
        return Crossing::Beyond;
    };
    let Some(before) = place.checked_sub(1) else { return Crossing::Below };
    let ((low, kept), (high, lost)) = (curve[before], curve[place]);
    Crossing::At(low + (high - low) * (kept - KEEPS_UP) / (kept - lost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_lies_between_the_last_rate_that_held_and_the_first_that_did_not() {
        let at = |curve: &[(f64, f64)]| match crossing(curve) {
            Crossing::At(rate) => rate,
            Crossing::Beyond => f64::INFINITY,
            Crossing::Below => 0.0,
        };
        let near = |found: f64, rate: f64| assert!((found - rate).abs() < 1e-9, "{found}");
        near(at(&[(100.0, 1.0), (200.0, 0.9)]), 150.0);
        near(at(&[(100.0, 1.0), (200.0, 0.95), (300.0, 0.5)]), 200.0);
        assert_eq!(at(&[(100.0, 1.0), (200.0, 0.99)]), f64::INFINITY);
        assert_eq!(at(&[(100.0, 0.5), (200.0, 0.99)]), 0.0);
    }
}

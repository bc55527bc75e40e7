//! How variants differ from the first of them, percentile by percentile: the difference on the same
//! arrivals, seed by seed, with the interval of its mean. And the distribution that it is made of.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::canvas::{Alternative, Drawing, Stroke, draw};
use super::hover::{Hover, Series};
use super::palette::{Dash, MUTED, look};
use super::panel::{Panel, Place, ROW, WIDTH};
use super::percentiles::{legend, nines, percentile_axis};
use super::shown::Shown;
use super::table::{Cell, Table};
use super::{Figure, FigureText};
use crate::format::{SUPPORT, as_ms, plural, significant};
use crate::record::RunRecord;
use crate::summary::{Band, VariantSummary};
use crate::verdict::Interval;

/// Points of a curve.
const POINTS: usize = 48;
/// Of a hundred intervals made in this way, so many cover the true mean.
const CONFIDENCE: f64 = 0.95;

/// The cumulative distribution of response times of all variants.
pub(crate) fn distribution(shown: &Shown<'_>) -> Option<Figure> {
    let variants = &shown.scenario.variants;
    let shares: Vec<f64> = (0..=200).map(|i| f64::from(i) / 200.0).collect();
    let curves: Vec<Vec<(f64, f64)>> = variants.iter().map(|v| curve(v, &shares)).collect();
    let times = || curves.iter().flatten().map(|(ms, _)| *ms).filter(|ms| *ms > 0.0);
    let (low, high) = (times().reduce(f64::min)?, times().reduce(f64::max)?);
    let x = Axis::logarithmic(low, high, "response time, ms (logarithmic)");
    let y = Axis::up_to(100.0, 4, "share of requests, %");
    let rows = variants.len().div_ceil(2) as f64;
    let place = Place { top: rows * ROW + 6.0, right: 16.0, height: 200.0, rows: 0 };
    let title = "Distribution of response times".to_owned();
    let medians = variants
        .iter()
        .map(|v| format!("{}: half within {} ms", v.label, significant(v.quantile_ms(0.5).0)));
    let description = format!(
        "{} over {}. {}.",
        y.in_words(),
        x.in_words(),
        medians.collect::<Vec<_>>().join("; ")
    );
    let alternative = Alternative { title: title.clone(), description };
    let drawing = draw((WIDTH, place.drawing_height()), alternative, |canvas| {
        legend(canvas, variants);
        let panel = Panel::new(canvas, place, (&x, &y));
        for (variant, points) in variants.iter().zip(&curves) {
            let look = look(variant.place);
            canvas.of_variant(variant.place, || {
                panel.line(points, Stroke { color: look.color, width: 2.0, dash: look.dash });
            });
        }
    });
    let caption = format!(
        "The share of all requests that took at most so long; all of {}, those of one variant \
         together. It shows the bulk; the curve of percentiles shows the tail.",
        plural(shown.scenario.runs(), "run")
    );
    let text = FigureText { id: "distribution".to_owned(), title, caption };
    let mut data = Table::new(&["variant", "response_ms", "share_percent", "runs"]);
    for (variant, points) in variants.iter().zip(&curves) {
        let runs = variant.seeds.len() as f64;
        let row = |(ms, share): &(f64, f64)| {
            let label = Cell::text(&variant.label);
            vec![label, Cell::number(*ms), Cell::number(*share), Cell::number(runs)]
        };
        data.rows.extend(points.iter().step_by(10).map(row));
    }
    Some(Figure { text, drawings: vec![drawing], data })
}

fn curve(variant: &VariantSummary, shares: &[f64]) -> Vec<(f64, f64)> {
    if variant.response.is_empty() {
        return Vec::new();
    }
    shares.iter().map(|share| (as_ms(variant.response.quantile(*share)), share * 100.0)).collect()
}

/// One variant less the baseline, at each of the percentiles.
struct Difference<'s> {
    variant: &'s VariantSummary,
    /// Seeds that both have.
    pairs: usize,
    /// The horizontal place of each point, and where the mean lies there; `None` where one pair
    /// alone says nothing about it.
    points: Vec<(f64, f64, Option<Interval>)>,
}

/// The differences to the first variant; `None` when there is nothing to compare.
pub(crate) fn difference(shown: &Shown<'_>) -> Option<Figure> {
    let (baseline, base_runs) = shown.variants().next()?;
    let by_seed: BTreeMap<u64, &RunRecord> = base_runs.iter().map(|r| (r.seed, *r)).collect();
    let others = shown.variants().skip(1);
    let all: Vec<Difference<'_>> =
        others.filter_map(|(variant, runs)| of(variant, runs, &by_seed)).collect();
    let reach = all.iter().flat_map(|d| &d.points).map(|p| p.0).reduce(f64::max)?;
    let x = percentile_axis(reach);
    let ends = all
        .iter()
        .flat_map(|d| &d.points)
        .flat_map(|(_, mean, interval)| interval.map_or([*mean, *mean], |i| [i.low, i.high]));
    let (low, high) = ends.fold((0.0, 0.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
    let y = Axis::around_zero((low, high), 5, "difference, ms");
    let title = format!("Difference to {} by percentile", baseline.label);
    let place = Place { top: ROW + 2.0, right: 16.0, height: 150.0, rows: 0 };
    let drawings = all.iter().map(|d| one(d, &title, (&x, &y), place)).collect();
    let pairs = all.iter().map(|d| d.pairs);
    let (fewest, most) = (pairs.clone().min().unwrap_or(0), pairs.max().unwrap_or(0));
    let pairs = match fewest == most {
        true => plural(most, "pair"),
        false => format!("{fewest} to {most} pairs"),
    };
    let caption = format!(
        "Response time of a variant less that of {} at the same percentile, run against run of the \
         same seed and so of the same arrivals; below zero is faster. The line is the mean over \
         {pairs} of runs, the band its 95 % interval: where it holds zero, no difference is shown. \
         Each run has its own percentiles, up to where {SUPPORT:.0} of its requests lie beyond.",
        baseline.label
    );
    let data = data(&all, &baseline.label);
    let text = FigureText { id: "difference".to_owned(), title, caption };
    Some(Figure { text, drawings, data })
}

fn of<'s>(
    variant: &'s VariantSummary,
    runs: &[&RunRecord],
    baseline: &BTreeMap<u64, &RunRecord>,
) -> Option<Difference<'s>> {
    let pairs: Vec<(&RunRecord, &RunRecord)> =
        runs.iter().filter_map(|run| Some((*run, *baseline.get(&run.seed)?))).collect();
    let counts =
        pairs.iter().map(|(a, b)| a.latency.response.count().min(b.latency.response.count()));
    let fewest = counts.min().filter(|count| *count as f64 >= 2.0 * SUPPORT)?;
    let reach = (fewest as f64 / SUPPORT).log10();
    let point = |i: usize| {
        let x = reach * i as f64 / POINTS as f64;
        let at = |run: &RunRecord| as_ms(run.latency.response.quantile(1.0 - 10f64.powf(-x)));
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| at(a) - at(b)).collect();
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        (x, mean, Interval::of_mean(&differences, CONFIDENCE))
    };
    let points = (0..=POINTS).map(point).collect();
    Some(Difference { variant, pairs: pairs.len(), points })
}

fn one(difference: &Difference<'_>, title: &str, (x, y): (&Axis, &Axis), place: Place) -> Drawing {
    let Difference { variant, points, .. } = difference;
    let words = [0.5, 0.9, 0.99].map(|p| {
        let near =
            points.iter().min_by(|a, b| (a.0 - nines(p)).abs().total_cmp(&(b.0 - nines(p)).abs()));
        let value = near.map_or(String::new(), |(_, mean, interval)| match interval {
            Some(i) => format!(
                "{} ({} to {})",
                significant(*mean),
                significant(i.low),
                significant(i.high)
            ),
            None => significant(*mean),
        });
        format!("about p{}: {value}", p * 100.0)
    });
    let description =
        format!("{} over {}. In ms, {}.", y.in_words(), x.in_words(), words.join("; "));
    let title = format!("{title}, {}", variant.label);
    let drawing =
        draw((WIDTH, place.drawing_height()), Alternative { title, description }, |canvas| {
            super::panel::heading(canvas, look(variant.place), &variant.label, "");
            let panel = Panel::new(canvas, place, (x, y));
            panel.level(0.0, Stroke { color: MUTED, width: 1.25, dash: Dash::SOLID });
            let band = |(at_s, median, i): &(f64, f64, Option<Interval>)| {
                let (min, max) = i.map_or((*median, *median), |i| (i.low, i.high));
                Some(Band { at_s: *at_s, median: *median, min, max })
            };
            let bands: Vec<Option<Band>> = points.iter().map(band).collect();
            panel.range(&bands, look(variant.place).color);
            panel.median(&bands, Stroke::solid(look(variant.place).color, 2.0));
            let values =
                |of: fn(&Band) -> f64| bands.iter().flatten().map(|b| Some(of(b))).collect();
            let series = |name: &str, values| Series {
                name: name.to_owned(),
                unit: "ms",
                variant: variant.place,
                values,
            };
            let label = |x: f64| format!("p{}", significant((1.0 - 10f64.powf(-x)) * 100.0));
            canvas.readable(Hover {
                frame: panel.frame(),
                is_time: false,
                at: points.iter().map(|p| (label(p.0), x.position(p.0))).collect(),
                end_s: 0.0,
                series: vec![
                    series("mean", values(|b| b.median)),
                    series("from", values(|b| b.min)),
                    series("to", values(|b| b.max)),
                ],
            });
        });
    drawing.about(variant.place)
}

fn data(all: &[Difference<'_>], baseline: &str) -> Table {
    let columns =
        ["variant", "baseline", "percentile", "difference_ms", "low_ms", "high_ms", "pairs"];
    let mut table = Table::new(&columns);
    for difference in all {
        for (x, mean, interval) in &difference.points {
            table.rows.push(vec![
                Cell::text(&difference.variant.label),
                Cell::text(baseline),
                Cell::number((1.0 - 10f64.powf(-x)) * 100.0),
                Cell::number(*mean),
                Cell::number(interval.map(|i| i.low)),
                Cell::number(interval.map(|i| i.high)),
                Cell::number(difference.pairs as f64),
            ]);
        }
    }
    table
}

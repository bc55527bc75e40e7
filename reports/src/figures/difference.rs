//! How variants differ from the baseline, percentile by percentile: the difference on the same
//! arrivals, with the interval that the seeds give. And the distribution that it is made of.

use std::collections::BTreeMap;

use loadgen::LatencyHistogram;

use super::axis::Axis;
use super::canvas::{Alternative, Drawing, Stroke, draw};
use super::hover::{Hover, Series};
use super::palette::{Dash, MUTED, look};
use super::panel::{Panel, Place, ROW, WIDTH};
use super::percentiles::{Group, by_rate, legend, nines, percentile_axis};
use super::shown::Shown;
use super::table::{Cell, Table};
use super::{Figure, FigureText};
use crate::format::{SUPPORT, as_ms, plural, significant};
use crate::record::RunRecord;
use crate::statistics::{Bounds, CONFIDENCE, Sections, paired};
use crate::summary::{Band, Comparison, VariantSummary};

/// Points of a curve.
const POINTS: usize = 48;

/// Where a difference begins: at the median, the place of which on the axis this is. What fails at
/// once lies below it, and would be all that the scale shows.
const FIRST: f64 = std::f64::consts::LOG10_2;

/// The cumulative distribution of response times of all variants, on one plot for each rate.
pub(crate) fn distribution(shown: &Shown<'_>) -> Option<Figure> {
    let scenario = shown.scenario;
    let shares: Vec<f64> = (0..=200).map(|i| f64::from(i) / 200.0).collect();
    let all: Vec<Vec<(f64, f64)>> = scenario.variants.iter().map(|v| curve(v, &shares)).collect();
    let times = || all.iter().flatten().map(|(ms, _)| *ms).filter(|ms| *ms > 0.0);
    let (low, high) = (times().reduce(f64::min)?, times().reduce(f64::max)?);
    let x = Axis::logarithmic(low, high, "response time, ms (logarithmic)");
    let y = Axis::up_to(100.0, 4, "share of requests, %");
    let title = "Distribution of response times".to_owned();
    let drawing = |group: &Group<'_>| {
        let medians = group
            .variants
            .iter()
            .map(|v| format!("{}: half within {} ms", v.label, significant(v.quantile_ms(0.5).0)));
        let medians = medians.collect::<Vec<_>>().join("; ");
        let description = format!("{} over {}. {medians}.", y.in_words(), x.in_words());
        let alternative = Alternative { title: group.titled(&title), description };
        let place = Place { top: group.legend_height(), right: 16.0, height: 200.0, rows: 0 };
        draw((WIDTH, place.drawing_height()), alternative, |canvas| {
            legend(canvas, group);
            let panel = Panel::new(canvas, place, (&x, &y));
            for variant in &group.variants {
                let look = look(variant.place);
                let points = curve(variant, &shares);
                canvas.of_variant(variant.place, || {
                    let stroke = Stroke { color: look.color, width: 2.0, dash: look.dash };
                    panel.line(&points, stroke);
                    // Half of the requests, where curves are seldom on top of each other.
                    if let Some(median) = points.get(points.len() / 2) {
                        canvas.marker(look.marker, panel.at(*median), look.color, 4.0);
                    }
                });
            }
        })
    };
    let drawings = by_rate(scenario).iter().map(drawing).collect();
    let caption = format!(
        "The share of all requests that took at most so long; all of {}, those of one variant \
         together, with a mark at the median. It shows the bulk; the curve of percentiles shows the \
         tail.",
        plural(scenario.runs(), "run")
    );
    let text = FigureText { id: "distribution".to_owned(), title, caption };
    let mut data = Table::new(&["variant", "response_ms", "share_percent", "runs"]);
    for (variant, points) in scenario.variants.iter().zip(&all) {
        let runs = variant.seeds.len() as f64;
        let row = |(ms, share): &(f64, f64)| {
            let label = Cell::text(&variant.label);
            vec![label, Cell::number(*ms), Cell::number(*share), Cell::number(runs)]
        };
        data.rows.extend(points.iter().step_by(10).map(row));
    }
    Some(Figure { text, drawings, data })
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
    /// What it is compared with.
    baseline: &'s VariantSummary,
    /// Seeds that both have.
    pairs: usize,
    /// The horizontal place of each point, the difference there, and where it lies; `None` where one
    /// pair alone says nothing about it.
    points: Vec<(f64, f64, Option<Bounds>)>,
}

/// The differences to the baseline of each rate; `None` when there is nothing to compare.
pub(crate) fn difference(shown: &Shown<'_>) -> Option<Figure> {
    let comparisons = &shown.scenario.comparisons;
    let all: Vec<Difference<'_>> = comparisons.iter().flat_map(|c| against(shown, c)).collect();
    let reach = all.iter().flat_map(|d| &d.points).map(|p| p.0).reduce(f64::max)?;
    let x = percentile_axis(reach);
    let ends = all
        .iter()
        .flat_map(|d| &d.points)
        .flat_map(|(_, mean, interval)| interval.map_or([*mean, *mean], |i| [i.low, i.high]));
    let (low, high) = ends.fold((0.0, 0.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
    let y = Axis::around_zero((low, high), 5, "difference, ms");
    let baseline = match comparisons.as_slice() {
        [one] => one.baseline.as_str(),
        _ => "the baseline of each rate",
    };
    let title = format!("Difference to {baseline} by percentile");
    let place = Place { top: ROW + 2.0, right: 16.0, height: 150.0, rows: 0 };
    let drawings = all.iter().map(|d| one(d, &title, (&x, &y), place)).collect();
    let pairs = all.iter().map(|d| d.pairs);
    let (fewest, most) = (pairs.clone().min().unwrap_or(0), pairs.max().unwrap_or(0));
    let pairs = match fewest == most {
        true => plural(most, "pair"),
        false => format!("{fewest} to {most} pairs"),
    };
    let caption = format!(
        "Response time of a variant less that of {baseline} at the same percentile, on runs of the \
         same seeds and so of the same arrivals; below zero is faster. Percentiles are those of all \
         of its {pairs} of runs together, and the band is the 95 % interval by how far the pairs \
         differ: where it holds zero, no difference is shown. It begins at the \
         median and ends where {SUPPORT:.0} requests of the shortest run lie beyond.",
    );
    let data = data(&all);
    let text = FigureText { id: "difference".to_owned(), title, caption };
    Some(Figure { text, drawings, data })
}

/// The variants of a comparison against its baseline.
fn against<'s>(shown: &'s Shown<'s>, comparison: &'s Comparison) -> Vec<Difference<'s>> {
    let called = |label: &str| shown.variants().find(|(variant, _)| variant.label == label);
    let Some((baseline, base_runs)) = called(&comparison.baseline) else { return Vec::new() };
    let by_seed: BTreeMap<u64, &RunRecord> = base_runs.iter().map(|r| (r.seed, *r)).collect();
    let others = comparison.rows.iter().filter(|row| row.label != comparison.baseline);
    let others = others.filter_map(|row| called(&row.label));
    others.filter_map(|(variant, runs)| of((variant, runs), (baseline, &by_seed))).collect()
}

fn of<'s>(
    (variant, runs): (&'s VariantSummary, &[&RunRecord]),
    (baseline, by_seed): (&'s VariantSummary, &BTreeMap<u64, &RunRecord>),
) -> Option<Difference<'s>> {
    let pairs: Vec<(&RunRecord, &RunRecord)> =
        runs.iter().filter_map(|run| Some((*by_seed.get(&run.seed)?, *run))).collect();
    let counts =
        pairs.iter().map(|(a, b)| a.latency.response.count().min(b.latency.response.count()));
    let fewest = counts.min().filter(|count| *count as f64 > 2.0 * SUPPORT)?;
    let reach = (fewest as f64 / SUPPORT).log10();
    let (mut all_a, mut all_b) = (LatencyHistogram::new(), LatencyHistogram::new());
    for (a, b) in &pairs {
        all_a.merge(&a.latency.response);
        all_b.merge(&b.latency.response);
    }
    let point = |i: usize| {
        let x = FIRST + (reach - FIRST) * i as f64 / POINTS as f64;
        let at = |times: &LatencyHistogram| as_ms(times.quantile(1.0 - 10f64.powf(-x)));
        let of_runs: (Vec<f64>, Vec<f64>) =
            pairs.iter().map(|(a, b)| (at(&a.latency.response), at(&b.latency.response))).unzip();
        let a = Sections { center: at(&all_a), of_runs: &of_runs.0 };
        let b = Sections { center: at(&all_b), of_runs: &of_runs.1 };
        (x, b.center - a.center, paired(a, b, CONFIDENCE))
    };
    let points = (0..=POINTS).map(point).collect();
    Some(Difference { variant, baseline, pairs: pairs.len(), points })
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
            let band = |(at_s, median, i): &(f64, f64, Option<Bounds>)| {
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
                    series("difference", values(|b| b.median)),
                    series("from", values(|b| b.min)),
                    series("to", values(|b| b.max)),
                ],
            });
        });
    drawing.about(variant.place)
}

fn data(all: &[Difference<'_>]) -> Table {
    let columns =
        ["variant", "baseline", "percentile", "difference_ms", "low_ms", "high_ms", "pairs"];
    let mut table = Table::new(&columns);
    for difference in all {
        for (x, mean, interval) in &difference.points {
            table.rows.push(vec![
                Cell::text(&difference.variant.label),
                Cell::text(&difference.baseline.label),
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

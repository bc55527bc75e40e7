//! The percentile curve: response time over 1/(1 − p), so that each nine has as much room as the
//! last, all variants on one plot.

use super::axis::Axis;
use super::canvas::{Align, Alternative, Canvas, Drawing, Font, Stroke, draw};
use super::hover::{Hover, Series};
use super::palette::{Dash, INK, LIMIT, look};
use super::panel::{Panel, Place, ROW, WIDTH, fitted, font, sample};
use super::table::{Cell, Table};
use super::{Figure, FigureText};
use crate::format::{SUPPORT, as_ms, plural, rate, significant, span, supported};
use crate::summary::{ScenarioSummary, VariantSummary};

/// Percentiles that are named on the axis and marked on the curves.
const NAMED: [(f64, &str); 7] = [
    (0.0, "0"),
    (0.5, "50"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
];

/// Points on a curve over its whole length.
const POINTS: usize = 400;

/// Places at which values can be read off, over the length of the longest curve.
const READABLE: usize = 60;

/// Draws the curves of all variants, on one plot for each rate.
pub(crate) fn percentiles(scenario: &ScenarioSummary) -> Figure {
    let reach = scenario.variants.iter().map(reach).fold(0.0, f64::max).max(1.0);
    let x = percentile_axis(reach);
    let limits = limits(scenario);
    let y = time_axis(scenario.variants.iter().map(|v| curve(v, reach)), &limits);
    let title = "Response time by percentile";
    let drawing = |group: &Group<'_>| one(group, title, (&x, &y, reach), &limits);
    let drawings = by_rate(scenario).iter().map(drawing).collect();
    let (id, title) = ("percentiles".to_owned(), title.to_owned());
    let text = FigureText { id, title, caption: caption(scenario) };
    Figure { text, drawings, data: data(&scenario.variants) }
}

/// Variants that met the same load, which can be drawn on one plot.
pub(super) struct Group<'s> {
    /// The load in words; `None` when all variants had the same.
    pub(super) at: Option<String>,
    pub(super) variants: Vec<&'s VariantSummary>,
}

impl Group<'_> {
    /// Of a figure with this title, what a plot of the group is called.
    pub(super) fn titled(&self, title: &str) -> String {
        match &self.at {
            Some(at) => format!("{title}, {at}"),
            None => title.to_owned(),
        }
    }

    /// The height of its legend, in units.
    pub(super) fn legend_height(&self) -> f64 {
        let rows = self.variants.len().div_ceil(2) + usize::from(self.at.is_some());
        rows as f64 * ROW + 6.0
    }
}

/// A group for each rate, by rising rate.
pub(super) fn by_rate(scenario: &ScenarioSummary) -> Vec<Group<'_>> {
    let several = scenario.comparisons.len() > 1;
    let group = |rate_per_s: f64| Group {
        at: several.then(|| format!("{} per second", rate(rate_per_s))),
        variants: scenario.variants.iter().filter(|v| v.rate_per_s == rate_per_s).collect(),
    };
    scenario.comparisons.iter().map(|comparison| group(comparison.rate_per_s)).collect()
}

fn one(
    group: &Group<'_>,
    title: &str,
    (x, y, reach): (&Axis, &Axis, f64),
    limits: &[(f64, String)],
) -> Drawing {
    let variants = &group.variants;
    let place = Place { top: group.legend_height(), right: 16.0, height: 260.0, rows: 0 };
    let description = description(variants, x, y);
    let alternative = Alternative { title: group.titled(title), description };
    draw((WIDTH, place.drawing_height()), alternative, |canvas| {
        legend(canvas, group);
        let panel = Panel::new(canvas, place, (x, y));
        let shown = || limits.iter().filter(|(value, _)| y.holds(*value));
        for (value, _) in shown() {
            panel.level(*value, Stroke { color: LIMIT, width: 1.25, dash: Dash::FINE });
        }
        for (value, label) in shown() {
            let font = Font { color: LIMIT, ..font(Align::Left) };
            panel.remark(label, (panel.left + 6.0, panel.y_at(*value) - 9.0), font);
        }
        for variant in variants {
            let points = curve(variant, reach);
            canvas.of_variant(variant.place, || of_variant(&panel, variant, &points));
        }
        canvas.readable(readable(&panel, variants, x, reach));
    })
}

fn of_variant(panel: &Panel<'_>, variant: &VariantSummary, points: &[(f64, f64)]) {
    let look = look(variant.place);
    panel.line(points, Stroke { color: look.color, width: 2.25, dash: look.dash });
    for (p, _) in NAMED.iter().skip(1).filter(|(p, _)| named_on(*p, points)) {
        let at = panel.at((nines(*p), variant.quantile_ms(*p).0));
        panel.canvas.marker(look.marker, at, look.color, 4.0);
    }
}

fn readable(panel: &Panel<'_>, variants: &[&VariantSummary], x: &Axis, reach: f64) -> Hover {
    let places: Vec<f64> = (0..=READABLE).map(|i| reach * i as f64 / READABLE as f64).collect();
    let label = |nines: f64| {
        let digits = (nines.floor() as usize).saturating_sub(1).max(1);
        format!("p{:.digits$}", (1.0 - 10f64.powf(-nines)) * 100.0)
    };
    let of = |v: &&VariantSummary| {
        let value = |nines: &f64| {
            let known = *nines <= self::reach(v) + 1e-9 && !v.response.is_empty();
            known.then(|| v.quantile_ms(1.0 - 10f64.powf(-nines)).0)
        };
        let values = places.iter().map(value).collect();
        Series { name: v.label.clone(), unit: "ms", variant: v.place, values }
    };
    Hover {
        frame: panel.frame(),
        is_time: false,
        at: places.iter().map(|n| (label(*n), x.position(*n))).collect(),
        end_s: 0.0,
        series: variants.iter().map(of).collect(),
    }
}

/// The curves at the percentiles that people ask for.
fn data(variants: &[VariantSummary]) -> Table {
    let columns = ["variant", "percentile", "response_ms", "lower_bound", "requests", "runs"];
    let mut table = Table::new(&columns);
    for variant in variants {
        let known = |p: &f64| supported(*p, variant.response.count());
        for p in [0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 0.99999] {
            if known(&p) {
                let (ms, bound) = variant.quantile_ms(p);
                table.rows.push(vec![
                    Cell::text(&variant.label),
                    Cell::number(p * 100.0),
                    Cell::number(ms),
                    Cell::text(if bound { "yes" } else { "no" }),
                    Cell::number(variant.response.count() as f64),
                    Cell::number(variant.seeds.len() as f64),
                ]);
            }
        }
    }
    table
}

/// The horizontal place of a percentile: the decimal logarithm of 1/(1 − p).
pub(super) fn nines(p: f64) -> f64 {
    -(1.0 - p).log10()
}

/// How far right a variant's curve goes: up to where too few requests lie beyond.
fn reach(variant: &VariantSummary) -> f64 {
    (variant.response.count() as f64 / SUPPORT).max(1.0).log10()
}

fn named_on(p: f64, points: &[(f64, f64)]) -> bool {
    points.last().is_some_and(|(end, _)| nines(p) <= end + 1e-9)
}

pub(super) fn percentile_axis(reach: f64) -> Axis {
    let ticks = NAMED.iter().map(|(p, name)| (nines(*p).max(0.0), (*name).to_owned()));
    let ticks = ticks.filter(|(x, _)| *x <= reach + 1e-9).collect();
    Axis::with_ticks((0.0, reach), ticks, "percentile, %")
}

fn curve(variant: &VariantSummary, longest: f64) -> Vec<(f64, f64)> {
    if variant.response.is_empty() {
        return Vec::new();
    }
    let end = reach(variant);
    let points = ((POINTS as f64 * end / longest).ceil() as usize).max(2);
    let mut curve: Vec<(f64, f64)> = Vec::with_capacity(points + 1);
    for i in 0..=points {
        let x = end * i as f64 / points as f64;
        let p = 1.0 - 10f64.powf(-x);
        curve.push((x, as_ms(variant.response.quantile(p))));
    }
    curve
}

/// The deadline and the timeout, as one when they are equal.
fn limits(scenario: &ScenarioSummary) -> Vec<(f64, String)> {
    let (deadline, timeout) = (scenario.plan.deadline_ms, scenario.plan.timeout_ms);
    let timeout = (timeout > 0).then_some(timeout);
    let line = |ms: u64, name: &str| (ms as f64, format!("{name} {}", span(ms)));
    match (deadline, timeout) {
        (Some(d), Some(t)) if d == t => vec![line(d, "deadline and timeout")],
        (d, t) => {
            let deadline = d.map(|ms| line(ms, "deadline"));
            deadline.into_iter().chain(t.map(|ms| line(ms, "timeout"))).collect()
        }
    }
}

fn time_axis(curves: impl Iterator<Item = Vec<(f64, f64)>>, limits: &[(f64, String)]) -> Axis {
    let all: Vec<f64> = curves.flatten().map(|(_, v)| v).filter(|v| *v > 0.0).collect();
    let values = || all.iter().copied();
    let low = values().fold(f64::INFINITY, f64::min).min(1e6);
    let highest = values().fold(0.0, f64::max).max(1e-3);
    // A limit that is near is shown; one far above would press the curves flat.
    let near = limits.iter().map(|(limit, _)| *limit).filter(|l| *l <= highest * 1.6);
    let high = near.map(|limit| limit * 1.02).fold(highest, f64::max);
    if high / low > 100.0 {
        Axis::logarithmic(low, high, "response time, ms (logarithmic)")
    } else {
        Axis::from_zero(high, 5, "response time, ms")
    }
}

pub(super) fn legend(canvas: &Canvas, group: &Group<'_>) {
    let column = WIDTH / 2.0;
    let top = match &group.at {
        None => 0.0,
        Some(at) => {
            let bold = Font { color: INK, bold: true, ..font(Align::Left) };
            canvas.text(at, (2.0, ROW / 2.0), bold);
            ROW
        }
    };
    for (i, variant) in group.variants.iter().enumerate() {
        let (x, y) = ((i % 2) as f64 * column, top + (i / 2) as f64 * ROW + ROW / 2.0);
        let look = look(variant.place);
        sample(canvas, (x + 2.0, y), look, look.dash);
        let ink = Font { color: INK, ..font(Align::Left) };
        canvas.text(&fitted(&variant.label, ink, column - 42.0), (x + 34.0, y), ink);
    }
}

fn description(variants: &[&VariantSummary], x: &Axis, y: &Axis) -> String {
    let curve = |v: &&VariantSummary| {
        let value = |p: f64, name: &str| {
            let known = supported(p, v.response.count());
            known.then(|| format!("{name} {}", significant(v.quantile_ms(p).0)))
        };
        let values = [value(0.5, "p50"), value(0.99, "p99"), value(0.999, "p99.9")];
        format!("{}: {}", v.label, values.into_iter().flatten().collect::<Vec<_>>().join(", "))
    };
    let curves: Vec<String> = variants.iter().map(curve).collect();
    format!("{} over {}. In ms, {}.", y.in_words(), x.in_words(), curves.join("; "))
}

fn caption(scenario: &ScenarioSummary) -> String {
    let from = scenario.variants.iter().filter_map(|v| v.censored_from_ms).reduce(f64::min);
    let censored = from.map_or_else(String::new, |ms| {
        format!(
            " From {} on the curves may be lower bounds: requests were given up there.",
            span(ms as u64)
        )
    });
    format!(
        "All requests of {}, those of one variant merged over its seeds; time counts from the \
         instant at which a request was planned. At 99, one request in a hundred took longer. A \
         curve ends where fewer than {SUPPORT:.0} requests lie beyond it.{censored}",
        plural(scenario.runs(), "run")
    )
}

//! The knee: goodput and 99th percentile against offered load, from the variants of a scenario that
//! differ in nothing but their rate.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::canvas::{Alternative, Canvas, Drawing, Stroke, draw};
use super::hover::{Hover, Series};
use super::over_time::times_axis;
use super::palette::{Dash, MUTED, look};
use super::panel::{Panel, Place, ROW, WIDTH, font, sample};
use super::shown::Shown;
use super::table::{Cell, Table};
use super::{Figure, FigureText};
use crate::format::{as_ms, plural, significant};
use crate::record::RunRecord;
use crate::summary::Band;

/// The setting that a rate sweep varies.
const RATE: &str = "load.rate";

/// One curve: variants that differ in their rate alone. The horizontal value of its bands is the
/// rate.
struct Curve {
    name: String,
    /// Its looks: the place of the first of its variants.
    place: usize,
    p99_ms: Vec<Band>,
    goodput: Vec<Band>,
    runs: usize,
}

/// Draws both curves; `None` when no two variants differ in their rate alone.
pub(crate) fn knee(shown: &Shown<'_>) -> Option<Figure> {
    let curves = curves(shown);
    let rates = || curves.iter().flat_map(|c| &c.goodput).map(|b| b.at_s);
    let fastest = rates().fold(0.0, f64::max);
    if curves.iter().all(|c| c.goodput.len() < 2) {
        return None;
    }
    let x = Axis::from_zero(fastest, 5, "offered load, requests per second");
    let good = curves.iter().flat_map(|c| &c.goodput).map(|b| b.max).fold(fastest, f64::max);
    let goodput = Axis::from_zero(good, 5, "goodput, requests per second");
    let p99 = times_axis(curves.iter().flat_map(|c| &c.p99_ms), "99th percentile, ms");
    let runs: usize = curves.iter().map(|c| c.runs).sum();
    let title = "Where the knee is".to_owned();
    let drawings = vec![
        one(&curves, &title, (&x, &goodput), |c| &c.goodput, true),
        one(&curves, &title, (&x, &p99), |c| &c.p99_ms, false),
    ];
    let caption = format!(
        "Each point is a variant with its own rate; {} in all. Goodput, left, would follow the \
         dotted line if nothing were ever lost; where it leaves the line, and where the 99th \
         percentile, right, rises, is the knee. Lines are the median over seeds, bands reach from \
         the smallest to the largest.",
        plural(runs, "run")
    );
    let text = FigureText { id: "knee".to_owned(), title, caption };
    Some(Figure { text, drawings, data: data(&curves) })
}

fn curves(shown: &Shown<'_>) -> Vec<Curve> {
    let mut curves: Vec<(BTreeMap<String, String>, String, Curve)> = Vec::new();
    for (variant, runs) in shown.variants() {
        let Some(first) = runs.first() else { continue };
        let Some(rate) = first.settings.get(RATE).map(|_| first.plan.rate_per_s) else { continue };
        let mut rest = first.settings.clone();
        rest.remove(RATE);
        let values =
            |of: fn(&RunRecord) -> f64| Band::of(rate, runs.iter().map(|r| of(r)).collect());
        let key = |(settings, system, _): &&mut (BTreeMap<String, String>, String, Curve)| {
            *settings == rest && *system == variant.system
        };
        if curves.iter_mut().find(key).is_none() {
            let named: Vec<String> = rest.iter().map(|(k, v)| format!("{k} {v}")).collect();
            let name = if named.is_empty() { variant.system.clone() } else { named.join(", ") };
            let (p99_ms, goodput) = Default::default();
            let curve = Curve { name, place: curves.len(), p99_ms, goodput, runs: 0 };
            curves.push((rest.clone(), variant.system.clone(), curve));
        }
        let Some((.., curve)) = curves.iter_mut().find(key) else { continue };
        curve.runs += runs.len();
        curve.p99_ms.extend(values(|r| as_ms(r.latency.response.quantile(0.99))));
        curve.goodput.extend(values(goodput));
    }
    let mut curves: Vec<Curve> = curves.into_iter().map(|(.., curve)| curve).collect();
    for curve in &mut curves {
        curve.p99_ms.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        curve.goodput.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    }
    curves
}

/// Requests answered well and in time, per second of the plan.
fn goodput(run: &RunRecord) -> f64 {
    run.accounting.ok as f64 * 1e3 / run.plan.duration_ms.max(1) as f64
}

fn one(
    curves: &[Curve],
    title: &str,
    (x, y): (&Axis, &Axis),
    of: fn(&Curve) -> &Vec<Band>,
    ideal: bool,
) -> Drawing {
    let words = |c: &Curve| {
        let points =
            of(c).iter().map(|b| format!("{} at {}", significant(b.median), significant(b.at_s)));
        format!("{}: {}", c.name, points.collect::<Vec<_>>().join(", "))
    };
    let description = format!(
        "{} over {}. {}.",
        y.in_words(),
        x.in_words(),
        curves.iter().map(words).collect::<Vec<_>>().join("; ")
    );
    let alternative = Alternative { title: format!("{title}: {}", y.title), description };
    let place = Place { top: curves.len() as f64 * ROW + 4.0, right: 16.0, height: 200.0, rows: 0 };
    draw((WIDTH, place.drawing_height()), alternative, |canvas| {
        legend(canvas, curves);
        let panel = Panel::new(canvas, place, (x, y));
        if ideal {
            let end = curves.iter().flat_map(|c| &c.goodput).map(|b| b.at_s).fold(0.0, f64::max);
            let stroke = Stroke { color: MUTED, width: 1.25, dash: Dash::FINE };
            panel.line(&[(0.0, 0.0), (end, end)], stroke);
        }
        for curve in curves {
            let look = look(curve.place);
            let bands: Vec<Option<Band>> = of(curve).iter().copied().map(Some).collect();
            panel.range(&bands, look.color);
            panel.median(&bands, Stroke { color: look.color, width: 2.25, dash: look.dash });
            for band in of(curve) {
                canvas.marker(look.marker, panel.at((band.at_s, band.median)), look.color, 4.0);
            }
        }
        canvas.readable(readable(&panel, curves, (x, of)));
    })
}

fn legend(canvas: &Canvas, curves: &[Curve]) {
    for (i, curve) in curves.iter().enumerate() {
        let y = (i as f64 + 0.5) * ROW;
        let look = look(curve.place);
        sample(canvas, (2.0, y), look, look.dash);
        let font = font(super::canvas::Align::Left);
        canvas.text(&super::panel::fitted(&curve.name, font, WIDTH - 40.0), (34.0, y), font);
    }
}

fn readable(
    panel: &Panel<'_>,
    curves: &[Curve],
    (x, of): (&Axis, fn(&Curve) -> &Vec<Band>),
) -> Hover {
    let mut rates: Vec<f64> = curves.iter().flat_map(|c| of(c).iter().map(|b| b.at_s)).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let series = |c: &Curve| {
        let at = |rate: &f64| of(c).iter().find(|b| b.at_s == *rate).map(|b| b.median);
        let values = rates.iter().map(at).collect();
        Series { name: c.name.clone(), unit: "", variant: c.place, values }
    };
    Hover {
        frame: panel.frame(),
        is_time: false,
        at: rates
            .iter()
            .map(|r| (format!("{} per second", significant(*r)), x.position(*r)))
            .collect(),
        end_s: 0.0,
        series: curves.iter().map(series).collect(),
    }
}

fn data(curves: &[Curve]) -> Table {
    let columns = ["curve", "rate_per_s", "value", "unit", "median", "min", "max", "runs"];
    let mut table = Table::new(&columns);
    for curve in curves {
        let p99 = curve.p99_ms.iter().map(|b| (b, "p99", "ms"));
        for (band, value, unit) in
            p99.chain(curve.goodput.iter().map(|b| (b, "goodput", "per second")))
        {
            table.rows.push(vec![
                Cell::text(&curve.name),
                Cell::number(band.at_s),
                Cell::text(value),
                Cell::text(unit),
                Cell::number(band.median),
                Cell::number(band.min),
                Cell::number(band.max),
                Cell::number(curve.runs as f64),
            ]);
        }
    }
    table
}

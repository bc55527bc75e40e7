//! The knee: goodput and 99th percentile against offered load, from the variants of a scenario that
//! differ in nothing but their rate.

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
use crate::summary::{Band, KEEPS_UP, KneeCurve, ScenarioSummary, VariantSummary};

/// One curve: variants that differ in their rate alone. The horizontal value of its bands is the
/// rate.
struct Curve {
    name: String,
    /// Its looks: the place of its variants.
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
         percentile, right, rises, is the knee. Goodput is the median over seeds, the percentile \
         that of all runs together; bands reach from the smallest seed to the largest.{}",
        plural(runs, "run"),
        knees(shown.scenario)
    );
    let text = FigureText { id: "knee".to_owned(), title, caption };
    Some(Figure { text, drawings, data: data(&curves) })
}

/// Where the knees are, in words.
fn knees(scenario: &ScenarioSummary) -> String {
    let all: Vec<String> = scenario.knees.iter().map(KneeCurve::words).collect();
    format!(
        " The highest load of which {:.0} % is answered well and in time, a second, in a straight line \
         between the two rates that were tried around it, which bound what is known; in brackets the \
         95 % interval over seeds: {}.{}",
        KEEPS_UP * 100.0,
        all.join(", "),
        match scenario.is_censored() {
            true => " Where requests were given up, a 99th percentile is a lower bound.",
            false => "",
        }
    )
}

fn curves(shown: &Shown<'_>) -> Vec<Curve> {
    let curve = |knee: &KneeCurve| {
        let (mut p99_ms, mut goodput) = (Vec::new(), Vec::new());
        let mut count = 0;
        let of_it = |v: &VariantSummary| (&v.family, v.place) == (&knee.family, knee.place);
        for (variant, runs) in shown.variants().filter(|(variant, _)| of_it(variant)) {
            let values = |of: fn(&RunRecord) -> f64| {
                Band::of(variant.rate_per_s, runs.iter().map(|run| of(run)).collect())
            };
            let p99 = values(|r| as_ms(r.latency.response.quantile(0.99)));
            // That of all requests of all runs together, between those of the runs.
            p99_ms.extend(p99.map(|band| Band { median: variant.quantile_ms(0.99).0, ..band }));
            goodput.extend(values(self::goodput));
            count += runs.len();
        }
        p99_ms.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        goodput.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        Curve { name: knee.family.clone(), place: knee.place, p99_ms, goodput, runs: count }
    };
    shown.scenario.knees.iter().map(curve).collect()
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

//! What the processes of live runs used: processor time and memory against the rate of requests.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::canvas::{Align, Alternative, Drawing, Stroke, draw};
use super::hover::{Hover, Series};
use super::palette::{Look, look};
use super::panel::{Panel, Place, ROW, WIDTH, fitted, font, sample};
use super::shown::Shown;
use super::table::{Cell, Table};
use super::{Figure, FigureText};
use crate::format::{plural, significant};
use crate::record::{ResourceSample, RunRecord};
use crate::summary::Band;

/// One process of one run.
struct Use {
    /// The variant.
    label: String,
    /// The same without its rate: what a legend names.
    family: String,
    place: usize,
    process: String,
    /// Requests planned, per second: where it stands in the plots.
    offered: f64,
    /// Requests sent, per second.
    rate: f64,
    /// Processor time while requests were planned, in cores.
    cores: f64,
    /// Processor time of the whole run by the requests sent, in microseconds.
    us_a_request: Option<f64>,
    /// The most memory that it had, in MiB.
    memory_mib: f64,
}

/// A process at several rates.
struct Curve<'u> {
    name: String,
    place: usize,
    look: Look,
    uses: Vec<&'u Use>,
}

/// What is drawn of a process over the rate.
type Value = fn(&Use) -> Option<f64>;

/// Draws them; `None` when no run says what its processes used.
pub(crate) fn resources(shown: &Shown<'_>) -> Option<Figure> {
    let mut uses: Vec<Use> = Vec::new();
    for (variant, runs) in shown.variants() {
        for run in runs {
            uses.extend(of_run(run).into_iter().map(|u| Use {
                label: variant.label.clone(),
                family: variant.family.clone(),
                place: variant.place,
                offered: variant.rate_per_s,
                ..u
            }));
        }
    }
    // The client is measured with what it measures, and is not what is compared.
    uses.retain(|u| u.process != "loadgen");
    let fastest = uses.iter().map(|u| u.offered).reduce(f64::max)?;
    let x = Axis::from_zero(fastest, 5, "offered load, requests per second");
    let curves = curves(&uses);
    let title = "Processor time and memory against rate".to_owned();
    let values: [(&str, Value); 3] = [
        ("processor time, % of a core", |u| Some(u.cores * 100.0)),
        ("processor time per request, µs", |u| u.us_a_request),
        ("memory, MiB, the most", |u| Some(u.memory_mib)),
    ];
    let drawings = values.map(|(words, of)| {
        let most = uses.iter().filter_map(of).fold(0.0, f64::max);
        one(&curves, &title, (&x, &Axis::from_zero(most, 4, words)), of)
    });
    let watched = |run: &&&RunRecord| !of_run(run).is_empty();
    let runs = shown.variants().flat_map(|(_, runs)| runs).filter(watched).count();
    let caption = format!(
        "Processes that were watched in {}: processor time while requests were planned, where who \
         falls behind has work left for later; that of the whole run by the requests sent; and the \
         most memory (resident set, in which what a \
         program's processes share counts for each). Each with all that it started. Lines are the \
         median over runs, bands reach from the smallest to the largest. Only runs on one machine \
         can be compared.",
        plural(runs, "run")
    );
    let text = FigureText { id: "resources".to_owned(), title, caption };
    Some(Figure { text, drawings: drawings.into(), data: data(&uses) })
}

fn of_run(run: &RunRecord) -> Vec<Use> {
    let mut by_process: BTreeMap<&str, Vec<&ResourceSample>> = BTreeMap::new();
    for sample in &run.resources {
        by_process.entry(&sample.process).or_default().push(sample);
    }
    let seconds = |ms: u64| ms as f64 / 1e3;
    let of = |(process, samples): (&str, Vec<&ResourceSample>)| {
        let last = samples.iter().max_by_key(|s| s.at_ms)?;
        // Behind the plan's end there is only the rest of the work, and then none.
        let started = samples.iter().filter(|s| s.at_ms > 0);
        let end = started.min_by_key(|s| s.at_ms.abs_diff(run.plan.duration_ms))?;
        let memory = samples.iter().map(|s| s.memory_bytes).max()?;
        let sent = run.accounting.sent as f64;
        Some(Use {
            label: String::new(),
            family: String::new(),
            place: 0,
            process: process.to_owned(),
            offered: 0.0,
            rate: sent / seconds(run.plan.duration_ms.max(1)),
            cores: end.cpu_us as f64 / 1e6 / seconds(end.at_ms),
            us_a_request: (sent > 0.0).then(|| last.cpu_us as f64 / sent),
            memory_mib: memory as f64 / f64::from(1 << 20),
        })
    };
    by_process.into_iter().filter_map(of).collect()
}

/// The colour is the variant's; its second process differs in marker and dash.
fn curves(uses: &[Use]) -> Vec<Curve<'_>> {
    let mut curves: Vec<Curve<'_>> = Vec::new();
    for u in uses {
        let name = match u.family == u.process {
            true => u.family.clone(),
            false => format!("{}, {}", u.family, u.process),
        };
        if let Some(curve) = curves.iter_mut().find(|c| (c.place, &c.name) == (u.place, &name)) {
            curve.uses.push(u);
            continue;
        }
        let before = curves.iter().filter(|c| c.place == u.place).count();
        let look = Look { color: look(u.place).color, ..look(u.place + before) };
        curves.push(Curve { name, place: u.place, look, uses: vec![u] });
    }
    curves
}

/// A curve's values, by rising rate.
fn bands(curve: &Curve<'_>, of: Value) -> Vec<Band> {
    let mut rates: Vec<f64> = curve.uses.iter().map(|u| u.offered).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let at = |rate: f64| curve.uses.iter().filter(move |u| u.offered == rate);
    let bands = rates.iter().map(|rate| Band::of(*rate, at(*rate).filter_map(|u| of(u)).collect()));
    bands.flatten().collect()
}

fn one(curves: &[Curve<'_>], title: &str, (x, y): (&Axis, &Axis), of: Value) -> Drawing {
    let all: Vec<Vec<Band>> = curves.iter().map(|curve| bands(curve, of)).collect();
    let words = |(curve, bands): (&Curve<'_>, &Vec<Band>)| {
        let points =
            bands.iter().map(|b| format!("{} at {}", significant(b.median), significant(b.at_s)));
        format!("{}: {}", curve.name, points.collect::<Vec<_>>().join(", "))
    };
    let description = format!(
        "{} over {}. {}.",
        y.in_words(),
        x.in_words(),
        curves.iter().zip(&all).map(words).collect::<Vec<_>>().join("; ")
    );
    let alternative = Alternative { title: format!("{title}: {}", y.title), description };
    let place = Place { top: curves.len() as f64 * ROW + 4.0, right: 16.0, height: 180.0, rows: 0 };
    draw((WIDTH, place.drawing_height()), alternative, |canvas| {
        for (i, curve) in curves.iter().enumerate() {
            let y = (i as f64 + 0.5) * ROW;
            sample(canvas, (2.0, y), curve.look, curve.look.dash);
            let font = font(Align::Left);
            canvas.text(&fitted(&curve.name, font, WIDTH - 40.0), (34.0, y), font);
        }
        let panel = Panel::new(canvas, place, (x, y));
        for (curve, bands) in curves.iter().zip(&all) {
            let Look { color, dash, marker } = curve.look;
            canvas.of_variant(curve.place, || {
                let line: Vec<Option<Band>> = bands.iter().copied().map(Some).collect();
                panel.range(&line, color);
                panel.median(&line, Stroke { color, width: 2.25, dash });
                for band in bands {
                    canvas.marker(marker, panel.at((band.at_s, band.median)), color, 4.5);
                }
            });
        }
        canvas.readable(readable(&panel, curves, &all, x));
    })
}

fn readable(panel: &Panel<'_>, curves: &[Curve<'_>], all: &[Vec<Band>], x: &Axis) -> Hover {
    let mut rates: Vec<f64> = all.iter().flatten().map(|band| band.at_s).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let series = |(curve, bands): (&Curve<'_>, &Vec<Band>)| {
        let at = |rate: &f64| bands.iter().find(|b| b.at_s == *rate).map(|b| b.median);
        let values = rates.iter().map(at).collect();
        Series { name: curve.name.clone(), unit: "", variant: curve.place, values }
    };
    Hover {
        frame: panel.frame(),
        is_time: false,
        at: rates
            .iter()
            .map(|rate| (format!("{} per second", significant(*rate)), x.position(*rate)))
            .collect(),
        end_s: 0.0,
        series: curves.iter().zip(all).map(series).collect(),
    }
}

fn data(uses: &[Use]) -> Table {
    let mut table = Table::new(&[
        "variant",
        "process",
        "requests_per_s",
        "cores",
        "memory_mib",
        "us_a_request",
    ]);
    for u in uses {
        table.rows.push(vec![
            Cell::text(&u.label),
            Cell::text(&u.process),
            Cell::number(u.rate),
            Cell::number(u.cores),
            Cell::number(u.memory_mib),
            Cell::number(u.us_a_request),
        ]);
    }
    table
}

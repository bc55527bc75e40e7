//! Small multiples over time: one plot a variant, all with the same scales, the same marks above
//! them, and the same ways to be read.

use super::axis::Axis;
use super::canvas::{Align, Alternative, Canvas, Drawing, Font, Stroke, draw};
use super::hover::{Hover, Series, times};
use super::marks::Rows;
use super::palette::{Dash, INK, LIMIT, MUTED, look};
use super::panel::{Panel, Place, ROW, WIDTH, fitted, font, heading};
use super::shown::Shown;
use super::table::{Cell, Table};
use super::thin::thinned;
use super::{Figure, FigureText};
use crate::format::{plural, significant};
use crate::summary::{Band, ScenarioSummary, VariantSummary};

/// What all plots of a figure have in common.
pub(super) struct Spec {
    pub(super) text: FigureText,
    /// The vertical axis.
    pub(super) y: Axis,
    /// Height of each plot, in units.
    pub(super) height: f64,
    /// Room for names at the right ends of lines, in units.
    pub(super) right: f64,
    /// A bound, drawn across the plot in the colour of bounds.
    pub(super) limit: Option<f64>,
    /// What is expected of nothing in particular, drawn across the plot in grey.
    pub(super) level: Option<f64>,
}

/// One line of a plot.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) bands: Vec<Option<Band>>,
    pub(super) stroke: Stroke,
    /// Whether the range over seeds is drawn.
    pub(super) range: bool,
    /// Whether its name stands at its right end.
    pub(super) named: bool,
}

/// One plot.
pub(super) struct Plot<'s> {
    pub(super) variant: &'s VariantSummary,
    /// A number beside the variant's name.
    pub(super) gist: String,
    pub(super) lines: Vec<Line>,
    /// The area between two of the lines, by position, is lost.
    pub(super) lost: Option<(usize, usize)>,
}

/// The time axis that all plots of a scenario share.
pub(super) fn time_axis(scenario: &ScenarioSummary) -> Axis {
    Axis::up_to(end_s(scenario), 6, "time of the run, s")
}

/// Where it ends, in seconds.
pub(super) fn end_s(scenario: &ScenarioSummary) -> f64 {
    let ends = scenario.variants.iter().map(|v| v.timeline.end_s);
    ends.fold(0.0, f64::max).max(1e-3)
}

/// Draws the plots.
pub(super) fn multiples(shown: &Shown<'_>, spec: Spec, plots: &[Plot<'_>]) -> Figure {
    let end = end_s(shown.scenario);
    let x = time_axis(shown.scenario);
    let rows = Rows::of(shown);
    let place =
        Place { top: ROW + 2.0, right: spec.right, height: spec.height, rows: rows.count() };
    let drawing = |plot: &Plot<'_>| -> Drawing {
        let alternative = in_words(&spec, plot, &x);
        let drawing = draw((WIDTH, place.drawing_height()), alternative, |canvas| {
            one(canvas, place, (&x, &spec), (&rows, plot, end));
        });
        drawing.about(plot.variant.place)
    };
    let drawings = plots.iter().map(drawing).collect();
    let caption =
        format!("{} {} {}", spec.text.caption, seeds_and_bands(shown.scenario), rows.caption());
    let data = table(plots);
    Figure { text: FigureText { caption, ..spec.text }, drawings, data }
}

fn one(
    canvas: &Canvas,
    place: Place,
    (x, spec): (&Axis, &Spec),
    (rows, plot, end_s): (&Rows, &Plot<'_>, f64),
) {
    heading(canvas, look(plot.variant.place), &plot.variant.label, &plot.gist);
    let panel = Panel::new(canvas, place, (x, &spec.y));
    rows.draw(&panel, plot.variant);
    if let Some((upper, lower)) = plot.lost {
        losses(&panel, &plot.lines[upper].bands, &plot.lines[lower].bands);
    }
    if let Some(value) = spec.limit {
        panel.level(value, Stroke { color: LIMIT, width: 1.25, dash: Dash::FINE });
    }
    if let Some(value) = spec.level {
        panel.level(value, Stroke { color: MUTED, width: 1.25, dash: Dash::FINE });
    }
    let thin: Vec<Vec<Option<Band>>> = plot.lines.iter().map(|l| thinned(&l.bands)).collect();
    for (line, bands) in plot.lines.iter().zip(&thin).filter(|(line, _)| line.range) {
        panel.range(bands, line.stroke.color);
    }
    let mut ends: Vec<(f64, String, Font)> = Vec::new();
    for (line, bands) in plot.lines.iter().zip(&thin) {
        panel.median(bands, line.stroke);
        if let Some(last) = bands.iter().flatten().last().filter(|_| line.named) {
            let font = Font { color: INK, ..font(Align::Left) };
            let room = canvas.width - panel.right - 8.0;
            ends.push((last.median, fitted(&line.name, font, room), font));
        }
    }
    panel.name_ends(&ends);
    canvas.readable(Hover {
        frame: panel.frame(),
        is_time: true,
        at: times(at_s(plot).into_iter(), x),
        end_s,
        series: plot.lines.iter().zip(&thin).map(|(l, b)| series(l, b, plot)).collect(),
    });
}

/// The times of a plot's longest line, as thin as it is drawn.
fn at_s(plot: &Plot<'_>) -> Vec<f64> {
    let longest = plot.lines.iter().max_by_key(|line| line.bands.iter().flatten().count());
    let Some(longest) = longest else { return Vec::new() };
    thinned(&longest.bands).iter().flatten().map(|band| band.at_s).collect()
}

fn series(line: &Line, thin: &[Option<Band>], plot: &Plot<'_>) -> Series {
    let known: Vec<&Band> = thin.iter().flatten().collect();
    let value = |s: f64| known.iter().find(|band| band.at_s == s).map(|band| band.median);
    Series {
        name: line.name.clone(),
        unit: line.unit,
        variant: plot.variant.place,
        values: at_s(plot).into_iter().map(value).collect(),
    }
}

fn losses(panel: &Panel<'_>, upper: &[Option<Band>], lower: &[Option<Band>]) {
    let both = upper.iter().zip(lower).filter_map(|(upper, lower)| Some(((*upper)?, (*lower)?)));
    let pairs: Vec<(Band, Band)> = both.collect();
    if pairs.len() < 2 {
        return;
    }
    let above = pairs.iter().map(|(upper, _)| panel.at((upper.at_s, upper.median)));
    let below = pairs.iter().rev().map(|(_, lower)| panel.at((lower.at_s, lower.median)));
    let outline: Vec<(f64, f64)> = above.chain(below).collect();
    panel.canvas.fill(&outline, LIMIT, 0.25);
}

fn in_words(spec: &Spec, plot: &Plot<'_>, x: &Axis) -> Alternative {
    let lines = plot.lines.iter().map(|l| format!("{} {}", l.name, extent(&l.bands, l.unit)));
    let description = format!(
        "{} over {}. {}.",
        spec.y.in_words(),
        x.in_words(),
        lines.collect::<Vec<_>>().join("; ")
    );
    Alternative { title: format!("{}, {}", spec.text.title, plot.variant.label), description }
}

/// From where to where a series goes.
pub(super) fn extent(series: &[Option<Band>], unit: &str) -> String {
    let medians = || series.iter().flatten().map(|b| b.median);
    let (low, high) = (medians().fold(f64::INFINITY, f64::min), medians().fold(0.0, f64::max));
    if low.is_finite() {
        format!("{} to {} {unit}", significant(low), significant(high))
    } else {
        "without a value".to_owned()
    }
}

fn table(plots: &[Plot<'_>]) -> Table {
    let mut table =
        Table::new(&["variant", "series", "unit", "time_s", "median", "min", "max", "runs"]);
    for plot in plots {
        let runs = Cell::Number(plot.variant.seeds.len() as f64);
        for line in &plot.lines {
            for band in line.bands.iter().flatten() {
                table.rows.push(vec![
                    Cell::text(&plot.variant.label),
                    Cell::text(&line.name),
                    Cell::text(line.unit),
                    Cell::number(band.at_s),
                    Cell::number(band.median),
                    Cell::number(band.min),
                    Cell::number(band.max),
                    runs.clone(),
                ]);
            }
        }
    }
    table
}

/// How many runs are behind a line, and what its band is.
pub(super) fn seeds_and_bands(scenario: &ScenarioSummary) -> String {
    let runs = runs_behind(scenario);
    match scenario.variants.iter().any(|v| v.seeds.len() > 1) {
        false => format!("{runs}."),
        true => format!(
            "{runs}: lines are the median over them, bands reach from the smallest to the largest."
        ),
    }
}

/// How many runs each variant has.
pub(super) fn runs_behind(scenario: &ScenarioSummary) -> String {
    let seeds = || scenario.variants.iter().map(|v| v.seeds.len());
    match (seeds().min().unwrap_or(0), seeds().max().unwrap_or(0)) {
        (low, high) if low == high => format!("{} per variant", plural(high, "run")),
        (low, high) => format!("{low} to {high} runs per variant"),
    }
}

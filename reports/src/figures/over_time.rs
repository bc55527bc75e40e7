//! Response time and goodput over time, one small plot a variant, all with the same scales.

use plotters::style::RGBColor;

use super::Figure;
use super::axis::Axis;
use super::canvas::{Align, Alternative, DrawError, Font, Stroke, draw};
use super::marks::Rows;
use super::palette::{Dash, INK, LIMIT, Look, MUTED, look};
use super::panel::{Panel, Place, ROW, WIDTH, font, heading};
use crate::format::{mean_count, plural, significant, span};
use crate::summary::{Band, ScenarioSummary, VariantSummary};

/// The time axis that all plots of a scenario share.
pub(super) fn time_axis(scenario: &ScenarioSummary) -> Axis {
    let ends = scenario.variants.iter().map(|v| v.timeline.end_s);
    Axis::up_to(ends.fold(0.0, f64::max).max(1e-3), 6, "time of the run, s")
}

/// Draws median and 99th percentile of each interval.
///
/// # Errors
/// When plotters refuses to draw.
pub(crate) fn response(scenario: &ScenarioSummary) -> Result<Figure, DrawError> {
    let x = time_axis(scenario);
    let y = response_axis(scenario);
    let rows = Rows::of(scenario);
    let title = "Response time over time".to_owned();
    let place = Place { top: ROW + 2.0, right: 40.0, height: 150.0, rows: rows.count() };
    let deadline = scenario.plan.deadline_ms.map(|ms| ms as f64).filter(|ms| y.holds(*ms));
    let drawings = scenario.variants.iter().map(|variant| {
        let timeline = &variant.timeline;
        let description = format!(
            "{} over {}. 99th percentile {}; median {}.",
            y.in_words(),
            x.in_words(),
            extent(&timeline.p99_ms, "ms"),
            extent(&timeline.p50_ms, "ms")
        );
        let title = format!("{title}, {}", variant.label);
        draw((WIDTH, place.drawing_height()), &Alternative { title, description }, |canvas| {
            let look = look(variant.place);
            let (p99, bound) = variant.quantile_ms(0.99);
            let sign = if bound { "≥ " } else { "" };
            heading(canvas, look, &variant.label, &format!("p99 {sign}{} ms", significant(p99)))?;
            let panel = Panel::new(canvas, place, (&x, &y))?;
            rows.draw(&panel, &variant.acts)?;
            if let Some(ms) = deadline {
                panel.level(ms, Stroke { color: LIMIT, width: 1.25, dash: Dash::FINE })?;
            }
            panel.range(&timeline.p99_ms, look.color)?;
            panel.range(&timeline.p50_ms, look.color)?;
            panel.median(&timeline.p50_ms, Stroke::solid(look.color, 1.25))?;
            panel.median(&timeline.p99_ms, Stroke::solid(look.color, 2.5))?;
            panel.name_ends(&names(&[(&timeline.p99_ms, "p99"), (&timeline.p50_ms, "p50")], look))
        })
    });
    let drawings = drawings.collect::<Result<Vec<_>, _>>()?;
    let limit = match (scenario.plan.deadline_ms, deadline) {
        (Some(ms), Some(_)) => format!(" Dotted: the deadline, {}.", span(ms)),
        (Some(ms), None) => format!(" The deadline, {}, lies outside the plot.", span(ms)),
        (None, _) => String::new(),
    };
    let caption = format!(
        "Of the requests planned in each interval: the thick line is the 99th percentile, the thin \
         one the median. {}{limit} {}",
        seeds_and_bands(scenario),
        rows.caption()
    );
    Ok(Figure { drawings, title, caption })
}

/// Draws what was offered and what was answered well and in time.
///
/// # Errors
/// When plotters refuses to draw.
pub(crate) fn goodput(scenario: &ScenarioSummary) -> Result<Figure, DrawError> {
    let x = time_axis(scenario);
    let series =
        |v: &VariantSummary| [v.timeline.offered_per_s.clone(), v.timeline.ok_per_s.clone()];
    let high = scenario.variants.iter().flat_map(series).flatten().flatten().map(|b| b.max);
    let y = Axis::from_zero(high.fold(0.0, f64::max), 4, "requests per second");
    let rows = Rows::of(scenario);
    let title = "Offered load and goodput over time".to_owned();
    let place = Place { top: ROW + 2.0, right: 58.0, height: 130.0, rows: rows.count() };
    let drawings = scenario.variants.iter().map(|variant| {
        let timeline = &variant.timeline;
        let description = format!(
            "{} over {}. Offered {}; answered well and in time {}.",
            y.in_words(),
            x.in_words(),
            extent(&timeline.offered_per_s, "per second"),
            extent(&timeline.ok_per_s, "per second")
        );
        let title = format!("{title}, {}", variant.label);
        draw((WIDTH, place.drawing_height()), &Alternative { title, description }, |canvas| {
            let look = look(variant.place);
            heading(canvas, look, &variant.label, &lost(variant))?;
            let panel = Panel::new(canvas, place, (&x, &y))?;
            rows.draw(&panel, &variant.acts)?;
            losses(&panel, timeline_pairs(variant))?;
            let offered = Stroke { color: MUTED, width: 1.25, dash: Dash::FINE };
            panel.median(&timeline.offered_per_s, offered)?;
            panel.range(&timeline.ok_per_s, look.color)?;
            panel.median(&timeline.ok_per_s, Stroke::solid(look.color, 2.25))?;
            let mut ends = names(&[(&timeline.ok_per_s, "goodput")], look);
            ends.extend(end(&timeline.offered_per_s, "offered", font(Align::Left)));
            panel.name_ends(&ends)
        })
    });
    let drawings = drawings.collect::<Result<Vec<_>, _>>()?;
    let caption = format!(
        "Offered (dotted) and answered well and in time (thick), by the interval in which a \
         request was planned; red between them is what was lost. {} {}",
        seeds_and_bands(scenario),
        rows.caption()
    );
    Ok(Figure { drawings, title, caption })
}

fn lost(variant: &VariantSummary) -> String {
    let lost = variant.accounting.planned.saturating_sub(variant.accounting.ok);
    format!("lost {} per run", mean_count(lost, variant.seeds.len()))
}

/// Offered and good medians of the intervals that have both.
fn timeline_pairs(variant: &VariantSummary) -> Vec<(Band, Band)> {
    let timeline = &variant.timeline;
    let pairs = timeline.offered_per_s.iter().zip(&timeline.ok_per_s);
    pairs.filter_map(|(offered, ok)| Some(((*offered)?, (*ok)?))).collect()
}

fn losses(panel: &Panel<'_, '_>, pairs: Vec<(Band, Band)>) -> Result<(), DrawError> {
    if pairs.len() < 2 {
        return Ok(());
    }
    let upper = pairs.iter().map(|(offered, _)| panel.at((offered.at_s, offered.median)));
    let lower = pairs.iter().rev().map(|(_, ok)| panel.at((ok.at_s, ok.median)));
    let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
    panel.canvas.fill(&outline, LIMIT, 0.25)
}

fn response_axis(scenario: &ScenarioSummary) -> Axis {
    let timelines = || scenario.variants.iter().map(|v| &v.timeline);
    let bands = || timelines().flat_map(|t| t.p50_ms.iter().chain(&t.p99_ms)).flatten();
    let high = bands().map(|b| b.max).fold(0.0, f64::max).max(1e-3);
    let low = bands().map(|b| b.min).filter(|v| *v > 0.0).fold(high, f64::min);
    if high / low > 100.0 {
        Axis::logarithmic(low, high, "response time, ms (logarithmic)")
    } else {
        Axis::from_zero(high, 4, "response time, ms")
    }
}

/// Names for the last values of series, in the looks of their variant.
fn names(series: &[(&[Option<Band>], &str)], look: Look) -> Vec<(f64, String, Font)> {
    let color: RGBColor = look.color;
    let font = Font { color, ..font(Align::Left) };
    series.iter().filter_map(|(bands, name)| end(bands, name, font)).collect()
}

fn end(series: &[Option<Band>], name: &str, font: Font) -> Option<(f64, String, Font)> {
    let last = series.iter().flatten().last()?;
    let font = Font { color: if font.bold { INK } else { font.color }, ..font };
    Some((last.median, name.to_owned(), font))
}

fn extent(series: &[Option<Band>], unit: &str) -> String {
    let medians = || series.iter().flatten().map(|b| b.median);
    let (low, high) = (medians().fold(f64::INFINITY, f64::min), medians().fold(0.0, f64::max));
    if low.is_finite() {
        format!("{} to {} {unit}", significant(low), significant(high))
    } else {
        "without a value".to_owned()
    }
}

/// How many runs are behind a line, and what its band is.
pub(super) fn seeds_and_bands(scenario: &ScenarioSummary) -> String {
    let seeds = || scenario.variants.iter().map(|v| v.seeds.len());
    let (fewest, most) = (seeds().min().unwrap_or(0), seeds().max().unwrap_or(0));
    match (fewest, most) {
        (_, 1) => "1 run per variant.".to_owned(),
        (low, high) if low == high => format!(
            "{} per variant: lines are the median over them, bands reach from the smallest to the \
             largest.",
            plural(high, "run")
        ),
        (low, high) => format!(
            "{low} to {high} runs per variant: lines are the median over them, bands reach from \
             the smallest to the largest."
        ),
    }
}

//! Response time and goodput over time, one small plot a variant.

use super::axis::Axis;
use super::canvas::Stroke;
use super::multiples::{Line, Plot, Spec, multiples};
use super::palette::{Dash, MUTED, look};
use super::shown::Shown;
use super::{Figure, FigureText};
use crate::format::{mean_count, significant, span};
use crate::summary::{Band, ScenarioSummary, VariantSummary};

/// Median and 99th percentile of each interval.
pub(crate) fn response(shown: &Shown<'_>) -> Figure {
    let scenario = shown.scenario;
    let y = response_axis(scenario);
    let deadline = scenario.plan.deadline_ms.map(|ms| ms as f64).filter(|ms| y.holds(*ms));
    let words = match (scenario.plan.deadline_ms, deadline) {
        (Some(ms), Some(_)) => format!(" Dotted: the deadline, {}.", span(ms)),
        (Some(ms), None) => format!(" The deadline, {}, lies outside the plot.", span(ms)),
        (None, _) => String::new(),
    };
    let text = FigureText {
        id: "response-over-time".to_owned(),
        title: "Response time over time".to_owned(),
        caption: format!(
            "Of the requests planned in each interval: the thick line is the 99th percentile, the \
             thin one the median.{words}"
        ),
    };
    let plots: Vec<Plot<'_>> = scenario.variants.iter().map(response_plot).collect();
    let spec = Spec { text, y, height: 150.0, right: 40.0, limit: deadline, level: None };
    multiples(shown, spec, &plots)
}

fn response_plot(variant: &VariantSummary) -> Plot<'_> {
    let VariantSummary { timeline, place, .. } = variant;
    let line = |name: &str, bands: &[Option<Band>], width| Line {
        name: name.to_owned(),
        unit: "ms",
        bands: bands.to_vec(),
        stroke: Stroke::solid(look(*place).color, width),
        range: true,
        named: true,
    };
    let (p99, bound) = variant.quantile_ms(0.99);
    let sign = if bound { "≥ " } else { "" };
    let lines = vec![line("p50", &timeline.p50_ms, 1.25), line("p99", &timeline.p99_ms, 2.5)];
    Plot { variant, gist: format!("p99 {sign}{} ms", significant(p99)), lines, lost: None }
}

/// What was offered and what was answered well and in time.
pub(crate) fn goodput(shown: &Shown<'_>) -> Figure {
    let scenario = shown.scenario;
    let series =
        |v: &VariantSummary| [v.timeline.offered_per_s.clone(), v.timeline.ok_per_s.clone()];
    let high = scenario.variants.iter().flat_map(series).flatten().flatten().map(|b| b.max);
    let y = Axis::from_zero(high.fold(0.0, f64::max), 4, "requests per second");
    let text = FigureText {
        id: "goodput-over-time".to_owned(),
        title: "Offered load and goodput over time".to_owned(),
        caption:
            "Offered (dotted) and answered well and in time (thick), by the interval in which \
                  a request was planned; red between them is what was lost."
                .to_owned(),
    };
    let plots: Vec<Plot<'_>> = scenario.variants.iter().map(goodput_plot).collect();
    let spec = Spec { text, y, height: 130.0, right: 64.0, limit: None, level: None };
    multiples(shown, spec, &plots)
}

fn goodput_plot(variant: &VariantSummary) -> Plot<'_> {
    let VariantSummary { timeline, place, .. } = variant;
    let offered = Line {
        name: "offered".to_owned(),
        unit: "per second",
        bands: timeline.offered_per_s.clone(),
        stroke: Stroke { color: MUTED, width: 1.25, dash: Dash::FINE },
        range: false,
        named: true,
    };
    let ok = Line {
        name: "goodput".to_owned(),
        unit: "per second",
        bands: timeline.ok_per_s.clone(),
        stroke: Stroke::solid(look(*place).color, 2.25),
        range: true,
        named: true,
    };
    Plot { variant, gist: lost(variant), lines: vec![offered, ok], lost: Some((0, 1)) }
}

fn lost(variant: &VariantSummary) -> String {
    let lost = variant.accounting.planned.saturating_sub(variant.accounting.ok);
    format!("lost {} per run", mean_count(lost, variant.seeds.len()))
}

/// An axis for times from these bands: from zero, or logarithmic when they differ much.
pub(super) fn times_axis<'b>(bands: impl Iterator<Item = &'b Band> + Clone, title: &str) -> Axis {
    let high = bands.clone().map(|b| b.max).fold(0.0, f64::max).max(1e-3);
    let low = bands.map(|b| b.min).filter(|v| *v > 0.0).fold(high, f64::min);
    if high / low > 100.0 {
        Axis::logarithmic(low, high, &format!("{title} (logarithmic)"))
    } else {
        Axis::from_zero(high, 4, title)
    }
}

fn response_axis(scenario: &ScenarioSummary) -> Axis {
    let timelines = scenario.variants.iter().map(|v| &v.timeline);
    let bands = timelines.flat_map(|t| t.p50_ms.iter().chain(&t.p99_ms)).flatten();
    times_axis(bands, "response time, ms")
}

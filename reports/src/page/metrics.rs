//! Variants against a baseline: every metric of each, its interval, and how it differs.

use super::verdict::name;
use crate::figures::swatch;
use crate::format::{grouped, percent, plural, rate, significant, success_digits};
use crate::html::escape;
use crate::statistics::Bounds;
use crate::summary::{
    Comparison, ComparisonRow, Difference, Mark, Metric, MetricUnit, MetricValue, Pairing,
    ScenarioSummary, VariantSummary,
};

/// A table for each rate, and how to read them.
pub(super) fn html(scenario: &ScenarioSummary) -> String {
    let several = scenario.comparisons.len() > 1;
    let tables: String = scenario.comparisons.iter().map(|c| table(scenario, c, several)).collect();
    let compared = scenario.comparisons.iter().any(|c| c.rows.len() > 1);
    format!("{tables}<p class=\"note\">{}</p>\n", remark(scenario, compared))
}

fn table(scenario: &ScenarioSummary, comparison: &Comparison, several: bool) -> String {
    let mut heads = String::new();
    for row in &comparison.rows {
        let variant = scenario.variants.iter().find(|v| v.label == row.label);
        let runs = variant.map_or(0, |v| v.seeds.len());
        let requests = variant.map_or(0, |v| v.accounting.planned);
        let is_base = if row.label == comparison.baseline { ", the baseline" } else { "" };
        let label = escape(&row.label);
        // All rates of a family have one colour, and one switch.
        let name = variant.map_or(label.clone(), |v| match several {
            true => escape(&v.family),
            false => label.clone(),
        });
        heads.push_str(&format!(
            "<th scope=\"col\" data-variant=\"{}\" data-name=\"{name}\">\
             <i class=\"swatch {}\"></i>{label}<small>{}, {} requests{is_base}</small></th>",
            row.place,
            swatch(row.place),
            plural(runs, "run"),
            grouped(requests as i64),
        ));
    }
    let rows: String =
        Metric::ALL.iter().enumerate().map(|(i, m)| line(*m, i, comparison)).collect();
    let at = match several {
        true => format!(" at {} per second", rate(comparison.rate_per_s)),
        false => String::new(),
    };
    let runs: usize = comparison
        .rows
        .iter()
        .filter_map(|row| scenario.variants.iter().find(|v| v.label == row.label))
        .map(|v| v.seeds.len())
        .sum();
    format!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Metrics of each variant{at}\">\n\
         <table class=\"metrics\">\n<caption>Metrics of each variant{at}, {}</caption>\n<thead><tr>\
         <th scope=\"col\">metric</th>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n",
        plural(runs, "run")
    )
}

/// One metric of all variants; nothing when none has a value.
fn line(metric: Metric, place: usize, comparison: &Comparison) -> String {
    let rows = &comparison.rows;
    if rows.iter().all(|row| row.values[place].value.is_none()) {
        return String::new();
    }
    let cells: String = rows.iter().map(|row| cell(row, place)).collect();
    let unit = match metric.unit() {
        MetricUnit::Share => "%",
        MetricUnit::PerSecond => "per second",
        MetricUnit::Milliseconds => "ms",
        MetricUnit::Factor => "",
    };
    let better = if metric.more_is_better() { "more is better" } else { "less is better" };
    let words = if unit.is_empty() { better.to_owned() } else { format!("{unit}, {better}") };
    format!("<tr><th scope=\"row\">{}<small>{words}</small></th>{cells}</tr>\n", metric.name())
}

fn cell(row: &ComparisonRow, place: usize) -> String {
    let value = &row.values[place];
    let shown = match value.value {
        None => "–".to_owned(),
        Some(number) => {
            let sign = if value.is_bound { "≥ " } else { "" };
            format!("<b>{sign}{}</b>{}", in_its_unit(value.metric, number), own_interval(value))
        }
    };
    let difference = row.differences.get(place).map(difference).unwrap_or_default();
    format!("<td>{shown}{difference}</td>")
}

fn own_interval(value: &MetricValue) -> String {
    match value.interval {
        Some(bounds) => format!("<small>{}</small>", span(value.metric, bounds)),
        None => String::new(),
    }
}

fn difference(difference: &Difference) -> String {
    let metric = difference.metric;
    let (Some(mean), mark) = (difference.difference, difference.mark) else { return String::new() };
    let by = match difference.interval {
        Some(bounds) => format!("{} ({})", signed(metric, mean), span_signed(metric, bounds)),
        None => signed(metric, mean),
    };
    let (class, sign) = match mark {
        Mark::Better => ("pass", "▲"),
        Mark::Worse => ("fail", "▼"),
        Mark::NoneShown => ("plain", "="),
        Mark::Unknown => ("plain", "?"),
        Mark::NotJudged => ("plain", "·"),
    };
    format!(
        "<small class=\"difference\">{by} <span class=\"{class}\">{sign} {}</span></small>",
        mark.word()
    )
}

fn in_its_unit(metric: Metric, number: f64) -> String {
    match metric {
        Metric::Success => percent(number, success_digits(number).max(2)),
        // A thousandth more attempts are worth knowing.
        Metric::Amplification => format!("{number:.3}"),
        Metric::TimeToDetect | Metric::TimeToRecover if number < 100.0 => "< 100".to_owned(),
        _ => match metric.unit() {
            MetricUnit::Share => significant(number * 100.0),
            _ => significant(number),
        },
    }
}

/// A difference: what it is in the metric's unit, with its sign.
fn signed(metric: Metric, number: f64) -> String {
    let scaled = match metric.unit() {
        MetricUnit::Share => number * 100.0,
        _ => number,
    };
    let text = significant(scaled.abs());
    match scaled {
        _ if text == "0" => text,
        scaled if scaled < 0.0 => format!("−{text}"),
        _ => format!("+{text}"),
    }
}

fn span(metric: Metric, bounds: Bounds) -> String {
    format!("{} to {}", in_its_unit(metric, bounds.low), in_its_unit(metric, bounds.high))
}

fn span_signed(metric: Metric, bounds: Bounds) -> String {
    format!("{} to {}", signed(metric, bounds.low), signed(metric, bounds.high))
}

fn remark(scenario: &ScenarioSummary, compared: bool) -> String {
    let mut text = "The small print below a value is its 95 % interval over runs; percentiles are those \
                    of all runs together, and a dash stands where fewer than ten requests lie beyond \
                    one, or where there is nothing to measure."
        .to_owned();
    if compared {
        let mut differences =
            scenario.comparisons.iter().flat_map(|c| &c.rows).flat_map(|row| &row.differences);
        let unpaired = differences.any(|d| matches!(d.pairing, Pairing::Unpaired(..)));
        let how = match unpaired {
            false => "run against run of the same seed, and so of the same arrivals",
            true => "run against run of the same seed where there are enough, else as two groups",
        };
        text.push_str(&format!(
            " Below it is the difference to the baseline with its 95 % interval, {how}: ▲ better, ▼ \
             worse, = the interval holds zero, so no difference is shown. Each is judged by itself: \
             of twenty comparisons of equals, one may seem to differ."
        ));
    }
    let mut rows = scenario.comparisons.iter().flat_map(|c| &c.rows);
    if rows.any(|row| row.differences.iter().any(|d| d.mark == Mark::NotJudged)) {
        text.push_str(
            " · not judged: it would be better, but fewer requests succeeded; or it is about equal \
             shares where one instance is to be avoided.",
        );
    }
    if scenario.is_censored() {
        text.push_str(" ≥ before a response time: a lower bound, since requests were given up.");
    }
    let values = || scenario.comparisons.iter().flat_map(|c| &c.rows).flat_map(|row| &row.values);
    let is_time =
        |v: &&MetricValue| matches!(v.metric, Metric::TimeToDetect | Metric::TimeToRecover);
    if values().filter(is_time).any(|v| v.value.is_some()) {
        text.push_str(
            " Time to detect: from the begin of a fault until the first second, of three such, in \
             which the sidecars send its instance less than half of an equal share. Time to recover: \
             from its end until they send it half of one again; a dash where they never turned away.",
        );
        if values().filter(is_time).any(|v| v.is_bound) {
            text.push_str(" ≥ before them: not seen before the fault, or the run, was over.");
        }
    }
    text
}

/// What the comparison of these variants comes to in words: success and the 99th percentile of each
/// against the baseline, with their intervals.
pub(super) fn finding(scenario: &ScenarioSummary, told: &[&VariantSummary]) -> Option<String> {
    let rate_per_s = told.first()?.rate_per_s;
    let comparison = scenario.comparisons.iter().find(|c| c.rate_per_s == rate_per_s)?;
    let of = |row: &ComparisonRow, metric: Metric| {
        row.differences.iter().find(|d| d.metric == metric).and_then(|d| {
            let by = match d.interval? {
                bounds if d.mark == Mark::NoneShown => {
                    return Some(format!("no difference shown ({})", span_signed(metric, bounds)));
                }
                bounds => {
                    format!("{} ({})", signed(metric, d.difference?), span_signed(metric, bounds))
                }
            };
            Some(by)
        })
    };
    let sentences = comparison.rows.iter().filter_map(|row| {
        let variant = told.iter().find(|v| v.label == row.label)?;
        let (success, p99) = (of(row, Metric::Success)?, of(row, Metric::P99)?);
        Some(format!("{}: success {success} points, p99 {p99} ms", name(variant)))
    });
    let sentences: Vec<String> = sentences.collect();
    (!sentences.is_empty()).then(|| {
        format!(
            "Against {}, with 95 % intervals: {}.",
            escape(&comparison.baseline),
            sentences.join("; ")
        )
    })
}

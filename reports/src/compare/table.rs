//! A comparison as text of 80 columns, and as Markdown. Both show what differs, and count the rest.

use super::{Compared, ComparedGroup, ComparedMetric};
use crate::format::{percent, plural, significant};
use crate::summary::{Mark, Metric, MetricUnit, MetricValue, Pairing};

/// What sets thousands apart on the page. Terminals do not agree on its width.
const NARROW_SPACE: char = '\u{202f}';

/// For a terminal.
pub fn text(compared: &Compared) -> String {
    let mut text = String::new();
    for group in &compared.groups {
        let shown: Vec<_> = group.metrics.iter().filter(|m| is_shown(m)).collect();
        let heading = format!("B − A ({} %)", percent(compared.confidence, 0));
        text.push_str(&format!("{}\n", head(group)));
        if !shown.is_empty() {
            let (metric, a, b, mark) = ("metric", "A", "B", "mark");
            text.push_str(&format!("  {metric:<15} {a:>9} {b:>9}  {heading:<28} {mark}\n"));
        }
        for metric in shown {
            let [name, a, b, difference] = cells(metric).map(|cell| plain(&cell));
            let mark = short(metric.difference.mark);
            text.push_str(&format!("  {name:<15} {a:>9} {b:>9}  {difference:<28} {mark}\n"));
        }
        text.push_str(&format!("  {}\n\n", rest(group)));
    }
    text.push_str(&conclusion(compared).join("\n"));
    text.push('\n');
    plain(&text)
}

fn plain(text: &str) -> String {
    text.replace(NARROW_SPACE, "").replace('\u{a0}', " ")
}

/// For a pull request.
pub fn markdown(compared: &Compared) -> String {
    let confidence = percent(compared.confidence, 0);
    let mut text = format!("### {}\n\n", conclusion(compared)[0]);
    let shown =
        |group: &ComparedGroup| group.metrics.iter().filter(|m| is_shown(m)).cloned().collect();
    let groups: Vec<(&ComparedGroup, Vec<ComparedMetric>)> =
        compared.groups.iter().map(|group| (group, shown(group))).collect();
    if groups.iter().any(|(_, shown)| !shown.is_empty()) {
        text.push_str(&format!(
            "| scenario / variant | metric | A | B | B − A ({confidence} %) | |\n\
             |---|---|--:|--:|--:|---|\n"
        ));
    }
    for (group, shown) in &groups {
        for metric in shown {
            let [name, a, b, difference] = cells(metric);
            let sign = match metric.difference.mark {
                Mark::Worse => "**worse**",
                mark => short(mark),
            };
            let of = escaped(&format!("{} / {}", group.scenario, group.variant));
            text.push_str(&format!("| {of} | {name} | {a} | {b} | {difference} | {sign} |\n"));
        }
    }
    text.push('\n');
    for line in &conclusion(compared)[1..] {
        text.push_str(&format!("- {}\n", escaped(line)));
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn is_shown(metric: &ComparedMetric) -> bool {
    matches!(metric.difference.mark, Mark::Better | Mark::Worse)
}

fn short(mark: Mark) -> &'static str {
    match mark {
        Mark::NoneShown => "same",
        Mark::Unknown => "?",
        mark => mark.word(),
    }
}

fn head(group: &ComparedGroup) -> String {
    let [a, b] = group.runs;
    let pairing = group.metrics.first().map(|metric| metric.difference.pairing);
    let how = match pairing {
        Some(Pairing::Paired(pairs)) => format!("{} of seeds", plural(pairs, "pair")),
        _ => format!("{a} and {b} runs, not paired"),
    };
    let [first, second] = &group.systems;
    let systems =
        if first == second { String::new() } else { format!("\n  A: {first}, B: {second}") };
    format!("{} / {}: {how}{systems}", group.scenario, group.variant)
}

/// What is not in the table.
fn rest(group: &ComparedGroup) -> String {
    let count = |mark| group.metrics.iter().filter(|m| m.difference.mark == mark).count();
    let mut parts = Vec::new();
    match count(Mark::NoneShown) {
        0 => {}
        same => parts.push(format!("{}: no difference shown", plural(same, "metric"))),
    }
    let unknown: Vec<&str> = group
        .metrics
        .iter()
        .filter(|m| m.difference.mark == Mark::Unknown)
        .map(|m| m.difference.metric.name())
        .collect();
    if !unknown.is_empty() && unknown.len() < group.metrics.len() {
        parts.push(format!("cannot be told: {}", unknown.join(", ")));
    } else if !unknown.is_empty() {
        parts.push(format!("nothing can be told: {}", why_nothing(group)));
    }
    parts.join("\n  ")
}

/// Why no metric of a group could be compared, and what to do.
fn why_nothing(group: &ComparedGroup) -> String {
    let more = "run at least 5 seeds";
    let [a, b] = group.runs;
    let alone = match (a, b) {
        (1, 1) => "A and B have",
        (1, _) => "A has",
        (_, 1) => "B has",
        _ => return format!("no metric has an interval; {more} of both"),
    };
    let of = match (a, b) {
        (1, 1) => "of both",
        (1, _) => "of A",
        _ => "of B",
    };
    format!("{alone} a single run,\n  which does not say how far seeds differ; {more} {of}")
}

/// One sentence on the whole, and what to distrust.
fn conclusion(compared: &Compared) -> Vec<String> {
    let (worse, better) = (compared.count(Mark::Worse), compared.count(Mark::Better));
    let looked_at = compared.looked_at();
    let mut lines = vec![match (worse, better) {
        _ if compared.groups.is_empty() => "The two sets have no run in common".to_owned(),
        _ if looked_at == 0 => "Nothing can be told: too few runs to compare".to_owned(),
        (0, 0) => format!("No difference shown in {}", plural(looked_at, "metric")),
        _ => format!("{worse} worse, {better} better, of {}", plural(looked_at, "metric")),
    }];
    let by_chance = looked_at as f64 * (1.0 - compared.confidence);
    if worse + better > 0 && by_chance >= 0.5 {
        lines.push(format!(
            "By chance alone, about {by_chance:.0} would be marked; --confidence 0.999 marks fewer."
        ));
    }
    for group in compared.groups.iter().filter(|group| group.texts_differ) {
        lines.push(format!(
            "{} / {}: the records come from different texts of the scenario.",
            group.scenario, group.variant
        ));
    }
    lines.extend(compared.missing.iter().map(|missing| format!("{missing}.")));
    lines
}

/// Name, both values, and the difference with its interval.
fn cells(metric: &ComparedMetric) -> [String; 4] {
    let of = metric.difference.metric;
    let value = |value: &MetricValue| match value.value {
        None => "–".to_owned(),
        Some(number) => {
            format!("{}{}", if value.is_bound { "≥" } else { "" }, number_of(of, number))
        }
    };
    let difference = match (metric.difference.difference, metric.difference.interval) {
        (None, _) => "–".to_owned(),
        (Some(number), None) => signed(of, number),
        (Some(number), Some(bounds)) => format!(
            "{} ({} … {})",
            signed(of, number),
            signed(of, bounds.low),
            signed(of, bounds.high)
        ),
    };
    [name_of(of), value(&metric.a), value(&metric.b), difference]
}

fn name_of(metric: Metric) -> String {
    let unit = match metric.unit() {
        MetricUnit::Share => " %",
        MetricUnit::PerSecond => " /s",
        MetricUnit::Milliseconds => " ms",
        MetricUnit::Factor => "",
    };
    // The longest have no room for their unit.
    match metric {
        Metric::TimeToRecover => "recovery ms".to_owned(),
        Metric::TimeToDetect => "detection ms".to_owned(),
        metric => format!("{}{unit}", metric.name()),
    }
}

fn number_of(metric: Metric, number: f64) -> String {
    match metric.unit() {
        MetricUnit::Share => format!("{:.3}", number * 100.0),
        _ if metric == Metric::Amplification => format!("{number:.3}"),
        _ => significant(number),
    }
}

fn signed(metric: Metric, number: f64) -> String {
    let text = number_of(metric, number.abs());
    match number {
        number if number > 0.0 => format!("+{text}"),
        number if number < 0.0 => format!("−{text}"),
        _ => "0".to_owned(),
    }
}

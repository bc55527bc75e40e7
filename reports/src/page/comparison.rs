//! The numbers of a scenario, a row a variant, and what was expected of them.

use super::verdict_mark;
use crate::figures;
use crate::format::{grouped, mean_count, percent, plural, seeds, share, significant};
use crate::format::{success_digits, supported};
use crate::html::escape;
use crate::summary::{ScenarioSummary, VariantSummary};

/// The quantiles of the table.
const QUANTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];

pub(super) fn html(scenario: &ScenarioSummary) -> String {
    format!("{}{}", numbers(scenario), expectations(scenario))
}

/// A column of counts that is left out when it is zero for every variant.
type Counted = (&'static str, fn(&VariantSummary) -> u64);

const COUNTS: [Counted; 5] = [
    ("late", |v| v.accounting.late),
    ("timeouts", |v| v.accounting.timeout),
    ("errors", |v| v.other_failures().errors),
    ("no answer", |v| v.other_failures().unanswered),
    ("wasted", VariantSummary::wasted),
];

fn counted(scenario: &ScenarioSummary) -> (Vec<Counted>, Vec<Counted>) {
    COUNTS.iter().partition(|(_, count)| scenario.variants.iter().any(|v| count(v) > 0))
}

fn numbers(scenario: &ScenarioSummary) -> String {
    let faulted = faulted(scenario);
    let (counts, _) = counted(scenario);
    let rows: String =
        scenario.variants.iter().map(|variant| row(variant, &counts, faulted.as_deref())).collect();
    let head = |name: &str, unit: &str| {
        format!("<th scope=\"col\">{}<small>{unit}</small></th>", escape(name))
    };
    let mut heads = head("success", "mean and range, %");
    heads.extend(QUANTILES.iter().map(|(_, name)| head(name, "ms")));
    heads.push_str(&head("max", "ms"));
    heads.extend(counts.iter().map(|(name, _)| head(name, "per run")));
    if let Some(name) = &faulted {
        heads.push_str(&head(&format!("to {name}"), "during its fault"));
    }
    format!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Numbers per variant\">\n\
         <table>\n<caption>Numbers per variant, {}</caption>\n<thead><tr><th scope=\"col\">variant</th>{heads}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n</div>\n<p class=\"note\">{}</p>\n",
        plural(scenario.runs(), "run"),
        remark(scenario)
    )
}

/// The backend whose share under its fault has a column: the first with a fault.
fn faulted(scenario: &ScenarioSummary) -> Option<String> {
    let endpoints = scenario.variants.iter().flat_map(VariantSummary::endpoints);
    endpoints.into_iter().find(|e| e.share_in_fault.is_some()).map(|e| e.name.clone())
}

fn row(variant: &VariantSummary, counts: &[Counted], faulted: Option<&str>) -> String {
    let digits = success_digits(variant.success.mean).max(2);
    let success = |rate: f64| percent(rate, digits);
    let spread = match variant.seeds.len() {
        1 => "<small>1 seed</small>".to_owned(),
        _ => {
            format!(
                "<small>{} – {}</small>",
                success(variant.success.min),
                success(variant.success.max)
            )
        }
    };
    let runs = variant.seeds.len();
    let time =
        |(ms, bound): (f64, bool)| format!("{}{}", if bound { "≥ " } else { "" }, significant(ms));
    let mut cells = vec![format!("<b>{}</b>{spread}", success(variant.success.mean))];
    for (quantile, _) in QUANTILES {
        let known = supported(quantile, variant.response.count());
        let mut cell = if known { time(variant.quantile_ms(quantile)) } else { "–".to_owned() };
        if quantile == 0.99 && known && runs > 1 {
            let (min, max) = (significant(variant.p99_ms.min), significant(variant.p99_ms.max));
            cell.push_str(&format!("<small>{min} – {max}</small>"));
        }
        cells.push(cell);
    }
    cells.push(match variant.response.is_empty() {
        true => "–".to_owned(),
        false => time(variant.quantile_ms(1.0)),
    });
    cells.extend(counts.iter().map(|(_, count)| mean_count(count(variant), runs)));
    if let Some(name) = faulted {
        let endpoint = variant.endpoints().find(|e| e.name == name);
        cells.push(endpoint.and_then(|e| e.share_in_fault).map_or("–".to_owned(), share));
    }
    let cells: String = cells.iter().map(|c| format!("<td>{c}</td>")).collect();
    let name = escape(&variant.label);
    format!(
        "<tr><th scope=\"row\" data-variant=\"{}\" data-name=\"{name}\">\
         <i class=\"swatch {}\"></i>{name}<small>{}, {} requests</small></th>{cells}</tr>\n",
        variant.place,
        figures::swatch(variant.place),
        plural(runs, "run"),
        grouped(variant.accounting.planned as i64)
    )
}

fn remark(scenario: &ScenarioSummary) -> String {
    let mut text = "Percentiles are those of all runs of a variant together; small print is the \
                    range over seeds. A dash: fewer than ten requests lie beyond it."
        .to_owned();
    let (_, zero) = counted(scenario);
    let zero: Vec<&str> = zero.iter().map(|(name, _)| *name).collect();
    if !zero.is_empty() {
        text.push_str(&format!(" Zero in every run and left out: {}.", zero.join(", ")));
    }
    if scenario.variants.iter().any(|v| v.other_failures().errors > 0) {
        text.push_str(
            " Errors count with the time after which they came: quick ones make percentiles look \
             better than they are.",
        );
    }
    if scenario.is_censored() {
        text.push_str(" ≥: a lower bound, since requests were given up.");
    }
    text
}

fn expectations(scenario: &ScenarioSummary) -> String {
    let (held, of) = scenario.held();
    if of == 0 {
        return "<p class=\"note\">Nothing was expected of these runs.</p>\n".to_owned();
    }
    let groups: String = scenario.variants.iter().map(expectations_of).collect();
    format!(
        "<h3>Expectations: {held} of {of} held</h3>\n\
         <div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Expectations\">\n\
         <table class=\"words\">\n<caption>What was expected, and what was measured</caption>\n\
         <thead><tr><th scope=\"col\">what</th>\
         <th scope=\"col\">wanted</th><th scope=\"col\">measured</th>\
         <th scope=\"col\">verdict</th></tr></thead>\n{groups}</table>\n</div>\n"
    )
}

fn expectations_of(variant: &VariantSummary) -> String {
    if variant.checks.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for check in &variant.checks {
        let failed: Vec<u64> = check.missed().map(|o| o.seed).collect();
        let all = plural(check.outcomes.len(), "run");
        let runs = match failed.len() {
            // What is about the mean of all runs is said in words.
            0 if check.verdict.interval.is_some() || !check.verdict.met => {
                escape(&check.verdict.reason)
            }
            0 => format!("in {all}"),
            n if n == check.outcomes.len() => format!("in {n} of {all}"),
            n => format!("in {n} of {all}: seed {}", seeds(&failed)),
        };
        rows.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}<small>{runs}</small></td></tr>\n",
            escape(&check.what),
            escape(&check.wanted()),
            escape(&check.measured()),
            verdict_mark(check.verdict.met),
        ));
    }
    format!(
        "<tbody>\n<tr class=\"group\"><th colspan=\"4\" scope=\"rowgroup\">{}</th></tr>\n{rows}\
         </tbody>\n",
        escape(&variant.label)
    )
}

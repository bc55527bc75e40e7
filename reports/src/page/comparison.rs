//! The numbers of a scenario, a row a variant, and what was expected of them.

use super::{metrics, variant_anchor, verdict_mark};
use crate::figures;
use crate::format::{mean_count, plural, seeds, share, significant};
use crate::html::escape;
use crate::summary::{ScenarioSummary, VariantSummary};

pub(super) fn html(scenario: &ScenarioSummary) -> String {
    format!("{}{}{}", metrics::html(scenario), numbers(scenario), expectations(scenario))
}

/// A column of counts that is left out when it is zero for every variant.
type Counted = (&'static str, fn(&VariantSummary) -> u64);

const COUNTS: [Counted; 7] = [
    ("late", |v| v.accounting.late),
    ("timeouts", |v| v.accounting.timeout),
    ("errors", |v| v.other_failures().errors),
    ("no answer", |v| v.other_failures().unanswered),
    ("abandoned", VariantSummary::abandoned),
    ("ejections", |v| v.ejections.all),
    ("ejections without a fault", |v| v.ejections.without_fault),
];

fn counted(scenario: &ScenarioSummary) -> (Vec<Counted>, Vec<Counted>) {
    COUNTS.iter().partition(|(_, count)| scenario.variants.iter().any(|v| count(v) > 0))
}

/// What became of the requests that were not answered well: nothing when there were none.
fn numbers(scenario: &ScenarioSummary) -> String {
    let faulted = faulted(scenario);
    let (counts, zero) = counted(scenario);
    let zero: Vec<&str> = zero.iter().map(|(name, _)| *name).collect();
    let left_out = match zero.is_empty() {
        true => String::new(),
        false => {
            format!("<p class=\"note\">Zero in every run and left out: {}.</p>\n", zero.join(", "))
        }
    };
    if counts.is_empty() && faulted.is_none() {
        return left_out;
    }
    let rows: String =
        scenario.variants.iter().map(|variant| row(variant, &counts, faulted.as_deref())).collect();
    let head = |name: &str, unit: &str| {
        format!("<th scope=\"col\">{}<small>{unit}</small></th>", escape(name))
    };
    let mut heads = head("slowest", "ms");
    heads.extend(counts.iter().map(|(name, _)| head(name, "per run")));
    if let Some(name) = &faulted {
        heads.push_str(&head(&format!("to {name}"), "during its fault"));
    }
    let note = match scenario.variants.iter().any(|v| v.other_failures().errors > 0) {
        false => String::new(),
        true => {
            "<p class=\"note\">Errors count with the time after which they came: quick ones make \
                 percentiles look better than they are.</p>\n"
                .to_owned()
        }
    };
    format!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"What became of requests\">\n\
         <table>\n<caption>What became of requests, {}</caption>\n\
         <thead><tr><th scope=\"col\">variant</th>{heads}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n</div>\n{left_out}{note}",
        plural(scenario.runs(), "run"),
    )
}

/// The backend whose share under its fault has a column: the first with a fault, and with others
/// beside it.
fn faulted(scenario: &ScenarioSummary) -> Option<String> {
    let services = scenario.variants.iter().flat_map(|v| &v.services);
    let mut endpoints = services.filter(|s| s.endpoints.len() > 1).flat_map(|s| &s.endpoints);
    endpoints.find(|e| e.share_in_fault.is_some()).map(|e| e.name.clone())
}

fn row(variant: &VariantSummary, counts: &[Counted], faulted: Option<&str>) -> String {
    let runs = variant.seeds.len();
    let (slowest, bound) = variant.quantile_ms(1.0);
    let mut cells = vec![match variant.response.is_empty() {
        true => "–".to_owned(),
        false => format!("{}{}", if bound { "≥ " } else { "" }, significant(slowest)),
    }];
    cells.extend(counts.iter().map(|(_, count)| mean_count(count(variant), runs)));
    if let Some(name) = faulted {
        let endpoint = variant.endpoints().find(|e| e.name == name);
        cells.push(endpoint.and_then(|e| e.share_in_fault).map_or("–".to_owned(), share));
    }
    let cells: String = cells.iter().map(|c| format!("<td>{c}</td>")).collect();
    format!(
        "<tr><th scope=\"row\"><i class=\"swatch {}\"></i>{}</th>{cells}</tr>\n",
        figures::swatch(variant.place),
        escape(&variant.label),
    )
}

/// Expectations that stand open although all of them held.
const OPEN_ROWS: usize = 12;

fn expectations(scenario: &ScenarioSummary) -> String {
    let (held, of) = scenario.held();
    if of == 0 {
        return "<p class=\"note\">Nothing was expected of these runs.</p>\n".to_owned();
    }
    let groups: String = scenario
        .variants
        .iter()
        .enumerate()
        .map(|(place, variant)| expectations_of(place, variant))
        .collect();
    let rows: usize = scenario.variants.iter().map(|variant| variant.checks.len()).sum();
    let open = if held < of || rows <= OPEN_ROWS { " open" } else { "" };
    format!(
        "<h3>Expectations: {held} of {of} held</h3>\n\
         <details{open}>\n<summary>What was expected, and what was measured</summary>\n\
         <div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Expectations\">\n\
         <table class=\"words\">\n<caption>What was expected, and what was measured</caption>\n\
         <thead><tr><th scope=\"col\">what</th>\
         <th scope=\"col\">wanted</th><th scope=\"col\">measured</th>\
         <th scope=\"col\">verdict</th></tr></thead>\n{groups}</table>\n</div>\n</details>\n"
    )
}

fn expectations_of(place: usize, variant: &VariantSummary) -> String {
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
            verdict_mark(check.verdict.met, check.must_fail()),
        ));
    }
    format!(
        "<tbody id=\"{}\">\n<tr class=\"group\"><th colspan=\"4\" scope=\"rowgroup\">{}</th></tr>\n\
         {rows}</tbody>\n",
        variant_anchor(place),
        escape(&variant.label)
    )
}

//! The way into the report of several scenarios: which variant met what, everywhere.

use super::shell::Page;
use super::verdict::{badge, distrust};
use super::{PageExtras, file_of};
use crate::figures::swatch;
use crate::format::{grouped, in_unit, plural, success};
use crate::html::escape;
use crate::record::{RunRecord, Unit};
use crate::summary::{ScenarioSummary, VariantSummary, world_name};

pub(super) fn html(
    scenarios: &[ScenarioSummary],
    records: &[RunRecord],
    extras: &PageExtras,
    doubts: &[String],
) -> String {
    let held = scenarios.iter().map(ScenarioSummary::held);
    let held = held.fold((0, 0), |(m, n), (held, of)| (m + held, n + of));
    let missing = extras.not_run.len() + extras.broken.len();
    let title = match extras.title.as_str() {
        "" => plural(scenarios.len(), "scenario"),
        title => title.to_owned(),
    };
    let page = Page {
        title,
        lead: format!("{}{}", what_ran(scenarios, records), badge(held, missing)),
        up: None,
        parts: vec![
            ("verdict", "Verdict", format!("{}{}", verdict(scenarios), distrust(doubts, extras))),
            ("matrix", "Every scenario, every variant", matrix(scenarios)),
            ("reproduce", "Reproduce", reproduce(extras)),
        ],
    };
    page.html(extras)
}

fn what_ran(scenarios: &[ScenarioSummary], records: &[RunRecord]) -> String {
    let mut parts = vec![plural(records.len(), "run"), plural(scenarios.len(), "scenario")];
    let mut worlds: Vec<&str> = records.iter().map(|r| world_name(r.world)).collect();
    worlds.sort_unstable();
    worlds.dedup();
    parts.push(worlds.join(" and "));
    let planned: u64 = records.iter().map(|r| r.accounting.planned).sum();
    parts.push(format!("{} requests", grouped(planned as i64)));
    format!("<p class=\"ran\">{}</p>\n", escape(&parts.join(" · ")))
}

fn verdict(scenarios: &[ScenarioSummary]) -> String {
    let failed: Vec<&ScenarioSummary> =
        scenarios.iter().filter(|s| s.held().0 < s.held().1).collect();
    if failed.is_empty() {
        let judged = scenarios.iter().filter(|s| s.held().1 > 0).count();
        return format!("<p>{} met all that was expected.</p>\n", plural(judged, "scenario"));
    }
    let item = |s: &&ScenarioSummary| {
        let variants = s.variants.iter().filter(|v| v.held().0 < v.held().1);
        let variants: Vec<String> = variants.map(|v| escape(&v.label)).collect();
        let (file, title) = (file_of(s), escape(&s.scenario.title));
        format!("<li><a href=\"{file}\">{title}</a>: {}</li>\n", variants.join(", "))
    };
    let items: String = failed.iter().map(item).collect();
    format!("<p>Not met:</p>\n<ul>\n{items}</ul>\n")
}

/// The variants that at least two scenarios share have columns; the others stand in a list.
fn columns(scenarios: &[ScenarioSummary]) -> Vec<&VariantSummary> {
    let mut columns: Vec<&VariantSummary> = Vec::new();
    for variant in scenarios.iter().flat_map(|s| &s.variants) {
        if columns.iter().all(|known| known.place != variant.place) {
            columns.push(variant);
        }
    }
    let in_how_many = |place: usize| {
        scenarios.iter().filter(|s| s.variants.iter().any(|v| v.place == place)).count()
    };
    columns.retain(|v| in_how_many(v.place) > 1);
    columns
}

fn matrix(scenarios: &[ScenarioSummary]) -> String {
    let columns = columns(scenarios);
    let mut heads = String::new();
    for variant in &columns {
        let (swatch, name) = (swatch(variant.place), escape(&variant.label));
        heads.push_str(&format!("<th scope=\"col\"><i class=\"swatch {swatch}\"></i>{name}</th>"));
    }
    let others = scenarios.iter().any(|s| s.variants.iter().any(|v| !has(&columns, v)));
    if others {
        heads.push_str("<th scope=\"col\">other variants</th>");
    }
    let mut rows = String::new();
    for scenario in scenarios {
        let (file, title) = (file_of(scenario), escape(&scenario.scenario.title));
        let name = escape(&scenario.scenario.name);
        rows.push_str(&format!(
            "<tr><th scope=\"row\"><a href=\"{file}\">{name}</a><small>{title}</small></th>"
        ));
        for column in &columns {
            let own = scenario.variants.iter().find(|v| v.place == column.place);
            rows.push_str(&format!("<td>{}</td>", own.map_or("–".to_owned(), cell)));
        }
        if others {
            let rest = scenario.variants.iter().filter(|v| !has(&columns, v));
            let rest: Vec<String> =
                rest.map(|v| format!("<li>{}: {}</li>", escape(&v.label), cell(v))).collect();
            rows.push_str(&format!("<td><ul>{}</ul></td>", rest.concat()));
        }
        rows.push_str("</tr>\n");
    }
    format!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Scenarios and variants\">\n\
         <table class=\"words matrix\">\n<caption>Expectations that held, the share of requests \
         answered well and in time, and what came nearest to its bound in any run</caption>\n\
         <thead><tr><th scope=\"col\">scenario</th>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
    )
}

fn has(columns: &[&VariantSummary], variant: &VariantSummary) -> bool {
    columns.iter().any(|column| column.place == variant.place)
}

fn cell(variant: &VariantSummary) -> String {
    let mark = match variant.held() {
        (_, 0) => "<span class=\"plain\">nothing expected</span>".to_owned(),
        (held, of) if held == of => format!("<span class=\"pass\">✓ {held} of {of}</span>"),
        (held, of) => format!("<span class=\"fail\">✗ {held} of {of}</span>"),
    };
    let expected = variant
        .checks
        .iter()
        .filter(|c| c.verdict.met && c.outcomes.iter().any(|o| o.check.must_fail));
    let expected = match expected.count() {
        0 => String::new(),
        n => format!("<small>{} as expected</small>", plural(n, "failure")),
    };
    let nearest = nearest(variant).map_or(String::new(), |nearest| {
        format!("<small>nearest to its bound: {}</small>", escape(&nearest))
    });
    format!("{mark}<small>{}</small>{expected}{nearest}", success(variant.success.mean))
}

/// What came nearest to its bound, or went farthest beyond it, of the expectations with a number
/// that have to hold: in its worst run.
fn nearest(variant: &VariantSummary) -> Option<String> {
    let outcomes =
        variant.checks.iter().flat_map(|c| c.outcomes.iter().map(move |o| (c, &o.check)));
    let judged = outcomes.filter(|(_, check)| !check.must_fail && check.not_judged.is_none());
    let bounds = judged.flat_map(|(summary, check)| {
        let least = check.absolute(check.at_least).map(|least| (least, true));
        let most = check.absolute(check.at_most).map(|most| (most, false));
        least.into_iter().chain(most).filter_map(move |(bound, is_least)| {
            let (unit, value) = (check.unit?, check.value?);
            let word = if is_least { "at least" } else { "at most" };
            let (value_text, bound_text) = (in_unit(unit, value), in_unit(unit, bound));
            let text = format!("{} {value_text}, {word} {bound_text}", summary.what);
            Some((room(unit, value, bound, is_least)?, text))
        })
    });
    bounds.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, text)| text)
}

/// How much of what a bound leaves is left, below zero beyond the bound. Of a share that has to be
/// large what counts is what is missing: 99.98 % is far from 99.9 %.
fn room(unit: Unit, value: f64, bound: f64, is_least: bool) -> Option<f64> {
    let (value, bound) = match unit {
        Unit::Share if is_least => (1.0 - value, 1.0 - bound),
        _ => (value, bound),
    };
    let beyond = if is_least && unit != Unit::Share { value - bound } else { bound - value };
    match bound > 0.0 {
        // Counts are promises: "at most once" is kept as well by once as by never.
        true if unit == Unit::Count && beyond >= 0.0 => None,
        true => Some(beyond / bound),
        false => (beyond < 0.0).then_some(f64::MIN),
    }
}

fn reproduce(extras: &PageExtras) -> String {
    let command = match extras.command.as_str() {
        "" => String::new(),
        command => format!("<pre tabindex=\"0\">{}</pre>\n", escape(command)),
    };
    format!(
        "{command}<p>Each scenario's page has its text, seeds, versions, and a command for each of \
         its runs.</p>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_a_part_of_what_a_bound_leaves() {
        let share = |value, bound, is_least| room(Unit::Share, value, bound, is_least).unwrap();
        assert!((share(0.9998, 0.999, true) - 0.8).abs() < 1e-9);
        assert!((share(0.998, 0.999, true) + 1.0).abs() < 1e-9);
        assert!((share(0.02, 0.08, false) - 0.75).abs() < 1e-9);
        assert_eq!(room(Unit::Time, 0.5, 2.0, false), Some(0.75));
        assert_eq!(room(Unit::Time, 3.0, 2.0, true), Some(0.5));
    }

    #[test]
    fn what_is_kept_exactly_is_near_nothing() {
        assert_eq!(room(Unit::Count, 1.0, 1.0, false), None);
        assert_eq!(room(Unit::Count, 2.0, 1.0, false), Some(-1.0));
        assert_eq!(room(Unit::Share, 1.0, 1.0, true), None);
        assert_eq!(room(Unit::Share, 0.5, 1.0, true), Some(f64::MIN));
    }
}

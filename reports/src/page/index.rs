//! The way into the report of several scenarios: what was missed, and which variant met what, with
//! how much room. `matrix` lays the variants out, `margin` says how near each came to its bounds.

mod margin;
mod matrix;

use super::shell::Page;
use super::verdict::{badge, distrust};
use super::{PageExtras, file_of, variant_anchor};
use crate::format::{grouped, plural};
use crate::html::escape;
use crate::record::RunRecord;
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
            ("matrix", "Every scenario, every variant", matrix::html(scenarios)),
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

/// What was missed, first; and how much of the rest was asked for what reason.
fn verdict(scenarios: &[ScenarioSummary]) -> String {
    let failed: Vec<&ScenarioSummary> =
        scenarios.iter().filter(|s| s.held().0 < s.held().1).collect();
    let judged = scenarios.iter().filter(|s| s.held().1 > 0).count();
    let met = judged - failed.len();
    let mut text = missed(&failed);
    text.push_str(&match (met, failed.len()) {
        (0, _) => String::new(),
        (_, 0) => format!("<p>{} met all that was expected.</p>\n", plural(met, "scenario")),
        (_, _) => format!("<p>{met} of {judged} scenarios met all that was expected.</p>\n"),
    });
    let variants = || scenarios.iter().flat_map(|s| &s.variants);
    let count = |which: Outcome| variants().filter(|v| Outcome::of(v) == which).count();
    let (whole, meant) = (count(Outcome::Met), count(Outcome::FailedAsMeant));
    if meant > 0 {
        text.push_str(&format!(
            "<p>{} met all expectations. {} had to miss at least one, and did, which shows that \
             the scenarios can tell good from bad.</p>\n",
            plural(whole, "variant"),
            plural(meant, "variant"),
        ));
    }
    text
}

fn missed(failed: &[&ScenarioSummary]) -> String {
    if failed.is_empty() {
        return String::new();
    }
    let mut items = String::new();
    for scenario in failed {
        for (place, variant) in scenario.variants.iter().enumerate() {
            let misses = margin::misses(variant);
            if misses.is_empty() {
                continue;
            }
            items.push_str(&format!(
                "<li><a href=\"{}\">{}, {}</a>: {}</li>\n",
                way_to(scenario, place),
                escape(&scenario.scenario.name),
                escape(&variant.label),
                misses.iter().map(|miss| escape(miss)).collect::<Vec<_>>().join("; ")
            ));
        }
    }
    format!("<h3>Not met</h3>\n<ul class=\"missed\">\n{items}</ul>\n")
}

/// The place of a variant on the page of its scenario.
fn way_to(scenario: &ScenarioSummary, place: usize) -> String {
    format!("{}#{}", file_of(scenario), variant_anchor(place))
}

/// What came of a variant, over all its expectations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    NothingExpected,
    Met,
    FailedAsMeant,
    Missed,
}

impl Outcome {
    fn of(variant: &VariantSummary) -> Self {
        let mut checks = variant.checks.iter();
        match variant.checks.is_empty() {
            true => Self::NothingExpected,
            false if checks.any(|check| !check.verdict.met) => Self::Missed,
            false if variant.has_to_fail() => Self::FailedAsMeant,
            false => Self::Met,
        }
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

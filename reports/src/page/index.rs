//! The way into the report of several scenarios: which variant met what, everywhere.

use super::shell::Page;
use super::verdict::{badge, distrust};
use super::{PageExtras, file_of};
use crate::figures::swatch;
use crate::format::{grouped, plural, success};
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
         <table class=\"words matrix\">\n<caption>Expectations that held, and the share of requests \
         answered well and in time</caption>\n<thead><tr><th scope=\"col\">scenario</th>{heads}</tr>\
         </thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
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
    format!("{mark}<small>{}</small>", success(variant.success.mean))
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

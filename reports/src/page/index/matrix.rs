//! Scenarios in rows, in groups that compare the same variants, which have a column each.
//!
//! One table for all would be mostly empty: of some thirty names most belong to one scenario. So
//! variants that scenarios have together make a group, and what else a scenario has stands in its
//! last cell, each with its name.

use super::margin::{Margin, meant, misses, nearest};
use super::{Outcome, file_of, way_to};
use crate::figures::swatch;
use crate::format::success;
use crate::html::escape;
use crate::summary::{ScenarioSummary, VariantSummary};

/// Two variants belong together when this many scenarios have both.
const TOGETHER: usize = 2;

/// Scenarios that compare the same variants.
struct Group<'s> {
    /// Variants with a column: most of the rows have them.
    columns: Vec<&'s VariantSummary>,
    rows: Vec<&'s ScenarioSummary>,
}

pub(super) fn html(scenarios: &[ScenarioSummary]) -> String {
    let groups = groups(scenarios);
    let tables: String = groups.iter().map(table).collect();
    format!("{KEY}{tables}")
}

const KEY: &str = "<ul class=\"key\">\n\
<li><span class=\"pass\">✓ met</span> every expectation held in every run</li>\n\
<li><span class=\"meant\">◇ fails as meant</span> there to show what goes wrong without something: \
it had to miss an expectation, and did; all its others held</li>\n\
<li><span class=\"fail\">✗ missed</span> an expectation did not hold</li>\n</ul>\n\
<p class=\"note\">The percentage is of requests answered well and in time. The margin is the part of \
what a bound leaves that was left, in the worst run and for the expectation that came nearest to its \
bound: of “at most 200 ms”, 150 ms leaves 25 %; of “at least 99.9 %”, 99.95 % leaves 50 %. Each mark \
leads to the expectations behind it.</p>\n";

/// Groups, the largest first; scenarios that share no variants with others come last.
fn groups(scenarios: &[ScenarioSummary]) -> Vec<Group<'_>> {
    let families = families(scenarios);
    let mut rows: Vec<Vec<&ScenarioSummary>> = vec![Vec::new(); families.len()];
    let mut rest = Vec::new();
    for scenario in scenarios {
        let shared = |family: &Vec<usize>| family.iter().filter(|p| has(scenario, **p)).count();
        let best = (0..families.len()).rev().max_by_key(|i| shared(&families[*i]));
        match best.filter(|i| shared(&families[*i]) >= 2) {
            Some(best) => rows[best].push(scenario),
            None => rest.push(scenario),
        }
    }
    let mut groups: Vec<Group<'_>> =
        families.iter().zip(rows).map(|(family, rows)| group(family, rows)).collect();
    groups.retain(|group| !group.rows.is_empty());
    groups.sort_by_key(|group| std::cmp::Reverse(group.rows.len()));
    if !rest.is_empty() {
        groups.push(Group { columns: Vec::new(), rows: rest });
    }
    groups
}

/// Places of variants, joined by being together in at least [`TOGETHER`] scenarios, in the order in
/// which scenarios first name them.
fn families(scenarios: &[ScenarioSummary]) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = Vec::new();
    for variant in scenarios.iter().flat_map(|s| &s.variants) {
        if !places.contains(&variant.place) {
            places.push(variant.place);
        }
    }
    let together = |a: usize, b: usize| {
        scenarios.iter().filter(|s| has(s, a) && has(s, b)).count() >= TOGETHER
    };
    let mut families: Vec<Vec<usize>> = Vec::new();
    for place in places {
        let of = |family: &Vec<usize>| family.iter().any(|known| together(*known, place));
        let (joined, apart): (Vec<_>, Vec<_>) = families.into_iter().partition(of);
        let mut family = joined.concat();
        family.push(place);
        families = apart;
        families.push(family);
    }
    families.retain(|family| family.len() > 1);
    families
}

fn group<'s>(family: &[usize], rows: Vec<&'s ScenarioSummary>) -> Group<'s> {
    let in_most = |place: usize| rows.iter().filter(|s| has(s, place)).count() * 2 >= rows.len();
    let mut columns: Vec<&VariantSummary> = Vec::new();
    for variant in rows.iter().flat_map(|s| &s.variants) {
        let known = columns.iter().any(|column| column.place == variant.place);
        if !known && family.contains(&variant.place) && in_most(variant.place) {
            columns.push(variant);
        }
    }
    Group { columns, rows }
}

fn has(scenario: &ScenarioSummary, place: usize) -> bool {
    scenario.variants.iter().any(|v| v.place == place)
}

/// The roles are said because narrow pages show cells below each other, and a browser then forgets
/// that it is a table.
fn table(group: &Group<'_>) -> String {
    let names: Vec<String> = group.columns.iter().map(|v| escape(&v.family)).collect();
    let name = match names.as_slice() {
        [] => "Variants of their own".to_owned(),
        names => names.join(", "),
    };
    let head = |content: &str| format!("<th scope=\"col\" role=\"columnheader\">{content}</th>");
    let mut heads = head("scenario");
    for (variant, name) in group.columns.iter().zip(&names) {
        heads.push_str(&head(&format!("<i class=\"swatch {}\"></i>{name}", swatch(variant.place))));
    }
    let others = group.rows.iter().any(|s| s.variants.iter().any(|v| !is_column(group, v)));
    if others {
        heads.push_str(&head(if names.is_empty() { "variants" } else { "other variants" }));
    }
    let rows: String = group.rows.iter().map(|scenario| row(group, scenario, others)).collect();
    format!(
        "<h3>{name}</h3>\n\
         <div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Scenarios with {name}\">\n\
         <table class=\"words matrix\" role=\"table\">\n\
         <caption>What came of each scenario with each variant</caption>\n\
         <thead role=\"rowgroup\"><tr role=\"row\">{heads}</tr></thead>\n\
         <tbody role=\"rowgroup\">\n{rows}</tbody>\n</table>\n</div>\n"
    )
}

fn is_column(group: &Group<'_>, variant: &VariantSummary) -> bool {
    group.columns.iter().any(|column| column.place == variant.place)
}

fn row(group: &Group<'_>, scenario: &ScenarioSummary, others: bool) -> String {
    let (file, title) = (file_of(scenario), escape(&scenario.scenario.title));
    let name = escape(&scenario.scenario.name);
    let mut cells = format!(
        "<th scope=\"row\" role=\"rowheader\"><a href=\"{file}\">{name}</a><small>{title}</small></th>"
    );
    // A variant at several rates has several places in its column.
    let places = |which: &dyn Fn(&VariantSummary) -> bool| -> Vec<usize> {
        let variants = scenario.variants.iter().enumerate();
        variants.filter(|(_, v)| which(v)).map(|(place, _)| place).collect()
    };
    for column in &group.columns {
        let own = places(&|v| v.place == column.place);
        let chips = own.iter().map(|place| chip(scenario, *place, own.len() == 1));
        cells.push_str(&match own.is_empty() {
            true => {
                "<td role=\"cell\" class=\"none\"><span class=\"unseen\">not part of it</span></td>"
                    .to_owned()
            }
            false => format!("<td role=\"cell\">{}</td>", chips.collect::<String>()),
        });
    }
    if others {
        let mut rest = places(&|v| !is_column(group, v));
        rest.sort_by_key(|place| Outcome::of(&scenario.variants[*place]) == Outcome::FailedAsMeant);
        let none = if rest.is_empty() { " class=\"none\"" } else { "" };
        let chips: String = rest.iter().map(|place| chip(scenario, *place, false)).collect();
        cells.push_str(&format!("<td role=\"cell\"{none}><div class=\"chips\">{chips}</div></td>"));
    }
    format!("<tr role=\"row\">{cells}</tr>\n")
}

/// What came of one variant. Where its column says its name, that is shown on narrow pages alone.
fn chip(scenario: &ScenarioSummary, place: usize, named_above: bool) -> String {
    let variant = &scenario.variants[place];
    let outcome = Outcome::of(variant);
    let misses = misses(variant);
    let (class, mark) = match outcome {
        Outcome::NothingExpected => ("plain", "– nothing expected".to_owned()),
        Outcome::Met => ("pass", "✓ met".to_owned()),
        Outcome::FailedAsMeant => ("meant", "◇ fails as meant".to_owned()),
        Outcome::Missed => ("fail", format!("✗ {} missed", misses.len())),
    };
    let left = |margin: &Margin| match margin.left {
        Some(left) => format!(" · margin {:.0} %", left * 100.0 + 0.0),
        None => String::new(),
    };
    let (margin, text) = match outcome {
        Outcome::Missed => (None, Some(misses.join("; "))),
        Outcome::FailedAsMeant => (None, meant(variant).map(|margin| margin.text)),
        _ => nearest(variant).map_or((None, None), |m| (Some(left(&m)), Some(m.text))),
    };
    let shown = if named_above { "of narrow" } else { "of" };
    format!(
        "<div class=\"chip\"><a href=\"{}\"><span class=\"{shown}\"><i class=\"swatch {}\"></i>{} \
         </span><span class=\"{class}\">{mark}</span></a><small>{}{}</small><small>{}</small></div>",
        way_to(scenario, place),
        swatch(variant.place),
        escape(&variant.label),
        success(variant.success.mean),
        margin.unwrap_or_default(),
        text.map_or(String::new(), |text| escape(&text)),
    )
}

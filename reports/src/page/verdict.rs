//! The top of the page: what was run, what held, what was found, and what to distrust.

use super::{Content, anchor, verdict_mark};
use crate::format::{grouped, plural, seeds, share, significant, success};
use crate::html::escape;
use crate::summary::{ScenarioSummary, VariantSummary, world_name};

/// Failures listed one by one before the rest is only counted.
const LISTED: usize = 12;

pub(super) fn html(content: &Content<'_>) -> String {
    let mut html = format!("<header>\n<h1>{}</h1>\n", escape(&content.title()));
    html.push_str(&what_ran(content));
    html.push_str(&badge(content));
    html.push_str("</header>\n");
    html.push_str("<section class=\"findings\">\n<h2>Findings</h2>\n");
    for scenario in content.scenarios {
        html.push_str(&finding(scenario, content.scenarios.len() > 1));
    }
    html.push_str("</section>\n");
    html.push_str(&failures(content));
    html.push_str(&distrust(content));
    html
}

fn what_ran(content: &Content<'_>) -> String {
    let runs = content.records.len();
    let mut parts = vec![plural(runs, "run")];
    match content.scenarios {
        [only] => {
            parts.push(plural(only.variants.len(), "variant"));
            let first = only.variants.first().map(|v| &v.seeds);
            if let Some(first) = first.filter(|f| only.variants.iter().all(|v| v.seeds == **f)) {
                let word = if first.len() == 1 { "seed" } else { "seeds" };
                parts.push(format!("{word} {}", seeds(first)));
            }
        }
        several => parts.push(plural(several.len(), "scenario")),
    }
    let mut worlds: Vec<&str> = content.records.iter().map(|r| world_name(r.world)).collect();
    worlds.dedup();
    worlds.sort_unstable();
    worlds.dedup();
    parts.push(worlds.join(" and "));
    let planned: u64 = content.records.iter().map(|r| r.accounting.planned).sum();
    parts.push(format!("{} requests", grouped(planned as i64)));
    format!("<p class=\"ran\">{}</p>\n", escape(&parts.join(" · ")))
}

fn badge(content: &Content<'_>) -> String {
    let held = content.scenarios.iter().map(ScenarioSummary::held);
    let (held, of) = held.fold((0, 0), |(m, n), (held, of)| (m + held, n + of));
    let missing = content.extras.not_run.len() + content.extras.broken.len();
    let (class, mut text) = match (held, of) {
        (_, 0) => ("plain", "Nothing was expected of these runs".to_owned()),
        (m, n) if m == n => ("pass", format!("✓ {m} of {n} expectations held")),
        (m, n) => ("fail", format!("✗ {} of {n} expectations failed", n - m)),
    };
    let class = if missing > 0 && class == "pass" { "plain" } else { class };
    if missing > 0 {
        text.push_str("; not everything was run");
    }
    format!("<p class=\"badge {class}\">{text}</p>\n")
}

/// What a scenario showed, in words computed from its numbers.
fn finding(scenario: &ScenarioSummary, named: bool) -> String {
    let mut ranked: Vec<&VariantSummary> = scenario.variants.iter().collect();
    ranked.sort_by(|a, b| b.success.mean.total_cmp(&a.success.mean));
    let mut html = String::new();
    if named {
        let (held, of) = scenario.held();
        let verdict = match of {
            0 => String::new(),
            of => format!(
                " <small>{} {held} of {of} expectations held</small>",
                verdict_mark(held == of)
            ),
        };
        html.push_str(&format!(
            "<h3><a href=\"#{}\">{}</a>{verdict}</h3>\n",
            anchor(scenario),
            escape(&scenario.scenario.title)
        ));
    }
    html.push_str(&format!("<p>{}</p>\n", answered(&ranked)));
    let mut more: Vec<String> = Vec::new();
    more.extend(tail(&ranked));
    more.extend(faulted_share(scenario, &ranked));
    if !more.is_empty() {
        html.push_str(&format!("<p>{}</p>\n", more.join(" ")));
    }
    html
}

fn name(variant: &VariantSummary) -> String {
    format!("<b>{}</b>", escape(&variant.label))
}

fn answered(ranked: &[&VariantSummary]) -> String {
    let rate = |v: &VariantSummary| format!("<b>{}</b>", success(v.success.mean));
    let (Some(best), Some(worst)) = (ranked.first(), ranked.last()) else { return String::new() };
    let mut text =
        format!("{} answered {} of its requests well and in time", name(best), rate(best));
    let rest = &ranked[1..];
    if rest.is_empty() {
        text.push('.');
        return text;
    }
    let rest: Vec<String> = rest.iter().map(|v| format!("{} {}", name(v), rate(v))).collect();
    text.push_str(&format!(", {}.", listed(&rest)));
    let (low, high) = (1.0 - best.success.mean, 1.0 - worst.success.mean);
    if low > 0.0 && high / low >= 1.5 {
        text.push_str(&format!(
            " For each request that {} lost, {} lost {}.",
            name(best),
            name(worst),
            ratio(high / low)
        ));
    }
    if ranked[0].success.min <= ranked[1].success.max && ranked[1].success.mean < 1.0 {
        text.push_str(" The ranges of the first two over seeds overlap.");
    }
    text
}

/// The 99th percentile, best first.
fn tail(ranked: &[&VariantSummary]) -> Option<String> {
    let mut by_tail: Vec<&&VariantSummary> =
        ranked.iter().filter(|v| !v.response.is_empty()).collect();
    by_tail.sort_by(|a, b| a.quantile_ms(0.99).0.total_cmp(&b.quantile_ms(0.99).0));
    let text = |v: &&&VariantSummary| {
        let (ms, bound) = v.quantile_ms(0.99);
        let sign = if bound { "at least " } else { "" };
        format!("{sign}{}\u{a0}ms with {}", significant(ms), name(v))
    };
    let all: Vec<String> = by_tail.iter().map(text).collect();
    (!all.is_empty())
        .then(|| format!("The 99th percentile of the response time was {}.", listed(&all)))
}

/// What the faulted backends got while they were faulted.
fn faulted_share(scenario: &ScenarioSummary, ranked: &[&VariantSummary]) -> Option<String> {
    let first = scenario.variants.first()?;
    let service = first.services.iter().find(|s| s.endpoints.iter().any(|e| e.faulted))?;
    let endpoint = &service.endpoints.iter().find(|e| e.share_in_fault.is_some())?.name;
    let of = |v: &VariantSummary| {
        let found = v.endpoints().find(|e| e.name == *endpoint)?;
        Some(format!("{} with {}", share(found.share_in_fault?), name(v)))
    };
    let shares: Vec<String> = ranked.iter().filter_map(|v| of(v)).collect();
    Some(format!(
        "While its fault lasted, {} received {} of the requests to {}; an equal share is {}.",
        escape(endpoint),
        listed(&shares),
        escape(&service.name),
        share(service.fair_share())
    ))
}

fn ratio(value: f64) -> String {
    if value >= 10.0 { grouped(value.round() as i64) } else { format!("{value:.1}") }
}

/// `a`, `a and b`, `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn failures(content: &Content<'_>) -> String {
    let variants = content.scenarios.iter().flat_map(|s| s.variants.iter().map(move |v| (s, v)));
    let mut items: Vec<String> = variants.filter_map(|(s, v)| failed_variant(s, v)).collect();
    if items.is_empty() {
        return String::new();
    }
    let more = match items.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!("<p>{} more in the tables below.</p>\n", grouped(more as i64)),
    };
    items.truncate(LISTED);
    format!(
        "<section>\n<h2>What failed</h2>\n<ul class=\"failures\">\n{}</ul>\n{more}</section>\n",
        items.concat()
    )
}

/// The failed expectations of a variant, and the command that repeats the first run of them.
fn failed_variant(scenario: &ScenarioSummary, variant: &VariantSummary) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut replay: Option<String> = None;
    for check in &variant.checks {
        let Some((text, worst)) = check.miss() else { continue };
        lines.push(format!("{}: {}", escape(&check.what), escape(&text)));
        replay.get_or_insert_with(|| worst.replay.clone());
    }
    Some(format!(
        "<li><b>{}</b> in {}<br>{}<pre>{}</pre></li>\n",
        escape(&variant.label),
        escape(&scenario.scenario.name),
        lines.join("<br>"),
        escape(&replay?)
    ))
}

/// A remark with the things that it is about below it.
fn with_list(remark: &str, names: &[String]) -> String {
    let names: String = names.iter().map(|name| format!("<li>{}</li>", escape(name))).collect();
    format!("{remark}<ul>{names}</ul>")
}

fn distrust(content: &Content<'_>) -> String {
    let extras = content.extras;
    let mut items: Vec<String> = Vec::new();
    if !extras.not_run.is_empty() {
        items.push(with_list("Not run, so this page is not complete:", &extras.not_run));
    }
    if !extras.broken.is_empty() {
        items.push(with_list("Ended without a record:", &extras.broken));
    }
    items.extend(content.doubts.iter().chain(&extras.remarks).map(|d| escape(d)));
    if items.is_empty() {
        return String::new();
    }
    let items: String = items.iter().map(|i| format!("<li>{i}</li>\n")).collect();
    format!(
        "<section class=\"distrust\">\n<h2>What to distrust</h2>\n<ul>\n{items}</ul>\n</section>\n"
    )
}

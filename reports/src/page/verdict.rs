//! The top of a page: what was asked, who met it, what was found, and what to distrust.

use super::{Content, PageExtras, metrics, verdict_mark};
use crate::format::{grouped, plural, rate, seeds, share, significant, span, success};
use crate::html::{escape, paragraphs};
use crate::summary::{CheckSummary, KEEPS_UP, ScenarioSummary, Spread, VariantSummary, world_name};

/// Variants that a paragraph can tell of; of more, it tells of the best and the worst.
const MOST: usize = 8;
/// Doubts that stand open.
const DOUBTS: usize = 6;
/// Failures listed one by one before the rest is only counted.
const LISTED: usize = 12;

/// What stands below the heading: what was run and what held.
pub(super) fn lead(content: &Content<'_>, alone: bool) -> String {
    let scenario = content.scenario;
    let missing = match alone {
        true => content.extras.not_run.len() + content.extras.broken.len(),
        false => 0,
    };
    let setting = setting(scenario);
    format!("<p class=\"ran\">{setting}</p>\n{}", badge(scenario.held(), missing))
}

pub(super) fn html(content: &Content<'_>, alone: bool) -> String {
    let scenario = content.scenario;
    let nobody = PageExtras::default();
    // What concerns the whole report stands on its first page.
    let extras = if alone { content.extras } else { &nobody };
    format!(
        "<div class=\"about\">{}</div>\n{}{}{}{}{}",
        paragraphs(&scenario.scenario.about),
        passed(scenario),
        decided(scenario),
        finding(scenario),
        failures(scenario),
        distrust(&content.doubts, extras)
    )
}

fn setting(scenario: &ScenarioSummary) -> String {
    let mut parts = vec![escape(&scenario.scenario.name), plan(scenario)];
    let mut worlds: Vec<&str> = Vec::new();
    for variant in &scenario.variants {
        if !worlds.contains(&world_name(variant.world)) {
            worlds.push(world_name(variant.world));
        }
    }
    parts.push(worlds.join(" and "));
    parts.push(plural(scenario.runs(), "run"));
    let first = scenario.variants.first().map(|v| &v.seeds);
    if let Some(first) = first.filter(|f| scenario.variants.iter().all(|v| v.seeds == **f)) {
        let word = if first.len() == 1 { "seed" } else { "seeds" };
        parts.push(format!("{word} {}", seeds(first)));
    }
    let planned: u64 = scenario.variants.iter().map(|v| v.accounting.planned).sum();
    parts.push(format!("{} requests", grouped(planned as i64)));
    parts.join(" · ")
}

fn plan(scenario: &ScenarioSummary) -> String {
    let plan = &scenario.plan;
    let rates = match scenario.comparisons.as_slice() {
        [first, .., last] => format!("{} to {}", rate(first.rate_per_s), rate(last.rate_per_s)),
        _ => rate(plan.rate_per_s),
    };
    let deadline = match plan.deadline_ms {
        Some(ms) => format!(" · deadline {}", span(ms)),
        None => String::new(),
    };
    format!(
        "{rates} per second for {}, {}{deadline} · timeout {}",
        span(plan.duration_ms),
        escape(&arrivals(&plan.arrivals)),
        span(plan.timeout_ms)
    )
}

fn arrivals(name: &str) -> String {
    match name {
        "constant" => "evenly spaced".to_owned(),
        "poisson" => "Poisson arrivals".to_owned(),
        other => format!("{other} arrivals"),
    }
}

/// How many expectations held, as one line; `missing` runs were planned and have no record.
pub(super) fn badge((held, of): (usize, usize), missing: usize) -> String {
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

/// Who met all that was expected, and who did not.
fn passed(scenario: &ScenarioSummary) -> String {
    let judged = scenario.variants.iter().filter(|v| v.held().1 > 0);
    let (all, some): (Vec<_>, Vec<_>) = judged.partition(|v| v.held().0 == v.held().1);
    let (foils, all): (Vec<_>, Vec<_>) = all.into_iter().partition(|v| v.has_to_fail());
    let names =
        |list: &[&VariantSummary]| listed(&list.iter().map(|v| name(v)).collect::<Vec<_>>());
    let part = |list: &[&VariantSummary], what: &str| match list.len() {
        0 => None,
        n if n > MOST => Some(format!("{n} variants {what}")),
        _ => Some(format!("{} {what}", names(list))),
    };
    let parts: Vec<String> = [
        part(&some, "missed what was expected"),
        part(&all, "met every expectation"),
        part(&foils, "missed what had to be missed, and held the rest"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        return String::new();
    }
    format!("<p class=\"passed\">{}.</p>\n", parts.join("; "))
}

/// Expectations that stand at the top of a page.
const DECIDING: usize = 8;

/// The expectations that tell variants apart, those that some variant must miss or that compare two,
/// with what each variant measured.
fn decided(scenario: &ScenarioSummary) -> String {
    let mut asked: Vec<&CheckSummary> = Vec::new();
    for check in scenario.variants.iter().flat_map(|v| &v.checks) {
        let known = asked.iter().any(|known| known.asks_the_same(check));
        if check.tells_apart() && !known && asked.len() < DECIDING {
            asked.push(check);
        }
    }
    let item = |asked: &&CheckSummary| {
        let same = |variant: &VariantSummary| {
            variant.checks.iter().position(|check| asked.asks_the_same(check))
        };
        // What is wanted is said best by who has to hold it.
        let mut checks = scenario.variants.iter().filter_map(|v| Some(&v.checks[same(v)?]));
        let wanted = checks.find(|check| !check.must_fail()).unwrap_or(asked).wanted();
        let found = scenario.variants.iter().filter_map(|variant| {
            let check = &variant.checks[same(variant)?];
            let mark = verdict_mark(check.verdict.met, check.must_fail());
            Some(format!("{} {} {mark}", name(variant), escape(&check.measured())))
        });
        let mut found: Vec<String> = found.collect();
        let more = found.len().saturating_sub(MOST);
        found.truncate(MOST);
        if more > 0 {
            found.push(format!("{more} more below"));
        }
        format!(
            "<li>{}, wanted {}: {}</li>\n",
            escape(&asked.what),
            escape(&wanted),
            found.join("; ")
        )
    };
    let items: String = asked.iter().map(item).collect();
    if items.is_empty() {
        return String::new();
    }
    format!("<h3>What tells them apart</h3>\n<ul class=\"decided\">\n{items}</ul>\n")
}

/// What a scenario showed, in words computed from its numbers.
fn finding(scenario: &ScenarioSummary) -> String {
    let mut sentences = Vec::new();
    let mut ranked: Vec<&VariantSummary> = scenario.variants.iter().collect();
    if let Some((at_rate, rate_per_s)) = telling_rate(scenario) {
        sentences.push(at_rate);
        ranked.retain(|variant| variant.rate_per_s == rate_per_s);
    }
    // Those that are there to miss something come last, however many requests they answered.
    ranked.sort_by(|a, b| {
        let by_success = b.success.mean.total_cmp(&a.success.mean);
        a.has_to_fail().cmp(&b.has_to_fail()).then(by_success)
    });
    if ranked.len() > MOST {
        let half = MOST / 2;
        sentences.push(format!(
            "Of {} variants, the {half} that lost the least and the {half} that lost the most:",
            ranked.len()
        ));
        ranked.drain(half..ranked.len() - half);
    }
    sentences.push(answered(&ranked));
    sentences.extend(tail(&ranked));
    sentences.extend(metrics::finding(scenario, &ranked));
    sentences.extend(faulted_share(scenario, &ranked));
    format!("<h3>Finding</h3>\n<p class=\"finding\">{}</p>\n", sentences.join(" "))
}

/// Of variants at several rates: where their knees are, and the rate at which they differ most in
/// what they answered, of which the finding tells more.
fn telling_rate(scenario: &ScenarioSummary) -> Option<(String, f64)> {
    if scenario.comparisons.len() < 2 {
        return None;
    }
    let spread = |rate_per_s: f64| {
        let here = || scenario.variants.iter().filter(move |v| v.rate_per_s == rate_per_s);
        let values = Spread::of(&here().map(|v| v.success.mean).collect::<Vec<_>>());
        values.max - values.min
    };
    let rates = scenario.comparisons.iter().map(|comparison| comparison.rate_per_s);
    let rate_per_s = rates.max_by(|a, b| spread(*a).total_cmp(&spread(*b)))?;
    let knees: Vec<String> = scenario.knees.iter().map(|knee| escape(&knee.words())).collect();
    let knees = match knees.as_slice() {
        [] => String::new(),
        knees => format!(
            "They kept up, with {} % answered well and in time, to this many requests a second, by \
             a straight line between the rates that were tried: {}. ",
            KEEPS_UP * 100.0,
            knees.join("; ")
        ),
    };
    let at = rate(rate_per_s);
    Some((format!("{knees}At {at} per second, where they differ most:"), rate_per_s))
}

pub(super) fn name(variant: &VariantSummary) -> String {
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
    let (first, second) = (ranked[0].success, ranked[1].success);
    let overlap = first.min <= second.max && second.min <= first.max;
    if overlap && first != second && second.mean < 1.0 {
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
        format!("{}, {sign}{}\u{a0}ms", name(v), significant(ms))
    };
    let all: Vec<String> = by_tail.iter().map(text).collect();
    (!all.is_empty())
        .then(|| format!("The 99th percentile of the response time: {}.", all.join("; ")))
}

/// What the faulted backends got while they were faulted.
fn faulted_share(scenario: &ScenarioSummary, ranked: &[&VariantSummary]) -> Option<String> {
    let first = scenario.variants.first()?;
    // The only endpoint of a service gets everything, whatever happens to it.
    let mut services = first.services.iter().filter(|s| s.endpoints.len() > 1);
    let service = services.find(|s| s.endpoints.iter().any(|e| e.faulted))?;
    let endpoint = &service.endpoints.iter().find(|e| e.share_in_fault.is_some())?.name;
    let of = |v: &VariantSummary| {
        let found = v.endpoints().find(|e| e.name == *endpoint)?;
        Some((share(found.share_in_fault?), name(v)))
    };
    let shares: Vec<(String, String)> = ranked.iter().filter_map(|v| of(v)).collect();
    let (some, _) = shares.first()?;
    let shares = match shares.len() > 1 && shares.iter().all(|(share, _)| share == some) {
        true => format!("{some}, whatever the variant,"),
        false => {
            let each = shares.iter().map(|(share, name)| format!("{share} (by {name})"));
            listed(&each.collect::<Vec<_>>())
        }
    };
    Some(format!(
        "While its fault lasted, {} was sent {} of the requests to {}; an equal share is {}.",
        escape(endpoint),
        shares,
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

fn failures(scenario: &ScenarioSummary) -> String {
    let mut items: Vec<String> = scenario.variants.iter().filter_map(failed_variant).collect();
    if items.is_empty() {
        return String::new();
    }
    let more = match items.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!("<p>{} more in the tables below.</p>\n", grouped(more as i64)),
    };
    items.truncate(LISTED);
    format!("<h3>What failed</h3>\n<ul class=\"failures\">\n{}</ul>\n{more}", items.concat())
}

/// The failed expectations of a variant, and the command that repeats the first run of them.
fn failed_variant(variant: &VariantSummary) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut replay: Option<String> = None;
    for check in &variant.checks {
        let Some((text, worst)) = check.miss() else { continue };
        lines.push(format!("{}: {}", escape(&check.what), escape(&text)));
        replay.get_or_insert_with(|| worst.replay.clone());
    }
    Some(format!(
        "<li><b>{}</b><br>{}<pre tabindex=\"0\">{}</pre></li>\n",
        escape(&variant.label),
        lines.join("<br>"),
        escape(&replay?)
    ))
}

/// A remark with the things that it is about below it.
fn with_list(remark: &str, names: &[String]) -> String {
    let names: String = names.iter().map(|name| format!("<li>{}</li>", escape(name))).collect();
    format!("{remark}<ul>{names}</ul>")
}

/// What to distrust, and what the report does not hold.
pub(super) fn distrust(doubts: &[String], extras: &PageExtras) -> String {
    let mut items: Vec<String> = Vec::new();
    if !extras.not_run.is_empty() {
        items.push(with_list("Not run, so this report is not complete:", &extras.not_run));
    }
    if !extras.broken.is_empty() {
        items.push(with_list("Ended without a record:", &extras.broken));
    }
    items.extend(doubts.iter().chain(&extras.remarks).map(|d| escape(d)));
    if items.is_empty() {
        return String::new();
    }
    let rest = if items.len() > DOUBTS + 1 { items.split_off(DOUBTS) } else { Vec::new() };
    let list = |items: &[String]| {
        let items: String = items.iter().map(|i| format!("<li>{i}</li>\n")).collect();
        format!("<ul>\n{items}</ul>\n")
    };
    let rest = match rest.len() {
        0 => String::new(),
        n => format!("<details>\n<summary>{n} more</summary>\n{}</details>\n", list(&rest)),
    };
    format!("<div class=\"distrust\">\n<h3>What to distrust</h3>\n{}{rest}</div>\n", list(&items))
}

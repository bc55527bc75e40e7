//! One run, followed from fault to detection to ejection to recovery.

use super::Content;
use crate::format::significant;
use crate::html::escape;
use crate::record::{Event, RunRecord};
use crate::summary::VariantSummary;

/// Moments that are told one by one before the rest is only counted.
const TOLD: usize = 40;

pub(super) fn html(content: &Content<'_>) -> String {
    let mut html =
        "<p>The first run of each variant, by what was done to it and what its sidecars \
                    did.</p>\n"
            .to_owned();
    for variant in &content.scenario.variants {
        let is_first = |r: &&RunRecord| {
            r.variant == variant.variant
                && r.system == variant.system
                && r.world == variant.world
                && Some(&r.seed) == variant.seeds.first()
        };
        if let Some(run) = content.runs.iter().map(|(run, _)| *run).find(is_first) {
            html.push_str(&told(variant, run));
        }
    }
    html
}

fn told(variant: &VariantSummary, run: &RunRecord) -> String {
    let mut moments: Vec<(u64, String)> = Vec::new();
    for event in &run.events {
        moments.push((event.at_ms, sentence(event)));
        if let Some(until) = event.until_ms.filter(|_| event.kind == "fault") {
            moments.push((until, format!("{} is over: {}", event.target, event.detail)));
        }
    }
    moments.sort_by_key(|(at, _)| *at);
    let more = moments.len().saturating_sub(TOLD);
    let items: String = moments.iter().take(TOLD).map(|(at, what)| item(*at, what)).collect();
    let rest = match more {
        0 => String::new(),
        more => format!("<p class=\"note\">{more} more in the record.</p>\n"),
    };
    let list = match items.is_empty() {
        true => "<p>Nothing was done to it, and it did nothing of note.</p>\n".to_owned(),
        false => format!("<ol class=\"moments\">\n{items}</ol>\n{rest}"),
    };
    format!(
        "<details>\n<summary>{}, seed {}</summary>\n{list}</details>\n",
        escape(&variant.label),
        run.seed
    )
}

fn item(at_ms: u64, what: &str) -> String {
    let at = significant(at_ms as f64 / 1e3);
    format!("<li><b>{at}\u{a0}s</b> {}</li>\n", escape(what))
}

fn sentence(event: &Event) -> String {
    match event.kind.as_str() {
        "fault" => format!("{}: {}", event.target, event.detail),
        kind => format!("{} {}: {}", event.target, kind.replace('_', " "), event.detail),
    }
}

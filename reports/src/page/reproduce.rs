//! How to get the same again: commands, versions, the scenarios as written, and the trace hashes.

use xxhash_rust::xxh3::xxh3_128;

use super::Content;
use crate::format::seeds;
use crate::html::escape;
use crate::summary::{ScenarioSummary, VariantSummary, world_name};

pub(super) fn html(content: &Content<'_>) -> String {
    let mut html = "<p>All randomness of a run comes from its seed. Equal seeds give equal arrivals to \
                    every variant, and a simulated run repeats event by event: its trace hash must be \
                    the same.</p>\n"
        .to_owned();
    if !content.extras.command.is_empty() {
        html.push_str(&format!("<pre tabindex=\"0\">{}</pre>\n", escape(&content.extras.command)));
    }
    html.push_str(&scenario_html(content, content.scenario));
    html.push_str(&data());
    html
}

fn scenario_html(content: &Content<'_>, scenario: &ScenarioSummary) -> String {
    let mut rows = String::new();
    for variant in &scenario.variants {
        rows.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            escape(&variant.label),
            seeds(&variant.seeds),
            escape(&variant.system),
            world_name(variant.world),
            escape(&engines_and_machines(content, variant))
        ));
    }
    let lines = scenario.scenario.text.trim_end();
    format!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Versions\">\n\
         <table class=\"words\">\n<caption>What ran, and in what</caption>\n\
         <thead><tr><th scope=\"col\">variant</th>\
         <th scope=\"col\">seeds</th><th scope=\"col\">system</th><th scope=\"col\">world</th>\
         <th scope=\"col\">ran in</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n\
         <details>\n<summary>The scenario as written</summary>\n<pre tabindex=\"0\">{}</pre>\n</details>\n\
         <details>\n<summary>Runs: replay commands, trace hashes and records</summary>\n{}\
         </details>\n",
        escape(lines),
        runs(content, scenario)
    )
}

/// Programs and, for live runs, the machines.
fn engines_and_machines(content: &Content<'_>, variant: &VariantSummary) -> String {
    let mut all = variant.engines.clone();
    for (run, _) in content.runs.iter().filter(|(run, _)| variant.has(run)) {
        if let Some(machine) = run.environment.machine.as_ref().filter(|m| !all.contains(m)) {
            all.push(machine.clone());
        }
    }
    all.join("; ")
}

fn runs(content: &Content<'_>, scenario: &ScenarioSummary) -> String {
    let mut rows = String::new();
    for variant in &scenario.variants {
        for trace in &variant.traces {
            let this = content.runs.iter().find(|(r, _)| variant.has(r) && r.seed == trace.seed);
            let file = this.map_or(String::new(), |(run, file)| {
                let hash = run.to_json().map_or(String::new(), |json| {
                    format!("<small><code>{:032x}</code></small>", xxh3_128(json.as_bytes()))
                });
                let file = escape(file);
                let of = format!("{}, seed {}", escape(&variant.label), trace.seed);
                format!(
                    "<a href=\"records/{file}\">record<span class=\"unseen\"> of {of}</span></a>{hash}"
                )
            });
            rows.push_str(&format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td><code>{}</code></td>\
                 <td><code>{}</code></td><td>{file}</td></tr>\n",
                escape(&variant.label),
                trace.seed,
                escape(trace.hash.as_deref().unwrap_or("–")),
                escape(&trace.replay)
            ));
        }
    }
    format!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Runs\">\n\
         <table class=\"words\">\n<caption>Every run</caption>\n\
         <thead><tr><th scope=\"col\">variant</th>\
         <th scope=\"col\">seed</th><th scope=\"col\">trace hash</th>\
         <th scope=\"col\">replay</th><th scope=\"col\">record<small>XXH3, 128 bits</small></th></tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n</div>\n"
    )
}

/// The ways to the numbers of the whole report.
fn data() -> String {
    let links: Vec<String> = crate::data::tables(&[])
        .iter()
        .map(|(n, _)| format!("<a href=\"data/{n}\">{n}</a>"))
        .collect();
    format!(
        "<p class=\"note\">Everything that tables and figures show, of all scenarios of the report: \
         {}.</p>\n",
        links.join(", ")
    )
}

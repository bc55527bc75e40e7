//! The summary as a table for a terminal of 80 columns.

use crate::format::{percent, plural, rate, seeds, significant, span, success_digits, supported};
use crate::record::RunRecord;
use crate::summary::{ScenarioSummary, VariantSummary, summarise, world_name};

/// Columns of the terminal.
const WIDTH: usize = 80;
/// Columns of a variant's name.
const NAME: usize = 22;

/// What the signs mean.
const KEY: &str = concat!(
    "  success: mean over seeds ± half their range; p50 to p99.9: all runs merged;\n",
    "  –: fewer than ten requests beyond it; ≥: lower bound, requests were given up\n",
);

/// What sets thousands apart on the page.
const NARROW_SPACE: char = '\u{202f}';

const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// The runs as aligned plain text: a block per scenario, a row per variant, and below it every
/// expectation that failed, with the command that repeats the run.
///
/// Success is the mean over seeds ± half the distance from the worst to the best seed.
pub fn summary_table(records: &[RunRecord]) -> String {
    let mut blocks: Vec<String> = summarise(records).iter().map(block).collect();
    if blocks.is_empty() {
        return String::new();
    }
    blocks.push(KEY.to_owned());
    // Terminals do not agree on the width of a narrow space.
    blocks.join("\n").replace(NARROW_SPACE, "")
}

fn block(scenario: &ScenarioSummary) -> String {
    let plan = &scenario.plan;
    let title = format!("{}: {}", scenario.scenario.name, scenario.scenario.title);
    let mut text = wrapped(&title, "", "  ");
    let deadline = plan.deadline_ms.map(|ms| format!(", deadline {}", span(ms)));
    let worlds: Vec<&str> = scenario.variants.iter().map(|v| world_name(v.world)).collect();
    let world = if worlds.iter().all(|w| *w == worlds[0]) { worlds[0] } else { "both worlds" };
    text.push_str(&format!(
        "  {world}, {}, {}/s for {}{}, timeout {}\n\n",
        plural(scenario.runs(), "run"),
        rate(plan.rate_per_s),
        span(plan.duration_ms),
        deadline.unwrap_or_default(),
        span(plan.timeout_ms)
    ));
    text.push_str(&format!(
        "  {:<NAME$} {:>4} {:>15} {:>8} {:>8} {:>8}  {}\n",
        "variant", "runs", "success %", "p50 ms", "p99 ms", "p99.9 ms", "held"
    ));
    for variant in &scenario.variants {
        text.push_str(&row(variant));
    }
    for variant in &scenario.variants {
        text.push_str(&failures(variant));
    }
    text
}

fn row(variant: &VariantSummary) -> String {
    let digits = success_digits(variant.success.mean);
    let mean = percent(variant.success.mean, digits);
    let success = match variant.seeds.len() {
        1 => mean,
        _ => format!("{mean} ±{:.digits$}", variant.success.half() * 100.0),
    };
    let times = QUANTILES.map(|q| {
        let (ms, bound) = variant.quantile_ms(q);
        match supported(q, variant.response.count()) {
            true => format!("{}{}", if bound { "≥" } else { "" }, significant(ms)),
            false => "–".to_owned(),
        }
    });
    let verdict = match variant.held() {
        (_, 0) => "–".to_owned(),
        (held, of) if held == of => format!("✓ {held}/{of}"),
        (held, of) => format!("✗ {held}/{of}"),
    };
    format!(
        "  {:<NAME$} {:>4} {success:>15} {:>8} {:>8} {:>8}  {verdict}\n",
        cut(&variant.label, NAME),
        variant.seeds.len(),
        times[0],
        times[1],
        times[2]
    )
}

/// The text, cut with an ellipsis where it is longer than `columns`.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns - 1).chain(['…']).collect()
}

fn failures(variant: &VariantSummary) -> String {
    let mut text = String::new();
    for check in &variant.checks {
        let Some((finding, worst)) = check.miss() else { continue };
        let numbers: Vec<u64> = check.missed().map(|o| o.seed).collect();
        let of = match numbers.as_slice() {
            [] => "all seeds".to_owned(),
            [one] => format!("seed {one}"),
            several => format!("seeds {}", seeds(several)),
        };
        let head = format!("✗ {}, {of}: {}", variant.label, check.what);
        text.push_str(&format!("\n{}", wrapped(&head, "  ", "    ")));
        text.push_str(&wrapped(&finding, "    ", "    "));
        // Never wrapped: it is there to be copied.
        text.push_str(&format!("    {}\n", worst.replay));
    }
    text
}

/// Breaks words into lines of the terminal's width.
fn wrapped(text: &str, first: &str, following: &str) -> String {
    let mut lines = String::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split(' ') {
        let width = line.chars().count() + word.chars().count() + usize::from(!empty);
        if !empty && width > WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = following.to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push_str(&line);
    lines.push('\n');
    lines
}

//! What was offered, sent, answered and failed, what attempts that took, and how far the client fell
//! behind its plan: each thing at its own instant.

use super::axis::Axis;
use super::canvas::Stroke;
use super::multiples::{Line, Plot, Spec, multiples};
use super::over_time::times_axis;
use super::palette::{Dash, LIMIT, MUTED, look};
use super::shown::{Shown, over_time, per_second};
use super::{Figure, FigureText};
use crate::format::{grouped, significant};
use crate::record::{Interval, RunRecord, Throughput, World};
use crate::summary::{Band, Metric, VariantSummary, metric_values};

type Runs<'r> = (&'r VariantSummary, &'r [&'r RunRecord]);

fn line(name: &str, unit: &'static str, bands: Vec<Option<Band>>, stroke: Stroke) -> Line {
    Line { name: name.to_owned(), unit, bands, stroke, range: true, named: true }
}

/// The largest value of these plots.
fn highest(plots: &[Plot<'_>]) -> f64 {
    let bands = plots.iter().flat_map(|p| &p.lines).flat_map(|l| l.bands.iter().flatten());
    bands.map(|b| b.max).fold(0.0, f64::max)
}

fn any(plots: &[Plot<'_>]) -> bool {
    plots.iter().flat_map(|p| &p.lines).any(|l| l.bands.iter().any(Option::is_some))
}

/// Sent, answered well, and failed; `None` when no run says when those happened.
pub(crate) fn throughput(shown: &Shown<'_>) -> Option<Figure> {
    let plots: Vec<Plot<'_>> = shown.variants().map(throughput_plot).collect();
    if !any(&plots) {
        return None;
    }
    let text = FigureText {
        id: "throughput-over-time".to_owned(),
        title: "Sent, answered and failed over time".to_owned(),
        caption:
            "Each request where it happened, not where it was planned: dashed when it was sent, \
                  thick when it was answered well and in time, red when it failed in any way."
                .to_owned(),
    };
    let y = Axis::from_zero(highest(&plots), 4, "requests per second");
    Some(multiples(
        shown,
        Spec { text, y, height: 130.0, right: 58.0, limit: None, level: None },
        &plots,
    ))
}

fn throughput_plot((variant, runs): Runs<'_>) -> Plot<'_> {
    let rate = |count: fn(&Throughput) -> u64| {
        over_time(runs, |_, interval| per_second(count(interval.throughput.as_ref()?), interval))
    };
    let sent = Stroke { color: MUTED, width: 1.25, dash: Dash::FINE };
    let lines = vec![
        line("sent", "per second", rate(|t| t.sent), sent),
        line(
            "good",
            "per second",
            rate(|t| t.good),
            Stroke::solid(look(variant.place).color, 2.25),
        ),
        line("failed", "per second", rate(|t| t.failed), Stroke::solid(LIMIT, 1.5)),
    ];
    let failed: u64 = runs
        .iter()
        .flat_map(|r| &r.intervals)
        .filter_map(|i| i.throughput.as_ref())
        .map(|t| t.failed)
        .sum();
    let gist = format!("failed {}", crate::format::mean_count(failed, runs.len()));
    Plot { variant, gist: format!("{gist} per run"), lines, lost: None }
}

/// Attempts for each request sent; `None` when there was never more than one.
pub(crate) fn amplification(shown: &Shown<'_>) -> Option<Figure> {
    let plots: Vec<Plot<'_>> = shown.variants().map(amplification_plot).collect();
    let high = highest(&plots);
    // A request that is sent at the end of an interval and arrives in the next is no amplification.
    if high < 1.02 {
        return None;
    }
    let text = FigureText {
        id: "amplification-over-time".to_owned(),
        title: "Amplification over time".to_owned(),
        caption:
            "Attempts that the client's sidecar sent to backends, or where it was not asked those \
                  that arrived there, for each request that the client sent in the same interval; \
                  dotted: one. Below it are requests that were refused before an attempt was made."
                .to_owned(),
    };
    let y = Axis::from_zero(high, 4, "attempts per request");
    let spec = Spec { text, y, height: 120.0, right: 16.0, limit: None, level: Some(1.0) };
    Some(multiples(shown, spec, &plots))
}

fn amplification_plot((variant, runs): Runs<'_>) -> Plot<'_> {
    let factor = over_time(runs, |_, interval| {
        let Throughput { sent, attempts, .. } = interval.throughput?;
        let said = interval.said.map(|said| said.first + said.retries + said.hedges);
        let attempts = said.unwrap_or(attempts);
        (sent > 0).then(|| attempts as f64 / sent as f64)
    });
    let mut lines = vec![line(
        "attempts",
        "per request",
        factor,
        Stroke::solid(look(variant.place).color, 2.0),
    )];
    lines[0].named = false;
    // Also of attempts after the last interval.
    let whole = metric_values(runs).into_iter().find(|v| v.metric == Metric::Amplification);
    let whole = whole.and_then(|found| found.value);
    let gist = whole.map_or(String::new(), |factor| format!("{} in all", significant(factor)));
    Plot { variant, gist, lines, lost: None }
}

/// What the sidecar says is left of its retry budget; `None` when it has none.
pub(crate) fn budget(shown: &Shown<'_>) -> Option<Figure> {
    let plots: Vec<Plot<'_>> = shown.variants().map(budget_plot).collect();
    // A budget that nobody draws on is a flat line.
    let used = shown.variants().flat_map(|(_, runs)| runs.iter()).flat_map(|r| &r.intervals);
    let used = used.filter_map(|i| i.said).any(|said| said.retries + said.over_budget > 0);
    if !any(&plots) || !used {
        return None;
    }
    let text = FigureText {
        id: "budget-over-time".to_owned(),
        title: "Retry budget over time".to_owned(),
        caption:
            "Retries that the client's sidecar says its budget would still have allowed (thick), \
                  and those that it made (dashed), a second. What a sidecar says explains a \
                  figure; no verdict rests on it."
                .to_owned(),
    };
    // Where nothing bounds retries there is nothing to see.
    if shown.variants().all(|(_, runs)| is_unlimited(runs)) {
        return None;
    }
    let y = Axis::from_zero(highest(&plots), 4, "retries");
    let spec = Spec { text, y, height: 120.0, right: 52.0, limit: None, level: None };
    Some(multiples(shown, spec, &plots))
}

/// A budget that has this much left is none.
const UNLIMITED: u64 = 1_000_000;

fn is_unlimited(runs: &[&RunRecord]) -> bool {
    let left = runs.iter().flat_map(|r| &r.intervals).filter_map(|i| i.said?.budget_left);
    left.max().is_some_and(|left| left >= UNLIMITED)
}

fn budget_plot((variant, runs): Runs<'_>) -> Plot<'_> {
    let color = look(variant.place).color;
    let left = over_time(runs, |_, i| {
        i.said?.budget_left.filter(|left| *left < UNLIMITED).map(|left| left as f64)
    });
    let made = over_time(runs, |_, i| per_second(i.said?.retries, i));
    let lines = vec![
        line("left", "retries", left, Stroke::solid(color, 2.25)),
        line("made", "per second", made, Stroke { color, width: 1.5, dash: Dash::FINE }),
    ];
    let all = runs.iter().flat_map(|r| &r.intervals).filter_map(|i| i.said);
    let refused: u64 = all.map(|said| said.over_budget).sum();
    let gist = match is_unlimited(runs) {
        true => "no limit".to_owned(),
        false => format!("{} over budget", grouped(refused as i64)),
    };
    Plot { variant, gist, lines, lost: None }
}

/// How far behind its plan the client sent, for live runs; a simulated client is never late.
pub(crate) fn send_lag(shown: &Shown<'_>) -> Option<Figure> {
    let live = shown.variants().any(|(variant, _)| variant.world == World::Live);
    let plots: Vec<Plot<'_>> = shown.variants().map(send_lag_plot).collect();
    if !live || !any(&plots) {
        return None;
    }
    let text = FigureText {
        id: "send-lag-over-time".to_owned(),
        title: "Send lag of the client over time".to_owned(),
        caption: "From the instant at which a request was planned to the one at which it was sent: \
                  the 99th percentile (thick) and the median of each interval. It is a part of every \
                  response time, and a client that is itself the bottleneck shows here first. Records of loadgen leave out \
                  requests that waited for a connection: a gap is where all of them did."
            .to_owned(),
    };
    let bands = plots.iter().flat_map(|p| &p.lines).flat_map(|l| l.bands.iter().flatten());
    let y = times_axis(bands, "send lag, ms");
    let spec = Spec { text, y, height: 90.0, right: 40.0, limit: None, level: None };
    Some(multiples(shown, spec, &plots))
}

fn send_lag_plot((variant, runs): Runs<'_>) -> Plot<'_> {
    let color = look(variant.place).color;
    let lag = |of: fn(&crate::record::Quantiles) -> u64| {
        over_time(runs, |_, i: &Interval| Some(of(i.send_lag_us.as_ref()?) as f64 / 1e3))
    };
    let lines = vec![
        line("p50", "ms", lag(|q| q.p50), Stroke::solid(color, 1.25)),
        line("p99", "ms", lag(|q| q.p99), Stroke::solid(color, 2.25)),
    ];
    Plot { variant, gist: String::new(), lines, lost: None }
}

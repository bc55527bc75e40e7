//! The report for people: aligned, within 80 columns.

use std::fmt::Write as _;
use std::time::Duration;

use loadgen::doubt::{self, Verdict};
use loadgen::{LatencyHistogram, Outcome, Recorder};

use super::Report;

/// The widest line.
const COLUMNS: usize = 80;

const USUAL: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

const MORE: [(&str, f64); 10] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p97.5", 0.975),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("p99.999", 0.99999),
    ("max", 1.0),
];

pub(super) fn render(report: &Report<'_>) -> String {
    let mut out = String::new();
    asked(&mut out, report);
    requests(&mut out, report);
    times(&mut out, report);
    connections(&mut out, report);
    causes(&mut out, &report.measured.recorder);
    doubts(&mut out, report);
    next(&mut out, report);
    out
}

/// A line of text; writing into a string does not fail.
macro_rules! line {
    ($out:expr) => { $out.push('\n') };
    ($out:expr, $($arg:tt)*) => {{
        let _ = writeln!($out, $($arg)*);
    }};
}

fn asked(out: &mut String, report: &Report<'_>) {
    let settings = report.settings;
    let plan = &settings.plan;
    let seed = match plan.arrivals() {
        loadgen::Arrivals::Constant => String::new(),
        loadgen::Arrivals::Poisson => format!(" (seed {})", plan.seed()),
    };
    let deadline = match settings.deadline {
        Some(deadline) => format!("deadline {}", short(deadline)),
        None => "no deadline".to_owned(),
    };
    wrap(out, "", &format!("{} {}", settings.target.method(), settings.target.url()));
    wrap(
        out,
        "  ",
        &format!(
            "{} requests/s for {}, {} arrivals{seed}, timeout {}, {deadline}, at most {} \
             connections, {} thread{}, {} pacing",
            plan.rate_per_s(),
            short(plan.end()),
            plan.arrivals().name(),
            short(settings.timeout),
            settings.connections,
            settings.threads,
            if settings.threads == 1 { "" } else { "s" },
            settings.pacing.name(),
        ),
    );
}

fn requests(out: &mut String, report: &Report<'_>) {
    let (recorder, end) = (&report.measured.recorder, &report.measured.end);
    let books = &recorder.accounting;
    let plan = &report.settings.plan;
    line!(out);
    let mut row = |indent: &str, name: &str, count: u64, meaning: &str| {
        let share = count as f64 * 100.0 / books.planned.max(1) as f64;
        let name = format!("{indent}{name}");
        let text = format!("  {name:<14}{count:>12}{share:>9.2} %  {meaning}");
        line!(out, "{}", text.trim_end());
    };
    row("", "planned", books.planned, "");
    row("", "sent", books.sent, "");
    for (outcome, meaning) in [
        (Outcome::Ok, "status below 400"),
        (Outcome::Late, "status below 400, after the deadline"),
        (Outcome::Status, "status 400 or more"),
        (Outcome::Connect, "no connection"),
        (Outcome::Closed, "connection lost"),
        (Outcome::Malformed, "no HTTP response"),
        (Outcome::Timeout, "cancelled at the timeout"),
        (Outcome::Unfinished, "no answer when the run ended"),
    ] {
        let count = books.count(outcome);
        if count > 0 || outcome == Outcome::Ok {
            row("  ", outcome.name(), count, meaning);
        }
    }
    for (outcome, meaning) in [
        (Outcome::Shed, "not sent: past the deadline"),
        (Outcome::Skipped, "not sent: too many in flight"),
        (Outcome::Unsent, "not sent: the run ended"),
    ] {
        if books.count(outcome) > 0 {
            row("", outcome.name(), books.count(outcome), meaning);
        }
    }
    let (intended, achieved) =
        (doubt::intended_rate(plan), doubt::achieved_rate(plan, recorder, end));
    let answered = doubt::answered_rate(plan, recorder, end);
    line!(out);
    line!(
        out,
        "  requests/s    {intended:>12.1} intended {achieved:>10.1} sent {answered:>10.1} answered"
    );
}

/// A row of times: what it is called, its values, and from where on they are lower bounds.
type Row<'a> = (&'static str, &'a LatencyHistogram, Option<Duration>);

fn times(out: &mut String, report: &Report<'_>) {
    let recorder = &report.measured.recorder;
    let mut rows: Vec<Row<'_>> = vec![
        ("response time", &recorder.response, recorder.censored_from),
        ("answered ok", &recorder.response_ok, None),
        ("service time", &recorder.service, recorder.service_censored_from),
        ("send lag", &recorder.send_lag, None),
        ("conn. wait", &recorder.connection_wait, None),
    ];
    rows.retain(|(_, histogram, _)| !histogram.is_empty());
    line!(out);
    if report.settings.latency {
        percentiles_down(out, &rows);
    } else {
        percentiles_across(out, &rows);
    }
    line!(out);
    line!(out, "  response time counts from the planned instant, service time from the send");
    let shown = if report.settings.latency { &MORE[..] } else { &USUAL[..] };
    if shown.iter().any(|(_, quantile)| rows.iter().any(|row| !is_supported(row.1, *quantile))) {
        line!(out, "  – where fewer than {SUPPORT} requests lie beyond");
    }
    if recorder.censored > 0 {
        let count = recorder.censored;
        line!(out, "  ≥ where {count} requests without an answer would have taken longer still");
    }
}

/// One line for each kind of time, with the usual percentiles.
fn percentiles_across(out: &mut String, rows: &[Row<'_>]) {
    let _ = write!(out, "  {:<16}", "");
    for (name, _) in USUAL {
        let _ = write!(out, "{name:>12}");
    }
    line!(out);
    for (name, histogram, censored) in rows {
        let _ = write!(out, "  {name:<16}");
        for (_, quantile) in USUAL {
            let _ = write!(out, "{:>12}", at(histogram, quantile, *censored));
        }
        line!(out);
    }
}

/// One line for each of many percentiles, with a column for each kind of time.
fn percentiles_down(out: &mut String, rows: &[Row<'_>]) {
    let _ = write!(out, "  {:<8}", "");
    for (name, ..) in rows {
        let _ = write!(out, "{name:>14}");
    }
    line!(out);
    for (name, quantile) in MORE {
        let _ = write!(out, "  {name:<8}");
        for (_, histogram, censored) in rows {
            let _ = write!(out, "{:>14}", at(histogram, quantile, *censored));
        }
        line!(out);
    }
}

fn connections(out: &mut String, report: &Report<'_>) {
    let (recorder, end) = (&report.measured.recorder, &report.measured.end);
    line!(out);
    line!(
        out,
        "  in flight     {:>12} at most {:>11.2} on average",
        end.peak_in_flight,
        end.mean_in_flight
    );
    line!(
        out,
        "  connections   {:>12} at most {:>11} opened {:>8} retried",
        end.peak_connections,
        recorder.connect.count(),
        recorder.retried
    );
}

fn causes(out: &mut String, recorder: &Recorder) {
    let statuses =
        recorder.statuses.iter().map(|(status, count)| (format!("status {status}"), *count));
    let failures = recorder.failures.iter().map(|(cause, count)| (cause.clone(), *count));
    let causes: Vec<_> = statuses.chain(failures).collect();
    if causes.is_empty() {
        return;
    }
    line!(out);
    for (cause, count) in causes {
        wrap(out, "  ", &format!("{count:>26} {cause}"));
    }
}

fn doubts(out: &mut String, report: &Report<'_>) {
    line!(out);
    for doubt in &report.doubts {
        wrap(out, "  ", &format!("{}: {doubt}; {}", doubt.verdict().name(), doubt.remedy()));
    }
    let what = match report.verdict {
        Verdict::Valid => "every request is accounted for, nothing speaks against it",
        Verdict::Suspect => "compare it with care",
        Verdict::Void => "it does not measure what was asked; do not use these numbers",
    };
    line!(out, "Verdict: {}; {what}", report.verdict.name());
}

fn next(out: &mut String, report: &Report<'_>) {
    if report.verdict != Verdict::Valid {
        return;
    }
    if report.settings.latency {
        line!(out, "Next: --format json -o FILE keeps every histogram");
    } else {
        line!(out, "Next: --latency prints more percentiles; --format json -o FILE keeps them all");
    }
}

/// Requests that must lie beyond a percentile before it is shown: with fewer, it tells of those
/// requests and not of the server.
const SUPPORT: f64 = 10.0;

fn is_supported(histogram: &LatencyHistogram, quantile: f64) -> bool {
    quantile == 1.0 || histogram.count() as f64 * (1.0 - quantile) >= SUPPORT
}

/// A percentile, marked where it is only a lower bound, and left out where it has no support.
fn at(histogram: &LatencyHistogram, quantile: f64, censored_from: Option<Duration>) -> String {
    if !is_supported(histogram, quantile) {
        return "–".to_owned();
    }
    let value = histogram.quantile(quantile);
    let clamped = value >= loadgen::histogram::HIGHEST;
    // The histogram gives the upper edge of a bucket, the bound is exact: compare edges.
    let bound = censored_from.is_some_and(|from| value >= from) || clamped;
    format!("{}{}", if bound { "≥" } else { "" }, short(value))
}

/// A duration to three digits, in the unit that suits it.
fn short(duration: Duration) -> String {
    let nanos = duration.as_nanos() as f64;
    let (value, unit) = match duration.as_nanos() {
        0..1_000 => return format!("{nanos}ns"),
        1_000..999_950 => (nanos / 1e3, "µs"),
        999_950..999_950_000 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let text = format!("{value:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Writes words in lines of at most [`COLUMNS`], each after `indent`; a longer word stands alone.
fn wrap(out: &mut String, indent: &str, text: &str) {
    let kept = text.len() - text.trim_start().len();
    let mut line = format!("{indent}{}", &text[..kept]);
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            line!(out, "{line}");
            line = format!("{indent}  ");
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    line!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        for (nanos, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_500, "1.5µs"),
            (12_340, "12.3µs"),
            (999_949, "1000µs"),
            (999_950, "1ms"),
            (1_234_567, "1.23ms"),
            (10_000_000_000, "10s"),
            (123_000_000_000, "123s"),
        ] {
            assert_eq!(short(Duration::from_nanos(nanos)), text, "{nanos}");
        }
    }

    #[test]
    fn long_text_is_wrapped_and_a_long_word_is_kept() {
        let mut out = String::new();
        wrap(&mut out, "  ", &"word ".repeat(40));
        assert!(out.lines().count() == 3 && out.lines().all(|l| l.len() <= COLUMNS), "{out}");
        let mut out = String::new();
        wrap(&mut out, "", &"x".repeat(100));
        assert_eq!(out.lines().count(), 1);
    }
}

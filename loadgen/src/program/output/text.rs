//! The report for people: aligned, within 80 columns, from a record alone.

use std::fmt::Write as _;
use std::time::Duration;

use loadgen::doubt::Verdict;
use loadgen::record::{Portion, Record, Times};
use loadgen::slo::SUPPORT;
use loadgen::{LatencyHistogram, Outcome};

/// The widest line.
const COLUMNS: usize = 80;

/// The most targets or backends that are listed; the record has them all.
const LISTED: usize = 20;

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

/// The report; with `more` percentiles if asked for.
pub(in crate::program) fn render(record: &Record, more: bool) -> String {
    let mut out = String::new();
    asked(&mut out, record);
    requests(&mut out, record);
    times(&mut out, record, more);
    traffic(&mut out, record);
    causes(&mut out, record);
    portions(&mut out, "target", record.targets.iter());
    portions(&mut out, "backend", record.backends.iter());
    machine(&mut out, record);
    watched(&mut out, record);
    verdict(&mut out, record);
    next(&mut out, record, more);
    out
}

/// A line of text; writing into a string does not fail.
macro_rules! line {
    ($out:expr) => { $out.push('\n') };
    ($out:expr, $($arg:tt)*) => {{
        let _ = writeln!($out, $($arg)*);
    }};
}

fn asked(out: &mut String, record: &Record) {
    let asked = &record.asked;
    for target in asked.targets.iter().take(LISTED) {
        wrap(out, "", target);
    }
    let lasting = |ns: u64| short(Duration::from_nanos(ns));
    let seed = match asked.arrivals.as_str() {
        "poisson" | "uniform" => format!(" (seed {})", asked.seed),
        _ => String::new(),
    };
    let how_fast = match (&asked.stages, asked.rate_per_s) {
        (Some(stages), _) => format!("{stages} requests/s, {} arrivals{seed}", asked.arrivals),
        (None, Some(rate)) => {
            // A rate that was worked out from times in a file has more digits than meaning.
            let rate = if rate < 1.0 { rate } else { (rate * 1000.0).round() / 1000.0 };
            format!("{rate} requests/s, {} arrivals{seed}", asked.arrivals)
        }
        (None, None) => "closed loop".to_owned(),
    };
    let how_long = match (asked.duration_ns, asked.count) {
        (Some(ns), _) => format!("for {}", lasting(ns)),
        (None, Some(count)) => format!("{count} of them"),
        (None, None) => "to the end".to_owned(),
    };
    let warmup = match asked.warmup_ns {
        0 => String::new(),
        ns => format!(" after {} of warm-up", lasting(ns)),
    };
    let deadline = match asked.deadline_ns {
        Some(ns) => format!("deadline {}", lasting(ns)),
        None => "no deadline".to_owned(),
    };
    let streams = match asked.streams {
        1 => String::new(),
        streams => format!(" of {streams} streams"),
    };
    let threads = asked.threads;
    let plural = if threads == 1 { "" } else { "s" };
    wrap(
        out,
        "  ",
        &format!(
            "{how_fast}, {how_long}{warmup}, {}, timeout {}, {deadline}, at most {} \
             connections{streams}, {threads} thread{plural}, {} pacing",
            asked.protocol,
            lasting(asked.timeout_ns),
            asked.connections,
            asked.pacing,
        ),
    );
    if record.runs > 1 {
        line!(out, "  {} records taken together", record.runs);
    }
}

fn requests(out: &mut String, record: &Record) {
    let books = &record.accounting;
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
        (Outcome::Ok, "answered well"),
        (Outcome::Late, "answered well, after the deadline"),
        (Outcome::Status, "status 400 or more, or not expected"),
        (Outcome::Invalid, "content not as expected"),
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
    let warmup = &record.warmup;
    if warmup.planned > 0 {
        line!(out, "  {:<14}{:>12}  in the warm-up, not measured", "besides", warmup.planned);
    }
    let rate = &record.rate;
    line!(out);
    line!(
        out,
        "  requests/s    {:>12.1} intended {:>10.1} sent {:>10.1} answered",
        rate.intended_per_s,
        rate.achieved_per_s,
        rate.answered_per_s
    );
}

/// A row of times: what it is called, its values, and from where on they are lower bounds.
type Row<'a> = (&'static str, &'a LatencyHistogram, Option<Duration>);

fn times(out: &mut String, record: &Record, more: bool) {
    let is_closed = record.asked.rate_per_s.is_none();
    let names: &[(&'static str, &str)] = if more {
        &[
            ("response", "response"),
            ("resp. ok", "response_ok"),
            ("service", "service"),
            ("send lag", "send_lag"),
            ("conn. wait", "connection_wait"),
        ]
    } else {
        &[
            ("response time", "response"),
            ("  of good ones", "response_ok"),
            ("service time", "service"),
            ("  of good ones", "service_ok"),
            ("first byte", "first_byte"),
            ("connect", "connect"),
            ("conn. wait", "connection_wait"),
            ("send lag", "send_lag"),
        ]
    };
    let kept = |name: &str| !(is_closed && ["response", "response_ok", "send_lag"].contains(&name));
    // Where all were good, the good ones are all.
    let all_good = record.accounting.ok + record.accounting.late == record.accounting.planned;
    let rows = names.iter().filter(|(_, name)| kept(name)).filter_map(|(label, name)| {
        let times = record.times.get(*name).filter(|times| times.count > 0)?;
        let repeats = all_good && name.ends_with("_ok");
        let from = times.censored_from_ns.map(Duration::from_nanos);
        (!repeats).then_some((*label, &times.histogram, from))
    });
    let mut rows: Vec<Row<'_>> = rows.collect();
    let floor = &record.machine.floor;
    if floor.count > 0 && !more {
        rows.push(("  a bare loop's", &floor.histogram, None));
    }
    line!(out);
    if more {
        percentiles_down(out, &rows);
    } else {
        percentiles_across(out, &rows);
    }
    line!(out);
    if is_closed {
        line!(out, "  a closed loop hides the waits that it causes: these are service times");
    } else {
        line!(out, "  response time counts from the planned instant, service time from the send");
    }
    let shown = if more { &MORE[..] } else { &USUAL[..] };
    if shown.iter().any(|(_, quantile)| rows.iter().any(|row| !is_supported(row.1, *quantile))) {
        line!(out, "  – where fewer than {SUPPORT} requests lie beyond");
    }
    if rows.iter().any(|(.., from)| from.is_some()) {
        line!(out, "  ≥ where requests without an answer would have taken longer still");
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

fn traffic(out: &mut String, record: &Record) {
    let (in_flight, connections) = (&record.in_flight, &record.connections);
    let (peak, mean) = (in_flight.peak, in_flight.mean);
    line!(out);
    line!(out, "  in flight     {peak:>12} at most {mean:>11.2} on average");
    line!(
        out,
        "  connections   {:>12} at most {:>11} opened {:>8} retried",
        connections.peak,
        connections.opened,
        connections.retried
    );
}

fn causes(out: &mut String, record: &Record) {
    let statuses = record.statuses.iter();
    let statuses = statuses.map(|(status, p)| (format!("status {status}"), p.accounting.planned));
    let failures = record.failures.iter().map(|(cause, count)| (cause.clone(), *count));
    let causes: Vec<_> = statuses.chain(failures).collect();
    if causes.is_empty() {
        return;
    }
    line!(out);
    for (cause, count) in causes {
        wrap(out, "  ", &format!("{count:>26} {cause}"));
    }
}

/// What each target or backend did.
fn portions<'a>(
    out: &mut String,
    what: &str,
    portions: impl ExactSizeIterator<Item = (&'a String, &'a Portion)>,
) {
    let count = portions.len();
    if count == 0 {
        return;
    }
    line!(out);
    line!(out, "  {:<14}{:>12}{:>10}{:>12}{:>12}", "", "requests", "ok", "p50", "p99");
    for (name, portion) in portions.take(LISTED) {
        let books = &portion.accounting;
        let at = |quantile| at(&portion.response.histogram, quantile, None);
        let numbers = format!(
            "{:<14}{:>12}{:>8.1} %{:>12}{:>12}",
            "",
            books.planned,
            books.success_rate() * 100.0,
            at(0.5),
            at(0.99)
        );
        wrap(out, "  ", &format!("{what} {name}"));
        line!(out, "  {numbers}");
    }
    if count > LISTED {
        line!(out, "  and {} more", count - LISTED);
    }
}

fn machine(out: &mut String, record: &Record) {
    let machine = &record.machine;
    let elapsed = Duration::from_nanos(record.elapsed_ns).as_secs_f64().max(f64::MIN_POSITIVE);
    let shares = machine.thread_cpu_ns.iter().map(|ns| *ns as f64 / 1e7 / elapsed);
    let busiest = shares.fold(0.0, f64::max);
    let Times { max_ns, .. } = machine.hiccups;
    let pause = short(Duration::from_nanos(max_ns));
    line!(out);
    line!(out, "  busiest thread{busiest:>10.0} % of a core, longest pause of the machine {pause}");
}

/// What each watched process used, by the requests that were sent meanwhile.
fn watched(out: &mut String, record: &Record) {
    if record.watched.is_empty() {
        return;
    }
    let sent = record.accounting.sent;
    let memory = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    line!(out);
    let titles = ["CPU time", "a request", "memory", "at most"];
    let [cpu, each, last, peak] = titles;
    line!(out, "  {:<24}{cpu:>12}{each:>12}{last:>13}{peak:>13}", "watched");
    for watched in &record.watched {
        let name = &watched.name;
        if watched.looks.is_empty() {
            line!(out, "  {name:<24}{:>12}", "never seen");
            continue;
        }
        let cpu = format!("{:.3}s", watched.cpu_ns as f64 / 1e9);
        let each = match sent {
            0 => "–".to_owned(),
            sent => format!("{:.1}µs", watched.cpu_ns as f64 / 1e3 / sent as f64),
        };
        let (last, peak) = (memory(watched.memory_last_bytes), memory(watched.memory_peak_bytes));
        line!(out, "  {name:<24}{cpu:>12}{each:>12}{last:>13}{peak:>13}");
    }
}

fn verdict(out: &mut String, record: &Record) {
    line!(out);
    for doubt in &record.doubts {
        wrap(out, "  ", &format!("{}: {}; {}", doubt.verdict, doubt.doubt, doubt.remedy));
    }
    for slo in &record.slos {
        let word = if slo.holds { "met" } else { "MISSED" };
        wrap(out, "  ", &format!("objective {} {word}: {}", slo.slo, slo.measured));
    }
    let what = match record.verdict() {
        Verdict::Valid => "every request is accounted for, nothing speaks against it",
        Verdict::Suspect => "compare it with care",
        Verdict::Void => "it does not measure what was asked; do not use these numbers",
    };
    line!(out, "Verdict: {}; {what}", record.verdict);
}

fn next(out: &mut String, record: &Record, more: bool) {
    if record.verdict() != Verdict::Valid {
        return;
    }
    if more {
        line!(out, "Next: --format json -o FILE keeps every histogram");
    } else {
        line!(out, "Next: --latency prints more percentiles; --format json -o FILE keeps them all");
    }
}

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
pub(in crate::program) fn short(duration: Duration) -> String {
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
pub(in crate::program) fn wrap(out: &mut String, indent: &str, text: &str) {
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

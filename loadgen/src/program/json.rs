//! The report for programs: one JSON document. Times are nanoseconds; histograms are
//! HdrHistogram V2, compressed, in base64.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use loadgen::doubt;
use loadgen::{LatencyHistogram, Recorder};

use super::Report;

const SCHEMA: &str = "meshbench.loadgen/1";

const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

pub(super) fn render(report: &Report<'_>) -> String {
    let mut text = document(report).to_string();
    text.push('\n');
    text
}

fn document(report: &Report<'_>) -> Value {
    let Report { settings, measured, doubts, verdict } = report;
    let (plan, recorder, end) = (&settings.plan, &measured.recorder, &measured.end);
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "plan": {
            "method": settings.target.method().as_str(),
            "url": settings.target.url(),
            "arrivals": plan.arrivals().name(),
            "rate_per_s": plan.rate_per_s(),
            "duration_ns": nanos(plan.end()),
            "seed": plan.seed(),
            "connections": settings.connections,
            "threads": settings.threads,
            "timeout_ns": nanos(settings.timeout),
            "deadline_ns": settings.deadline.map(nanos),
            "pacing": settings.pacing.name(),
        },
        "accounting": recorder.accounting,
        "rate": {
            "intended_per_s": doubt::intended_rate(plan),
            "achieved_per_s": doubt::achieved_rate(plan, recorder, end),
            "answered_per_s": doubt::answered_rate(plan, recorder, end),
        },
        "elapsed_ns": nanos(end.elapsed),
        "interrupted": end.interrupted,
        "in_flight": { "peak": end.peak_in_flight, "mean": end.mean_in_flight },
        "connections": {
            "peak": end.peak_connections,
            "opened": recorder.connect.count(),
            "reused": recorder.reused,
            "retried": recorder.retried,
        },
        "statuses": recorder.statuses,
        "failures": recorder.failures,
        "censored": {
            "count": recorder.censored,
            "from_ns": recorder.censored_from.map(nanos),
            "service_from_ns": recorder.service_censored_from.map(nanos),
        },
        "times": times(recorder),
        "verdict": verdict.name(),
        "doubts": doubts.iter().map(|doubt| json!({
            "verdict": doubt.verdict().name(),
            "doubt": doubt.to_string(),
            "remedy": doubt.remedy(),
        })).collect::<Vec<_>>(),
    })
}

fn times(recorder: &Recorder) -> BTreeMap<&'static str, Times<'_>> {
    let Recorder { response, response_ok, service, send_lag, connection_wait, connect, .. } =
        recorder;
    [
        ("response", response),
        ("response_ok", response_ok),
        ("service", service),
        ("send_lag", send_lag),
        ("connection_wait", connection_wait),
        ("connect", connect),
    ]
    .map(|(name, histogram)| (name, Times::of(histogram)))
    .into()
}

/// A histogram, and what most readers want from it.
#[derive(Serialize)]
struct Times<'a> {
    count: u64,
    clamped: u64,
    mean_ns: u64,
    max_ns: u64,
    quantiles_ns: BTreeMap<&'static str, u64>,
    histogram: &'a LatencyHistogram,
}

impl<'a> Times<'a> {
    fn of(histogram: &'a LatencyHistogram) -> Self {
        Times {
            count: histogram.count(),
            clamped: histogram.clamped(),
            mean_ns: nanos(histogram.mean()),
            max_ns: nanos(histogram.max()),
            quantiles_ns: QUANTILES.map(|(name, q)| (name, nanos(histogram.quantile(q)))).into(),
            histogram,
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

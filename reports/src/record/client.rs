//! Records of the load generator alone, read as live runs.
//!
//! Who measures a server with `loadgen --format json -o FILE` has the client's side of a run:
//! accounting, response times, send lag, doubts, what happened over time, and with `--watch` what the
//! measured processes used. What happened at backends and inside of what was measured is in no such
//! file, and is absent; so are intervals from files that were written before loadgen kept them.

use std::collections::BTreeMap;
use std::path::Path;

use loadgen::LatencyHistogram;
use loadgen::histogram::CoarseHistogram;
use loadgen::record::Record;
use loadgen::series::SeriesInterval;

use super::{
    Check, Environment, Interval, Latencies, PlanSummary, Quantiles, ResourceSample, RunRecord,
    ScenarioText, Throughput, Warning, WarningKind, World,
};

/// What such runs are called together, so that they are compared with each other.
const SCENARIO: &str = "loadgen";

/// Reads a record of the load generator. The variant is the name of its file, up to an `@`: of
/// `haproxy@1.json` and `haproxy@2.json` it is `haproxy`.
pub(super) fn run(of: Record, origin: &Path) -> RunRecord {
    let stem = origin.file_stem().map_or("client".into(), |stem| stem.to_string_lossy());
    let variant = stem.split('@').next().unwrap_or(&stem).to_owned();
    let elapsed_ns = of.elapsed_ns.saturating_sub(of.asked.warmup_ns);
    let measured_ns = of.asked.duration_ns.unwrap_or(elapsed_ns);
    RunRecord {
        schema: super::SCHEMA.to_owned(),
        scenario: ScenarioText {
            name: SCENARIO.to_owned(),
            title: "Measured by the load generator".to_owned(),
            about: "Each variant is what loadgen measured, named by the file of its record. \
                    Only the client's side is known, and what processes used that it watched: \
                    nothing of backends, sidecars and faults."
                .to_owned(),
            text: asked(&of),
            files: BTreeMap::new(),
        },
        world: World::Live,
        // The variant says what it was: loadgen knows a server by its address alone.
        system: "a server on real sockets".to_owned(),
        variant,
        settings: BTreeMap::new(),
        seed: of.asked.seed,
        replay: command(&of),
        environment: Environment {
            meshbench: of.version.clone(),
            engine: format!("loadgen {}", of.version),
            machine: Some(format!("{}, {} processors", of.machine.platform, of.machine.processors)),
            started_unix_s: None,
        },
        plan: PlanSummary {
            arrivals: of.asked.arrivals.clone(),
            rate_per_s: of.asked.rate_per_s.unwrap_or(of.rate.intended_per_s),
            warm_up_ms: None,
            duration_ms: millis(measured_ns).max(1),
            deadline_ms: of.asked.deadline_ns.map(millis),
            timeout_ms: millis(of.asked.timeout_ns),
        },
        accounting: of.accounting,
        latency: latencies(&of),
        intervals: intervals(
            &of,
            if of.interrupted { elapsed_ns.min(measured_ns) } else { measured_ns },
        ),
        endpoints: Vec::new(),
        reactions: Vec::new(),
        events: Vec::new(),
        traces: Vec::new(),
        resources: resources(&of),
        checks: of.slos.iter().map(check).collect(),
        warnings: of.doubts.iter().map(warning).collect(),
        trace_hash: None,
    }
}

/// What has to be equal in runs that are compared: all but their address, load, length and seed.
fn asked(of: &Record) -> String {
    let a = &of.asked;
    format!(
        "{}, {} connections, {} streams, {} threads, overflow {}, pacing {}",
        a.protocol, a.connections, a.streams, a.threads, a.overflow, a.pacing
    )
}

/// What asks for the same again.
fn command(of: &Record) -> String {
    let asked = &of.asked;
    let rate = asked.rate_per_s.map_or(String::new(), |rate| format!(" -R {rate}"));
    let length = match (asked.duration_ns, asked.count) {
        (Some(ns), _) => format!(" -d {}ms", millis(ns)),
        (None, Some(count)) => format!(" -n {count}"),
        (None, None) => String::new(),
    };
    format!(
        "loadgen{rate}{length} --arrival {} --seed {} -c {} -t {} {}",
        asked.arrivals,
        asked.seed,
        asked.connections,
        asked.threads,
        asked.targets.iter().map(|target| aim(target)).collect::<Vec<_>>().join(" ")
    )
}

/// A target as an argument: `GET` is what is asked for anyhow.
fn aim(target: &str) -> String {
    match target.split_once(' ') {
        Some(("GET", url)) => url.to_owned(),
        Some((method, url)) => format!("-X {method} {url}"),
        None => target.to_owned(),
    }
}

fn latencies(of: &Record) -> Latencies {
    let times = |name: &str| of.times.get(name);
    let histogram =
        |name: &str| times(name).map_or_else(LatencyHistogram::new, |t| t.histogram.clone());
    Latencies {
        response: histogram("response"),
        censored_from_us: times("response").and_then(|t| t.censored_from_ns).map(|ns| ns / 1_000),
        response_ok: histogram("response_ok"),
        service: histogram("service"),
        send_lag: histogram("send_lag"),
    }
}

/// What happened over time. Requests were planned for `planned_ns`, which need not be a whole number
/// of intervals.
fn intervals(of: &Record, planned_ns: u64) -> Vec<Interval> {
    let Some(series) = &of.series else { return Vec::new() };
    let interval = |(index, interval): (u64, &SeriesInterval)| {
        let start_ms = index * series.interval_ms;
        let rest_ms = millis(planned_ns).saturating_sub(start_ms);
        Interval {
            start_ms,
            length_ms: if rest_ms == 0 {
                series.interval_ms
            } else {
                rest_ms.min(series.interval_ms)
            },
            accounting: interval.accounting,
            response_us: quantiles(&interval.response),
            response: Some(interval.response.clone()),
            send_lag_us: quantiles(&interval.send_lag),
            throughput: Some(Throughput {
                sent: interval.sent,
                good: interval.good,
                failed: interval.failed,
                ..Throughput::default()
            }),
            said: None,
        }
    };
    (0..).zip(&series.intervals).map(interval).collect()
}

fn quantiles(of: &CoarseHistogram) -> Option<Quantiles> {
    let us = |quantile| of.quantile(quantile).map(|time| time.as_micros() as u64);
    Some(Quantiles { p50: us(0.5)?, p90: us(0.9)?, p99: us(0.99)?, max: us(1.0)? })
}

fn resources(of: &Record) -> Vec<ResourceSample> {
    let looks =
        of.watched.iter().flat_map(|process| process.looks.iter().map(move |l| (process, l)));
    let sample =
        |(process, look): (&loadgen::watch::Watched, &loadgen::watch::Look)| ResourceSample {
            at_ms: look.at_ms,
            process: process.name.clone(),
            cpu_us: look.cpu_us,
            memory_bytes: look.memory_bytes,
        };
    looks.map(sample).collect()
}

fn check(slo: &loadgen::record::SloRecord) -> Check {
    Check {
        metric: "slo".to_owned(),
        what: "service level objective".to_owned(),
        wanted: slo.slo.clone(),
        measured: slo.measured.clone(),
        held: slo.holds,
        ..Check::default()
    }
}

fn warning(of: &loadgen::record::DoubtRecord) -> Warning {
    Warning {
        kind: WarningKind::ClientSaturated,
        doubt: format!("the load generator calls the run {}: {}", of.verdict, of.doubt),
        remedy: of.remedy.clone(),
    }
}

fn millis(ns: u64) -> u64 {
    ns / 1_000_000
}

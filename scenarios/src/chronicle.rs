//! From a run's result to its record. Pure.
//!
//! `intervals` is what the client saw over time, `endpoints` what the backends did, `reactions` how
//! soon the mesh heeded a fault, `traces` the story of some requests.

mod endpoints;
pub(crate) mod faults;
mod intervals;
mod reactions;
mod traces;

use std::time::Duration;

use loadgen::{Accounting, LatencyHistogram, Outcome, Sample};
use reports::record::{
    Environment, Event, Latencies, PlanSummary, Quantiles, RunRecord, SCHEMA, ScenarioText, World,
};
use sim::RunResult;
use sim::turmoil_engine::ENGINE;

use crate::plan::Job;
use crate::scenario::Scenario;

/// What a series is cut into.
const INTERVAL: Duration = Duration::from_secs(1);

/// The record of a simulated run, without its verdicts.
pub fn record(scenario: &Scenario, job: &Job, result: &RunResult) -> RunRecord {
    let file = &scenario.file;
    let variant = &scenario.variants[job.variant].name;
    RunRecord {
        schema: SCHEMA.to_owned(),
        scenario: ScenarioText {
            name: scenario.name.clone(),
            title: file.title.clone(),
            about: file.about.trim().to_owned(),
            text: scenario.text.clone(),
            files: scenario.files.clone(),
        },
        world: World::Sim,
        system: concat!("meshbench sidecar ", env!("CARGO_PKG_VERSION")).to_owned(),
        variant: variant.clone(),
        settings: scenario.variants[job.variant].settings.clone(),
        seed: job.seed,
        replay: replay(scenario, job),
        environment: Environment {
            meshbench: env!("CARGO_PKG_VERSION").to_owned(),
            engine: ENGINE.to_owned(),
            machine: None,
            started_unix_s: None,
        },
        plan: PlanSummary {
            arrivals: file.load.arrivals_name().to_owned(),
            rate_per_s: file
                .load
                .mean_rate_per_s(scenario.variants[job.variant].rate(), *file.duration.get_ref()),
            warm_up_ms: file.load.warm_up.as_ref().map(|warm_up| millis(*warm_up.get_ref())),
            duration_ms: millis(*file.duration.get_ref()),
            deadline_ms: file.load.deadline.map(millis),
            timeout_ms: millis(file.load.timeout),
        },
        accounting: accounting(&result.samples),
        latency: latencies(&result.samples),
        intervals: intervals::of(scenario, &scenario.variants[job.variant], result),
        endpoints: endpoints::of(scenario, result),
        reactions: reactions::of(scenario, result),
        events: events(scenario, result),
        traces: traces::of(scenario, result),
        resources: Vec::new(),
        checks: Vec::new(),
        warnings: Vec::new(),
        trace_hash: Some(result.fingerprint.to_string()),
    }
}

/// The command that repeats one run, with what it is compared with.
fn replay(scenario: &Scenario, job: &Job) -> String {
    let name = quoted(&scenario.called);
    format!(
        "meshbench run {name} --variant {} --seed {}",
        scenario.variants[job.variant].name, job.seed
    )
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn accounting(samples: &[Sample]) -> Accounting {
    let mut accounting = Accounting::default();
    samples.iter().for_each(|sample| accounting.add(sample.outcome));
    accounting
}

fn latencies(samples: &[Sample]) -> Latencies {
    let mut latencies = Latencies::default();
    let mut censored_from = None;
    for sample in samples {
        latencies.response.record(sample.response_time());
        if sample.outcome.is_censored() {
            let time = sample.response_time();
            censored_from = Some(censored_from.map_or(time, |least: Duration| least.min(time)));
        }
        if sample.outcome == Outcome::Ok {
            latencies.response_ok.record(sample.response_time());
        }
        if let (Some(service), Some(sent)) = (sample.service_time(), sample.sent) {
            latencies.service.record(service);
            latencies.send_lag.record(sent.saturating_sub(sample.planned));
        }
    }
    latencies.censored_from_us = censored_from.map(micros);
    latencies
}

/// How many intervals a run has.
fn interval_count(duration: Duration) -> usize {
    duration.as_nanos().div_ceil(INTERVAL.as_nanos()) as usize
}

/// The interval of an instant; what comes after the plan's end belongs to the last one.
fn interval_of(at: Duration, count: usize) -> usize {
    place(at).min(count.saturating_sub(1))
}

/// The interval of an instant, of as many as it takes.
fn place(at: Duration) -> usize {
    (at.as_nanos() / INTERVAL.as_nanos()) as usize
}

/// When each interval begins and how long it is; the last one may be shorter.
fn spans(duration: Duration) -> impl Iterator<Item = (Duration, Duration)> {
    let starts = (0..interval_count(duration) as u32).map(|n| INTERVAL * n);
    starts.map(move |start| (start, (duration - start).min(INTERVAL)))
}

/// `None` when there is nothing in it.
fn quantiles(times: &LatencyHistogram) -> Option<Quantiles> {
    (!times.is_empty()).then(|| Quantiles {
        p50: micros(times.quantile(0.5)),
        p90: micros(times.quantile(0.9)),
        p99: micros(times.quantile(0.99)),
        max: micros(times.max()),
    })
}

fn events(scenario: &Scenario, result: &RunResult) -> Vec<Event> {
    let faults = faults::events(scenario, &result.faults);
    let of_sidecars = result.sidecar_events.iter().map(|event| Event {
        at_ms: millis(event.at),
        until_ms: event.until.map(millis),
        kind: event.kind.to_owned(),
        target: event.target.clone(),
        detail: event.detail.clone(),
    });
    let mut events: Vec<_> = faults.into_iter().chain(of_sidecars).collect();
    events.sort_by_key(|event| event.at_ms);
    events
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

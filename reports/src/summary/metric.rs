//! What variants are compared by: one number a run, and one of all runs together.

use serde::Serialize;

use crate::format::supported;
use crate::record::{EndpointRecord, RunRecord};
use crate::statistics::{Bounds, CONFIDENCE, Sections, jain, max_over_mean, mean};
use loadgen::LatencyHistogram;

/// A number by which variants are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Answered well and in time, of all that were planned.
    Success,
    /// The same, per second of the plan.
    Goodput,
    /// Median of the response time, censored requests at their limit.
    P50,
    /// 90th percentile.
    P90,
    /// 99th percentile.
    P99,
    /// 99.9th percentile.
    P999,
    /// Attempts that were sent to the instances of the service that the client calls, for each
    /// request that the client sent.
    Amplification,
    /// Work of all instances that came to nothing, of all of their work.
    WastedWork,
    /// From the begin of a fault until its target stays below half of a fair share: the slowest
    /// of a run. What was not detected counts with the time that the fault lasted.
    TimeToDetect,
    /// From the end of a detected fault until its target gets at least half of a fair share again:
    /// the slowest of a run. What did not recover counts with the time until its next fault, or the
    /// end of the run.
    TimeToRecover,
    /// Jain's index of the utilisation of the instances of the service that the client calls.
    Jain,
    /// The utilisation of the busiest of them as a factor of their mean.
    MaxOverMean,
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricUnit {
    /// A part of a whole, from 0 to 1.
    Share,
    /// How many a second.
    PerSecond,
    /// Milliseconds.
    Milliseconds,
    /// A plain factor.
    Factor,
}

impl Metric {
    /// All of them, in the order of a table.
    pub const ALL: [Metric; 12] = [
        Metric::Success,
        Metric::Goodput,
        Metric::P50,
        Metric::P90,
        Metric::P99,
        Metric::P999,
        Metric::Amplification,
        Metric::WastedWork,
        Metric::TimeToDetect,
        Metric::TimeToRecover,
        Metric::Jain,
        Metric::MaxOverMean,
    ];

    /// How a table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Success => "success",
            Metric::Goodput => "goodput",
            Metric::P50 => "p50",
            Metric::P90 => "p90",
            Metric::P99 => "p99",
            Metric::P999 => "p99.9",
            Metric::Amplification => "amplification",
            Metric::WastedWork => "wasted work",
            Metric::TimeToDetect => "time to detect",
            Metric::TimeToRecover => "time to recover",
            Metric::Jain => "Jain index",
            Metric::MaxOverMean => "max/mean",
        }
    }

    /// What it counts.
    pub fn unit(self) -> MetricUnit {
        match self {
            Metric::Success | Metric::WastedWork => MetricUnit::Share,
            Metric::Goodput => MetricUnit::PerSecond,
            Metric::Amplification | Metric::Jain | Metric::MaxOverMean => MetricUnit::Factor,
            Metric::P50
            | Metric::P90
            | Metric::P99
            | Metric::P999
            | Metric::TimeToDetect
            | Metric::TimeToRecover => MetricUnit::Milliseconds,
        }
    }

    /// Whether more of it is better.
    pub fn more_is_better(self) -> bool {
        matches!(self, Metric::Success | Metric::Goodput | Metric::Jain)
    }

    /// The quantile that it is, if it is one.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Metric::P50 => Some(0.5),
            Metric::P90 => Some(0.9),
            Metric::P99 => Some(0.99),
            Metric::P999 => Some(0.999),
            _ => None,
        }
    }

    /// The least and the most that it can be. An interval over runs knows nothing of that by itself.
    fn domain(self) -> (f64, f64) {
        match self {
            Metric::Success | Metric::WastedWork | Metric::Jain => (0.0, 1.0),
            Metric::MaxOverMean => (1.0, f64::INFINITY),
            _ => (0.0, f64::INFINITY),
        }
    }

    /// The least difference to `value` that is one: below it lie the steps of a histogram, and of the
    /// windows by which faults are seen to be heeded.
    pub(super) fn resolution(self, value: f64) -> f64 {
        match self {
            Metric::P50 | Metric::P90 | Metric::P99 | Metric::P999 => value * 0.002,
            Metric::TimeToDetect | Metric::TimeToRecover => 100.0,
            _ => 0.0,
        }
    }

    /// What it is in one run; `None` when the run has nothing to say about it.
    fn of_run(self, run: &RunRecord) -> Option<Reading> {
        let value = match self {
            Metric::Success => (run.accounting.planned > 0).then(|| run.accounting.success_rate()),
            Metric::Goodput => {
                let seconds = run.plan.duration_ms as f64 / 1e3;
                (seconds > 0.0).then(|| run.accounting.ok as f64 / seconds)
            }
            Metric::P50 | Metric::P90 | Metric::P99 | Metric::P999 => {
                return quantile(&run.latency.response, self.quantile()?, run);
            }
            Metric::Amplification => {
                let attempts: u64 = entry(run).map(EndpointRecord::attempts).sum();
                let sent = run.accounting.sent;
                (sent > 0 && entry(run).next().is_some()).then(|| attempts as f64 / sent as f64)
            }
            Metric::WastedWork => wasted_work(run),
            Metric::TimeToDetect => return slowest(run, detected),
            Metric::TimeToRecover => return slowest(run, recovered),
            Metric::Jain => jain(&utilisations(run)?),
            Metric::MaxOverMean => max_over_mean(&utilisations(run)?),
        };
        value.filter(|value| value.is_finite()).map(|value| Reading { value, is_bound: false })
    }
}

/// What a metric is in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    value: f64,
    /// Whether it is only a lower bound.
    is_bound: bool,
}

fn quantile(times: &LatencyHistogram, quantile: f64, run: &RunRecord) -> Option<Reading> {
    if times.is_empty() {
        return None;
    }
    let value = times.quantile(quantile).as_secs_f64() * 1e3;
    let is_bound = run.latency.censored_from_us.is_some_and(|us| value >= us as f64 / 1e3);
    Some(Reading { value, is_bound })
}

/// The instances of the service that the client calls, which is the first.
fn entry(run: &RunRecord) -> impl Iterator<Item = &EndpointRecord> {
    let service = run.endpoints.first().map(|endpoint| endpoint.service.as_str());
    run.endpoints.iter().filter(move |endpoint| Some(endpoint.service.as_str()) == service)
}

fn wasted_work(run: &RunRecord) -> Option<f64> {
    let sum =
        |of: fn(&EndpointRecord) -> Option<u64>| run.endpoints.iter().map(of).sum::<Option<u64>>();
    let (busy, wasted) = (sum(|e| e.busy_us)?, sum(|e| e.wasted_us)?);
    (busy > 0).then(|| wasted as f64 / busy as f64)
}

/// Whether something went wrong at one of them, so that their shares are not to be equal.
pub(super) fn entry_is_faulted(run: &RunRecord) -> bool {
    let hit = |e: &EndpointRecord| {
        let aims = |target: &str| target == e.name || target == e.service;
        run.events.iter().any(|event| event.kind == "fault" && aims(&event.target))
    };
    entry(run).any(hit)
}

/// The share of its workers' time, or the mean number of requests worked on where they are not
/// counted.
pub(super) fn utilisation(endpoint: &EndpointRecord, run: &RunRecord) -> Option<f64> {
    let time = run.plan.duration_ms as f64 * 1e3 * endpoint.workers.unwrap_or(1) as f64;
    (time > 0.0).then_some(endpoint.busy_us? as f64 / time)
}

fn utilisations(run: &RunRecord) -> Option<Vec<f64>> {
    let all: Vec<f64> = entry(run).map(|e| utilisation(e, run)).collect::<Option<_>>()?;
    (all.len() > 1).then_some(all)
}

/// A time in milliseconds, and whether it is a bound; `None` for a fault that does not count.
type Told = Option<(u64, bool)>;

fn slowest(run: &RunRecord, told: fn(&RunRecord, usize) -> Told) -> Option<Reading> {
    let all = (0..run.reactions.len()).filter_map(|place| told(run, place));
    let (ms, is_bound) = all.max()?;
    Some(Reading { value: ms as f64, is_bound })
}

fn detected(run: &RunRecord, place: usize) -> Told {
    let reaction = &run.reactions[place];
    if !run.had_a_choice(reaction) {
        return None;
    }
    let lasted = reaction.until_ms.saturating_sub(reaction.from_ms);
    Some(reaction.detected_after_ms.map_or((lasted, true), |ms| (ms, false)))
}

fn recovered(run: &RunRecord, place: usize) -> Told {
    let reaction = &run.reactions[place];
    let watched_until = reaction.watched_until_ms.unwrap_or(run.plan.duration_ms);
    let left = watched_until.saturating_sub(reaction.until_ms);
    // Of what lasts to the end nothing can be seen, and where nobody left there is no way back.
    let was_left = reaction.detected_after_ms.is_some() && run.had_a_choice(reaction);
    (left > 0 && was_left)
        .then(|| reaction.recovered_after_ms.map_or((left, true), |ms| (ms, false)))
}

/// A metric over all runs of a variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricValue {
    /// Which.
    pub metric: Metric,
    /// Its value: the mean over runs, and for a percentile that of all requests of all runs
    /// together. `None` when no run has one, or there are too few requests for the percentile.
    pub value: Option<f64>,
    /// Where it lies with 95 % confidence; `None` of fewer than two runs.
    #[serde(serialize_with = "as_pair")]
    pub interval: Option<Bounds>,
    /// Whether the value is only a lower bound: requests were given up, or something was never
    /// detected or never recovered.
    pub is_bound: bool,
    /// Runs that have a value.
    pub runs: usize,
    /// Runs that have none.
    pub missing: usize,
}

pub(super) fn as_pair<S: serde::Serializer>(
    bounds: &Option<Bounds>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    bounds.map(|bounds| [bounds.low, bounds.high]).serialize(serializer)
}

/// A metric of some runs: of all together, and of each.
pub(super) struct Measured {
    /// `None` when there is nothing to say.
    pub(super) center: Option<f64>,
    /// In the order of the runs.
    pub(super) of_runs: Vec<Option<f64>>,
    pub(super) is_bound: bool,
}

impl Measured {
    pub(super) fn of(metric: Metric, runs: &[&RunRecord]) -> Self {
        let readings: Vec<_> = runs.iter().map(|run| metric.of_run(run)).collect();
        let of_runs: Vec<_> = readings.iter().map(|r| r.map(|r| r.value)).collect();
        if let Some(quantile) = metric.quantile() {
            return Self::of_quantile(quantile, runs, of_runs);
        }
        let values: Vec<f64> = of_runs.iter().flatten().copied().collect();
        let is_bound = readings.iter().flatten().any(|reading| reading.is_bound);
        Self { center: mean(&values), of_runs, is_bound }
    }

    fn of_quantile(quantile: f64, runs: &[&RunRecord], of_runs: Vec<Option<f64>>) -> Self {
        let mut merged = LatencyHistogram::new();
        runs.iter().for_each(|run| merged.merge(&run.latency.response));
        let value = merged.quantile(quantile).as_secs_f64() * 1e3;
        let censored = runs.iter().filter_map(|run| run.latency.censored_from_us).min();
        Self {
            center: supported(quantile, merged.count()).then_some(value),
            of_runs,
            is_bound: censored.is_some_and(|us| value >= us as f64 / 1e3),
        }
    }

    pub(super) fn value(&self, metric: Metric) -> MetricValue {
        let values: Vec<f64> = self.of_runs.iter().flatten().copied().collect();
        let interval = self
            .center
            .and_then(|center| Sections { center, of_runs: &values }.interval(CONFIDENCE));
        let (least, most) = metric.domain();
        let within = |Bounds { low, high }| Bounds {
            low: low.clamp(least, most),
            high: high.clamp(least, most),
        };
        let interval = interval.map(within);
        MetricValue {
            metric,
            value: self.center,
            interval,
            is_bound: self.is_bound,
            runs: values.len(),
            missing: self.of_runs.len() - values.len(),
        }
    }
}

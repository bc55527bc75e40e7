//! Metrics, from the client's record and the backends' logs. Pure.
//!
//! Nothing here asks the sidecar.

use std::time::Duration;

use loadgen::{LatencyHistogram, Outcome, Sample};
use sim::RunResult;
use sim::backend::LogEntry;

use crate::scenario::{Expectation, Metric, Scenario, Window};

/// What was measured of one run: a share from 0 to 1, or a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A share.
    Share(f64),
    /// A time.
    Time(Duration),
}

impl Value {
    /// The share, or the seconds.
    pub fn number(self) -> f64 {
        match self {
            Value::Share(share) => share,
            Value::Time(time) => time.as_secs_f64(),
        }
    }
}

/// The part of the run that an expectation looks at.
pub fn window(scenario: &Scenario, expectation: &Expectation) -> Window {
    expectation.from.unwrap_or_default()
        ..expectation.until.unwrap_or(*scenario.file.duration.get_ref())
}

/// Measures what an expectation is about; `None` when there was nothing to measure, such as the
/// longest of no response times.
pub fn measure(
    scenario: &Scenario,
    expectation: &Expectation,
    result: &RunResult,
) -> Option<Value> {
    let window = window(scenario, expectation);
    let planned_in_window = || result.samples.iter().filter(|s| window.contains(&s.planned));
    let metric = *expectation.that.get_ref();
    match metric {
        Metric::SuccessRate => share_of(planned_in_window(), |s| s.outcome == Outcome::Ok),
        Metric::StatusShare => share_of(planned_in_window(), |s| s.status == expectation.status),
        Metric::Share => {
            let target = expectation.target.as_ref()?.get_ref();
            let place = scenario.instances().iter().position(|name| name == target)?;
            let arrived = |log: &[LogEntry]| {
                log.iter().filter(|entry| window.contains(&entry.arrived)).count() as f64
            };
            let all: f64 = result.logs.iter().map(|log| arrived(log)).sum();
            (all > 0.0).then(|| Value::Share(arrived(&result.logs[place]) / all))
        }
        Metric::LongestWork => {
            let entries = result.logs.iter().flatten().filter(|e| window.contains(&e.arrived));
            // What is still being worked on has taken at least until the plan's end.
            let end = *scenario.file.duration.get_ref();
            let ended = |entry: &LogEntry| entry.end.map_or(end, |(_, at)| at);
            entries.map(|e| ended(e).saturating_sub(e.arrived)).max().map(Value::Time)
        }
        _ => {
            let wanted = |s: &&Sample| expectation.status.is_none_or(|st| s.status == Some(st));
            response_time(metric, planned_in_window().filter(wanted)).map(Value::Time)
        }
    }
}

fn share_of<'a>(
    samples: impl Iterator<Item = &'a Sample>,
    wanted: impl Fn(&Sample) -> bool,
) -> Option<Value> {
    let (mut all, mut hits) = (0_u64, 0_u64);
    for sample in samples {
        all += 1;
        hits += u64::from(wanted(sample));
    }
    (all > 0).then(|| Value::Share(hits as f64 / all as f64))
}

/// Exact for the extremes, to three digits for the percentiles.
fn response_time<'a>(
    metric: Metric,
    samples: impl Iterator<Item = &'a Sample>,
) -> Option<Duration> {
    let times = samples.map(Sample::response_time);
    let quantile = match metric {
        Metric::Min => return times.min(),
        Metric::Max => return times.max(),
        Metric::P50 => 0.5,
        Metric::P90 => 0.9,
        Metric::P99 => 0.99,
        Metric::P999 => 0.999,
        Metric::SuccessRate | Metric::StatusShare | Metric::Share | Metric::LongestWork => {
            unreachable!("not a response time")
        }
    };
    let mut histogram = LatencyHistogram::new();
    times.for_each(|time| histogram.record(time));
    (!histogram.is_empty()).then(|| histogram.quantile(quantile))
}

//! Metrics, from the client's record and the backends' logs. Pure.
//!
//! Nothing here asks the sidecar what it did; response flags are read off its answers.

mod deadline;
mod over_time;

use std::collections::BTreeMap;
use std::time::Duration;

use loadgen::{LatencyHistogram, Outcome, Sample};
use sim::RunResult;
use sim::backend::LogEntry;

pub(crate) use self::over_time::Shares;
use crate::scenario::{Expectation, Metric, Scenario, Variant, Window, matches};

/// What was measured of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A part of a whole, from 0 to 1.
    Share(f64),
    /// A duration.
    Time(Duration),
    /// How many.
    Count(u64),
    /// How many a second.
    PerSecond(f64),
    /// How many times as many.
    Factor(f64),
}

impl Value {
    /// The number, in seconds for times.
    pub fn number(self) -> f64 {
        match self {
            Value::Share(number) | Value::PerSecond(number) | Value::Factor(number) => number,
            Value::Time(time) => time.as_secs_f64(),
            Value::Count(count) => count as f64,
        }
    }
}

/// The part of the run that an expectation looks at.
pub fn window(scenario: &Scenario, expectation: &Expectation) -> Window {
    expectation.from.unwrap_or_default()..expectation.until.unwrap_or(scenario.duration())
}

/// Measures what an expectation is about; `None` when there was nothing to measure, such as the
/// longest of no response times.
pub fn measure(
    scenario: &Scenario,
    variant: &Variant,
    expectation: &Expectation,
    result: &RunResult,
) -> Option<Value> {
    let scope = Scope::new(scenario, expectation, result);
    let metric = *expectation.that.get_ref();
    match metric {
        Metric::SuccessRate => share_of(scope.planned(), |s| s.outcome == Outcome::Ok),
        Metric::StatusShare => share_of(scope.planned(), |s| s.status == expectation.status),
        Metric::Goodput => {
            let good = scope.samples().filter(|s| s.outcome == Outcome::Ok);
            let good = good.filter(|s| scope.window.contains(&s.finished)).count();
            let length = scope.window.end - scope.window.start;
            Some(Value::PerSecond(good as f64 / length.as_secs_f64()))
        }
        Metric::Flagged => {
            let flag = expectation.flag.as_ref()?.get_ref();
            let has = |flags: &str| flags.split(',').any(|one| one.trim() == flag);
            let hits =
                result.flagged.iter().filter(|f| has(&f.flags) && scope.window.contains(&f.at));
            Some(Value::Count(hits.count() as u64))
        }
        Metric::Share => scope.share(&scope.window).map(Value::Share),
        Metric::PeakShare => over_time::peak_share(&scope).map(Value::Share),
        Metric::TimeToDetect => over_time::time_to_detect(&scope).map(Value::Time),
        Metric::TimeToRecover => over_time::time_to_recover(&scope).map(Value::Time),
        Metric::Arrivals => Some(Value::Count(scope.arrivals().count() as u64)),
        Metric::Amplification => {
            let sent = scope.planned().filter(|s| s.outcome.was_sent()).map(|s| s.index);
            let sent: std::collections::BTreeSet<_> = sent.collect();
            // Those of the requests planned in the window, whenever they arrived.
            let indexes = scope.at_entry().filter_map(|entry| entry.index);
            let arrived = indexes.filter(|index| sent.contains(index)).count();
            (!sent.is_empty()).then(|| Value::Factor(arrived as f64 / sent.len() as f64))
        }
        Metric::MostSeen => {
            let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
            let arrived = scope.at_entry().filter(|entry| scope.window.contains(&entry.arrived));
            let indexes = arrived.filter_map(|entry| entry.index);
            indexes.filter(|i| scope.has_method(*i)).for_each(|i| *seen.entry(i).or_default() += 1);
            seen.values().max().map(|most| Value::Count(*most))
        }
        Metric::LateStarts => Some(Value::Count(deadline::late_starts(&scope, variant, result))),
        Metric::LongestWork => {
            // What is still being worked on has taken at least until the plan's end.
            let end = scenario.duration();
            let ended = |entry: &LogEntry| entry.end.map_or(end, |(_, at)| at);
            let times = scope.arrivals().map(|e| ended(e).saturating_sub(e.arrived));
            times.max().map(Value::Time)
        }
        Metric::Min | Metric::P50 | Metric::P90 | Metric::P99 | Metric::P999 | Metric::Max => {
            let wanted = |s: &&Sample| expectation.status.is_none_or(|st| s.status == Some(st));
            response_time(metric, scope.planned().filter(wanted)).map(Value::Time)
        }
    }
}

/// One run, seen through one expectation.
struct Scope<'a> {
    scenario: &'a Scenario,
    expectation: &'a Expectation,
    result: &'a RunResult,
    window: Window,
    /// The names of all instances.
    names: Vec<String>,
    /// The services of them.
    services: Vec<usize>,
}

impl<'a> Scope<'a> {
    fn new(scenario: &'a Scenario, expectation: &'a Expectation, result: &'a RunResult) -> Self {
        let window = window(scenario, expectation);
        let (names, services) = (scenario.instances(), scenario.services_of_instances());
        Self { scenario, expectation, result, window, names, services }
    }

    /// The requests that have the method asked for.
    fn samples(&self) -> impl Iterator<Item = &'a Sample> {
        self.result.samples.iter().filter(|sample| self.has_method(sample.index))
    }

    /// Those of them that were planned in the window.
    fn planned(&self) -> impl Iterator<Item = &'a Sample> {
        self.samples().filter(|sample| self.window.contains(&sample.planned))
    }

    fn has_method(&self, index: u64) -> bool {
        let method = self.expectation.method.as_ref().map(|method| method.get_ref().as_str());
        method.is_none_or(|method| self.result.mix.target_of(index).method() == method)
    }

    fn is_target(&self, place: usize) -> bool {
        let target = self.expectation.target.as_ref();
        target.is_none_or(|target| matches(target.get_ref(), &self.names[place]))
    }

    /// The places of the targets; of all instances, if none is named.
    fn targets(&self) -> impl Iterator<Item = usize> {
        (0..self.names.len()).filter(|&place| self.is_target(place))
    }

    /// The places of all instances of the services that the targets belong to.
    fn peers(&self) -> impl Iterator<Item = usize> {
        let of_targets: Vec<_> = self.targets().map(|place| self.services[place]).collect();
        (0..self.names.len()).filter(move |&place| of_targets.contains(&self.services[place]))
    }

    /// What arrived at the targets in the window, of the method asked for.
    fn arrivals(&self) -> impl Iterator<Item = &'a LogEntry> {
        let logs = self.targets().flat_map(|place| &self.result.logs[place]);
        logs.filter(|entry| {
            let method = entry.index.is_none_or(|index| self.has_method(index));
            method && self.window.contains(&entry.arrived)
        })
    }

    /// All that arrived at the service that the client calls.
    fn at_entry(&self) -> impl Iterator<Item = &'a LogEntry> {
        let logs = self.result.logs.iter().zip(&self.services);
        logs.filter(|(_, service)| **service == 0).flat_map(|(log, _)| log)
    }

    /// The targets' part of what arrived at their services in a time.
    fn share(&self, window: &Window) -> Option<f64> {
        let arrived = |place: usize| {
            let log = self.result.logs[place].iter();
            log.filter(|entry| window.contains(&entry.arrived)).count() as f64
        };
        let all: f64 = self.peers().map(arrived).sum();
        let hits: f64 = self.targets().map(arrived).sum();
        (all > 0.0).then(|| hits / all)
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
        Metric::P50 => 0.5,
        Metric::P90 => 0.9,
        Metric::P99 => 0.99,
        Metric::P999 => 0.999,
        // The only other one that is a response time.
        _ => return times.max(),
    };
    let mut histogram = LatencyHistogram::new();
    times.for_each(|time| histogram.record(time));
    (!histogram.is_empty()).then(|| histogram.quantile(quantile))
}

//! Metrics, from the client's record and the backends' logs. Pure.
//!
//! Nothing here asks the sidecar what it did; response flags are read off its answers. The one
//! exception is what is measured of its ejections, which are held against the faults that were
//! injected: see `measure/ejections.rs`.

mod deadline;
mod ejections;
mod over_time;
mod scope;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use loadgen::{LatencyHistogram, Outcome, Sample};
use sim::RunResult;
use sim::backend::LogEntry;

pub(crate) use self::over_time::Shares;
use crate::scenario::{Expectation, Metric, Scenario, Variant};
use scope::Scope;

/// What was measured of one run.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// A number in the metric's unit; seconds for times.
    Number(f64),
    /// What was waited for did not happen: longer than any time.
    Never,
    /// There was nothing to measure, and why.
    Nothing(String),
}

impl Measured {
    /// A number, or why there is none.
    fn or(number: Option<f64>, why: &str) -> Self {
        number.map_or_else(|| Measured::Nothing(why.to_owned()), Measured::Number)
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Measured::Number(number) => Some(*number),
            _ => None,
        }
    }
}

const NONE_PLANNED: &str = "no such request was planned then";
const NONE_ARRIVED: &str = "no such request arrived then";

/// Measures what an expectation is about.
pub fn measure(
    scenario: &Scenario,
    variant: &Variant,
    expectation: &Expectation,
    result: &RunResult,
) -> Measured {
    let Some(scope) = Scope::new(scenario, expectation, result) else {
        return Measured::Nothing("its window is not there in this run".to_owned());
    };
    let count = |count: usize| Some(count as f64);
    match expectation.metric {
        Metric::SuccessRate => share_of(scope.planned(), |s| s.outcome == Outcome::Ok),
        Metric::StatusShare => share_of(scope.planned(), |s| s.status == expectation.status),
        Metric::Goodput => a_second(&scope, |outcome| outcome == Outcome::Ok),
        Metric::Throughput => a_second(&scope, Outcome::was_answered),
        Metric::Flagged => scope.if_planned(|| flagged(&scope)),
        Metric::Share => Measured::or(scope.share(), NONE_ARRIVED),
        Metric::PeakShare => over_time::peak_share(&scope),
        Metric::TimeToDetect => over_time::time_to_detect(&scope),
        Metric::TimeToRecover => over_time::time_to_recover(&scope),
        Metric::Arrivals => scope.if_planned(|| scope.arrivals().count()),
        Metric::Amplification => {
            let sent = scope.planned().filter(|s| s.outcome.was_sent()).map(|s| s.index);
            let sent: BTreeSet<_> = sent.collect();
            // Those of the requests planned in the window, whenever they arrived.
            let indexes = scope.at_entry().filter_map(|entry| entry.index);
            let arrived = indexes.filter(|index| sent.contains(index)).count();
            let factor = (!sent.is_empty()).then(|| arrived as f64 / sent.len() as f64);
            Measured::or(factor, "no such request was sent then")
        }
        Metric::MostSeen => {
            let arrived = scope.at_entry().filter(|entry| scope.window.contains(&entry.arrived));
            Measured::or(most_of_one(&scope, arrived), NONE_ARRIVED)
        }
        Metric::MostAtOne => {
            let at_one = |place| most_of_one(&scope, scope.arrivals_at(place));
            Measured::or(scope.targets().filter_map(at_one).max_by(f64::total_cmp), NONE_ARRIVED)
        }
        Metric::LateStarts => scope.if_arrived(|| deadline::late_starts(&scope, variant)),
        Metric::WastedWork => work::wasted(&scope, variant),
        Metric::Ejections => scope.if_planned(|| ejections::count(&scope)),
        Metric::EjectionPrecision => ejections::precision(&scope),
        Metric::EjectionRecall => ejections::recall(&scope),
        Metric::Jain => work::jain(&scope),
        Metric::MaxOverMean => work::max_over_mean(&scope),
        Metric::PeakInWork => Measured::or(count_some(work::peak_in_work(&scope)), NONE_ARRIVED),
        Metric::PeakInFlight => {
            let of = |s: &Sample| Some((s.sent?, s.finished));
            let most = work::most_at_a_time(scope.samples().filter_map(of), &scope.window);
            Measured::or(most.and_then(count), "no such request was in flight then")
        }
        Metric::LongestWork => longest(scope.work_times()),
        Metric::Work(percentile) => quantile(scope.work_times(), percentile),
        Metric::Min => time(response_times(&scope).min()),
        Metric::Max => longest(response_times(&scope)),
        Metric::Mean => {
            let (sum, all) = response_times(&scope)
                .fold((0.0, 0_u64), |(sum, all), time| (sum + time.as_secs_f64(), all + 1));
            Measured::or((all > 0).then(|| sum / all as f64), NONE_PLANNED)
        }
        Metric::Response(percentile) => quantile(response_times(&scope), percentile),
    }
}

fn count_some(count: Option<usize>) -> Option<f64> {
    count.map(|count| count as f64)
}

/// Response times of the requests planned in the window, with the status asked for.
fn response_times<'a>(scope: &'a Scope<'_>) -> impl Iterator<Item = Duration> + 'a {
    let status = scope.expectation.status;
    let wanted = move |s: &&Sample| status.is_none_or(|status| s.status == Some(status));
    scope.planned().filter(wanted).map(Sample::response_time)
}

fn time(time: Option<Duration>) -> Measured {
    Measured::or(time.map(|time| time.as_secs_f64()), "there was no such request then")
}

fn longest(times: impl Iterator<Item = Duration>) -> Measured {
    time(times.max())
}

/// To three digits. At least one value has to lie beyond the percentile, or it is the maximum.
fn quantile(
    times: impl Iterator<Item = Duration>,
    percentile: crate::scenario::Percentile,
) -> Measured {
    let mut histogram = LatencyHistogram::new();
    times.for_each(|time| histogram.record(time));
    if histogram.count() < percentile.support() {
        let (needs, has) = (percentile.support(), histogram.count());
        let why = format!("{percentile} is of at least {needs} requests, and there were {has}");
        return Measured::Nothing(why);
    }
    Measured::Number(histogram.quantile(percentile.quantile()).as_secs_f64())
}

/// How many ended so in the window, a second.
fn a_second(scope: &Scope<'_>, counts: impl Fn(Outcome) -> bool) -> Measured {
    if !scope.samples().any(|sample| sample.planned < scope.window.end) {
        return Measured::Nothing(NONE_PLANNED.to_owned());
    }
    let ended = scope.samples().filter(|s| scope.window.contains(&s.finished));
    let count = ended.filter(|s| counts(s.outcome)).count();
    let length = scope.window.end - scope.window.start;
    Measured::Number(count as f64 / length.as_secs_f64())
}

/// Answers that carried the flag asked for.
fn flagged(scope: &Scope<'_>) -> usize {
    let flag = scope.expectation.flag.as_deref().unwrap_or_default();
    let has = |flags: &str| flags.split(',').any(|one| one.trim() == flag);
    let wanted = scope.result.flagged.iter().filter(|answer| {
        has(&answer.flags) && scope.window.contains(&answer.at) && scope.is_wanted(answer.index)
    });
    wanted.count()
}

/// How many of these arrivals the request that has the most of them has.
fn most_of_one<'a>(scope: &Scope<'_>, arrivals: impl Iterator<Item = &'a LogEntry>) -> Option<f64> {
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    let indexes = arrivals.filter_map(|entry| entry.index);
    let wanted = indexes.filter(|index| scope.is_wanted(Some(*index)));
    wanted.for_each(|index| *seen.entry(index).or_default() += 1);
    count_some(seen.values().copied().max())
}

fn share_of<'a>(
    samples: impl Iterator<Item = &'a Sample>,
    wanted: impl Fn(&Sample) -> bool,
) -> Measured {
    let (mut all, mut hits) = (0_u64, 0_u64);
    for sample in samples {
        all += 1;
        hits += u64::from(wanted(sample));
    }
    Measured::or((all > 0).then(|| hits as f64 / all as f64), NONE_PLANNED)
}

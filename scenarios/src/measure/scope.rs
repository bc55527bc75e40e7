//! One run, seen through one expectation: its window, its instances, its requests. Pure.

use std::time::Duration;

use loadgen::Sample;
use sim::RunResult;
use sim::backend::LogEntry;

use super::{Measured, NONE_ARRIVED, NONE_PLANNED};
use crate::scenario::{Expectation, Requests, Scenario, Window, matches};

/// One run, seen through one expectation.
pub(super) struct Scope<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) expectation: &'a Expectation,
    pub(super) result: &'a RunResult,
    pub(super) window: Window,
    /// The names of all instances.
    pub(super) names: Vec<String>,
    /// The services of them.
    pub(super) services: Vec<usize>,
    /// Which of them it is about.
    among: Vec<bool>,
}

impl<'a> Scope<'a> {
    /// `None` when the window is not there in this run.
    pub(super) fn new(
        scenario: &'a Scenario,
        expectation: &'a Expectation,
        result: &'a RunResult,
    ) -> Option<Self> {
        let (names, services) = (scenario.instances(), scenario.services_of_instances());
        let fault = |target: &str| first_fault(scenario, result, |at| matches(target, &names[at]));
        let window = expectation.when.window(scenario.duration(), fault)?;
        let among = expectation.instances.among(&scenario.file);
        Some(Self { scenario, expectation, result, window, names, services, among })
    }

    /// The requests asked for.
    pub(super) fn samples(&self) -> impl Iterator<Item = &'a Sample> {
        self.result.samples.iter().filter(|sample| self.is_wanted(Some(sample.index)))
    }

    /// Those of them that were planned in the window.
    pub(super) fn planned(&self) -> impl Iterator<Item = &'a Sample> {
        self.samples().filter(|sample| self.window.contains(&sample.planned))
    }

    /// Whether a request is one of those asked for; one that says nothing of itself is, if all are.
    pub(super) fn is_wanted(&self, index: Option<u64>) -> bool {
        let requests = &self.expectation.requests;
        *requests == Requests::default()
            || index.is_some_and(|index| requests.has(self.result.mix.target_of(index)))
    }

    /// A count, if a request was planned by the end of the window: of no requests, none is no news.
    pub(super) fn if_planned(&self, count: impl Fn() -> usize) -> Measured {
        let any = self.samples().any(|sample| sample.planned < self.window.end);
        Measured::or(any.then(|| count() as f64), NONE_PLANNED)
    }

    /// A count of arrivals, if there was one.
    pub(super) fn if_arrived(&self, count: impl Fn() -> usize) -> Measured {
        let any = self.arrivals().next().is_some();
        Measured::or(any.then(|| count() as f64), NONE_ARRIVED)
    }

    pub(super) fn is_target(&self, place: usize) -> bool {
        self.among[place]
    }

    /// The places of the instances asked for; of all, if nothing is said.
    pub(super) fn targets(&self) -> impl Iterator<Item = usize> {
        (0..self.names.len()).filter(|&place| self.is_target(place))
    }

    /// The places of all instances of the services that the targets belong to.
    pub(super) fn peers(&self) -> impl Iterator<Item = usize> {
        let of_targets: Vec<_> = self.targets().map(|place| self.services[place]).collect();
        (0..self.names.len()).filter(move |&place| of_targets.contains(&self.services[place]))
    }

    /// What arrived at the targets in the window.
    pub(super) fn arrivals(&self) -> impl Iterator<Item = &'a LogEntry> {
        self.targets().flat_map(|place| self.arrivals_at(place))
    }

    /// What arrived at an instance in the window, of the requests asked for.
    pub(super) fn arrivals_at(&self, place: usize) -> impl Iterator<Item = &'a LogEntry> {
        let wanted =
            |entry: &&LogEntry| self.window.contains(&entry.arrived) && self.is_wanted(entry.index);
        self.result.logs[place].iter().filter(wanted)
    }

    /// All that arrived at the service that the client calls.
    pub(super) fn at_entry(&self) -> impl Iterator<Item = &'a LogEntry> {
        let logs = self.result.logs.iter().zip(&self.services);
        logs.filter(|(_, service)| **service == 0).flat_map(|(log, _)| log)
    }

    /// How long the targets had what arrived in the window, queueing included. What is still being
    /// worked on has taken at least until the plan's end.
    pub(super) fn work_times(&self) -> impl Iterator<Item = Duration> {
        self.arrivals().map(|entry| self.ended(entry).saturating_sub(entry.arrived))
    }

    /// When a request left an instance; the plan's end while it is there.
    pub(super) fn ended(&self, entry: &LogEntry) -> Duration {
        entry.end.map_or(self.scenario.duration(), |(_, at)| at)
    }

    /// The targets' part of what arrived at their services in the window.
    pub(super) fn share(&self) -> Option<f64> {
        let all = self.peers().flat_map(|place| self.arrivals_at(place)).count();
        (all > 0).then(|| self.arrivals().count() as f64 / all as f64)
    }
}

/// From the first begin to the last end of the first fault that hit one of some instances.
fn first_fault(
    scenario: &Scenario,
    result: &RunResult,
    is_one: impl Fn(usize) -> bool,
) -> Option<Window> {
    let end = scenario.duration();
    let hits = result.faults.iter().filter(|fault| fault.instance().is_some_and(&is_one));
    let first = hits.min_by_key(|fault| fault.at)?;
    let again = result.faults.iter().filter(|fault| fault.kind == first.kind);
    let last = again.map(|fault| fault.until.unwrap_or(end).min(end)).max()?;
    Some(first.at..last)
}

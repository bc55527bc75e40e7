//! Who got the requests: the share of each endpoint, in total, under its fault, and over time.

use std::collections::{BTreeMap, BTreeSet};

use super::metric::utilisation;
use super::timeline::{Band, middle_s, planned};
use crate::record::{EndpointRecord, Event, RunRecord, Served};
use crate::statistics::mean;

/// The endpoints of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSummary {
    /// The service.
    pub name: String,
    /// Its endpoints, in the order of the records.
    pub endpoints: Vec<EndpointSummary>,
}

impl ServiceSummary {
    /// The share of each endpoint if all had the same.
    pub fn fair_share(&self) -> f64 {
        1.0 / self.endpoints.len().max(1) as f64
    }
}

/// One endpoint over all seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSummary {
    /// Service and instance.
    pub name: String,
    /// Whether a fault of the scenario is aimed at it.
    pub faulted: bool,
    /// What it saw in all runs together.
    pub total: Served,
    /// Sent here of all that was sent to its service, 0 to 1, over all runs; zero when nothing was.
    pub share: f64,
    /// The same, over the intervals that begin while a fault on it lasts; `None` when there are
    /// none, or nothing was sent in them.
    pub share_in_fault: Option<f64>,
    /// Its share in each interval.
    pub share_over_time: Vec<Option<Band>>,
    /// The part of its workers' time that was spent on requests, or the mean number of requests
    /// worked on at once where workers are not counted: the mean over runs. `None` of schema 1.
    pub utilisation: Option<f64>,
    /// The part of its work that came to nothing, over all runs. `None` of schema 1, or without
    /// work.
    pub wasted: Option<f64>,
}

/// What was sent to one endpoint and to its service.
#[derive(Clone, Copy, Default)]
struct Sent {
    here: u64,
    service: u64,
}

impl Sent {
    fn add(&mut self, here: u64, service: u64) {
        self.here += here;
        self.service += service;
    }

    fn share(self) -> Option<f64> {
        (self.service > 0).then(|| self.here as f64 / self.service as f64)
    }
}

pub(super) fn summarise(runs: &[&RunRecord], faults: &[Event]) -> Vec<ServiceSummary> {
    let mut names: Vec<(&str, BTreeSet<&str>, Vec<&str>)> = Vec::new();
    for endpoint in runs.iter().flat_map(|r| &r.endpoints) {
        let position = names.iter().position(|(service, ..)| *service == endpoint.service);
        let position = position.unwrap_or_else(|| {
            names.push((&endpoint.service, BTreeSet::new(), Vec::new()));
            names.len() - 1
        });
        let (_, known, order) = &mut names[position];
        if known.insert(&endpoint.name) {
            order.push(&endpoint.name);
        }
    }
    let service = |(service, _, order): (&str, BTreeSet<&str>, Vec<&str>)| {
        let views: Vec<View<'_>> = runs.iter().map(|run| View::of(run, service)).collect();
        let endpoint = |name: &&str| endpoint_summary(service, name, &views, faults);
        ServiceSummary { name: service.to_owned(), endpoints: order.iter().map(endpoint).collect() }
    };
    names.into_iter().map(service).collect()
}

/// One run as one service saw it; the sums over its endpoints are made once.
struct View<'r> {
    run: &'r RunRecord,
    endpoints: BTreeMap<&'r str, &'r EndpointRecord>,
    sent: u64,
    sent_in: Vec<u64>,
}

impl<'r> View<'r> {
    fn of(run: &'r RunRecord, service: &str) -> Self {
        let members = || run.endpoints.iter().filter(|e| e.service == service);
        let in_interval = |i: usize| members().map(|e| sent_in(e, i)).sum();
        Self {
            run,
            endpoints: members().map(|e| (e.name.as_str(), e)).collect(),
            sent: members().map(|e| e.attempts()).sum(),
            sent_in: (0..run.intervals.len()).map(in_interval).collect(),
        }
    }
}

fn sent_in(endpoint: &EndpointRecord, interval: usize) -> u64 {
    endpoint.sent_here().get(interval).copied().unwrap_or(0)
}

fn endpoint_summary(
    service: &str,
    name: &str,
    views: &[View<'_>],
    faults: &[Event],
) -> EndpointSummary {
    let aimed_here = |e: &&Event| e.target == name || e.target == service;
    let aimed: Vec<&Event> = faults.iter().filter(aimed_here).collect();
    let mut total = Served::default();
    let (mut overall, mut in_fault) = (Sent::default(), Sent::default());
    let mut over_time: BTreeMap<u64, (f64, Vec<f64>)> = BTreeMap::new();
    for view in views {
        let Some(this) = view.endpoints.get(name) else { continue };
        add(&mut total, &this.total);
        overall.add(this.attempts(), view.sent);
        for (i, interval) in planned(view.run) {
            let mut now = Sent::default();
            now.add(sent_in(this, i), view.sent_in[i]);
            if aimed.iter().any(|fault| lasts_at(fault, interval.start_ms)) {
                in_fault.add(now.here, now.service);
            }
            let seeds = over_time.entry(interval.start_ms).or_insert((middle_s(interval), vec![]));
            seeds.1.extend(now.share());
        }
    }
    let mine = || views.iter().filter_map(|v| Some((v.run, *v.endpoints.get(name)?)));
    let used: Option<Vec<f64>> = mine().map(|(run, e)| utilisation(e, run)).collect();
    let busy: Option<u64> = mine().map(|(_, e)| e.busy_us).sum();
    let wasted: Option<u64> = mine().map(|(_, e)| e.wasted_us).sum();
    EndpointSummary {
        utilisation: used.and_then(|values| mean(&values)),
        wasted: busy.zip(wasted).filter(|(busy, _)| *busy > 0).map(|(b, w)| w as f64 / b as f64),
        name: name.to_owned(),
        faulted: !aimed.is_empty(),
        total,
        share: overall.share().unwrap_or(0.0),
        share_in_fault: in_fault.share(),
        share_over_time: over_time.into_values().map(|(at_s, v)| Band::of(at_s, v)).collect(),
    }
}

fn lasts_at(fault: &Event, ms: u64) -> bool {
    fault.at_ms <= ms && fault.until_ms.is_some_and(|until| ms < until)
}

fn add(total: &mut Served, other: &Served) {
    total.arrived += other.arrived;
    total.ok += other.ok;
    total.errors += other.errors;
    total.cancelled += other.cancelled;
    total.crashed += other.crashed;
}

//! Statistics over runs: records in, one summary per scenario and variant out. Pure.
//!
//! Percentiles come from histograms merged over the seeds and never from averaged percentiles: the
//! mean of five p99s is not the p99 of anything. What does vary from seed to seed is given as a
//! range beside them.

mod backends;
mod checks;
mod doubts;
mod timeline;

use loadgen::{Accounting, LatencyHistogram};

pub use backends::{EndpointSummary, ServiceSummary};
pub use checks::{CheckSummary, Outcome};
pub use doubts::doubts;
pub use timeline::{Band, Timeline};

use crate::format::as_ms;
use crate::record::{Event, PlanSummary, RunRecord, ScenarioText, World};

/// Fewer seeds than this and the range over them is likely narrower than the truth.
pub const FEW_SEEDS: usize = 5;

/// All runs of one scenario.
#[derive(Clone, Debug)]
pub struct ScenarioSummary {
    /// The scenario, as the first of its records has it.
    pub scenario: ScenarioText,
    /// The load, as the first of its records has it.
    pub plan: PlanSummary,
    /// The faults of its runs, each once, in order of time.
    pub faults: Vec<Event>,
    /// What was compared, in the order in which the records name it.
    pub variants: Vec<VariantSummary>,
}

impl ScenarioSummary {
    /// How many runs it has.
    pub fn runs(&self) -> usize {
        self.variants.iter().map(|v| v.seeds.len()).sum()
    }

    /// Checks that held, and all checks, over its runs.
    pub fn held(&self) -> (usize, usize) {
        let counts = self.variants.iter().map(VariantSummary::held);
        counts.fold((0, 0), |(m, n), (held, of)| (m + held, n + of))
    }

    /// Whether it gives times at which requests are given up: then the longest response times are
    /// lower bounds.
    pub fn is_censored(&self) -> bool {
        self.variants.iter().any(|v| v.censored_from_ms.is_some())
    }
}

/// All runs of one variant of a scenario.
#[derive(Clone, Debug)]
pub struct VariantSummary {
    /// Its place among the variants of all records; the same variant has the same place, and
    /// therefore the same colour, in every scenario.
    pub place: usize,
    /// Its name on the page; with system and world where the scenario's records have several.
    pub label: String,
    /// The variant's own name.
    pub variant: String,
    /// What was under test.
    pub system: String,
    /// Where it ran.
    pub world: World,
    /// Versions of what ran it, each once.
    pub engines: Vec<String>,
    /// The seeds, in rising order.
    pub seeds: Vec<u64>,
    /// Replay command and trace hash of each run, in the order of the seeds.
    pub traces: Vec<Trace>,
    /// Success rate, 0 to 1, over seeds.
    pub success: Spread,
    /// The p99 of each seed, in milliseconds.
    pub p99_ms: Spread,
    /// Where all requests of all runs went.
    pub accounting: Accounting,
    /// Response times of all requests of all runs.
    pub response: LatencyHistogram,
    /// From here on response times are lower bounds, in milliseconds: requests were given up.
    pub censored_from_ms: Option<f64>,
    /// Expectations, each over all seeds.
    pub checks: Vec<CheckSummary>,
    /// What happened over time.
    pub timeline: Timeline,
    /// The backends, by service.
    pub services: Vec<ServiceSummary>,
    /// What its sidecars say happened inside them, such as ejections, in the run of the first
    /// seed: moments of several seeds on one axis would tell the story of none.
    pub acts: Vec<Event>,
}

impl VariantSummary {
    /// Checks that held, and all checks, over its runs.
    pub fn held(&self) -> (usize, usize) {
        let counts = self.checks.iter().map(CheckSummary::held);
        counts.fold((0, 0), |(m, n), (held, of)| (m + held, n + of))
    }

    /// Requests that a backend worked on and nobody waited for any more, over all runs.
    pub fn wasted(&self) -> u64 {
        self.endpoints().map(|e| e.total.cancelled).sum()
    }

    /// All endpoints of all services.
    pub fn endpoints(&self) -> impl Iterator<Item = &EndpointSummary> {
        self.services.iter().flat_map(|s| &s.endpoints)
    }

    /// Requests that failed in another way than being late or timing out: errors, broken
    /// connections and what was never sent.
    pub fn other_failures(&self) -> Failures {
        let a = &self.accounting;
        Failures {
            errors: a.status + a.connect + a.closed + a.malformed,
            unanswered: a.unfinished + a.shed + a.skipped + a.unsent,
        }
    }

    /// A quantile (0 to 1) of the response time of all runs, in milliseconds, and whether it is
    /// only a lower bound.
    pub fn quantile_ms(&self, quantile: f64) -> (f64, bool) {
        let value = as_ms(self.response.quantile(quantile));
        (value, self.censored_from_ms.is_some_and(|limit| value >= limit))
    }
}

/// Failures by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// Error responses, refused and broken connections, malformed responses.
    pub errors: u64,
    /// Never sent, or still without an answer when the run ended.
    pub unanswered: u64,
}

/// What identifies and repeats one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its seed.
    pub seed: u64,
    /// The command that repeats it.
    pub replay: String,
    /// The hash over its events, for simulated runs.
    pub hash: Option<String>,
}

/// A statistic over seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Mean over seeds.
    pub mean: f64,
    /// Smallest of any seed.
    pub min: f64,
    /// Largest of any seed.
    pub max: f64,
}

impl Spread {
    /// Over these values; all zero when there are none.
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// Half the distance from the smallest to the largest.
    pub fn half(&self) -> f64 {
        (self.max - self.min) / 2.0
    }
}

/// Summarises runs; scenarios and variants come in the order in which the records first name them.
///
/// Runs of different systems or worlds are never merged: they are variants of their own.
pub fn summarise(records: &[RunRecord]) -> Vec<ScenarioSummary> {
    let variants = groups(records, identity);
    let order: Vec<Identity<'_>> = variants.iter().map(|runs| identity(runs[0])).collect();
    let scenarios = groups(records, |r| &r.scenario.name);
    scenarios.into_iter().map(|runs| scenario(runs, &order)).collect()
}

/// What makes runs belong to one variant.
type Identity<'r> = (&'r str, &'r str, World);

fn identity(run: &RunRecord) -> Identity<'_> {
    (&run.variant, &run.system, run.world)
}

fn scenario(runs: Vec<&RunRecord>, order: &[Identity<'_>]) -> ScenarioSummary {
    let first = runs[0];
    let faults = distinct_faults(&runs);
    let by_variant = groups_of(&runs, identity);
    let several_systems = runs.iter().any(|r| r.system != first.system);
    let several_worlds = runs.iter().any(|r| r.world != first.world);
    let variants = by_variant
        .into_iter()
        .map(|runs| {
            let mut label = runs[0].variant.clone();
            if several_systems {
                label = format!("{label}, {}", runs[0].system);
            }
            if several_worlds {
                label = format!("{label}, {}", world_name(runs[0].world));
            }
            let place = order.iter().position(|known| *known == identity(runs[0]));
            VariantSummary { place: place.unwrap_or(0), label, ..variant(runs, &faults) }
        })
        .collect();
    ScenarioSummary { scenario: first.scenario.clone(), plan: first.plan.clone(), faults, variants }
}

/// The summary but for its place and label, which depend on the other variants.
fn variant(mut runs: Vec<&RunRecord>, faults: &[Event]) -> VariantSummary {
    runs.sort_by_key(|r| r.seed);
    let first = runs[0];
    let mut accounting = Accounting::default();
    let mut response = LatencyHistogram::new();
    for run in &runs {
        accounting.merge(&run.accounting);
        response.merge(&run.latency.response);
    }
    let success: Vec<f64> = runs.iter().map(|r| r.accounting.success_rate()).collect();
    let p99: Vec<f64> = runs.iter().map(|r| as_ms(r.latency.response.quantile(0.99))).collect();
    let mut engines: Vec<String> = Vec::new();
    for run in &runs {
        let engine = format!("meshbench {}, {}", run.environment.meshbench, run.environment.engine);
        if !engines.contains(&engine) {
            engines.push(engine);
        }
    }
    let censored_from_us = runs.iter().filter_map(|r| r.latency.censored_from_us).min();
    let trace = |r: &&RunRecord| Trace {
        seed: r.seed,
        replay: r.replay.clone(),
        hash: r.trace_hash.clone(),
    };
    VariantSummary {
        place: 0,
        label: String::new(),
        variant: first.variant.clone(),
        system: first.system.clone(),
        world: first.world,
        engines,
        seeds: runs.iter().map(|r| r.seed).collect(),
        traces: runs.iter().map(trace).collect(),
        success: Spread::of(&success),
        p99_ms: Spread::of(&p99),
        accounting,
        response,
        censored_from_ms: censored_from_us.map(|us| us as f64 / 1e3),
        checks: checks::summarise(&runs),
        timeline: timeline::summarise(&runs),
        services: backends::summarise(&runs, faults),
        acts: first.events.iter().filter(|event| event.kind != "fault").cloned().collect(),
    }
}

/// How a world is called in prose.
pub(crate) fn world_name(world: World) -> &'static str {
    match world {
        World::Sim => "simulated",
        World::Live => "live",
    }
}

fn distinct_faults(runs: &[&RunRecord]) -> Vec<Event> {
    let mut faults: Vec<Event> = Vec::new();
    for event in runs.iter().flat_map(|r| &r.events).filter(|e| e.kind == "fault") {
        if !faults.contains(event) {
            faults.push(event.clone());
        }
    }
    faults.sort_by(|a, b| (a.at_ms, &a.target, &a.detail).cmp(&(b.at_ms, &b.target, &b.detail)));
    faults
}

/// Groups by key, groups and their members in the order first met. Quadratic in the number of
/// groups, of which there are tens.
fn groups<'r, K: PartialEq>(
    records: &'r [RunRecord],
    key: impl Fn(&'r RunRecord) -> K,
) -> Vec<Vec<&'r RunRecord>> {
    groups_of(&records.iter().collect::<Vec<_>>(), key)
}

fn groups_of<'r, K: PartialEq>(
    records: &[&'r RunRecord],
    key: impl Fn(&'r RunRecord) -> K,
) -> Vec<Vec<&'r RunRecord>> {
    let mut groups: Vec<(K, Vec<&'r RunRecord>)> = Vec::new();
    for record in records {
        let this = key(record);
        match groups.iter_mut().find(|(key, _)| *key == this) {
            Some((_, members)) => members.push(record),
            None => groups.push((this, vec![record])),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

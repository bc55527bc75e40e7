//! Statistics over runs: records in, one summary per scenario and variant out. Pure.
//!
//! Percentiles come from histograms merged over the seeds and never from averaged percentiles: the
//! mean of five p99s is not the p99 of anything. What does vary from seed to seed is given as a
//! range or an interval beside them.
//!
//! `metric` is what variants are compared by, `comparison` how they differ from a baseline, `knee`
//! up to which load they keep up. `timeline` and `backends` are what figures show, `bursts` finds
//! bursts of retries, and `doubts` says what to distrust.

mod backends;
mod bursts;
mod checks;
mod comparison;
mod doubts;
mod knee;
mod metric;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};

use loadgen::{Accounting, LatencyHistogram};

pub use backends::{EndpointSummary, ServiceSummary};
pub use checks::{CheckSummary, Outcome};
pub(crate) use comparison::difference;
pub use comparison::{Comparison, ComparisonRow, Difference, Mark, Pairing};
pub use doubts::{Doubt, doubts, in_lines, warnings};
pub use knee::{KEEPS_UP, Knee, KneeCurve, KneePoint};
pub use metric::{Metric, MetricUnit, MetricValue};
pub use timeline::{Band, Timeline};

use self::comparison::Contender;
use crate::figures::{COLOURS, MARKS};
use crate::format::{as_ms, rate};
use crate::record::{Event, PlanSummary, RunRecord, ScenarioText, World};
use crate::statistics::CONFIDENCE;

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
    /// The variants against a baseline: one comparison for each rate, by rising rate.
    pub comparisons: Vec<Comparison>,
    /// What was run at several rates, as curves over the offered load.
    pub knees: Vec<KneeCurve>,
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
    /// The same without the rate, where the variant is one of several rates.
    pub family: String,
    /// Planned requests per second.
    pub rate_per_s: f64,
    /// What distinguishes it in a matrix: settings and their values.
    pub settings: BTreeMap<String, String>,
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
    /// How often an endpoint was ejected.
    pub ejections: Ejections,
    /// What its sidecars say happened inside them, such as ejections and bursts of retries, in the
    /// run of the first seed: moments of several seeds on one axis would tell the story of none.
    pub acts: Vec<Event>,
}

impl VariantSummary {
    /// Checks that held, and all checks, over its runs.
    pub fn held(&self) -> (usize, usize) {
        let counts = self.checks.iter().map(CheckSummary::held);
        counts.fold((0, 0), |(m, n), (held, of)| (m + held, n + of))
    }

    /// Whether it is there to miss something, so that the scenario tells good from bad.
    pub fn has_to_fail(&self) -> bool {
        self.checks.iter().any(CheckSummary::must_fail)
    }

    /// Whether it is what this run is of.
    pub(crate) fn has(&self, run: &RunRecord) -> bool {
        identity(run)
            == (self.variant.as_str(), self.system.as_str(), self.world, self.rate_per_s.to_bits())
    }

    /// Requests that a backend worked on and nobody waited for any more, over all runs.
    pub fn abandoned(&self) -> u64 {
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

/// How often sidecars say that they ejected an endpoint, over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejections {
    /// In all.
    pub all: u64,
    /// Of them, those of an endpoint at which no fault was, nor had just been.
    pub without_fault: u64,
}

impl Ejections {
    /// After a fault an ejection for what it did may still come, in milliseconds.
    const JUST: u64 = 2_000;

    fn of(runs: &[&RunRecord]) -> Self {
        let mut ejections = Self::default();
        for run in runs {
            let faults = || run.events.iter().filter(|event| event.kind == "fault");
            let service = |name: &str| {
                let own = run.endpoints.iter().find(|endpoint| endpoint.name == name);
                own.map(|endpoint| endpoint.service.as_str())
            };
            for ejected in run.events.iter().filter(|event| event.kind == "ejected") {
                let own = service(&ejected.target);
                let hits = |fault: &Event| {
                    let aims = fault.target == ejected.target || Some(fault.target.as_str()) == own;
                    let until = fault.until_ms.map_or(u64::MAX, |until| until + Self::JUST);
                    aims && (fault.at_ms..=until).contains(&ejected.at_ms)
                };
                ejections.all += 1;
                ejections.without_fault += u64::from(!faults().any(hits));
            }
        }
        ejections
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
/// The variants are compared with `round_robin`, or else with the first.
///
/// Runs of different systems, worlds or rates are never merged: they are variants of their own.
pub fn summarise(records: &[RunRecord]) -> Vec<ScenarioSummary> {
    summarise_against(records, None)
}

/// As [`summarise`], with the variants compared with the one of this name, where there is one.
pub fn summarise_against(records: &[RunRecord], baseline: Option<&str>) -> Vec<ScenarioSummary> {
    let families = groups(records, family_identity);
    let order: Vec<FamilyIdentity<'_>> =
        families.iter().map(|runs| family_identity(runs[0])).collect();
    let places = places(&families);
    let order: Vec<(FamilyIdentity<'_>, usize)> = order.into_iter().zip(places).collect();
    let scenarios = groups(records, |r| &r.scenario.name);
    scenarios.into_iter().map(|runs| scenario(runs, &order, baseline)).collect()
}

/// A place of its own for each family: the next one whose colour and whose mark no other has in any
/// scenario in which both are, while there are such.
fn places(families: &[Vec<&RunRecord>]) -> Vec<usize> {
    let scenarios: Vec<BTreeSet<&str>> = families
        .iter()
        .map(|runs| runs.iter().map(|run| run.scenario.name.as_str()).collect())
        .collect();
    let mut places: Vec<usize> = Vec::new();
    for own in &scenarios {
        let beside = places.iter().zip(&scenarios).filter(|(_, other)| !own.is_disjoint(other));
        let beside: Vec<usize> = beside.map(|(place, _)| *place).collect();
        let unlike = |place: usize, kinds: usize| {
            let taken: BTreeSet<usize> = beside.iter().map(|p| p % kinds).collect();
            taken.len() == kinds || !taken.contains(&(place % kinds))
        };
        let fits = |place: &usize| {
            unlike(*place, COLOURS) && unlike(*place, MARKS) && !places.contains(place)
        };
        // Colours and marks repeat together after COLOURS * MARKS places, which have no common
        // divisor: each such row has a place that fits.
        let place = (0..COLOURS * MARKS * (places.len() + 1)).find(fits);
        places.push(place.unwrap_or(places.len()));
    }
    places
}

/// Each metric of some runs, in the order of [`Metric::ALL`].
pub fn metric_values(runs: &[&RunRecord]) -> Vec<MetricValue> {
    let value = |metric: Metric| metric::Measured::of(metric, runs).value(metric);
    Metric::ALL.into_iter().map(value).collect()
}

/// What makes runs belong to one variant. The rate as its bits, which are equal when it is.
type Identity<'r> = (&'r str, &'r str, World, u64);

fn identity(run: &RunRecord) -> Identity<'_> {
    (&run.variant, &run.system, run.world, run.plan.rate_per_s.to_bits())
}

/// What makes runs belong to one curve, and have one colour.
type FamilyIdentity<'r> = (&'r str, &'r str, World);

fn family_identity(run: &RunRecord) -> FamilyIdentity<'_> {
    (family(run), &run.system, run.world)
}

/// The setting that a matrix of rates varies.
const RATE: &str = "load.rate";

/// A variant's name without the rate that a matrix has put behind it.
fn family(run: &RunRecord) -> &str {
    let name = run.variant.as_str();
    match run.settings.contains_key(RATE) {
        true => name.rsplit_once('@').map_or(name, |(family, _)| family),
        false => name,
    }
}

fn scenario(
    runs: Vec<&RunRecord>,
    order: &[(FamilyIdentity<'_>, usize)],
    baseline: Option<&str>,
) -> ScenarioSummary {
    let first = runs[0];
    let faults = distinct_faults(&runs);
    let by_variant = by_rising_rate(groups_of(&runs, identity));
    let several_systems = runs.iter().any(|r| r.system != first.system);
    let several_worlds = runs.iter().any(|r| r.world != first.world);
    // A name of a matrix says its rate itself.
    let unsaid = runs.iter().filter(|r| !r.settings.contains_key(RATE));
    let rates: Vec<f64> = unsaid.map(|r| r.plan.rate_per_s).collect();
    let several_rates = rates.iter().any(|rate| *rate != rates[0]);
    let summary = |runs: &Vec<&RunRecord>| {
        let run = runs[0];
        let mut label = run.variant.clone();
        let mut name = family(run).to_owned();
        let mut beside = |text: &str| {
            label = format!("{label}, {text}");
            name = format!("{name}, {text}");
        };
        if several_systems {
            beside(&run.system);
        }
        if several_worlds {
            beside(world_name(run.world));
        }
        if several_rates && !run.settings.contains_key(RATE) {
            label = format!("{label}, {}/s", rate(run.plan.rate_per_s));
        }
        let place = order.iter().find(|(known, _)| *known == family_identity(run));
        let own = variant(runs.clone(), &faults);
        let place = place.map_or(0, |(_, place)| *place);
        VariantSummary { place, label, family: name, ..own }
    };
    let variants: Vec<VariantSummary> = by_variant.iter().map(summary).collect();
    let contenders: Vec<Contender<'_, '_>> = variants
        .iter()
        .zip(&by_variant)
        .map(|(of, runs)| Contender {
            label: &of.label,
            family: family(runs[0]),
            place: of.place,
            rate_per_s: of.rate_per_s,
            runs,
        })
        .collect();
    let comparisons = comparison::compare(&contenders, baseline, CONFIDENCE);
    let knees = knees(&variants, &by_variant);
    let (scenario, plan) = (first.scenario.clone(), first.plan.clone());
    ScenarioSummary { scenario, plan, faults, variants, comparisons, knees }
}

/// The variants of a family beside each other, by rising rate; families in the order first met.
fn by_rising_rate(mut variants: Vec<Vec<&RunRecord>>) -> Vec<Vec<&RunRecord>> {
    let mut families: Vec<FamilyIdentity<'_>> = Vec::new();
    for runs in &variants {
        let identity = family_identity(runs[0]);
        if !families.contains(&identity) {
            families.push(identity);
        }
    }
    let place = |run: &RunRecord| families.iter().position(|f| *f == family_identity(run));
    variants.sort_by(|a, b| {
        let (a, b) = (a[0], b[0]);
        place(a).cmp(&place(b)).then(a.plan.rate_per_s.total_cmp(&b.plan.rate_per_s))
    });
    variants
}

/// A curve for each family that has several rates.
fn knees(variants: &[VariantSummary], runs: &[Vec<&RunRecord>]) -> Vec<KneeCurve> {
    let mut families: Vec<(&str, usize)> = Vec::new();
    for variant in variants {
        if !families.contains(&(&variant.family, variant.place)) {
            families.push((&variant.family, variant.place));
        }
    }
    let curve = |(family, place): (&str, usize)| {
        let members = variants.iter().zip(runs);
        let members = members.filter(|(of, _)| (of.family.as_str(), of.place) == (family, place));
        let mut by_rate: Vec<(f64, Vec<&RunRecord>)> =
            members.map(|(of, runs)| (of.rate_per_s, runs.clone())).collect();
        by_rate.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        knee::curve(family, place, &by_rate)
    };
    families.into_iter().filter_map(curve).collect()
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
    let mut acts: Vec<Event> =
        first.events.iter().filter(|event| event.kind != "fault").cloned().collect();
    acts.extend(bursts::retry_bursts(first));
    acts.sort_by_key(|event| event.at_ms);
    let trace = |r: &&RunRecord| Trace {
        seed: r.seed,
        replay: r.replay.clone(),
        hash: r.trace_hash.clone(),
    };
    VariantSummary {
        place: 0,
        label: String::new(),
        variant: first.variant.clone(),
        family: String::new(),
        rate_per_s: first.plan.rate_per_s,
        settings: first.settings.clone(),
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
        ejections: Ejections::of(&runs),
        acts,
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

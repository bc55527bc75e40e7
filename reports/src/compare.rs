//! Two sets of runs, before and after: what differs, for a terminal, for CI and for a pull request.

mod table;

use serde::Serialize;

use crate::record::{RunRecord, World};
use crate::summary::{Difference, Mark, Metric, MetricValue, difference, metric_values};

pub use self::table::{markdown, text};

/// Everything that both sets have, compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// What runs in both sets, scenario by scenario.
    pub groups: Vec<ComparedGroup>,
    /// What only one of them has, in a few words each.
    pub missing: Vec<String>,
    /// The confidence of each interval, from 0 to 1.
    pub confidence: f64,
}

/// One variant of one scenario in both sets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedGroup {
    /// The scenario.
    pub scenario: String,
    /// The variant.
    pub variant: String,
    /// Where it ran.
    pub world: World,
    /// Planned requests per second.
    pub rate_per_s: f64,
    /// What was under test, in each set.
    pub systems: [String; 2],
    /// How many runs, in each set.
    pub runs: [usize; 2],
    /// Whether the records come from different texts of the scenario.
    pub texts_differ: bool,
    /// Each metric, in the order of [`Metric::ALL`].
    pub metrics: Vec<ComparedMetric>,
}

/// One metric in both sets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedMetric {
    /// In the first.
    pub a: MetricValue,
    /// In the second.
    pub b: MetricValue,
    /// The second less the first.
    pub difference: Difference,
}

impl Compared {
    /// How many metrics have this mark.
    pub fn count(&self, mark: Mark) -> usize {
        let metrics = self.groups.iter().flat_map(|group| &group.metrics);
        metrics.filter(|metric| metric.difference.mark == mark).count()
    }

    /// How many differences were looked at.
    pub fn looked_at(&self) -> usize {
        self.groups.iter().map(|group| group.metrics.len()).sum::<usize>()
            - self.count(Mark::Unknown)
    }
}

/// What makes runs comparable.
type Key<'r> = (&'r str, &'r str, World, u64);

fn key(run: &RunRecord) -> Key<'_> {
    (&run.scenario.name, &run.variant, run.world, run.plan.rate_per_s.to_bits())
}

/// Compares `b` with `a`. Runs belong together by scenario, variant, world and rate; what was under
/// test may differ, because that may be what is compared.
pub fn compare(a: &[RunRecord], b: &[RunRecord], confidence: f64) -> Compared {
    let (of_a, of_b) = (grouped(a), grouped(b));
    let mut compared = Compared { groups: Vec::new(), missing: Vec::new(), confidence };
    for (key, runs_a) in &of_a {
        match of_b.iter().find(|(other, _)| other == key) {
            Some((_, runs_b)) => compared.groups.push(group(runs_a, runs_b, confidence)),
            None => compared.missing.push(format!("{} only in the first", named(runs_a[0]))),
        }
    }
    for (key, runs_b) in &of_b {
        if !of_a.iter().any(|(other, _)| other == key) {
            compared.missing.push(format!("{} only in the second", named(runs_b[0])));
        }
    }
    compared
}

fn named(run: &RunRecord) -> String {
    format!("{} / {}", run.scenario.name, run.variant)
}

fn grouped(records: &[RunRecord]) -> Vec<(Key<'_>, Vec<&RunRecord>)> {
    let mut groups: Vec<(Key<'_>, Vec<&RunRecord>)> = Vec::new();
    for record in records {
        match groups.iter_mut().find(|(known, _)| *known == key(record)) {
            Some((_, runs)) => runs.push(record),
            None => groups.push((key(record), vec![record])),
        }
    }
    groups
}

fn group(a: &[&RunRecord], b: &[&RunRecord], confidence: f64) -> ComparedGroup {
    let first = a[0];
    let (values_a, values_b) = (metric_values(a), metric_values(b));
    let metrics = Metric::ALL.into_iter().zip(values_a.into_iter().zip(values_b));
    let metrics = metrics.map(|(metric, (of_a, of_b))| ComparedMetric {
        a: of_a,
        b: of_b,
        difference: difference(metric, a, b, confidence),
    });
    let text = &first.scenario.text;
    ComparedGroup {
        scenario: first.scenario.name.clone(),
        variant: first.variant.clone(),
        world: first.world,
        rate_per_s: first.plan.rate_per_s,
        systems: [first.system.clone(), b[0].system.clone()],
        runs: [a.len(), b.len()],
        texts_differ: a.iter().chain(b).any(|run| run.scenario.text != *text),
        metrics: metrics.collect(),
    }
}

//! Variants side by side: what each is, and how it differs from a baseline.

use std::collections::BTreeMap;

use serde::Serialize;

use super::metric::{Measured, Metric, MetricValue, as_pair, entry_is_faulted};
use crate::record::RunRecord;
use crate::statistics::{Bounds, Sections, mean, paired, unpaired};

/// The variants of a scenario at one rate, against one of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The planned rate of all of them, per second.
    pub rate_per_s: f64,
    /// The label of the variant that the others are compared with.
    pub baseline: String,
    /// The variants, in the order of the scenario's; the baseline is among them.
    pub rows: Vec<ComparisonRow>,
}

/// One variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparisonRow {
    /// The variant's label.
    pub label: String,
    /// Its place among all variants, which is that of its colour.
    pub place: usize,
    /// Each metric, in the order of [`Metric::ALL`].
    pub values: Vec<MetricValue>,
    /// How each differs from the baseline, in the same order; empty for the baseline itself.
    pub differences: Vec<Difference>,
}

/// How one metric of a variant differs from that of another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Which.
    pub metric: Metric,
    /// The variant less the other; `None` when one of them has no value.
    pub difference: Option<f64>,
    /// Where it lies with the confidence asked for; `None` of fewer than two runs.
    #[serde(serialize_with = "as_pair")]
    pub interval: Option<Bounds>,
    /// What that means.
    pub mark: Mark,
    /// How runs were set against each other.
    pub pairing: Pairing,
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Better, beyond the interval.
    Better,
    /// Worse, beyond the interval.
    Worse,
    /// The interval contains no difference at all.
    NoneShown,
    /// Nothing can be said: there is no value, only one run, or two lower bounds.
    Unknown,
    /// It would be better, and that is no merit: fewer requests succeeded, or what is balanced well
    /// is work that one of them should not have got.
    NotJudged,
}

impl Mark {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Mark::Better => "better",
            Mark::Worse => "worse",
            Mark::NoneShown => "no difference shown",
            Mark::Unknown => "cannot be told",
            Mark::NotJudged => "not judged",
        }
    }
}

/// How the runs of two variants were set against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// Seed by seed, so many: the same arrivals and service draws.
    Paired(usize),
    /// As two groups, so many each, because they have too few seeds in common.
    Unpaired(usize, usize),
}

/// Compares `runs` with `baseline` by one metric.
pub(crate) fn difference(
    metric: Metric,
    baseline: &[&RunRecord],
    runs: &[&RunRecord],
    confidence: f64,
) -> Difference {
    let (baseline, runs, is_paired) = matched(baseline, runs);
    let (a, b) = (Measured::of(metric, &baseline), Measured::of(metric, &runs));
    let (of_a, of_b, pairing) = if is_paired {
        let both = a.of_runs.iter().zip(&b.of_runs);
        let (a, b): (Vec<f64>, Vec<f64>) = both.filter_map(|(a, b)| Some(((*a)?, (*b)?))).unzip();
        let pairs = a.len();
        (a, b, Pairing::Paired(pairs))
    } else {
        let values = |all: &[Option<f64>]| all.iter().flatten().copied().collect::<Vec<_>>();
        let (a, b) = (values(&a.of_runs), values(&b.of_runs));
        let pairing = Pairing::Unpaired(a.len(), b.len());
        (a, b, pairing)
    };
    // Of a mean, only the runs that are set against each other count.
    let center = |measured: &Measured, values: &[f64]| match metric.quantile() {
        Some(_) => measured.center,
        None => mean(values),
    };
    let (Some(center_a), Some(center_b)) = (center(&a, &of_a), center(&b, &of_b)) else {
        let mark = Mark::Unknown;
        return Difference { metric, difference: None, interval: None, mark, pairing };
    };
    let a_side = Sections { center: center_a, of_runs: &of_a };
    let b_side = Sections { center: center_b, of_runs: &of_b };
    let interval = match pairing {
        Pairing::Paired(_) => paired(a_side, b_side, confidence),
        Pairing::Unpaired(..) => unpaired(a_side, b_side, confidence),
    };
    let difference = center_b - center_a;
    let both_bounds = a.is_bound && b.is_bound;
    let mark = match interval {
        None => Mark::Unknown,
        Some(_) if both_bounds && difference != 0.0 => Mark::Unknown,
        Some(interval) if !interval.excludes_zero() => Mark::NoneShown,
        Some(_) if difference.abs() <= metric.resolution(center_a) => Mark::NoneShown,
        Some(interval) if (interval.low > 0.0) == metric.more_is_better() => Mark::Better,
        Some(_) => Mark::Worse,
    };
    Difference { metric, difference: Some(difference), interval, mark, pairing }
}

/// The runs of both that have a seed in common, in order of the seeds, if they are at least half
/// of the fewer and at least two; else all of them, unpaired.
fn matched<'r>(
    a: &[&'r RunRecord],
    b: &[&'r RunRecord],
) -> (Vec<&'r RunRecord>, Vec<&'r RunRecord>, bool) {
    let (by_seed_a, by_seed_b) = (by_seed(a), by_seed(b));
    let common = by_seed_a.iter().filter_map(|(key, run)| Some((*run, *by_seed_b.get(key)?)));
    let (of_a, of_b): (Vec<_>, Vec<_>) = common.unzip();
    let fewer = a.len().min(b.len());
    if of_a.len() >= 2.min(fewer).max(1) && of_a.len() * 2 >= fewer {
        (of_a, of_b, true)
    } else {
        (a.to_vec(), b.to_vec(), false)
    }
}

/// By seed, and where a live run was repeated with one seed, by its place among those.
fn by_seed<'r>(runs: &[&'r RunRecord]) -> BTreeMap<(u64, usize), &'r RunRecord> {
    let mut sorted = runs.to_vec();
    sorted.sort_by_key(|run| (run.seed, run.environment.started_unix_s));
    let mut found: BTreeMap<(u64, usize), &RunRecord> = BTreeMap::new();
    for run in sorted {
        let earlier = found.range((run.seed, 0)..=(run.seed, usize::MAX)).count();
        found.insert((run.seed, earlier), run);
    }
    found
}

/// A variant and its runs.
pub(super) struct Contender<'a, 'r> {
    pub(super) label: &'a str,
    /// Its own name, without system, world and rate.
    pub(super) family: &'a str,
    pub(super) place: usize,
    pub(super) rate_per_s: f64,
    pub(super) runs: &'a [&'r RunRecord],
}

/// What others are compared with when nothing else is asked for: what everybody knows.
const USUAL_BASELINE: &str = "round_robin";

/// Takes back what looks like merit and is none. Who fails more requests answers the rest sooner and
/// has less to do; and where an instance is to be avoided, equal shares are the mistake.
fn withhold(differences: &mut [Difference], shares_should_differ: bool) {
    let fails_more =
        differences.iter().any(|d| d.metric == Metric::Success && d.mark == Mark::Worse);
    for difference in differences.iter_mut() {
        let (is_success, is_balance) = match difference.metric {
            Metric::Success | Metric::Goodput => (true, false),
            Metric::Jain | Metric::MaxOverMean => (false, true),
            _ => (false, false),
        };
        let is_cheap = fails_more && !is_success && difference.mark == Mark::Better;
        let is_said = matches!(difference.mark, Mark::Better | Mark::Worse);
        if is_cheap || (is_balance && shares_should_differ && is_said) {
            difference.mark = Mark::NotJudged;
        }
    }
}

/// One comparison for each rate. The baseline is the variant called `asked`, else `round_robin`,
/// else the first.
pub(super) fn compare(
    contenders: &[Contender<'_, '_>],
    asked: Option<&str>,
    confidence: f64,
) -> Vec<Comparison> {
    let mut rates: Vec<f64> = contenders.iter().map(|c| c.rate_per_s).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let at_rate = |rate: f64| {
        let here: Vec<&Contender<'_, '_>> =
            contenders.iter().filter(|c| c.rate_per_s == rate).collect();
        let called = |name: &str| here.iter().find(|c| c.family == name || c.label == name);
        let baseline = asked.and_then(called).or_else(|| called(USUAL_BASELINE));
        let baseline = *baseline.or(here.first())?;
        let row = |contender: &&Contender<'_, '_>| {
            let values = Metric::ALL.iter();
            let values = values.map(|m| Measured::of(*m, contender.runs).value(*m)).collect();
            let others = (contender.label != baseline.label).then_some(Metric::ALL);
            let differences = others.into_iter().flatten();
            let differences =
                differences.map(|m| difference(m, baseline.runs, contender.runs, confidence));
            let mut differences: Vec<Difference> = differences.collect();
            withhold(&mut differences, contender.runs.iter().any(|run| entry_is_faulted(run)));
            ComparisonRow {
                label: contender.label.to_owned(),
                place: contender.place,
                values,
                differences,
            }
        };
        let rows = here.iter().map(row).collect();
        Some(Comparison { rate_per_s: rate, baseline: baseline.label.to_owned(), rows })
    };
    rates.into_iter().filter_map(at_rate).collect()
}

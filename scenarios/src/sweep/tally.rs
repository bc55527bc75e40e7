//! What is kept of a sweep: counts for each expectation, the worst seed of it, and which seeds
//! failed. Pure.

use reports::RunRecord;
use reports::record::{Check, Unit};
use reports::verdict::verdict;
use serde::Serialize;

use super::Item;
use crate::runner::Outcome;
use crate::scenario::Scenario;

/// Failed runs that are remembered with their replay commands; beyond, they are only counted.
pub const MOST_FAILURES: usize = 10_000;

/// Normal quantile of a two-sided interval of 95 %.
const Z95: f64 = 1.959_963_984_540_054;

/// One scenario of a sweep.
#[derive(Clone, Debug, Serialize)]
pub struct Tally {
    /// The scenario's name.
    pub scenario: String,
    /// Seeds of which every variant was run.
    pub seeds: u64,
    /// Those of them whose runs all did what was expected.
    pub held: u64,
    /// Runs; a seed has one for each variant.
    pub runs: u64,
    /// Simulated time, in seconds.
    pub simulated_s: f64,
    /// Requests that the clients sent.
    pub requests: u64,
    /// Every expectation of every variant, in the order of the file; first what every run has to
    /// pass.
    pub expectations: Vec<Expected>,
    /// Runs in which something did not hold, up to [`MOST_FAILURES`].
    pub failures: Vec<Failure>,
    /// Runs that could not be carried out.
    pub broken: Vec<Broken>,
}

/// How often one expectation of one variant was met.
#[derive(Clone, Debug, Serialize)]
pub struct Expected {
    /// The variant.
    pub variant: String,
    /// What was expected, in words.
    pub what: String,
    /// The bounds, in words.
    pub wanted: String,
    /// Seeds with which it held; or was missed, where it must be.
    pub met: u64,
    /// Seeds with which it was judged.
    pub judged: u64,
    /// The seed that came nearest to the bound, or was farthest beyond it.
    pub worst: Option<Worst>,
    /// Numbers of all seeds, where the verdict is about their mean.
    #[serde(skip)]
    sample: Vec<Check>,
}

/// The seed with which an expectation did worst.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    /// The seed.
    pub seed: u64,
    /// What was measured with it.
    pub measured: String,
    /// How far that is from the bound, as a part of it; negative beyond it, and `None` when there
    /// was nothing to measure or nothing to compare with.
    pub slack: Option<f64>,
}

/// A run in which something did not hold.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The variant.
    pub variant: String,
    /// The seed.
    pub seed: u64,
    /// The first thing that did not hold.
    pub missed: String,
    /// The command that repeats it.
    pub replay: String,
}

/// A run that could not be carried out.
#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    /// Which.
    pub run: String,
    /// Why.
    pub reason: String,
}

impl Expected {
    fn new(variant: &str, check: &Check) -> Self {
        Self {
            variant: variant.to_owned(),
            what: check.what.clone(),
            // Of a comparison, what was measured of the other differs from seed to seed.
            wanted: check.asked(),
            met: 0,
            judged: 0,
            worst: None,
            sample: Vec::new(),
        }
    }

    /// Whether it is met by all seeds so far, or by their mean if it is about that; with the
    /// reason, for a mean.
    pub fn verdict(&self) -> (bool, Option<String>) {
        if self.sample.is_empty() {
            return (self.met == self.judged, None);
        }
        let verdict = verdict(&self.sample.iter().collect::<Vec<_>>());
        (verdict.met, Some(verdict.reason))
    }

    /// Wilson's interval of 95 % of the share of seeds with which it is met.
    pub fn interval(&self) -> (f64, f64) {
        wilson(self.met, self.judged)
    }

    fn add(&mut self, seed: u64, check: &Check) {
        let met = check.not_judged.is_none() && check.held != check.must_fail;
        self.judged += 1;
        self.met += u64::from(met);
        if check.confidence.is_some() {
            let (what, wanted, measured) = Default::default();
            self.sample.push(Check { what, wanted, measured, ..check.clone() });
        }
        let slack = slack(check);
        // What has no distance is worst when it failed, and tells nothing when it did not.
        let Some(distance) = slack.or((!met).then_some(f64::NEG_INFINITY)) else { return };
        let of = |worst: &Worst| (worst.slack.unwrap_or(f64::NEG_INFINITY), worst.seed);
        // Threads finish in any order; of equals the smallest seed is the same always.
        if self.worst.as_ref().is_none_or(|worst| (distance, seed) < of(worst)) {
            self.worst = Some(Worst { seed, measured: check.measured.clone(), slack });
        }
    }
}

impl Tally {
    /// Nothing yet.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            scenario: scenario.name.clone(),
            seeds: 0,
            held: 0,
            runs: 0,
            simulated_s: 0.0,
            requests: 0,
            expectations: Vec::new(),
            failures: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// Counts all runs of one seed; true if everything held.
    pub fn add(&mut self, scenarios: &[Scenario], item: &Item, outcome: &Outcome) -> bool {
        let scenario = &scenarios[item.scenario];
        self.seeds += 1;
        for record in &outcome.records {
            self.runs += 1;
            self.simulated_s += scenario.duration().as_secs_f64();
            self.requests += record.accounting.sent;
            self.add_run(record);
        }
        for broken in &outcome.broken {
            let (run, reason) = (broken.job.describe(scenarios), broken.reason.clone());
            self.broken.push(Broken { run, reason });
        }
        let held = outcome.broken.is_empty()
            && outcome.records.iter().all(|r| !r.checks.iter().any(Check::missed_alone));
        self.held += u64::from(held);
        held
    }

    /// Whether all that was expected is met, by every seed or by the mean of all.
    pub fn is_met(&self) -> bool {
        self.broken.is_empty() && self.expectations.iter().all(|expected| expected.verdict().0)
    }

    fn add_run(&mut self, record: &RunRecord) {
        for check in &record.checks {
            let is_same = |known: &&mut Expected| {
                known.variant == record.variant
                    && known.what == check.what
                    && (check.unit.is_none() || known.wanted == check.asked())
            };
            match self.expectations.iter_mut().find(is_same) {
                Some(known) => known.add(record.seed, check),
                None => {
                    let mut new = Expected::new(&record.variant, check);
                    new.add(record.seed, check);
                    self.expectations.push(new);
                }
            }
        }
        let mut missed = record.checks.iter().filter(|check| check.missed_alone());
        if let Some(first) = missed.next()
            && self.failures.len() < MOST_FAILURES
        {
            let more = missed.count();
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            self.failures.push(Failure {
                variant: record.variant.clone(),
                seed: record.seed,
                missed: format!("{} {}: {}{more}", first.what, first.wanted, first.measured),
                replay: record.replay.clone(),
            });
        }
    }

    /// Puts what came in any order into the order of variants and seeds.
    pub fn sort(&mut self, scenario: &Scenario) {
        let of = |name: &str| scenario.variants.iter().position(|variant| variant.name == name);
        // Stable: within a variant they came in the order of the file.
        self.expectations.sort_by_key(|expected| of(&expected.variant));
        self.failures.sort_by_key(|failure| (failure.seed, of(&failure.variant)));
        self.broken.sort_by(|a, b| a.run.cmp(&b.run));
    }
}

/// How far a value is within its bounds, as a part of the nearer one; negative beyond it. Where it
/// must be missed, how far it is beyond.
fn slack(check: &Check) -> Option<f64> {
    let value = check.value.filter(|_| check.not_judged.is_none())?;
    // What is allowed to miss of a share is what is between the bound and all of it.
    let is_share = check.unit == Some(Unit::Share) && check.compared_with.is_none();
    let room = |bound: f64| if is_share { 1.0 - bound } else { bound };
    // A bound of nothing has no parts; the distance itself is all there is.
    let part = |distance: f64, of: f64| if of > 0.0 { distance / of } else { distance };
    let lower = check.absolute(check.at_least).map(|bound| part(value - bound, room(bound)));
    let upper = check.absolute(check.at_most).map(|bound| part(bound - value, bound));
    let within = lower.into_iter().chain(upper).reduce(f64::min)?;
    Some(if check.must_fail { -within } else { within })
}

/// Wilson's score interval of 95 % of a share: `good` of `all`.
pub fn wilson(good: u64, all: u64) -> (f64, f64) {
    if all == 0 {
        return (0.0, 1.0);
    }
    let (good, all) = (good as f64, all as f64);
    let share = good / all;
    let z2 = Z95 * Z95;
    let middle = (share + z2 / (2.0 * all)) / (1.0 + z2 / all);
    let spread = share * (1.0 - share) / all + z2 / (4.0 * all * all);
    let half = Z95 * spread.sqrt() / (1.0 + z2 / all);
    // At the ends it is exact, but for the last bit.
    let low = if good == 0.0 { 0.0 } else { (middle - half).max(0.0) };
    let high = if good == all { 1.0 } else { (middle + half).min(1.0) };
    (low, high)
}

#[cfg(test)]
mod tests {
    use reports::record::Check;

    use super::*;

    #[test]
    fn wilsons_interval_is_wilsons() {
        // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        let close = |(low, high): (f64, f64), of: (f64, f64)| {
            assert!((low - of.0).abs() < 5e-5 && (high - of.1).abs() < 5e-5, "{low} {high}");
        };
        close(wilson(81, 263), (0.2553, 0.3662));
        close(wilson(15, 148), (0.0624, 0.1605));
        close(wilson(0, 20), (0.0, 0.1611));
        close(wilson(1, 29), (0.0061, 0.1718));
        assert_eq!(wilson(20, 20).1, 1.0);
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    /// Of a bound of 1, so that the slack of `value` is 1 less it.
    fn check(value: Option<f64>, held: bool) -> Check {
        Check {
            metric: "amplification".to_owned(),
            what: String::new(),
            wanted: String::new(),
            measured: String::new(),
            unit: Some(Unit::Factor),
            value,
            at_least: None,
            at_most: Some(1.0),
            compared_with: None,
            base: None,
            confidence: None,
            must_fail: false,
            not_judged: None,
            held,
        }
    }

    #[test]
    fn the_worst_seed_does_not_depend_on_the_order() {
        let values = [(1, 0.5), (2, 1.25), (3, 1.25), (4, 1.0)];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let mut expected = Expected::new("a", &check(None, true));
            for (seed, value) in order.map(|place| values[place]) {
                expected.add(seed, &check(Some(value), value <= 1.0));
            }
            assert_eq!((expected.met, expected.judged), (2, 4));
            assert_eq!(expected.verdict(), (false, None));
            let worst = expected.worst.unwrap();
            assert_eq!((worst.seed, worst.slack), (2, Some(-0.25)));
        }
        let mut expected = Expected::new("a", &check(None, true));
        expected.add(9, &check(None, false));
        expected.add(8, &check(Some(0.5), true));
        expected.add(7, &check(None, false));
        assert_eq!(expected.worst.map(|worst| worst.seed), Some(7), "nothing to measure is worst");
    }

    #[test]
    fn what_must_be_missed_is_met_by_missing_it() {
        let must_fail = |value| Check { must_fail: true, ..check(Some(value), value <= 1.0) };
        let mut expected = Expected::new("a", &must_fail(0.0));
        expected.add(1, &must_fail(3.0));
        expected.add(2, &must_fail(1.5));
        assert_eq!(expected.verdict(), (true, None));
        assert_eq!(expected.worst.as_ref().map(|worst| worst.seed), Some(2), "nearest to holding");
        expected.add(3, &must_fail(0.5));
        assert_eq!(expected.verdict(), (false, None));
    }

    #[test]
    fn a_mean_is_judged_over_all_seeds() {
        let sure = |value| Check { confidence: Some(0.95), ..check(Some(value), value <= 1.0) };
        let mut expected = Expected::new("a", &sure(0.0));
        // One is beyond the bound, and the mean is not.
        [0.5, 0.6, 1.01, 0.5, 0.6, 0.5]
            .into_iter()
            .zip(1..)
            .for_each(|(v, n)| expected.add(n, &sure(v)));
        assert_eq!((expected.met, expected.judged), (5, 6));
        let (met, reason) = expected.verdict();
        assert!(met, "{reason:?}");
        assert!(reason.unwrap().contains("it holds"));
    }
}

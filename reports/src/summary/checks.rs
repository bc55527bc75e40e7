//! Expectations over seeds: how many runs met each, and what they measured.

use crate::format::{in_unit, range};
use crate::record::{Check, RunRecord};
use crate::verdict::{Verdict, verdict};

/// One expectation over all runs of a variant.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckSummary {
    /// What is measured, in words.
    pub what: String,
    /// What came of it in each run, in the order of the seeds.
    pub outcomes: Vec<Outcome>,
    /// What all of them say together.
    pub verdict: Verdict,
}

/// What came of it in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The run's seed.
    pub seed: u64,
    /// What was measured and asked.
    pub check: Check,
    /// The command that repeats the run.
    pub replay: String,
}

impl CheckSummary {
    /// Whether it has to be missed.
    pub fn must_fail(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.check.must_fail)
    }

    /// Whether it sets variants against each other: some have to miss it, or it is a comparison.
    pub fn tells_apart(&self) -> bool {
        let compares = |outcome: &Outcome| outcome.check.compared_with.is_some();
        self.must_fail() || self.outcomes.iter().any(compares)
    }

    /// Whether two variants were asked for the same.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let bounds = |summary: &Self| {
            let check = &summary.outcomes.first()?.check;
            Some((check.at_least, check.at_most, check.compared_with.clone()))
        };
        self.what == other.what && bounds(self) == bounds(other)
    }

    /// The runs that speak against it on their own.
    pub fn missed(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.check.missed_alone())
    }

    /// How many verdicts were given, and how many of them are good ones: one for each run, or one
    /// for all of them when the expectation is about their mean.
    pub fn held(&self) -> (usize, usize) {
        if self.outcomes.iter().any(|outcome| outcome.check.confidence.is_some()) {
            return (usize::from(self.verdict.met), 1);
        }
        let all = self.outcomes.len();
        (all - self.missed().count(), all)
    }

    /// What was asked, over the runs; beside what the bounds are factors of, the range of it.
    pub fn wanted(&self) -> String {
        let Some(first) = self.outcomes.first().map(|outcome| &outcome.check) else {
            return String::new();
        };
        let bases = self.outcomes.iter().map(|outcome| outcome.check.base);
        match (first.unit, bases.collect::<Option<Vec<f64>>>()) {
            (Some(unit), Some(bases)) => format!("{} ({})", first.asked(), range(unit, &bases)),
            _ => first.asked(),
        }
    }

    /// What was measured, over the runs: one value, or the range of them.
    pub fn measured(&self) -> String {
        let Some(first) = self.outcomes.first().map(|outcome| &outcome.check) else {
            return String::new();
        };
        let values = self.outcomes.iter().map(|outcome| outcome.check.value);
        match (first.unit, values.collect::<Option<Vec<f64>>>()) {
            (Some(unit), Some(values)) => range(unit, &values),
            _ => {
                let same = |outcome: &Outcome| outcome.check.measured == first.measured;
                let more = if self.outcomes.iter().all(same) { "" } else { " …" };
                format!("{}{more}", first.measured)
            }
        }
    }

    /// What went wrong, in words, and the run that shows it best; `None` when it is met.
    pub fn miss(&self) -> Option<(String, &Outcome)> {
        if self.verdict.met {
            return None;
        }
        let worst = self.missed().next().or(self.outcomes.first())?;
        let Check { wanted, measured, confidence, unit, value, .. } = &worst.check;
        let measured = match (unit, value) {
            (Some(unit), Some(value)) => in_unit(*unit, *value),
            _ => measured.clone(),
        };
        let text = match confidence {
            Some(_) => format!("wanted {}: {}", self.wanted(), self.verdict.reason),
            None => format!(
                "wanted {wanted}, measured {measured} with seed {}; {}",
                worst.seed, self.verdict.reason
            ),
        };
        Some((text, worst))
    }
}

pub(super) fn summarise(runs: &[&RunRecord]) -> Vec<CheckSummary> {
    // The n-th check of one name in a run belongs with the n-th of that name in the others.
    let mut found: Vec<(usize, Vec<Outcome>)> = Vec::new();
    for run in runs {
        for (i, check) in run.checks.iter().enumerate() {
            let nth = run.checks[..i].iter().filter(|c| c.what == check.what).count();
            let (check, replay) = (check.clone(), run.replay.clone());
            let same = |known: &Vec<Outcome>| known[0].check.what == check.what;
            let place = found.iter().position(|(n, known)| *n == nth && same(known));
            let outcome = Outcome { seed: run.seed, check, replay };
            match place {
                Some(place) => found[place].1.push(outcome),
                None => found.push((nth, vec![outcome])),
            }
        }
    }
    let summary = |(_, outcomes): (usize, Vec<Outcome>)| {
        let checks: Vec<_> = outcomes.iter().map(|outcome| &outcome.check).collect();
        let (what, verdict) = (checks[0].what.clone(), verdict(&checks));
        CheckSummary { what, outcomes, verdict }
    };
    found.into_iter().map(summary).collect()
}

//! Expectations over seeds: how many runs met each, and what they measured.

use crate::record::RunRecord;

/// One expectation over all runs of a variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSummary {
    /// What is measured.
    pub what: String,
    /// Its verdict in each run, in the order of the seeds.
    pub outcomes: Vec<Outcome>,
}

/// The verdict of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The run's seed.
    pub seed: u64,
    /// What was asked.
    pub wanted: String,
    /// What was measured.
    pub measured: String,
    /// Whether it held.
    pub passed: bool,
    /// The command that repeats the run.
    pub replay: String,
}

impl CheckSummary {
    /// Whether it held in every run.
    pub fn passed(&self) -> bool {
        self.outcomes.iter().all(|o| o.passed)
    }

    /// In how many runs it held.
    pub fn held(&self) -> usize {
        self.outcomes.iter().filter(|o| o.passed).count()
    }

    /// What was asked, over the runs. A bound that is relative to another run differs from seed to
    /// seed in its parentheses; what stands before them is common.
    pub fn wanted(&self) -> String {
        let texts: Vec<&str> = self.outcomes.iter().map(|o| o.wanted.as_str()).collect();
        let Some(&first) = texts.first() else { return String::new() };
        if texts.iter().all(|t| *t == first) {
            return first.to_owned();
        }
        let common = |t: &str| t.split(" (").next().unwrap_or(t).to_owned();
        if texts.iter().all(|t| common(t) == common(first)) {
            return common(first);
        }
        range(&texts).unwrap_or_else(|| format!("{first} …"))
    }

    /// What was measured, over the runs: one value, or the range of them.
    pub fn measured(&self) -> String {
        let texts: Vec<&str> = self.outcomes.iter().map(|o| o.measured.as_str()).collect();
        let Some(&first) = texts.first() else { return String::new() };
        range(&texts).unwrap_or_else(|| format!("{first} …"))
    }
}

pub(super) fn summarise(runs: &[&RunRecord]) -> Vec<CheckSummary> {
    // The n-th check of one name in a run belongs with the n-th of that name in the others.
    let mut found: Vec<(usize, CheckSummary)> = Vec::new();
    for run in runs {
        for (i, check) in run.checks.iter().enumerate() {
            let nth = run.checks[..i].iter().filter(|c| c.what == check.what).count();
            let outcome = Outcome {
                seed: run.seed,
                wanted: check.wanted.clone(),
                measured: check.measured.clone(),
                passed: check.passed,
                replay: run.replay.clone(),
            };
            match found.iter_mut().find(|(n, c)| *n == nth && c.what == check.what) {
                Some((_, summary)) => summary.outcomes.push(outcome),
                None => {
                    let what = check.what.clone();
                    found.push((nth, CheckSummary { what, outcomes: vec![outcome] }));
                }
            }
        }
    }
    found.into_iter().map(|(_, summary)| summary).collect()
}

/// `99.93 … 99.97 %` of texts that are a number followed by the same words; the text itself when
/// all are equal; `None` when they have no common form.
fn range(texts: &[&str]) -> Option<String> {
    let first = *texts.first()?;
    if texts.iter().all(|t| *t == first) {
        return Some(first.to_owned());
    }
    let mut parts: Vec<(f64, &str, &str)> = Vec::new();
    for text in texts {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        parts.push((number.parse().ok()?, number, unit));
    }
    let unit = parts[0].2;
    if parts.iter().any(|p| p.2 != unit) {
        return None;
    }
    parts.sort_by(|a, b| a.0.total_cmp(&b.0));
    Some(format!("{} … {}{unit}", parts[0].1, parts[parts.len() - 1].1))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn values_with_one_unit_are_a_range() {
        assert_eq!(range(&["412 ms", "98.5 ms", "100 ms"]).as_deref(), Some("98.5 … 412 ms"));
        assert_eq!(range(&["0 of 5", "0 of 5"]).as_deref(), Some("0 of 5"));
        assert_eq!(range(&["1 s", "900 ms"]), None);
        assert_eq!(range(&["none", "3"]), None);
    }
}

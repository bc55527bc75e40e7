//! An expectation of one run, and what came of it: numbers to compute with, and texts to read.

use serde::{Deserialize, Serialize};

use crate::format::in_unit;

/// An expectation and what was measured for it in one run.
///
/// Whether the expectation is met is said over all seeds of a variant, by
/// [`verdict`](crate::verdict::verdict): some expectations are to be missed, and some are about the
/// mean of all seeds.
///
/// One that is only in words has the fields after `measured` as [`Check::default`] has them, but for
/// `held`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is measured, as scenario files name it, such as `p99` or `success_rate`.
    pub metric: String,
    /// The same in words, and over what, such as `share of requests at web-2, 5 s to 30 s`.
    pub what: String,
    /// What was asked of it, such as `≥ 99.9 %` or `≤ 0.5 × round_robin (412 ms)`.
    pub wanted: String,
    /// What it was, such as `99.95 %`, or why it could not be measured.
    pub measured: String,
    /// What the numbers are of; `None` when the check is of more than a number, and only its texts
    /// say what was compared.
    pub unit: Option<Unit>,
    /// What was measured.
    pub value: Option<f64>,
    /// The lower bound: a number of the same unit, or a factor when it is compared with a variant.
    pub at_least: Option<f64>,
    /// The upper bound, in the same way.
    pub at_most: Option<f64>,
    /// The variant whose run with the same seed the bounds are factors of.
    pub compared_with: Option<String>,
    /// What was measured of that run.
    pub base: Option<f64>,
    /// How sure the verdict over all seeds has to be, from 0.5 to 1; each run on its own if `None`.
    pub confidence: Option<f64>,
    /// Whether the variant has to miss this expectation, so that the scenario tells good from bad.
    pub must_fail: bool,
    /// Why nothing can be said of this run; then it neither held nor was it missed.
    pub not_judged: Option<String>,
    /// Whether what was measured is within the bounds.
    pub held: bool,
}

/// What a number is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A part of a whole, from 0 to 1.
    Share,
    /// A duration, in seconds.
    Time,
    /// How many.
    Count,
    /// How many a second.
    PerSecond,
    /// How many times as many.
    Factor,
    /// A number of nothing, such as an index.
    Number,
}

impl Check {
    /// A bound that is an absolute number: that of the field, times what it is compared with.
    /// `None` without a bound, or when what it is compared with was not measured.
    pub fn absolute(&self, bound: Option<f64>) -> Option<f64> {
        match &self.compared_with {
            Some(_) => Some(bound? * self.base?),
            None => bound,
        }
    }

    /// Whether this run speaks against the scenario on its own: it could not be judged, missed what
    /// had to hold, or held what had to be missed. One run of an expectation about the mean of all
    /// seeds never does, unless it could not be judged.
    pub fn missed_alone(&self) -> bool {
        self.not_judged.is_some() || (self.confidence.is_none() && self.held == self.must_fail)
    }

    /// What is asked, in words and without the numbers of this run: `≤ 0.5 × round_robin`.
    pub fn asked(&self) -> String {
        let Some(unit) = self.unit else { return self.wanted.clone() };
        let bound = |number: f64| match &self.compared_with {
            Some(base) => format!("{number} × {base}"),
            None => in_unit(unit, number),
        };
        let bounds = match (self.at_least, self.at_most) {
            (Some(least), Some(most)) if least == most => format!("= {}", bound(least)),
            (Some(least), Some(most)) => format!("{} to {}", bound(least), bound(most)),
            (Some(least), None) => format!("≥ {}", bound(least)),
            (None, Some(most)) => format!("≤ {}", bound(most)),
            (None, None) => String::new(),
        };
        let missed = if self.must_fail { "must miss " } else { "" };
        let sure = self.confidence.map(|sure| format!(", {} sure", in_unit(Unit::Share, sure)));
        format!("{missed}{bounds}{}", sure.unwrap_or_default())
    }
}

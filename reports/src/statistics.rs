//! Intervals around what differs from seed to seed. Pure.
//!
//! A run is one observation, however many requests it has: requests that queue behind each other
//! are not independent, seeds are. So all intervals are Student's t over runs.
//!
//! A percentile of several runs comes from their merged histogram and has no mean over runs. Its
//! interval is that of *sectioning* (Asmussen & Glynn, *Stochastic Simulation*, 2007, III.5;
//! Nakayama, *ACM TOMACS* 24, 2014): the percentile of everything stands in the middle, and how far
//! the runs' own percentiles lie from it is the spread. A bootstrap over seeds would do without t,
//! but of five or ten seeds it gives intervals that are too narrow, and it needs a stream of random
//! numbers. For a mean, sectioning is the usual interval.
//!
//! Variants of one scenario meet the same arrivals and the same service draws for each seed. So
//! their differences are taken seed by seed: what the seeds have in common cancels. Where the seeds
//! differ, Welch's interval takes its place, which is wider.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// The confidence of the intervals of a report.
pub const CONFIDENCE: f64 = 0.95;

/// Between these a true value lies, with the confidence that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Bounds {
    fn around(center: f64, half: f64) -> Option<Self> {
        (center.is_finite() && half.is_finite())
            .then_some(Self { low: center - half, high: center + half })
    }

    /// Half of its width.
    pub fn half(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// True when the value is not zero, as far as this tells.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }

    /// The same as factors of `unit`; `None` when that is no number above zero.
    pub fn relative_to(&self, unit: f64) -> Option<Self> {
        (unit > 0.0).then(|| Self { low: self.low / unit, high: self.high / unit })
    }
}

/// A statistic of several runs: of all of them together, and of each.
#[derive(Clone, Copy, Debug)]
pub struct Sections<'v> {
    /// Of all runs together.
    pub center: f64,
    /// Of each run.
    pub of_runs: &'v [f64],
}

impl Sections<'_> {
    /// The squared standard error of the center; `None` of fewer than two runs, or when a value is
    /// not finite.
    fn squared_error(&self) -> Option<f64> {
        let n = self.of_runs.len() as f64;
        if self.of_runs.len() < 2 {
            return None;
        }
        let squares = self.of_runs.iter().map(|value| (value - self.center).powi(2));
        let error = squares.sum::<f64>() / (n - 1.0) / n;
        error.is_finite().then_some(error)
    }

    /// Where the true value lies.
    pub fn interval(&self, confidence: f64) -> Option<Bounds> {
        let error = self.squared_error()?.sqrt();
        let t = student(self.of_runs.len() as f64 - 1.0, confidence)?;
        Bounds::around(self.center, t * error)
    }
}

/// Where the difference `b − a` lies, of runs that met the same requests: the n-th of `a` and the
/// n-th of `b` are a pair. `None` of fewer than two pairs, or of lists of different lengths.
pub fn paired(a: Sections<'_>, b: Sections<'_>, confidence: f64) -> Option<Bounds> {
    if a.of_runs.len() != b.of_runs.len() {
        return None;
    }
    let differences: Vec<f64> = a.of_runs.iter().zip(b.of_runs).map(|(a, b)| b - a).collect();
    Sections { center: b.center - a.center, of_runs: &differences }.interval(confidence)
}

/// Where the difference `b − a` lies, of runs that have nothing to do with each other, by Welch
/// (*Biometrika* 34, 1947). `None` of fewer than two runs of either.
pub fn unpaired(a: Sections<'_>, b: Sections<'_>, confidence: f64) -> Option<Bounds> {
    let (error_a, error_b) = (a.squared_error()?, b.squared_error()?);
    let sum = error_a + error_b;
    let center = b.center - a.center;
    if sum == 0.0 {
        return Bounds::around(center, 0.0);
    }
    let part = |error: f64, runs: usize| error.powi(2) / (runs as f64 - 1.0);
    let freedom = sum.powi(2) / (part(error_a, a.of_runs.len()) + part(error_b, b.of_runs.len()));
    Bounds::around(center, student(freedom, confidence)? * sum.sqrt())
}

/// The two-sided quantile of Student's t.
fn student(freedom: f64, confidence: f64) -> Option<f64> {
    let t = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(t.inverse_cdf((1.0 + confidence) / 2.0))
}

/// The mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Jain's index of fairness (DEC-TR-301, 1984): 1 when all are equal, 1/n when one has everything;
/// `None` when nobody has anything.
pub fn jain(values: &[f64]) -> Option<f64> {
    let (sum, squares) = (values.iter().sum::<f64>(), values.iter().map(|v| v * v).sum::<f64>());
    (squares > 0.0).then(|| sum * sum / (values.len() as f64 * squares))
}

/// The largest as a factor of the mean; `None` when that is zero.
pub fn max_over_mean(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|mean| *mean > 0.0)?;
    Some(values.iter().copied().fold(0.0, f64::max) / mean)
}

#[cfg(test)]
mod tests;

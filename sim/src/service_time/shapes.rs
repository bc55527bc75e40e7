//! Distributions that have two parameters of their own, each with what makes them one.

use std::fmt;
use std::time::Duration;

use proxy::config::fields::{duration, optional_positive_duration, positive_duration};
use schemars::JsonSchema;
use serde::Deserialize;

use super::normal::standard_normal;
use super::{exponential, seconds, written};

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;

/// Between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "RawUniform")]
pub struct Uniform {
    min: Duration,
    max: Duration,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawUniform {
    #[serde(deserialize_with = "duration")]
    min: Duration,
    #[serde(deserialize_with = "positive_duration")]
    max: Duration,
}

impl Uniform {
    /// From `min` to `max`, which is the larger one.
    ///
    /// # Errors
    /// When it is not.
    pub fn new(min: Duration, max: Duration) -> Result<Self, String> {
        if max <= min {
            return Err("the maximum must be above the minimum".into());
        }
        Ok(Self { min, max })
    }

    pub(super) fn draw(&self, uniform: f64) -> Duration {
        let (min, max) = (self.min.as_secs_f64(), self.max.as_secs_f64());
        seconds(min + (max - min) * uniform)
    }
}

impl TryFrom<RawUniform> for Uniform {
    type Error = String;

    fn try_from(raw: RawUniform) -> Result<Self, String> {
        Self::new(raw.min, raw.max)
    }
}

impl fmt::Display for Uniform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uniform, {} to {}", written(self.min), written(self.max))
    }
}

/// A log-normal distribution by two of its quantiles, which people can read off a dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "RawLognormal")]
pub struct Lognormal {
    median: Duration,
    p99: Duration,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawLognormal {
    #[serde(deserialize_with = "positive_duration")]
    median: Duration,
    #[serde(deserialize_with = "positive_duration")]
    p99: Duration,
}

impl Lognormal {
    /// The distribution with this median, above zero, and this 99th percentile, not below it.
    ///
    /// # Errors
    /// When they are not so.
    pub fn new(median: Duration, p99: Duration) -> Result<Self, String> {
        if median.is_zero() || p99 < median {
            return Err("the median must be above 0 and the 99th percentile not below it".into());
        }
        Ok(Self { median, p99 })
    }

    pub(super) fn draw(&self, uniform: [f64; 2]) -> Duration {
        let spread = libm::log(self.p99.as_secs_f64() / self.median.as_secs_f64()) / Z99;
        seconds(self.median.as_secs_f64() * libm::exp(spread * standard_normal(uniform)))
    }
}

impl TryFrom<RawLognormal> for Lognormal {
    type Error = String;

    fn try_from(raw: RawLognormal) -> Result<Self, String> {
        Self::new(raw.median, raw.p99)
    }
}

impl fmt::Display for Lognormal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lognormal, median {}, p99 {}", written(self.median), written(self.p99))
    }
}

/// Two exponential distributions with balanced means: each contributes half of the work (Allen,
/// "Probability, Statistics, and Queueing Theory", section 3.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "RawHyperexponential")]
pub struct Hyperexponential {
    mean: Duration,
    scv: f64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawHyperexponential {
    #[serde(deserialize_with = "positive_duration")]
    mean: Duration,
    scv: f64,
}

impl Hyperexponential {
    /// The distribution with this mean, above zero, and this squared coefficient of variation:
    /// the variance over the square of the mean, from 1, which is exponential, to 1000.
    ///
    /// # Errors
    /// When they are not so.
    pub fn new(mean: Duration, scv: f64) -> Result<Self, String> {
        if mean.is_zero() || !(1.0..=1000.0).contains(&scv) {
            let message = "the mean must be above 0 and `scv`, the squared coefficient of \
                           variation, from 1 to 1000";
            return Err(message.into());
        }
        Ok(Self { mean, scv })
    }

    pub(super) fn draw(&self, [which, uniform]: [f64; 2]) -> Duration {
        let first = (1.0 + libm::sqrt((self.scv - 1.0) / (self.scv + 1.0))) / 2.0;
        let share = if which < first { first } else { 1.0 - first };
        seconds(self.mean.as_secs_f64() / (2.0 * share) * exponential(uniform))
    }
}

impl TryFrom<RawHyperexponential> for Hyperexponential {
    type Error = String;

    fn try_from(raw: RawHyperexponential) -> Result<Self, String> {
        Self::new(raw.mean, raw.scv)
    }
}

impl fmt::Display for Hyperexponential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scv = self.scv;
        write!(f, "hyperexponential, mean {}, variation² {scv}", written(self.mean))
    }
}

/// A power law: the share of times beyond `x` is `(min / x)^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "RawPareto")]
pub struct Pareto {
    min: Duration,
    exponent: f64,
    max: Option<Duration>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawPareto {
    #[serde(deserialize_with = "positive_duration")]
    min: Duration,
    exponent: f64,
    #[serde(default, deserialize_with = "optional_positive_duration")]
    max: Option<Duration>,
}

impl Pareto {
    /// The power law from `min`, above zero, with this exponent, above 1 as otherwise there is no
    /// mean, and at most 100. With a `max` it is the bounded one: nothing is drawn beyond it.
    ///
    /// # Errors
    /// When they are not so.
    pub fn new(min: Duration, exponent: f64, max: Option<Duration>) -> Result<Self, String> {
        if min.is_zero() || !(exponent > 1.0 && exponent <= 100.0) {
            return Err("the minimum must be above 0 and the exponent above 1, up to 100".into());
        }
        if max.is_some_and(|max| max <= min) {
            return Err("the maximum must be above the minimum".into());
        }
        Ok(Self { min, exponent, max })
    }

    pub(super) fn draw(&self, uniform: f64) -> Duration {
        let min = self.min.as_secs_f64();
        // What lies beyond the maximum is taken off the top of the uniform number.
        let beyond = self.max.map_or(0.0, |max| libm::pow(min / max.as_secs_f64(), self.exponent));
        let left = 1.0 - uniform * (1.0 - beyond);
        seconds(min * libm::pow(left, -1.0 / self.exponent))
    }
}

impl TryFrom<RawPareto> for Pareto {
    type Error = String;

    fn try_from(raw: RawPareto) -> Result<Self, String> {
        Self::new(raw.min, raw.exponent, raw.max)
    }
}

impl fmt::Display for Pareto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pareto from {}, exponent {}", written(self.min), self.exponent)?;
        match self.max {
            Some(max) => write!(f, ", up to {}", written(max)),
            None => Ok(()),
        }
    }
}

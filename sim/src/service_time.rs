//! How long a backend works on a request. Pure.
//!
//! A draw is a function of uniform numbers, one pair a request whatever the distribution, so that
//! strategies can be compared on the same draws. Logarithms and the like come from `libm`: the
//! platform's own may differ in the last bit, and a simulation would then differ from machine to
//! machine.

mod empirical;
mod normal;
mod shapes;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use proxy::config::fields::{duration, parse_duration, positive_duration};
use schemars::JsonSchema;
use serde::Deserialize;

pub use empirical::Empirical;
pub use shapes::{Hyperexponential, Lognormal, Pareto, Uniform};

/// The longest draw: beyond every timeout, and far from the end of any clock.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A distribution of service times.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ServiceTime {
    /// Always the same.
    Constant(#[serde(deserialize_with = "duration")] Duration),
    /// Any time between two, each as likely as the other.
    Uniform(Uniform),
    /// Normal, truncated at zero: as often as the bell reaches below it, another is drawn.
    Normal {
        /// Mean of the bell, which is its median too.
        #[serde(deserialize_with = "positive_duration")]
        mean: Duration,
        /// Standard deviation of the bell.
        #[serde(deserialize_with = "duration")]
        sd: Duration,
    },
    /// Log-normal: what latencies of real services tend to look like.
    Lognormal(Lognormal),
    /// Exponential: the service of queueing theory.
    Exponential {
        /// Mean.
        #[serde(deserialize_with = "duration")]
        mean: Duration,
    },
    /// Two exponential distributions, one of which is drawn from: many short times and a few long
    /// ones, more variable than exponential.
    Hyperexponential(Hyperexponential),
    /// A power law: what sizes of files and of jobs tend to look like.
    Pareto(Pareto),
    /// Values that were measured, drawn as often as their weights say.
    Empirical(Empirical),
}

impl ServiceTime {
    /// One service time from two independent numbers, uniform in `[0, 1)`.
    pub fn draw(&self, uniform: [f64; 2]) -> Duration {
        match self {
            ServiceTime::Constant(time) => *time,
            ServiceTime::Uniform(bounds) => bounds.draw(uniform[0]),
            ServiceTime::Normal { mean, sd } => normal::draw(*mean, *sd, uniform),
            ServiceTime::Lognormal(lognormal) => lognormal.draw(uniform),
            ServiceTime::Exponential { mean } => {
                seconds(mean.as_secs_f64() * exponential(uniform[0]))
            }
            ServiceTime::Hyperexponential(phases) => phases.draw(uniform),
            ServiceTime::Pareto(pareto) => pareto.draw(uniform[0]),
            ServiceTime::Empirical(empirical) => empirical.draw(uniform[0]),
        }
    }

    /// The values that it is to be read from a file, if it is.
    pub fn empirical_mut(&mut self) -> Option<&mut Empirical> {
        match self {
            ServiceTime::Empirical(empirical) => Some(empirical),
            _ => None,
        }
    }
}

/// An exponential draw of mean 1 by inversion.
fn exponential(uniform: f64) -> f64 {
    -libm::log(1.0 - uniform)
}

/// Whole nanoseconds, none below zero and none beyond [`LONGEST`].
fn seconds(seconds: f64) -> Duration {
    Duration::from_nanos((seconds.max(0.0) * 1e9).round() as u64).min(LONGEST)
}

/// A duration as people write it.
fn written(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceTime::Constant(time) => write!(f, "constant {}", written(*time)),
            ServiceTime::Uniform(bounds) => bounds.fmt(f),
            ServiceTime::Normal { mean, sd } => {
                write!(f, "normal {} ± {}", written(*mean), written(*sd))
            }
            ServiceTime::Lognormal(lognormal) => lognormal.fmt(f),
            ServiceTime::Exponential { mean } => write!(f, "exponential, mean {}", written(*mean)),
            ServiceTime::Hyperexponential(phases) => phases.fmt(f),
            ServiceTime::Pareto(pareto) => pareto.fmt(f),
            ServiceTime::Empirical(empirical) => empirical.fmt(f),
        }
    }
}

impl FromStr for ServiceTime {
    type Err = String;

    /// The short form for command lines: `10ms`, `uniform:5ms,15ms`, `normal:167ms,5ms` (mean and
    /// standard deviation), `lognormal:20ms,200ms` (median and 99th percentile),
    /// `exponential:5ms` (mean), `hyperexponential:10ms,4` (mean and squared coefficient of
    /// variation), `pareto:5ms,2.5` (minimum and exponent).
    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "`{text}` is not a service time; write 10ms, uniform:MIN,MAX, normal:MEAN,SD, \
                 lognormal:MEDIAN,P99, exponential:MEAN, hyperexponential:MEAN,SCV or \
                 pareto:MIN,EXPONENT"
            )
        };
        let (kind, values) = text.split_once(':').unwrap_or(("constant", text));
        if let Some((time, number)) = values.split_once(',')
            && matches!(kind, "hyperexponential" | "pareto")
        {
            let time = parse_duration(time)?;
            let number = number.parse().map_err(|_| unknown())?;
            return match kind {
                "pareto" => Pareto::new(time, number, None).map(Self::Pareto),
                _ => Hyperexponential::new(time, number).map(Self::Hyperexponential),
            };
        }
        let values: Vec<_> = values.split(',').map(parse_duration).collect::<Result<_, _>>()?;
        match (kind, values.as_slice()) {
            ("constant", &[time]) => Ok(Self::Constant(time)),
            ("uniform", &[min, max]) => Uniform::new(min, max).map(Self::Uniform),
            ("normal", &[mean, _]) if mean.is_zero() => Err("the mean must be above 0".to_owned()),
            ("normal", &[mean, sd]) => Ok(Self::Normal { mean, sd }),
            ("lognormal", &[median, p99]) => Lognormal::new(median, p99).map(Self::Lognormal),
            ("exponential", &[mean]) => Ok(Self::Exponential { mean }),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests;

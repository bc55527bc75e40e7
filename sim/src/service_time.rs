//! How long a backend works on a request. Pure.
//!
//! A draw is a function of uniform numbers, one pair a request, so that strategies can be compared
//! on the same draws. Logarithms and the like come from `libm`: the platform's own may differ in
//! the last bit, and a simulation would then differ from machine to machine.

use std::f64::consts::TAU;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use proxy::config::fields::{duration, parse_duration, positive_duration};
use schemars::JsonSchema;
use serde::Deserialize;

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;

/// A distribution of service times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ServiceTime {
    /// Always the same.
    Constant(#[serde(deserialize_with = "duration")] Duration),
    /// Normal, cut off at zero.
    Normal {
        /// Mean, which is the median too.
        #[serde(deserialize_with = "duration")]
        mean: Duration,
        /// Standard deviation.
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

    fn draw(&self, uniform: [f64; 2]) -> Duration {
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

impl ServiceTime {
    /// One service time from two independent numbers, uniform in `[0, 1)`.
    pub fn draw(&self, uniform: [f64; 2]) -> Duration {
        match *self {
            ServiceTime::Constant(time) => time,
            ServiceTime::Normal { mean, sd } => {
                seconds(mean.as_secs_f64() + sd.as_secs_f64() * standard_normal(uniform))
            }
            ServiceTime::Lognormal(lognormal) => lognormal.draw(uniform),
            ServiceTime::Exponential { mean } => {
                seconds(-mean.as_secs_f64() * libm::log(1.0 - uniform[0]))
            }
        }
    }
}

/// Box and Muller's transformation.
fn standard_normal([radius, angle]: [f64; 2]) -> f64 {
    libm::sqrt(-2.0 * libm::log(1.0 - radius)) * libm::cos(TAU * angle)
}

/// Whole nanoseconds, none below zero; the draws above are finite and far from the type's end.
fn seconds(seconds: f64) -> Duration {
    Duration::from_nanos((seconds.max(0.0) * 1e9).round() as u64)
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = |duration: Duration| humantime::format_duration(duration).to_string();
        match *self {
            ServiceTime::Constant(time) => write!(f, "constant {}", d(time)),
            ServiceTime::Normal { mean, sd } => write!(f, "normal {} ± {}", d(mean), d(sd)),
            ServiceTime::Lognormal(Lognormal { median, p99 }) => {
                write!(f, "lognormal, median {}, p99 {}", d(median), d(p99))
            }
            ServiceTime::Exponential { mean } => write!(f, "exponential, mean {}", d(mean)),
        }
    }
}

impl FromStr for ServiceTime {
    type Err = String;

    /// The short form for command lines: `10ms`, `normal:167ms,5ms` (mean and standard deviation),
    /// `lognormal:20ms,200ms` (median and 99th percentile), `exponential:5ms` (mean).
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, values) = text.split_once(':').unwrap_or(("constant", text));
        let values: Vec<_> = values.split(',').map(parse_duration).collect::<Result<_, _>>()?;
        match (kind, values.as_slice()) {
            ("constant", &[time]) => Ok(Self::Constant(time)),
            ("normal", &[mean, sd]) => Ok(Self::Normal { mean, sd }),
            ("lognormal", &[median, p99]) => Lognormal::new(median, p99).map(Self::Lognormal),
            ("exponential", &[mean]) => Ok(Self::Exponential { mean }),
            _ => Err(format!(
                "`{text}` is not a service time; write 10ms, normal:MEAN,SD, \
                 lognormal:MEDIAN,P99 or exponential:MEAN"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proxy::rng::stream;
    use rand::RngExt as _;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Sorted draws in milliseconds.
    fn draws(of: ServiceTime) -> Vec<f64> {
        let mut rng = stream(1, "test");
        let mut draws: Vec<_> =
            (0..100_000).map(|_| of.draw(rng.random()).as_secs_f64() * 1e3).collect();
        draws.sort_by(f64::total_cmp);
        draws
    }

    fn near(value: f64, wanted: f64) {
        assert!((value / wanted - 1.0).abs() < 0.02, "{value} is not within 2 % of {wanted}");
    }

    fn mean(draws: &[f64]) -> f64 {
        draws.iter().sum::<f64>() / draws.len() as f64
    }

    #[test]
    fn draws_follow_their_distribution() {
        let quantile = |draws: &[f64], q: f64| draws[(draws.len() as f64 * q) as usize];
        let exponential = draws(ServiceTime::Exponential { mean: ms(10) });
        near(mean(&exponential), 10.0);
        near(quantile(&exponential, 0.5), 10.0 * 2f64.ln());
        let normal = draws(ServiceTime::Normal { mean: ms(167), sd: ms(5) });
        near(mean(&normal), 167.0);
        near(quantile(&normal, 0.99) - 167.0, 5.0 * Z99);
        let lognormal = draws("lognormal:20ms,200ms".parse().unwrap());
        near(quantile(&lognormal, 0.5), 20.0);
        near(quantile(&lognormal, 0.99), 200.0);
    }

    #[test]
    fn a_normal_time_is_never_negative() {
        let draws = draws(ServiceTime::Normal { mean: ms(1), sd: ms(10) });
        assert_eq!(draws.first(), Some(&0.0));
    }

    #[test]
    fn the_extreme_draws_are_finite() {
        for uniform in [[0.0, 0.0], [1.0 - f64::EPSILON / 2.0; 2]] {
            for of in ["10ms", "normal:10ms,5ms", "lognormal:10ms,50ms", "exponential:10ms"] {
                let of: ServiceTime = of.parse().unwrap();
                assert!(of.draw(uniform) < Duration::from_secs(60), "{of}");
            }
        }
    }

    #[test]
    fn the_short_form_is_read_or_explained() {
        assert_eq!("10ms".parse(), Ok(ServiceTime::Constant(ms(10))));
        assert_eq!(
            "normal:167ms,5ms".parse(),
            Ok(ServiceTime::Normal { mean: ms(167), sd: ms(5) })
        );
        for wrong in ["", "ten", "normal:5ms", "gamma:5ms", "lognormal:9ms,3ms", "lognormal:0s,1s"]
        {
            assert!(wrong.parse::<ServiceTime>().is_err(), "{wrong}");
        }
    }
}

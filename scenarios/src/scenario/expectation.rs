//! What must hold: a metric, of which variants, over which part of the run, within which bounds.

use std::fmt;
use std::time::Duration;

use proxy::config::{Balance, fields};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

/// One expectation. It is judged for each run of the variants it is about, on its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// What is measured.
    pub that: Spanned<Metric>,
    /// The variants it is about; all if absent.
    pub of: Option<Vec<Spanned<Balance>>>,
    /// The instance, for metrics of one.
    pub target: Option<Spanned<String>>,
    /// Only responses with this status; for `status_share`, the status that is counted.
    pub status: Option<u16>,
    /// Where the window begins; the start of the run if absent.
    #[serde(default, deserialize_with = "optional_duration")]
    pub from: Option<Duration>,
    /// Where the window ends; the end of the plan if absent.
    #[serde(default, deserialize_with = "fields::optional_positive_duration")]
    pub until: Option<Duration>,
    /// The variant whose value the bounds are factors of; absolute bounds if absent.
    pub compared_with: Option<Spanned<Balance>>,
    /// The lower bound.
    pub at_least: Option<Spanned<Bound>>,
    /// The upper bound.
    pub at_most: Option<Spanned<Bound>>,
}

impl Expectation {
    /// True when it is about runs of this variant.
    pub fn is_about(&self, variant: Balance) -> bool {
        self.of.as_ref().is_none_or(|of| of.iter().any(|named| *named.get_ref() == variant))
    }
}

/// Something that can be measured of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of the planned requests that were answered well and in time.
    SuccessRate,
    /// Share of the planned requests that were answered with `status`.
    StatusShare,
    /// Share of the requests that reached an instance which reached `target`.
    Share,
    /// Shortest response time.
    Min,
    /// Median response time.
    P50,
    /// 90th percentile of the response time.
    P90,
    /// 99th percentile of the response time.
    P99,
    /// 99.9th percentile of the response time.
    P999,
    /// Longest response time.
    Max,
    /// Longest time that an instance spent on a request, queueing included.
    LongestWork,
}

impl Metric {
    /// True for times, false for shares.
    pub fn is_time(self) -> bool {
        !matches!(self, Metric::SuccessRate | Metric::StatusShare | Metric::Share)
    }

    /// True for metrics over response times.
    pub fn is_response_time(self) -> bool {
        self.is_time() && self != Metric::LongestWork
    }

    /// In words, for reports.
    pub fn words(self) -> &'static str {
        match self {
            Metric::SuccessRate => "success rate",
            Metric::StatusShare => "share of status",
            Metric::Share => "share of requests",
            Metric::Min => "shortest response time",
            Metric::P50 => "p50 response time",
            Metric::P90 => "p90 response time",
            Metric::P99 => "p99 response time",
            Metric::P999 => "p99.9 response time",
            Metric::Max => "longest response time",
            Metric::LongestWork => "longest work at an instance",
        }
    }
}

/// A bound: a duration for times, a number for shares and factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// As `"500ms"`.
    Time(Duration),
    /// As `0.5`.
    Number(f64),
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoundVisitor;

        impl Visitor<'_> for BoundVisitor {
            type Value = Bound;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 0.5 or a duration such as \"500ms\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bound, E> {
                fields::parse_duration(text).map(Bound::Time).map_err(E::custom)
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Bound, E> {
                if value.is_finite() && value >= 0.0 {
                    Ok(Bound::Number(value))
                } else {
                    Err(E::custom(format!("{value} is not a bound; write a number from 0 up")))
                }
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Bound, E> {
                self.visit_f64(value as f64)
            }
        }

        deserializer.deserialize_any(BoundVisitor)
    }
}

fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    fields::duration(deserializer).map(Some)
}

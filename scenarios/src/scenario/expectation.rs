//! What must hold: a metric, of which variants, over which part of the run, within which bounds.

use std::fmt;
use std::time::Duration;

use proxy::config::fields::{optional_positive_duration, parse_duration};
use reports::record::Unit;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::fields;

/// One expectation. It is judged for each run of the variants it is about, on its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// What is measured.
    pub that: Spanned<Metric>,
    /// The variants it is about; all if absent.
    pub of: Option<Vec<Spanned<String>>>,
    /// The instance, or all of `web-*`, for metrics of some.
    pub target: Option<Spanned<String>>,
    /// Only responses with this status; for `status_share`, the status that is counted.
    pub status: Option<u16>,
    /// Only requests with this method.
    pub method: Option<Spanned<String>>,
    /// The response flag that is counted.
    pub flag: Option<Spanned<String>>,
    /// Where the window begins; the start of the run if absent.
    #[serde(default, deserialize_with = "fields::optional_duration")]
    pub from: Option<Duration>,
    /// Where the window ends; the end of the plan if absent.
    #[serde(default, deserialize_with = "optional_positive_duration")]
    pub until: Option<Duration>,
    /// The variant whose value the bounds are factors of; absolute bounds if absent.
    pub compared_with: Option<Spanned<String>>,
    /// The lower bound.
    pub at_least: Option<Spanned<Bound>>,
    /// The upper bound.
    pub at_most: Option<Spanned<Bound>>,
}

impl Expectation {
    /// True when it is about runs of this variant.
    pub fn is_about(&self, variant: &str) -> bool {
        self.of.as_ref().is_none_or(|of| of.iter().any(|named| named.get_ref() == variant))
    }
}

/// Something that can be measured of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of the planned requests that were answered well and in time.
    SuccessRate,
    /// Requests answered well and in time, per second; they count when they are answered.
    Goodput,
    /// Share of the planned requests that were answered with `status`.
    StatusShare,
    /// Answers that carried `flag`.
    Flagged,
    /// Share of the requests that reached an instance of the service which reached `target`.
    Share,
    /// The largest such share of a second.
    PeakShare,
    /// Requests that reached `target`.
    Arrivals,
    /// Requests that reached the first service, for each that was planned and sent.
    Amplification,
    /// How often the request that reached the first service most often did so.
    MostSeen,
    /// Requests that reached an instance when their time was up already.
    LateStarts,
    /// From the begin of the first fault of `target` until its share of the requests stays below
    /// half of a fair one, as long as the fault lasts; to within a second.
    TimeToDetect,
    /// From the end of that fault until its share is at least half of a fair one; to within a
    /// second.
    TimeToRecover,
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

/// Whether a metric is of some instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Optional,
    Required,
}

impl Metric {
    /// As scenario files name it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::SuccessRate => "success_rate",
            Metric::Goodput => "goodput",
            Metric::StatusShare => "status_share",
            Metric::Flagged => "flagged",
            Metric::Share => "share",
            Metric::PeakShare => "peak_share",
            Metric::Arrivals => "arrivals",
            Metric::Amplification => "amplification",
            Metric::MostSeen => "most_seen",
            Metric::LateStarts => "late_starts",
            Metric::TimeToDetect => "time_to_detect",
            Metric::TimeToRecover => "time_to_recover",
            Metric::Min => "min",
            Metric::P50 => "p50",
            Metric::P90 => "p90",
            Metric::P99 => "p99",
            Metric::P999 => "p999",
            Metric::Max => "max",
            Metric::LongestWork => "longest_work",
        }
    }

    /// What it is a number of.
    pub fn unit(self) -> Unit {
        match self {
            Metric::SuccessRate | Metric::StatusShare | Metric::Share | Metric::PeakShare => {
                Unit::Share
            }
            Metric::Flagged | Metric::Arrivals | Metric::MostSeen | Metric::LateStarts => {
                Unit::Count
            }
            Metric::Goodput => Unit::PerSecond,
            Metric::Amplification => Unit::Factor,
            Metric::TimeToDetect | Metric::TimeToRecover | Metric::LongestWork => Unit::Time,
            _ => Unit::Time,
        }
    }

    /// True for metrics over response times.
    pub fn is_response_time(self) -> bool {
        matches!(
            self,
            Metric::Min | Metric::P50 | Metric::P90 | Metric::P99 | Metric::P999 | Metric::Max
        )
    }

    pub(super) fn takes_target(self) -> Takes {
        match self {
            Metric::Share | Metric::PeakShare | Metric::TimeToDetect | Metric::TimeToRecover => {
                Takes::Required
            }
            Metric::Arrivals | Metric::LateStarts | Metric::LongestWork => Takes::Optional,
            _ => Takes::Nothing,
        }
    }

    pub(super) fn takes_status(self) -> Takes {
        match self {
            Metric::StatusShare => Takes::Required,
            _ if self.is_response_time() => Takes::Optional,
            _ => Takes::Nothing,
        }
    }

    pub(super) fn takes_method(self) -> Takes {
        match self {
            Metric::SuccessRate
            | Metric::Goodput
            | Metric::StatusShare
            | Metric::Arrivals
            | Metric::Amplification
            | Metric::MostSeen
            | Metric::LateStarts => Takes::Optional,
            _ if self.is_response_time() => Takes::Optional,
            _ => Takes::Nothing,
        }
    }

    pub(super) fn takes_flag(self) -> Takes {
        if self == Metric::Flagged { Takes::Required } else { Takes::Nothing }
    }

    /// In words, for reports.
    pub fn words(self) -> &'static str {
        match self {
            Metric::SuccessRate => "success rate",
            Metric::Goodput => "goodput",
            Metric::StatusShare => "share of status",
            Metric::Flagged => "answers flagged",
            Metric::Share => "share of requests",
            Metric::PeakShare => "largest share of a second's requests",
            Metric::Arrivals => "requests that arrived",
            Metric::Amplification => "attempts for each request",
            Metric::MostSeen => "most arrivals of one request",
            Metric::LateStarts => "attempts past the deadline",
            Metric::TimeToDetect => "time to detect the fault",
            Metric::TimeToRecover => "time to recover from the fault",
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

/// A bound: a duration for times, a number for everything else and for factors.
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
                parse_duration(text).map(Bound::Time).map_err(E::custom)
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

//! What a run is held to: `p99<250ms`, `errors<0.1%`.
//!
//! A percentile that is only known to be more than something is held against the bound as what it
//! is: if the lower bound already misses, it is missed; if it does not, nobody knows, and a gate
//! that cannot be shown to hold does not hold. So does one on a percentile with too few requests
//! beyond it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::record::{Record, Times};

/// Requests that must lie beyond a percentile for it to mean anything: with fewer, it tells of
/// those requests and not of the server.
pub const SUPPORT: f64 = 10.0;

/// A bound on one number of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    measure: Measure,
    comparison: Comparison,
    /// Seconds, a share, or requests per second.
    bound: f64,
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Measure {
    /// A quantile of a kind of time, 0 to 1.
    Quantile {
        times: String,
        quantile: f64,
    },
    Mean {
        times: String,
    },
    /// Share of the planned requests that were not answered well and in time.
    Errors,
    /// Share of the planned requests that were.
    Success,
    /// Whole responses per second.
    Rate,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// What became of a bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The bound as it was written.
    pub slo: String,
    /// It holds.
    pub holds: bool,
    /// The value that it was held against.
    pub measured: String,
}

impl Slo {
    /// Holds a run against the bound.
    pub fn judge(&self, record: &Record) -> Judgement {
        let (value, doubt) = self.measure(record);
        let holds = doubt.is_none()
            && value.is_some_and(|value| match self.comparison {
                Comparison::Less => value < self.bound,
                Comparison::AtMost => value <= self.bound,
                Comparison::More => value > self.bound,
                Comparison::AtLeast => value >= self.bound,
            });
        let text = match value {
            Some(value) => self.written(value),
            None => "not measured".to_owned(),
        };
        let measured = match doubt {
            Some(doubt) => format!("{text}, {doubt}"),
            None => text,
        };
        Judgement { slo: self.text.clone(), holds, measured }
    }

    /// The value, and why it does not decide.
    fn measure(&self, record: &Record) -> (Option<f64>, Option<&'static str>) {
        let books = &record.accounting;
        match &self.measure {
            Measure::Quantile { times, quantile } => match record.times.get(times) {
                Some(times) if times.count > 0 => quantile_of(times, *quantile),
                _ => (None, None),
            },
            Measure::Mean { times } => match record.times.get(times) {
                Some(times) if times.count > 0 => {
                    let doubt = times.censored_from_ns.map(|_| "a lower bound");
                    (Some(times.mean_ns as f64 / 1e9), doubt)
                }
                _ => (None, None),
            },
            Measure::Errors if books.planned > 0 => (Some(1.0 - books.success_rate()), None),
            Measure::Success if books.planned > 0 => (Some(books.success_rate()), None),
            Measure::Errors | Measure::Success => (None, None),
            Measure::Rate => (Some(record.rate.answered_per_s), None),
        }
    }

    fn written(&self, value: f64) -> String {
        match self.measure {
            Measure::Quantile { .. } | Measure::Mean { .. } => {
                format!("{:.3?}", Duration::from_secs_f64(value))
            }
            Measure::Errors | Measure::Success => format!("{:.3} %", value * 100.0),
            Measure::Rate => format!("{value:.1}/s"),
        }
    }
}

fn quantile_of(times: &Times, quantile: f64) -> (Option<f64>, Option<&'static str>) {
    let value = times.histogram.quantile(quantile);
    let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
    let doubt = if times.censored_from_ns.is_some_and(|from| nanos >= from) {
        Some("a lower bound")
    } else if quantile < 1.0 && times.count as f64 * (1.0 - quantile) < SUPPORT {
        Some("from too few requests")
    } else {
        None
    };
    (Some(value.as_secs_f64()), doubt)
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Slo, SloError> {
        let unreadable = || SloError(text.to_owned());
        let at = text.find(['<', '>']).ok_or_else(unreadable)?;
        let (name, rest) = text.split_at(at);
        let (comparison, bound) = match (rest.strip_prefix("<="), rest.strip_prefix(">=")) {
            (Some(bound), _) => (Comparison::AtMost, bound),
            (_, Some(bound)) => (Comparison::AtLeast, bound),
            _ if rest.starts_with('<') => (Comparison::Less, &rest[1..]),
            _ => (Comparison::More, &rest[1..]),
        };
        let (name, bound) = (name.trim(), bound.trim());
        let (times, name) = name.rsplit_once(':').unwrap_or(("response", name));
        let times = times.to_owned();
        if !KINDS.contains(&times.as_str()) {
            return Err(unreadable());
        }
        let measure = match name {
            "errors" => Measure::Errors,
            "success" => Measure::Success,
            "rate" => Measure::Rate,
            "mean" => Measure::Mean { times },
            "max" => Measure::Quantile { times, quantile: 1.0 },
            _ => {
                let percent = name.strip_prefix('p').and_then(|p| p.parse::<f64>().ok());
                let percent = percent.filter(|p| *p > 0.0 && *p < 100.0).ok_or_else(unreadable)?;
                Measure::Quantile { times, quantile: percent / 100.0 }
            }
        };
        let bound = match measure {
            Measure::Quantile { .. } | Measure::Mean { .. } => {
                humantime::parse_duration(bound).ok().map(|d| d.as_secs_f64())
            }
            Measure::Errors | Measure::Success => match bound.strip_suffix('%') {
                Some(percent) => percent.trim().parse::<f64>().ok().map(|p| p / 100.0),
                None => bound.parse().ok(),
            }
            .filter(|share: &f64| (0.0..=1.0).contains(share)),
            Measure::Rate => bound.parse().ok().filter(|rate: &f64| rate.is_finite()),
        };
        let bound = bound.ok_or_else(unreadable)?;
        Ok(Slo { measure, comparison, bound, text: text.to_owned() })
    }
}

/// The kinds of time that a bound may be about.
const KINDS: [&str; 8] = [
    "response",
    "response_ok",
    "service",
    "service_ok",
    "first_byte",
    "send_lag",
    "connection_wait",
    "connect",
];

/// Text that is no bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no objective; write p99<250ms, service:p50<=5ms, max<2s, errors<0.1%, success>=99.9% \
     or rate>=990"
)]
pub struct SloError(String);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record_of;

    fn judge(slo: &str, record: &Record) -> bool {
        slo.parse::<Slo>().unwrap().judge(record).holds
    }

    #[test]
    fn a_bound_holds_up_to_itself() {
        // 2000 requests of 1 to 2000 ms.
        let record = record_of(1..=2000);
        for (slo, holds) in [
            ("p50<1001ms", true),
            ("p50<1s", false),
            ("max<=2s", false), // the upper edge of its bucket
            ("max<2002ms", true),
            ("service:p50<1001ms", true),
            ("errors<=0%", true),
            ("errors<0%", false),
            ("success>=100%", true),
            ("success>1", false),
            ("rate>0", true),
        ] {
            assert_eq!(judge(slo, &record), holds, "{slo}");
        }
    }

    #[test]
    fn what_cannot_be_known_does_not_hold() {
        // Ten requests lie beyond the 99th percentile of 1000, and nine beyond that of 999.
        assert!(judge("p99<10s", &record_of(1..=1000)));
        assert!(!judge("p99<10s", &record_of(1..=999)));
        let mut record = record_of(1..=2000);
        if let Some(times) = record.times.get_mut("response") {
            times.censored_from_ns = Some(1_500_000_000);
        }
        assert!(judge("p50<2s", &record));
        assert!(!judge("p99<10s", &record));
        assert!(!judge("mean<10s", &record));
    }

    #[test]
    fn what_is_no_objective_is_refused() {
        for text in [
            "",
            "p99",
            "p99<",
            "p0<1s",
            "p100<1s",
            "px<1s",
            "p99<250",
            "errors<2",
            "odd:p5<1s",
            "rate>inf",
        ] {
            assert!(text.parse::<Slo>().is_err(), "{text}");
        }
    }
}

//! What must hold: a metric, of which variants, over which part of the run, within which bounds;
//! and which variants must miss it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use proxy::config::fields::parse_duration;
use schemars::JsonSchema;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{File, Metric, Window, fields, matches, schema};

/// An expectation as it is written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Expectation")]
pub struct WrittenExpectation {
    /// What is measured, such as `"p99"`, with `at_least` or `at_most`; or all of it on one line,
    /// such as `"p99 <= 500ms"` or `"p99 <= 0.5 * round_robin.p99"`.
    #[schemars(with = "schema::That")]
    pub that: Spanned<String>,
    /// The variants that have to hold it, `*` at the end for all that begin so. Left out: all but
    /// those that must miss it and the one it is compared with.
    #[schemars(with = "Option<Vec<String>>")]
    pub of: Option<Vec<Spanned<String>>>,
    /// The variants that have to miss it, in every run, so that the scenario tells good from bad.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub must_fail: Vec<Spanned<String>>,
    /// Judge the mean over all seeds instead of each run: the interval that covers it with this
    /// probability has to lie within the bounds.
    #[schemars(with = "Option<f64>", range(min = 0.5, max = 0.9999))]
    pub confidence: Option<Spanned<f64>>,
    /// The instance, or all of `web-*`, for metrics of some.
    #[schemars(with = "Option<String>")]
    pub target: Option<Spanned<String>>,
    /// Only the instances in this zone.
    #[schemars(with = "Option<String>")]
    pub zone: Option<Spanned<String>>,
    /// Only the instances with these labels.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub labels: Option<Spanned<BTreeMap<String, String>>>,
    /// Only requests with this method.
    #[schemars(with = "Option<String>")]
    pub method: Option<Spanned<String>>,
    /// Only requests to this path, or to all of `/a/*`.
    #[schemars(with = "Option<String>")]
    pub path: Option<Spanned<String>>,
    /// Only responses with this status; for `status_share`, the status that is counted.
    #[schemars(with = "Option<u16>", range(min = 100, max = 599))]
    pub status: Option<Spanned<u16>>,
    /// The response flag that is counted, such as `"UO"`.
    #[schemars(with = "Option<String>")]
    pub flag: Option<Spanned<String>>,
    /// Look at the time of the first fault of this target, from its first begin to its last end;
    /// `from` and `until` then count from its begin.
    #[schemars(with = "Option<String>")]
    pub during: Option<Spanned<String>>,
    /// Look at the time after that fault; `from` and `until` then count from its end.
    #[schemars(with = "Option<String>")]
    pub after: Option<Spanned<String>>,
    /// Where the window begins; at the start if left out.
    #[serde(default, deserialize_with = "fields::optional_spanned_duration")]
    #[schemars(with = "Option<Duration>")]
    pub from: Option<Spanned<Duration>>,
    /// Where the window ends; at the end of the plan, or of the fault, if left out.
    #[serde(default, deserialize_with = "fields::optional_positive_spanned_duration")]
    #[schemars(with = "Option<Duration>")]
    pub until: Option<Spanned<Duration>>,
    /// The variant whose value in the run of the same seed the bounds are factors of.
    #[schemars(with = "Option<String>")]
    pub compared_with: Option<Spanned<String>>,
    /// The lower bound.
    #[schemars(with = "Option<Bound>")]
    pub at_least: Option<Spanned<Bound>>,
    /// The upper bound.
    #[schemars(with = "Option<Bound>")]
    pub at_most: Option<Spanned<Bound>>,
}

/// A checked expectation.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// What is measured.
    pub metric: Metric,
    /// The variants that have to hold it.
    pub of: Vec<String>,
    /// The variants that have to miss it.
    pub must_fail: Vec<String>,
    /// Which instances it is about.
    pub instances: Instances,
    /// Which requests it is about.
    pub requests: Requests,
    /// Only responses with this status; for [`Metric::StatusShare`], the status that is counted.
    pub status: Option<u16>,
    /// The response flag that is counted.
    pub flag: Option<String>,
    /// Which part of the run it is about.
    pub when: When,
    /// The lower bound, in seconds for times; a factor when it is compared with a variant.
    pub at_least: Option<f64>,
    /// The upper bound, in the same way.
    pub at_most: Option<f64>,
    /// The variant whose value the bounds are factors of.
    pub compared_with: Option<String>,
    /// How sure the verdict over all seeds has to be; each run on its own if absent.
    pub confidence: Option<f64>,
}

impl Expectation {
    /// True when runs of this variant are judged by it, whether to hold it or to miss it.
    pub fn is_about(&self, variant: &str) -> bool {
        self.of.iter().chain(&self.must_fail).any(|named| named == variant)
    }

    /// True when this variant has to miss it.
    pub fn must_fail(&self, variant: &str) -> bool {
        self.must_fail.iter().any(|named| named == variant)
    }
}

/// Which instances: those that fit all that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instances {
    /// A name, or the beginning of some with `*` behind it.
    pub target: Option<String>,
    /// Where they stand.
    pub zone: Option<String>,
    /// What they have among their labels.
    pub labels: BTreeMap<String, String>,
}

impl Instances {
    /// For each instance of a file, whether it is one of them.
    pub fn among(&self, file: &File) -> Vec<bool> {
        let told = file.services.iter().flat_map(|service| service.endpoints());
        let fits = |(name, endpoint): (String, sim::world::EndpointSpec)| {
            let has = |(key, value)| endpoint.labels.get(key) == Some(value);
            self.target.as_ref().is_none_or(|target| matches(target, &name))
                && self.zone.as_ref().is_none_or(|zone| endpoint.zone.as_ref() == Some(zone))
                && self.labels.iter().all(has)
        };
        file.instances().into_iter().zip(told).map(fits).collect()
    }
}

impl fmt::Display for Instances {
    /// ` at web-0 in zone a with v=2`; nothing for all of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(target) = &self.target {
            write!(f, " at {target}")?;
        }
        if let Some(zone) = &self.zone {
            write!(f, " in zone {zone}")?;
        }
        let mut before = " with";
        for (key, value) in &self.labels {
            write!(f, "{before} {key}={value}")?;
            before = ",";
        }
        Ok(())
    }
}

/// Which requests: those that fit all that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Their method.
    pub method: Option<String>,
    /// Their path, or the beginning of some with `*` behind it.
    pub path: Option<String>,
}

impl Requests {
    /// True for a request to this target.
    pub fn has(&self, target: &loadgen::Target) -> bool {
        let path = || target.path_and_query().split('?').next().unwrap_or_default();
        self.method.as_ref().is_none_or(|method| target.method() == method.as_str())
            && self.path.as_ref().is_none_or(|wanted| matches(wanted, path()))
    }
}

impl fmt::Display for Requests {
    /// ` of GET to /a`; nothing for all of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, " of {method}")?;
        }
        match &self.path {
            Some(path) => write!(f, " to {path}"),
            None => Ok(()),
        }
    }
}

/// Which part of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// What `from` and `until` count from.
    pub anchor: Anchor,
    /// Where it begins.
    pub from: Duration,
    /// Where it ends, unless it lasts as long as what it is anchored to.
    pub until: Option<Duration>,
}

/// What a window counts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// The start of the run.
    #[default]
    Start,
    /// The begin of the first fault of this target; the window ends with it.
    During(String),
    /// The end of that fault.
    After(String),
}

impl When {
    /// Where it is in a run that ends at `end` and in which `fault` says when the first fault of a
    /// target was there; `None` when there was none, or it never ended.
    pub fn window(&self, end: Duration, fault: impl Fn(&str) -> Option<Window>) -> Option<Window> {
        let span = match &self.anchor {
            Anchor::Start => Duration::ZERO..end,
            Anchor::During(target) => fault(target)?,
            Anchor::After(target) => {
                let fault = fault(target)?;
                (fault.end < end).then_some(fault.end..end)?
            }
        };
        let until = self.until.map_or(span.end, |until| span.start + until);
        Some(span.start + self.from..until)
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

impl Bound {
    /// The number, in seconds for times.
    pub fn number(self) -> f64 {
        match self {
            Bound::Time(time) => time.as_secs_f64(),
            Bound::Number(number) => number,
        }
    }
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

impl JsonSchema for Bound {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bound".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A duration for times, a number for everything else and for factors.",
            "anyOf": [{ "type": "number", "minimum": 0 }, generator.subschema_for::<Duration>()]
        })
    }
}

//! What can go wrong.

use std::time::Duration;

use http::StatusCode;
use proxy::config::fields::{duration, positive_duration};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use sim::backend::Errors;
use sim::link::{self, LinkFault, LinkFaultKind};
use sim::{InstanceFault, ServiceTime};

use super::super::fields;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// Work takes this long instead.
    Slow(ServiceTime),
    /// Work takes this many times as long.
    SlowBy(
        #[serde(deserialize_with = "fields::slowdown")]
        #[schemars(range(min = 1, max = 1000))]
        f64,
    ),
    /// Nothing moves on: no request starts, none is answered.
    Hang,
    /// No request starts; those that have go on.
    HangNew,
    /// The process stands still, as in a garbage collection, and goes on afterwards.
    Pause,
    /// Work ends in a 500 with this probability.
    ErrorRate(
        #[serde(deserialize_with = "fields::probability")]
        #[schemars(range(min = 0, max = 1))]
        f64,
    ),
    /// Work ends in an error of some kind.
    Errors(ErrorKind),
    /// New connections are refused; the ones that are open go on.
    Refuse,
    /// The process dies, and starts again at the end.
    Crash,
    /// Of a link: nothing arrives.
    BlackHole,
    /// Of a link: a segment is lost with this probability.
    Loss(
        #[serde(deserialize_with = "fields::probability")]
        #[schemars(range(min = 0, max = 1))]
        f64,
    ),
    /// Of a link: everything takes longer.
    Delay(Delay),
}

/// Errors in more detail.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorKind {
    /// With this probability.
    #[serde(default = "always", deserialize_with = "fields::probability")]
    #[schemars(range(min = 0, max = 1))]
    pub rate: f64,
    /// Answered with this.
    #[serde(default = "internal_error", deserialize_with = "fields::error_status")]
    #[schemars(with = "u16", range(min = 400, max = 599))]
    pub status: StatusCode,
    /// After this, instead of the time that the work would have taken.
    #[serde(default, deserialize_with = "constant_time")]
    #[schemars(with = "Option<Duration>")]
    pub time: Option<ServiceTime>,
}

/// A longer way.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// By this, each way.
    #[serde(deserialize_with = "duration")]
    pub latency: Duration,
    /// And by a part of this, anew for each segment.
    #[serde(default, deserialize_with = "duration")]
    pub jitter: Duration,
}

/// One way over a link, or both.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// There and back.
    Both,
    /// To the instance.
    Requests,
    /// From the instance.
    Responses,
}

/// Whom a fault happens to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Subject {
    /// An instance.
    Instance(InstanceFault),
    /// The links to an instance.
    Link(LinkFault),
}

fn always() -> f64 {
    1.0
}

fn internal_error() -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

fn constant_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ServiceTime>, D::Error> {
    positive_duration(deserializer).map(|time| Some(ServiceTime::Constant(time)))
}

impl From<Way> for link::Way {
    fn from(way: Way) -> Self {
        match way {
            Way::Both => link::Way::Both,
            Way::Requests => link::Way::Requests,
            Way::Responses => link::Way::Responses,
        }
    }
}

impl What {
    /// The simulator's name for it; `way` is for what happens to links.
    pub(super) fn subject(&self, way: link::Way) -> Subject {
        let link = |kind| Subject::Link(LinkFault { way, kind });
        Subject::Instance(match *self {
            What::Slow(time) => InstanceFault::Slow(time),
            What::SlowBy(factor) => InstanceFault::SlowBy(factor),
            What::Hang => InstanceFault::Hang,
            What::HangNew => InstanceFault::HangNew,
            What::Pause => InstanceFault::Pause,
            What::ErrorRate(rate) => InstanceFault::Errors(Errors::at_rate(rate)),
            What::Errors(ErrorKind { rate, status, time }) => {
                InstanceFault::Errors(Errors { rate, status, time })
            }
            What::Refuse => InstanceFault::Refuse,
            What::Crash => InstanceFault::Crash,
            What::BlackHole => return link(LinkFaultKind::BlackHole),
            What::Loss(probability) => return link(LinkFaultKind::Loss(probability)),
            What::Delay(Delay { latency, jitter }) => {
                return link(LinkFaultKind::Delay { latency, jitter });
            }
        })
    }

    /// True for what happens to links.
    pub fn is_of_links(&self) -> bool {
        matches!(self, What::BlackHole | What::Loss(_) | What::Delay(_))
    }

    /// True when the end of one would be the end of both.
    pub(in crate::scenario) fn is_like(&self, other: &What) -> bool {
        // Two ways to say one thing.
        let errors = |what: &What| matches!(what, What::ErrorRate(_) | What::Errors(_));
        (errors(self) && errors(other))
            || std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

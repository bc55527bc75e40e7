//! What can go wrong.

use std::time::Duration;

use http::StatusCode;
use proxy::config::fields::{duration, positive_duration};
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use sim::backend::Errors;
use sim::link::{self, LinkFault, LinkFaultKind};
use sim::{FaultKind, InstanceFault, PushFault, ServiceTime, StrangerFault};

use super::super::{fields, schema};

/// What goes wrong.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
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
    /// Its wall clock is wrong by this, such as "-5s".
    ClockSkew(
        #[serde(deserialize_with = "fields::signed_milliseconds")]
        #[schemars(with = "schema::SignedDuration")]
        i64,
    ),
    /// Sidecars send nothing new to it.
    Drain,
    /// It is drained, stops, and is not there: scaled down. At the end it starts, and is there.
    Leave(Leave),
    /// One after the other is drained, stops, and starts again.
    RollingDeploy(Deploy),
    /// Of the client's sidecar: others open connections and close them at once.
    Churn(Churn),
    /// Of the client's sidecar: others send request heads that never come to an end.
    SlowHeads(SlowHeads),
    /// Of all sidecars: they are told another configuration, and at the end the former.
    Push(PushedTables),
    /// Of all sidecars: they are told one that is wrong.
    WrongPush,
}

/// A way to go.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    /// For how long it is drained before it stops. None is bad manners.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
}

/// A new version for all of them.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// For how long each is drained before it stops.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
    /// For how long each is stopped.
    #[serde(deserialize_with = "positive_duration")]
    pub down: Duration,
    /// The time from when one is back to when the next is drained.
    #[serde(deserialize_with = "duration")]
    pub pause: Duration,
}

impl Deploy {
    /// From the beginning for one to the beginning for the next.
    pub(in crate::scenario) fn step(&self) -> Duration {
        self.drain + self.down + self.pause
    }
}

/// Connections for nothing.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// One every so often.
    #[serde(deserialize_with = "fields::whole_milliseconds")]
    pub every: Duration,
}

/// Heads that have no end.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowHeads {
    /// How many at once.
    #[serde(deserialize_with = "fields::instances")]
    #[schemars(range(min = 1, max = 1000))]
    pub connections: usize,
    /// A byte of each every so often.
    #[serde(deserialize_with = "fields::whole_milliseconds")]
    pub every: Duration,
}

/// What is pushed.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushedTables {
    /// Fields of [`proxy::config::ClusterConfig`] that change, read later.
    #[schemars(with = "Option<schema::SidecarTable>")]
    pub cluster: Option<IgnoredAny>,
    /// Fields of [`proxy::config::RouteConfig`] that change, read later.
    #[schemars(with = "Option<schema::SidecarTable>")]
    pub route: Option<IgnoredAny>,
}

/// Errors in more detail.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
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

/// Whom a fault happens to, and what.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    /// An instance.
    Instance(InstanceFault),
    /// The links to an instance.
    Link(LinkFault),
    /// An instance, one thing after the other: for how long it is drained, and whether it is listed
    /// afterwards.
    Stop { drain: Duration, is_listed: bool },
    /// Not an instance.
    Nobody(FaultKind),
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
    /// The simulator's name for it; `way` is for what happens to links, `number` is the fault's
    /// place in the file.
    pub(super) fn subject(&self, way: link::Way, number: usize) -> Subject {
        let link = |kind| Subject::Link(LinkFault { way, kind });
        Subject::Instance(match self {
            What::Slow(time) => InstanceFault::Slow(time.clone()),
            What::SlowBy(factor) => InstanceFault::SlowBy(*factor),
            What::Hang => InstanceFault::Hang,
            What::HangNew => InstanceFault::HangNew,
            What::Pause => InstanceFault::Pause,
            What::ErrorRate(rate) => InstanceFault::Errors(Errors::at_rate(*rate)),
            What::Errors(ErrorKind { rate, status, time }) => {
                let time = time.clone();
                InstanceFault::Errors(Errors { status: *status, time, ..Errors::at_rate(*rate) })
            }
            What::Refuse => InstanceFault::Refuse,
            What::Crash => InstanceFault::Crash,
            What::ClockSkew(millis) => InstanceFault::ClockSkew(*millis),
            What::Drain => InstanceFault::Drain,
            What::BlackHole => return link(LinkFaultKind::BlackHole),
            What::Loss(probability) => return link(LinkFaultKind::Loss(*probability)),
            What::Delay(Delay { latency, jitter }) => {
                return link(LinkFaultKind::Delay { latency: *latency, jitter: *jitter });
            }
            What::Leave(Leave { drain }) => {
                return Subject::Stop { drain: *drain, is_listed: false };
            }
            What::RollingDeploy(Deploy { drain, .. }) => {
                return Subject::Stop { drain: *drain, is_listed: true };
            }
            What::Churn(Churn { every }) => {
                return Subject::Nobody(FaultKind::Strangers(StrangerFault::Churn {
                    every: *every,
                }));
            }
            What::SlowHeads(SlowHeads { connections, every }) => {
                let (connections, every) = (*connections, *every);
                let kind = StrangerFault::SlowHeads { connections, every };
                return Subject::Nobody(FaultKind::Strangers(kind));
            }
            What::Push(_) => {
                return Subject::Nobody(FaultKind::Push(PushFault::Configuration(number)));
            }
            What::WrongPush => return Subject::Nobody(FaultKind::Push(PushFault::Wrong)),
        })
    }

    /// True for what happens to links.
    pub(in crate::scenario) fn is_of_links(&self) -> bool {
        matches!(self, What::BlackHole | What::Loss(_) | What::Delay(_))
    }

    /// True for what does not happen to instances.
    pub(in crate::scenario) fn is_of_nobody(&self) -> bool {
        matches!(self.subject(link::Way::Both, 0), Subject::Nobody(_))
    }

    /// True when the end of one would be the end of both.
    pub(in crate::scenario) fn is_like(&self, other: &What) -> bool {
        let errors = |what: &What| matches!(what, What::ErrorRate(_) | What::Errors(_));
        let stops =
            |what: &What| matches!(what, What::Crash | What::Leave(_) | What::RollingDeploy(_));
        let pushes = |what: &What| matches!(what, What::Push(_) | What::WrongPush);
        (errors(self) && errors(other))
            || (stops(self) && stops(other))
            || (pushes(self) && pushes(other))
            || std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

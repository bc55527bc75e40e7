//! What a backend is like at a moment: the dials that faults turn.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::station::{Discipline, Rules};
use crate::service_time::ServiceTime;

/// The most workers that a backend can have: far more than requests that can be in flight.
pub const MOST_WORKERS: usize = 1_000_000;

/// What a backend is like at the moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How long it works on a request.
    pub service_time: ServiceTime,
    /// How many times as long that takes at the moment; 1 as a rule.
    pub slowdown: f64,
    /// Who is worked on first.
    pub discipline: Discipline,
    /// Requests that it works on at once, at most [`MOST_WORKERS`]; others wait. `None`: all of
    /// them. Of those who share, so many go on at full speed.
    pub workers: Option<usize>,
    /// Requests that may wait for a worker, or share beyond the workers; one more is answered with
    /// 503 at once. `None`: any number.
    pub queue: Option<usize>,
    /// What becomes of a request whose caller has left.
    pub abandoned: Abandoned,
    /// How fast its work goes, of what is in work too: 1 as the service time says, 0.5 half as
    /// fast, 0 not at all.
    pub capacity: f64,
    /// How often and how its work fails.
    pub errors: Errors,
    /// How slow it is after a start; `None`: not at all.
    pub cold_start: Option<ColdStart>,
    /// While set, no request moves on: none starts and none is answered.
    pub hung: bool,
    /// While set, no request starts; what is being worked on goes on.
    pub hung_for_new: bool,
    /// While set, the process stands still, as in a garbage collection: it reads nothing, and work
    /// does not go on. The kernel still opens connections for it.
    pub paused: bool,
    /// While set, new connections are refused; the ones that are open go on.
    pub refusing: bool,
    /// While not set, its process is dead: nothing listens.
    pub up: bool,
}

impl Settings {
    /// True when no request starts.
    pub fn holds_new(&self) -> bool {
        self.hung || self.hung_for_new
    }

    /// A healthy backend that works on any number of requests at once.
    pub fn healthy(service_time: ServiceTime) -> Self {
        Self {
            service_time,
            slowdown: 1.0,
            discipline: Discipline::Fifo,
            workers: None,
            queue: None,
            abandoned: Abandoned::Cancel,
            capacity: 1.0,
            errors: Errors::at_rate(0.0),
            cold_start: None,
            hung: false,
            hung_for_new: false,
            paused: false,
            refusing: false,
            up: true,
        }
    }

    pub(super) fn is_cold_at_start(&self) -> bool {
        self.cold_start.is_some_and(|cold| cold.at_start)
    }

    /// What the station has to know of them.
    pub(super) fn rules(&self) -> Rules {
        let Settings { discipline, workers, queue, capacity, paused, .. } = *self;
        Rules { discipline, workers, queue, speed: if paused { 0.0 } else { capacity } }
    }
}

/// What becomes of a request whose caller has left. Servers differ: some are told, some look
/// before they begin, and some find out when they write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Abandoned {
    /// It is given up, in the queue or at work.
    #[default]
    Cancel,
    /// It is taken out of the queue; once begun, its work is finished.
    Dequeue,
    /// It is served like any other.
    Serve,
}

/// Work that fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors {
    /// Probability that the work on a request ends in an error, 0 to 1.
    pub rate: f64,
    /// What it is answered with.
    pub status: StatusCode,
    /// How long failing takes; as long as succeeding if `None`. An instance that fails fast looks
    /// idle to whoever counts requests in flight.
    pub time: Option<ServiceTime>,
    /// Which requests it happens to; all if `None`.
    pub only: Option<Arc<Only>>,
}

impl Errors {
    /// 500 at this rate, after the whole work.
    pub fn at_rate(rate: f64) -> Self {
        Self { rate, status: StatusCode::INTERNAL_SERVER_ERROR, time: None, only: None }
    }

    /// True when a request like this can end in one.
    pub(super) fn can_hit(&self, method: &Method, path: &str) -> bool {
        self.only.as_ref().is_none_or(|only| {
            only.method.as_ref().is_none_or(|wanted| wanted == method)
                && only.path.as_ref().is_none_or(|wanted| path.starts_with(wanted.as_str()))
        })
    }
}

/// Some requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// With this method.
    pub method: Option<Method>,
    /// Whose path begins like this.
    pub path: Option<String>,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errors: {} %", self.rate * 100.0)?;
        if self.status != StatusCode::INTERNAL_SERVER_ERROR {
            write!(f, " with {}", self.status.as_u16())?;
        }
        if let Some(time) = &self.time {
            write!(f, " after {time}")?;
        }
        let Some(only) = &self.only else { return Ok(()) };
        let words = only.method.iter().map(Method::as_str).chain(only.path.as_deref());
        write!(f, " of {}", words.collect::<Vec<_>>().join(" "))
    }
}

/// Caches are empty and code is not compiled yet: work takes longer after a start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColdStart {
    /// How many times as long the first request takes; at least 1.
    pub factor: f64,
    /// The time after which the factor has fallen to 1, in a straight line.
    pub over: Duration,
    /// An instance that is there when the run begins is cold too, not only one that starts later.
    pub at_start: bool,
}

impl ColdStart {
    /// How many times as long work takes at this age.
    pub fn factor_at(&self, age: Duration) -> f64 {
        if age >= self.over {
            return 1.0;
        }
        let left = 1.0 - age.as_secs_f64() / self.over.as_secs_f64();
        1.0 + (self.factor - 1.0) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_start_warms_up_in_a_straight_line() {
        let cold = ColdStart { factor: 5.0, over: Duration::from_secs(10), at_start: false };
        let at = |secs| cold.factor_at(Duration::from_secs(secs));
        assert_eq!([at(0), at(5), at(10), at(11)], [5.0, 3.0, 1.0, 1.0]);
    }

    #[test]
    fn only_what_is_unusual_about_errors_is_said() {
        let plain = Errors::at_rate(0.5);
        assert_eq!(plain.to_string(), "errors: 50 %");
        let time = Some(ServiceTime::Constant(Duration::from_millis(1)));
        let fast = Errors { status: StatusCode::SERVICE_UNAVAILABLE, time, ..plain.clone() };
        assert_eq!(fast.to_string(), "errors: 50 % with 503 after constant 1ms");
        let only = Only { method: Some(Method::POST), path: Some("/pay".to_owned()) };
        let some = Errors { only: Some(Arc::new(only)), ..plain };
        assert_eq!(some.to_string(), "errors: 50 % of POST /pay");
        assert!(some.can_hit(&Method::POST, "/pay/1") && !some.can_hit(&Method::GET, "/pay"));
    }
}

//! What a backend is like at a moment: the dials that faults turn.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::service_time::ServiceTime;

/// The most workers that a backend can have: far more than requests that can be in flight.
pub const MOST_WORKERS: usize = 1_000_000;

/// What a backend is like at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How long it works on a request.
    pub service_time: ServiceTime,
    /// How many times as long that takes at the moment; 1 as a rule.
    pub slowdown: f64,
    /// Requests that it works on at once, at most [`MOST_WORKERS`]; others wait in order of arrival.
    /// `None`: all of them.
    pub workers: Option<usize>,
    /// Requests that may wait for a worker; one more is answered with 503 at once. `None`: any
    /// number.
    pub queue: Option<usize>,
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
            workers: None,
            queue: None,
            errors: Errors::at_rate(0.0),
            cold_start: None,
            hung: false,
            hung_for_new: false,
            paused: false,
            refusing: false,
            up: true,
        }
    }
}

/// Work that fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Probability that the work on a request ends in an error, 0 to 1.
    pub rate: f64,
    /// What it is answered with.
    pub status: StatusCode,
    /// How long failing takes; as long as succeeding if `None`. An instance that fails fast looks
    /// idle to whoever counts requests in flight.
    pub time: Option<ServiceTime>,
}

impl Errors {
    /// 500 at this rate, after the whole work.
    pub fn at_rate(rate: f64) -> Self {
        Self { rate, status: StatusCode::INTERNAL_SERVER_ERROR, time: None }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errors: {} %", self.rate * 100.0)?;
        if self.status != StatusCode::INTERNAL_SERVER_ERROR {
            write!(f, " with {}", self.status.as_u16())?;
        }
        match self.time {
            Some(time) => write!(f, " after {time}"),
            None => Ok(()),
        }
    }
}

/// Caches are empty and code is not compiled yet: work takes longer after a start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColdStart {
    /// How many times as long the first request takes; at least 1.
    pub factor: f64,
    /// The time after which the factor has fallen to 1, in a straight line.
    pub over: Duration,
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
        let cold = ColdStart { factor: 5.0, over: Duration::from_secs(10) };
        let at = |secs| cold.factor_at(Duration::from_secs(secs));
        assert_eq!([at(0), at(5), at(10), at(11)], [5.0, 3.0, 1.0, 1.0]);
    }

    #[test]
    fn only_what_is_unusual_about_errors_is_said() {
        let plain = Errors::at_rate(0.5);
        assert_eq!(plain.to_string(), "errors: 50 %");
        let time = Some(ServiceTime::Constant(Duration::from_millis(1)));
        let fast = Errors { status: StatusCode::SERVICE_UNAVAILABLE, time, ..plain };
        assert_eq!(fast.to_string(), "errors: 50 % with 503 after constant 1ms");
    }
}

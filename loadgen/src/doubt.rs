//! What speaks against believing the numbers of a run.
//!
//! A generator that could not keep its plan has measured itself. Such doubts are found from the
//! record, and each says what to do about it.

use std::fmt;
use std::time::Duration;

use crate::plan::Plan;
use crate::recorder::Recorder;
use crate::run::RunEnd;

/// What a run is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing speaks against it.
    Valid,
    /// Something does; compare it with care.
    Suspect,
    /// It measured something else than was asked.
    Void,
}

impl Verdict {
    /// The word for it in reports.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Suspect => "suspect",
            Verdict::Void => "void",
        }
    }
}

/// One reason to doubt a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Doubt {
    /// An accounting identity does not hold: a defect of the generator.
    Unbalanced(String),
    /// No request was sent.
    NothingSent,
    /// Stopped before the plan was over.
    Interrupted,
    /// The generator was late although a connection was free.
    LateSends {
        /// The 99th percentile of its lag.
        p99: Duration,
        /// The lag from which on this is a doubt.
        limit: Duration,
        /// Half of all requests left so late that the arrivals were not those of the plan.
        hopeless: bool,
    },
    /// Fewer requests per second left than were planned.
    BelowRate {
        /// Planned requests per second.
        intended: f64,
        /// Sent requests per second.
        achieved: f64,
    },
    /// Requests waited for a connection.
    PoolExhausted {
        /// How many did.
        waited: u64,
        /// Out of how many that were sent.
        sent: u64,
    },
    /// Values were longer than the histogram reaches.
    Clamped(u64),
}

/// A lag that is not the generator's fault: what a busy machine's scheduler adds even to a bare
/// loop.
const LAG_FLOOR: Duration = Duration::from_micros(100);

/// A median lag this long is no noise of a timer or of a scheduler.
const LAG_HOPELESS: Duration = Duration::from_millis(10);

/// Sent and planned rate may differ by this share, the usual bound of load generators.
const RATE_TOLERANCE: f64 = 0.01;

/// So many of the requests may wait for a connection: the 99th percentile is then still theirs
/// who did not.
const WAITED_TOLERANCE: f64 = 0.01;

impl Doubt {
    /// Everything that speaks against a run, the gravest first.
    pub fn of(plan: &Plan, recorder: &Recorder, end: &RunEnd) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        if let Err(imbalance) = recorder.verify() {
            doubts.push(Doubt::Unbalanced(imbalance.to_string()));
        }
        let sent = recorder.accounting.sent;
        if sent == 0 {
            doubts.push(Doubt::NothingSent);
        }
        let lag = &recorder.send_lag;
        let (p50, p99) = (lag.quantile(0.5), lag.quantile(0.99));
        let gap = Duration::from_secs_f64(1.0 / plan.rate_per_s());
        let limit = (gap / 10).max(LAG_FLOOR);
        if p99 > limit {
            let hopeless = p50 > LAG_HOPELESS.max(gap);
            doubts.push(Doubt::LateSends { p99, limit, hopeless });
        }
        let (intended, achieved) = (intended_rate(plan), achieved_rate(plan, recorder, end));
        if sent > 0 && achieved < intended * (1.0 - RATE_TOLERANCE) {
            doubts.push(Doubt::BelowRate { intended, achieved });
        }
        let waited = recorder.connection_wait.count();
        if waited as f64 > sent as f64 * WAITED_TOLERANCE {
            doubts.push(Doubt::PoolExhausted { waited, sent });
        }
        if recorder.response.clamped() > 0 {
            doubts.push(Doubt::Clamped(recorder.response.clamped()));
        }
        if end.interrupted {
            doubts.push(Doubt::Interrupted);
        }
        doubts
    }

    /// What this doubt alone makes of a run.
    pub fn verdict(&self) -> Verdict {
        match self {
            Doubt::Unbalanced(_) | Doubt::NothingSent | Doubt::LateSends { hopeless: true, .. } => {
                Verdict::Void
            }
            _ => Verdict::Suspect,
        }
    }

    /// What can be done about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Doubt::Unbalanced(_) => "this is a defect of loadgen; please report it",
            Doubt::NothingSent => "lengthen the deadline or the run",
            Doubt::Interrupted => "percentiles cover only what was sent; let it run to its end",
            Doubt::LateSends { .. } => {
                "give the generator a core of its own, pace it precisely, or lower the rate"
            }
            Doubt::BelowRate { .. } => {
                "the server or the connections cannot carry this rate; lower it, or raise -c"
            }
            Doubt::PoolExhausted { .. } => {
                "raise -c: connections should exceed rate x service time"
            }
            Doubt::Clamped(_) => "shorten the timeout to less than an hour",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Unbalanced(what) => f.write_str(what),
            Doubt::NothingSent => f.write_str("no request was sent"),
            Doubt::Interrupted => f.write_str("stopped before the plan was over"),
            Doubt::LateSends { p99, limit, .. } => {
                write!(
                    f,
                    "the generator sent late: p99 of the send lag is {p99:.1?}, over {limit:.1?}"
                )
            }
            Doubt::BelowRate { intended, achieved } => {
                write!(f, "{achieved:.1} requests per second were sent of {intended:.1} planned")
            }
            Doubt::PoolExhausted { waited, sent } => {
                write!(f, "{waited} of {sent} requests waited for a connection")
            }
            Doubt::Clamped(count) => write!(f, "{count} response times were over an hour"),
        }
    }
}

/// The verdict that the gravest doubt calls for.
pub fn verdict(doubts: &[Doubt]) -> Verdict {
    doubts.iter().map(Doubt::verdict).max().unwrap_or(Verdict::Valid)
}

/// Planned requests per second of the plan's time. For Poisson arrivals it differs from the rate
/// asked for as the draw does.
pub fn intended_rate(plan: &Plan) -> f64 {
    plan.len() as f64 / plan.end().as_secs_f64()
}

/// Sent requests per second of the plan's time, or of as long as it took to send them all; of the
/// time until the interruption, if there was one.
pub fn achieved_rate(plan: &Plan, recorder: &Recorder, end: &RunEnd) -> f64 {
    let span = if end.interrupted { plan.end().min(end.elapsed) } else { plan.end() };
    per_second(recorder.accounting.sent, span.max(recorder.last_send))
}

/// Whole responses per second of the run's time.
pub fn answered_rate(plan: &Plan, recorder: &Recorder, end: &RunEnd) -> f64 {
    let books = &recorder.accounting;
    let span = if end.interrupted { end.elapsed } else { end.elapsed.max(plan.end()) };
    per_second(books.ok + books.late + books.status, span)
}

fn per_second(count: u64, span: Duration) -> f64 {
    if span.is_zero() { 0.0 } else { count as f64 / span.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::{Event, Observer as _};
    use crate::plan::Arrivals;
    use crate::sample::{Outcome, Sample};

    /// 100 requests in a second, each late by `lag`; `waiting` of them for a connection.
    fn doubts(lag: Duration, waiting: u64, sent: u64) -> Vec<Doubt> {
        let plan = Plan::new(Arrivals::Constant, 100.0, Duration::from_secs(1), 0).unwrap();
        let mut recorder = Recorder::new();
        for (index, planned) in (0..).zip(plan.instants()) {
            let at = planned + lag;
            let was_sent = index < sent;
            if was_sent {
                recorder.note(Event::Begun { lag, waited: index < waiting, reused: true });
            }
            recorder.observe(&Sample {
                index,
                planned,
                sent: was_sent.then_some(at),
                finished: at,
                outcome: if was_sent { Outcome::Ok } else { Outcome::Shed },
                status: was_sent.then_some(200),
            });
        }
        let end = RunEnd { elapsed: Duration::from_secs(1), ..RunEnd::default() };
        Doubt::of(&plan, &recorder, &end)
    }

    #[test]
    fn a_run_on_time_is_valid_and_one_that_is_late_by_a_tenth_of_the_gap_is_not() {
        assert_eq!(verdict(&doubts(Duration::from_micros(990), 0, 100)), Verdict::Valid);
        let late = doubts(Duration::from_micros(1010), 0, 100);
        assert!(matches!(late[..], [Doubt::LateSends { hopeless: false, .. }]), "{late:?}");
        let hopeless = doubts(Duration::from_millis(11), 0, 100);
        assert_eq!(verdict(&hopeless), Verdict::Void);
    }

    #[test]
    fn one_waiting_request_in_a_hundred_is_tolerated_and_two_are_not() {
        assert_eq!(doubts(Duration::ZERO, 1, 100), []);
        assert_eq!(doubts(Duration::ZERO, 2, 100), [Doubt::PoolExhausted { waited: 2, sent: 100 }]);
    }

    #[test]
    fn a_hundredth_less_than_planned_is_tolerated_and_more_is_not() {
        assert_eq!(doubts(Duration::ZERO, 0, 99), []);
        assert!(matches!(doubts(Duration::ZERO, 0, 98)[..], [Doubt::BelowRate { .. }]));
        assert_eq!(verdict(&doubts(Duration::ZERO, 0, 0)), Verdict::Void);
    }
}

//! What speaks against believing the numbers of a run.
//!
//! A generator that could not keep its plan has measured itself. Such doubts are found from the
//! record, and each says what to do about it.

mod evidence;

use std::fmt;
use std::time::Duration;

pub use evidence::{Evidence, Machine, achieved_rate, answered_rate, intended_rate};

use crate::observer::Shortage;

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
    /// The machine ran out of something that every connection needs.
    Shortage(Shortage),
    /// Planned requests that were not sent by the end, or whose answer never came.
    Unanswered {
        /// How many.
        missing: u64,
        /// Of how many.
        planned: u64,
        /// So many that what was measured is not what was asked.
        hopeless: bool,
    },
    /// Stopped before the plan was over.
    Interrupted,
    /// The generator was late although a connection was free.
    LateSends {
        /// The 99th percentile of its lag.
        p99: Duration,
        /// The lag from which on this is a doubt.
        limit: Duration,
        /// The same percentile of a bare spin loop in the same run, if it was measured.
        floor: Option<Duration>,
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
    /// Requests were not sent because too many were in flight.
    Skipped {
        /// How many.
        skipped: u64,
        /// Of how many.
        planned: u64,
    },
    /// A thread that only works when there is work had hardly a pause.
    Saturated {
        /// The share of its time that the busiest thread was running, 0 to 1.
        share: f64,
    },
    /// The time that requests spent in flight, and the number seen in flight, do not agree.
    LittlesLaw {
        /// The mean in flight by the requests' own times.
        by_times: f64,
        /// The mean in flight by counting.
        by_count: f64,
    },
    /// Too few requests for the percentiles that everyone reads.
    FewSamples {
        /// How many there are.
        samples: u64,
        /// How many there should be.
        wanted: u64,
    },
    /// The whole machine paused.
    Hiccups {
        /// The longest pause that the watcher saw.
        worst: Duration,
    },
    /// A watched process ended before the run was over.
    WatchedEnded {
        /// What it is called.
        name: String,
        /// How long after measuring began that was seen.
        after: Duration,
    },
    /// Values were longer than the histogram reaches.
    Clamped(u64),
}

impl Doubt {
    /// Everything that speaks against a run, the gravest first.
    pub fn of(evidence: &Evidence<'_>) -> Vec<Doubt> {
        let mut doubts = evidence.doubts();
        doubts.sort_by_key(|doubt| std::cmp::Reverse(doubt.verdict()));
        doubts
    }

    /// What this doubt alone makes of a run.
    pub fn verdict(&self) -> Verdict {
        match self {
            Doubt::Unbalanced(_)
            | Doubt::NothingSent
            | Doubt::Shortage(_)
            | Doubt::Unanswered { hopeless: true, .. }
            | Doubt::LateSends { hopeless: true, .. } => Verdict::Void,
            _ => Verdict::Suspect,
        }
    }

    /// What can be done about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Doubt::Unbalanced(_) => "this is a defect of loadgen; please report it",
            Doubt::NothingSent => "lengthen the deadline or the run",
            Doubt::Shortage(Shortage::Descriptors) => "lower -c, or raise the limit: ulimit -n",
            Doubt::Shortage(Shortage::Ports) => {
                "keep connections open, wait a minute for closed ones to be forgotten, or widen \
                 net.ipv4.ip_local_port_range"
            }
            Doubt::Unanswered { .. } => {
                "lower the rate to what the server carries (loadgen search finds it), or lengthen \
                 --timeout and --drain"
            }
            Doubt::Interrupted => "percentiles cover only what was sent; let it run to its end",
            Doubt::LateSends { floor: Some(floor), p99, .. } if *p99 <= *floor * 2 => {
                "the machine is no quicker: use one with a core to spare, or lower the rate"
            }
            Doubt::LateSends { .. } => {
                "give the generator a core of its own, pace it precisely, or lower the rate"
            }
            Doubt::BelowRate { .. } => {
                "the server or the connections cannot carry this rate; lower it, or raise -c"
            }
            Doubt::PoolExhausted { .. } => {
                "raise -c: connections should exceed rate x service time"
            }
            Doubt::Skipped { .. } => "raise -c or --max-in-flight, or lower the rate",
            Doubt::Saturated { .. } => {
                "add threads (-t) on free cores: the generator may be what was measured"
            }
            Doubt::LittlesLaw { .. } => {
                "the clock jumped or the generator stood still; run again on a quieter machine"
            }
            Doubt::FewSamples { .. } => "run longer, or read no more than the median",
            Doubt::Hiccups { .. } => {
                "quieten the machine: such pauses are part of every time measured"
            }
            Doubt::WatchedEnded { .. } => {
                "see why; its processor time and memory are those until then"
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
            Doubt::Shortage(shortage) => write!(f, "this machine is {shortage}"),
            Doubt::Unanswered { missing, planned, .. } => {
                write!(f, "{missing} of {planned} planned requests were not answered")
            }
            Doubt::Interrupted => f.write_str("stopped before the plan was over"),
            Doubt::LateSends { p99, limit, floor, .. } => {
                write!(
                    f,
                    "the generator sent late: p99 of the send lag is {p99:.1?}, over {limit:.1?}"
                )?;
                match floor {
                    Some(floor) => write!(f, " (a bare loop on this machine: {floor:.1?})"),
                    None => Ok(()),
                }
            }
            Doubt::BelowRate { intended, achieved } => {
                write!(f, "{achieved:.1} requests per second were sent of {intended:.1} planned")
            }
            Doubt::PoolExhausted { waited, sent } => {
                write!(f, "{waited} of {sent} requests waited for a connection")
            }
            Doubt::Skipped { skipped, planned } => {
                write!(f, "{skipped} of {planned} requests were skipped: too many in flight")
            }
            Doubt::Saturated { share } => {
                write!(f, "the generator's busiest thread ran {:.0} % of the time", share * 100.0)
            }
            Doubt::LittlesLaw { by_times, by_count } => {
                write!(
                    f,
                    "Little's law is broken: {by_times:.2} in flight by their times, \
                     {by_count:.2} by count"
                )
            }
            Doubt::FewSamples { samples, wanted } => {
                write!(f, "{samples} requests are too few for a 99th percentile; it needs {wanted}")
            }
            Doubt::Hiccups { worst } => {
                write!(f, "the machine paused for up to {worst:.1?}")
            }
            Doubt::WatchedEnded { name, after } => {
                write!(f, "{name}, which was watched, had ended after {after:.1?}")
            }
            Doubt::Clamped(count) => write!(f, "{count} response times were over an hour"),
        }
    }
}

/// The verdict that the gravest doubt calls for.
pub fn verdict(doubts: &[Doubt]) -> Verdict {
    doubts.iter().map(Doubt::verdict).max().unwrap_or(Verdict::Valid)
}

#[cfg(test)]
mod tests;

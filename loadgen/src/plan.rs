//! When each request is wanted: the plan, made before the first byte is sent.
//!
//! An open loop sends by the clock and not by the answers, so that a slow server cannot slow the
//! question down. The instants are therefore a function of the plan alone: each is in closed form
//! from its number, the rate and the seed, and never from the one before it, so that no error
//! adds up. [`Arrivals`] says how requests are spread, [`Stage`]s how the rate changes, and
//! [`parse_timestamps`] replays what once happened.
//!
//! A closed loop ([`Plan::closed`]) asks again when it has been answered. It measures how much a
//! server can carry, and hides every wait that it causes: its latencies are service times, and
//! reports say so.

mod arrivals;
mod cursor;
mod replay;
mod stages;

use std::sync::Arc;
use std::time::Duration;

use arrivals::Positions;
use stages::Profile;

pub use arrivals::Arrivals;
pub(crate) use cursor::Cursor;
pub use replay::parse_timestamps;
pub use stages::Stage;

/// The longest plan: more than a day at 10,000 requests per second.
pub const MAX_PLANNED: u64 = 1_000_000_000;

/// The highest rate, in requests per second: ten times what one core can send today.
pub const MAX_RATE: f64 = 10_000_000.0;

/// The lowest rate, in requests per second: about one a day.
pub const MIN_RATE: f64 = 0.00001;

/// The longest time a plan may last.
pub const MAX_DURATION: Duration = Duration::from_secs(31 * 24 * 3600);

/// The planned instants of a run, or of one worker's share of it.
///
/// ```
/// use std::time::Duration;
/// use loadgen::plan::{Arrivals, Plan};
///
/// let plan = Plan::new(Arrivals::Constant, 4.0, Duration::from_secs(1), 0)?;
/// let millis: Vec<u128> = plan.instants().map(|t| t.as_millis()).collect();
/// assert_eq!(millis, [0, 250, 500, 750]);
/// # Ok::<(), loadgen::plan::PlanError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    arrivals: Arrivals,
    shape: Shape,
    seed: u64,
    /// Requests in the whole plan, of which this may be a share.
    total: u64,
    end: Duration,
    /// This plan holds the requests k with k ≡ `offset` modulo `stride`.
    offset: u64,
    stride: u64,
}

/// What decides how fast requests come.
#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Rate(f64),
    Stages(Arc<Profile>),
    Replay(Arc<[Duration]>),
    Closed,
}

/// What a plan's rate is, for reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern<'a> {
    /// The same all the time, in requests per second.
    Rate(f64),
    /// Changing along these points.
    Stages(&'a [Stage]),
    /// Instants from a file.
    Replay,
    /// As fast as answers come.
    Closed,
}

impl Plan {
    /// All arrivals at a rate in [0, `duration`).
    ///
    /// # Errors
    /// When the rate, the duration or their product is out of bounds, or nothing would arrive.
    pub fn new(
        arrivals: Arrivals,
        rate_per_s: f64,
        duration: Duration,
        seed: u64,
    ) -> Result<Plan, PlanError> {
        check_rate(rate_per_s)?;
        check_duration(duration)?;
        let expected = rate_per_s * duration.as_secs_f64();
        if expected > MAX_PLANNED as f64 {
            return Err(PlanError::TooLong { planned: expected as u64 });
        }
        let total = match arrivals {
            Arrivals::Constant | Arrivals::Burst(_) => cursor::count_before(rate_per_s, duration),
            // Only whole slots: the last request could fall behind the end of a partial one.
            Arrivals::Uniform => cursor::whole_slots(rate_per_s, duration),
            Arrivals::Poisson => {
                cursor::poisson(rate_per_s, seed).take_while(|t| *t < duration).count() as u64
            }
        };
        Plan::made(arrivals, Shape::Rate(rate_per_s), seed, total, duration)
    }

    /// The first `count` arrivals at a rate, however long they take.
    ///
    /// # Errors
    /// When the rate or the count is out of bounds.
    pub fn with_count(
        arrivals: Arrivals,
        rate_per_s: f64,
        count: u64,
        seed: u64,
    ) -> Result<Plan, PlanError> {
        check_rate(rate_per_s)?;
        check_count(count)?;
        // The plan ends where the next request would have come.
        let end = match arrivals {
            Arrivals::Constant | Arrivals::Uniform | Arrivals::Burst(_) => {
                cursor::instant(count, rate_per_s)
            }
            Arrivals::Poisson => {
                cursor::poisson(rate_per_s, seed).nth(count as usize).unwrap_or(MAX_DURATION)
            }
        };
        if end > MAX_DURATION {
            return Err(PlanError::CountTakesTooLong { count, rate_per_s });
        }
        Plan::made(arrivals, Shape::Rate(rate_per_s), seed, count, end)
    }

    /// All arrivals at a rate that changes evenly from each stage to the next, up to the last.
    ///
    /// # Errors
    /// When the stages do not begin at zero and rise in time, or a rate, the duration or the
    /// number of requests is out of bounds.
    pub fn staged(arrivals: Arrivals, stages: &[Stage], seed: u64) -> Result<Plan, PlanError> {
        let profile = Profile::new(stages)?;
        let (expected, end) = (profile.expected(), profile.end());
        check_duration(end)?;
        if expected > MAX_PLANNED as f64 {
            return Err(PlanError::TooLong { planned: expected as u64 });
        }
        let total = match arrivals {
            Arrivals::Constant | Arrivals::Burst(_) => expected.ceil() as u64,
            Arrivals::Uniform => expected as u64,
            Arrivals::Poisson => {
                let mut positions = Positions::new(arrivals, seed, 1.0);
                (0..).take_while(|_: &u64| positions.step().requests() < expected).count() as u64
            }
        };
        Plan::made(arrivals, Shape::Stages(Arc::new(profile)), seed, total, end)
    }

    /// A request at each of these instants, which [`parse_timestamps`] reads from a file.
    ///
    /// # Errors
    /// When there are none or too many, they do not rise, or last too long.
    pub fn replay(instants: Vec<Duration>) -> Result<Plan, PlanError> {
        check_count(instants.len() as u64)?;
        if let Some(at) = instants.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(PlanError::TimestampOrder { line: at as u64 + 2 });
        }
        let last = instants.last().copied().unwrap_or_default();
        let total = instants.len() as u64;
        // One mean gap behind the last, so that count by duration is the mean rate.
        let gap = last.checked_div(u32::try_from(total - 1).unwrap_or(u32::MAX));
        let end = last + gap.filter(|gap| !gap.is_zero()).unwrap_or(Duration::from_secs(1));
        check_duration(end)?;
        Plan::made(Arrivals::Constant, Shape::Replay(instants.into()), 0, total, end)
    }

    /// A closed loop: each connection asks again as soon as it has been answered.
    ///
    /// # Errors
    /// When the duration is out of bounds.
    pub fn closed(duration: Duration) -> Result<Plan, PlanError> {
        check_duration(duration)?;
        Plan::made(Arrivals::Constant, Shape::Closed, 0, MAX_PLANNED, duration)
    }

    /// A closed loop of so many requests.
    ///
    /// # Errors
    /// When the count is out of bounds.
    pub fn closed_with_count(count: u64) -> Result<Plan, PlanError> {
        check_count(count)?;
        Plan::made(Arrivals::Constant, Shape::Closed, 0, count, MAX_DURATION)
    }

    fn made(
        arrivals: Arrivals,
        shape: Shape,
        seed: u64,
        total: u64,
        end: Duration,
    ) -> Result<Plan, PlanError> {
        if total == 0 {
            return Err(PlanError::Empty);
        }
        Ok(Plan { arrivals, shape, seed, total, end, offset: 0, stride: 1 })
    }

    /// The share of worker `worker` of `workers`: every `workers`-th request, starting with its
    /// own number. The shares together are the plan.
    ///
    /// # Panics
    /// When there is no such worker, or this is a share already.
    pub fn share(&self, worker: u64, workers: u64) -> Plan {
        assert!(worker < workers, "worker {worker} of {workers}");
        assert!(self.stride == 1, "a share is not shared again");
        Plan { offset: worker, stride: workers, ..self.clone() }
    }

    /// How many requests are planned here; of a closed loop that ends by time, at most.
    pub fn len(&self) -> u64 {
        self.total.saturating_sub(self.offset).div_ceil(self.stride)
    }

    /// True when nothing is planned: only a share can be empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long requests are sent; the last one is planned before this. Of a closed loop that
    /// ends by count, at most.
    pub fn end(&self) -> Duration {
        self.end
    }

    /// How the instants are spread.
    pub fn arrivals(&self) -> Arrivals {
        self.arrivals
    }

    /// What the rate is.
    pub fn pattern(&self) -> Pattern<'_> {
        match &self.shape {
            Shape::Rate(rate) => Pattern::Rate(*rate),
            Shape::Stages(profile) => Pattern::Stages(profile.stages()),
            Shape::Replay(_) => Pattern::Replay,
            Shape::Closed => Pattern::Closed,
        }
    }

    /// True when requests wait for answers, not for the clock.
    pub fn is_closed(&self) -> bool {
        self.shape == Shape::Closed
    }

    /// True when the number of requests is known beforehand: not of a closed loop that ends by
    /// time.
    pub fn is_counted(&self) -> bool {
        !self.is_closed() || self.total < MAX_PLANNED
    }

    /// The mean rate that the whole plan was made for, in requests per second; infinite for a
    /// closed loop.
    pub fn rate_per_s(&self) -> f64 {
        match &self.shape {
            Shape::Rate(rate) => *rate,
            Shape::Stages(profile) => profile.expected() / self.end.as_secs_f64(),
            Shape::Replay(instants) => instants.len() as f64 / self.end.as_secs_f64(),
            Shape::Closed => f64::INFINITY,
        }
    }

    /// The seed of the arrivals.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The planned instants in order, as offsets from the start; none of a closed loop, whose
    /// instants only the run can tell.
    pub fn instants(&self) -> impl Iterator<Item = Duration> + use<> {
        let mut cursor = self.cursor();
        let is_closed = self.is_closed();
        std::iter::from_fn(move || {
            if is_closed { None } else { cursor.take_due(Duration::MAX).map(|(_, at)| at) }
        })
    }

    /// The planned requests in order: number in the whole plan, and instant.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor::new(self)
    }
}

fn check_rate(rate_per_s: f64) -> Result<(), PlanError> {
    // Written so that NaN fails too.
    if (MIN_RATE..=MAX_RATE).contains(&rate_per_s) {
        Ok(())
    } else {
        Err(PlanError::Rate(rate_per_s))
    }
}

fn check_duration(duration: Duration) -> Result<(), PlanError> {
    if duration.is_zero() || duration > MAX_DURATION {
        Err(PlanError::Duration(duration))
    } else {
        Ok(())
    }
}

fn check_count(count: u64) -> Result<(), PlanError> {
    match count {
        0 => Err(PlanError::Empty),
        // One less than the bound of a closed loop that ends by time, which is told by it.
        MAX_PLANNED.. => Err(PlanError::TooLong { planned: count }),
        _ => Ok(()),
    }
}

/// A plan that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The rate is not a number in bounds.
    #[error(
        "a rate of {0} requests per second cannot be planned; it must lie between {MIN_RATE} and \
         {MAX_RATE}"
    )]
    Rate(f64),
    /// The plan would last no time, or too long.
    #[error(
        "a plan of {} cannot be run; it must last more than nothing and at most 31 days",
        humantime::format_duration(*.0)
    )]
    Duration(Duration),
    /// So many requests would take too long.
    #[error(
        "{count} requests at {rate_per_s} per second take more than 31 days; lower the count or \
         raise the rate"
    )]
    CountTakesTooLong {
        /// How many requests.
        count: u64,
        /// How fast.
        rate_per_s: f64,
    },
    /// As many requests as [`MAX_PLANNED`], or more.
    #[error(
        "a plan of {planned} requests is too long; lower the rate or the duration to stay below \
         {MAX_PLANNED}"
    )]
    TooLong {
        /// How many requests that would be.
        planned: u64,
    },
    /// No request at all.
    #[error("no request would be sent; raise the rate, the duration or the count")]
    Empty,
    /// Stages that are no course of a rate.
    #[error(
        "stages need at least two points, the first at 0, none before the one to its left; write \
         them as 0:100,30s:5000"
    )]
    Stages,
    /// A line of a timestamp file is none.
    #[error("line {line} is not a time; write seconds such as 12.345, or a time such as 250ms")]
    Timestamp {
        /// Its number, from 1.
        line: u64,
    },
    /// A line of a timestamp file comes before the one above it.
    #[error("line {line} lies before the line above it; sort the times")]
    TimestampOrder {
        /// Its number, from 1.
        line: u64,
    },
}

#[cfg(test)]
mod tests;

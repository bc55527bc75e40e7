//! Steps through the requests of a plan, or of a share of it.

use std::sync::Arc;
use std::time::Duration;

use super::arrivals::{Position, Positions};
use super::{Arrivals, Plan, Shape};
use crate::plan::stages::Profile;

/// The next planned request, and the way to those behind it.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    clock: Clock,
    next: u64,
    stride: u64,
    total: u64,
    end: Duration,
    /// The instant of request `next`, unless there is none.
    head: Option<Duration>,
}

#[derive(Clone, Debug)]
enum Clock {
    /// Constant arrivals at a fixed rate, by far the most usual: one division.
    Even {
        nano_rate: u64,
    },
    Fixed {
        nano_rate: u64,
        positions: Positions,
        passed: u64,
    },
    Staged {
        profile: Arc<Profile>,
        positions: Positions,
        passed: u64,
    },
    Listed {
        instants: Arc<[Duration]>,
    },
    /// Whatever is asked for is due at once.
    Closed,
}

impl Cursor {
    pub(super) fn new(plan: &Plan) -> Cursor {
        let clock = match &plan.shape {
            Shape::Rate(rate) if plan.arrivals == Arrivals::Constant => {
                Clock::Even { nano_rate: nano_rate(*rate) }
            }
            Shape::Rate(rate) => Clock::Fixed {
                nano_rate: nano_rate(*rate),
                positions: Positions::new(plan.arrivals, plan.seed, 1e9 / rate),
                passed: 0,
            },
            Shape::Stages(profile) => Clock::Staged {
                profile: profile.clone(),
                positions: Positions::new(plan.arrivals, plan.seed, 1.0),
                passed: 0,
            },
            Shape::Replay(instants) => Clock::Listed { instants: instants.clone() },
            Shape::Closed => Clock::Closed,
        };
        let mut cursor = Cursor {
            clock,
            next: plan.offset,
            stride: plan.stride,
            total: plan.total,
            end: plan.end,
            head: None,
        };
        cursor.head = cursor.look();
        cursor
    }

    /// When the next request is due; of a closed loop, since the start.
    pub(crate) fn peek(&self) -> Option<Duration> {
        self.head
    }

    /// The next request if it is due `elapsed` after the start: its number and its planned
    /// instant. A closed loop plans for now, and for nothing once its time is over.
    pub(crate) fn take_due(&mut self, elapsed: Duration) -> Option<(u64, Duration)> {
        let planned = self.head.filter(|planned| *planned <= elapsed)?;
        let planned = match self.clock {
            Clock::Closed if elapsed >= self.end => {
                self.total = self.next;
                self.head = None;
                return None;
            }
            Clock::Closed => elapsed,
            _ => planned,
        };
        let index = self.next;
        self.next += self.stride;
        self.head = self.look();
        Some((index, planned))
    }

    /// What a run that has ended leaves: the requests that were planned for certain.
    pub(crate) fn take_rest(
        &mut self,
        is_counted: bool,
        elapsed: Duration,
    ) -> Option<(u64, Duration)> {
        match self.clock {
            Clock::Closed if !is_counted => None,
            Clock::Closed => {
                let index = (self.next < self.total).then_some(self.next)?;
                self.next += self.stride;
                Some((index, elapsed))
            }
            _ => self.take_due(Duration::MAX),
        }
    }

    /// The instant of request `next`.
    fn look(&mut self) -> Option<Duration> {
        let index = self.next;
        if index >= self.total {
            return None;
        }
        match &mut self.clock {
            Clock::Even { nano_rate } => Some(whole_instant(index, *nano_rate)),
            Clock::Fixed { nano_rate, positions, passed } => {
                Some(fixed_instant(position_of(positions, passed, index), *nano_rate))
            }
            Clock::Staged { profile, positions, passed } => {
                let position = position_of(positions, passed, index);
                let last = self.end.saturating_sub(Duration::from_nanos(1));
                profile.instant(position.requests()).map(|at| at.min(last))
            }
            Clock::Listed { instants } => instants.get(index as usize).copied(),
            Clock::Closed => Some(Duration::ZERO),
        }
    }
}

fn position_of(positions: &mut Positions, passed: &mut u64, index: u64) -> Position {
    positions.skip(index - *passed);
    *passed = index + 1;
    positions.step()
}

/// The rate in whole requests per 10⁹ seconds, so that instants are exact integer divisions.
fn nano_rate(rate_per_s: f64) -> u64 {
    (rate_per_s * 1e9).round() as u64
}

/// Nanoseconds of a second, times the requests that a unit of [`nano_rate`] stands for.
const SCALE: u128 = 1_000_000_000_000_000_000;

/// Instant k = ⌊k · 10⁹ / rate⌋ ns. The numerator stays below 2¹²⁸ for every 64-bit k.
fn whole_instant(index: u64, nano_rate: u64) -> Duration {
    let nanos = u128::from(index) * SCALE / u128::from(nano_rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn fixed_instant(position: Position, nano_rate: u64) -> Duration {
    match position {
        Position::Whole(index) => whole_instant(index, nano_rate),
        Position::Within(index, share) => {
            let gap_ns = SCALE as f64 / nano_rate as f64;
            whole_instant(index, nano_rate) + Duration::from_nanos((share * gap_ns) as u64)
        }
        Position::Elapsed(nanos) => Duration::from_nanos(nanos as u64),
    }
}

/// The instant of request `index` of constant arrivals.
pub(super) fn instant(index: u64, rate_per_s: f64) -> Duration {
    whole_instant(index, nano_rate(rate_per_s))
}

/// How many k have their constant instant before `duration`.
pub(super) fn count_before(rate_per_s: f64, duration: Duration) -> u64 {
    // ⌊k·10¹⁸/rate⌋ < d exactly when k < d·rate/10¹⁸, for a whole d.
    let product = duration.as_nanos() * u128::from(nano_rate(rate_per_s));
    u64::try_from(product.div_ceil(SCALE)).unwrap_or(u64::MAX)
}

/// How many gaps of constant arrivals end by `duration`.
pub(super) fn whole_slots(rate_per_s: f64, duration: Duration) -> u64 {
    let product = duration.as_nanos() * u128::from(nano_rate(rate_per_s));
    u64::try_from(product / SCALE).unwrap_or(u64::MAX)
}

/// The instants of Poisson arrivals, without end.
pub(super) fn poisson(rate_per_s: f64, seed: u64) -> impl Iterator<Item = Duration> {
    let mut positions = Positions::new(Arrivals::Poisson, seed, 1e9 / rate_per_s);
    std::iter::from_fn(move || Some(fixed_instant(positions.step(), 1)))
}

//! How arrivals are spread: each process counts them in units of the mean gap.
//!
//! A process says *where* request k stands on an axis on which one request is expected per unit;
//! the plan's rate, fixed or changing, says *when* that is. So every kind of arrival works with
//! every kind of rate, and each instant is a function of k and the seed.

use std::num::NonZeroU32;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// How the planned instants are spread over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// One request every 1/rate seconds, the first at once.
    #[default]
    Constant,
    /// Independent users: exponential gaps of mean 1/rate, the first arrival one gap after the
    /// start.
    Poisson,
    /// One request at a random instant within each 1/rate seconds: as many requests as
    /// [`Arrivals::Constant`], without its beat, which a server's own timers may fall in with.
    Uniform,
    /// So many requests at the same instant, as far apart as the rate asks for: what a fan-out
    /// or a cron job looks like to a server.
    Burst(NonZeroU32),
}

impl Arrivals {
    /// The word for it in arguments and records.
    pub fn name(self) -> &'static str {
        match self {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "poisson",
            Arrivals::Uniform => "uniform",
            Arrivals::Burst(_) => "burst",
        }
    }

    /// True when the seed decides the instants.
    pub fn is_random(self) -> bool {
        matches!(self, Arrivals::Poisson | Arrivals::Uniform)
    }
}

/// A stream of uniform numbers. Its key is the seed followed by the stream's name, so that no
/// other component that derives from the same seed draws the same numbers.
#[derive(Clone, Debug)]
pub(super) struct Draws(ChaCha8Rng);

impl Draws {
    pub(super) fn new(seed: u64) -> Draws {
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(b"arrivals");
        Draws(ChaCha8Rng::from_seed(key))
    }

    /// 53 random bits, shifted by half a step: uniform in (0, 1), so its logarithm is finite.
    pub(super) fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
}

/// Steps through positions on the axis of expected requests, in order.
#[derive(Clone, Debug)]
pub(super) enum Positions {
    Constant { next: u64 },
    Poisson { draws: Box<Draws>, elapsed: f64, mean_gap: f64 },
    Uniform { draws: Box<Draws>, next: u64 },
    Burst { size: u64, next: u64 },
}

impl Positions {
    /// `mean_gap` is the unit of the axis: 1, or the mean gap in nanoseconds where the axis is
    /// time itself.
    pub(super) fn new(arrivals: Arrivals, seed: u64, mean_gap: f64) -> Positions {
        match arrivals {
            Arrivals::Constant => Positions::Constant { next: 0 },
            Arrivals::Poisson => {
                Positions::Poisson { draws: Box::new(Draws::new(seed)), elapsed: 0.0, mean_gap }
            }
            Arrivals::Uniform => Positions::Uniform { draws: Box::new(Draws::new(seed)), next: 0 },
            Arrivals::Burst(size) => Positions::Burst { size: u64::from(size.get()), next: 0 },
        }
    }

    /// The next position.
    pub(super) fn step(&mut self) -> Position {
        match self {
            Positions::Constant { next } => {
                *next += 1;
                Position::Whole(*next - 1)
            }
            Positions::Poisson { draws, elapsed, mean_gap } => {
                *elapsed -= libm::log(draws.uniform()) * *mean_gap;
                Position::Elapsed(*elapsed)
            }
            Positions::Uniform { draws, next } => {
                *next += 1;
                Position::Within(*next - 1, draws.uniform())
            }
            Positions::Burst { size, next } => {
                *next += 1;
                Position::Whole((*next - 1) / *size * *size)
            }
        }
    }

    /// Passes over `count` positions. Random ones have to be drawn all the same.
    pub(super) fn skip(&mut self, count: u64) {
        match self {
            Positions::Constant { next } | Positions::Burst { next, .. } => *next += count,
            Positions::Poisson { .. } | Positions::Uniform { .. } => {
                for _ in 0..count {
                    self.step();
                }
            }
        }
    }
}

/// A place on the axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Position {
    /// Exactly at a number of expected requests.
    Whole(u64),
    /// A share of the way from one number to the next.
    Within(u64, f64),
    /// In units of the mean gap.
    Elapsed(f64),
}

impl Position {
    /// In expected requests, where the unit of the axis is one.
    pub(super) fn requests(self) -> f64 {
        match self {
            Position::Whole(k) => k as f64,
            Position::Within(k, share) => k as f64 + share,
            Position::Elapsed(x) => x,
        }
    }
}

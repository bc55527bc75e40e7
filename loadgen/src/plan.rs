//! When each request is wanted: the plan, made before the first byte is sent.
//!
//! An open loop sends by the clock and not by the answers, so that a slow server cannot slow the
//! question down. The instants are therefore a function of the plan alone. Constant arrivals are
//! in closed form, instant k from k and the rate and never from instant k − 1; Poisson arrivals
//! are a function of the seed.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// The longest plan: more than a day at 10,000 requests per second.
pub const MAX_PLANNED: u64 = 1_000_000_000;

/// The highest rate, in requests per second: ten times what one core can send today.
pub const MAX_RATE: f64 = 10_000_000.0;

/// The lowest rate, in requests per second: about one a day.
pub const MIN_RATE: f64 = 0.00001;

/// The longest time a plan may last.
pub const MAX_DURATION: Duration = Duration::from_secs(31 * 24 * 3600);

/// How the planned instants are spread over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// One request every 1/rate seconds, the first at once.
    #[default]
    Constant,
    /// Independent users: exponential gaps of mean 1/rate, the first arrival one gap after the
    /// start.
    Poisson,
}

impl Arrivals {
    /// The word for it in arguments and records.
    pub fn name(self) -> &'static str {
        match self {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "poisson",
        }
    }
}

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
    rate_per_s: f64,
    seed: u64,
    /// Requests in the whole plan, of which this may be a share.
    total: u64,
    end: Duration,
    /// This plan holds the requests k with k ≡ `offset` modulo `stride`.
    offset: u64,
    stride: u64,
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
        if duration.is_zero() || duration > MAX_DURATION {
            return Err(PlanError::Duration(duration));
        }
        let expected = rate_per_s * duration.as_secs_f64();
        if expected > MAX_PLANNED as f64 {
            return Err(PlanError::TooLong { planned: expected as u64 });
        }
        let total = match arrivals {
            Arrivals::Constant => count_constant(rate_per_s, duration),
            Arrivals::Poisson => {
                PoissonClock::new(rate_per_s, seed).take_while(|t| *t < duration).count() as u64
            }
        };
        if total == 0 {
            return Err(PlanError::Empty);
        }
        Ok(Plan { arrivals, rate_per_s, seed, total, end: duration, offset: 0, stride: 1 })
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
        if count == 0 {
            return Err(PlanError::Empty);
        }
        if count > MAX_PLANNED {
            return Err(PlanError::TooLong { planned: count });
        }
        // The plan ends where the next request would have come.
        let end = match arrivals {
            Arrivals::Constant => constant_instant(count, nano_rate(rate_per_s)),
            Arrivals::Poisson => {
                PoissonClock::new(rate_per_s, seed).nth(count as usize).unwrap_or(MAX_DURATION)
            }
        };
        if end > MAX_DURATION {
            return Err(PlanError::Duration(end));
        }
        Ok(Plan { arrivals, rate_per_s, seed, total: count, end, offset: 0, stride: 1 })
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

    /// How many requests are planned here.
    pub fn len(&self) -> u64 {
        self.total.saturating_sub(self.offset).div_ceil(self.stride)
    }

    /// True when nothing is planned: only a share can be empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long requests are sent; the last one is planned before this.
    pub fn end(&self) -> Duration {
        self.end
    }

    /// How the instants are spread.
    pub fn arrivals(&self) -> Arrivals {
        self.arrivals
    }

    /// The rate that the whole plan was made for, in requests per second.
    pub fn rate_per_s(&self) -> f64 {
        self.rate_per_s
    }

    /// The seed of the arrivals.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The planned instants in order, as offsets from the start.
    pub fn instants(&self) -> impl Iterator<Item = Duration> + use<> {
        self.cursor().map(|(_, planned)| planned)
    }

    /// The planned requests in order: number in the whole plan, and instant.
    pub(crate) fn cursor(&self) -> Cursor {
        let clock = match self.arrivals {
            Arrivals::Constant => Clock::Constant { nano_rate: nano_rate(self.rate_per_s) },
            Arrivals::Poisson => Clock::Poisson {
                clock: Box::new(PoissonClock::new(self.rate_per_s, self.seed)),
                drawn: 0,
            },
        };
        Cursor { clock, next: self.offset, stride: self.stride, total: self.total }
    }
}

/// Steps through the requests of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    clock: Clock,
    next: u64,
    stride: u64,
    total: u64,
}

#[derive(Clone, Debug)]
enum Clock {
    Constant { nano_rate: u64 },
    Poisson { clock: Box<PoissonClock>, drawn: u64 },
}

impl Iterator for Cursor {
    type Item = (u64, Duration);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.total {
            return None;
        }
        let index = self.next;
        self.next += self.stride;
        let planned = match &mut self.clock {
            Clock::Constant { nano_rate } => constant_instant(index, *nano_rate),
            Clock::Poisson { clock, drawn } => {
                let skip = index - *drawn;
                *drawn = index + 1;
                clock.nth(skip as usize)?
            }
        };
        Some((index, planned))
    }
}

/// The rate in whole requests per 10⁹ seconds, so that instants are exact integer divisions.
fn nano_rate(rate_per_s: f64) -> u64 {
    (rate_per_s * 1e9).round() as u64
}

/// Instant k = ⌊k · 10⁹ / rate⌋ ns. The numerator stays below 2¹²⁸ for every 64-bit k.
fn constant_instant(index: u64, nano_rate: u64) -> Duration {
    let nanos = u128::from(index) * 1_000_000_000_000_000_000 / u128::from(nano_rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How many k have their instant before `duration`.
fn count_constant(rate_per_s: f64, duration: Duration) -> u64 {
    // ⌊k·10¹⁸/rate⌋ < d exactly when k < d·rate/10¹⁸, for a whole d.
    let product = duration.as_nanos() * u128::from(nano_rate(rate_per_s));
    u64::try_from(product.div_ceil(1_000_000_000_000_000_000)).unwrap_or(u64::MAX)
}

/// Cumulative exponential gaps. The stream's key is the seed followed by the stream's name, so
/// that no other component that derives from the same seed draws the same numbers.
#[derive(Clone, Debug)]
struct PoissonClock {
    rng: ChaCha8Rng,
    mean_gap_ns: f64,
    elapsed_ns: f64,
}

impl PoissonClock {
    fn new(rate_per_s: f64, seed: u64) -> Self {
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(b"arrivals");
        let rng = ChaCha8Rng::from_seed(key);
        Self { rng, mean_gap_ns: 1e9 / rate_per_s, elapsed_ns: 0.0 }
    }
}

impl Iterator for PoissonClock {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // 53 random bits, shifted by half a step: uniform in (0, 1), so the logarithm is finite.
        let uniform = ((self.rng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        self.elapsed_ns -= libm::log(uniform) * self.mean_gap_ns;
        Some(Duration::from_nanos(self.elapsed_ns as u64))
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
    #[error("a plan of {0:?} cannot be run; it must last more than nothing and at most 31 days")]
    Duration(Duration),
    /// More requests than [`MAX_PLANNED`].
    #[error(
        "a plan of {planned} requests is too long; lower the rate or the duration to stay within \
         {MAX_PLANNED}"
    )]
    TooLong {
        /// How many requests that would be.
        planned: u64,
    },
    /// No request at all.
    #[error("no request would be sent; raise the rate, the duration or the count")]
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn constant_arrivals_are_k_over_rate_without_drift() {
        let plan = Plan::new(Arrivals::Constant, 3.0, Duration::from_secs(1000), 0).unwrap();
        assert_eq!(plan.len(), 3000);
        for (k, planned) in plan.instants().enumerate() {
            assert_eq!(planned.as_nanos(), k as u128 * 1_000_000_000 / 3);
        }
    }

    #[test]
    fn an_arrival_at_the_end_is_outside_and_one_before_it_inside() {
        let at = |ns| Plan::new(Arrivals::Constant, 10.0, Duration::from_nanos(ns), 0).unwrap();
        assert_eq!(at(100_000_000).len(), 1);
        assert_eq!(at(100_000_001).len(), 2);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
        let plan = Plan::new(Arrivals::Poisson, 1000.0, Duration::from_secs(100), 7).unwrap();
        // 100,000 expected, with a standard deviation of 316: four of them.
        assert!(plan.len().abs_diff(100_000) < 1265, "{}", plan.len());
        let times: Vec<f64> = plan.instants().map(|t| t.as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean * 1000.0 - 1.0).abs() < 0.02, "{mean}");
        // An exponential's standard deviation is its mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn the_seed_decides_the_arrivals() {
        let draw = |seed| -> Vec<Duration> {
            Plan::new(Arrivals::Poisson, 50.0, SECOND, seed).unwrap().instants().collect()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_counted_plan_has_the_count_and_the_same_instants() {
        for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
            let by_time = Plan::new(arrivals, 100.0, SECOND, 3).unwrap();
            let by_count = Plan::with_count(arrivals, 100.0, 40, 3).unwrap();
            assert_eq!(by_count.len(), 40);
            let expected: Vec<_> = by_time.instants().take(40).collect();
            assert_eq!(by_count.instants().collect::<Vec<_>>(), expected);
            assert!(expected[39] < by_count.end());
        }
    }

    #[test]
    fn what_cannot_be_planned_is_refused() {
        let with_rate = |rate| Plan::new(Arrivals::Constant, rate, SECOND, 0);
        for rate in [0.0, -5.0, f64::NAN, f64::INFINITY, MAX_RATE * 1.01] {
            assert!(matches!(with_rate(rate), Err(PlanError::Rate(_))), "{rate}");
        }
        assert!(with_rate(MAX_RATE).is_ok());
        let lasting = |d| Plan::new(Arrivals::Constant, 1.0, d, 0);
        assert!(matches!(lasting(Duration::ZERO), Err(PlanError::Duration(_))));
        assert!(lasting(MAX_DURATION).is_ok());
        assert!(lasting(MAX_DURATION + Duration::from_nanos(1)).is_err());
        assert_eq!(Plan::with_count(Arrivals::Constant, 1.0, 0, 0), Err(PlanError::Empty));
        let most = Plan::with_count(Arrivals::Constant, MAX_RATE, MAX_PLANNED, 0);
        assert!(most.is_ok());
        let more = Plan::with_count(Arrivals::Constant, MAX_RATE, MAX_PLANNED + 1, 0);
        assert_eq!(more, Err(PlanError::TooLong { planned: MAX_PLANNED + 1 }));
    }

    proptest! {
        #[test]
        fn the_shares_together_are_the_plan(
            rate in 0.5_f64..500.0, workers in 1_u64..5, poisson: bool, seed: u64,
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let Ok(plan) = Plan::new(arrivals, rate, SECOND, seed) else {
                return Ok(()); // nothing arrives within the second
            };
            let mut together: Vec<_> =
                (0..workers).flat_map(|w| plan.share(w, workers).cursor()).collect();
            together.sort_unstable();
            prop_assert_eq!(&together, &plan.cursor().collect::<Vec<_>>());
            prop_assert_eq!(together.len() as u64, plan.len());
            let shares: u64 = (0..workers).map(|w| plan.share(w, workers).len()).sum();
            prop_assert_eq!(shares, plan.len());
        }

        #[test]
        fn instants_rise_and_stay_before_the_end(rate in 0.5_f64..5000.0, seed: u64) {
            for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
                let Ok(plan) = Plan::new(arrivals, rate, SECOND, seed) else { continue };
                let times: Vec<_> = plan.instants().collect();
                prop_assert_eq!(times.len() as u64, plan.len());
                prop_assert!(times.is_sorted());
                prop_assert!(times.iter().all(|t| *t < plan.end()));
            }
        }
    }
}

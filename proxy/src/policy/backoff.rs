//! How long to wait before the next attempt: exponential, capped, and fully jittered.
//!
//! The failure that this prevents is the echo. Requests that failed together and wait the same time
//! come back together, and fail together again. So the wait is drawn from the *whole* range up to
//! the exponential bound, and not from a band around it: of the schemes compared in "Exponential
//! Backoff And Jitter" (AWS Architecture Blog, 2015), full jitter spreads the load most evenly and
//! makes the fewest calls. Envoy and gRPC (gRFC A6) draw the same way. To wait without drawing is
//! there to be compared with.

use std::time::Duration;

use rand::{Rng, RngExt as _};
use serde::{Deserialize, Serialize};

use crate::config::fields;

/// The bounds of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackoffOptions {
    /// What the first wait stays below; it doubles with each retry. 25 ms, as Envoy's: about one
    /// service time within a mesh, so that a short hiccup is over and a caller hardly notices.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub base: Duration,
    /// What every wait stays below. 250 ms, as Envoy's: ten times the base. Beyond that a caller
    /// inside a mesh is better told no than kept.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub cap: Duration,
    /// Which part of the bound is drawn. Full.
    pub jitter: Jitter,
}

/// What of a wait is left to chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// All of it.
    #[default]
    Full,
    /// Nothing: every wait is as long as its bound. For comparison.
    None,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            cap: Duration::from_millis(250),
            jitter: Jitter::Full,
        }
    }
}

impl BackoffOptions {
    /// What the wait before retry `nth` stays below, `min(cap, base · 2^nth)`; the first retry is
    /// `nth` 0.
    pub fn bound(&self, nth: u32) -> Duration {
        let factor = 1_u32.checked_shl(nth).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// A wait before retry `nth`, uniform in `[0, bound(nth))`; without jitter, the bound.
    pub fn draw(&self, nth: u32, rng: &mut dyn Rng) -> Duration {
        if self.jitter == Jitter::None {
            return self.bound(nth);
        }
        // A bound beyond 584 years is one that nobody waits for.
        let bound_ns = u64::try_from(self.bound(nth).as_nanos()).unwrap_or(u64::MAX);
        match bound_ns {
            0 => Duration::ZERO,
            _ => Duration::from_nanos(rng.random_range(0..bound_ns)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;
    use crate::rng::stream;

    #[test]
    fn bounds_double_up_to_the_cap() {
        let options = BackoffOptions::default();
        let bounds_ms: Vec<_> = (0..6).map(|nth| options.bound(nth).as_millis()).collect();
        assert_eq!(bounds_ms, [25, 50, 100, 200, 250, 250]);
        // The shift's edges: 31 still fits, 32 does not, and neither wraps.
        for nth in [30, 31, 32, 33, u32::MAX] {
            assert_eq!(options.bound(nth), options.cap, "retry {nth}");
        }
    }

    #[test]
    fn a_base_above_the_cap_is_the_cap() {
        let second = Duration::from_secs(1);
        let options = BackoffOptions { base: second * 2, cap: second, ..BackoffOptions::default() };
        assert_eq!(options.bound(0), second);
    }

    #[test]
    fn without_jitter_a_wait_is_its_bound() {
        let options = BackoffOptions { jitter: Jitter::None, ..BackoffOptions::default() };
        let mut rng = stream(1, "test");
        for nth in 0..6 {
            assert_eq!(options.draw(nth, &mut rng), options.bound(nth), "retry {nth}");
        }
    }

    #[test]
    fn nothing_to_draw_from_is_no_wait() {
        let zero = Duration::ZERO;
        let options = BackoffOptions { base: zero, cap: zero, ..BackoffOptions::default() };
        assert_eq!(options.draw(3, &mut stream(1, "test")), Duration::ZERO);
    }

    #[test]
    fn both_ends_of_the_range_are_drawn() {
        let options = BackoffOptions { base: Duration::from_nanos(3), ..BackoffOptions::default() };
        let mut rng = stream(1, "test");
        let mut times = [0; 3];
        for _ in 0..1000 {
            times[options.draw(0, &mut rng).subsec_nanos() as usize] += 1;
        }
        assert!(times.iter().all(|n| *n > 250), "not uniform: {times:?}");
    }

    proptest! {
        /// Never at or above the bound, and half of it on average.
        #[test]
        fn waits_stay_below_their_bound_and_average_half_of_it(
            base_us in 1..1_000_000_u64, cap_us in 1..1_000_000_u64, nth in 0..40_u32, seed: u64,
        ) {
            let options = BackoffOptions {
                base: Duration::from_micros(base_us),
                cap: Duration::from_micros(cap_us),
                jitter: Jitter::Full,
            };
            let mut rng = stream(seed, "test");
            let bound = options.bound(nth);
            prop_assert!(bound <= options.cap);
            let mut sum = Duration::ZERO;
            for _ in 0..2000 {
                let wait = options.draw(nth, &mut rng);
                prop_assert!(wait < bound, "{wait:?} is not below {bound:?}");
                sum += wait;
            }
            // The mean of 2000 draws has a deviation of 0.0065; seven of them are never seen.
            let mean = (sum / 2000).as_secs_f64() / bound.as_secs_f64();
            prop_assert!((0.45..0.55).contains(&mean), "the mean is {mean} of the bound");
        }
    }
}

//! How much of its share an endpoint gets that has just come or come back.
//!
//! A process that has just started has cold caches, unopened connections and code that is not
//! compiled yet; at full share it is slow, its callers time out, and a detector throws it out
//! again. Envoy's slow start scales its weight by `max(min, (t/window)^(1/aggression))` (Envoy docs,
//! "Slow start mode"). Here the factor works on any strategy, also on those that know no weights,
//! by *rejection*: the strategy picks; if the pick is ramping it stands with probability `factor`,
//! and else a second pick is made among the endpoints that are not ramping
//! ([`Choice::settled`](super::membership::Choice::settled)), if there are any. So
//! - the endpoint gets `factor` times what the strategy would have given it, and never more;
//! - a strategy that would pick the same endpoint again and again (the idle newcomer, under least
//!   request) cannot turn the rejection into a loop: there are at most two picks;
//! - when every endpoint is new, nothing is rejected: there is nobody to spare them.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};
use serde::Deserialize;

use crate::config::fields;

/// How an endpoint comes to its full share, `[clusters.slow_start]`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlowStartOptions {
    /// How long until it has its full share; 0 gives it at once. 10 s: connections and caches of a
    /// service that answers in milliseconds are warm by then. Not the minute that Envoy's examples
    /// use: while some ramp the others carry their load.
    #[serde(deserialize_with = "fields::duration")]
    pub window: Duration,
    /// The curve: 1 is a straight line, more is faster at first, less is slower. 1, as Envoy's.
    #[serde(deserialize_with = "fields::positive")]
    pub aggression: f64,
    /// The least factor, from 0 to 1. 0.1, as Envoy's: with less, an endpoint of a quiet cluster
    /// would see no request and warm nothing.
    #[serde(deserialize_with = "fields::ratio")]
    pub min_factor: f64,
}

impl Default for SlowStartOptions {
    fn default() -> Self {
        Self { window: Duration::from_secs(10), aggression: 1.0, min_factor: 0.1 }
    }
}

impl SlowStartOptions {
    /// The share of its full share, from `min_factor` to 1, of an endpoint that is back since
    /// `since`.
    pub fn factor(&self, since: Instant, now: Instant) -> f64 {
        let age = now.saturating_duration_since(since);
        if age >= self.window {
            return 1.0;
        }
        let passed = age.as_secs_f64() / self.window.as_secs_f64();
        libm::pow(passed, 1.0 / self.aggression).clamp(self.min_factor, 1.0)
    }

    /// True when the pick of an endpoint that is back since `since` stands. Draws nothing once the
    /// window is over, so that settled clusters keep their random stream.
    pub fn stands(&self, since: Instant, now: Instant, rng: &mut dyn Rng) -> bool {
        let factor = self.factor(since, now);
        factor >= 1.0 || rng.random::<f64>() < factor
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;
    use crate::rng::stream;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_factor_rises_from_its_least_to_one() {
        let since = Instant::now();
        let straight = SlowStartOptions::default();
        let at = |options: SlowStartOptions, n| options.factor(since, since + ms(n));
        for (after, factor) in [(0, 0.1), (1_000, 0.1), (2_500, 0.25), (9_000, 0.9)] {
            assert!((at(straight, after) - factor).abs() < 1e-12, "after {after} ms");
        }
        assert!(at(straight, 9_999) < 1.0);
        assert!(at(straight, 10_000) == 1.0);
        // √0.25 and 0.25²
        assert!((at(SlowStartOptions { aggression: 2.0, ..straight }, 2_500) - 0.5).abs() < 1e-12);
        let slow = SlowStartOptions { aggression: 0.5, min_factor: 0.0, ..straight };
        assert!((at(slow, 2_500) - 0.0625).abs() < 1e-12);
    }

    #[test]
    fn without_a_window_there_is_no_ramp() {
        let since = Instant::now();
        let options = SlowStartOptions { window: Duration::ZERO, ..SlowStartOptions::default() };
        assert!(options.factor(since, since) == 1.0);
    }

    #[test]
    fn a_pick_stands_as_often_as_the_factor_says() {
        let since = Instant::now();
        let options = SlowStartOptions::default();
        let mut rng = stream(1, "test");
        let mut stood = |after| {
            (0..10_000).filter(|_| options.stands(since, since + ms(after), &mut rng)).count()
        };
        assert!((900..1_100).contains(&stood(0)));
        assert!((4_850..5_150).contains(&stood(5_000)));
        assert_eq!(stood(10_000), 10_000);
    }

    #[test]
    fn a_settled_endpoint_draws_nothing() {
        let since = Instant::now();
        let mut used = stream(1, "test");
        assert!(SlowStartOptions::default().stands(since, since + ms(10_000), &mut used));
        assert_eq!(used.random::<u64>(), stream(1, "test").random::<u64>());
    }

    proptest! {
        #[test]
        fn the_factor_never_falls(
            after in 0..20_000u64, more in 0..20_000u64, aggression in 0.1..10.0, min_factor in 0.0..1.0,
        ) {
            let since = Instant::now();
            let options = SlowStartOptions { aggression, min_factor, ..Default::default() };
            let early = options.factor(since, since + ms(after));
            let late = options.factor(since, since + ms(after + more));
            prop_assert!(min_factor <= early && early <= late && late <= 1.0);
        }
    }
}

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
//! - nor more than a fair part ([`Ramps`]): a strategy that goes by queues or latency would give
//!   half of everything to the only idle endpoint among busy ones, and `factor` times half is a
//!   herd long before the window is over. For two windows more it gets no more than a quarter more:
//!   its peers look slow for a while after their queues are gone, and a herd that comes late is one;
//! - a strategy that would pick the same endpoint again and again (the idle newcomer, under least
//!   request) cannot turn the rejection into a loop: there are at most two picks;
//! - when every endpoint is new, nothing is rejected: there is nobody to spare them.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};
use serde::{Deserialize, Serialize};

use super::balance::EndpointId;
use crate::config::fields;

/// How an endpoint comes to its full share, `[clusters.slow_start]`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlowStartOptions {
    /// How long until it has its full share; 0 gives it at once. 10 s: connections and caches of a
    /// service that answers in milliseconds are warm by then. Not the minute that Envoy's examples
    /// use: while some ramp the others carry their load.
    #[serde(deserialize_with = "fields::duration")]
    #[serde(serialize_with = "fields::write_duration")]
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
    /// How long after its return an endpoint is kept from getting much more than a fair part.
    pub fn watch(&self) -> Duration {
        self.window * WATCHED_WINDOWS
    }

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
    fn stands(&self, since: Instant, now: Instant, rng: &mut dyn Rng) -> bool {
        let factor = self.factor(since, now);
        factor >= 1.0 || rng.random::<f64>() < factor
    }
}

/// The ramp itself, and as much time again twice: in as long as that, peers that look slow by an
/// estimate with a decay of 10 s, as that of peak EWMA, have lost 86 % of their bad name.
const WATCHED_WINDOWS: u32 = 3;
/// How much more than a fair part an endpoint may have after its ramp, while it is watched.
const AFTER_THE_RAMP: f64 = 1.25;
/// Picks that a ramping endpoint may have saved up. Enough that chance does not cost it its share,
/// little against what a fair part is in any second that matters.
const MOST_SAVED: f64 = 4.0;

/// The ramping endpoints of a cluster.
#[derive(Clone, Debug)]
pub struct Ramps {
    options: SlowStartOptions,
    /// Picks of the cluster so far.
    picks: u64,
    /// By endpoint, as far as any has ramped.
    allowances: Vec<Allowance>,
}

/// What one endpoint may take.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    /// The return that it belongs to.
    since: Option<Instant>,
    /// [`Ramps::picks`] when `saved` was right.
    seen: u64,
    /// Picks that it may have.
    saved: f64,
}

impl Ramps {
    /// None so far.
    pub fn new(options: SlowStartOptions) -> Self {
        Self { options, picks: 0, allowances: Vec::new() }
    }

    /// The cluster picks an endpoint.
    pub fn picking(&mut self) {
        self.picks += 1;
    }

    /// True when the pick of an endpoint that is back since `since` stands; `fair` is its part, from
    /// 0 to 1, of what it was picked from. Draws nothing once the window is over.
    pub fn stands(
        &mut self,
        endpoint: EndpointId,
        since: Instant,
        fair: impl FnOnce() -> f64,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> bool {
        if now.saturating_duration_since(since) >= self.options.watch() {
            return true;
        }
        if self.allowances.len() <= endpoint.0 {
            self.allowances.resize(endpoint.0 + 1, Allowance::default());
        }
        let allowance = &mut self.allowances[endpoint.0];
        if allowance.since != Some(since) {
            *allowance = Allowance { since: Some(since), seen: self.picks, saved: 1.0 };
        }
        let ramped = self.options.factor(since, now) >= 1.0;
        let part = if ramped { AFTER_THE_RAMP } else { 1.0 } * fair();
        let earned = (self.picks - allowance.seen) as f64 * part;
        allowance.saved = (allowance.saved + earned).min(MOST_SAVED);
        allowance.seen = self.picks;
        let stands = self.options.stands(since, now, rng) && allowance.saved >= 1.0;
        if stands {
            allowance.saved -= 1.0;
        }
        stands
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
    fn a_strategy_that_always_picks_the_newcomer_gives_it_no_more_than_a_fair_part() {
        let since = Instant::now();
        let mut ramps = Ramps::new(SlowStartOptions::default());
        let mut rng = stream(1, "test");
        // A thousand picks a second, each of them for the one that is new among four.
        let mut stood = |second: u64| {
            let mut stood = 0;
            for n in 0..1_000 {
                ramps.picking();
                let now = since + ms(second * 1_000 + n);
                stood += u32::from(ramps.stands(EndpointId(2), since, || 0.25, now, &mut rng));
            }
            stood
        };
        assert!((70..=130).contains(&stood(0)), "the least factor");
        for second in 3..10 {
            assert!((230..=254).contains(&stood(second)), "second {second}");
        }
        for second in 10..30 {
            assert!((312..=317).contains(&stood(second)), "second {second}");
        }
        assert_eq!(stood(30), 1_000, "settled");
    }

    #[test]
    fn a_second_return_saves_up_anew() {
        let (first, second) = (Instant::now(), Instant::now() + ms(60_000));
        let options = SlowStartOptions { min_factor: 0.999, ..SlowStartOptions::default() };
        let mut ramps = Ramps::new(options);
        let mut rng = stream(1, "test");
        let mut stood = |since| {
            let stands = |_| ramps.stands(EndpointId(0), since, || 0.0, since, &mut rng);
            (0..5).map(stands).filter(|stands| *stands).count()
        };
        assert_eq!([stood(first), stood(second)], [1, 1]);
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

//! When to send a request a second time although the first may still be answered.
//!
//! The failure that this hides is the straggler: one request in a hundred that hangs on a lost
//! packet or a pause, while any other endpoint would answer at once. "The Tail at Scale" (Dean and
//! Barroso, 2013) sends a second request once the first has waited longer than the 95th percentile,
//! which costs at most a twentieth more load and took their 99.9th from 1800 ms to 74 ms.
//!
//! Two things make it dangerous, and each is bounded here. When an endpoint is slow because of
//! load, every request waits too long and hedging doubles the load: so a hedge is paid from the same
//! [`Budget`] as retries. And both requests may be carried out: so only what may be repeated is
//! hedged, which a route's opt-in for retries does not change. It is off unless asked for.
//!
//! Unlike Envoy, which hedges when a per-try timeout fires, the delay can follow the latencies that
//! a cluster really has.

mod digest;

use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize};

use super::budget::{Budget, Reservation};
use super::retry::{BodyState, RequestFacts};
use crate::config::fields;

pub use digest::{DigestOptions, LatencyDigest};

/// When a request is hedged, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HedgeOptions {
    /// Hedge what has not been answered for this long. Absent by default: what is long depends on
    /// the service. Beside `percentile`, it serves until that is known.
    #[serde(deserialize_with = "fields::optional_positive_duration")]
    #[serde(serialize_with = "fields::write_optional_duration")]
    pub after: Option<Duration>,
    /// Hedge what has waited longer than this share of recent responses, above 0 and below 1, such
    /// as 0.95. Absent by default: a second request for one is more load, which somebody has to
    /// want.
    #[serde(deserialize_with = "percentile")]
    pub percentile: Option<f64>,
    /// How many times a request is sent beyond the first. 1: the second request makes a straggler
    /// of a straggler, which is one in ten thousand where one in a hundred was; a third gains
    /// little.
    pub max_hedges: u32,
}

impl Default for HedgeOptions {
    fn default() -> Self {
        Self { after: None, percentile: None, max_hedges: 1 }
    }
}

/// A request that has waited for [`HedgeOptions::delay`].
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Its method and its body.
    pub request: RequestFacts,
    /// Whether the body was read to its end: two attempts cannot read the caller's stream.
    pub body_is_complete: bool,
    /// How often it was hedged already.
    pub hedges: u32,
    /// What is left of its deadline.
    pub remaining: Duration,
    /// What an attempt is expected to take, if that is known.
    pub expected_try: Option<Duration>,
}

impl HedgeOptions {
    /// Whether there is anything to do. If not, nobody need keep a digest.
    pub fn is_on(&self) -> bool {
        self.max_hedges > 0 && (self.after.is_some() || self.percentile.is_some())
    }

    /// How long an attempt is waited for before the next is sent beside it; `None` when hedging is
    /// off or not enough latencies are known.
    pub fn delay(&self, latencies: &LatencyDigest, now: Instant) -> Option<Duration> {
        if self.max_hedges == 0 {
            return None;
        }
        let learnt = self.percentile.and_then(|share| latencies.percentile(share, now));
        learnt.or(self.after)
    }

    /// Takes a hedge out of the budget, if this request may have one now.
    pub fn reserve(
        &self,
        waiting: &Waiting,
        budget: &mut Budget,
        now: Instant,
    ) -> Option<Reservation> {
        let may_be_repeated = waiting.request.method_is_idempotent
            && waiting.request.body == BodyState::Replayable
            && waiting.body_is_complete;
        let in_time = waiting.remaining > waiting.expected_try.unwrap_or(Duration::ZERO);
        if !may_be_repeated || waiting.hedges >= self.max_hedges || !in_time {
            return None;
        }
        budget.try_reserve(now)
    }
}

/// A share above 0 and below 1, where the field may be left out.
fn percentile<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let share = f64::deserialize(deserializer)?;
    if !(share > 0.0 && share < 1.0) {
        let message = format!("`{share}` is not above 0 and below 1, such as 0.95");
        return Err(serde::de::Error::custom(message));
    }
    Ok(Some(share))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use super::*;
    use crate::policy::budget::BudgetOptions;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn waiting() -> Waiting {
        Waiting {
            request: RequestFacts { method_is_idempotent: true, body: BodyState::Replayable },
            body_is_complete: true,
            hedges: 0,
            remaining: ms(11),
            expected_try: Some(ms(10)),
        }
    }

    #[test]
    fn it_is_off_by_default() {
        let now = Instant::now();
        let latencies = LatencyDigest::new(&DigestOptions::default());
        assert!(!HedgeOptions::default().is_on());
        assert_eq!(HedgeOptions::default().delay(&latencies, now), None);
        let none = HedgeOptions { after: Some(ms(5)), max_hedges: 0, ..HedgeOptions::default() };
        assert!(!none.is_on());
        assert_eq!(none.delay(&latencies, now), None);
    }

    #[test]
    fn a_percentile_takes_over_from_the_fixed_delay_once_it_is_known() {
        let now = Instant::now();
        let mut latencies = LatencyDigest::new(&DigestOptions::default());
        let learnt = HedgeOptions { percentile: Some(0.95), ..HedgeOptions::default() };
        let both = HedgeOptions { after: Some(ms(500)), ..learnt };
        let needed = LatencyDigest::samples_needed(0.95);
        for _ in 1..needed {
            latencies.record(ms(10), now);
        }
        assert_eq!(learnt.delay(&latencies, now), None);
        assert_eq!(both.delay(&latencies, now), Some(ms(500)));
        latencies.record(ms(10), now);
        let known = learnt.delay(&latencies, now).expect("there are enough");
        assert!((ms(10)..ms(11)).contains(&known), "{known:?}");
        assert_eq!(both.delay(&latencies, now), Some(known));
    }

    /// Each way to be refused, beside the request that is not.
    #[test]
    fn only_what_may_be_repeated_in_time_and_budget_is_hedged() {
        let now = Instant::now();
        let on = HedgeOptions { after: Some(ms(5)), ..HedgeOptions::default() };
        let plenty = || Budget::new(&BudgetOptions::default());
        let may = |waiting: Waiting| on.reserve(&waiting, &mut plenty(), now).is_some();
        let request = |method_is_idempotent, body| Waiting {
            request: RequestFacts { method_is_idempotent, body },
            ..waiting()
        };
        assert!(may(waiting()));
        assert!(may(Waiting {
            expected_try: None,
            remaining: Duration::from_nanos(1),
            ..waiting()
        }));
        assert!(!may(request(false, BodyState::Replayable)));
        assert!(!may(request(true, BodyState::TooLarge { limit: 1 })));
        assert!(!may(request(true, BodyState::Broken)));
        assert!(!may(Waiting { body_is_complete: false, ..waiting() }));
        assert!(!may(Waiting { hedges: 1, ..waiting() }));
        assert!(!may(Waiting { remaining: ms(10), ..waiting() }));
        let mut empty =
            Budget::new(&BudgetOptions { min_per_second: 0, ..BudgetOptions::default() });
        assert_eq!(on.reserve(&waiting(), &mut empty, now), None);
    }

    #[test]
    fn a_percentile_is_a_share() {
        let read = |text: &str| toml::from_str::<HedgeOptions>(text).map_err(|e| e.to_string());
        assert_eq!(read("percentile = 0.99").map(|o| o.percentile), Ok(Some(0.99)));
        for wrong in ["95.0", "0.0", "1.0", "nan"] {
            let error = read(&format!("percentile = {wrong}")).expect_err("not a share");
            assert!(error.contains("such as 0.95"), "{error}");
        }
    }
}

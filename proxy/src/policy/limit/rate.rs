//! At most so many requests a second, for each key.
//!
//! A token bucket for each route, source or header value, kept as the *generic cell rate
//! algorithm* (ITU-T I.371): all there is of a bucket is the instant at which it will be full
//! again. A request moves that instant by `1 / rate`; one that would move it further than
//! `burst / rate` past now is refused and told how long to wait. Nothing waits here: a queue in
//! front of a limit would only hide from the caller that it is too fast, and hold its memory.
//!
//! What it prevents: one caller of many taking what all share. Envoy's `local_ratelimit` is the
//! model, with 429 as the answer.
//!
//! # A bound on keys, and what it cannot be used for
//! Who chooses the keys (a source address, a header) could make them up, so the table is of fixed
//! size: sets of `WAYS` buckets, found by hash, as in a processor's cache. A key that is not in
//! its set takes the place of the *fullest* bucket there, **and its level too** (the idea of the
//! Space-Saving sketch: Metwally et al., ICDT 2005). Forgetting the level instead would grant a
//! new burst to whoever makes the table forget it. As it is:
//! - a bucket that is full is nobody's: nothing is lost with it, and the newcomer starts full;
//! - no key ever gets more than its rate and burst, because the fullest bucket of a set only ever
//!   becomes emptier in absolute terms: when a key comes back it takes over a level that is no
//!   better than the one it left;
//! - the price is paid by newcomers when all buckets of a set are in use at once, that is, when
//!   there are more keys than there is room for: they share what the calmest of them left.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::fields;

/// Buckets among which a key can be. With as many keys as buckets, one set of eight has a ninth
/// key now and then; searching eight is searching two cache lines.
const WAYS: usize = 8;

/// Whose requests are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitKey {
    /// All requests of the route.
    #[default]
    Route,
    /// Those from one address.
    Source,
    /// Those with one value of this header; those without it are counted together too.
    Header(
        #[serde(deserialize_with = "fields::header_name", serialize_with = "fields::write_text")]
        http::HeaderName,
    ),
}

/// A limit on requests a second.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitOptions {
    /// Requests a second in the long run; may be a fraction, such as 0.5. There is no default: no
    /// number is right for most.
    pub rate: Rate,
    /// Requests that may come at once after a pause. If absent, what the rate allows in a second,
    /// and at least one: callers who count in seconds are then never refused for being uneven
    /// within one.
    pub burst: Option<NonZeroU32>,
    /// Whose requests are counted together. All of the route's.
    #[serde(default)]
    pub by: RateLimitKey,
    /// Keys that are told apart, rounded up to a power of two; 16 bytes each. 16,384 is a quarter
    /// of a MiB, and more than the callers that one sidecar sees within the time that a bucket
    /// takes to fill.
    #[serde(default = "RateLimitOptions::default_max_keys")]
    pub max_keys: NonZeroUsize,
}

impl RateLimitOptions {
    /// A limit on all requests of a route, with the default burst.
    pub fn new(rate: Rate) -> Self {
        Self { rate, burst: None, by: RateLimitKey::default(), max_keys: Self::default_max_keys() }
    }

    fn default_max_keys() -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add((1 << 14) - 1)
    }
}

/// Requests a second, 0.001 to 1,000,000.
///
/// Below, a caller would wait for longer than a quarter of an hour; above, the time between two
/// requests is no longer a whole number of nanoseconds to within 0.1 %.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "f64")]
pub struct Rate(f64);

impl TryFrom<f64> for Rate {
    type Error = String;

    fn try_from(per_second: f64) -> Result<Self, String> {
        if (0.001..=1_000_000.0).contains(&per_second) {
            Ok(Self(per_second))
        } else {
            Err(format!("{per_second} a second is no rate; write 0.001 to 1000000, such as 100"))
        }
    }
}

/// How long until a request would have been accepted, if no other comes before it. More than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetryAfter(pub Duration);

/// Token buckets, one for each key.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// What one request takes from its bucket, as the time in which that flows back.
    cost_ns: u64,
    /// What a bucket holds, likewise.
    burst_ns: u64,
    /// From which on the buckets count.
    epoch: Instant,
    /// A power of two of them.
    sets: Box<[[Bucket; WAYS]]>,
}

/// The bucket of the key that used it last.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    key: u64,
    /// When it will be full, or was; nanoseconds since the epoch.
    full_at_ns: u64,
}

impl RateLimit {
    /// All buckets are full. No later `now` is before this one.
    pub fn new(options: &RateLimitOptions, now: Instant) -> Self {
        let Rate(per_second) = options.rate;
        // Rounded up: a limit is not exceeded by rounding.
        let cost_ns = libm::ceil(1e9 / per_second) as u64;
        let a_second = NonZeroU32::new(libm::ceil(per_second) as u32).unwrap_or(NonZeroU32::MIN);
        let burst = u64::from(options.burst.unwrap_or(a_second).get());
        let sets = match options.by {
            RateLimitKey::Route => 1,
            RateLimitKey::Source | RateLimitKey::Header(_) => {
                options.max_keys.get().div_ceil(WAYS).next_power_of_two()
            }
        };
        Self {
            cost_ns,
            burst_ns: cost_ns.saturating_mul(burst),
            epoch: now,
            sets: vec![[Bucket::default(); WAYS]; sets].into(),
        }
    }

    /// Takes one request from the bucket of `key_hash`, a well mixed hash of the key; any constant
    /// where there is one key.
    ///
    /// # Errors
    /// How long until the bucket has room, when it has none; nothing is taken then.
    pub fn check(&mut self, key_hash: u64, now: Instant) -> Result<(), RetryAfter> {
        let now_ns = nanos(now.saturating_duration_since(self.epoch));
        let most_ns = now_ns.saturating_add(self.burst_ns);
        let cost_ns = self.cost_ns;
        let bucket = self.bucket(key_hash);
        let full_at_ns = bucket.full_at_ns.max(now_ns).saturating_add(cost_ns);
        if full_at_ns > most_ns {
            return Err(RetryAfter(Duration::from_nanos(full_at_ns - most_ns)));
        }
        bucket.full_at_ns = full_at_ns;
        Ok(())
    }

    /// The key's bucket, or the fullest of its set, which becomes the key's.
    fn bucket(&mut self, key: u64) -> &mut Bucket {
        let mask = self.sets.len() as u64 - 1;
        // The mask keeps it below the length, which is a usize.
        let set = &mut self.sets[(key & mask) as usize];
        let found = set.iter().position(|bucket| bucket.key == key);
        let place = found.unwrap_or_else(|| {
            let mut fullest = 0;
            for place in 1..WAYS {
                if set[place].full_at_ns < set[fullest].full_at_ns {
                    fullest = place;
                }
            }
            fullest
        });
        let bucket = &mut set[place];
        bucket.key = key;
        bucket
    }
}

/// 584 years of them.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn options(rate: f64, burst: u32, max_keys: usize) -> RateLimitOptions {
        RateLimitOptions {
            burst: NonZeroU32::new(burst),
            by: RateLimitKey::Source,
            max_keys: NonZeroUsize::new(max_keys).expect("some keys"),
            ..RateLimitOptions::new(Rate::try_from(rate).expect("a rate"))
        }
    }

    fn after(millis: u64) -> Result<(), RetryAfter> {
        Err(RetryAfter(ms(millis)))
    }

    #[test]
    fn a_burst_passes_and_one_more_is_told_when() {
        let start = Instant::now();
        let mut limit = RateLimit::new(&options(10.0, 3, 1), start);
        for _ in 0..3 {
            assert_eq!(limit.check(1, start), Ok(()));
        }
        // Being refused costs nothing.
        for _ in 0..3 {
            assert_eq!(limit.check(1, start), after(100));
        }
        assert_eq!(limit.check(1, start + ms(99)), after(1));
        assert_eq!(limit.check(1, start + ms(100)), Ok(()));
        assert_eq!(limit.check(1, start + ms(100)), after(100));
    }

    #[test]
    fn a_pause_fills_the_bucket_and_no_more() {
        let start = Instant::now();
        let mut limit = RateLimit::new(&options(10.0, 3, 1), start);
        let later = start + Duration::from_secs(3600);
        assert_eq!([(); 4].map(|()| limit.check(1, later).is_ok()), [true, true, true, false]);
    }

    #[test]
    fn a_burst_is_a_second_unless_said_otherwise() {
        let now = Instant::now();
        for (rate, burst) in [(0.5, 1), (1.0, 1), (2.5, 3), (1000.0, 1000)] {
            let options = RateLimitOptions::new(Rate::try_from(rate).expect("a rate"));
            let mut limit = RateLimit::new(&options, now);
            let passed = (0..2000).filter(|_| limit.check(0, now).is_ok()).count();
            assert_eq!(passed, burst, "at {rate} a second");
        }
    }

    #[test]
    fn keys_do_not_see_each_other() {
        let now = Instant::now();
        let mut limit = RateLimit::new(&options(1.0, 1, 64), now);
        for key in 0..64 {
            assert_eq!(limit.check(key, now), Ok(()));
            assert_eq!(limit.check(key, now), after(1000));
        }
    }

    /// Eight keys fill a set. The ninth takes the place of one whose bucket is full again, or, when
    /// there is none, what the calmest has left.
    #[test]
    fn a_newcomer_inherits_the_fullest_bucket() {
        let start = Instant::now();
        let mut limit = RateLimit::new(&options(1.0, 2, 8), start);
        for key in 1..=8 {
            assert_eq!(limit.check(key, start + ms(key)), Ok(()));
            assert_eq!(limit.check(key, start + ms(key)), Ok(()));
        }
        assert_eq!(limit.check(9, start + ms(8)), after(993));
        // It has what the first would have, who comes back to what the second left.
        assert_eq!(limit.check(9, start + ms(1001)), Ok(()));
        assert_eq!(limit.check(9, start + ms(1001)), after(1000));
        assert_eq!(limit.check(1, start + ms(1001)), after(1));
    }

    #[test]
    fn options_are_checked_while_they_are_read() {
        let read = |text: &str| toml::from_str::<RateLimitOptions>(text);
        let right = read("rate = 2.5\nby = { header = \"X-User\" }").expect("a limit");
        assert_eq!(right.by, RateLimitKey::Header(http::HeaderName::from_static("x-user")));
        assert_eq!((right.rate, right.burst), (Rate(2.5), None));
        assert_eq!(read("rate = 5\nby = \"source\"").expect("a limit").by, RateLimitKey::Source);
        let wrong = [
            "burst = 1",
            "rate = 0",
            "rate = 1000001",
            "rate = nan",
            "rate = 1\nburst = 0",
            "rate = 1\nmax_keys = 0",
            "rate = 1\nby = \"sauce\"",
            "rate = 1\nby = { header = \"x user\" }",
            "rate = 1\nper = \"minute\"",
        ];
        let errors = wrong.map(|text| match read(text) {
            Ok(_) => panic!("accepted: {text}"),
            Err(error) => error.message().replace('\n', "; "),
        });
        insta::assert_snapshot!(errors.join("\n"));
    }

    proptest! {
        /// With room for all keys, this is a token bucket for each.
        #[test]
        fn it_is_a_token_bucket(
            burst in 1..5u32, steps in prop::collection::vec((0..8u64, 0..300u64), 1..200),
        ) {
            let start = Instant::now();
            let mut limit = RateLimit::new(&options(10.0, burst, 8), start);
            // Thousandths of a token, filled at 10 a second.
            let full = u64::from(burst) * 1000;
            let mut model = BTreeMap::new();
            let mut now_ms = 0;
            for (key, pause) in steps {
                now_ms += pause;
                let (level, at) = model.entry(key).or_insert((full, now_ms));
                *level = (*level + (now_ms - *at) * 10).min(full);
                *at = now_ms;
                let checked = limit.check(key, start + ms(now_ms));
                if *level >= 1000 {
                    *level -= 1000;
                    prop_assert_eq!(checked, Ok(()));
                } else {
                    prop_assert_eq!(checked, after((1000 - *level).div_ceil(10)));
                }
            }
        }

        /// However many keys contend for the places, and in whatever order: between any two of its
        /// requests, no key gets more than one burst and what its rate allows.
        #[test]
        fn being_forgotten_is_of_no_use(
            burst in 1..4u32, steps in prop::collection::vec((0..12u64, 0..60u64), 1..400),
        ) {
            let start = Instant::now();
            let mut limit = RateLimit::new(&options(10.0, burst, 8), start);
            let mut passed: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            let mut now_ms = 0;
            for (key, pause) in steps {
                now_ms += pause;
                if limit.check(key, start + ms(now_ms)).is_ok() {
                    passed.entry(key).or_default().push(now_ms);
                }
            }
            for times in passed.values() {
                for (first, from) in times.iter().enumerate() {
                    for (last, to) in times.iter().enumerate().skip(first) {
                        let most = u64::from(burst) + (to - from) / 100;
                        prop_assert!((last - first + 1) as u64 <= most, "{times:?}");
                    }
                }
            }
        }
    }
}

//! Percentiles of recent latencies in bounded memory.
//!
//! What is long for a service changes with its load and its deployments, so a percentile over all
//! time is wrong after each of them. Two histograms take turns: one is filled while the other, full,
//! still counts, and each turn forgets the older. Recording is an increment of one of a few hundred
//! buckets; nothing is allocated, and nothing grows with the rate.
//!
//! Buckets are log-linear, as HdrHistogram's: sixteen for each doubling, so that a percentile is
//! read at most a sixteenth above the latency that it stands for, and never below it.
//!
//! # What to record
//! The time to the response head of an attempt that was answered; and of one that was given up
//! because a hedge won, the time that it had waited. That is less than it would have taken, but it
//! is beyond the delay that led to the hedge, so it stays on the right side of the percentile.
//! Without it only fast answers would be counted, the percentile would sink, and more and more
//! would be hedged.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::fields;

/// Buckets for each doubling of the latency.
const PER_DOUBLING: u32 = 1 << SUB_BITS;
const SUB_BITS: u32 = 4;
/// The longest latency that is told apart, 2^27 µs or 134 s; beyond it all are alike.
const DOUBLINGS: u32 = 27;
const BUCKETS: usize = ((DOUBLINGS - SUB_BITS + 1) * PER_DOUBLING) as usize;

/// How many samples should lie beyond a percentile before it is believed. With ten, the share of
/// requests that really is beyond it is off by a third (one over the root of ten); with one, it is
/// a guess.
const BEYOND: f64 = 10.0;

/// What "recent" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DigestOptions {
    /// How long a latency counts at most; at least half as long. 30 s: enough for a percentile of
    /// 0.95 at 14 requests per second, and short against a deployment.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub window: Duration,
}

impl Default for DigestOptions {
    fn default() -> Self {
        Self { window: Duration::from_secs(30) }
    }
}

/// The latencies of one cluster. 3 KiB.
#[derive(Clone, Debug)]
pub struct LatencyDigest {
    /// Half of the window: how long a histogram is filled.
    turn: Duration,
    /// When the newer one began; `None` before the first sample.
    since: Option<Instant>,
    newer: Histogram,
    older: Histogram,
}

#[derive(Clone, Debug)]
struct Histogram {
    counts: [u32; BUCKETS],
    total: u64,
}

impl Histogram {
    const EMPTY: Histogram = Histogram { counts: [0; BUCKETS], total: 0 };
}

impl LatencyDigest {
    /// A digest that knows nothing.
    pub fn new(options: &DigestOptions) -> Self {
        Self {
            turn: (options.window / 2).max(Duration::from_nanos(1)),
            since: None,
            newer: Histogram::EMPTY,
            older: Histogram::EMPTY,
        }
    }

    /// How many latencies have to be known before [`LatencyDigest::percentile`] answers: ten beyond
    /// the percentile and ten before it, so 20 for the median, 200 for 0.95 and 1000 for 0.99.
    pub fn samples_needed(share: f64) -> u64 {
        let rarer_side = share.min(1.0 - share);
        // A share of 0.05 is 0.050000000000000044 when it is 1 − 0.95: that is still 200.
        let needed = libm::ceil(BEYOND / rarer_side - 1e-6);
        // Saturates at the ends, where no number is enough.
        needed as u64
    }

    /// Takes note of one latency.
    pub fn record(&mut self, latency: Duration, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= self.turn {
            let ended = std::mem::replace(&mut self.newer, Histogram::EMPTY);
            let is_recent = elapsed < self.turn * 2;
            self.older = if is_recent { ended } else { Histogram::EMPTY };
            // Turns follow each other without a gap, or a pause would lengthen what counts.
            self.since = Some(if is_recent { since + self.turn } else { now });
        }
        let count = &mut self.newer.counts[bucket(latency)];
        *count = count.saturating_add(1);
        self.newer.total += 1;
    }

    /// The latency that a `share` of recent ones does not exceed, at most a sixteenth too high;
    /// `None` until [`LatencyDigest::samples_needed`] are known.
    pub fn percentile(&self, share: f64, now: Instant) -> Option<Duration> {
        let elapsed = now.saturating_duration_since(self.since?);
        // As `record` would find it, without the writing.
        let (newer, older) = match () {
            () if elapsed < self.turn => (Some(&self.newer), Some(&self.older)),
            () if elapsed < self.turn * 2 => (Some(&self.newer), None),
            () => (None, None),
        };
        let total = newer.map_or(0, |h| h.total) + older.map_or(0, |h| h.total);
        if total < Self::samples_needed(share) {
            return None;
        }
        let rank = libm::ceil(share * total as f64) as u64;
        let count = |histogram: Option<&Histogram>, bucket: usize| {
            histogram.map_or(0, |histogram| u64::from(histogram.counts[bucket]))
        };
        let mut seen = 0;
        let found = (0..BUCKETS).find(|bucket| {
            seen += count(newer, *bucket) + count(older, *bucket);
            seen >= rank
        });
        found.map(upper_end)
    }

    /// What an attempt is expected to take: the median of recent latencies, `None` until twenty are
    /// known. Not more than that: a retry that has an even chance is worth its price.
    pub fn expected(&self, now: Instant) -> Option<Duration> {
        self.percentile(0.5, now)
    }
}

/// The bucket of a latency.
fn bucket(latency: Duration) -> usize {
    let longest = (1_u64 << DOUBLINGS) - 1;
    let us = u64::try_from(latency.as_micros()).unwrap_or(longest).min(longest);
    // Values below 16 µs have a bucket each; above, the highest five bits are told apart.
    let shift = (u64::BITS - us.leading_zeros()).saturating_sub(SUB_BITS + 1);
    let place = u64::from(shift * PER_DOUBLING) + (us >> shift);
    // Below BUCKETS, so it fits.
    place as usize
}

/// The first latency that belongs to the next bucket: nothing in this one is longer.
fn upper_end(bucket: usize) -> Duration {
    let next = bucket as u64 + 1;
    let shift = (next / u64::from(PER_DOUBLING)).saturating_sub(1);
    Duration::from_micros((next - shift * u64::from(PER_DOUBLING)) << shift)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    fn digest() -> LatencyDigest {
        LatencyDigest::new(&DigestOptions::default())
    }

    #[test]
    fn buckets_join_without_a_gap_up_to_the_longest() {
        for place in 0..BUCKETS {
            let end = upper_end(place);
            assert_eq!(bucket(end - Duration::from_nanos(1)), place, "below {end:?}");
            assert_eq!(bucket(end), (place + 1).min(BUCKETS - 1), "at {end:?}");
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn nothing_is_known_until_enough_lie_beyond() {
        for (share, needed) in [(0.5, 20), (0.9, 100), (0.95, 200), (0.99, 1000), (0.05, 200)] {
            assert_eq!(LatencyDigest::samples_needed(share), needed);
            let now = Instant::now();
            let mut digest = digest();
            for _ in 1..needed {
                digest.record(us(100), now);
            }
            assert_eq!(digest.percentile(share, now), None, "{share} of {}", needed - 1);
            digest.record(us(100), now);
            assert!(digest.percentile(share, now).is_some(), "{share} of {needed}");
        }
        assert_eq!(LatencyDigest::samples_needed(1.0), u64::MAX);
    }

    #[test]
    fn latencies_are_forgotten_between_half_a_window_and_a_whole_one() {
        let start = Instant::now();
        let mut digest = digest();
        let at = |ms| start + Duration::from_millis(ms);
        for _ in 0..20 {
            digest.record(us(1000), start);
        }
        assert!(digest.expected(at(14_999)).is_some());
        // The first to come after half a window is in the next turn; the old still count.
        digest.record(us(1000), at(29_000));
        assert!(digest.expected(at(29_999)).is_some());
        assert_eq!(digest.expected(at(30_000)), None);
        digest.record(us(1000), at(30_000));
        assert_eq!(digest.expected(at(30_000)), None);
    }

    #[test]
    fn without_new_ones_latencies_are_forgotten_too() {
        let start = Instant::now();
        let mut digest = digest();
        for _ in 0..20 {
            digest.record(us(1000), start);
        }
        assert!(digest.expected(start + Duration::from_millis(29_999)).is_some());
        assert_eq!(digest.expected(start + Duration::from_secs(30)), None);
        digest.record(us(1000), start + Duration::from_secs(30));
        assert_eq!(digest.expected(start + Duration::from_secs(30)), None);
    }

    proptest! {
        /// Never below the exact percentile, and never more than a sixteenth above it.
        #[test]
        fn percentiles_are_at_most_a_sixteenth_high(
            latencies_us in prop::collection::vec(0..100_000_000_u64, 20..500), share in 0.01..0.99,
        ) {
            let now = Instant::now();
            let mut digest = digest();
            for latency in &latencies_us {
                digest.record(us(*latency), now);
            }
            let mut sorted = latencies_us;
            sorted.sort_unstable();
            let is_known = sorted.len() as u64 >= LatencyDigest::samples_needed(share);
            let found = digest.percentile(share, now);
            prop_assert_eq!(found.is_some(), is_known);
            if let Some(found) = found {
                let exact = sorted[(share * sorted.len() as f64).ceil() as usize - 1];
                prop_assert!(found > us(exact));
                prop_assert!(found <= us(exact + exact / 16 + 1), "{found:?} for {exact} µs");
            }
        }
    }
}

//! How many retries a cluster gets: a share of its requests, and a few more.
//!
//! A limit of retries for each request does not bound their sum. While a few requests fail, three
//! tries each are cheap; when all fail, they are three times the load, on endpoints that are down
//! *because* of load, and they keep them down. A budget bounds the sum instead: a request deposits
//! a share of a retry, a retry takes a whole one, and when nothing is left, failures are passed on.
//! The scheme is Finagle's `RetryBudget`, which tower has too: a window, a ratio and a reserve for
//! callers that make few requests.
//!
//! Unlike theirs, the arithmetic is exact: the ratio is an integer in millionths, so that no
//! rounding adds up and a ratio of 0.3 is not three whole requests for each retry.
//!
//! # What is bounded
//! Time is cut into buckets of a tenth of the window; the *window of an instant* is its bucket and
//! the nine before. A reservation is granted only if, with it,
//!
//! ```text
//! retries in the window ≤ ratio · requests in the window + reserve per second · window
//! ```
//!
//! holds. So over the life of a budget, `retries ≤ ratio · requests + reserve per second · window ·
//! ⌈elapsed / window⌉`, with elapsed time counted in whole buckets: windows that end at their last
//! retry, taken from the last one backwards, are disjoint and cover every retry. In a total outage
//! the load on a cluster is thus at most `1 + ratio + reserve / rate` times what callers ask for,
//! at any rate.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::fields;

/// Buckets in a window. Ten, as in Finagle and tower: what is deposited expires in steps of a tenth.
const BUCKETS: usize = 10;

/// What one retry costs, in the unit of the balance: a ratio is kept in millionths.
const RETRY: u64 = 1_000_000;

/// The bounds of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetOptions {
    /// Retries per request, 0 to 1, to six decimals. 0.2, as Finagle's and Linkerd's: what a
    /// cluster with the usual headroom can take on top, and enough to hide an instance of five.
    #[serde(deserialize_with = "fields::ratio")]
    pub ratio: f64,
    /// How long a deposit can be drawn on. 10 s, as Finagle's: longer than an endpoint's failure
    /// goes unnoticed, and short enough that a quiet night pays for nobody's storm.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub window: Duration,
    /// Retries per second of the window that need no deposit. 3, where Finagle has 10: it is there
    /// for callers of a few requests per second, whose ratio is less than one retry, and gives
    /// them 30 at once, more than are in flight when an instance dies. It is also what every
    /// sidecar adds in a total outage whatever the ratio says: of a hundred sidecars that is 300
    /// requests per second and not 1000.
    pub min_per_second: u32,
}

impl Default for BudgetOptions {
    fn default() -> Self {
        Self { ratio: 0.2, window: Duration::from_secs(10), min_per_second: 3 }
    }
}

/// The right to one retry, granted by [`Budget::try_reserve`].
///
/// To drop it is to use it. A request that dies before its retry is sent hands it back to
/// [`Budget::give_back`]; a reservation cannot be handed back twice, nor made up.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reservation that is not given back counts as a retry"]
pub struct Reservation {
    tick: u64,
}

/// The requests and retries of the last window, and what may still be retried.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Millionths of a retry that a request deposits.
    deposit: u64,
    /// Millionths of a retry that need no deposit.
    reserve: u64,
    bucket_ns: u64,
    /// The first instant that it was told of; buckets are counted from there.
    origin: Option<Instant>,
    /// The newest bucket, counted from the origin; its place is `tick % BUCKETS`.
    tick: u64,
    buckets: [Bucket; BUCKETS],
    /// The sum of `buckets`.
    window: Bucket,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    requests: u64,
    retries: u64,
}

impl Budget {
    /// A budget that has seen no request: its reserve is whole.
    pub fn new(options: &BudgetOptions) -> Self {
        let millionths = (options.ratio * RETRY as f64).round();
        let window_ns = nanos(options.window);
        let reserve =
            u128::from(options.min_per_second) * u128::from(RETRY) * options.window.as_nanos()
                / Duration::from_secs(1).as_nanos();
        Self {
            // Saturates; a ratio is at most 1 where it comes from configuration.
            deposit: millionths as u64,
            reserve: u64::try_from(reserve).unwrap_or(u64::MAX),
            bucket_ns: (window_ns / BUCKETS as u64).max(1),
            origin: None,
            tick: 0,
            buckets: [Bucket::default(); BUCKETS],
            window: Bucket::default(),
        }
    }

    /// Counts a request. Once for each that a caller makes, not for its retries and hedges.
    pub fn deposit(&mut self, now: Instant) {
        self.advance(now);
        self.buckets[place(self.tick)].requests += 1;
        self.window.requests += 1;
    }

    /// Takes one retry out of the budget, if there is one. *Before* the backoff: else all that wait
    /// would find the budget that one of them is about to use up.
    pub fn try_reserve(&mut self, now: Instant) -> Option<Reservation> {
        self.advance(now);
        if self.left(self.window) < RETRY {
            return None;
        }
        self.buckets[place(self.tick)].retries += 1;
        self.window.retries += 1;
        Some(Reservation { tick: self.tick })
    }

    /// Takes back what was reserved for a retry that was never sent. It counts for the time at
    /// which it was reserved: beyond the window it is worth nothing.
    pub fn give_back(&mut self, reservation: Reservation) {
        let Reservation { tick } = reservation;
        let is_in_window = tick <= self.tick && self.tick - tick < BUCKETS as u64;
        let bucket = &mut self.buckets[place(tick)];
        // A reservation of another budget may find nothing here.
        if is_in_window && bucket.retries > 0 {
            bucket.retries -= 1;
            self.window.retries -= 1;
        }
    }

    /// Whole retries that would be granted at `now`.
    pub fn balance(&self, now: Instant) -> u64 {
        let tick = self.tick_at(now);
        let kept = (tick + 1).saturating_sub(BUCKETS as u64)..=self.tick;
        let mut window = Bucket::default();
        for Bucket { requests, retries } in kept.map(|tick| self.buckets[place(tick)]) {
            window.requests += requests;
            window.retries += retries;
        }
        self.left(window) / RETRY
    }

    /// Millionths of a retry that are left of a window.
    fn left(&self, window: Bucket) -> u64 {
        let income = window.requests.saturating_mul(self.deposit).saturating_add(self.reserve);
        income.saturating_sub(window.retries.saturating_mul(RETRY))
    }

    /// The bucket of `now`, never an earlier one than the newest.
    fn tick_at(&self, now: Instant) -> u64 {
        let elapsed =
            self.origin.map_or(Duration::ZERO, |origin| now.saturating_duration_since(origin));
        (nanos(elapsed) / self.bucket_ns).max(self.tick)
    }

    /// Moves on to the bucket of `now` and forgets what has left the window.
    fn advance(&mut self, now: Instant) {
        self.origin.get_or_insert(now);
        let tick = self.tick_at(now);
        let passed = tick - self.tick;
        for step in 1..=passed.min(BUCKETS as u64) {
            let expired = std::mem::take(&mut self.buckets[place(self.tick + step)]);
            self.window.requests -= expired.requests;
            self.window.retries -= expired.retries;
        }
        self.tick = tick;
    }
}

fn place(tick: u64) -> usize {
    // Below ten, so it fits.
    (tick % BUCKETS as u64) as usize
}

/// 584 years at most.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests;

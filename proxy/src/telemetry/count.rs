//! Counters without locks: what the path adds to and a scrape reads.
//!
//! prometheus-client's `Histogram` takes a mutex for each observation. With several workers and one
//! busy endpoint that is the one lock that all of them share, taken at the worst time; here an
//! observation is two additions.
//!
//! Additions are released and reads acquire, which costs nothing on the machines that matter. Who
//! reads a counter has then seen all that was counted before it, so reading ends before beginnings
//! gives books that balance while they are being written; see [`super::totals`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn up(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Release);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What is or is not so at the moment.
#[derive(Debug, Default)]
pub(super) struct Switch(AtomicBool);

impl Switch {
    pub(super) fn set(&self, on: bool) {
        self.0.store(on, Ordering::Release);
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A counter for each of `N` names, by place.
#[derive(Debug)]
pub(super) struct CounterBy<const N: usize>([Counter; N]);

impl<const N: usize> Default for CounterBy<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> CounterBy<N> {
    pub(super) fn up(&self, place: usize) {
        self.0[place].up();
    }

    pub(super) fn get(&self) -> [u64; N] {
        std::array::from_fn(|place| self.0[place].get())
    }
}

/// Status classes, by name.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place of a status in [`CLASSES`]. What is above 599 is somebody's invention and no success.
pub(super) fn class(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1
}

/// Upper edges of latency buckets in nanoseconds: 0.5 ms to 10 s, each about twice the one before,
/// which is what a dashboard can use; exact percentiles come from the load generator.
const EDGES_NS: [u64; EDGES_S.len()] = {
    let mut edges = [0; EDGES_S.len()];
    let mut place = 0;
    while place < edges.len() {
        edges[place] = (EDGES_S[place] * 1e6) as u64 * 1000;
        place += 1;
    }
    edges
};

/// The same in seconds, as the exposition spells them.
const EDGES_S: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Latencies by bucket; the last is for what is above every edge.
#[derive(Debug, Default)]
pub(super) struct LatencyCounter {
    buckets: CounterBy<{ EDGES_S.len() + 1 }>,
    /// In microseconds: in nanoseconds, a thousand requests in flight would overflow it in months.
    sum_us: Counter,
}

impl LatencyCounter {
    pub(super) fn observe(&self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.sum_us.add(ns.saturating_add(500) / 1000);
        self.buckets.up(EDGES_NS.partition_point(|edge| *edge < ns));
    }

    pub(super) fn get(&self) -> Latencies {
        // The count before the sum would do as well: a sum that is one observation off is no lie.
        Latencies { buckets: self.buckets.get(), sum_us: self.sum_us.get() }
    }
}

/// What was observed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    buckets: [u64; EDGES_S.len() + 1],
    sum_us: u64,
}

impl Latencies {
    /// How many.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// Upper edge in seconds and count of each bucket; not cumulated.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        EDGES_S.into_iter().chain([f64::INFINITY]).zip(self.buckets)
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (own, more) in self.buckets.iter_mut().zip(other.buckets) {
            *own += more;
        }
        self.sum_us += other.sum_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `le` means less or equal: an edge belongs to its own bucket, one nanosecond more does not.
    #[test]
    fn a_latency_is_in_the_first_bucket_whose_edge_it_does_not_exceed() {
        for (place, (seconds, _)) in Latencies::default().buckets().enumerate() {
            if place == EDGES_S.len() {
                break;
            }
            let edge = Duration::from_nanos(EDGES_NS[place]);
            assert_eq!(edge.as_secs_f64(), seconds, "the two lists are one");
            let counter = LatencyCounter::default();
            counter.observe(edge);
            counter.observe(edge + Duration::from_nanos(1));
            let buckets = counter.get().buckets;
            assert_eq!((buckets[place], buckets[place + 1]), (1, 1), "{edge:?}");
        }
    }

    #[test]
    fn sums_are_rounded_to_microseconds_and_the_longest_is_kept() {
        let counter = LatencyCounter::default();
        counter.observe(Duration::from_nanos(1499));
        counter.observe(Duration::from_nanos(1500));
        assert_eq!(counter.get().sum_us, 1 + 2);
        counter.observe(Duration::MAX);
        assert_eq!(counter.get().buckets[EDGES_S.len()], 1);
        assert_eq!(counter.get().count(), 3);
    }

    #[test]
    fn classes_hold_every_status_there_can_be() {
        for (status, name) in [(100, "1xx"), (199, "1xx"), (204, "2xx"), (500, "5xx"), (999, "5xx")]
        {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(CLASSES[class(status)], name);
        }
    }
}

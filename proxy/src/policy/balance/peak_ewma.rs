//! Of two random endpoints, the one with the lower expected wait.
//!
//! The expected wait is a latency estimate times the requests that would be in flight. The
//! estimate is Finagle's *peak* EWMA: an observation above it replaces it at once, one below it
//! only pulls it down over the decay time. One bad second is believed immediately and forgiven
//! slowly, which is the right way round when the price of being wrong is somebody's timeout.
//!
//! Five details decide whether it works:
//! - **Reading decays too**, also what was never learnt. An endpoint that is avoided is never
//!   observed, so without decay on read it would be avoided for ever; and one that was never tried
//!   would wait for ever behind peers that are faster than the default.
//! - **Silence counts.** An endpoint that hangs is not observed either, and a decaying estimate
//!   would draw requests to it while the last ones still hang. So while requests wait, the
//!   estimate is never read as less than the time for which callers have waited and nothing has
//!   come back.
//! - **A cancelled request counts, as twice that silence.** All that is known is that the endpoint
//!   would have taken longer; given a wait of `t` in vain, the expectation for latencies with a
//!   heavy tail (Pareto, α = 2) is `2t`. Silence is counted since the last answer and over all
//!   requests, so a caller that gives up every second on an endpoint that hangs for a minute
//!   probes it less and less often. It can only raise the estimate: that a caller gave up after
//!   50 ms does not make the endpoint fast.
//! - **A failure counts as a long wait.** A refused connection or an error takes a millisecond.
//!   Counted as that it would make a broken endpoint the fastest of all, and not counted at all it
//!   would leave it the idlest: both draw the traffic that it then fails.

use std::time::{Duration, Instant};

use rand::Rng;

use super::{Balancer, EndpointId, EndpointLoad, InFlight, LoadEvent, two_distinct};

/// Knobs of [`PeakEwma`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeakEwmaOptions {
    /// How long until an estimate has lost 63 % of its distance to what is observed. 10 s is what
    /// Finagle and Linkerd run with: long against a garbage collection, short against an outage.
    pub decay: Duration,
    /// The estimate of an endpoint that was never tried. Linkerd's 30 ms: a cold endpoint is worth
    /// a try against any that is slower, and is not flooded when the others are faster.
    pub default_latency: Duration,
    /// The latency that a failure counts as. Linkerd's 5 s: longer than a caller is likely to wait,
    /// so that any endpoint that works is preferred; forgiven over the decay time.
    pub failure_latency: Duration,
}

impl Default for PeakEwmaOptions {
    fn default() -> Self {
        Self {
            decay: Duration::from_secs(10),
            default_latency: Duration::from_millis(30),
            failure_latency: Duration::from_secs(5),
        }
    }
}

/// Latency estimates and requests in flight per endpoint.
#[derive(Clone, Debug)]
pub struct PeakEwma {
    decay_ns: f64,
    default_ns: f64,
    failure_latency: Duration,
    /// The first instant that it was told of, from which the default decays.
    born: Option<Instant>,
    /// `None` until the first observation of the endpoint.
    estimates: Vec<Option<Estimate>>,
    silences: Vec<Silence>,
    in_flight: InFlight,
}

/// A latency in nanoseconds as it was at an instant.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    latency_ns: f64,
    at: Instant,
}

/// How long callers have waited since the endpoint last answered, idle time left out.
#[derive(Clone, Copy, Debug, Default)]
struct Silence {
    /// Requests without an answer so far.
    waiting: u32,
    /// Waited before `since`.
    before: Duration,
    /// Since when there has been somebody waiting; `None` while there is not.
    since: Option<Instant>,
}

impl Silence {
    fn lasted(&self, now: Instant) -> Duration {
        self.before
            + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn observe(&mut self, event: LoadEvent, now: Instant) {
        match event {
            LoadEvent::Sent => {
                self.waiting += 1;
                self.since.get_or_insert(now);
            }
            // Not silent, even if what it says is no.
            LoadEvent::Answered { .. } | LoadEvent::Failed { .. } => {
                self.waiting -= 1;
                self.before = Duration::ZERO;
                self.since = (self.waiting > 0).then_some(now);
            }
            LoadEvent::Cancelled { .. } => {
                self.waiting -= 1;
                if self.waiting == 0 {
                    self.before = self.lasted(now);
                    self.since = None;
                }
            }
            LoadEvent::Ended => {}
        }
    }
}

impl PeakEwma {
    /// Over endpoints `0..endpoints`.
    pub fn new(endpoints: usize, options: PeakEwmaOptions) -> Self {
        Self {
            decay_ns: nanos(options.decay),
            default_ns: nanos(options.default_latency),
            failure_latency: options.failure_latency,
            born: None,
            estimates: vec![None; endpoints],
            silences: vec![Silence::default(); endpoints],
            in_flight: InFlight::new(endpoints),
        }
    }

    /// The share of an old value that is left after `elapsed`, 1 to 0.
    fn remaining(&self, elapsed: Duration) -> f64 {
        libm::exp(-nanos(elapsed) / self.decay_ns)
    }

    fn latency_ns(&self, endpoint: EndpointId, now: Instant) -> f64 {
        let untried = Estimate { latency_ns: self.default_ns, at: self.born.unwrap_or(now) };
        let Estimate { latency_ns, at } = self.estimates[endpoint.0].unwrap_or(untried);
        let learnt = latency_ns * self.remaining(now.saturating_duration_since(at));
        let silence = &self.silences[endpoint.0];
        if silence.waiting == 0 { learnt } else { learnt.max(nanos(silence.lasted(now))) }
    }

    fn cost(&self, endpoint: EndpointId, now: Instant) -> f64 {
        self.latency_ns(endpoint, now) * (f64::from(self.in_flight.get(endpoint)) + 1.0)
    }

    fn learn(&mut self, endpoint: EndpointId, latency: Duration, now: Instant) {
        let observed = nanos(latency);
        let latency_ns = match self.estimates[endpoint.0] {
            Some(old) if observed <= old.latency_ns => {
                let remaining = self.remaining(now.saturating_duration_since(old.at));
                old.latency_ns * remaining + observed * (1.0 - remaining)
            }
            _ => observed,
        };
        self.estimates[endpoint.0] = Some(Estimate { latency_ns, at: now });
    }

    fn learn_cancelled(&mut self, endpoint: EndpointId, now: Instant) {
        let expected = self.silences[endpoint.0].lasted(now) * 2;
        if nanos(expected) > self.latency_ns(endpoint, now) {
            self.learn(endpoint, expected, now);
        }
    }
}

fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

impl Balancer for PeakEwma {
    fn pick(
        &mut self,
        ready: &[EndpointId],
        now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        self.born.get_or_insert(now);
        let (first, second) = two_distinct(ready, rng)?;
        let second_is_cheaper = self.cost(second, now) < self.cost(first, now);
        Some(if second_is_cheaper { second } else { first })
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, now: Instant) {
        self.in_flight.observe(endpoint, event);
        match event {
            LoadEvent::Answered { latency } => self.learn(endpoint, latency, now),
            LoadEvent::Failed { .. } => self.learn(endpoint, self.failure_latency, now),
            LoadEvent::Cancelled { .. } => self.learn_cancelled(endpoint, now),
            LoadEvent::Sent | LoadEvent::Ended => {}
        }
        self.silences[endpoint.0].observe(event, now);
    }

    fn load(&self, endpoint: EndpointId, now: Instant) -> EndpointLoad {
        EndpointLoad {
            in_flight: self.in_flight.get(endpoint),
            latency_estimate: Some(Duration::from_nanos(self.latency_ns(endpoint, now) as u64)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use super::*;
    use crate::rng::stream;

    const A: EndpointId = EndpointId(0);
    const B: EndpointId = EndpointId(1);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn estimate_ms(balancer: &PeakEwma, endpoint: EndpointId, now: Instant) -> u128 {
        balancer.load(endpoint, now).latency_estimate.map_or(0, |d| d.as_millis())
    }

    fn answer(balancer: &mut PeakEwma, endpoint: EndpointId, latency: Duration, now: Instant) {
        balancer.observe(endpoint, LoadEvent::Sent, now);
        balancer.observe(endpoint, LoadEvent::Answered { latency }, now);
        balancer.observe(endpoint, LoadEvent::Ended, now);
    }

    #[test]
    fn a_peak_is_believed_at_once_and_forgiven_over_the_decay_time() {
        let start = Instant::now();
        let mut balancer = PeakEwma::new(2, PeakEwmaOptions::default());
        answer(&mut balancer, A, ms(100), start);
        answer(&mut balancer, A, ms(1000), start);
        assert_eq!(estimate_ms(&balancer, A, start), 1000);
        // One decay time later an observation of 100 ms moves it to 100 + 900/e.
        let later = start + Duration::from_secs(10);
        answer(&mut balancer, A, ms(100), later);
        assert_eq!(estimate_ms(&balancer, A, later), 431);
    }

    #[test]
    fn an_endpoint_that_is_avoided_is_tried_again() {
        let start = Instant::now();
        let mut balancer = PeakEwma::new(2, PeakEwmaOptions::default());
        let mut rng = stream(1, "test");
        answer(&mut balancer, A, ms(1000), start);
        answer(&mut balancer, B, ms(100), start);
        assert_eq!(balancer.pick(&[A, B], start, &mut rng), Some(B));
        // B goes on answering in 100 ms; A, unobserved, falls below it after 10 s · ln 10 = 23 s.
        let second = |n| start + Duration::from_secs(n);
        for n in 1..=23 {
            answer(&mut balancer, B, ms(100), second(n));
            assert_eq!(balancer.pick(&[A, B], second(n), &mut rng), Some(B), "after {n} s");
        }
        answer(&mut balancer, B, ms(100), second(24));
        assert_eq!(balancer.pick(&[A, B], second(24), &mut rng), Some(A));
    }

    /// One request that is given up after `elapsed`; returns when.
    fn give_up(balancer: &mut PeakEwma, elapsed: Duration, start: Instant) -> Instant {
        let end = start + elapsed;
        balancer.observe(A, LoadEvent::Sent, start);
        balancer.observe(A, LoadEvent::Cancelled { elapsed }, end);
        balancer.observe(A, LoadEvent::Ended, end);
        end
    }

    #[test]
    fn a_cancelled_request_raises_the_estimate_and_never_lowers_it() {
        let start = Instant::now();
        for (elapsed, estimate) in [(50, 199), (98, 198), (100, 200), (1000, 2000)] {
            let mut balancer = PeakEwma::new(1, PeakEwmaOptions::default());
            answer(&mut balancer, A, ms(200), start);
            let end = give_up(&mut balancer, ms(elapsed), start);
            assert_eq!(estimate_ms(&balancer, A, end), estimate, "given up after {elapsed} ms");
        }
    }

    #[test]
    fn silence_adds_up_over_cancelled_requests_until_an_answer() {
        let mut now = Instant::now();
        let mut balancer = PeakEwma::new(1, PeakEwmaOptions::default());
        for (waited, estimate) in [(1, 2000), (2, 4000), (3, 6000)] {
            // Idle time between the requests is not silence.
            now = give_up(&mut balancer, ms(1000), now + Duration::from_secs(5));
            assert_eq!(estimate_ms(&balancer, A, now), estimate, "{waited} s waited in all");
        }
        answer(&mut balancer, A, ms(100), now);
        let end = give_up(&mut balancer, ms(100), now);
        assert!(estimate_ms(&balancer, A, end) < 6000);
    }

    #[test]
    fn an_endpoint_that_hangs_does_not_look_better_with_time() {
        let start = Instant::now();
        let mut balancer = PeakEwma::new(2, PeakEwmaOptions::default());
        let mut rng = stream(1, "test");
        answer(&mut balancer, A, ms(100), start);
        balancer.observe(A, LoadEvent::Sent, start);
        for n in 1..=60 {
            let now = start + Duration::from_secs(n);
            answer(&mut balancer, B, ms(100), now);
            assert_eq!(balancer.pick(&[A, B], now, &mut rng), Some(B), "after {n} s");
            assert!(estimate_ms(&balancer, A, now) >= u128::from(n) * 1000);
        }
    }

    #[test]
    fn an_endpoint_that_fails_at_once_is_avoided_and_tried_again() {
        let start = Instant::now();
        let mut balancer = PeakEwma::new(2, PeakEwmaOptions::default());
        let mut rng = stream(1, "test");
        balancer.observe(A, LoadEvent::Sent, start);
        balancer.observe(A, LoadEvent::Failed { elapsed: ms(1) }, start);
        balancer.observe(A, LoadEvent::Ended, start);
        // B answers in 100 ms; A falls below that after 10 s · ln 50 = 39.1 s.
        let second = |n| start + Duration::from_secs(n);
        for n in 0..=39 {
            answer(&mut balancer, B, ms(100), second(n));
            assert_eq!(balancer.pick(&[A, B], second(n), &mut rng), Some(B), "after {n} s");
        }
        answer(&mut balancer, B, ms(100), second(40));
        assert_eq!(balancer.pick(&[A, B], second(40), &mut rng), Some(A));
    }

    #[test]
    fn an_endpoint_that_was_never_tried_is_tried_in_time() {
        let start = Instant::now();
        let mut balancer = PeakEwma::new(2, PeakEwmaOptions::default());
        let mut rng = stream(1, "test");
        // A is faster than the default of 30 ms; B falls below it after 10 s · ln 3 = 11 s.
        let picks: Vec<_> = (0..=11)
            .filter_map(|n| {
                let now = start + Duration::from_secs(n);
                answer(&mut balancer, A, ms(10), now);
                balancer.pick(&[A, B], now, &mut rng)
            })
            .collect();
        assert_eq!(picks.split_last(), Some((&B, &[A; 11][..])));
    }

    #[test]
    fn requests_in_flight_multiply_the_estimate() {
        let now = Instant::now();
        let mut balancer = PeakEwma::new(2, PeakEwmaOptions::default());
        let mut rng = stream(1, "test");
        answer(&mut balancer, A, ms(100), now);
        answer(&mut balancer, B, ms(190), now);
        assert_eq!(balancer.pick(&[A, B], now, &mut rng), Some(A));
        balancer.observe(A, LoadEvent::Sent, now);
        assert_eq!(balancer.pick(&[A, B], now, &mut rng), Some(B));
    }
}

//! As many requests at once as the other side can work on, found out by watching latency.
//!
//! A fixed limit is wrong as soon as the other side is scaled, deployed or slowed: too high, it
//! lets queues build up in which every request waits for longer than its caller does; too low, it
//! refuses what could be served. By Little's law the right one is throughput times latency without
//! queueing, so a limit is too high when latency has risen above that. After Netflix's
//! concurrency-limits (`Gradient2Limit`) and Envoy's `adaptive_concurrency`:
//!
//! ```text
//! gradient = clamp(tolerance · baseline / latency, 0.5, 2)
//! limit    = gradient · limit + √limit
//! ```
//!
//! `√limit` is the queue that is allowed, without which the limit could never grow. What decides
//! whether it works is the baseline, the latency without our queueing, and this differs from
//! Envoy, which pins the limit to a few at each measurement and refuses most requests meanwhile,
//! overload or none (envoy#8337, envoy#46532):
//! - **While nobody is refused, there is nothing to measure apart**: the limit does not bind, and
//!   latency is what it is. The baseline follows it, down at once and up slowly, so that the slow
//!   beginning of an overload is not taken for the normal.
//! - **While somebody is, the limit is halved for a moment** and the latency of requests that
//!   began within it is the baseline. Half is enough: in equilibrium the limit is about 1.25 times
//!   what can be worked on, and √limit. From a baseline `f` times too high, one measurement makes
//!   it 0.6 `f`; as long as it helped, the next follows at once.
//! - **A measurement begins late.** The first answers to requests that began with it are those of
//!   the quick ones. A baseline of these alone is too low, and from about 0.8 of the true one
//!   downwards the formula's equilibrium, (1 − tolerance · error)⁻², is no longer in proportion to
//!   what can be worked on.
//! - **A limit that is not used is left alone**, as in Netflix: latency cannot come of it.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::fields;

/// The latencies of a window that its median is of: the last ones. Their error is then below the
/// tolerance, and finding it costs each some nanoseconds.
const KEPT: usize = 128;

/// By how much the baseline rises at most in an interval in which nobody was refused.
const RISE: f64 = 1.1;

/// For how many baselines a measurement waits until answers are as mixed as ever: of exponential
/// work, 6 % take longer.
const WARM_UP: f64 = 4.0;

/// How many times the answers of a window a measurement takes: what is relied on for a hundred
/// windows is to be better known than what is corrected by the next.
const PRECISION: u32 = 2;

/// Below this share of the old one, a measured baseline shows that the last one contained queueing
/// of ours; the new one may too. Above it is what medians of fifty differ by anyway: were that
/// enough, the smallest of several would be believed.
const HELPED: f64 = 0.75;

/// Knobs of [`Gradient`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GradientOptions {
    /// The limit to begin with. 100, more than one process usually works on: too high is put right
    /// by the first windows, too low refuses at every restart.
    pub initial: NonZeroU32,
    /// The least. 3, as Envoy: below, there are too few answers to learn from.
    pub min: NonZeroU32,
    /// The most. 1000, as Envoy; the connections of a pool are 1024.
    pub max: NonZeroU32,
    /// The rise in latency that is not yet held against the limit, as a factor. 1.25, as Envoy's
    /// buffer of 25 %: what a median of fifty varies by.
    #[serde(deserialize_with = "fields::tolerance")]
    pub tolerance: f64,
    /// How often the limit is set, at most. 100 ms, as Envoy.
    #[serde(deserialize_with = "fields::duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub window: Duration,
    /// The answers it takes to set it. 50, as many as Envoy measures its baseline by.
    pub min_samples: NonZeroU32,
    /// How long a baseline is relied on. 10 s, as long as BBR relies on its: a measurement costs
    /// one window of half the limit, not nearly all requests as in Envoy, whose examples have 60 s.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub baseline_interval: Duration,
}

impl Default for GradientOptions {
    fn default() -> Self {
        Self {
            initial: NonZeroU32::MIN.saturating_add(99),
            min: NonZeroU32::MIN.saturating_add(2),
            max: NonZeroU32::MIN.saturating_add(999),
            tolerance: 1.25,
            window: Duration::from_millis(100),
            min_samples: NonZeroU32::MIN.saturating_add(49),
            baseline_interval: Duration::from_secs(10),
        }
    }
}

/// How a request ended that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was answered after this long, or was given up after this long by a timeout: it would
    /// have taken longer.
    After(Duration),
    /// What can be learnt from it would be wrong: a failure that took no time, or a caller that
    /// left.
    Dropped,
}

/// A limit on requests in flight that follows latency.
#[derive(Clone, Debug)]
pub struct Gradient {
    options: GradientOptions,
    limit: f64,
    in_flight: u32,
    phase: Phase,
    /// Latency without our queueing; `None` until the first window.
    baseline_ns: Option<f64>,
    /// Whether anybody was refused since the baseline was set.
    has_refused: bool,
    window: Window,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The limit follows latency; from `until` on the baseline is out of date.
    Following { until: Instant },
    /// The limit is halved. Requests that began since then and are answered from `from` on are the
    /// measurement.
    Measuring { since: Instant, from: Instant },
}

/// The latencies since the limit was set last.
#[derive(Clone, Debug)]
struct Window {
    began: Instant,
    /// A ring of the last ones, at most [`KEPT`].
    latencies_ns: Vec<u64>,
    seen: u32,
    /// The most requests in flight.
    peak: u32,
}

impl Gradient {
    /// Nothing is in flight, and nothing known.
    pub fn new(options: GradientOptions, now: Instant) -> Self {
        let mut new = Self {
            options,
            limit: f64::from(options.initial.get()),
            in_flight: 0,
            phase: Phase::Following { until: now },
            baseline_ns: None,
            has_refused: false,
            window: Window { began: now, latencies_ns: Vec::with_capacity(KEPT), seen: 0, peak: 0 },
        };
        new.set_limit(new.limit);
        new
    }

    /// Whether one more request may go on. It is then counted until [`Gradient::on_end`].
    #[must_use]
    pub fn admit(&mut self) -> bool {
        if self.in_flight >= self.limit() {
            self.has_refused = true;
            return false;
        }
        self.in_flight += 1;
        self.window.peak = self.window.peak.max(self.in_flight);
        true
    }

    /// A request that was admitted has ended.
    ///
    /// # Panics
    /// When none is in flight.
    pub fn on_end(&mut self, ended: Ended, now: Instant) {
        assert!(self.in_flight > 0, "a request ended that was not admitted");
        self.in_flight -= 1;
        let Ended::After(latency) = ended else { return };
        let mut enough = self.options.min_samples.get();
        if let Phase::Measuring { since, from } = self.phase {
            let began_before = now.saturating_duration_since(since) < latency;
            if began_before || now < from {
                return;
            }
            enough = enough.saturating_mul(PRECISION);
        }
        self.window.record(latency);
        let is_whole = self.window.seen >= enough
            && now.saturating_duration_since(self.window.began) >= self.options.window;
        if is_whole {
            let latency_ns = self.window.median_ns();
            self.learn(latency_ns, now);
            self.window.restart(now, self.in_flight);
        }
    }

    /// Requests that may be in flight.
    pub fn limit(&self) -> u32 {
        let limit = match self.phase {
            Phase::Following { .. } => self.limit,
            Phase::Measuring { .. } => self.limit / 2.0,
        };
        // Never above `max`, which is one.
        (limit as u32).max(self.options.min.get())
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// What it takes for the latency without queueing of ours, if it knows.
    pub fn baseline(&self) -> Option<Duration> {
        self.baseline_ns.map(|ns| Duration::from_nanos(ns as u64))
    }

    fn learn(&mut self, latency_ns: f64, now: Instant) {
        let next = now + self.options.baseline_interval;
        let old_ns = self.baseline_ns.unwrap_or(latency_ns);
        match self.phase {
            // Measuring → Following
            Phase::Measuring { .. } => {
                let helped = latency_ns < old_ns * HELPED;
                self.baseline_ns = Some(latency_ns);
                self.has_refused = helped;
                self.phase = Phase::Following { until: if helped { now } else { next } };
            }
            Phase::Following { until } => {
                self.follow(latency_ns, old_ns);
                if now < until {
                    return;
                }
                if self.has_refused {
                    // Following → Measuring
                    self.baseline_ns = Some(old_ns);
                    let warm_up = Duration::from_nanos((old_ns * WARM_UP) as u64);
                    self.phase = Phase::Measuring { since: now, from: now + warm_up };
                } else {
                    // Following → Following
                    self.baseline_ns = Some(latency_ns.min(old_ns * RISE));
                    self.phase = Phase::Following { until: next };
                }
            }
        }
    }

    fn follow(&mut self, latency_ns: f64, baseline_ns: f64) {
        if f64::from(self.window.peak) * 2.0 < self.limit {
            return;
        }
        // A latency of zero is better than any: the clamp makes it 2.
        let gradient = (self.options.tolerance * baseline_ns / latency_ns.max(1.0)).clamp(0.5, 2.0);
        self.set_limit(gradient * self.limit + libm::sqrt(self.limit));
    }

    fn set_limit(&mut self, limit: f64) {
        let GradientOptions { min, max, .. } = self.options;
        self.limit = limit.min(f64::from(max.get())).max(f64::from(min.get()));
    }
}

impl Window {
    fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if self.latencies_ns.len() < KEPT {
            self.latencies_ns.push(ns);
        } else {
            self.latencies_ns[self.seen as usize % KEPT] = ns;
        }
        self.seen = self.seen.wrapping_add(1);
    }

    fn median_ns(&mut self) -> f64 {
        let middle = self.latencies_ns.len() / 2;
        let (_, median, _) = self.latencies_ns.select_nth_unstable(middle);
        *median as f64
    }

    fn restart(&mut self, now: Instant, in_flight: u32) {
        self.began = now;
        self.latencies_ns.clear();
        self.seen = 0;
        self.peak = in_flight;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::policy::limit::simulated::{Job, Line, Outcome, Setup};

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A window's worth of answers of this latency with this many requests in flight; returns when
    /// it ended.
    fn window(gradient: &mut Gradient, in_flight: u32, latency: Duration, now: Instant) -> Instant {
        let now = now + latency.max(ms(100));
        while gradient.in_flight() < in_flight {
            assert!(gradient.admit());
        }
        loop {
            gradient.on_end(Ended::After(latency), now);
            if gradient.window.seen == 0 {
                return now;
            }
            assert!(gradient.admit());
        }
    }

    #[test]
    fn the_limit_follows_the_formula() {
        for (latency, limit) in [
            // 1.25 · 100 + √100
            (100, 135),
            // 125/200 · 100 + √100
            (200, 72),
            // The gradient is 0.5 at the least,
            (1000, 60),
            // and 2 at the most.
            (10, 210),
        ] {
            let start = Instant::now();
            let mut gradient = Gradient::new(GradientOptions::default(), start);
            let now = window(&mut gradient, 40, ms(100), start);
            assert_eq!((gradient.limit(), gradient.baseline()), (100, Some(ms(100))));
            window(&mut gradient, 100, ms(latency), now);
            assert_eq!(gradient.limit(), limit, "after {latency} ms");
        }
    }

    #[test]
    fn a_limit_that_is_not_used_is_left_alone() {
        let start = Instant::now();
        for (in_flight, limit) in [(49, 100), (50, 60)] {
            let mut gradient = Gradient::new(GradientOptions::default(), start);
            let now = window(&mut gradient, 40, ms(100), start);
            window(&mut gradient, in_flight, ms(1000), now);
            assert_eq!(gradient.limit(), limit, "with {in_flight} in flight");
        }
    }

    #[test]
    fn the_baseline_falls_at_once_and_rises_slowly_while_nobody_is_refused() {
        let start = Instant::now();
        let mut gradient = Gradient::new(GradientOptions::default(), start);
        let mut now = window(&mut gradient, 10, ms(100), start);
        for (latency, baseline) in [(200, 110), (200, 121), (50, 50)] {
            window(&mut gradient, 10, ms(latency), now + Duration::from_secs(9));
            assert_ne!(gradient.baseline(), Some(ms(baseline)), "not before its time");
            now = window(&mut gradient, 10, ms(latency), now + Duration::from_secs(10));
            assert_eq!(gradient.baseline().map(|d| d.as_millis()), Some(u128::from(baseline)));
        }
    }

    #[test]
    fn a_measurement_halves_the_limit_and_ignores_what_began_before() {
        let start = Instant::now();
        let mut gradient = Gradient::new(GradientOptions::default(), start);
        while gradient.admit() {}
        let now = window(&mut gradient, 100, ms(400), start);
        let limit = gradient.limit();
        assert!(limit < 70, "{limit} is half of what it was");
        // Those in flight began before: nothing is learnt from them.
        while gradient.in_flight() > 0 {
            gradient.on_end(Ended::After(ms(400)), now + ms(300));
        }
        assert_eq!((gradient.limit(), gradient.baseline()), (limit, Some(ms(400))));
        // Nor from the first that began since: four baselines are 1.6 s.
        for after in [1_599, 1_600] {
            assert_eq!(gradient.window.seen, 0);
            assert!(gradient.admit());
            gradient.on_end(Ended::After(ms(100)), now + ms(after));
        }
        assert_eq!(gradient.window.seen, 1);
        window(&mut gradient, limit, ms(100), now + ms(1_600));
        assert_eq!(gradient.baseline(), Some(ms(100)));
        assert!(gradient.limit() >= 2 * limit);
    }

    #[test]
    fn what_was_dropped_frees_its_place_and_teaches_nothing() {
        let start = Instant::now();
        let mut gradient = Gradient::new(GradientOptions::default(), start);
        for _ in 0..1000 {
            assert!(gradient.admit());
            gradient.on_end(Ended::Dropped, start + Duration::from_secs(60));
        }
        assert_eq!((gradient.in_flight(), gradient.baseline()), (0, None));
    }

    #[test]
    fn options_are_checked_while_they_are_read() {
        let read = |text: &str| toml::from_str::<GradientOptions>(text);
        assert_eq!(read(""), Ok(GradientOptions::default()));
        assert_eq!(read("tolerance = 1").map(|options| options.tolerance), Ok(1.0));
        for wrong in ["tolerance = 0.9", "tolerance = 11", "min = 0", "window = 100"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    /// A server with a plain queue, behind this limit.
    struct Limited {
        gradient: Gradient,
        queue: VecDeque<Job>,
        refused: usize,
    }

    impl Limited {
        fn new(start: Instant) -> Self {
            let gradient = Gradient::new(GradientOptions::default(), start);
            Self { gradient, queue: VecDeque::new(), refused: 0 }
        }
    }

    impl Line for Limited {
        fn arrive(&mut self, job: Job, _now: Instant) {
            if self.gradient.admit() {
                self.queue.push_back(job);
            } else {
                self.refused += 1;
            }
        }

        fn next(&mut self, _now: Instant) -> Option<Job> {
            self.queue.pop_front()
        }

        fn done(&mut self, job: Job, now: Instant) {
            self.gradient.on_end(Ended::After(now - job.arrived), now);
        }
    }

    fn setup(seed: u64, workers: usize, load: f64, seconds: u64) -> Setup {
        Setup { seed, workers, work: ms(50), load, span: Duration::from_secs(seconds) }
    }

    /// Without a limit the p99 doubles with the time that the overload lasts. With it, it is what
    /// it is, the workers are busy, and the limit is found from whatever it began with.
    #[test]
    fn at_twice_the_capacity_latency_is_bounded_and_the_workers_are_busy() {
        let start = Instant::now();
        let p99 = |outcome: &Outcome| outcome.quantile_ms(0.99);
        for seed in 1..=5 {
            for workers in [5, 10, 50] {
                let mut before = 0.0;
                for seconds in [30, 60, 120] {
                    let setup = setup(seed, workers, 2.0, seconds);
                    let open = p99(&setup.run(&mut VecDeque::new(), start));
                    assert!(open > before * 1.8, "{open} ms after {before} ms");
                    before = open;
                    let limited = setup.run(&mut Limited::new(start), start);
                    assert!(p99(&limited) < 800.0, "{workers} workers: {} ms", p99(&limited));
                    let could = setup.capacity() * seconds as f64 / 2.0;
                    let did = limited.latencies_ms.len() as f64 / could;
                    assert!(did > 0.8, "{workers} workers did {did} of what they could");
                }
            }
        }
    }

    #[test]
    fn at_half_the_capacity_nobody_is_refused() {
        let start = Instant::now();
        for seed in 1..=10 {
            for workers in [5, 10, 50] {
                let mut line = Limited::new(start);
                setup(seed, workers, 0.5, 120).run(&mut line, start);
                assert_eq!(line.refused, 0, "seed {seed}, {workers} workers");
            }
        }
    }

    proptest! {
        /// Whatever it is told, it counts exactly and keeps to its bounds.
        #[test]
        fn the_limit_keeps_its_bounds(
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0..2_000u64), 1..1000),
        ) {
            let small = |n: u32| NonZeroU32::MIN.saturating_add(n - 1);
            let options = GradientOptions {
                initial: small(20), max: small(30), min_samples: small(2), ..Default::default()
            };
            let mut now = Instant::now();
            let mut gradient = Gradient::new(options, now);
            let mut in_flight = 0;
            for (begins, answered, millis) in steps {
                if begins {
                    let admits = in_flight < gradient.limit();
                    prop_assert_eq!(gradient.admit(), admits);
                    in_flight += u32::from(admits);
                } else if in_flight > 0 {
                    now += ms(millis / 10);
                    let after = Ended::After(ms(millis));
                    gradient.on_end(if answered { after } else { Ended::Dropped }, now);
                    in_flight -= 1;
                }
                prop_assert_eq!(gradient.in_flight(), in_flight);
                prop_assert!((3..=30).contains(&gradient.limit()));
            }
        }
    }
}

//! No requests to what fails anyway.
//!
//! Nygard's circuit breaker ("Release It!", 2007) as Hystrix made it common: when too many of the
//! recent requests failed, the next are refused at once, for a while; then a few are let through
//! to see. It prevents callers, connections and retries from being spent on waiting for errors,
//! and gives what fails the quiet to recover in.
//!
//! What decides whether it does more good than harm:
//! - **A rate over an exact window, and only of enough requests.** A count of failures opens on
//!   busy clusters that are well, a rate of three requests on idle ones.
//! - **A bounded number of probes.** Opening fully after a pause sends everything at once to
//!   what has just come up, which knocks it over again.
//! - **Answers from before a change of state change nothing.** Those to requests sent before the
//!   opening come in for as long as the timeout, and would answer for the probes.
//! - **Longer pauses as it goes on failing**, up to a bound, so that an outage of hours is not
//!   probed every few seconds by every sidecar; short again once it has been well for a window.
//!
//! Off unless configured: beside outlier ejection, which leaves out the endpoints that fail, it is
//! only of use where the whole cluster does.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::fields;

/// Knobs of [`Circuit`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitOptions {
    /// The share of failures in the window that opens it, above 0 and up to 1. A half, as
    /// Hystrix: below it, most callers are still served.
    #[serde(deserialize_with = "fields::positive_ratio")]
    pub failure_rate: f64,
    /// Requests that the window must have seen. 20, as Hystrix: a cluster that fails one in ten
    /// shows ten failures in twenty once in 140,000 windows.
    pub min_requests: NonZeroU32,
    /// Over how long failures are counted. 10 s, as Hystrix.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub window: Duration,
    /// Parts in which the window moves on. 10, as Hystrix and Linkerd: a second each.
    pub buckets: NonZeroUsize,
    /// The first pause. 5 s, as Hystrix: long enough for a process to restart.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub open_for: Duration,
    /// What the pause doubles up to. 1 min, as Linkerd's backoff: who has recovered is not kept
    /// waiting for longer than it takes to notice.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub max_open_for: Duration,
    /// Requests let through at once after a pause, and how many of them must succeed. 3: one may
    /// be lucky where a half of all fail; three are in one of eight cases.
    pub probes: NonZeroU32,
}

impl Default for CircuitOptions {
    fn default() -> Self {
        Self {
            failure_rate: 0.5,
            min_requests: NonZeroU32::MIN.saturating_add(19),
            window: Duration::from_secs(10),
            buckets: NonZeroUsize::MIN.saturating_add(9),
            open_for: Duration::from_secs(5),
            max_open_for: Duration::from_secs(60),
            probes: NonZeroU32::MIN.saturating_add(2),
        }
    }
}

/// What became of a request that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Success,
    /// It was not, or with what counts as a failure.
    Failure,
    /// Neither is known: the caller left.
    Unknown,
}

/// That a request was let through, and in which state. Comes back with its outcome, exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an outcome that is never recorded may be that of a probe"]
pub struct Pass {
    epoch: u64,
}

/// That a request was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When probes will be let through; `None` while they are under way.
    pub retry_after: Option<Duration>,
}

/// The state, for people to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Everything is let through.
    Closed,
    /// Nothing is.
    Open,
    /// Probes are.
    HalfOpen,
}

/// Lets requests through, or does not, by how the last ones went.
#[derive(Clone, Debug)]
pub struct Circuit {
    options: CircuitOptions,
    state: State,
    /// Counts the changes of state.
    epoch: u64,
    window: Window,
    /// Pauses since it was last well for a window.
    pauses: u32,
    closed_at: Instant,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { under_way: u32, succeeded: u32 },
}

impl Circuit {
    /// A closed one.
    pub fn new(options: CircuitOptions, now: Instant) -> Self {
        Self {
            options,
            state: State::Closed,
            epoch: 0,
            window: Window::new(options.window, options.buckets, now),
            pauses: 0,
            closed_at: now,
        }
    }

    /// Whether a request may go on.
    ///
    /// # Errors
    /// It may not.
    pub fn admit(&mut self, now: Instant) -> Result<Pass, Refused> {
        match &mut self.state {
            State::Closed => {}
            State::Open { until } if now < *until => {
                let retry_after = Some(until.duration_since(now));
                return Err(Refused { retry_after });
            }
            // Open → HalfOpen
            State::Open { .. } => self.turn(State::HalfOpen { under_way: 1, succeeded: 0 }),
            State::HalfOpen { under_way, succeeded } => {
                if *under_way + *succeeded >= self.options.probes.get() {
                    return Err(Refused { retry_after: None });
                }
                *under_way += 1;
            }
        }
        Ok(Pass { epoch: self.epoch })
    }

    /// Takes note of how a request went that was let through.
    pub fn record(&mut self, pass: Pass, outcome: Outcome, now: Instant) {
        if pass.epoch != self.epoch {
            return;
        }
        match (&mut self.state, outcome) {
            (State::Closed, Outcome::Unknown) => {}
            (State::Closed, Outcome::Success) => self.window.record(false, now),
            // Closed → (Closed | Open)
            (State::Closed, Outcome::Failure) => {
                self.window.record(true, now);
                let Tally { failed, requests } = self.window.tally;
                let rate = f64::from(failed) / f64::from(requests);
                if requests >= self.options.min_requests.get() && rate >= self.options.failure_rate
                {
                    if now.saturating_duration_since(self.closed_at) >= self.options.window {
                        self.pauses = 0;
                    }
                    self.open(now);
                }
            }
            // Nobody is let through while it is open, and each change of state is an epoch.
            (State::Open { .. }, _) => unreachable!("no pass is of an open circuit"),
            // HalfOpen → HalfOpen: another may try in its place.
            (State::HalfOpen { under_way, .. }, Outcome::Unknown) => *under_way -= 1,
            // HalfOpen → (HalfOpen | Closed)
            (State::HalfOpen { under_way, succeeded }, Outcome::Success) => {
                *under_way -= 1;
                *succeeded += 1;
                if *succeeded >= self.options.probes.get() {
                    self.window.clear(now);
                    self.closed_at = now;
                    self.turn(State::Closed);
                }
            }
            // HalfOpen → Open
            (State::HalfOpen { .. }, Outcome::Failure) => self.open(now),
        }
    }

    /// The state as of `now`.
    pub fn state(&self, now: Instant) -> CircuitState {
        match self.state {
            State::Closed => CircuitState::Closed,
            State::Open { until } if now < until => CircuitState::Open,
            State::Open { .. } | State::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    // (Closed | HalfOpen) → Open
    fn open(&mut self, now: Instant) {
        let factor = 1_u32.checked_shl(self.pauses).unwrap_or(u32::MAX);
        let longest = self.options.max_open_for.max(self.options.open_for);
        let pause = self.options.open_for.saturating_mul(factor).min(longest);
        self.pauses = self.pauses.saturating_add(1);
        self.turn(State::Open { until: now + pause });
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}

/// Requests and failures of the last while, in a ring of buckets. What it counts is exactly what
/// was recorded in the current bucket and in the whole ones before it that fit into the window.
#[derive(Clone, Debug)]
struct Window {
    bucket: Duration,
    ring: Box<[Tally]>,
    /// The sum of the ring.
    tally: Tally,
    current: usize,
    began: Instant,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    requests: u32,
    failed: u32,
}

impl Window {
    fn new(window: Duration, buckets: NonZeroUsize, now: Instant) -> Self {
        let count = u32::try_from(buckets.get()).unwrap_or(u32::MAX);
        Self {
            // A window of fewer nanoseconds than buckets would never move on.
            bucket: (window / count).max(Duration::from_nanos(1)),
            ring: vec![Tally::default(); buckets.get()].into(),
            tally: Tally::default(),
            current: 0,
            began: now,
        }
    }

    fn record(&mut self, failed: bool, now: Instant) {
        self.advance(now);
        for tally in [&mut self.ring[self.current], &mut self.tally] {
            tally.requests = tally.requests.saturating_add(1);
            tally.failed = tally.failed.saturating_add(u32::from(failed));
        }
    }

    /// Forgets what has left the window.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed < self.bucket {
            return;
        }
        let steps = passed.as_nanos() / self.bucket.as_nanos();
        if steps >= self.ring.len() as u128 {
            self.clear(now);
            return;
        }
        // Fewer than there are buckets.
        for _ in 0..steps {
            self.current = (self.current + 1) % self.ring.len();
            let left = std::mem::take(&mut self.ring[self.current]);
            self.tally.requests -= left.requests;
            self.tally.failed -= left.failed;
            self.began += self.bucket;
        }
    }

    fn clear(&mut self, now: Instant) {
        self.ring.fill(Tally::default());
        self.tally = Tally::default();
        self.began = now;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use proptest::strategy::{Just, Strategy};

    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn one(circuit: &mut Circuit, outcome: Outcome, now: Instant) {
        let pass = circuit.admit(now).expect("let through");
        circuit.record(pass, outcome, now);
    }

    fn many(circuit: &mut Circuit, count: u32, outcome: Outcome, now: Instant) {
        for _ in 0..count {
            one(circuit, outcome, now);
        }
    }

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::new(CircuitOptions::default(), now);
        many(&mut circuit, 20, Outcome::Failure, now);
        assert_eq!(circuit.state(now), CircuitState::Open);
        circuit
    }

    #[test]
    fn it_opens_at_the_rate_and_not_below() {
        let now = Instant::now();
        for (succeeded, failed, state) in [
            (11, 10, CircuitState::Closed),
            (10, 10, CircuitState::Open),
            // One request short of enough.
            (0, 19, CircuitState::Closed),
            (0, 20, CircuitState::Open),
        ] {
            let mut circuit = Circuit::new(CircuitOptions::default(), now);
            many(&mut circuit, succeeded, Outcome::Success, now);
            many(&mut circuit, failed, Outcome::Failure, now);
            assert_eq!(circuit.state(now), state, "{failed} of {}", succeeded + failed);
        }
    }

    #[test]
    fn what_left_the_window_is_forgotten() {
        let start = Instant::now();
        for (pause, state) in [(9, CircuitState::Open), (10, CircuitState::Closed)] {
            let mut circuit = Circuit::new(CircuitOptions::default(), start);
            many(&mut circuit, 19, Outcome::Failure, start);
            let later = start + seconds(pause);
            one(&mut circuit, Outcome::Failure, later);
            assert_eq!(circuit.state(later), state, "after {pause} s");
        }
    }

    #[test]
    fn probes_close_it_and_are_bounded() {
        let start = Instant::now();
        let mut circuit = opened(start);
        let early = start + Duration::from_millis(4999);
        let retry_after = Some(Duration::from_millis(1));
        assert_eq!(circuit.admit(early), Err(Refused { retry_after }));
        let now = start + seconds(5);
        let mut admit = || circuit.admit(now);
        let probes = [admit(), admit(), admit()].map(|probe| probe.expect("a probe"));
        assert_eq!(circuit.admit(now), Err(Refused { retry_after: None }));
        circuit.record(probes[0], Outcome::Success, now);
        // One that succeeded is not replaced, one of which nothing is known is.
        assert_eq!(circuit.admit(now), Err(Refused { retry_after: None }));
        circuit.record(probes[1], Outcome::Unknown, now);
        let another = circuit.admit(now).expect("another probe");
        circuit.record(probes[2], Outcome::Success, now);
        assert_eq!(circuit.state(now), CircuitState::HalfOpen);
        circuit.record(another, Outcome::Success, now);
        assert_eq!(circuit.state(now), CircuitState::Closed);
        many(&mut circuit, 19, Outcome::Failure, now);
        assert_eq!(circuit.state(now), CircuitState::Closed, "what was before is forgotten");
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut now = Instant::now();
        let mut circuit = opened(now);
        for pause in [5, 10, 20, 40, 60, 60] {
            assert!(circuit.admit(now + seconds(pause) - Duration::from_nanos(1)).is_err());
            now += seconds(pause);
            one(&mut circuit, Outcome::Failure, now);
        }
    }

    /// Failing again right after it closed goes on where it was; after a window, it starts anew.
    #[test]
    fn the_pause_is_short_again_after_a_window_without() {
        for (well_for, pause) in [(9, 10), (10, 5)] {
            let mut now = Instant::now();
            let mut circuit = opened(now);
            now += seconds(5);
            many(&mut circuit, 3, Outcome::Success, now);
            now += seconds(well_for);
            many(&mut circuit, 20, Outcome::Failure, now);
            let retry_after = Some(seconds(pause));
            assert_eq!(circuit.admit(now), Err(Refused { retry_after }));
        }
    }

    #[test]
    fn answers_from_before_change_nothing() {
        let start = Instant::now();
        let mut circuit = Circuit::new(CircuitOptions::default(), start);
        let late = [(); 4].map(|()| circuit.admit(start).expect("let through"));
        many(&mut circuit, 20, Outcome::Failure, start);
        circuit.record(late[0], Outcome::Success, start);
        assert_eq!(circuit.state(start), CircuitState::Open);
        let now = start + seconds(5);
        let probe = circuit.admit(now).expect("a probe");
        circuit.record(late[1], Outcome::Success, now);
        circuit.record(late[2], Outcome::Success, now);
        circuit.record(late[3], Outcome::Failure, now);
        assert_eq!(circuit.state(now), CircuitState::HalfOpen);
        circuit.record(probe, Outcome::Failure, now);
        assert_eq!(circuit.state(now), CircuitState::Open);
    }

    #[test]
    fn options_are_checked_while_they_are_read() {
        let read = |text: &str| toml::from_str::<CircuitOptions>(text);
        assert_eq!(read(""), Ok(CircuitOptions::default()));
        assert_eq!(read("failure_rate = 1").map(|options| options.failure_rate), Ok(1.0));
        for wrong in ["failure_rate = 0", "failure_rate = 1.01", "buckets = 0", "window = \"0s\""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        prop_oneof![Just(Outcome::Success), Just(Outcome::Failure), Just(Outcome::Unknown)]
    }

    proptest! {
        /// Whatever comes in whatever order: the window counts exactly what it should, an open
        /// circuit lets nothing through, and a half-open one no more than its probes.
        #[test]
        fn it_lets_through_what_it_says(
            steps in prop::collection::vec(
                (any::<bool>(), 0..64usize, outcomes(), 0..700u64), 1..300,
            ),
        ) {
            let options =
                CircuitOptions { min_requests: NonZeroU32::MIN, ..CircuitOptions::default() };
            let start = Instant::now();
            let mut now = start;
            let mut circuit = Circuit::new(options, start);
            let mut under_way: Vec<Pass> = Vec::new();
            for (admits, nth, outcome, pause) in steps {
                now += Duration::from_millis(pause);
                if admits {
                    let state = circuit.state(now);
                    let admitted = circuit.admit(now);
                    match state {
                        CircuitState::Closed => prop_assert!(admitted.is_ok()),
                        CircuitState::Open => prop_assert!(admitted.is_err()),
                        CircuitState::HalfOpen => {}
                    }
                    under_way.extend(admitted.ok());
                } else if !under_way.is_empty() {
                    let pass = under_way.swap_remove(nth % under_way.len());
                    circuit.record(pass, outcome, now);
                }
                if circuit.state(now) == CircuitState::HalfOpen {
                    let probes = under_way.iter().filter(|pass| pass.epoch == circuit.epoch);
                    prop_assert!(probes.count() <= 3);
                }
            }
        }

        /// The window against the plain list of what was recorded.
        #[test]
        fn the_window_is_exact(
            steps in prop::collection::vec((any::<bool>(), 0..3_000u64), 1..200),
        ) {
            let start = Instant::now();
            let mut window = Window::new(seconds(10), NonZeroUsize::MIN.saturating_add(9), start);
            let mut recorded: Vec<(Instant, bool)> = Vec::new();
            let mut now = start;
            for (failed, pause) in steps {
                now += Duration::from_millis(pause);
                window.record(failed, now);
                recorded.push((now, failed));
                let from = (window.began + window.bucket).checked_sub(seconds(10));
                let inside = |at: &Instant| from.is_none_or(|from| *at >= from);
                let inside: Vec<_> = recorded.iter().filter(|(at, _)| inside(at)).collect();
                let failed = inside.iter().filter(|(_, failed)| *failed).count() as u32;
                prop_assert_eq!(window.tally, Tally { requests: inside.len() as u32, failed });
                prop_assert!(now >= window.began && now < window.began + window.bucket);
            }
        }
    }
}

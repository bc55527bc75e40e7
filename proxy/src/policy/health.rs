//! When to check an endpoint's health, and what the results amount to.
//!
//! The failure it prevents: an endpoint that nobody calls is not known to be dead until somebody
//! does, and one that is ejected is known to be back only by risking a request. Active checks ask
//! without a user's request. They see what they ask and nothing else, so they stand beside the
//! outlier gate and not in its place; `outlier` says how the two agree.
//!
//! Thresholds in a row and a faster interval while something is changing are Envoy's
//! (health_check.proto). Differences:
//! - An endpoint counts as healthy until a check has said otherwise. In Envoy it is the other way
//!   round, and a sidecar that has just started has nowhere to send.
//! - The first check is due at once, and its single result decides: there is no history for it to
//!   contradict.
//! - A bad status counts as one failure of several, like a refused connection. Envoy takes the
//!   endpoint out at the first one, whatever the threshold says.
//! - The interval runs from the start of a check, so that slow checks are not also rare; a check is
//!   never started while the endpoint's last one is under way.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::fields;

/// How endpoints are checked, `[clusters.health_check]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheckOptions {
    /// What is asked.
    pub kind: CheckKind,
    /// From the start of a check to the start of the next while the endpoint is healthy and the
    /// last check passed. 5 s: a dead endpoint is out within 7 s even if nobody calls it, and a
    /// hundred sidecars ask an endpoint 20 times a second.
    #[serde(default = "defaults::interval", deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub interval: Duration,
    /// The same while it is unhealthy or the last check contradicted the verdict. 1 s: what is
    /// changing is worth looking at, and what is down serves nobody meanwhile.
    #[serde(default = "defaults::fast_interval", deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub fast_interval: Duration,
    /// How long a check may take; then it has failed. 1 s: an endpoint that needs longer to say
    /// that it is well is not.
    #[serde(default = "defaults::timeout", deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub timeout: Duration,
    /// Passed checks in a row that make an unhealthy endpoint healthy. 2: a process that is
    /// starting may answer once before it falls over.
    #[serde(default = "defaults::healthy_threshold")]
    pub healthy_threshold: NonZeroU32,
    /// Failed checks in a row that make a healthy endpoint unhealthy. 3: with the fast interval
    /// that is 2 s more, and one lost packet or one long collection takes nobody out.
    #[serde(default = "defaults::unhealthy_threshold")]
    pub unhealthy_threshold: NonZeroU32,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CheckKind {
    /// Whether a connection is accepted: `kind = "tcp"`.
    Tcp,
    /// Whether a GET is answered as expected: `kind = { http = { path = "/healthz" } }`.
    Http(HttpCheck),
}

/// A GET and its expected answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// Where.
    #[serde(deserialize_with = "fields::path_prefix")]
    pub path: String,
    /// The statuses that pass. 200 alone, as Envoy's: a redirect is not an answer of the service.
    #[serde(default = "defaults::statuses", deserialize_with = "statuses")]
    pub expected_statuses: BTreeSet<u16>,
}

impl HealthCheckOptions {
    /// A check of this kind with the default times and thresholds.
    pub fn new(kind: CheckKind) -> Self {
        Self {
            kind,
            interval: defaults::interval(),
            fast_interval: defaults::fast_interval(),
            timeout: defaults::timeout(),
            healthy_threshold: defaults::healthy_threshold(),
            unhealthy_threshold: defaults::unhealthy_threshold(),
        }
    }
}

impl HttpCheck {
    /// True when an answer with this status passes.
    pub fn passes(&self, status: u16) -> bool {
        self.expected_statuses.contains(&status)
    }
}

fn statuses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<u16>, D::Error> {
    let statuses = BTreeSet::<u16>::deserialize(deserializer)?;
    if statuses.is_empty() {
        return Err(D::Error::custom("the list is empty; at least one is needed, such as [200]"));
    }
    match statuses.iter().find(|status| !(100..=599).contains(*status)) {
        Some(wrong) => Err(D::Error::custom(format!("`{wrong}` is not a status from 100 to 599"))),
        None => Ok(statuses),
    }
}

/// By how much of itself an interval may be shorter, evenly drawn: sidecars that were started
/// together should not go on asking together. Shorter and not longer, so that the interval bounds
/// how late a fault is seen.
const JITTER: f64 = 0.2;

/// What the checks of an endpoint amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is healthy.
    pub healthy: bool,
    /// Whether that is new.
    pub changed: bool,
}

/// The checks of one endpoint.
///
/// The shell waits until [`HealthCheck::next`], calls [`HealthCheck::started`], checks for at most
/// [`HealthCheckOptions::timeout`], calls [`HealthCheck::finished`], and passes the verdict on to
/// [`Outlier::health_checked`](super::outlier::Outlier::health_checked), changed or not: a verdict
/// that is not new may serve as a probe.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    state: State,
    schedule: Schedule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No result yet.
    Unknown,
    /// Healthy, with so many failures since the last success.
    Healthy { failed: u32 },
    /// Unhealthy, with so many successes since the last failure.
    Unhealthy { passed: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schedule {
    Due(Instant),
    UnderWay { since: Instant },
}

impl HealthCheck {
    /// The checks of an endpoint that became known at `now`.
    pub fn new(now: Instant) -> Self {
        Self { state: State::Unknown, schedule: Schedule::Due(now) }
    }

    /// Whether it is healthy, as far as is known.
    pub fn is_healthy(&self) -> bool {
        !matches!(self.state, State::Unhealthy { .. })
    }

    /// When to start the next check; `None` while one is under way.
    pub fn next(&self) -> Option<Instant> {
        match self.schedule {
            Schedule::Due(at) => Some(at),
            Schedule::UnderWay { .. } => None,
        }
    }

    /// A check has been started.
    ///
    /// # Panics
    /// When one is under way.
    // Due → UnderWay
    pub fn started(&mut self, now: Instant) {
        assert!(matches!(self.schedule, Schedule::Due(_)), "one check at a time");
        self.schedule = Schedule::UnderWay { since: now };
    }

    /// The check that was started has passed, or not.
    ///
    /// # Panics
    /// When none is under way.
    // UnderWay → Due
    pub fn finished(
        &mut self,
        passed: bool,
        now: Instant,
        options: &HealthCheckOptions,
        rng: &mut dyn Rng,
    ) -> Verdict {
        let Schedule::UnderWay { since } = self.schedule else {
            panic!("a check finished that was not started")
        };
        let was_healthy = self.is_healthy();
        self.state = match (self.state, passed) {
            // Unknown → (Healthy | Unhealthy)
            (State::Unknown, true) => State::Healthy { failed: 0 },
            (State::Unknown, false) => State::Unhealthy { passed: 0 },
            // Healthy → (Healthy | Unhealthy)
            (State::Healthy { .. }, true) => State::Healthy { failed: 0 },
            (State::Healthy { failed }, false)
                if failed + 1 < options.unhealthy_threshold.get() =>
            {
                State::Healthy { failed: failed + 1 }
            }
            (State::Healthy { .. }, false) => State::Unhealthy { passed: 0 },
            // Unhealthy → (Healthy | Unhealthy)
            (State::Unhealthy { .. }, false) => State::Unhealthy { passed: 0 },
            (State::Unhealthy { passed }, true) if passed + 1 < options.healthy_threshold.get() => {
                State::Unhealthy { passed: passed + 1 }
            }
            (State::Unhealthy { .. }, true) => State::Healthy { failed: 0 },
        };
        let is_settled = self.state == State::Healthy { failed: 0 };
        let interval = if is_settled { options.interval } else { options.fast_interval };
        let shorter = 1.0 - JITTER * rng.random::<f64>();
        self.schedule = Schedule::Due(now.max(since + interval.mul_f64(shorter)));
        Verdict { healthy: self.is_healthy(), changed: self.is_healthy() != was_healthy }
    }
}

/// The defaults, each justified at its field.
mod defaults {
    use super::{BTreeSet, Duration, NonZeroU32};

    pub(super) fn interval() -> Duration {
        Duration::from_secs(5)
    }
    pub(super) fn fast_interval() -> Duration {
        Duration::from_secs(1)
    }
    pub(super) fn timeout() -> Duration {
        Duration::from_secs(1)
    }
    pub(super) fn healthy_threshold() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(1)
    }
    pub(super) fn unhealthy_threshold() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(2)
    }
    pub(super) fn statuses() -> BTreeSet<u16> {
        BTreeSet::from([200])
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::rng::{StreamRng, stream};

    struct Script {
        check: HealthCheck,
        options: HealthCheckOptions,
        now: Instant,
        rng: StreamRng,
    }

    impl Script {
        fn new() -> Self {
            let now = Instant::now();
            let options = HealthCheckOptions::new(CheckKind::Tcp);
            Self { check: HealthCheck::new(now), options, now, rng: stream(1, "test") }
        }

        /// The next check, which takes `took`; how long it was waited for, and the verdict.
        fn next(&mut self, passed: bool, took: Duration) -> (Duration, Verdict) {
            let due = self.check.next().unwrap();
            let waited = due.saturating_duration_since(self.now);
            self.now = self.now.max(due);
            self.check.started(self.now);
            assert_eq!(self.check.next(), None);
            self.now += took;
            (waited, self.check.finished(passed, self.now, &self.options, &mut self.rng))
        }

        fn verdicts(&mut self, results: &[bool]) -> Vec<(bool, bool)> {
            let verdicts = results.iter().map(|passed| self.next(*passed, Duration::ZERO).1);
            verdicts.map(|verdict| (verdict.healthy, verdict.changed)).collect()
        }
    }

    #[test]
    fn the_first_check_is_due_at_once_and_decides() {
        for passed in [true, false] {
            let mut script = Script::new();
            assert!(script.check.is_healthy());
            let (waited, verdict) = script.next(passed, Duration::ZERO);
            assert_eq!(waited, Duration::ZERO);
            assert_eq!(verdict, Verdict { healthy: passed, changed: !passed });
        }
    }

    #[test]
    fn it_takes_three_failures_in_a_row_and_two_successes_in_a_row() {
        let (up, down) = ((true, false), (false, false));
        let mut script = Script::new();
        let results = [true, false, false, true, false, false, false, true, false, true, true];
        let goes_down = (false, true);
        let comes_up = (true, true);
        let expected = [up, up, up, up, up, up, goes_down, down, down, down, comes_up];
        assert_eq!(script.verdicts(&results), expected);
    }

    #[test]
    fn what_changes_is_looked_at_more_often() {
        let mut script = Script::new();
        let mut waits = |results: &[bool]| -> Vec<_> {
            results.iter().map(|passed| script.next(*passed, Duration::ZERO).0).collect()
        };
        // Each wait is decided by the results before it.
        let waits = waits(&[true, true, false, false, false, true, true, true]);
        let fast: Vec<_> = waits[1..].iter().map(|wait| *wait <= Duration::from_secs(1)).collect();
        assert_eq!(fast, [false, false, true, true, true, true, false]);
    }

    #[test]
    fn the_interval_runs_from_the_start_of_a_check() {
        let mut script = Script::new();
        script.next(true, Duration::from_secs(3));
        let (waited, _) = script.next(true, Duration::from_secs(7));
        assert!(waited <= Duration::from_secs(2), "{waited:?}");
        assert_eq!(script.next(true, Duration::ZERO).0, Duration::ZERO);
    }

    #[test]
    fn the_configuration_is_checked() {
        let read = |text: &str| toml::from_str::<HealthCheckOptions>(text);
        assert_eq!(read("kind = \"tcp\""), Ok(HealthCheckOptions::new(CheckKind::Tcp)));
        let http =
            read("kind = { http = { path = \"/healthz\", expected_statuses = [200, 204] } }");
        let CheckKind::Http(http) = http.unwrap().kind else { panic!("not http") };
        assert!(http.passes(204) && !http.passes(201));
        let errors: Vec<_> = [
            "interval = \"1s\"",
            "kind = \"udp\"",
            "kind = { http = { path = \"healthz\" } }",
            "kind = { http = { path = \"/\", expected_statuses = [] } }",
            "kind = { http = { path = \"/\", expected_statuses = [200, 600] } }",
            "kind = \"tcp\"\ninterval = \"0s\"",
            "kind = \"tcp\"\nunhealthy_threshold = 0",
        ]
        .into_iter()
        .map(|text| read(text).unwrap_err().message().to_owned())
        .collect();
        insta::assert_snapshot!(errors.join("\n"));
    }

    proptest! {
        /// The verdict changes exactly at a streak of the threshold, and the next check is neither
        /// later than its interval nor more than the jitter earlier.
        #[test]
        fn streaks_decide_and_intervals_hold(
            results in prop::collection::vec(any::<bool>(), 1..100), seed: u64,
        ) {
            let mut script = Script::new();
            script.rng = stream(seed, "test");
            let mut healthy = true;
            for (n, passed) in results.iter().enumerate() {
                let before = script.now;
                let (waited, verdict) = script.next(*passed, Duration::ZERO);
                let streak = results[..=n].iter().rev().take_while(|p| *p == passed).count();
                let needed = if *passed { 2 } else { 3 };
                let decides = if n == 0 { true } else { *passed != healthy && streak >= needed };
                let was = healthy;
                healthy = if decides { *passed } else { healthy };
                prop_assert_eq!(verdict, Verdict { healthy, changed: was != healthy });
                let due = script.check.next().map(|due| due - script.now).unwrap();
                let settled = healthy && *passed;
                let interval = if settled { 5.0 } else { 1.0 };
                prop_assert!(due.as_secs_f64() <= interval && due.as_secs_f64() >= 0.8 * interval);
                prop_assert!(script.now >= before + waited);
            }
        }
    }
}

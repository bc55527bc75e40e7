//! Of two random endpoints, the one with the lower expected wait.
//!
//! The expected wait is a latency estimate times the requests that would be in flight. The
//! estimate is Finagle's *peak* EWMA: an observation above it replaces it at once, one below it
//! only pulls it down over the decay time. One bad second is believed immediately and forgiven
//! slowly, which is the right way round when the price of being wrong is somebody's timeout.
//!
//! Six details decide whether it works:
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
//!   would leave it the idlest: both draw the traffic that it then fails. It is no observation of a
//!   latency, though, and is kept beside the estimate, with a decay time of its own: as a peak it
//!   would starve an endpoint for most of a minute after one failure, which no detector would see,
//!   because none is shown a second one. It begins to decay when a `Retry-After` is over.
//! - **Contradiction counts.** Time alone forgives a pause of 2 s so slowly that a quarter of a
//!   minute after it is over the endpoint still has a small part of its share, although each of
//!   the few requests that it is given comes back fast. So `contradictions` answers in a row, each
//!   in less than half of the estimate, halve it. In a row: an endpoint of which every tenth
//!   request is slow passes that test once in three times, and four in succession, which is what it
//!   takes to make 2 s look like 150 ms, once in seventy.

use std::time::{Duration, Instant};

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{
    Balancer, EndpointId, EndpointLoad, InFlight, LoadEvent, Member, changed, keep, nanos, same,
    two_distinct, weights,
};
use crate::config::fields;
use crate::policy::ready::ReadySet;

/// Knobs of [`PeakEwma`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeakEwmaOptions {
    /// How long until an estimate has lost 63 % of its distance to what is observed. 10 s is what
    /// Finagle and Linkerd run with: long against a garbage collection, short against an outage.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub decay: Duration,
    /// The estimate of an endpoint that was never tried. Linkerd's 30 ms: a cold endpoint is worth
    /// a try against any that is slower, and is not flooded when the others are faster.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub default_latency: Duration,
    /// The latency that a failure counts as. Linkerd's 5 s: longer than a caller is likely to wait,
    /// so that any endpoint that works is preferred.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub failure_latency: Duration,
    /// How long until 63 % of that is forgiven. 200 ms: beside peers that answer in 20 ms, an
    /// endpoint that failed is left alone for 1.1 s, so a broken one is sent about a request a
    /// second until the gate has seen its five in a row, and from then on probes. With the 10 s of
    /// `decay` one failure costs 55 s of its share, and a crash is never ejected, nor its return
    /// noticed, nor warmed up.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub failure_decay: Duration,
    /// The longest `Retry-After` that is heeded. 300 s, Linkerd's: long enough for a restart, and
    /// a mistaken header does not take an endpoint away for a day.
    #[serde(deserialize_with = "fields::duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub max_retry_after: Duration,
    /// How many answers in a row, each in less than half of the estimate, halve it; 0 for time
    /// alone. 10: at a request at a time a pause is forgiven in seconds, and luck seldom is so long.
    pub contradictions: u32,
}

impl Default for PeakEwmaOptions {
    fn default() -> Self {
        Self {
            decay: Duration::from_secs(10),
            default_latency: Duration::from_millis(30),
            failure_latency: Duration::from_secs(5),
            failure_decay: Duration::from_millis(200),
            max_retry_after: Duration::from_secs(300),
            contradictions: 10,
        }
    }
}

/// Latency estimates and requests in flight per endpoint.
#[derive(Clone, Debug)]
pub struct PeakEwma {
    options: PeakEwmaOptions,
    decay_ns: f64,
    weights: Vec<u32>,
    /// The first instant that it was told of, from which the default decays.
    born: Option<Instant>,
    /// When each endpoint last returned, from which the default decays since.
    returned: Vec<Option<Instant>>,
    /// `None` until the first observation of the endpoint.
    estimates: Vec<Option<Estimate>>,
    /// From when each endpoint's last failure is forgiven.
    failures: Vec<Option<Instant>>,
    silences: Vec<Silence>,
    in_flight: InFlight,
}

/// A latency in nanoseconds as it was at an instant.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    latency_ns: f64,
    at: Instant,
    /// Answers in a row that took less than half of it.
    contradictions: u32,
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
    /// Over endpoints `0..members.len()`.
    pub fn new(members: &[Member<'_>], options: PeakEwmaOptions) -> Self {
        Self {
            options,
            decay_ns: nanos(options.decay),
            weights: weights(members),
            born: None,
            returned: vec![None; members.len()],
            estimates: vec![None; members.len()],
            failures: vec![None; members.len()],
            silences: vec![Silence::default(); members.len()],
            in_flight: InFlight::new(members.len()),
        }
    }

    /// The share of an old value that is left after `elapsed`, 1 to 0.
    fn remaining(&self, elapsed: Duration) -> f64 {
        libm::exp(-nanos(elapsed) / self.decay_ns)
    }

    fn latency_ns(&self, endpoint: EndpointId, now: Instant) -> f64 {
        let (latency_ns, at) = match self.estimates[endpoint.0] {
            Some(estimate) => (estimate.latency_ns, estimate.at),
            None => {
                let since = self.returned[endpoint.0].or(self.born).unwrap_or(now);
                (nanos(self.options.default_latency), since)
            }
        };
        let learnt = latency_ns * self.remaining(now.saturating_duration_since(at));
        let expected = learnt.max(self.failure_ns(endpoint, now));
        let silence = &self.silences[endpoint.0];
        if silence.waiting == 0 { expected } else { expected.max(nanos(silence.lasted(now))) }
    }

    /// What is left of the latency that the endpoint's last failure counts as.
    fn failure_ns(&self, endpoint: EndpointId, now: Instant) -> f64 {
        let Some(at) = self.failures[endpoint.0] else { return 0.0 };
        let PeakEwmaOptions { failure_latency, failure_decay, .. } = self.options;
        let elapsed = nanos(now.saturating_duration_since(at));
        nanos(failure_latency) * libm::exp(-elapsed / nanos(failure_decay))
    }

    fn cost(&self, endpoint: EndpointId, now: Instant) -> f64 {
        let requests = f64::from(self.in_flight.get(endpoint)) + 1.0;
        self.latency_ns(endpoint, now) * requests / f64::from(self.weights[endpoint.0])
    }

    fn learn(&mut self, endpoint: EndpointId, latency: Duration, now: Instant) {
        let observed = nanos(latency);
        let estimate = match self.estimates[endpoint.0] {
            Some(old) if observed <= old.latency_ns => {
                let remaining = self.remaining(now.saturating_duration_since(old.at));
                let latency_ns = old.latency_ns * remaining + observed * (1.0 - remaining);
                Estimate { latency_ns, at: now, ..old }
            }
            _ => Estimate { latency_ns: observed, at: now, contradictions: 0 },
        };
        self.estimates[endpoint.0] = Some(self.contradicted(estimate, observed));
    }

    /// `estimate` after an answer that took `observed_ns`.
    fn contradicted(&self, mut estimate: Estimate, observed_ns: f64) -> Estimate {
        if observed_ns < estimate.latency_ns / 2.0 {
            estimate.contradictions += 1;
        } else {
            estimate.contradictions = 0;
        }
        if self.options.contradictions > 0 && estimate.contradictions >= self.options.contradictions
        {
            estimate.latency_ns /= 2.0;
            estimate.contradictions = 0;
        }
        estimate
    }

    fn learn_failure(&mut self, endpoint: EndpointId, retry_after: Option<Duration>, now: Instant) {
        let asked = retry_after.unwrap_or_default().min(self.options.max_retry_after);
        let failure = &mut self.failures[endpoint.0];
        *failure = (*failure).max(Some(now + asked));
    }

    fn learn_cancelled(&mut self, endpoint: EndpointId, now: Instant) {
        let expected = self.silences[endpoint.0].lasted(now) * 2;
        if nanos(expected) > self.latency_ns(endpoint, now) {
            self.learn(endpoint, expected, now);
        }
    }
}

impl Balancer for PeakEwma {
    fn pick(
        &mut self,
        ready: &ReadySet,
        _key: Option<u64>,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        self.born.get_or_insert(now);
        let (first, second) = two_distinct(ready, rng)?;
        if first == second {
            // The only one, as in front of every application: no need to know what it costs.
            return Some(first);
        }
        let second_is_cheaper = self.cost(second, now) < self.cost(first, now);
        Some(if second_is_cheaper { second } else { first })
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, now: Instant) {
        self.in_flight.observe(endpoint, event);
        match event {
            LoadEvent::Answered { latency } => self.learn(endpoint, latency, now),
            LoadEvent::Failed { retry_after, .. } => self.learn_failure(endpoint, retry_after, now),
            LoadEvent::Cancelled { .. } => self.learn_cancelled(endpoint, now),
            LoadEvent::Sent | LoadEvent::Ended => {}
        }
        self.silences[endpoint.0].observe(event, now);
    }

    fn load(&self, endpoint: EndpointId, now: Instant) -> EndpointLoad {
        EndpointLoad {
            weight: self.weights[endpoint.0],
            latency_estimate: Some(Duration::from_nanos(self.latency_ns(endpoint, now) as u64)),
            ..self.in_flight.load(endpoint)
        }
    }

    fn returned(&mut self, endpoint: EndpointId, now: Instant) {
        self.estimates[endpoint.0] = None;
        self.failures[endpoint.0] = None;
        self.returned[endpoint.0] = Some(now);
        let silence = &mut self.silences[endpoint.0];
        silence.before = Duration::ZERO;
        silence.since = silence.since.map(|_| now);
    }

    fn succeed(&mut self, old: Box<dyn Balancer>, keeps: &[bool], now: Instant) {
        let old = same::<Self>(old);
        self.born = old.born;
        self.in_flight.succeed(&old.in_flight, keeps);
        keep(&mut self.returned, &old.returned, keeps);
        keep(&mut self.estimates, &old.estimates, keeps);
        keep(&mut self.failures, &old.failures, keeps);
        keep(&mut self.silences, &old.silences, keeps);
        changed(keeps).for_each(|endpoint| self.returned[endpoint.0] = Some(now));
    }
}

#[cfg(test)]
mod tests;

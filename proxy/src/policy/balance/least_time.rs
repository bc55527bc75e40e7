//! Of all endpoints, the one with the lowest average latency times its load.
//!
//! nginx Plus' `least_time header`. What is public is its description: the lowest average time to
//! the response header and the fewest active connections, weights considered. The formula is not,
//! so this one is ours: average · (in flight + 1) / weight, an average over about the last eight
//! requests (1/8 is TCP's weight of a new round-trip time, RFC 6298), and random ties.
//!
//! It differs from peak EWMA in what it believes: the mean, not the worst of late. It shares load
//! well among endpoints that are steadily of different speed, and reacts slowly to a sudden pause.
//!
//! Three things an average over requests gets wrong, and what is done about them:
//! - **The untried** has no average. As 0 it would attract everything until its first answer is
//!   back; so it is asked at once, but with one request at a time until there is an answer.
//! - **The avoided** is never measured again, so its average would stand for ever. One that is
//!   older than `forget_after`, with nothing in flight, is forgotten: one request finds out.
//! - **Failures** are fast. Each counts as a long wait, as in [`super::peak_ewma`]; but as one of
//!   eight, so that a few errors that all endpoints have in common decide nothing.

use std::time::{Duration, Instant};

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::choice::Costs;
use super::{
    Balancer, Choices, EndpointId, EndpointLoad, InFlight, LoadEvent, Member, keep, nanos, same,
    weights,
};
use crate::config::fields;
use crate::policy::ready::ReadySet;

/// The weight of a new observation in the average.
const NEW: f64 = 1.0 / 8.0;

/// What a request costs on an endpoint that has one and has never answered, per request: more than
/// any that has, in nanoseconds.
const UNKNOWN: f64 = 1e30;

/// Knobs of [`LeastTime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeastTimeOptions {
    /// How many are compared. All, as nginx does; a few, such as 2, where many sidecars share the
    /// endpoints, and none sees the others' requests.
    pub choices: Choices,
    /// How long an average is believed that nothing refreshes. 10 s, as peak EWMA's decay: a slow
    /// endpoint is asked six times a minute whether it still is.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub forget_after: Duration,
    /// The latency that a failure counts as, at the least. Linkerd's 5 s: longer than a caller is
    /// likely to wait.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub failure_latency: Duration,
    /// The longest `Retry-After` that is heeded. 300 s, Linkerd's: long enough for a restart, and
    /// a mistaken header does not take an endpoint away for a day.
    #[serde(deserialize_with = "fields::duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub max_retry_after: Duration,
}

impl Default for LeastTimeOptions {
    fn default() -> Self {
        Self {
            choices: Choices::All,
            forget_after: Duration::from_secs(10),
            failure_latency: Duration::from_secs(5),
            max_retry_after: Duration::from_secs(300),
        }
    }
}

/// Average latencies and requests in flight per endpoint.
#[derive(Clone, Debug)]
pub struct LeastTime {
    options: LeastTimeOptions,
    weights: Vec<u32>,
    in_flight: InFlight,
    /// `None` until the first observation, and again when it is forgotten.
    averages: Vec<Option<Average>>,
    costs: Costs,
    /// The endpoint whose average's age the next pick looks at. One a pick: forgetting may be some
    /// picks late, looking at all of them may not.
    hand: usize,
}

#[derive(Clone, Copy, Debug)]
struct Average {
    latency_ns: f64,
    /// When it was refreshed; ahead while the endpoint has asked to be left alone.
    at: Instant,
}

impl LeastTime {
    /// Over endpoints `0..members.len()`.
    pub fn new(members: &[Member<'_>], options: LeastTimeOptions) -> Self {
        Self {
            options,
            weights: weights(members),
            in_flight: InFlight::new(members.len()),
            averages: vec![None; members.len()],
            costs: Costs::new(members.len()),
            hand: 0,
        }
    }

    fn weigh(&mut self, endpoint: EndpointId) {
        let in_flight = f64::from(self.in_flight.get(endpoint));
        let weight = f64::from(self.weights[endpoint.0]);
        let cost = match self.averages[endpoint.0] {
            Some(Average { latency_ns, .. }) => latency_ns * (in_flight + 1.0) / weight,
            None => UNKNOWN * in_flight / weight,
        };
        self.costs.set(endpoint, cost);
    }

    fn learn(&mut self, endpoint: EndpointId, latency_ns: f64, at: Instant) {
        let average = &mut self.averages[endpoint.0];
        let old = average.map_or(latency_ns, |average| average.latency_ns);
        let latency_ns = old + (latency_ns - old) * NEW;
        *average = Some(Average { latency_ns, at });
    }

    fn learn_failure(&mut self, endpoint: EndpointId, retry_after: Option<Duration>, now: Instant) {
        let asked = retry_after.unwrap_or_default().min(self.options.max_retry_after);
        let known = self.averages[endpoint.0].map_or(0.0, |average| average.latency_ns);
        let counted = nanos(self.options.failure_latency.max(asked)).max(known);
        self.learn(endpoint, counted, now + asked);
    }

    /// Forgets the average of one endpoint, if it is old.
    fn forget(&mut self, now: Instant) {
        let endpoint = EndpointId(self.hand);
        self.hand = (self.hand + 1) % self.averages.len();
        let Some(Average { at, .. }) = self.averages[endpoint.0] else { return };
        let is_old = now.saturating_duration_since(at) > self.options.forget_after;
        if is_old && self.in_flight.get(endpoint) == 0 {
            self.averages[endpoint.0] = None;
            self.weigh(endpoint);
        }
    }
}

impl Balancer for LeastTime {
    fn pick(
        &mut self,
        ready: &ReadySet,
        _key: Option<u64>,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        if ready.is_empty() {
            return None;
        }
        self.forget(now);
        self.costs.least(ready, self.options.choices, rng)
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, now: Instant) {
        self.in_flight.observe(endpoint, event);
        match event {
            LoadEvent::Answered { latency } => self.learn(endpoint, nanos(latency), now),
            LoadEvent::Failed { retry_after, .. } => self.learn_failure(endpoint, retry_after, now),
            LoadEvent::Cancelled { elapsed } => {
                // It would have taken longer. That says something only if it was long.
                let known = self.averages[endpoint.0].map_or(0.0, |average| average.latency_ns);
                if nanos(elapsed) > known {
                    self.learn(endpoint, nanos(elapsed), now);
                }
            }
            LoadEvent::Sent | LoadEvent::Ended => {}
        }
        self.weigh(endpoint);
    }

    fn load(&self, endpoint: EndpointId, _now: Instant) -> EndpointLoad {
        let average = self.averages[endpoint.0];
        EndpointLoad {
            weight: self.weights[endpoint.0],
            latency_estimate: average.map(|known| Duration::from_nanos(known.latency_ns as u64)),
            ..self.in_flight.load(endpoint)
        }
    }

    fn returned(&mut self, endpoint: EndpointId, _now: Instant) {
        self.averages[endpoint.0] = None;
        self.weigh(endpoint);
    }

    fn succeed(&mut self, old: Box<dyn Balancer>, keeps: &[bool], _now: Instant) {
        let old = same::<Self>(old);
        self.in_flight.succeed(&old.in_flight, keeps);
        keep(&mut self.averages, &old.averages, keeps);
        self.hand = old.hand % self.averages.len().max(1);
        (0..self.weights.len()).map(EndpointId).for_each(|endpoint| self.weigh(endpoint));
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use super::super::tests::{keys, members};
    use super::*;
    use crate::rng::stream;

    const A: EndpointId = EndpointId(0);
    const B: EndpointId = EndpointId(1);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn two(weights: [u32; 2]) -> LeastTime {
        LeastTime::new(&members(&keys(2), &weights), LeastTimeOptions::default())
    }

    fn pick(balancer: &mut LeastTime, now: Instant) -> EndpointId {
        balancer.pick(&ReadySet::all(2), None, now, &mut stream(1, "test")).unwrap()
    }

    fn end(balancer: &mut LeastTime, endpoint: EndpointId, event: LoadEvent, now: Instant) {
        balancer.observe(endpoint, LoadEvent::Sent, now);
        balancer.observe(endpoint, event, now);
        balancer.observe(endpoint, LoadEvent::Ended, now);
    }

    fn answer(balancer: &mut LeastTime, endpoint: EndpointId, latency: Duration, now: Instant) {
        end(balancer, endpoint, LoadEvent::Answered { latency }, now);
    }

    fn estimate_ms(balancer: &LeastTime, endpoint: EndpointId, now: Instant) -> Option<u128> {
        balancer.load(endpoint, now).latency_estimate.map(|latency| latency.as_millis())
    }

    #[test]
    fn the_average_is_of_about_eight_requests() {
        let now = Instant::now();
        let mut balancer = two([1, 1]);
        answer(&mut balancer, A, ms(80), now);
        answer(&mut balancer, A, ms(160), now);
        assert_eq!(estimate_ms(&balancer, A, now), Some(90));
    }

    #[test]
    fn latency_times_load_by_weight_decides() {
        let now = Instant::now();
        let mut balancer = two([1, 2]);
        answer(&mut balancer, A, ms(100), now);
        answer(&mut balancer, B, ms(190), now);
        assert_eq!(pick(&mut balancer, now), B);
        balancer.observe(B, LoadEvent::Sent, now);
        assert_eq!(pick(&mut balancer, now), A);
    }

    #[test]
    fn the_untried_gets_one_request_until_it_has_answered() {
        let now = Instant::now();
        let mut balancer = two([1, 1]);
        answer(&mut balancer, A, ms(100), now);
        assert_eq!(pick(&mut balancer, now), B);
        balancer.observe(B, LoadEvent::Sent, now);
        assert_eq!(pick(&mut balancer, now), A);
        balancer.observe(B, LoadEvent::Answered { latency: ms(10) }, now);
        assert_eq!(pick(&mut balancer, now), B);
    }

    #[test]
    fn the_avoided_is_asked_again() {
        let start = Instant::now();
        let mut balancer = two([1, 1]);
        answer(&mut balancer, A, ms(2000), start);
        for (after_ms, picked) in [(0, B), (10_000, B), (10_001, A)] {
            let now = start + ms(after_ms);
            answer(&mut balancer, B, ms(100), now);
            // The hand looks at each in turn.
            pick(&mut balancer, now);
            assert_eq!(pick(&mut balancer, now), picked, "after {after_ms} ms");
        }
    }

    #[test]
    fn a_failure_is_a_long_wait_and_retry_after_is_heeded() {
        let start = Instant::now();
        for (retry_after, counted_ms) in [(None, 5000), (Some(2), 5000), (Some(400), 300_000)] {
            let retry_after = retry_after.map(Duration::from_secs);
            let failed = LoadEvent::Failed { elapsed: ms(1), retry_after };
            let mut balancer = two([1, 1]);
            end(&mut balancer, A, failed, start);
            assert_eq!(estimate_ms(&balancer, A, start), Some(counted_ms));
        }
    }

    #[test]
    fn a_cancelled_request_only_ever_raises_the_average() {
        let now = Instant::now();
        let mut balancer = two([1, 1]);
        answer(&mut balancer, A, ms(80), now);
        for (elapsed, estimate) in [(79, 80), (160, 90)] {
            end(&mut balancer, A, LoadEvent::Cancelled { elapsed: ms(elapsed) }, now);
            assert_eq!(estimate_ms(&balancer, A, now), Some(estimate));
        }
    }
}

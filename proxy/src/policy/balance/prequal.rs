//! Of the endpoints that were asked lately, a cold one with the lowest latency.
//!
//! Prequal (Wydrowski et al., "Load is not what you should balance", NSDI '24). A sidecar sees only
//! the requests that it sends itself. An endpoint that others keep busy, or that has lost half of
//! its capacity to a neighbour on its machine, looks idle to it until its own requests are late. So
//! endpoints are *asked*: probes run beside the requests, and each pick draws on a small pool of
//! answers that are at most a second old, without waiting for any.
//!
//! The choice is hot-cold lexicographic (HCL): endpoints with more requests in flight than most of
//! those asked of late are hot, and are avoided however fast they are, because a queue grows before
//! its latency shows; among the cold ones the fastest wins. With none cold, the least loaded one.
//!
//! A pool of answers can mislead in five ways, each with its remedy:
//! - it is *stale*: answers expire by age, and by use, see [`Prequal::uses`];
//! - it is *overused*: an answer counts each request sent on its account as in flight;
//! - it *fills up with the bad*, since the good ones are used up: each query removes one, the
//!   oldest and the worst in turn, as long as two are left to compare;
//! - it is *empty*: with fewer than two the pick is a random one;
//! - it *lies*: an endpoint that fails everything at once has nothing in flight. Failed requests
//!   and failed probes are added to what it says, see [`super::penalty`].
//!
//! Differences from the paper: the pool holds one answer per endpoint, the newest, for two of the
//! same cannot be compared. Weights are ignored, because what they would say is measured.

mod pool;

use std::time::{Duration, Instant};

use rand::Rng;
use serde::{Deserialize, Serialize};

use self::pool::{Pool, Quantile};
use super::choice::draw_distinct;
use super::penalty::Penalties;
use super::{
    Balancer, EndpointId, EndpointLoad, InFlight, LoadEvent, Member, ProbeAnswer, same,
    two_distinct,
};
use crate::config::fields;
use crate::policy::ready::ReadySet;

/// Knobs of [`Prequal`]. The defaults are the paper's where it names a figure.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrequalOptions {
    /// Probes per query. 3, as in the paper's evaluation: a pool of 16 is renewed within a few
    /// queries, at the price of three requests that do no work.
    #[serde(deserialize_with = "fields::positive_count")]
    pub probes: u32,
    /// The most answers that are kept. 16: enough to find a good one among, few enough to be
    /// fresh.
    #[serde(deserialize_with = "fields::positive_count")]
    pub pool: u32,
    /// How old an answer may be. 1 s.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub max_age: Duration,
    /// The share of recent answers that count as cold, at most. 0.84, about 2^-0.25; the paper finds
    /// 0.6 to 0.9 usable, less lets queues decide everything, more lets latency. Among n
    /// endpoints it is at most 1 − 1.5/n, so that a single hot one of a few is seen.
    #[serde(deserialize_with = "fields::ratio")]
    pub cold_share: f64,
    /// The most requests that are sent on account of one answer. 16: the paper's formula has no
    /// bound when the pool holds nearly every endpoint, and the answer counts the requests anyway.
    #[serde(deserialize_with = "fields::positive_count")]
    pub max_uses: u32,
    /// How long to go without any probe; then one is sent without a query. 250 ms: the first
    /// queries after a pause find four answers, for four small requests a second.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub idle_interval: Duration,
    /// How long a failed request or probe goes on counting as one in flight, decaying; `"0s"` for
    /// not at all. 5 s, which is what Linkerd lets a failure count as.
    #[serde(deserialize_with = "fields::duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub failure_hold: Duration,
    /// The longest `Retry-After` that is heeded. 300 s, Linkerd's.
    #[serde(deserialize_with = "fields::duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub max_retry_after: Duration,
}

impl Default for PrequalOptions {
    fn default() -> Self {
        Self {
            probes: 3,
            pool: 16,
            max_age: Duration::from_secs(1),
            cold_share: 0.84,
            max_uses: 16,
            idle_interval: Duration::from_millis(250),
            failure_hold: Duration::from_secs(5),
            max_retry_after: Duration::from_secs(300),
        }
    }
}

/// The pool of answers, and what probes are due.
#[derive(Clone, Debug)]
pub struct Prequal {
    options: PrequalOptions,
    pool: Pool,
    /// Of the requests in flight that recent answers told of.
    loads: Quantile,
    in_flight: InFlight,
    penalties: Penalties,
    /// Endpoints that were ready at the last pick: what a probe is drawn from.
    ready: usize,
    /// Probes that queries have earned and that are not sent. At most a pool's worth: more would
    /// push each other out.
    due: u32,
    /// When probes were last sent, or it was first asked for some.
    last_probe: Option<Instant>,
    /// The fraction of a use that rounding has kept back so far.
    carried_uses: f64,
    /// True when the next to be removed is the worst, false when it is the oldest.
    worst_is_next: bool,
}

impl Prequal {
    /// Over endpoints `0..members.len()`.
    pub fn new(members: &[Member<'_>], options: PrequalOptions) -> Self {
        let endpoints = members.len();
        let PrequalOptions { failure_hold, max_retry_after, .. } = options;
        let size = (options.pool as usize).min(endpoints);
        Self {
            options,
            pool: Pool::new(size, options.max_age),
            loads: Quantile::default(),
            in_flight: InFlight::new(endpoints),
            penalties: Penalties::new(endpoints, failure_hold, max_retry_after),
            ready: endpoints,
            due: 0,
            last_probe: None,
            carried_uses: 0.0,
            worst_is_next: false,
        }
    }

    /// How many requests may be sent on account of a new answer.
    ///
    /// (1 + δ) / ((1 − m/n) · probes − 1), at least 1: of the probes of a query, those to one of
    /// the m endpoints in the pool of n renew an answer and do not add one, and one is removed. What
    /// is left is the net gain; used as often as to consume it, and δ = 1 more to be safe, the pool
    /// neither starves nor goes stale. Where nothing is gained, the bound is `max_uses`.
    fn uses(&mut self) -> u32 {
        let filled = f64::from(self.options.pool) / self.ready.max(1) as f64;
        let gained = (1.0 - filled) * f64::from(self.options.probes) - 1.0;
        let most = f64::from(self.options.max_uses);
        let wanted = if gained > 0.0 { (2.0 / gained).clamp(1.0, most) } else { most };
        // The paper rounds at random; carrying the rest has the same mean and less variance.
        self.carried_uses += wanted;
        let uses = libm::floor(self.carried_uses);
        self.carried_uses -= uses;
        uses as u32
    }

    /// The load above which an endpoint is hot.
    ///
    /// The paper's share is for a large job. Of n endpoints one gives a part of 1/n of the answers:
    /// with 0.84, the answers of a single hot one among up to six are no rare ones, the quantile is
    /// its own load, and nobody is hot. So one endpoint's answers, and half as many again because
    /// probes are drawn, always count as above the quantile.
    fn hot_above(&self) -> u32 {
        let all_but_one = 1.0 - 1.5 / self.ready.max(1) as f64;
        self.loads.value(self.options.cold_share.min(all_but_one.max(0.0)))
    }

    /// Removes one answer, unless it is needed for a comparison.
    fn remove_one(&mut self, now: Instant) {
        if self.pool.len() <= 2 {
            return;
        }
        if self.worst_is_next {
            let (hot_above, penalties) = (self.hot_above(), &self.penalties);
            self.pool.remove_worst(hot_above, |e| penalties.requests(e, now));
        } else {
            self.pool.remove_oldest();
        }
        self.worst_is_next = !self.worst_is_next;
    }

    /// A random endpoint, if possible one that has not failed of late.
    fn random(&self, ready: &ReadySet, now: Instant, rng: &mut dyn Rng) -> Option<EndpointId> {
        let (first, second) = two_distinct(ready, rng)?;
        let penalty = |endpoint| self.penalties.requests(endpoint, now);
        Some(if penalty(second) < penalty(first) { second } else { first })
    }
}

impl Balancer for Prequal {
    fn pick(
        &mut self,
        ready: &ReadySet,
        _key: Option<u64>,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        self.ready = ready.len();
        self.due = self.due.saturating_add(self.options.probes).min(self.options.pool);
        self.pool.retain(ready, now);
        if self.pool.len() < 2 {
            return self.random(ready, now, rng);
        }
        let penalties = &self.penalties;
        let best = self.pool.best(self.hot_above(), |e| penalties.requests(e, now));
        self.remove_one(now);
        best
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, now: Instant) {
        self.in_flight.observe(endpoint, event);
        match event {
            LoadEvent::Sent => self.pool.used(endpoint),
            LoadEvent::Failed { retry_after, .. } => {
                self.penalties.failed(endpoint, retry_after, now);
            }
            LoadEvent::Answered { .. } | LoadEvent::Cancelled { .. } | LoadEvent::Ended => {}
        }
    }

    fn load(&self, endpoint: EndpointId, now: Instant) -> EndpointLoad {
        EndpointLoad {
            latency_estimate: self.pool.latency(endpoint),
            penalty: self.penalties.requests(endpoint, now),
            ..self.in_flight.load(endpoint)
        }
    }

    fn probes(
        &mut self,
        ready: &ReadySet,
        now: Instant,
        rng: &mut dyn Rng,
        ask: &mut Vec<EndpointId>,
    ) {
        let idle = now.saturating_duration_since(*self.last_probe.get_or_insert(now));
        let is_idle = self.due == 0 && idle >= self.options.idle_interval;
        let due = if is_idle { 1 } else { std::mem::take(&mut self.due) as usize };
        let due = due.min(ready.len());
        if due > 0 {
            self.last_probe = Some(now);
            let before = ask.len();
            ask.resize(before + due, EndpointId(0));
            draw_distinct(ready.as_slice(), &mut ask[before..], rng);
        }
    }

    fn probed(&mut self, endpoint: EndpointId, answer: Option<ProbeAnswer>, now: Instant) {
        match answer {
            Some(answer) => {
                let uses = self.uses();
                self.loads.add(answer.in_flight);
                self.pool.add(endpoint, answer, uses, now);
            }
            None => {
                self.pool.remove(endpoint);
                self.penalties.failed(endpoint, None, now);
            }
        }
    }

    fn returned(&mut self, endpoint: EndpointId, _now: Instant) {
        self.pool.remove(endpoint);
        self.penalties.forget(endpoint);
    }

    fn succeed(&mut self, old: Box<dyn Balancer>, keeps: &[bool], _now: Instant) {
        let old = same::<Self>(old);
        self.in_flight.succeed(&old.in_flight, keeps);
        self.penalties.succeed(&old.penalties, keeps);
        self.pool.succeed(&old.pool, keeps);
        self.loads = old.loads;
        self.ready = old.ready;
        self.due = old.due;
        self.last_probe = old.last_probe;
        self.carried_uses = old.carried_uses;
        self.worst_is_next = old.worst_is_next;
    }
}

#[cfg(test)]
mod tests;

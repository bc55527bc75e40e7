//! What a request has to pass before it is placed: the shell around [`crate::policy::limit`].
//!
//! Each of these refuses at once and none makes a request wait: work that cannot be done in time
//! is cheapest when it is refused before it has begun.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::balance::Cluster;
use crate::config::ClusterConfig;
use crate::error::{Flag, Refusal};
use crate::listener::Peer;
use crate::policy::limit::breaker::{Breaker, Kind};
use crate::policy::limit::circuit::{Circuit, Outcome, Pass};
use crate::policy::limit::gradient::{Ended, Gradient};
use crate::policy::limit::rate::{RateLimit, RateLimitKey, RateLimitOptions};
use crate::telemetry::event::{CircuitState, Event, Limit, Named as _, RequestOutcome};

/// How often requests of a route may come.
pub(crate) struct RateLimiter {
    by: RateLimitKey,
    limit: Mutex<RateLimit>,
}

impl RateLimiter {
    pub(crate) fn new(options: &RateLimitOptions, now: Instant) -> Self {
        let limit = Mutex::new(RateLimit::new(options, now.into_std()));
        Self { by: options.by.clone(), limit }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`] when it is one too many.
    pub(crate) fn check(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        now: Instant,
    ) -> Result<(), Refusal> {
        let key = match &self.by {
            RateLimitKey::Route => 0,
            RateLimitKey::Source => hash_of(peer),
            // Those without the field share one bucket: leaving it out must not lift the limit.
            RateLimitKey::Header(name) => {
                headers.get(name).map_or(0, |value| xxh3_64(value.as_bytes()))
            }
        };
        let checked = lock(&self.limit).check(key, now.into_std());
        checked.map_err(|after| Refusal::RateLimited { retry_after: after.0 })
    }
}

/// An address without its port, as a number.
pub(crate) fn hash_of(peer: Peer) -> u64 {
    match peer.0.ip().to_canonical() {
        IpAddr::V4(ip) => xxh3_64(&ip.octets()),
        IpAddr::V6(ip) => xxh3_64(&ip.octets()),
    }
}

/// What requests to a cluster have to pass. A cluster that goes on under other rules shares with
/// the one before it whatever these say nothing new about.
pub(crate) struct Limits {
    pub(crate) breaker: Arc<Breaker>,
    gradient: Option<Arc<Mutex<Gradient>>>,
    circuit: Option<Arc<Mutex<Told>>>,
}

/// A circuit, and the state that the world was last told of.
struct Told {
    circuit: Circuit,
    state: CircuitState,
    /// Another circuit has taken its place: nobody is told of this one any more.
    superseded: bool,
}

impl Limits {
    pub(crate) fn new(config: &ClusterConfig, now: Instant) -> Self {
        let now = now.into_std();
        let gradient = |options| Arc::new(Mutex::new(Gradient::new(options, now)));
        let circuit = |options| {
            let (circuit, state) = (Circuit::new(options, now), CircuitState::Closed);
            Arc::new(Mutex::new(Told { circuit, state, superseded: false }))
        };
        Self {
            breaker: Arc::new(Breaker::new(&config.limits)),
            gradient: config.concurrency.map(gradient),
            circuit: config.circuit.map(circuit),
        }
    }

    /// Those of a cluster that goes on under `new` rules instead of `old` ones: what is the same is
    /// shared, so that nothing which is counted there is forgotten.
    pub(crate) fn under(
        &self,
        new: &ClusterConfig,
        old: &ClusterConfig,
        same_pools: bool,
        now: Instant,
    ) -> Self {
        let mut limits = Self::new(new, now);
        if same_pools {
            limits.breaker = self.breaker.clone();
        }
        if new.concurrency == old.concurrency {
            limits.gradient = self.gradient.clone();
        }
        if new.circuit == old.circuit {
            limits.circuit = self.circuit.clone();
        }
        limits
    }

    /// Takes the place of `old`, whose circuit is silent from now on unless it is this one's too.
    /// True if it was not closed when it was last heard of.
    pub(crate) fn supersede(&self, old: &Self) -> bool {
        let Some(circuit) = &old.circuit else { return false };
        if self.circuit.as_ref().is_some_and(|same| Arc::ptr_eq(same, circuit)) {
            return false;
        }
        let mut told = lock(circuit);
        told.superseded = true;
        told.state != CircuitState::Closed
    }

    /// How many requests may be in flight by what latency says, if anybody asks it.
    pub(crate) fn concurrency(&self) -> Option<u32> {
        self.gradient.as_ref().map(|gradient| lock(gradient).limit())
    }

    /// The circuit's state, if there is a circuit.
    pub(crate) fn circuit(&self, now: Instant) -> Option<CircuitState> {
        self.circuit.as_ref().map(|circuit| lock(circuit).circuit.state(now.into_std()))
    }
}

/// The room that a request takes in its cluster's limits, until it ends.
pub(crate) struct Admission {
    cluster: Arc<Cluster>,
    /// What let it through the circuit.
    pass: Option<Pass>,
    in_gradient: bool,
}

impl Admission {
    /// Lets a request in.
    ///
    /// # Errors
    /// [`Refusal::CircuitOpen`] or [`Refusal::LimitReached`].
    pub(crate) fn ask(cluster: &Arc<Cluster>, now: Instant) -> Result<Self, Refusal> {
        let limits = &cluster.limits;
        if !limits.breaker.try_enter(Kind::Request) {
            let bound = limits.breaker.limit(Kind::Request);
            return Err(reached(cluster, Limit::Requests, bound, now));
        }
        // From here on, dropping it leaves again.
        let mut admission = Self { cluster: cluster.clone(), pass: None, in_gradient: false };
        if let Some(gradient) = &limits.gradient {
            let mut gradient = lock(gradient);
            if !gradient.admit() {
                let bound = gradient.limit() as usize;
                drop(gradient);
                return Err(reached(cluster, Limit::Concurrency, bound, now));
            }
            admission.in_gradient = true;
        }
        if let Some(circuit) = &limits.circuit {
            match change(cluster, circuit, now, |circuit| circuit.admit(now.into_std())) {
                Ok(pass) => admission.pass = Some(pass),
                Err(refused) => {
                    let limit = Limit::Circuit;
                    cluster.emit(now, &Event::LimitReached { cluster: cluster.id, limit });
                    return Err(Refusal::CircuitOpen {
                        cluster: cluster.name.clone(),
                        retry_after: refused.retry_after,
                    });
                }
            }
        }
        Ok(admission)
    }

    /// The request has ended after `elapsed`; `status` is what the caller got.
    pub(crate) fn ended(mut self, outcome: RequestOutcome, elapsed: Duration, now: Instant) {
        let (health, ended) = match outcome {
            RequestOutcome::Ok => (Outcome::Success, Ended::After(elapsed)),
            RequestOutcome::Failed => (Outcome::Failure, Ended::Dropped),
            // It would have taken longer still.
            RequestOutcome::Refused(Flag::UT) => (Outcome::Failure, Ended::After(elapsed)),
            RequestOutcome::Refused(Flag::UF | Flag::UC | Flag::UPE | Flag::UH) => {
                (Outcome::Failure, Ended::Dropped)
            }
            RequestOutcome::Refused(_) | RequestOutcome::Cancelled => {
                (Outcome::Unknown, Ended::Dropped)
            }
        };
        self.leave(health, ended, now);
    }

    fn leave(&mut self, outcome: Outcome, ended: Ended, now: Instant) {
        let limits = &self.cluster.limits;
        if let (Some(circuit), Some(pass)) = (&limits.circuit, self.pass.take()) {
            change(&self.cluster, circuit, now, |circuit| {
                circuit.record(pass, outcome, now.into_std());
            });
        }
        if let Some(gradient) = limits.gradient.as_ref().filter(|_| self.in_gradient) {
            self.in_gradient = false;
            lock(gradient).on_end(ended, now.into_std());
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        // The clock is not read for those that have ended, which is nearly all.
        if self.pass.is_some() || self.in_gradient {
            self.leave(Outcome::Unknown, Ended::Dropped, Instant::now());
        }
        self.cluster.limits.breaker.leave(Kind::Request);
    }
}

/// Asks the circuit something, and says so when that changes its state.
fn change<T>(
    cluster: &Cluster,
    circuit: &Mutex<Told>,
    now: Instant,
    ask: impl FnOnce(&mut Circuit) -> T,
) -> T {
    let (answer, state, is_new) = {
        let mut told = lock(circuit);
        let answer = ask(&mut told.circuit);
        let state = told.circuit.state(now.into_std());
        let before = std::mem::replace(&mut told.state, state);
        (answer, state, before != state && !told.superseded)
    };
    if is_new {
        cluster.emit(now, &Event::CircuitChanged { cluster: cluster.id, state });
    }
    answer
}

fn reached(cluster: &Cluster, limit: Limit, bound: usize, now: Instant) -> Refusal {
    cluster.emit(now, &Event::LimitReached { cluster: cluster.id, limit });
    Refusal::LimitReached { of: cluster.name.clone(), limit: limit.name(), bound }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic inside a policy is a defect; its state is still the best there is.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

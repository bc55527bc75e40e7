//! A cluster's endpoints, and the shell around [`crate::policy::balance`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::config::{ClusterConfig, EndpointAddr};
use crate::policy::balance::{Balancer, EndpointId, EndpointLoad, LoadEvent};
use crate::pool::Pool;
use crate::rng::{StreamRng, stream};
use crate::seam::Dialer;
use crate::telemetry::{ClusterStats, EndpointStats, Telemetry};

/// Endpoints that can serve the same requests.
pub struct Cluster {
    /// Its name in the configuration.
    pub name: String,
    /// The strategy's name.
    pub strategy: &'static str,
    /// In the order of the configuration; an [`EndpointId`] is a place in it.
    pub endpoints: Vec<Endpoint>,
    /// Its counters.
    pub stats: ClusterStats,
    /// The endpoints that may be picked: all of them, until something ejects.
    ready: Vec<EndpointId>,
    /// One lock a cluster, held for a pick or an event and never across an await. Counts are
    /// exact that way, which is worth more here than the tens of nanoseconds.
    balancing: Mutex<Balancing>,
}

/// One endpoint of a cluster.
pub struct Endpoint {
    /// Where it is.
    pub addr: EndpointAddr,
    /// Connections to it.
    pub pool: Arc<Pool>,
    /// Its counters.
    pub stats: EndpointStats,
}

struct Balancing {
    balancer: Box<dyn Balancer>,
    rng: StreamRng,
}

impl Cluster {
    /// A cluster without any connection yet. Its random choices are the stream
    /// `balance/<name>` of `seed`.
    pub fn new(config: &ClusterConfig, seed: u64, dialer: &Dialer, telemetry: &Telemetry) -> Self {
        let strategy = config.balance.0;
        let count = config.endpoints.len();
        let endpoints = config.endpoints.iter().map(|addr| {
            let stats = telemetry.endpoint(config.name.as_str(), addr);
            let pool = Pool::new(addr.clone(), dialer.clone(), config, stats.clone());
            Endpoint { addr: addr.clone(), pool: Arc::new(pool), stats }
        });
        Self {
            name: config.name.as_str().to_owned(),
            strategy: strategy.name,
            endpoints: endpoints.collect(),
            stats: telemetry.cluster(config.name.as_str()),
            ready: (0..count).map(EndpointId).collect(),
            balancing: Mutex::new(Balancing {
                balancer: strategy.build(count, &config.balancer_options()),
                rng: stream(seed, &format!("balance/{}", config.name)),
            }),
        }
    }

    /// Picks an endpoint and counts a request on it, in one step, so that two requests cannot both
    /// see it idle. `None` when there is no endpoint to pick.
    pub fn place(self: &Arc<Self>) -> Option<Placement> {
        let now = Instant::now();
        let endpoint = {
            let mut guard = self.lock();
            let Balancing { balancer, rng } = &mut *guard;
            let endpoint = balancer.pick(&self.ready, now.into_std(), rng)?;
            balancer.observe(endpoint, LoadEvent::Sent, now.into_std());
            endpoint
        };
        let placement =
            Placement { cluster: self.clone(), endpoint, sent: now, stage: Stage::Waiting };
        placement.endpoint().stats.request_sent();
        self.stats.request_sent();
        Some(placement)
    }

    /// What the strategy believes about an endpoint now.
    pub fn load(&self, endpoint: EndpointId) -> EndpointLoad {
        self.lock().balancer.load(endpoint, Instant::now().into_std())
    }

    fn observe(&self, endpoint: EndpointId, event: LoadEvent, now: Instant) {
        self.lock().balancer.observe(endpoint, event, now.into_std());
    }

    fn lock(&self) -> MutexGuard<'_, Balancing> {
        // A panic inside a policy is a defect; its state is still the best there is.
        self.balancing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request on an endpoint, from the pick to the end of the response.
///
/// It keeps the balancer's books: whatever way the request ends, dropping this says so.
pub struct Placement {
    cluster: Arc<Cluster>,
    endpoint: EndpointId,
    sent: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No response head yet.
    Waiting,
    /// The head has arrived, or it is known that none will.
    Settled,
}

impl Placement {
    /// Where the request is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.cluster.endpoints[self.endpoint.0]
    }

    /// A response head has arrived.
    pub fn answered(&mut self, status: http::StatusCode) {
        let now = Instant::now();
        let latency = now.duration_since(self.sent);
        self.settle(LoadEvent::Answered { latency }, now);
        self.endpoint().stats.answered(status, latency);
        self.cluster.stats.answered(status, latency);
    }

    /// There will be no response.
    pub fn failed(&mut self) {
        let now = Instant::now();
        self.settle(LoadEvent::Failed { elapsed: now.duration_since(self.sent) }, now);
        self.endpoint().stats.failed();
    }

    /// The route's time is up.
    pub fn timed_out(&mut self) {
        self.cancel(Instant::now());
        self.endpoint().stats.timed_out();
    }

    fn cancel(&mut self, now: Instant) {
        self.settle(LoadEvent::Cancelled { elapsed: now.duration_since(self.sent) }, now);
    }

    // Waiting → Settled
    fn settle(&mut self, event: LoadEvent, now: Instant) {
        if self.stage == Stage::Waiting {
            self.stage = Stage::Settled;
            self.cluster.observe(self.endpoint, event, now);
        }
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        let now = Instant::now();
        if self.stage == Stage::Waiting {
            // The caller left: nobody else drops a request that waits for its head.
            self.cancel(now);
            self.endpoint().stats.cancelled();
        }
        self.cluster.observe(self.endpoint, LoadEvent::Ended, now);
        self.endpoint().stats.request_ended();
        self.cluster.stats.request_ended();
    }
}

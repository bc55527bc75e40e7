//! A cluster's endpoints, and the shell around [`crate::policy::balance`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::config::{ClusterConfig, EndpointAddr};
use crate::policy::balance::{Balancer, EndpointId, EndpointLoad, LoadEvent};
use crate::pool::Pool;
use crate::rng::{StreamRng, stream};
use crate::seam::Dialer;
use crate::telemetry::{EndpointStats, Telemetry};

/// Endpoints that can serve the same requests.
pub struct Cluster {
    /// Its name in the configuration.
    pub name: String,
    /// The strategy's name.
    pub strategy: &'static str,
    /// In the order of the configuration; an [`EndpointId`] is a place in it.
    pub endpoints: Vec<Endpoint>,
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
    /// The head of a response has arrived.
    Answered(StatusCode),
    /// How it ended is known and counted.
    Settled,
}

impl Placement {
    /// Where the request is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.cluster.endpoints[self.endpoint.0]
    }

    /// A response head has arrived.
    // Waiting → Answered
    pub fn answered(&mut self, status: StatusCode) {
        assert!(self.stage == Stage::Waiting, "a request is answered once");
        let now = Instant::now();
        let latency = now.duration_since(self.sent);
        self.stage = Stage::Answered(status);
        let event = if status.is_server_error() {
            LoadEvent::Failed { elapsed: latency }
        } else {
            LoadEvent::Answered { latency }
        };
        self.cluster.observe(self.endpoint, event, now);
        self.endpoint().stats.answered(latency);
    }

    /// The response is complete.
    // Answered → Settled
    pub fn completed(mut self) {
        if let Stage::Answered(status) = self.stage {
            self.stage = Stage::Settled;
            self.endpoint().stats.completed(status);
        }
    }

    /// There will be no response, or no more of it, and that is the endpoint's doing.
    pub fn failed(&mut self) {
        if self.settle(|elapsed| LoadEvent::Failed { elapsed }) {
            self.endpoint().stats.failed();
        }
    }

    /// The route's time is up.
    pub fn timed_out(&mut self) {
        if self.settle(|elapsed| LoadEvent::Cancelled { elapsed }) {
            self.endpoint().stats.timed_out();
        }
    }

    /// The caller left, or broke off its request.
    pub fn cancelled(&mut self) {
        if self.settle(|elapsed| LoadEvent::Cancelled { elapsed }) {
            self.endpoint().stats.cancelled();
        }
    }

    /// True the first time, which is the one that counts. The balancer hears of it only while no
    /// head has arrived: after that, the request has told it its latency.
    // Waiting → Settled, Answered → Settled
    fn settle(&mut self, event: impl Fn(Duration) -> LoadEvent) -> bool {
        let stage = std::mem::replace(&mut self.stage, Stage::Settled);
        if stage == Stage::Waiting {
            let now = Instant::now();
            let event = event(now.duration_since(self.sent));
            self.cluster.observe(self.endpoint, event, now);
        }
        stage != Stage::Settled
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        // Nobody else drops a request before its end than a caller that leaves.
        self.cancelled();
        self.cluster.observe(self.endpoint, LoadEvent::Ended, Instant::now());
        self.endpoint().stats.request_ended();
    }
}

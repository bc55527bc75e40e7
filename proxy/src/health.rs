//! Asking endpoints whether they are well: the shell around [`crate::policy::health`].

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use http::Uri;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::ask;
use crate::balance::{Cluster, Endpoint};
use crate::policy::health::{CheckKind, HealthCheck, HealthCheckOptions};
use crate::pool::SeatHold;
use crate::rng::stream;
use crate::telemetry::event::EndpointRef;

/// The checks of all endpoints of all clusters, while they come and go. Dropping this ends them.
pub(crate) struct HealthChecks {
    seed: u64,
    tasks: JoinSet<()>,
    running: BTreeMap<EndpointRef, Running>,
}

/// The checks of one endpoint, in one cluster's rules.
struct Running {
    cluster: Weak<Cluster>,
    hold: Weak<SeatHold>,
    task: AbortHandle,
}

impl Running {
    fn is_of(&self, cluster: &Arc<Cluster>, endpoint: &Endpoint) -> bool {
        self.cluster.as_ptr() == Arc::as_ptr(cluster)
            && self.hold.as_ptr() == Arc::as_ptr(endpoint.pool.hold())
    }
}

impl HealthChecks {
    /// None yet. The times of each are drawn from a stream of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, tasks: JoinSet::new(), running: BTreeMap::new() }
    }

    /// Begins to check the endpoints that are new, and ceases to check those that are gone.
    pub(crate) fn follow(&mut self, clusters: &[Arc<Cluster>]) {
        while self.tasks.try_join_next().is_some() {}
        let mut before = std::mem::take(&mut self.running);
        for cluster in clusters.iter().filter(|cluster| cluster.health_check.is_some()) {
            for endpoint in cluster.endpoints() {
                let at = EndpointRef { cluster: cluster.id, endpoint: endpoint.id };
                let same = before.remove(&at).filter(|running| {
                    let same = running.is_of(cluster, &endpoint);
                    if !same {
                        running.task.abort();
                    }
                    same
                });
                let running = same.unwrap_or_else(|| self.begin(cluster, endpoint));
                self.running.insert(at, running);
            }
        }
        before.values().for_each(|running| running.task.abort());
    }

    fn begin(&mut self, cluster: &Arc<Cluster>, endpoint: Arc<Endpoint>) -> Running {
        let hold = Arc::downgrade(endpoint.pool.hold());
        let checks = check_for_ever(cluster.clone(), endpoint, self.seed);
        Running { cluster: Arc::downgrade(cluster), hold, task: self.tasks.spawn(checks) }
    }
}

async fn check_for_ever(cluster: Arc<Cluster>, endpoint: Arc<Endpoint>, seed: u64) {
    let Some(options) = &cluster.health_check else { return };
    let name = format!("health/{}/{}", cluster.name, endpoint.id.0);
    let mut rng = stream(seed, &name);
    let mut check = HealthCheck::new(Instant::now().into_std());
    while let Some(next) = check.next() {
        sleep_until(next.into()).await;
        check.started(Instant::now().into_std());
        let passed = passes(&cluster, &endpoint, options).await;
        let now = Instant::now().into_std();
        let verdict = check.finished(passed, now, options, &mut rng);
        cluster.health_checked(&endpoint, verdict.healthy);
    }
}

async fn passes(cluster: &Cluster, endpoint: &Endpoint, options: &HealthCheckOptions) -> bool {
    let addr = endpoint.addr.clone();
    let dialer = cluster.dialer();
    let outcome = match &options.kind {
        CheckKind::Tcp => ask::connect(dialer, addr.clone(), options.timeout).await.map(|()| true),
        CheckKind::Http(http) => {
            let path = Uri::try_from(http.path.as_str()).unwrap_or_default();
            let answer = ask::get(dialer, addr.clone(), path, options.timeout).await;
            answer.map(|response| http.passes(response.status().as_u16()))
        }
    };
    outcome.unwrap_or_else(|error| {
        tracing::debug!(endpoint = %addr, %error, "a health check failed");
        false
    })
}

//! Asking endpoints whether they are well: the shell around [`crate::policy::health`].

use std::sync::Arc;

use futures_util::future::join_all;
use http::Uri;
use tokio::time::{Instant, sleep_until};

use crate::ask;
use crate::balance::Cluster;
use crate::policy::balance::EndpointId;
use crate::policy::health::{CheckKind, HealthCheck, HealthCheckOptions};
use crate::rng::stream;

/// Checks all endpoints of a cluster for as long as it is polled, if the cluster says how.
pub(crate) async fn check_all(cluster: Arc<Cluster>, seed: u64) {
    let Some(options) = &cluster.health_check else { return };
    let checks = (0..cluster.endpoints.len()).map(|place| {
        let endpoint = EndpointId(place);
        check_for_ever(&cluster, endpoint, options, seed)
    });
    join_all(checks).await;
}

async fn check_for_ever(
    cluster: &Arc<Cluster>,
    endpoint: EndpointId,
    options: &HealthCheckOptions,
    seed: u64,
) {
    let name = format!("health/{}/{}", cluster.name, endpoint.0);
    let mut rng = stream(seed, &name);
    let mut check = HealthCheck::new(Instant::now().into_std());
    while let Some(next) = check.next() {
        sleep_until(next.into()).await;
        check.started(Instant::now().into_std());
        let passed = passes(cluster, endpoint, options).await;
        let now = Instant::now().into_std();
        let verdict = check.finished(passed, now, options, &mut rng);
        cluster.health_checked(endpoint, verdict.healthy);
    }
}

async fn passes(cluster: &Cluster, endpoint: EndpointId, options: &HealthCheckOptions) -> bool {
    let addr = cluster.endpoints[endpoint.0].addr.clone();
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

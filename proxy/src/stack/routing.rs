//! What a configuration makes of requests: routes, what is done for them, and their clusters. A
//! request takes hold of one when it comes and keeps it to its end.

use std::sync::Arc;

use tokio::time::Instant;

use crate::balance::Cluster;
use crate::config::{Config, Fallback, HashOn, RouteConfig};
use crate::limit::RateLimiter;
use crate::policy::hedge::HedgeOptions;
use crate::policy::membership::SubsetId;
use crate::policy::retry::RetryOptions;
use crate::route::RouteTable;
use crate::telemetry::Telemetry;
use crate::telemetry::event::ClusterId;

/// A configuration in force.
pub(super) struct Routing {
    pub(super) routes: RouteTable,
    /// What is done for the requests of each route, by [`crate::route::Route::index`].
    pub(super) treatments: Vec<Treatment>,
    /// In the order of the configuration.
    pub(super) clusters: Vec<Arc<Cluster>>,
    pub(super) telemetry: Arc<Telemetry>,
    /// It is the so-many-eth of this process, from 1.
    pub(super) generation: u64,
    pub(super) config: Arc<Config>,
}

/// What is done for the requests of a route.
pub(super) struct Treatment {
    pub(super) retry: RetryOptions,
    pub(super) hedge: Option<HedgeOptions>,
    pub(super) rate_limit: Option<Arc<RateLimiter>>,
    pub(super) subset: SubsetId,
    pub(super) hash: Option<HashOn>,
    pub(super) fallback: Option<Fallback>,
    /// Keeps `subset` from coming to mean another one.
    _subset_hold: Option<Arc<()>>,
}

impl Routing {
    /// Of a checked configuration, with its clusters in its order. Rate limits of routes that
    /// `before` had too go on.
    pub(super) fn new(
        config: Arc<Config>,
        clusters: Vec<Arc<Cluster>>,
        telemetry: Arc<Telemetry>,
        before: Option<&Self>,
    ) -> Self {
        let now = Instant::now();
        let place = |name: &str| clusters.iter().position(|cluster| cluster.name == name);
        let treatments = config.routes.iter().map(|route| {
            let cluster = place(route.cluster.as_str()).map(|place| &clusters[place]);
            let (subset, hold) =
                cluster.map_or((SubsetId::ALL, None), |cluster| cluster.subset(&route.labels));
            let new = || {
                let limit = route.rate_limit.as_ref()?;
                Some(Arc::new(RateLimiter::new(limit, now)))
            };
            Treatment {
                retry: route.retry.clone(),
                hedge: route.hedge,
                rate_limit: before.and_then(|before| before.rate_limit(route)).or_else(new),
                subset,
                hash: route.hash.clone(),
                fallback: route.fallback.clone(),
                _subset_hold: hold,
            }
        });
        let treatments = treatments.collect();
        let routes = RouteTable::new(&config.routes, place);
        let generation = before.map_or(1, |before| before.generation + 1);
        Self { routes, treatments, clusters, telemetry, generation, config }
    }

    /// The limit of the same route, if it has the same.
    fn rate_limit(&self, route: &RouteConfig) -> Option<Arc<RateLimiter>> {
        let mut known = self.config.routes.iter().zip(&self.treatments);
        let (_, treatment) = known.find(|(known, _)| {
            known.host == route.host
                && known.prefix == route.prefix
                && known.cluster == route.cluster
                && known.rate_limit == route.rate_limit
        })?;
        treatment.rate_limit.clone()
    }

    /// The cluster of the route at `index` in the configuration.
    pub(super) fn cluster_of(&self, index: usize) -> Option<ClusterId> {
        Some(self.clusters.get(self.routes.cluster_of(index)?)?.id)
    }
}

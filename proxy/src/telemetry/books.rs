//! Who counts what: an event finds its counters by place and adds to them.
//!
//! The path counts each thing once, at the endpoint where it happened. What a cluster did is the sum
//! over its endpoints, taken when somebody asks; so a cluster's numbers cannot differ from those of
//! its endpoints, and an attempt costs half of the additions.

use std::sync::Arc;

use super::ClusterLabels;
use super::event::{ClusterId, EndpointRef, Event, Named as _};
use super::totals::{
    ClusterCounters, ClusterTotals, EndpointCounters, EndpointTotals, RequestCounters,
};

/// All counters that events reach, in the order of the configuration.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) requests: RequestCounters,
    clusters: Vec<ClusterBook>,
}

#[derive(Debug)]
struct ClusterBook {
    name: Arc<str>,
    counters: ClusterCounters,
    endpoints: Vec<EndpointBook>,
}

#[derive(Debug)]
struct EndpointBook {
    address: Arc<str>,
    counters: EndpointCounters,
}

/// One endpoint's reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRow {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// The endpoint's address.
    pub endpoint: Arc<str>,
    /// What it counted.
    pub totals: EndpointTotals,
}

/// One cluster's reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRow {
    /// Its name.
    pub cluster: Arc<str>,
    /// Endpoints that it has.
    pub members: u64,
    /// The sum over its endpoints.
    pub endpoints: EndpointTotals,
    /// What happened to it as a whole.
    pub totals: ClusterTotals,
}

impl Books {
    pub(super) fn new(clusters: &[ClusterLabels]) -> Self {
        let clusters = clusters.iter().map(|cluster| ClusterBook {
            name: cluster.name.as_str().into(),
            counters: ClusterCounters::default(),
            endpoints: cluster
                .endpoints
                .iter()
                .map(|address| EndpointBook {
                    address: address.as_str().into(),
                    counters: EndpointCounters::default(),
                })
                .collect(),
        });
        Self { clusters: clusters.collect(), ..Self::default() }
    }

    pub(super) fn cluster_name(&self, cluster: ClusterId) -> &Arc<str> {
        &self.clusters[cluster.0].name
    }

    pub(super) fn endpoint_address(&self, at: EndpointRef) -> &Arc<str> {
        &self.clusters[at.cluster.0].endpoints[at.endpoint.0].address
    }

    fn cluster(&self, cluster: ClusterId) -> &ClusterCounters {
        &self.clusters[cluster.0].counters
    }

    pub(super) fn endpoint(&self, at: EndpointRef) -> &EndpointCounters {
        &self.clusters[at.cluster.0].endpoints[at.endpoint.0].counters
    }

    /// Counts an event.
    pub(super) fn count(&self, event: &Event) {
        match event {
            Event::RequestReceived => self.requests.received.up(),
            Event::RequestEnded(end) => self.requests.ended(end),
            Event::AttemptStarted { at, kind } => self.endpoint(*at).attempts.up(kind.place()),
            Event::AttemptAnswered { at, latency, .. } => {
                self.endpoint(*at).latency.observe(*latency);
            }
            Event::AttemptEnded { at, end } => self.endpoint(*at).ended(*end),
            Event::ConnectionOpened { at } => self.endpoint(*at).cx_opened.up(),
            Event::ConnectionClosed { at } => self.endpoint(*at).cx_closed.up(),
            Event::ConnectFailed { at } => self.endpoint(*at).connect_failed.up(),
            Event::QueueOverflowed { at } => self.endpoint(*at).queue_overflowed.up(),
            Event::QueueTimedOut { at } => self.endpoint(*at).queue_timed_out.up(),
            Event::Ejected { at, reason, .. } => {
                self.endpoint(*at).ejected.up(reason.place());
                self.endpoint(*at).set_ejected(true);
            }
            Event::EjectionOverflowed { at, reason } => {
                self.endpoint(*at).ejection_overflowed.up(reason.place());
            }
            Event::Detected { at, reason } => self.endpoint(*at).detected.up(reason.place()),
            Event::TrialFailed { at, .. } => self.endpoint(*at).trial_failed.up(),
            Event::Probed { at } => self.endpoint(*at).probed.up(),
            Event::Returned { at } => {
                self.endpoint(*at).returned.up();
                self.endpoint(*at).set_ejected(false);
            }
            Event::HealthChanged { at, healthy } => self.endpoint(*at).set_healthy(*healthy),
            Event::RateLimited => self.requests.rate_limited.up(),
            Event::RetryScheduled { cluster, .. } => self.cluster(*cluster).retry_scheduled.up(),
            Event::RetryGivenUp { cluster, why } => {
                self.cluster(*cluster).retry_given_up.up(why.place());
            }
            Event::RetrySucceeded { cluster } => self.cluster(*cluster).retry_succeeded.up(),
            Event::LimitReached { cluster, limit } => {
                self.cluster(*cluster).limit_reached.up(limit.place());
            }
            Event::NoneHealthy { cluster } => self.cluster(*cluster).none_healthy.up(),
            Event::PanicChanged { cluster, panics } => self.cluster(*cluster).panics.set(*panics),
            Event::PlacedInPanic { cluster } => self.cluster(*cluster).placed_in_panic.up(),
            Event::CircuitChanged { cluster, state } => {
                self.cluster(*cluster).circuit_changed(*state);
            }
            Event::FallbackServed { cluster } => self.cluster(*cluster).fallback_served.up(),
        }
    }

    /// A reading of every endpoint.
    pub(super) fn endpoint_rows(&self) -> Vec<EndpointRow> {
        let of_cluster = |cluster: &ClusterBook| {
            let name = cluster.name.clone();
            let row = move |endpoint: &EndpointBook| EndpointRow {
                cluster: name.clone(),
                endpoint: endpoint.address.clone(),
                totals: endpoint.counters.read(),
            };
            cluster.endpoints.iter().map(row).collect::<Vec<_>>()
        };
        self.clusters.iter().flat_map(of_cluster).collect()
    }

    /// A reading of every cluster.
    pub(super) fn cluster_rows(&self) -> Vec<ClusterRow> {
        let row = |cluster: &ClusterBook| {
            let mut endpoints = EndpointTotals::default();
            for endpoint in &cluster.endpoints {
                endpoints.add(&endpoint.counters.read());
            }
            ClusterRow {
                cluster: cluster.name.clone(),
                members: cluster.endpoints.len() as u64,
                endpoints,
                totals: cluster.counters.read(),
            }
        };
        self.clusters.iter().map(row).collect()
    }
}

//! What the admin endpoint shows of a running sidecar.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{ClusterView, EjectionView, EndpointState, EndpointView, Inspect, ServerView};
use crate::balance::{Cluster, Endpoint};
use crate::policy::outlier::GateState;
use crate::stack::Stack;
use crate::telemetry::event::Named as _;
use crate::telemetry::{EndpointRef, Telemetry};

/// A sidecar to look at.
pub struct Sidecar {
    /// Its data path.
    pub stack: Arc<Stack>,
    /// When it started.
    pub start: Instant,
    /// Threads that serve requests.
    pub workers: usize,
    /// What every random choice is derived from.
    pub seed: u64,
}

impl Inspect for Sidecar {
    fn clusters(&self) -> Vec<ClusterView> {
        let now = Instant::now();
        self.stack.clusters().iter().map(|cluster| self.cluster(cluster, now)).collect()
    }

    fn server_info(&self) -> ServerView {
        let version = env!("CARGO_PKG_VERSION");
        let Self { workers, seed, .. } = *self;
        let config_generation = self.stack.generation();
        ServerView { version, uptime: self.start.elapsed(), workers, seed, config_generation }
    }

    fn config_dump(&self) -> String {
        let config = serde_json::to_string_pretty(&*self.stack.config());
        config.unwrap_or_else(|error| format!("the configuration cannot be shown: {error}")) + "\n"
    }

    fn telemetry(&self) -> &Telemetry {
        self.stack.telemetry()
    }
}

impl Sidecar {
    fn cluster(&self, cluster: &Cluster, now: Instant) -> ClusterView {
        let endpoints = cluster.endpoints();
        ClusterView {
            name: cluster.name.as_str().into(),
            balance: cluster.strategy,
            panics: cluster.panics(),
            circuit: cluster.circuit(now).map(|state| state.name()),
            concurrency: cluster.concurrency(),
            endpoints: endpoints.iter().map(|at| self.endpoint(cluster, at, now)).collect(),
        }
    }

    fn endpoint(&self, cluster: &Cluster, endpoint: &Endpoint, now: Instant) -> EndpointView {
        let id = endpoint.id;
        let at = EndpointRef { cluster: cluster.id, endpoint: id };
        let totals = self.stack.telemetry().endpoint_totals(at);
        let load = cluster.load(id);
        let gate = cluster.state(id);
        let factor = cluster.factor(gate, now);
        EndpointView {
            address: endpoint.addr.as_str().into(),
            zone: endpoint.config.zone.as_deref().map(Arc::from),
            weight: f64::from(endpoint.config.weight.get()) * factor,
            priority: endpoint.config.priority,
            state: match endpoint.config.draining {
                true => EndpointState::Draining,
                false => state_of(gate, factor),
            },
            ejection: ejection_of(gate, now),
            in_flight: load.in_flight,
            latency_estimate_ms: load.latency_estimate.map(milliseconds),
            success_rate: totals.success_rate(),
            cx_idle: endpoint.pool.idle_count(),
            counts: (&totals).into(),
        }
    }
}

fn state_of(gate: GateState, factor: f64) -> EndpointState {
    match gate {
        // It is watched for longer than it ramps, which is no news to anybody.
        GateState::Ramping { .. } if factor >= 1.0 => EndpointState::Ready,
        GateState::Available => EndpointState::Ready,
        GateState::Ramping { .. } => EndpointState::Ramping,
        GateState::Ejected { .. } => EndpointState::Ejected,
        GateState::HalfOpen => EndpointState::Probing,
        GateState::Unhealthy => EndpointState::Unhealthy,
    }
}

fn ejection_of(gate: GateState, now: Instant) -> Option<EjectionView> {
    let GateState::Ejected { until, reason, .. } = gate else { return None };
    let remaining = until.saturating_duration_since(now.into_std());
    Some(EjectionView { reason: reason.name(), remaining })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

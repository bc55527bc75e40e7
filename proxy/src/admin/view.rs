//! What the admin endpoint shows of clusters and of the process, as values that the shell fills.
//!
//! The text is Envoy's `cluster::endpoint::key::value`, a fact a line, which `grep` and `awk` take
//! apart; the JSON has the same facts.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::telemetry::EndpointSnapshot;

/// A cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClusterView {
    /// Its name.
    pub name: Arc<str>,
    /// The balancing strategy's name.
    pub balance: &'static str,
    /// Whether so few endpoints are available that all are used.
    pub panics: bool,
    /// `closed`, `open` or `half_open`; `None` for a cluster without a circuit.
    pub circuit: Option<&'static str>,
    /// Requests that may be in flight, where that follows latency.
    pub concurrency: Option<u32>,
    /// Its endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointView>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointView {
    /// Its `host:port`.
    pub address: Arc<str>,
    /// Where it is, if anybody said.
    pub zone: Option<Arc<str>>,
    /// Its share relative to its siblings, now: an endpoint that is new or back may have less than
    /// it is configured to have.
    pub weight: f64,
    /// 0 is used first.
    pub priority: u32,
    /// Whether it is used.
    pub state: EndpointState,
    /// Why it is not, if it is ejected.
    pub ejection: Option<EjectionView>,
    /// Requests placed on it and not ended, as the balancer counts them.
    pub in_flight: u32,
    /// The latency that the balancer expects of it, in milliseconds.
    pub latency_estimate_ms: Option<f64>,
    /// The share of its attempts that went well, from 0 to 1; `None` before the first.
    pub success_rate: Option<f64>,
    /// Connections kept for later.
    pub cx_idle: usize,
    /// Its counters.
    #[serde(flatten)]
    pub counts: EndpointSnapshot,
}

/// Whether an endpoint is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// It gets its share.
    Ready,
    /// It gets a growing share, because it is new or back.
    Ramping,
    /// It is taken out.
    Ejected,
    /// It is taken out, and a request is on trial there.
    Probing,
    /// An active check finds it unhealthy.
    Unhealthy,
    /// It is finishing what it has.
    Draining,
}

impl EndpointState {
    /// As pages spell it.
    pub fn name(self) -> &'static str {
        match self {
            EndpointState::Ready => "ready",
            EndpointState::Ramping => "ramping",
            EndpointState::Ejected => "ejected",
            EndpointState::Probing => "probing",
            EndpointState::Unhealthy => "unhealthy",
            EndpointState::Draining => "draining",
        }
    }
}

impl Serialize for EndpointState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// An ejection that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EjectionView {
    /// What gave the endpoint away.
    pub reason: &'static str,
    /// How long until it is probed; in seconds as JSON.
    #[serde(rename = "remaining_s", serialize_with = "as_seconds")]
    pub remaining: Duration,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerView {
    /// Of this program.
    pub version: &'static str,
    /// Time since it started; in seconds as JSON.
    #[serde(rename = "uptime_s", serialize_with = "as_seconds")]
    pub uptime: Duration,
    /// Threads that serve requests.
    pub workers: usize,
    /// What every random choice is derived from; as text in JSON, where numbers lose digits.
    #[serde(serialize_with = "as_text")]
    pub seed: u64,
    /// The number of the configuration in force; the one at the start was 1.
    pub config_generation: u64,
}

/// Clusters as lines of `cluster::endpoint::key::value`.
pub(super) fn clusters_text(clusters: &[ClusterView]) -> String {
    let mut text = String::new();
    for cluster in clusters {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}::balance::{}", cluster.name, cluster.balance);
        let _ = writeln!(text, "{}::panics::{}", cluster.name, cluster.panics);
        if let Some(circuit) = cluster.circuit {
            let _ = writeln!(text, "{}::circuit::{circuit}", cluster.name);
        }
        if let Some(concurrency) = cluster.concurrency {
            let _ = writeln!(text, "{}::concurrency::{concurrency}", cluster.name);
        }
        for endpoint in &cluster.endpoints {
            for (key, value) in facts(endpoint) {
                let _ = writeln!(text, "{}::{}::{key}::{value}", cluster.name, endpoint.address);
            }
        }
    }
    text
}

fn facts(endpoint: &EndpointView) -> Vec<(&'static str, String)> {
    let mut facts = vec![("state", endpoint.state.name().to_owned())];
    if let Some(EjectionView { reason, remaining }) = endpoint.ejection {
        facts.push(("ejection_reason", reason.to_owned()));
        facts.push(("ejection_remaining_s", format!("{:.3}", remaining.as_secs_f64())));
    }
    facts.extend(endpoint.zone.as_ref().map(|zone| ("zone", zone.to_string())));
    facts.push(("weight", endpoint.weight.to_string()));
    facts.push(("priority", endpoint.priority.to_string()));
    facts.push(("in_flight", endpoint.in_flight.to_string()));
    let estimate = endpoint.latency_estimate_ms.map(|ms| format!("{ms:.3}"));
    facts.extend(estimate.map(|ms| ("latency_estimate_ms", ms)));
    let rate = endpoint.success_rate.map(|rate| format!("{rate:.6}"));
    facts.extend(rate.map(|rate| ("success_rate", rate)));
    let EndpointSnapshot {
        rq_total,
        rq_active,
        rq_success,
        rq_error,
        rq_discarded,
        rq_failed,
        rq_timeout,
        rq_per_try_timeout,
        rq_cancelled,
        rq_refused,
        rq_retry,
        rq_hedge,
        rq_replay,
        rq_pending_overflow,
        cx_total,
        cx_active,
        cx_connect_fail,
    } = endpoint.counts;
    let counts = [
        ("rq_total", rq_total),
        ("rq_success", rq_success),
        ("rq_error", rq_error),
        ("rq_discarded", rq_discarded),
        ("rq_failed", rq_failed),
        ("rq_timeout", rq_timeout),
        ("rq_per_try_timeout", rq_per_try_timeout),
        ("rq_cancelled", rq_cancelled),
        ("rq_refused", rq_refused),
        ("rq_retry", rq_retry),
        ("rq_hedge", rq_hedge),
        ("rq_replay", rq_replay),
        ("rq_pending_overflow", rq_pending_overflow),
        ("cx_total", cx_total),
        ("cx_connect_fail", cx_connect_fail),
    ];
    facts.push(("rq_active", rq_active.to_string()));
    facts.extend(counts.map(|(key, count)| (key, count.to_string())));
    facts.push(("cx_active", cx_active.to_string()));
    facts.push(("cx_idle", endpoint.cx_idle.to_string()));
    facts
}

fn as_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

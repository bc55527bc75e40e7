//! Counters, gauges and histograms, and their names.
//!
//! Names follow Envoy's (`upstream_rq_total`, `upstream_cx_active`, …) under the prefix
//! `sidecar_`, labelled instead of spliced. Handles are resolved once, at start, so that counting
//! on the request path is an atomic addition (for a histogram, a short lock) and never a look-up.

mod stats;

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use stats::{EndpointSnapshot, EndpointStats, ListenerStats, Open, RequestStats};

use self::stats::UpstreamStats;
use crate::config::EndpointAddr;
use crate::error::Flag;

/// Upper edges of the latency histogram in seconds: 0.5 ms to 10 s, each about twice the one
/// before, which is what a dashboard can use; exact percentiles come from the load generator.
const LATENCY_EDGES_S: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Everything that is counted.
pub struct Telemetry {
    registry: Mutex<Registry>,
    downstream: DownstreamFamilies,
    cluster: UpstreamFamilies<ClusterLabels>,
    endpoint: UpstreamFamilies<EndpointLabels>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FlagLabels {
    flag: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    cluster: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    cluster: String,
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClassLabels<L> {
    of: L,
    class: &'static str,
}

impl<L: EncodeLabelSet> EncodeLabelSet for ClassLabels<L> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        self.of.encode(encoder)?;
        [("class", self.class)].encode(encoder)
    }
}

struct DownstreamFamilies {
    cx_total: Family<ListenerLabels, Counter>,
    cx_active: Family<ListenerLabels, Gauge>,
    accept_fail: Family<ListenerLabels, Counter>,
    panic: Family<ListenerLabels, Counter>,
    rq_total: Counter,
    refused: Family<FlagLabels, Counter>,
}

struct UpstreamFamilies<L>
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq,
{
    rq_total: Family<L, Counter>,
    rq_active: Family<L, Gauge>,
    rq_timeout: Family<L, Counter>,
    rq_failed: Family<L, Counter>,
    rq_cancelled: Family<L, Counter>,
    rq_pending_overflow: Family<L, Counter>,
    rq: Family<ClassLabels<L>, Counter>,
    rq_time: Family<L, Histogram>,
    cx_total: Family<L, Counter>,
    cx_active: Family<L, Gauge>,
    cx_connect_fail: Family<L, Counter>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Telemetry {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("sidecar");
        let downstream = DownstreamFamilies::register(&mut registry);
        let cluster = UpstreamFamilies::register(registry.sub_registry_with_prefix("cluster"));
        let endpoint = UpstreamFamilies::register(registry.sub_registry_with_prefix("endpoint"));
        Self { registry: Mutex::new(registry), downstream, cluster, endpoint }
    }

    /// Everything in the OpenMetrics text format, which Prometheus reads.
    pub fn exposition(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        if text::encode(&mut text, &registry).is_err() {
            // Writing to a String cannot fail; saying so beats a silent empty page.
            let _ = writeln!(text, "# the exposition could not be encoded");
        }
        text
    }

    /// The handles of a listener.
    pub fn listener(&self, name: &str) -> ListenerStats {
        let labels = ListenerLabels { listener: name.to_owned() };
        let families = &self.downstream;
        ListenerStats {
            cx_total: families.cx_total.get_or_create_owned(&labels),
            cx_active: families.cx_active.get_or_create_owned(&labels),
            accept_fail: families.accept_fail.get_or_create_owned(&labels),
            panic: families.panic.get_or_create_owned(&labels),
        }
    }

    /// The handles of requests as they come in.
    pub fn requests(&self) -> RequestStats {
        let refused = Flag::ALL.map(|flag| {
            self.downstream.refused.get_or_create_owned(&FlagLabels { flag: flag.letters() })
        });
        RequestStats { total: self.downstream.rq_total.clone(), refused }
    }

    /// The handles of an endpoint, which count for its cluster too.
    pub fn endpoint(&self, cluster: &str, addr: &EndpointAddr) -> EndpointStats {
        let of_cluster = ClusterLabels { cluster: cluster.to_owned() };
        let labels = EndpointLabels { cluster: cluster.to_owned(), endpoint: addr.to_string() };
        EndpointStats {
            own: self.endpoint.handles(&labels),
            cluster: self.cluster.handles(&of_cluster),
        }
    }
}

impl DownstreamFamilies {
    fn register(registry: &mut Registry) -> Self {
        let new = Self {
            cx_total: Family::default(),
            cx_active: Family::default(),
            accept_fail: Family::default(),
            panic: Family::default(),
            rq_total: Counter::default(),
            refused: Family::default(),
        };
        let downstream = registry.sub_registry_with_prefix("downstream");
        downstream.register("cx", "Connections accepted", new.cx_total.clone());
        downstream.register("cx_active", "Connections open", new.cx_active.clone());
        downstream.register("cx_accept_fail", "Failures to accept", new.accept_fail.clone());
        downstream.register("cx_panic", "Connections lost to a defect", new.panic.clone());
        downstream.register("rq", "Requests received", new.rq_total.clone());
        let help = "Requests that no upstream answered in full, by response flag";
        downstream.register("rq_refused", help, new.refused.clone());
        new
    }
}

impl<L> UpstreamFamilies<L>
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + Send + Sync + std::fmt::Debug + 'static,
{
    fn register(registry: &mut Registry) -> Self {
        let new = Self {
            rq_total: Family::default(),
            rq_active: Family::default(),
            rq_timeout: Family::default(),
            rq_failed: Family::default(),
            rq_cancelled: Family::default(),
            rq_pending_overflow: Family::default(),
            rq: Family::default(),
            rq_time: Family::new_with_constructor(|| Histogram::new(LATENCY_EDGES_S)),
            cx_total: Family::default(),
            cx_active: Family::default(),
            cx_connect_fail: Family::default(),
        };
        registry.register("upstream_rq", "Requests placed on an endpoint", new.rq_total.clone());
        registry.register("upstream_rq_active", "Requests not ended", new.rq_active.clone());
        registry.register("upstream_rq_timeout", "Route timeouts", new.rq_timeout.clone());
        let help = "Requests without a whole response: no connection, or it broke";
        registry.register("upstream_rq_failed", help, new.rq_failed.clone());
        let help = "Requests whose caller left before the end of the response";
        registry.register("upstream_rq_cancelled", help, new.rq_cancelled.clone());
        let help = "Requests refused because the endpoint's queue was full";
        registry.register("upstream_rq_pending_overflow", help, new.rq_pending_overflow.clone());
        registry.register("upstream_rq_class", "Whole responses by status class", new.rq.clone());
        let help = "Time to the response head";
        registry.register("upstream_rq_time_seconds", help, new.rq_time.clone());
        registry.register("upstream_cx", "Connections made", new.cx_total.clone());
        registry.register("upstream_cx_active", "Connections open", new.cx_active.clone());
        let help = "Connections that could not be made";
        registry.register("upstream_cx_connect_fail", help, new.cx_connect_fail.clone());
        new
    }

    fn handles(&self, of: &L) -> UpstreamStats {
        let class = |class| self.rq.get_or_create_owned(&ClassLabels { of: of.clone(), class });
        UpstreamStats {
            rq_total: self.rq_total.get_or_create_owned(of),
            rq_active: self.rq_active.get_or_create_owned(of),
            rq_timeout: self.rq_timeout.get_or_create_owned(of),
            rq_failed: self.rq_failed.get_or_create_owned(of),
            rq_cancelled: self.rq_cancelled.get_or_create_owned(of),
            rq_pending_overflow: self.rq_pending_overflow.get_or_create_owned(of),
            rq_by_class: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(class),
            rq_time: self.rq_time.get_or_create_owned(of),
            cx_total: self.cx_total.get_or_create_owned(of),
            cx_active: self.cx_active.get_or_create_owned(of),
            cx_connect_fail: self.cx_connect_fail.get_or_create_owned(of),
        }
    }
}

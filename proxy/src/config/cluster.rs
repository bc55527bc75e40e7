//! A cluster as written: its endpoints, and how they are chosen, watched and limited.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Balance, EndpointConfig, Name, fields};
use crate::policy::balance::{
    BalancerOptions, LeastRequestOptions, LeastTimeOptions, MaglevOptions, PeakEwmaOptions,
    PrequalOptions, RingHashOptions,
};
use crate::policy::budget::BudgetOptions;
use crate::policy::health::HealthCheckOptions;
use crate::policy::limit::breaker::BreakerOptions;
use crate::policy::limit::circuit::CircuitOptions;
use crate::policy::limit::gradient::GradientOptions;
use crate::policy::limit::shed::ShedOptions;
use crate::policy::membership::MembershipOptions;
use crate::policy::outlier::OutlierOptions;
use crate::policy::slow_start::SlowStartOptions;

/// A set of endpoints that can serve the same requests.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Its name in routes and statistics.
    pub name: Name,
    /// The endpoints, each `host:port` or a table; at least one.
    #[serde(deserialize_with = "fields::non_empty")]
    pub endpoints: Vec<EndpointConfig>,
    /// How to choose among them.
    #[serde(default)]
    pub balance: Balance,
    /// Knobs of the strategy `least_request`.
    #[serde(default)]
    pub least_request: LeastRequestOptions,
    /// Knobs of the strategy `least_time`.
    #[serde(default)]
    pub least_time: LeastTimeOptions,
    /// Knobs of the strategy `peak_ewma`.
    #[serde(default)]
    pub peak_ewma: PeakEwmaOptions,
    /// Knobs of the strategy `prequal`.
    #[serde(default)]
    pub prequal: PrequalOptions,
    /// Knobs of the strategy `ring_hash`.
    #[serde(default)]
    pub ring_hash: RingHashOptions,
    /// Knobs of the strategy `maglev`.
    #[serde(default)]
    pub maglev: MaglevOptions,
    /// Zones, priorities, and what happens when few endpoints are left.
    #[serde(default)]
    pub membership: MembershipOptions,
    /// How an endpoint that is new or back is warmed up.
    #[serde(default)]
    pub slow_start: SlowStartOptions,
    /// When an endpoint is taken out because of what it does.
    #[serde(default)]
    pub outlier: OutlierOptions,
    /// How endpoints are asked whether they are well; not at all if absent.
    pub health_check: Option<HealthCheckOptions>,
    /// How much may be retried and hedged.
    #[serde(default)]
    pub retry_budget: BudgetOptions,
    /// How much there may be of anything at once, over all endpoints.
    #[serde(default)]
    pub limits: BreakerOptions,
    /// A limit on requests in flight that follows measured latency; none if absent.
    pub concurrency: Option<GradientOptions>,
    /// When the whole cluster is left alone for a while; never if absent.
    pub circuit: Option<CircuitOptions>,
    /// How long a connection may take to be made. 1 s: within a mesh one lost SYN is forgiven,
    /// two are a fault.
    #[serde(default = "one_second", deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub connect_timeout: Duration,
    /// Connections, and so requests in flight, per endpoint. 1024, as Envoy's circuit breaker.
    #[serde(default = "endpoint_limit")]
    pub max_connections: NonZeroUsize,
    /// Requests that may wait for a connection per endpoint; for one more, the one that has waited
    /// longest is refused with 503. See [`ShedOptions::max_waiting`].
    #[serde(default = "max_pending")]
    pub max_pending: usize,
    /// How long one may wait, before it is refused with 503. See [`ShedOptions::timeout`].
    #[serde(default = "queue_timeout", deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub queue_timeout: Duration,
    /// From which age of the longest waiting on the newest is served first. See
    /// [`ShedOptions::newest_first_after`].
    #[serde(default = "newest_first_after", deserialize_with = "fields::duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub newest_first_after: Duration,
    /// How long an unused connection is kept. 50 s: shorter than the 60 s or more after which
    /// common servers close it themselves, because a request sent into such a close is lost.
    #[serde(default = "idle_timeout", deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub idle_timeout: Duration,
    /// The age at which a connection is not used again, ± 10 % so that those made together do not
    /// go together. No limit if absent, as in Envoy and Linkerd: where an address is one process,
    /// an old connection is as good as a new one. Where it stands for several (a name, a virtual
    /// address), only new connections reach those that were added; `"1h"` then.
    #[serde(default, deserialize_with = "fields::optional_positive_duration")]
    #[serde(serialize_with = "fields::write_optional_duration")]
    pub max_connection_age: Option<Duration>,
    /// Requests after which a connection is not used again; no limit if absent, as in Envoy.
    pub max_requests_per_connection: Option<NonZeroU64>,
}

impl ClusterConfig {
    /// A cluster with the default limits.
    pub fn new(name: impl Into<Name>, endpoints: Vec<EndpointConfig>, balance: Balance) -> Self {
        Self {
            name: name.into(),
            endpoints,
            balance,
            least_request: LeastRequestOptions::default(),
            least_time: LeastTimeOptions::default(),
            peak_ewma: PeakEwmaOptions::default(),
            prequal: PrequalOptions::default(),
            ring_hash: RingHashOptions::default(),
            maglev: MaglevOptions::default(),
            membership: MembershipOptions::default(),
            slow_start: SlowStartOptions::default(),
            outlier: OutlierOptions::default(),
            health_check: None,
            retry_budget: BudgetOptions::default(),
            limits: BreakerOptions::default(),
            concurrency: None,
            circuit: None,
            connect_timeout: one_second(),
            max_connections: endpoint_limit(),
            max_pending: max_pending(),
            queue_timeout: queue_timeout(),
            newest_first_after: newest_first_after(),
            idle_timeout: idle_timeout(),
            max_connection_age: None,
            max_requests_per_connection: None,
        }
    }

    /// Whether `other`'s connections are made, kept and limited as this one's.
    pub(crate) fn has_pools_of(&self, other: &Self) -> bool {
        let of = |config: &Self| {
            let lifetime = (config.idle_timeout, config.max_connection_age);
            let most = (config.max_connections, config.max_requests_per_connection, config.limits);
            (config.connect_timeout, lifetime, most, config.shed_options())
        };
        of(self) == of(other)
    }

    /// The knobs of its balancer.
    pub fn balancer_options(&self) -> BalancerOptions {
        BalancerOptions {
            least_request: self.least_request,
            least_time: self.least_time,
            peak_ewma: self.peak_ewma,
            prequal: self.prequal,
            ring_hash: self.ring_hash,
            maglev: self.maglev,
        }
    }

    /// The knobs of its endpoints' queues.
    pub fn shed_options(&self) -> ShedOptions {
        ShedOptions {
            max_waiting: self.max_pending,
            timeout: self.queue_timeout,
            newest_first_after: self.newest_first_after,
        }
    }
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

fn endpoint_limit() -> NonZeroUsize {
    const LIMIT: NonZeroUsize = match NonZeroUsize::new(1024) {
        Some(limit) => limit,
        None => NonZeroUsize::MIN,
    };
    LIMIT
}

fn max_pending() -> usize {
    ShedOptions::default().max_waiting
}

fn queue_timeout() -> Duration {
    ShedOptions::default().timeout
}

fn newest_first_after() -> Duration {
    ShedOptions::default().newest_first_after
}

fn idle_timeout() -> Duration {
    Duration::from_secs(50)
}

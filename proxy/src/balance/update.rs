//! A cluster whose configuration changes while it is used.
//!
//! What is kept, and what is not:
//! - **Endpoints come and go, or their attributes change**: the cluster stays the same object. Who
//!   stays (by address) keeps everything: connections, what the strategy has learnt, its ejection,
//!   its counters. Who is new begins cold, in slow start. Who goes gets nothing from that instant
//!   on, not even a retry of a request that was there; what it has in flight ends in its own time,
//!   its idle connections are closed at once, and those in use when they come back.
//! - **A limit on connections or how they are made changes** (`max_connections`, timeouts, ages,
//!   queues, `limits`): also, a new cluster takes over, with new pools. Requests in flight finish in
//!   the old one; both count for themselves until those have ended.
//! - **Any other setting changes** (strategy, outlier detection, budget, …): a new cluster takes over
//!   with the same pools. It knows the latencies for hedging, who is ejected and what checks have
//!   said, and, where the rules for them are the same, the circuit, the concurrency limit and the
//!   retry budget. The strategy begins anew, because what it has counted is under way in the old
//!   one. Whatever of this ends (the ejections, when there is no detection any more) is told like
//!   any other change.
//! - **An empty list of endpoints** changes nothing: the last good one stays. A discovery that has
//!   lost its data says the same thing as a service that was switched off, and is much more common.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::policies::{Policies, Update, members};
use super::{Cluster, Endpoint};
use crate::config::{ClusterConfig, EndpointConfig};
use crate::policy::balance::EndpointId;
use crate::policy::limit::breaker::Breaker;
use crate::policy::slots::Fate;
use crate::pool::{Pool, PoolParts, SeatHold};
use crate::seam::Dialer;
use crate::telemetry::Telemetry;
use crate::telemetry::event::{CircuitState, ClusterId, EndpointRef, Event};

/// How many endpoints an update added to a cluster and took from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// New ones, and those that are back.
    pub added: usize,
    /// Those that are not listed any more.
    pub removed: usize,
    /// Those that stay and that the update says something else about.
    pub altered: usize,
    /// The cluster goes on under other rules.
    pub rebuilt: bool,
}

impl Changed {
    /// True when it changes nothing.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl Cluster {
    /// The cluster from now on: this one with other endpoints, or one that takes its place. Calls
    /// for one cluster must not overlap.
    pub(crate) fn updated(
        self: &Arc<Self>,
        config: &ClusterConfig,
        subsets: Vec<BTreeMap<String, String>>,
    ) -> (Arc<Self>, Changed) {
        let last_good;
        let wanted = match config.endpoints.is_empty() {
            true => {
                last_good = self.listed();
                &last_good
            }
            false => &config.endpoints,
        };
        let mut changed = self.reseat(wanted, subsets.clone());
        let rules = ClusterConfig { endpoints: Vec::new(), ..config.clone() };
        if rules == self.config {
            return (self.clone(), changed);
        }
        changed.rebuilt = true;
        let now = Instant::now();
        let new = Arc::new(self.under(rules, subsets, now));
        // What ended by the change is told by the one that goes on.
        new.with_policies(now, |_| ());
        if new.limits.supersede(&self.limits) {
            let state = CircuitState::Closed;
            new.emit(now, &Event::CircuitChanged { cluster: new.id, state });
        }
        (new, changed)
    }

    /// Keeps only those endpoints that are among `wanted`: for a cluster that another has taken the
    /// place of, so that no retry of its last requests goes where nothing should.
    pub(crate) fn shrink_to(self: &Arc<Self>, wanted: &[EndpointConfig]) {
        let mut kept = self.listed();
        kept.retain(|has| wanted.iter().any(|wanted| wanted.address == has.address));
        self.reseat(&kept, Vec::new());
    }

    /// It is on no list any more: what is in flight ends, and no connection outlives it.
    pub(crate) fn retire(&self) {
        self.endpoints().iter().for_each(|endpoint| endpoint.empty());
    }

    /// What keeps its id its own.
    pub(crate) fn hold(&self) -> &Arc<()> {
        &self.hold
    }

    fn listed(&self) -> Vec<EndpointConfig> {
        self.endpoints().iter().map(|endpoint| endpoint.config.clone()).collect()
    }

    fn reseat(
        self: &Arc<Self>,
        wanted: &[EndpointConfig],
        subsets: Vec<BTreeMap<String, String>>,
    ) -> Changed {
        let Some((update, changed)) = self.prepare(wanted, subsets) else {
            return Changed::default();
        };
        let altered = update.endpoints.clone();
        let now = Instant::now();
        let left = self.with_policies(now, |policies| {
            let left = policies.reseat(update, now.into_std());
            // Before anybody can be placed where nothing is counted.
            if !policies.superseded {
                self.telemetry.seat(self.id, &policies.seats.labels());
            }
            // Under the lock: who is ejected from now on is told so after this, and not before.
            for endpoint in altered {
                match endpoint.config.draining {
                    true => endpoint.empty(),
                    false => {
                        let is_open = policies.gate.state(endpoint.id).is_open();
                        endpoint.pool.set_accepting(is_open);
                    }
                }
            }
            left
        });
        left.iter().for_each(|endpoint| endpoint.empty());
        changed
    }

    /// Makes whatever takes time before anybody has to wait for it. `None` when nothing changes.
    fn prepare(
        &self,
        wanted: &[EndpointConfig],
        subsets: Vec<BTreeMap<String, String>>,
    ) -> Option<(Update, Changed)> {
        let pools = self.pools(&self.config, &self.limits.breaker);
        let mut policies = self.lock();
        let before = policies.seats.listed();
        let (seating, selectors) = policies.plan(wanted, subsets);
        let mut changed = Changed::default();
        let endpoints = seating.places.iter().zip(wanted).map(|(place, config)| {
            match (seating.fates[place.0], policies.seats.get(*place)) {
                (Fate::Stays, Some(same)) if same.config == *config => same.clone(),
                (Fate::Stays, Some(other)) => {
                    changed.altered += 1;
                    Endpoint::of(*place, config, other.pool.clone())
                }
                _ => {
                    changed.added += 1;
                    let pool = policies.seats.pool(*place).unwrap_or_else(|| {
                        let hold = policies.seats.hold(*place);
                        pools.make(
                            *place,
                            config,
                            hold.unwrap_or_else(|| SeatHold::new(&self.hold)),
                        )
                    });
                    Endpoint::of(*place, config, pool)
                }
            }
        });
        let endpoints: Vec<_> = endpoints.collect();
        changed.removed = before.len() + changed.added - endpoints.len();
        let same_order = before.iter().map(|endpoint| endpoint.id).eq(seating.places.clone());
        if changed.is_nothing() && same_order && policies.has_subsets(&selectors) {
            return None;
        }
        drop(policies);
        let mut seats: Vec<Option<&Arc<Endpoint>>> = vec![None; seating.fates.len()];
        endpoints.iter().for_each(|endpoint| seats[endpoint.id.0] = Some(endpoint));
        let options = self.config.balancer_options();
        let balancer = self.config.balance.0.build(&members(seats.into_iter()), &options);
        Some((Update { seating, endpoints, balancer, selectors }, changed))
    }

    /// The same endpoints under other `rules`.
    fn under(
        &self,
        rules: ClusterConfig,
        subsets: Vec<BTreeMap<String, String>>,
        now: Instant,
    ) -> Self {
        let same_pools = rules.has_pools_of(&self.config);
        let limits = self.limits.under(&rules, &self.config, same_pools, now);
        let pools = self.pools(&rules, &limits.breaker);
        let endpoints = self.endpoints().into_iter().map(|endpoint| {
            if same_pools {
                return endpoint;
            }
            endpoint.empty();
            let Endpoint { id, config, pool, .. } = &*endpoint;
            Endpoint::of(*id, config, pools.make(*id, config, pool.hold().clone()))
        });
        let endpoints = endpoints.collect();
        let seats = self.lock().seats.inherited(endpoints);
        let life = self.life + 1;
        let seed = (self.seed, life);
        let mut policies = Policies::new(&rules, seats, subsets, seed, now.into_std());
        let same_budget = rules.retry_budget == self.config.retry_budget;
        let mut old = self.lock();
        policies.inherit(&old, same_budget, rules.health_check.is_some(), now.into_std());
        old.superseded = true;
        Self {
            id: self.id,
            name: self.name.clone(),
            strategy: rules.balance.0.name,
            health_check: rules.health_check.clone(),
            limits,
            config: rules,
            hold: self.hold.clone(),
            life,
            seed: self.seed,
            policies: Mutex::new(policies),
            dialer: self.dialer.clone(),
            telemetry: self.telemetry.clone(),
        }
    }

    fn pools<'a>(&'a self, config: &'a ClusterConfig, breaker: &'a Arc<Breaker>) -> Pools<'a> {
        let Self { id, dialer, telemetry, .. } = self;
        Pools { cluster: *id, config, breaker, dialer, telemetry }
    }
}

/// What pools are made of.
pub(super) struct Pools<'a> {
    pub(super) cluster: ClusterId,
    pub(super) config: &'a ClusterConfig,
    pub(super) breaker: &'a Arc<Breaker>,
    pub(super) dialer: &'a Dialer,
    pub(super) telemetry: &'a Arc<Telemetry>,
}

impl Pools<'_> {
    pub(super) fn make(
        &self,
        place: EndpointId,
        endpoint: &EndpointConfig,
        hold: Arc<SeatHold>,
    ) -> Arc<Pool> {
        let at = EndpointRef { cluster: self.cluster, endpoint: place };
        let (dialer, breaker) = (self.dialer.clone(), self.breaker.clone());
        let of = PoolParts { at, addr: endpoint.address.clone(), hold };
        Arc::new(Pool::new(of, dialer, self.config, breaker, self.telemetry.clone()))
    }
}

impl Endpoint {
    pub(super) fn of(id: EndpointId, config: &EndpointConfig, pool: Arc<Pool>) -> Arc<Self> {
        Arc::new(Self { id, config: config.clone(), addr: config.address.clone(), pool })
    }

    /// Closes its idle connections, and those in use when they come back.
    fn empty(&self) {
        self.pool.set_accepting(false);
        self.pool.close_idle();
    }
}

//! A new configuration for a running sidecar.
//!
//! Routes are exchanged in one step; requests that are under way keep the ones they began with.
//! Clusters are told apart by name and go on as far as they can: [`crate::balance::Changed`] and its
//! module say what is kept. A rate limit goes on where its route and its rule are the same. What
//! only a new process can do is refused as a whole, and nothing of the update is in force then.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use tokio::time::Instant;

use super::Stack;
use super::routing::Routing;
use crate::balance::{Changed, Cluster};
use crate::config::{ClusterConfig, Config, list};
use crate::telemetry::event::{ClusterId, Event};

/// What an update did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The number of the configuration that is in force now; the one at the start was 1.
    pub generation: u64,
    /// Clusters that are new.
    pub clusters_added: usize,
    /// Clusters that are gone.
    pub clusters_removed: usize,
    /// Clusters that go on under other rules.
    pub clusters_rebuilt: usize,
    /// Endpoints that are new or back, in all clusters.
    pub endpoints_added: usize,
    /// Endpoints that are gone, in all clusters.
    pub endpoints_removed: usize,
    /// Endpoints that stay and are described otherwise, such as draining ones.
    pub endpoints_altered: usize,
    /// Clusters that were to have no endpoints, and have kept those they had.
    pub kept_last_good: Vec<String>,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, endpoints_added, endpoints_removed, endpoints_altered, .. } = self;
        write!(f, "configuration {generation} is in force: endpoints {endpoints_added} added, ")?;
        write!(f, "{endpoints_removed} removed, {endpoints_altered} altered; clusters ")?;
        let Self { clusters_added, clusters_removed, clusters_rebuilt, .. } = self;
        write!(
            f,
            "{clusters_added} added, {clusters_removed} removed, {clusters_rebuilt} rebuilt"
        )?;
        for cluster in &self.kept_last_good {
            write!(f, "; `{cluster}` was to have no endpoints and keeps those it had")?;
        }
        Ok(())
    }
}

/// Why an update is not in force, none of it; whatever was before, is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It changes what a running process cannot change.
    #[error("{what} cannot be changed in a running sidecar; restart it, or take the change back")]
    NeedsRestart {
        /// The fields.
        what: String,
    },
    /// A route goes nowhere.
    #[error("routes[{route}].cluster: no cluster is called `{cluster}`; there is {known}")]
    NoSuchCluster {
        /// The route's place.
        route: usize,
        /// What it asks for.
        cluster: String,
        /// What there is.
        known: String,
    },
    /// Two clusters have one name.
    #[error("clusters: `{0}` names two of them; names must differ")]
    NameTaken(String),
    /// A cluster has no endpoints and never had any.
    #[error("clusters: `{0}` is new and has no endpoints; at least one is needed")]
    NoEndpoints(String),
}

/// The clusters of each id, that are in force and that were.
#[derive(Default)]
pub(super) struct ClusterSlots(Vec<ClusterSlot>);

struct ClusterSlot {
    current: Option<Arc<Cluster>>,
    /// Those whose place it took and that still have requests.
    before: Vec<Weak<Cluster>>,
    /// Dead when nobody speaks of the id any more.
    hold: Weak<()>,
    /// The books know that.
    is_closed: bool,
}

impl ClusterSlots {
    pub(super) fn of(clusters: &[Arc<Cluster>]) -> Self {
        Self(clusters.iter().map(ClusterSlot::of).collect())
    }
}

impl ClusterSlot {
    fn of(cluster: &Arc<Cluster>) -> Self {
        let hold = Arc::downgrade(cluster.hold());
        Self { current: Some(cluster.clone()), before: Vec::new(), hold, is_closed: false }
    }

    fn is_named(&self, name: &str) -> bool {
        self.current.as_ref().is_some_and(|cluster| cluster.name == name)
    }

    /// Puts `config` in force.
    fn update(
        &mut self,
        cluster: &Arc<Cluster>,
        config: &Config,
        of: &ClusterConfig,
    ) -> (Arc<Cluster>, Changed) {
        let (new, changed) = cluster.updated(of, config.subsets_of(of));
        self.before.retain(|before| before.strong_count() > 0);
        if !of.endpoints.is_empty() {
            let before = self.before.iter().filter_map(Weak::upgrade);
            before.for_each(|before| before.shrink_to(&of.endpoints));
        }
        if !Arc::ptr_eq(&new, cluster) {
            self.before.push(Arc::downgrade(cluster));
            self.current = Some(new.clone());
        }
        (new, changed)
    }
}

impl Stack {
    /// Puts another configuration in force, as a whole and at once: requests that come from now on
    /// see nothing but the new one, and those that are under way lose nothing. It takes no time
    /// that others would have to wait for, and may be called from anywhere; in a simulation, from
    /// a task of the host on which the sidecar runs, because it reads that host's clock.
    ///
    /// An update that changes nothing counts as one. See [`crate::balance::Changed`] for what is
    /// kept.
    ///
    /// ```no_run
    /// # fn push(stack: &proxy::Stack, mut config: proxy::Config) -> Result<(), proxy::stack::Refused> {
    /// // web-0 is to be drained, then taken away.
    /// config.clusters[0].endpoints[0].draining = true;
    /// stack.apply(config.clone())?;
    /// config.clusters[0].endpoints.remove(0);
    /// let applied = stack.apply(config)?;
    /// assert_eq!((applied.generation, applied.endpoints_removed), (3, 1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Refused`], and then everything is as it was.
    pub fn apply(&self, config: Config) -> Result<Applied, Refused> {
        let now = Instant::now().into_std();
        let mut slots = self.slots();
        let before = self.routing.load_full();
        if let Err(refused) = check(&before, &config) {
            self.telemetry.emit(now, &Event::ConfigRefused);
            return Err(refused);
        }
        let config = Arc::new(config);
        let mut applied = Applied::default();
        let clusters: Vec<_> = config
            .clusters
            .iter()
            .map(|of| self.place(&mut slots, &config, of, &mut applied))
            .collect();
        let telemetry = self.telemetry.clone();
        let routing = Arc::new(Routing::new(config, clusters, telemetry, Some(&before)));
        applied.generation = routing.generation;
        self.routing.store(routing.clone());
        for slot in &mut slots.0 {
            let Some(current) = &slot.current else { continue };
            if !routing.clusters.iter().any(|cluster| Arc::ptr_eq(cluster, current)) {
                current.retire();
                applied.clusters_removed += 1;
                applied.endpoints_removed += current.endpoints().len();
                slot.current = None;
            }
        }
        self.telemetry.emit(
            now,
            &Event::ConfigApplied {
                generation: applied.generation,
                added: applied.endpoints_added,
                removed: applied.endpoints_removed,
            },
        );
        Ok(applied)
    }

    /// The number of the configuration that is in force: 1 at the start.
    pub fn generation(&self) -> u64 {
        self.routing.load().generation
    }

    /// The configuration that is in force.
    pub fn config(&self) -> Arc<Config> {
        self.routing.load().config.clone()
    }

    /// Says that somebody wanted to change the configuration and could not even say how, such as by
    /// a file that is wrong.
    pub fn refuse(&self) {
        self.telemetry.emit(Instant::now().into_std(), &Event::ConfigRefused);
    }

    /// The cluster that `of` is about, brought up to date or new.
    fn place(
        &self,
        slots: &mut ClusterSlots,
        config: &Config,
        of: &ClusterConfig,
        applied: &mut Applied,
    ) -> Arc<Cluster> {
        let known = slots.0.iter_mut().find(|slot| slot.is_named(of.name.as_str()));
        if let Some(slot) = known
            && let Some(cluster) = slot.current.clone()
        {
            let (cluster, changed) = slot.update(&cluster, config, of);
            applied.endpoints_added += changed.added;
            applied.endpoints_removed += changed.removed;
            applied.endpoints_altered += changed.altered;
            applied.clusters_rebuilt += usize::from(changed.rebuilt);
            if of.endpoints.is_empty() {
                applied.kept_last_good.push(of.name.to_string());
            }
            return cluster;
        }
        let is_free = |slot: &ClusterSlot| slot.current.is_none() && slot.hold.strong_count() == 0;
        let free = slots.0.iter().position(is_free);
        let id = ClusterId(free.unwrap_or(slots.0.len()));
        self.telemetry.open_cluster(id, of.name.as_str());
        let (subsets, dialer) = (config.subsets_of(of), &self.dialer);
        let hold = Arc::default();
        let new = Cluster::new(id, hold, of, subsets, self.seed, dialer, &self.telemetry);
        let new = Arc::new(new);
        match free {
            Some(place) => slots.0[place] = ClusterSlot::of(&new),
            None => slots.0.push(ClusterSlot::of(&new)),
        }
        applied.clusters_added += 1;
        applied.endpoints_added += of.endpoints.len();
        new
    }

    /// Gives up the ids of clusters that are gone and that nobody speaks of any more.
    pub(super) fn close_gone_clusters(&self) {
        let mut slots = self.slots();
        for (place, slot) in slots.0.iter_mut().enumerate() {
            let is_gone = slot.current.is_none() && slot.hold.strong_count() == 0;
            if is_gone && !std::mem::replace(&mut slot.is_closed, true) {
                self.telemetry.close_cluster(ClusterId(place));
            }
        }
        while slots.0.last().is_some_and(|slot| slot.is_closed) {
            slots.0.pop();
        }
    }

    fn slots(&self) -> MutexGuard<'_, ClusterSlots> {
        // A panic on the way is a defect; what there is, is still the best there is.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that can be wrong, before anything is changed.
fn check(before: &Routing, config: &Config) -> Result<(), Refused> {
    let old = &before.config;
    let fixed = [
        ("seed", old.seed == config.seed),
        ("workers", old.workers == config.workers),
        ("drain_timeout", old.drain_timeout == config.drain_timeout),
        ("admin", old.admin == config.admin),
        ("access_log", old.access_log == config.access_log),
        ("tracing", old.tracing == config.tracing),
        ("timeline", old.timeline == config.timeline),
        ("listeners", old.listeners == config.listeners),
    ];
    let changed: Vec<_> = fixed.iter().filter(|(_, same)| !same).map(|(field, _)| *field).collect();
    if !changed.is_empty() {
        return Err(Refused::NeedsRestart { what: list(&changed) });
    }
    let names: Vec<_> = config.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(**name)) {
        return Err(Refused::NameTaken((*twice).to_owned()));
    }
    for (route, of) in config.routes.iter().enumerate() {
        if !seen.contains(of.cluster.as_str()) {
            let (cluster, known) = (of.cluster.to_string(), list(&names));
            return Err(Refused::NoSuchCluster { route, cluster, known });
        }
    }
    let is_known = |name: &str| before.clusters.iter().any(|cluster| cluster.name == name);
    let bare = config
        .clusters
        .iter()
        .find(|cluster| cluster.endpoints.is_empty() && !is_known(cluster.name.as_str()));
    match bare {
        Some(cluster) => Err(Refused::NoEndpoints(cluster.name.to_string())),
        None => Ok(()),
    }
}

//! Which endpoints may be picked: priorities, zones, subsets and panic.
//!
//! The failures it prevents: traffic that crosses zones, and pays for it, without need; a standby
//! that is flooded by the first fault of the primary; and "no healthy upstream" for everybody
//! because a judgement about the endpoints was wrong. The arithmetic is Envoy's (docs, "Priority
//! levels", "Panic threshold"); where it is not, it says so.
//!
//! # Priorities
//! A level whose available share is `h` carries `c = min(1, h · overprovisioning)` of a load. The
//! first level takes what it carries, each further one what it carries of what is left. When all
//! together carry less than everything, all shares are scaled up so that they add to 1.
//!
//! # Zones
//! Within a level, the local zone and the rest are two levels of the same arithmetic: the local
//! zone keeps all traffic while 71 % of it is available, and then spills only what it must. Envoy's
//! zone-aware routing also weighs how many *callers* each zone has; nobody tells a sidecar that, so
//! it is left out: where callers are spread otherwise than endpoints, the small zone's endpoints
//! carry more. `local_zone_min_endpoints` is the guard against the worst of it.
//!
//! # Subsets
//! A [`Selector`] is registered at construction. A subset has its own levels, zones and panic.
//!
//! # Panic
//! A level of which less than the threshold is available does not believe it: all of its endpoints
//! are ready, ejected ones and those down by active check included (a check can be what is broken;
//! Envoy includes them too). [`Choice::panic`] says so. Draining endpoints are not included: that
//! they leave is no judgement. There is no panic while all levels together carry the whole load, as
//! in Envoy: why send to the dead what a standby can serve? A level that is alone is judged by the
//! threshold and nothing else.
//!
//! Everything is computed when an endpoint's state changes; a choice is one draw at most.

mod level;
mod options;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use rand::{Rng, RngExt as _};

use super::balance::EndpointId;
use super::ready::ReadySet;
use super::slots::Fate;
use level::Level;
pub use options::{EndpointAttributes, MembershipOptions, Selector, SubsetFallback};

/// Endpoints that a selector asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubsetId(usize);

impl SubsetId {
    /// All endpoints of the cluster.
    pub const ALL: Self = Self(0);
}

/// Where the endpoints of a choice are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locality {
    /// Anywhere: zones are not told apart.
    Any,
    /// In the own zone.
    Local,
    /// In any other.
    Remote,
}

/// What to pick from.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The candidates; never empty.
    pub ready: &'a ReadySet,
    /// The weight of all of them together.
    pub weight: u64,
    /// Those of them that do not ramp, or all if all do; where to pick again after a pick in
    /// [`Choice::ready`] did not stand ([`super::slow_start`]). Never empty.
    pub settled: &'a ReadySet,
    /// True when the candidates include endpoints that are believed to be bad.
    pub panic: bool,
    /// The priority that they have.
    pub priority: u32,
    /// Where they are.
    pub locality: Locality,
}

/// What changes about an endpoint.
#[derive(Clone, Copy, Debug)]
struct Status {
    available: bool,
    draining: bool,
    ramping: bool,
}

impl Status {
    const NEW: Self = Self { available: true, draining: false, ramping: false };
}

/// One subset: its levels, by priority.
#[derive(Clone, Debug)]
struct Subset {
    levels: Vec<Level>,
    /// Level and part of each candidate set, in order.
    candidates: Vec<(usize, usize)>,
}

/// The endpoints of a cluster.
#[derive(Clone, Debug)]
pub struct Membership {
    options: MembershipOptions,
    /// By place; `None` where nobody is.
    endpoints: Vec<Option<EndpointAttributes>>,
    status: Vec<Status>,
    selectors: Vec<Selector>,
    /// That of all endpoints, then those of `selectors`.
    subsets: Vec<Subset>,
}

impl Membership {
    /// All of `endpoints`, available, and the subsets of `selectors`.
    pub fn new(
        endpoints: Vec<EndpointAttributes>,
        selectors: Vec<Selector>,
        options: MembershipOptions,
    ) -> Self {
        let status = vec![Status::NEW; endpoints.len()];
        let endpoints = endpoints.into_iter().map(Some).collect();
        let mut new = Self { options, endpoints, status, selectors, subsets: Vec::new() };
        new.rebuild();
        new
    }

    /// The endpoints have changed: by place, what is known of those that are there, and whether
    /// they were before; such keep their status, and others begin as available. `selectors` are
    /// all from now on; a [`SubsetId`] is a place among them.
    pub fn reseat(
        &mut self,
        endpoints: Vec<Option<EndpointAttributes>>,
        fates: &[Fate],
        selectors: Vec<Selector>,
    ) {
        self.status.truncate(endpoints.len());
        self.status.resize(endpoints.len(), Status::NEW);
        for (status, fate) in self.status.iter_mut().zip(fates) {
            if *fate != Fate::Stays {
                *status = Status::NEW;
            }
        }
        self.endpoints = endpoints;
        self.selectors = selectors;
        self.rebuild();
    }

    fn rebuild(&mut self) {
        let Self { options, endpoints, selectors, .. } = self;
        let everything = Selector::new();
        let selectors = std::iter::once(&everything).chain(&*selectors);
        let subset = |selector| Subset::new(selector, endpoints, options);
        self.subsets = selectors.map(subset).collect();
        self.refresh();
    }

    /// The subset of a selector that was registered.
    pub fn subset(&self, selector: &Selector) -> Option<SubsetId> {
        if selector.is_empty() {
            return Some(SubsetId::ALL);
        }
        self.selectors.iter().position(|known| known == selector).map(|index| SubsetId(index + 1))
    }

    /// Whether its gate is open and no active check says that it is down.
    pub fn set_available(&mut self, endpoint: EndpointId, available: bool) {
        self.change(endpoint, |status| &mut status.available, available);
    }

    /// Whether it is leaving: it gets nothing, also in panic, and is not counted as missing.
    pub fn set_draining(&mut self, endpoint: EndpointId, draining: bool) {
        self.change(endpoint, |status| &mut status.draining, draining);
    }

    /// Whether it has not yet come to its full share.
    pub fn set_ramping(&mut self, endpoint: EndpointId, ramping: bool) {
        self.change(endpoint, |status| &mut status.ramping, ramping);
    }

    fn change(
        &mut self,
        endpoint: EndpointId,
        field: impl Fn(&mut Status) -> &mut bool,
        value: bool,
    ) {
        let field = field(&mut self.status[endpoint.0]);
        if *field != value {
            *field = value;
            self.refresh();
        }
    }

    /// What to pick from now. `None` when every endpoint is draining, or the subset has none and
    /// falls back to none, or nothing is available and the panic threshold is 0.
    ///
    /// Draws only when there is more than one candidate set, so that adding zones to one cluster
    /// does not shift the random numbers of a simple one.
    pub fn choose(&self, subset: SubsetId, rng: &mut dyn Rng) -> Option<Choice<'_>> {
        let subset = self.in_force(subset)?;
        let last = subset.candidates.len().checked_sub(1)?;
        let mut index = 0;
        if last > 0 {
            let mut left = rng.random::<f64>();
            // The last one takes what rounding leaves.
            while index < last {
                let (level, part) = subset.candidates[index];
                left -= subset.levels[level].parts[part].load;
                if left < 0.0 {
                    break;
                }
                index += 1;
            }
        }
        Some(subset.choice(index))
    }

    /// Whether `endpoint` is one for requests to `subset`, in whatever state.
    pub fn serves(&self, subset: SubsetId, endpoint: EndpointId) -> bool {
        let belongs = |subset: &Subset| subset.levels.iter().any(|level| level.has(endpoint));
        !self.status[endpoint.0].draining && self.in_force(subset).is_some_and(belongs)
    }

    /// The same, and it is available.
    pub fn offers(&self, subset: SubsetId, endpoint: EndpointId) -> bool {
        self.status[endpoint.0].available && self.serves(subset, endpoint)
    }

    /// The weight of an endpoint; 0 where there is none.
    pub fn weight(&self, endpoint: EndpointId) -> u64 {
        self.endpoints[endpoint.0].as_ref().map_or(0, |it| u64::from(it.weight.get()))
    }

    /// That of several together. [`Choice::weight`] says it of those that are chosen among.
    pub fn weight_of(&self, set: &ReadySet) -> u64 {
        set.as_slice().iter().map(|endpoint| self.weight(*endpoint)).sum()
    }

    /// Every candidate set of a subset with its share of the picks, for people to look at.
    pub fn loads(&self, subset: SubsetId) -> impl Iterator<Item = (f64, Choice<'_>)> {
        self.in_force(subset).into_iter().flat_map(|subset| {
            (0..subset.candidates.len()).map(|index| {
                let (level, part) = subset.candidates[index];
                (subset.levels[level].parts[part].load, subset.choice(index))
            })
        })
    }

    /// The subset, or what it falls back to.
    fn in_force(&self, subset: SubsetId) -> Option<&Subset> {
        let wanted = &self.subsets[subset.0];
        if wanted.levels.iter().any(|level| !level.is_empty()) {
            return Some(wanted);
        }
        match self.options.subset_fallback {
            SubsetFallback::Any => Some(&self.subsets[0]),
            SubsetFallback::None => None,
        }
    }

    fn refresh(&mut self) {
        for subset in &mut self.subsets {
            subset.refresh(&self.endpoints, &self.status, &self.options);
        }
    }
}

impl Subset {
    fn new(
        selector: &Selector,
        endpoints: &[Option<EndpointAttributes>],
        options: &MembershipOptions,
    ) -> Self {
        let is_member = |endpoint: &EndpointAttributes| {
            selector.iter().all(|(label, value)| endpoint.labels.get(label) == Some(value))
        };
        let members = endpoints.iter().flatten().filter(|endpoint| is_member(endpoint));
        let priorities: BTreeSet<u32> = members.map(|endpoint| endpoint.priority).collect();
        let levels = priorities.into_iter().map(|priority| {
            let belongs = |endpoint| is_member(endpoint) && endpoint.priority == priority;
            let belongs = endpoints.iter().map(|e| e.as_ref().is_some_and(belongs)).collect();
            Level::new(priority, belongs, endpoints, options)
        });
        Self { levels: levels.collect(), candidates: Vec::new() }
    }

    fn refresh(
        &mut self,
        endpoints: &[Option<EndpointAttributes>],
        status: &[Status],
        options: &MembershipOptions,
    ) {
        let over = options.overprovisioning;
        for level in &mut self.levels {
            level.count(endpoints, status);
        }
        let carries: Vec<f64> = self.levels.iter().map(|level| level.carries(over)).collect();
        let present = self.levels.iter().filter(|level| !level.is_empty()).count();
        let others_carry = present > 1 && carries.iter().sum::<f64>() >= 1.0;
        let mut loads = spill(&carries);
        if carries.iter().all(|carries| *carries == 0.0)
            && let Some(first) = self.levels.iter().position(|level| !level.is_empty())
        {
            // Nothing is available anywhere: the first level panics.
            loads[first] = 1.0;
        }
        self.candidates.clear();
        for (index, (level, load)) in self.levels.iter_mut().zip(loads).enumerate() {
            let panic =
                !level.is_empty() && !others_carry && level.health() < options.panic_threshold;
            level.deal(load, panic, endpoints, status, options);
            for (part, it) in level.parts.iter().enumerate() {
                if it.load > 0.0 && !it.ready.is_empty() {
                    self.candidates.push((index, part));
                }
            }
        }
    }

    fn choice(&self, candidate: usize) -> Choice<'_> {
        let (level, part) = self.candidates[candidate];
        let level = &self.levels[level];
        let part = &level.parts[part];
        Choice {
            ready: &part.ready,
            weight: part.weight,
            settled: &part.settled,
            panic: level.panic,
            priority: level.priority,
            locality: part.locality,
        }
    }
}

/// The shares of those that carry so much each: the first takes what it can, the next what it can
/// of the rest. Together they are 1, unless nobody carries anything.
fn spill(carries: &[f64]) -> Vec<f64> {
    let together: f64 = carries.iter().sum();
    if together == 0.0 {
        return vec![0.0; carries.len()];
    }
    let scale = together.min(1.0);
    let mut left = 1.0;
    carries
        .iter()
        .map(|carries| {
            let share = (carries / scale).min(left);
            left -= share;
            share
        })
        .collect()
}

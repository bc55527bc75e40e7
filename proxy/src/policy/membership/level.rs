//! One priority of one subset: its endpoints, and how much of it is left.

use super::{EndpointAttributes, Locality, MembershipOptions, Status};
use crate::policy::balance::EndpointId;
use crate::policy::ready::ReadySet;

/// Weight that is there and weight that is available.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Capacity {
    /// Of all that are not draining.
    present: u64,
    available: u64,
}

impl Capacity {
    /// The share that is available; 0 when nothing is there.
    fn health(self) -> f64 {
        if self.present == 0 { 0.0 } else { self.available as f64 / self.present as f64 }
    }

    /// The share of a load that it can carry.
    fn carries(self, overprovisioning: f64) -> f64 {
        (self.health() * overprovisioning).min(1.0)
    }
}

/// Endpoints of one level that are told apart by where they are.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) locality: Locality,
    /// Those that belong to it whatever their state, by place in the cluster.
    belongs: Vec<bool>,
    /// The share of all of the subset's picks that fall here.
    pub(super) load: f64,
    pub(super) ready: ReadySet,
    /// Of all of `ready`.
    pub(super) weight: u64,
    /// Those of `ready` that do not ramp, or all of them if all do.
    pub(super) settled: ReadySet,
}

/// The endpoints of one priority.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) priority: u32,
    pub(super) panic: bool,
    /// One, or the local zone and the rest.
    pub(super) parts: Vec<Part>,
    belongs: Vec<bool>,
    capacity: Capacity,
}

impl Level {
    /// Whether `endpoint` has this priority and is of this subset.
    pub(super) fn has(&self, endpoint: EndpointId) -> bool {
        self.belongs[endpoint.0]
    }

    /// Of those of `endpoints` that `belong`.
    pub(super) fn new(
        priority: u32,
        belongs: Vec<bool>,
        endpoints: &[Option<EndpointAttributes>],
        options: &MembershipOptions,
    ) -> Self {
        let is_local = |index: usize| {
            let is_local = |endpoint: &EndpointAttributes| endpoint.zone == options.zone;
            options.zone.is_some() && endpoints[index].as_ref().is_some_and(is_local)
        };
        let count = |wanted: bool| {
            let members = belongs.iter().enumerate().filter(|(_, belongs)| **belongs);
            members.filter(|(index, _)| is_local(*index) == wanted).count()
        };
        let (local, remote) = (count(true), count(false));
        let part = |locality, belongs: Vec<bool>| Part {
            locality,
            belongs,
            load: 0.0,
            ready: ReadySet::default(),
            weight: 0,
            settled: ReadySet::default(),
        };
        let of = |wanted: bool| {
            let members = belongs.iter().enumerate();
            members.map(|(index, belongs)| *belongs && is_local(index) == wanted).collect()
        };
        let parts = if local > 0 && remote > 0 && local >= options.local_zone_min_endpoints {
            vec![part(Locality::Local, of(true)), part(Locality::Remote, of(false))]
        } else {
            vec![part(Locality::Any, belongs.clone())]
        };
        Self { priority, panic: false, parts, belongs, capacity: Capacity::default() }
    }

    /// Counts again what is there.
    pub(super) fn count(&mut self, endpoints: &[Option<EndpointAttributes>], status: &[Status]) {
        self.capacity = capacity(&self.belongs, endpoints, status);
    }

    /// True when all its endpoints are draining.
    pub(super) fn is_empty(&self) -> bool {
        self.capacity.present == 0
    }

    pub(super) fn health(&self) -> f64 {
        self.capacity.health()
    }

    pub(super) fn carries(&self, overprovisioning: f64) -> f64 {
        self.capacity.carries(overprovisioning)
    }

    /// Deals `load` out to its parts, and fills their sets.
    pub(super) fn deal(
        &mut self,
        load: f64,
        panic: bool,
        endpoints: &[Option<EndpointAttributes>],
        status: &[Status],
        options: &MembershipOptions,
    ) {
        self.panic = panic;
        let over = options.overprovisioning;
        let carries: Vec<f64> = self
            .parts
            .iter()
            .map(|part| capacity(&part.belongs, endpoints, status).carries(over))
            .collect();
        let shares = super::spill(&carries);
        for (index, part) in self.parts.iter_mut().enumerate() {
            // In panic the zones are not told apart: one part has everybody.
            let belongs = if panic { &self.belongs } else { &part.belongs };
            let share = if panic { f64::from(u8::from(index == 0)) } else { shares[index] };
            part.load = load * share;
            let is_ready = |endpoint: EndpointId| {
                let status = status[endpoint.0];
                belongs[endpoint.0] && !status.draining && (panic || status.available)
            };
            part.ready.refill(status.len(), is_ready);
            let ready = part.ready.as_slice().iter().filter_map(|e| endpoints[e.0].as_ref());
            part.weight = ready.map(|endpoint| u64::from(endpoint.weight.get())).sum();
            part.settled.refill(status.len(), |e| is_ready(e) && !status[e.0].ramping);
            if part.settled.is_empty() {
                part.settled.refill(status.len(), is_ready);
            }
        }
    }
}

fn capacity(
    belongs: &[bool],
    endpoints: &[Option<EndpointAttributes>],
    status: &[Status],
) -> Capacity {
    let mut capacity = Capacity::default();
    for ((belongs, endpoint), status) in belongs.iter().zip(endpoints).zip(status) {
        if let Some(endpoint) = endpoint.as_ref().filter(|_| *belongs && !status.draining) {
            let weight = u64::from(endpoint.weight.get());
            capacity.present += weight;
            capacity.available += if status.available { weight } else { 0 };
        }
    }
    capacity
}

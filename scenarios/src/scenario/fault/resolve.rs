//! What the faults of a file come to in a run with a certain seed. Pure.

use sim::{FaultKind, LinkId};

use super::super::{File, Service, matches};
use super::{Fault, Subject};

/// Every fault of a run: fault by fault, time by time, target by target.
pub(in crate::scenario) fn resolve(file: &File, seed: u64) -> Vec<sim::Fault> {
    let (instances, callers) = (file.inventory(), Callers::of(file));
    let end = *file.duration.get_ref();
    let mut resolved = Vec::new();
    for (number, fault) in file.faults.iter().enumerate() {
        let places = fault.places(number, &instances, seed);
        let kinds: Vec<_> = places.iter().flat_map(|&at| fault.kinds(at, &callers)).collect();
        for (at, until) in fault.times(number, end, seed) {
            resolved.extend(kinds.iter().map(|&kind| sim::Fault { at, until, kind }));
        }
    }
    resolved
}

/// Who calls whom.
pub(in crate::scenario) struct Callers {
    /// For each instance, the instances that call it, or the client.
    of: Vec<Vec<Option<usize>>>,
    /// Their names.
    names: Vec<String>,
}

impl Callers {
    pub(in crate::scenario) fn of(file: &File) -> Self {
        let services = &file.services;
        let first = |service: usize| services[..service].iter().map(Service::instance_count).sum();
        let of_service = |called: usize| -> Vec<Option<usize>> {
            let name = services[called].name.get_ref();
            let calling = (0..services.len()).filter(|&of| services[of].does_call(name));
            let instances = calling.flat_map(|of| {
                let first: usize = first(of);
                (first..first + services[of].instance_count()).map(Some)
            });
            (called == 0).then_some(None).into_iter().chain(instances).collect()
        };
        let of = (0..services.len()).flat_map(|service| {
            std::iter::repeat_n(of_service(service), services[service].instance_count())
        });
        Self { of: of.collect(), names: file.instances() }
    }

    /// What a caller is called.
    pub(in crate::scenario) fn name(&self, caller: Option<usize>) -> &str {
        caller.map_or(CLIENT, |place| self.names[place].as_str())
    }

    /// Those of an instance's callers whose links a fault happens to.
    pub(in crate::scenario) fn through(
        &self,
        fault: &Fault,
        instance: usize,
    ) -> Vec<Option<usize>> {
        let wanted = |caller: &&Option<usize>| {
            let name = self.name(**caller);
            fault.from.is_empty() || fault.from.iter().any(|from| matches(from.get_ref(), name))
        };
        self.of[instance].iter().filter(wanted).copied().collect()
    }

    /// All that call anyone.
    pub(in crate::scenario) fn all(&self) -> Vec<&str> {
        let mut all: Vec<_> = self.of.iter().flatten().collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter().map(|caller| self.name(*caller)).collect()
    }
}

/// What the client is called among those who call.
const CLIENT: &str = "client";

impl Fault {
    /// What it is to the simulator, if it happens to the instance with this place.
    fn kinds(&self, place: usize, callers: &Callers) -> Vec<FaultKind> {
        let way = self.way.as_ref().map(|way| (*way.get_ref()).into()).unwrap_or_default();
        match self.what.subject(way) {
            Subject::Instance(kind) => vec![FaultKind::Instance(place, kind)],
            Subject::Link(kind) => {
                let link = |caller| LinkId { caller, instance: place };
                let callers = callers.through(self, place).into_iter();
                callers.map(|caller| FaultKind::Link(link(caller), kind)).collect()
            }
        }
    }
}

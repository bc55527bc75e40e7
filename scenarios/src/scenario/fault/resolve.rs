//! What the faults of a file come to in a run with a certain seed. Pure.

use std::time::Duration;

use sim::{FaultKind, InstanceFault, LinkId};

use super::super::{File, Service, matches};
use super::{Fault, Subject, What};

/// Every fault of a run: fault by fault, time by time, target by target.
pub(in crate::scenario) fn resolve(file: &File, seed: u64) -> Vec<sim::Fault> {
    let (instances, callers) = (file.inventory(), Callers::of(file));
    let end = *file.duration.get_ref();
    let mut resolved = Vec::new();
    for (number, fault) in file.faults.iter().enumerate() {
        let way = fault.way.as_ref().map(|way| (*way.get_ref()).into()).unwrap_or_default();
        let subject = fault.what.subject(way, number);
        let places = fault.places(number, &instances, seed);
        for (at, until) in fault.times(number, end, seed) {
            if let Subject::Nobody(kind) = &subject {
                resolved.push(sim::Fault { at, until, kind: kind.clone() });
                continue;
            }
            for (turn, &place) in places.iter().enumerate() {
                let (at, until) = fault.turn(turn, at, until);
                let kinds = kinds(&subject, place, || callers.through(fault, place));
                resolved.extend(kinds.into_iter().filter_map(|part| part.of(at, until)));
            }
        }
    }
    resolved
}

/// A part of a fault: what it is, and how much later than the whole it begins and ends.
struct Part {
    kind: FaultKind,
    after: Duration,
    /// Its own length, if it does not last as long as the whole.
    length: Option<Duration>,
}

impl Part {
    fn of(self, at: Duration, until: Option<Duration>) -> Option<sim::Fault> {
        let begin = at + self.after;
        let own_end = self.length.map(|length| begin + length);
        let end = own_end.into_iter().chain(until).min();
        let is_any = end.is_none_or(|end| begin < end);
        is_any.then_some(sim::Fault { at: begin, until: end, kind: self.kind })
    }
}

/// What a fault is to the simulator, if it happens to the instance with this place.
fn kinds(
    subject: &Subject,
    place: usize,
    callers: impl FnOnce() -> Vec<Option<usize>>,
) -> Vec<Part> {
    let whole = |kind| Part { kind, after: Duration::ZERO, length: None };
    let instance = |kind| FaultKind::Instance(place, kind);
    match subject {
        Subject::Instance(kind) => vec![whole(instance(kind.clone()))],
        Subject::Link(kind) => {
            let link = |caller| FaultKind::Link(LinkId { caller, instance: place }, *kind);
            callers().into_iter().map(|caller| whole(link(caller))).collect()
        }
        Subject::Stop { drain, is_listed } => {
            let stop = |kind| Part { kind: instance(kind), after: *drain, length: None };
            // One that comes back soon stays in the list; it is draining until then.
            let length = (!is_listed).then_some(*drain);
            let draining =
                Part { kind: instance(InstanceFault::Drain), after: Duration::ZERO, length };
            let unlisted = (!is_listed).then(|| stop(InstanceFault::Unlisted));
            [draining, stop(InstanceFault::Crash)].into_iter().chain(unlisted).collect()
        }
        Subject::Nobody(kind) => vec![whole(kind.clone())],
    }
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
    /// When it is there for the one whose turn it is.
    fn turn(
        &self,
        turn: usize,
        at: Duration,
        until: Option<Duration>,
    ) -> (Duration, Option<Duration>) {
        let What::RollingDeploy(deploy) = &self.what else { return (at, until) };
        let begin = at + deploy.step() * turn as u32;
        (begin, Some(begin + deploy.drain + deploy.down))
    }
}

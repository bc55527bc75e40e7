//! What contradicts something else in a fault.

use proxy::config::{InputError, list};

use super::Checker;
use crate::scenario::fault::{Callers, Instance, MOST_REPETITIONS};
use crate::scenario::{Fault, What, matches};

impl Checker<'_> {
    pub(super) fn faults(&self) -> Result<(), InputError> {
        let world = World { instances: self.file.inventory(), callers: Callers::of(self.file) };
        for (index, fault) in self.file.faults.iter().enumerate() {
            self.fault(index, fault, &world)?;
        }
        Ok(())
    }

    fn fault(&self, index: usize, fault: &Fault, world: &World) -> Result<(), InputError> {
        if fault.what.is_of_nobody() {
            self.nobody(index, fault)?;
        } else {
            self.whom(index, fault, world)?;
        }
        self.links(index, fault, world)?;
        self.times(index, fault)?;
        self.deploy(index, fault, world)?;
        for earlier in &self.file.faults[..index] {
            if fault.what.is_of_nobody() && fault.what.is_like(&earlier.what) {
                if self.overlap(earlier, fault, world) {
                    let message = "there is a fault of this kind at that time already; let one \
                                   end first";
                    let field = format!("faults[{index}].at");
                    return Err(self.wrong(field, &fault.at, message.to_owned()));
                }
                continue;
            }
            if let Some(place) = self.clash(earlier, fault, world) {
                let message = format!(
                    "{} has a fault of this kind at that time already; let one end first",
                    self.instances[place]
                );
                return Err(self.wrong(format!("faults[{index}].at"), &fault.at, message));
            }
        }
        Ok(())
    }

    /// What happens to sidecars has no targets.
    fn nobody(&self, index: usize, fault: &Fault) -> Result<(), InputError> {
        let field = |name: &str| format!("faults[{index}].{name}");
        let message = || "this does not happen to instances; leave it out".to_owned();
        if let Some(target) = fault.written().next() {
            let name = if fault.target.is_some() { "target" } else { "targets" };
            return Err(self.wrong(field(name), target, message()));
        }
        let zone = fault.zone.as_ref().map(|zone| ("zone", zone));
        if let Some((name, at)) = zone.or_else(|| Some(("labels", fault.labels.values().next()?))) {
            return Err(self.wrong(field(name), at, message()));
        }
        if let Some(pick) = &fault.pick {
            return Err(self.wrong(field("pick"), pick, message()));
        }
        if fault.fraction.is_some() {
            return Err(self.wrong(field("fraction"), &fault.at, message()));
        }
        Ok(())
    }

    /// A deployment has times of its own, and has to come to its end.
    fn deploy(&self, index: usize, fault: &Fault, world: &World) -> Result<(), InputError> {
        let field = |name: &str| format!("faults[{index}].{name}");
        let (end, at) = (*self.file.duration.get_ref(), *fault.at.get_ref());
        if let What::Leave(leave) = &fault.what
            && fault.lasts.is_some_and(|lasts| lasts <= leave.drain)
        {
            let message = "it is back before it has gone; `for` must be longer than the drain";
            return Err(self.wrong(field("for"), &fault.at, message.to_owned()));
        }
        let What::RollingDeploy(deploy) = &fault.what else { return Ok(()) };
        let message = "a deployment says itself how long it takes; leave it out".to_owned();
        for (name, given) in [("until", &fault.until), ("every", &fault.every)] {
            if let Some(given) = given {
                return Err(self.wrong(field(name), given, message));
            }
        }
        if let Some(random) = &fault.random {
            return Err(self.wrong(field("random"), random, message));
        }
        let turns = fault.candidates(&world.instances).len() as u32;
        let over = at + deploy.step() * turns - deploy.pause;
        if over > end {
            let message = format!(
                "it would not be over before {}, and the run is by {}",
                humantime::format_duration(over),
                humantime::format_duration(end)
            );
            return Err(self.wrong(field("at"), &fault.at, message));
        }
        Ok(())
    }

    fn whom(&self, index: usize, fault: &Fault, world: &World) -> Result<(), InputError> {
        let field = |name: &str| format!("faults[{index}].{name}");
        let nobody = fault.written().next().is_none();
        if fault.target.is_some() && !fault.targets.is_empty() {
            let message = "give `target` or `targets`, one of them".to_owned();
            return Err(self.wrong(field("target"), &fault.at, message));
        }
        if nobody && fault.zone.is_none() && fault.labels.is_empty() {
            let message = "say whom it happens to: `target`, `targets`, `zone` or `labels`";
            return Err(self.wrong(field("target"), &fault.at, message.to_owned()));
        }
        for target in fault.written() {
            let name = if fault.target.is_some() { "target" } else { "targets" };
            self.instance(field(name), target)?;
        }
        self.known_labels(index, fault, world)?;
        let candidates = fault.candidates(&world.instances).len();
        if candidates == 0 {
            let message = "no instance is all of that: the name, the zone and the labels";
            return Err(self.wrong(field("target"), &fault.at, message.to_owned()));
        }
        match (&fault.pick, &fault.chosen) {
            (Some(pick), _) if fault.fraction.is_some() => {
                let message = "give `pick` or `fraction`, not both".to_owned();
                Err(self.wrong(field("pick"), pick, message))
            }
            (Some(pick), _) if pick.get_ref().get() > candidates => {
                let message = format!("there are only {candidates} to pick from");
                Err(self.wrong(field("pick"), pick, message))
            }
            (None, Some(chosen)) if fault.fraction.is_none() => {
                let message = "say with `pick` or `fraction` how many are chosen".to_owned();
                Err(self.wrong(field("chosen"), chosen, message))
            }
            _ => Ok(()),
        }
    }

    /// Zones and labels are written at services; one that is nowhere is a slip.
    fn known_labels(&self, index: usize, fault: &Fault, world: &World) -> Result<(), InputError> {
        let field = |name: &str| format!("faults[{index}].{name}");
        let known = |found: &mut dyn Iterator<Item = &str>| {
            let mut known: Vec<_> = found.map(str::to_owned).collect();
            known.sort_unstable();
            known.dedup();
            known
        };
        let endpoints = || world.instances.iter().map(|instance| &instance.endpoint);
        let there_is = |known: &[String]| match known {
            [] => "no service has one".to_owned(),
            known => {
                format!("there is {}", list(&known.iter().map(String::as_str).collect::<Vec<_>>()))
            }
        };
        if let Some(zone) = &fault.zone {
            let zones = known(&mut endpoints().filter_map(|e| e.zone.as_deref()));
            if !zones.contains(zone.get_ref()) {
                let message =
                    format!("nobody is in the zone `{}`; {}", zone.get_ref(), there_is(&zones));
                return Err(self.wrong(field("zone"), zone, message));
            }
        }
        for (label, value) in &fault.labels {
            let values =
                known(&mut endpoints().filter_map(|e| Some(e.labels.get(label)?.as_str())));
            if !values.contains(value.get_ref()) {
                let message = format!(
                    "nobody has the label `{label}` with `{}`; {}",
                    value.get_ref(),
                    there_is(&values)
                );
                return Err(self.wrong(field(&format!("labels.{label}")), value, message));
            }
        }
        Ok(())
    }

    /// The fields that only faults of links look at.
    fn links(&self, index: usize, fault: &Fault, world: &World) -> Result<(), InputError> {
        let field = |name: &str| format!("faults[{index}].{name}");
        if !fault.what.is_of_links() {
            let message = "this does not happen to a link; leave it out".to_owned();
            if let Some(from) = fault.from.first() {
                return Err(self.wrong(field("from"), from, message));
            }
            if let Some(way) = &fault.way {
                return Err(self.wrong(field("way"), way, message));
            }
            return Ok(());
        }
        let all = world.callers.all();
        for from in &fault.from {
            if !all.iter().any(|caller| matches(from.get_ref(), caller)) {
                let message =
                    format!("`{}` calls nobody; callers are {}", from.get_ref(), list(&all));
                return Err(self.wrong(field("from"), from, message));
            }
        }
        let unreached = |place: &usize| world.callers.through(fault, *place).is_empty();
        let candidates = fault.candidates(&world.instances);
        if let (Some(place), Some(from)) =
            (candidates.into_iter().find(unreached), fault.from.first())
        {
            let message = format!("nobody of these calls {}", self.instances[place]);
            return Err(self.wrong(field("from"), from, message));
        }
        Ok(())
    }

    fn times(&self, index: usize, fault: &Fault) -> Result<(), InputError> {
        let field = |name: &str| format!("faults[{index}].{name}");
        let end = *self.file.duration.get_ref();
        if *fault.at.get_ref() >= end {
            let end = humantime::format_duration(end);
            let message = format!("the run is over by then; write less than {end}");
            return Err(self.wrong(field("at"), &fault.at, message));
        }
        if let Some(until) = &fault.until
            && until.get_ref() <= fault.at.get_ref()
        {
            let message = "it ends before it begins; `until` must be later than `at`".to_owned();
            return Err(self.wrong(field("until"), until, message));
        }
        if let Some(random) = &fault.random {
            if fault.every.is_some() || fault.lasts.is_some() {
                let message = "it comes and goes by chance; leave out `every` and `for`";
                return Err(self.wrong(field("random"), random, message.to_owned()));
            }
            let cycle = random.get_ref().mean_between + random.get_ref().mean_length;
            // Half of what is possible: chance may want more than its mean.
            let most = cycle * (MOST_REPETITIONS / 2) as u32;
            if most < end {
                let message = format!("that is too often; fewer than {MOST_REPETITIONS} times");
                return Err(self.wrong(field("random"), random, message));
            }
        }
        match (&fault.every, fault.lasts) {
            (None, None) => {}
            (Some(every), Some(lasts)) => {
                if *every.get_ref() <= lasts {
                    let message = "it begins again before it is over; `for` must be shorter";
                    return Err(self.wrong(field("every"), every, message.to_owned()));
                }
                if fault.possible_times(end).len() >= MOST_REPETITIONS {
                    let message = format!("that is too often; fewer than {MOST_REPETITIONS} times");
                    return Err(self.wrong(field("every"), every, message));
                }
            }
            (Some(every), None) => {
                let message = "say with `for` how long it lasts each time".to_owned();
                return Err(self.wrong(field("for"), every, message));
            }
            (None, Some(_)) => {
                let message = "say with `every` when it comes back, or write `until` instead";
                return Err(self.wrong(field("every"), &fault.at, message.to_owned()));
            }
        }
        Ok(())
    }

    /// An instance at which two faults could change the same thing at the same time: the end of
    /// one would be the end of both.
    fn clash(&self, a: &Fault, b: &Fault, world: &World) -> Option<usize> {
        if !a.what.is_like(&b.what) {
            return None;
        }
        let both = a.candidates(&world.instances);
        let shares_callers = |place: &usize| {
            let callers = |fault| world.callers.through(fault, *place);
            !a.what.is_of_links() || callers(a).iter().any(|caller| callers(b).contains(caller))
        };
        let mut shared = b.candidates(&world.instances).into_iter();
        let shared = shared.find(|place| both.contains(place) && shares_callers(place))?;
        self.overlap(a, b, world).then_some(shared)
    }

    /// True when two could be there at the same time.
    fn overlap(&self, a: &Fault, b: &Fault, world: &World) -> bool {
        let end = *self.file.duration.get_ref();
        let windows = |fault: &Fault| -> Vec<_> {
            if let What::RollingDeploy(deploy) = &fault.what {
                let turns = fault.candidates(&world.instances).len() as u32;
                let at = *fault.at.get_ref();
                return vec![at..at + deploy.step() * turns - deploy.pause];
            }
            let times = fault.possible_times(end).into_iter();
            times.map(|(at, until)| at..until.unwrap_or(end)).collect()
        };
        let (a, b) = (windows(a), windows(b));
        a.iter().any(|a| b.iter().any(|b| a.start < b.end && b.start < a.end))
    }
}

/// What faults are aimed at.
struct World {
    instances: Vec<Instance>,
    callers: Callers,
}

//! What contradicts something else in a fault.

use proxy::config::InputError;

use super::Checker;
use crate::scenario::Fault;
use crate::scenario::fault::MOST_REPETITIONS;

impl Checker<'_> {
    pub(super) fn fault(&self, index: usize, fault: &Fault) -> Result<(), InputError> {
        let field = |name: &str| format!("faults[{index}].{name}");
        if fault.target.is_some() != fault.targets.is_empty() {
            let message = "give `target` or `targets`, one of them".to_owned();
            return Err(self.wrong(field("target"), &fault.at, message));
        }
        for target in fault.written() {
            let name = if fault.target.is_some() { "target" } else { "targets" };
            self.instance(field(name), target)?;
        }
        self.times(index, fault)?;
        for earlier in &self.file.faults[..index] {
            if let Some(place) = self.clash(earlier, fault) {
                let message = format!(
                    "{} has a fault of this kind at that time already; let one end first",
                    self.instances[place]
                );
                return Err(self.wrong(field("at"), &fault.at, message));
            }
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
        match (&fault.every, fault.lasts) {
            (None, None) => {}
            (Some(every), Some(lasts)) => {
                if *every.get_ref() <= lasts {
                    let message = "it begins again before it is over; `for` must be shorter";
                    return Err(self.wrong(field("every"), every, message.to_owned()));
                }
                if fault.times(end).len() >= MOST_REPETITIONS {
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

    /// An instance at which two faults would change the same thing at the same time: the end of
    /// one would be the end of both.
    fn clash(&self, a: &Fault, b: &Fault) -> Option<usize> {
        if std::mem::discriminant(&a.kind()) != std::mem::discriminant(&b.kind()) {
            return None;
        }
        let both = a.places(&self.instances);
        let shared = b.places(&self.instances).into_iter().find(|place| both.contains(place))?;
        let end = *self.file.duration.get_ref();
        let overlap =
            a.windows(end).any(|a| b.windows(end).any(|b| a.start < b.end && b.start < a.end));
        overlap.then_some(shared)
    }
}

//! What contradicts something else in a service.

use proxy::config::{InputError, list};

use sim::backend::Discipline;
use toml::Spanned;

use super::Checker;
use crate::scenario::Service;
use crate::scenario::service::{Capacity, MOST_CALLS, MOST_STEPS, TooDeep, WrittenCall};

impl Checker<'_> {
    pub(super) fn service(&self, index: usize, service: &Service) -> Result<(), InputError> {
        let field = |name: &str| format!("services[{index}].{name}");
        let services = &self.file.services;
        let name = service.name.get_ref();
        if services[..index].iter().any(|earlier| earlier.name.get_ref() == name) {
            let message = format!("`{name}` names an earlier service too; names must differ");
            return Err(self.wrong(field("name"), &service.name, message));
        }
        if service.instances.is_some() != service.groups.is_empty() {
            let message = "give `instances` or `groups`, one of them".to_owned();
            return Err(self.wrong(field("instances"), &service.name, message));
        }
        self.queue(index, service)?;
        self.errors(index, service)?;
        self.capacity(index, service)?;
        self.calls(index, service)?;
        if index > 0 && !services.iter().any(|other| other.does_call(name)) {
            let message = format!("nobody calls `{name}`; write `calls` at the service that does");
            return Err(self.wrong(field("name"), &service.name, message));
        }
        Ok(())
    }

    fn queue(&self, index: usize, service: &Service) -> Result<(), InputError> {
        let field = |name: &str| format!("services[{index}].{name}");
        if service.workers.is_some() {
            return Ok(());
        }
        if let Some(queue) = &service.queue {
            let message = "without `workers` nobody ever waits; say how many there are".to_owned();
            return Err(self.wrong(field("queue"), queue, message));
        }
        if let Some(discipline) = &service.discipline
            && *discipline.get_ref() != Discipline::Fifo
        {
            let message = "without `workers` there is enough for everybody at once; say how many \
                           there are, such as 1";
            return Err(self.wrong(field("discipline"), discipline, message.to_owned()));
        }
        Ok(())
    }

    fn errors(&self, index: usize, service: &Service) -> Result<(), InputError> {
        match &service.errors {
            Some(errors) if service.error_rate > 0.0 => {
                let message = "`error_rate` says something of it already; write one of them";
                Err(self.wrong(format!("services[{index}].errors"), errors, message.to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn capacity(&self, index: usize, service: &Service) -> Result<(), InputError> {
        let field = format!("services[{index}].capacity");
        let end = *self.file.duration.get_ref();
        let Some(capacity) = &service.capacity else { return Ok(()) };
        let message = match capacity.get_ref() {
            Capacity::Antagonist(antagonist) => {
                if antagonist.expected_steps(end) <= MOST_STEPS as f64 / 2.0 {
                    return Ok(());
                }
                let most = MOST_STEPS / 2;
                format!("it comes and goes too often; about {most} changes in a run are enough")
            }
            Capacity::Steps(steps) if steps.is_empty() || steps.len() > MOST_STEPS => {
                format!("write 1 to {MOST_STEPS} steps, or leave it out")
            }
            Capacity::Steps(steps) => {
                let times = steps.iter().map(|step| &step.at);
                let late = times.clone().find(|at| *at.get_ref() >= end);
                let behind = times.clone().zip(times.skip(1));
                let early = behind.filter(|(a, b)| a.get_ref() >= b.get_ref()).map(|(_, b)| b);
                let (at, message) = match (late, early.min_by_key(|at| at.span().start)) {
                    (Some(at), _) => (at, "the run is over by then"),
                    (None, Some(at)) => (at, "it is not later than the step before it"),
                    (None, None) => return Ok(()),
                };
                return Err(self.wrong(field, at, message.to_owned()));
            }
        };
        Err(self.wrong(field, capacity, message))
    }

    fn calls(&self, index: usize, service: &Service) -> Result<(), InputError> {
        let field = || format!("services[{index}].calls");
        let Some(calls) = &service.calls else { return Ok(()) };
        let groups = calls.get_ref().groups(calls.span()).map_err(|TooDeep(span)| {
            let message = "lists go two deep: what stands in an inner list is called at once";
            self.wrong(field(), &Spanned::new(span, ()), message.to_owned())
        })?;
        if groups.iter().any(Vec::is_empty) || groups.is_empty() {
            let message = "an empty list calls nobody; leave it out".to_owned();
            return Err(self.wrong(field(), calls, message));
        }
        let later: Vec<_> =
            self.file.services[index + 1..].iter().map(|s| s.name.get_ref().as_str()).collect();
        for WrittenCall { table, span } in groups.iter().flatten() {
            if !later.contains(&table.service.as_str()) {
                let message = format!(
                    "a service calls one that stands below it, so that no request runs in a \
                     circle; there is {}",
                    list(&later)
                );
                return Err(self.wrong(field(), &Spanned::new(span.clone(), ()), message));
            }
        }
        let all: u64 = groups.iter().flatten().map(|call| u64::from(call.table.times.get())).sum();
        if all > u64::from(MOST_CALLS) {
            let message = format!("{all} calls for each request; at most {MOST_CALLS} are made");
            return Err(self.wrong(field(), calls, message));
        }
        Ok(())
    }
}

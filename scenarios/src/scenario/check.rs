//! What contradicts something else in a scenario.

use std::path::Path;

use loadgen::plan::{MAX_RATE, Plan};
use proxy::config::{InputError, list};
use toml::Spanned;

use super::expectation::{Bound, Expectation, Takes, Unit};
use super::fault::MOST_REPETITIONS;
use super::{Fault, File, Metric, Service, Variant, matches};

/// A run keeps a record of each request, of about a hundred bytes with the backend's.
const MOST_REQUESTS: u64 = 10_000_000;

/// Checks a scenario that reads well field by field.
pub(super) fn check(
    file: &File,
    variants: &[Variant],
    path: &Path,
    text: &str,
) -> Result<(), InputError> {
    let instances = file.instances();
    let checker = Checker { file, variants, instances, path, text };
    checker.load()?;
    for (index, service) in file.services.iter().enumerate() {
        checker.service(index, service)?;
    }
    for (index, fault) in file.faults.iter().enumerate() {
        checker.fault(index, fault)?;
    }
    for (index, expectation) in file.expect.iter().enumerate() {
        checker.expectation(index, expectation)?;
    }
    Ok(())
}

struct Checker<'a> {
    file: &'a File,
    variants: &'a [Variant],
    instances: Vec<String>,
    path: &'a Path,
    text: &'a str,
}

impl Checker<'_> {
    fn wrong<T>(&self, field: String, at: &Spanned<T>, message: String) -> InputError {
        InputError::field(self.path, field, message).at_span(self.text, at.span())
    }

    fn load(&self) -> Result<(), InputError> {
        let load = &self.file.load;
        let wrong = |message: String| {
            InputError::field(self.path, "load.rate", message).at_span(self.text, load.rate.span())
        };
        if *load.rate.get_ref() > MAX_RATE {
            return Err(wrong(format!("at most {MAX_RATE} requests per second can be planned")));
        }
        let duration = self.file.duration.get_ref();
        let plan =
            Plan::new(load.arrivals, *load.rate.get_ref(), *duration, 0).map_err(|error| {
                self.wrong("duration".into(), &self.file.duration, error.to_string())
            })?;
        if plan.len() > MOST_REQUESTS {
            let message = "this plans more than ten million requests, which one run has no memory \
                           for; lower the rate or the duration";
            return Err(wrong(message.to_owned()));
        }
        let service = self.file.services[0].name.get_ref();
        load.mix(service, 0).map(drop).map_err(|cannot| {
            let reason = cannot.reason.get_ref().clone();
            self.wrong(cannot.field, &cannot.reason, reason)
        })
    }

    fn service(&self, index: usize, service: &Service) -> Result<(), InputError> {
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
        if let Some(called) = &service.calls {
            let later: Vec<_> = services[index + 1..].iter().map(|s| s.name.get_ref()).collect();
            if !later.contains(&called.get_ref()) {
                let later: Vec<_> = later.into_iter().map(String::as_str).collect();
                let message = format!(
                    "a service calls one that stands below it, so that no request runs in a \
                     circle; there is {}",
                    list(&later)
                );
                return Err(self.wrong(field("calls"), called, message));
            }
        }
        let called = |other: &Service| other.calls.as_ref().is_some_and(|c| c.get_ref() == name);
        if index > 0 && !services.iter().any(called) {
            let message = format!("nobody calls `{name}`; write `calls` at the service that does");
            return Err(self.wrong(field("name"), &service.name, message));
        }
        Ok(())
    }

    fn fault(&self, index: usize, fault: &Fault) -> Result<(), InputError> {
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

    fn instance(&self, field: String, name: &Spanned<String>) -> Result<(), InputError> {
        if self.instances.iter().any(|known| matches(name.get_ref(), known)) {
            return Ok(());
        }
        let of_service = |service: &Service| {
            let known: Vec<_> = service.instance_names().collect();
            match known.as_slice() {
                [only] => format!("`{only}`"),
                [first, .., last] => format!("`{first}` to `{last}`"),
                [] => "none".to_owned(),
            }
        };
        let there_is: Vec<_> = self.file.services.iter().map(of_service).collect();
        let name_text = name.get_ref();
        let message =
            format!("no instance is called `{name_text}`; there is {}", there_is.join(", "));
        Err(self.wrong(field, name, message))
    }

    fn expectation(&self, index: usize, expectation: &Expectation) -> Result<(), InputError> {
        let field = |name: &str| format!("expect[{index}].{name}");
        for variant in expectation.of.iter().flatten() {
            self.variant(field("of"), variant)?;
        }
        if let Some(variant) = &expectation.compared_with {
            self.variant(field("compared_with"), variant)?;
        }
        self.parameters(index, expectation)?;
        self.window(index, expectation)?;
        if expectation.at_least.is_none() && expectation.at_most.is_none() {
            let message = "give `at_least`, `at_most` or both".to_owned();
            return Err(self.wrong(format!("expect[{index}]"), &expectation.that, message));
        }
        for (name, bound) in
            [("at_least", &expectation.at_least), ("at_most", &expectation.at_most)]
        {
            if let Some(bound) = bound {
                self.bound(field(name), expectation, bound)?;
            }
        }
        Ok(())
    }

    /// The fields that only some metrics look at.
    fn parameters(&self, index: usize, expectation: &Expectation) -> Result<(), InputError> {
        let metric = *expectation.that.get_ref();
        let that = &expectation.that;
        let status = expectation.status.map(|_| that.span());
        let target = expectation.target.as_ref().map(Spanned::span);
        let method = expectation.method.as_ref().map(Spanned::span);
        let flag = expectation.flag.as_ref().map(Spanned::span);
        for (name, example, given, takes) in [
            ("target", "\"web-0\"", target, metric.takes_target()),
            ("status", "504", status, metric.takes_status()),
            ("method", "\"GET\"", method, metric.takes_method()),
            ("flag", "\"UH\"", flag, metric.takes_flag()),
        ] {
            let message = match (&given, takes) {
                (None, Takes::Required) => {
                    format!("this metric needs a `{name}`, such as {example}")
                }
                (Some(_), Takes::Nothing) => {
                    format!("this metric does not look at the {name}; leave it out")
                }
                _ => continue,
            };
            let at = Spanned::new(given.unwrap_or(that.span()), ());
            return Err(self.wrong(format!("expect[{index}].{name}"), &at, message));
        }
        let Some(target) = &expectation.target else { return Ok(()) };
        self.instance(format!("expect[{index}].target"), target)?;
        if matches!(metric, Metric::TimeToDetect | Metric::TimeToRecover) {
            self.fault_of(index, target, metric)?;
        }
        Ok(())
    }

    /// A fault that there is something to detect of, or to recover from.
    fn fault_of(
        &self,
        index: usize,
        target: &Spanned<String>,
        metric: Metric,
    ) -> Result<(), InputError> {
        let hits = |fault: &&Fault| {
            let places = fault.places(&self.instances);
            places.iter().any(|&place| matches(target.get_ref(), &self.instances[place]))
        };
        let first = self.file.faults.iter().filter(hits).min_by_key(|fault| *fault.at.get_ref());
        let end = *self.file.duration.get_ref();
        let message = match first.map(|fault| fault.times(end)[0]) {
            Some((_, Some(_))) => return Ok(()),
            Some((_, None)) if metric == Metric::TimeToDetect => return Ok(()),
            Some((_, None)) => "its first fault never ends, so there is no recovery",
            None => "nothing goes wrong there",
        };
        Err(self.wrong(format!("expect[{index}].target"), target, message.to_owned()))
    }

    fn variant(&self, field: String, variant: &Spanned<String>) -> Result<(), InputError> {
        let name = variant.get_ref();
        let names: Vec<_> = self.variants.iter().map(|variant| variant.name.as_str()).collect();
        if names.contains(&name.as_str()) {
            return Ok(());
        }
        let message = format!("`{name}` is not compared here; there is {}", list(&names));
        Err(self.wrong(field, variant, message))
    }

    fn window(&self, index: usize, expectation: &Expectation) -> Result<(), InputError> {
        let from = expectation.from.unwrap_or_default();
        let end = *self.file.duration.get_ref();
        let until = expectation.until.unwrap_or(end);
        if from < until && until <= end {
            return Ok(());
        }
        let message = format!(
            "the window must begin before it ends, and end by {}",
            humantime::format_duration(end)
        );
        Err(self.wrong(format!("expect[{index}].until"), &expectation.that, message))
    }

    fn bound(
        &self,
        field: String,
        expectation: &Expectation,
        bound: &Spanned<Bound>,
    ) -> Result<(), InputError> {
        let unit = expectation.that.get_ref().unit();
        let wants_time = unit == Unit::Time && expectation.compared_with.is_none();
        let message = match (wants_time, bound.get_ref()) {
            (true, Bound::Number(_)) => "a time needs its unit, such as \"500ms\"",
            (false, Bound::Time(_)) if unit == Unit::Time => {
                "this is a factor; write a number, such as 0.5"
            }
            (false, Bound::Time(_)) => "this is no time; write a number, such as 0.5",
            _ => return Ok(()),
        };
        Err(self.wrong(field, bound, message.to_owned()))
    }
}

//! What contradicts something else in a scenario.

use std::path::Path;

use loadgen::plan::{MAX_RATE, Plan};
use proxy::config::{Balance, InputError, list};
use toml::Spanned;

use super::expectation::{Bound, Expectation};
use super::{Fault, File, Metric, instance_names};

/// A run keeps a record of each request, of about a hundred bytes with the backend's.
const MOST_REQUESTS: u64 = 10_000_000;

/// Checks a scenario that reads well field by field.
pub(super) fn check(file: &File, path: &Path, text: &str) -> Result<(), InputError> {
    let checker = Checker { file, path, text };
    checker.load()?;
    checker.variants()?;
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
        Ok(())
    }

    fn variants(&self) -> Result<(), InputError> {
        let strategies = &self.file.compare.strategies;
        for (index, strategy) in strategies.iter().enumerate() {
            let earlier = strategies[..index].iter();
            if earlier.clone().any(|other| other.get_ref() == strategy.get_ref()) {
                let message = "it is in the list already; name each strategy once".to_owned();
                return Err(self.wrong(format!("compare.strategies[{index}]"), strategy, message));
            }
        }
        Ok(())
    }

    fn fault(&self, index: usize, fault: &Fault) -> Result<(), InputError> {
        let field = |name: &str| format!("faults[{index}].{name}");
        self.instance(field("target"), &fault.target)?;
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
        for earlier in &self.file.faults[..index] {
            if clash(earlier, fault) {
                let message = format!(
                    "{} has a fault of this kind at that time already; let one end first",
                    fault.target.get_ref()
                );
                return Err(self.wrong(field("at"), &fault.at, message));
            }
        }
        Ok(())
    }

    fn instance(&self, field: String, name: &Spanned<String>) -> Result<(), InputError> {
        let known = instance_names(&self.file.services[0]);
        if known.contains(name.get_ref()) {
            return Ok(());
        }
        let range = match known.as_slice() {
            [only] => format!("`{only}`"),
            [first, .., last] => format!("`{first}` to `{last}`"),
            [] => "none".to_owned(),
        };
        let message = format!("no instance is called `{}`; there is {range}", name.get_ref());
        Err(self.wrong(field, name, message))
    }

    fn expectation(&self, index: usize, expectation: &Expectation) -> Result<(), InputError> {
        let field = |name: &str| format!("expect[{index}].{name}");
        let metric = *expectation.that.get_ref();
        for variant in expectation.of.iter().flatten() {
            self.variant(field("of"), variant)?;
        }
        if let Some(variant) = &expectation.compared_with {
            self.variant(field("compared_with"), variant)?;
        }
        match &expectation.target {
            Some(target) if metric == Metric::Share => self.instance(field("target"), target)?,
            Some(target) => {
                let message = "only `share` is about one instance; leave it out".to_owned();
                return Err(self.wrong(field("target"), target, message));
            }
            None if metric == Metric::Share => {
                let message = "`share` needs a `target`, such as \"web-0\"".to_owned();
                return Err(self.wrong(field("target"), &expectation.that, message));
            }
            None => {}
        }
        if metric == Metric::StatusShare && expectation.status.is_none() {
            let message = "`status_share` needs a `status`, such as 504".to_owned();
            return Err(self.wrong(field("status"), &expectation.that, message));
        }
        let takes_status = metric == Metric::StatusShare || metric.is_response_time();
        if !takes_status && expectation.status.is_some() {
            let message = "this metric does not look at the status; leave it out".to_owned();
            return Err(self.wrong(field("status"), &expectation.that, message));
        }
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

    fn variant(&self, field: String, variant: &Spanned<Balance>) -> Result<(), InputError> {
        let strategies = self.file.compare.strategies.iter().map(Spanned::get_ref);
        if strategies.clone().any(|strategy| strategy == variant.get_ref()) {
            return Ok(());
        }
        let names: Vec<_> = strategies.map(|strategy| strategy.0.name).collect();
        let name = variant.get_ref().0.name;
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
        let metric = *expectation.that.get_ref();
        let wants_time = metric.is_time() && expectation.compared_with.is_none();
        let message = match (wants_time, bound.get_ref()) {
            (true, Bound::Number(_)) => "a time needs its unit, such as \"500ms\"",
            (false, Bound::Time(_)) => "this is a share or a factor; write a number, such as 0.5",
            _ => return Ok(()),
        };
        Err(self.wrong(field, bound, message.to_owned()))
    }
}

/// Two faults that would change the same thing of the same instance at the same time: the end of
/// one would be the end of both.
fn clash(a: &Fault, b: &Fault) -> bool {
    let same = a.target.get_ref() == b.target.get_ref()
        && std::mem::discriminant(&a.what) == std::mem::discriminant(&b.what);
    let ends_before = |first: &Fault, second: &Fault| {
        first.until.as_ref().is_some_and(|until| until.get_ref() <= second.at.get_ref())
    };
    same && !ends_before(a, b) && !ends_before(b, a)
}

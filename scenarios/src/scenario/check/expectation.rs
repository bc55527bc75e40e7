//! What contradicts something else in an expectation.

use proxy::config::{InputError, list};
use toml::Spanned;

use super::Checker;
use crate::scenario::expectation::{Bound, Expectation, Takes};
use crate::scenario::{Fault, Metric, Unit, matches};

impl Checker<'_> {
    pub(super) fn expectation(
        &self,
        index: usize,
        expectation: &Expectation,
    ) -> Result<(), InputError> {
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
        let inventory = self.file.inventory();
        let hits = |fault: &&Fault| {
            let places = fault.candidates(&inventory);
            places.iter().any(|&place| matches(target.get_ref(), &self.instances[place]))
        };
        let first = self.file.faults.iter().filter(hits).min_by_key(|fault| *fault.at.get_ref());
        let end = *self.file.duration.get_ref();
        let message = match first.map(|fault| fault.possible_times(end)[0]) {
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

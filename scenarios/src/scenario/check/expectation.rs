//! What contradicts something else in an expectation; what is left is one that can be judged.

mod verdict;

use std::ops::Range;
use std::time::Duration;

use proxy::config::InputError;
use toml::Spanned;

use super::Checker;
use crate::scenario::expectation::{
    Anchor, Bound, Expectation, Instances, Requests, When, WrittenExpectation,
};
use crate::scenario::formula::{self, Bounds};
use crate::scenario::metric::Look;
use crate::scenario::{Fault, Metric, Unit};

impl Checker<'_> {
    pub(super) fn expectation(
        &self,
        index: usize,
        written: &WrittenExpectation,
    ) -> Result<Expectation, InputError> {
        let asked = self.formula(index, written)?;
        let metric = asked.metric;
        let bounds = self.bounds(index, written, metric, asked.bounds)?;
        self.looked_at(index, written, metric)?;
        let instances = self.instances_of(index, written)?;
        if matches!(metric, Metric::TimeToDetect | Metric::TimeToRecover) {
            self.fault_to_detect(index, written, &instances, metric)?;
        }
        if metric == Metric::EjectionRecall {
            self.fault_to_recall(index, written, &instances)?;
        }
        let requests = self.requests_of(index, written)?;
        let when = self.when(index, written)?;
        let of = self.variants_of(index, written, &bounds)?;
        let must_fail = self.all_named(index, "must_fail", &written.must_fail)?;
        Ok(Expectation {
            metric,
            of,
            must_fail,
            instances,
            requests,
            status: written.status.as_ref().map(|status| *status.get_ref()),
            flag: written.flag.as_ref().map(|flag| flag.get_ref().clone()),
            when,
            at_least: bounds.at_least,
            at_most: bounds.at_most,
            compared_with: bounds.compared_with.map(|(name, _)| name),
            confidence: self.confidence(index, written)?,
        })
    }

    /// What `that` says; an error in it is shown at its place within the text.
    fn formula(
        &self,
        index: usize,
        written: &WrittenExpectation,
    ) -> Result<formula::Formula, InputError> {
        let that = &written.that;
        formula::parse(that.get_ref()).map_err(|error| {
            let field = format!("expect[{index}].that");
            let at = Spanned::new(self.within(that, error.at), ());
            self.wrong(field, &at, error.message)
        })
    }

    /// The place in the file of a part of a text, if the text stands there as it is.
    fn within(&self, text: &Spanned<String>, part: Range<usize>) -> Range<usize> {
        let span = text.span();
        let quoted = self.text.get(span.clone()).and_then(|quoted| quoted.get(1..));
        if quoted.is_some_and(|quoted| quoted.starts_with(text.get_ref().as_str())) {
            span.start + 1 + part.start..span.start + 1 + part.end
        } else {
            span
        }
    }

    fn bounds(
        &self,
        index: usize,
        written: &WrittenExpectation,
        metric: Metric,
        of_formula: Option<Bounds>,
    ) -> Result<Bounds, InputError> {
        let field = |name: &str| format!("expect[{index}].{name}");
        let both = [("at_least", &written.at_least), ("at_most", &written.at_most)];
        if let Some(bounds) = of_formula {
            let message = || "`that` says what it is compared with; leave it out".to_owned();
            for (name, bound) in both {
                if let Some(bound) = bound {
                    return Err(self.wrong(field(name), bound, message()));
                }
            }
            if let Some(base) = &written.compared_with {
                return Err(self.wrong(field("compared_with"), base, message()));
            }
            if let Some((name, at)) = &bounds.compared_with {
                let at = self.within(&written.that, at.clone());
                self.one_variant(field("that"), &Spanned::new(at, name.clone()))?;
            }
            return Ok(bounds);
        }
        if written.at_least.is_none() && written.at_most.is_none() {
            let metric = metric.name();
            let message = format!(
                "give `at_least`, `at_most` or both, or all on one line, such as \"{metric} <= …\""
            );
            return Err(self.wrong(field("that"), &written.that, message));
        }
        for (name, bound) in both {
            if let Some(bound) = bound {
                self.bound(field(name), metric, written.compared_with.is_some(), bound)?;
            }
        }
        if let Some(base) = &written.compared_with {
            self.one_variant(field("compared_with"), base)?;
        }
        let number = |bound: &Option<Spanned<Bound>>| bound.as_ref().map(|b| b.get_ref().number());
        let (at_least, at_most) = (number(&written.at_least), number(&written.at_most));
        if let (Some(least), Some(most), Some(at)) = (at_least, at_most, &written.at_most)
            && least > most
        {
            let message = "nothing is at least the one and at most the other; swap them".to_owned();
            return Err(self.wrong(field("at_most"), at, message));
        }
        let base = written.compared_with.as_ref();
        let compared_with = base.map(|base| (base.get_ref().clone(), base.span()));
        Ok(Bounds { at_least, at_most, compared_with })
    }

    fn bound(
        &self,
        field: String,
        metric: Metric,
        is_factor: bool,
        bound: &Spanned<Bound>,
    ) -> Result<(), InputError> {
        let is_time = metric.unit() == Unit::Time;
        let message = match (is_time && !is_factor, bound.get_ref()) {
            (true, Bound::Number(number)) => {
                format!("a time needs its unit; write \"{number}ms\" or \"{number}s\"")
            }
            (false, Bound::Time(_)) if is_time => {
                "this is a factor; write a number, such as 0.5".to_owned()
            }
            (false, Bound::Time(_)) => "this is no time; write a number, such as 0.5".to_owned(),
            (_, Bound::Number(number)) if metric.unit() == Unit::Share && *number > 1.0 => {
                if is_factor {
                    return Ok(());
                }
                format!(
                    "a share is from 0 to 1; write \"{metric} >= {number} %\" on one line, or a part of 1",
                    metric = metric.name()
                )
            }
            _ => return Ok(()),
        };
        Err(self.wrong(field, bound, message))
    }

    /// The fields that only some metrics look at.
    fn looked_at(
        &self,
        index: usize,
        written: &WrittenExpectation,
        metric: Metric,
    ) -> Result<(), InputError> {
        fn at<T>(field: &Option<Spanned<T>>) -> Option<Range<usize>> {
            field.as_ref().map(Spanned::span)
        }
        let looks = metric.looks();
        // Any of the three says which instances.
        let [target, zone, labels] = [at(&written.target), at(&written.zone), at(&written.labels)];
        let need_target = match looks.instances {
            Look::Must if zone.is_some() || labels.is_some() => Look::Yes,
            look => look,
        };
        let need_place = if looks.instances == Look::No { Look::No } else { Look::Yes };
        for (name, example, given, look) in [
            ("target", "\"web-0\"", target, need_target),
            ("zone", "", zone, need_place),
            ("labels", "", labels, need_place),
            ("method", "", at(&written.method), looks.requests),
            ("path", "", at(&written.path), looks.requests),
            ("status", "504", at(&written.status), looks.status),
            ("flag", "\"UH\"", at(&written.flag), looks.flag),
        ] {
            let metric = metric.name();
            let message = match (&given, look) {
                (None, Look::Must) => format!("`{metric}` needs a `{name}`, such as {example}"),
                (Some(_), Look::No) => format!("`{metric}` does not look at it; leave it out"),
                _ => continue,
            };
            let at = Spanned::new(given.unwrap_or(written.that.span()), ());
            return Err(self.wrong(format!("expect[{index}].{name}"), &at, message));
        }
        Ok(())
    }

    fn instances_of(
        &self,
        index: usize,
        written: &WrittenExpectation,
    ) -> Result<Instances, InputError> {
        if let Some(target) = &written.target {
            self.instance(format!("expect[{index}].target"), target)?;
        }
        let labels = written.labels.as_ref();
        let instances = Instances {
            target: written.target.as_ref().map(|target| target.get_ref().clone()),
            zone: written.zone.as_ref().map(|zone| zone.get_ref().clone()),
            labels: labels.map(|labels| labels.get_ref().clone()).unwrap_or_default(),
        };
        if instances.among(self.file).contains(&true) {
            return Ok(instances);
        }
        let message = format!("no instance is{instances}");
        let (name, at) = match (labels.map(Spanned::span), &written.zone) {
            (Some(at), _) => ("labels", at),
            (None, zone) => ("zone", zone.as_ref().map_or(written.that.span(), Spanned::span)),
        };
        Err(self.wrong(format!("expect[{index}].{name}"), &Spanned::new(at, ()), message))
    }

    fn requests_of(
        &self,
        index: usize,
        written: &WrittenExpectation,
    ) -> Result<Requests, InputError> {
        let value = |field: &Option<Spanned<String>>| field.as_ref().map(|f| f.get_ref().clone());
        let requests = Requests { method: value(&written.method), path: value(&written.path) };
        let (name, at) = match (&written.path, &written.method) {
            (Some(path), _) => ("path", path.span()),
            (None, Some(method)) => ("method", method.span()),
            (None, None) => return Ok(requests),
        };
        if self.sends(&requests) {
            return Ok(requests);
        }
        let message = format!("the client sends no request{requests}; look at `load.mix`");
        Err(self.wrong(format!("expect[{index}].{name}"), &Spanned::new(at, ()), message))
    }

    /// A fault that there is something to detect of, or to recover from.
    fn fault_to_detect(
        &self,
        index: usize,
        written: &WrittenExpectation,
        instances: &Instances,
        metric: Metric,
    ) -> Result<(), InputError> {
        let end = *self.file.duration.get_ref();
        let times = self.faults_of(instances).map(|fault| fault.possible_times(end));
        let first = times.filter_map(|times| times.first().copied()).min_by_key(|(at, _)| *at);
        let message = match first {
            Some((_, Some(_))) => return Ok(()),
            Some((_, None)) if metric == Metric::TimeToDetect => return Ok(()),
            Some((_, None)) => "its first fault never ends, so there is no recovery",
            None => "nothing goes wrong there",
        };
        Err(self.wrong_instances(index, written, message))
    }

    fn fault_to_recall(
        &self,
        index: usize,
        written: &WrittenExpectation,
        instances: &Instances,
    ) -> Result<(), InputError> {
        if self.faults_of(instances).next().is_some() {
            return Ok(());
        }
        Err(self.wrong_instances(index, written, "nothing goes wrong there"))
    }

    fn wrong_instances(
        &self,
        index: usize,
        written: &WrittenExpectation,
        message: &str,
    ) -> InputError {
        let at = written.target.as_ref().map_or(written.that.span(), Spanned::span);
        let field = format!("expect[{index}].target");
        self.wrong(field, &Spanned::new(at, ()), message.to_owned())
    }

    fn faults_of(&self, instances: &Instances) -> impl Iterator<Item = &Fault> {
        let among = instances.among(self.file);
        let inventory = self.file.inventory();
        self.file
            .faults
            .iter()
            .filter(move |fault| fault.candidates(&inventory).into_iter().any(|place| among[place]))
    }

    fn when(&self, index: usize, written: &WrittenExpectation) -> Result<When, InputError> {
        let field = |name: &str| format!("expect[{index}].{name}");
        let anchor = match (&written.during, &written.after) {
            (None, None) => Anchor::Start,
            (Some(target), None) => Anchor::During(target.get_ref().clone()),
            (None, Some(target)) => Anchor::After(target.get_ref().clone()),
            (Some(_), Some(after)) => {
                let message = "give `during` or `after`, one of them".to_owned();
                return Err(self.wrong(field("after"), after, message));
            }
        };
        let value = |at: &Option<Spanned<Duration>>| at.as_ref().map(|at| *at.get_ref());
        let warm_up = match anchor {
            Anchor::Start => self.file.load.looked_at_from(),
            _ => Duration::ZERO,
        };
        let when = When {
            anchor,
            from: value(&written.from).unwrap_or(warm_up),
            until: value(&written.until),
        };
        let named = written.during.as_ref().map(|target| ("during", target));
        let named = named.or(written.after.as_ref().map(|target| ("after", target)));
        if let Some((name, target)) = named {
            self.instance(field(name), target)?;
            if self.file.possible_fault(target.get_ref()).is_none() {
                let message = "nothing goes wrong there".to_owned();
                return Err(self.wrong(field(name), target, message));
            }
        }
        let end = *self.file.duration.get_ref();
        let Some(window) = when.window(end, |target| self.file.possible_fault(target)) else {
            let message = "this fault lasts to the end of the run, so nothing comes after it";
            let at = named.map_or(written.that.span(), |(_, target)| target.span());
            return Err(self.wrong(field("after"), &Spanned::new(at, ()), message.to_owned()));
        };
        if window.start < window.end && window.end <= end {
            return Ok(when);
        }
        let limit = if window.end > end { &written.until } else { &written.from };
        let (name, at) = match (limit, window.end > end) {
            (Some(at), true) => ("until", at.span()),
            (Some(at), false) => ("from", at.span()),
            (None, _) => ("until", written.until.as_ref().unwrap_or(&self.file.duration).span()),
        };
        let [start, stop, end] =
            [window.start, window.end, end].map(|t| humantime::format_duration(t).to_string());
        let message = format!(
            "this looks from {start} to {stop}; a window begins before it ends, and ends by {end}"
        );
        Err(self.wrong(field(name), &Spanned::new(at, ()), message))
    }
}

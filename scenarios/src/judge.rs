//! What was measured against what was expected. Pure.

use reports::in_unit;
use reports::record::{Check, Warning, WarningKind};

use crate::measure::Measured;
use crate::scenario::{Anchor, Expectation, Scenario};

/// Judges one expectation of one run of a variant. `base` is what was measured of the variant that
/// it is compared with, if it is compared with one.
///
/// What could not be measured is not judged, and so neither holds nor is missed: an expectation
/// about nothing is a mistake in the scenario or a run that went very wrong.
pub fn judge(
    scenario: &Scenario,
    expectation: &Expectation,
    variant: &str,
    measured: &Measured,
    base: Option<&Measured>,
) -> Check {
    let metric = expectation.metric;
    let unit = metric.unit();
    let mut check = Check {
        metric: metric.name(),
        what: what(scenario, expectation),
        wanted: String::new(),
        measured: String::new(),
        unit: Some(unit),
        value: measured.number(),
        at_least: expectation.at_least,
        at_most: expectation.at_most,
        compared_with: expectation.compared_with.clone(),
        base: base.and_then(Measured::number),
        confidence: expectation.confidence,
        must_fail: expectation.must_fail(variant),
        not_judged: not_judged(expectation, measured, base),
        held: false,
    };
    let of_base = check.base.map(|base| format!(" ({})", in_unit(unit, base)));
    check.wanted = check.asked() + &of_base.unwrap_or_default();
    check.measured = match (&check.not_judged, measured) {
        (Some(reason), _) => reason.clone(),
        (None, Measured::Number(value)) => in_unit(unit, *value),
        (None, _) => "never".to_owned(),
    };
    // What never happened took longer than any time.
    let value = check.value.unwrap_or(f64::INFINITY);
    let (least, most) = (check.absolute(check.at_least), check.absolute(check.at_most));
    check.held = check.not_judged.is_none()
        && least.is_none_or(|least| value >= least)
        && most.is_none_or(|most| value <= most);
    check
}

/// Why an expectation of a run cannot be judged.
fn not_judged(
    expectation: &Expectation,
    measured: &Measured,
    base: Option<&Measured>,
) -> Option<String> {
    if let Measured::Nothing(why) = measured {
        return Some(format!("nothing to measure: {why}"));
    }
    let name = expectation.compared_with.as_ref()?;
    match base {
        Some(Measured::Number(_)) => None,
        Some(Measured::Never) => Some(format!("nothing to compare with: {name} never came to it")),
        Some(Measured::Nothing(why)) => Some(format!("nothing to compare with: for {name}, {why}")),
        None => Some(format!("nothing to compare with: {name} was not run")),
    }
}

/// An expectation that cannot be judged because the run it is compared with was not made.
pub fn without_base(scenario: &Scenario, expectation: &Expectation, base: &str) -> Warning {
    Warning {
        kind: WarningKind::Unjudged,
        doubt: format!(
            "{} was not judged: the run of {base} with the same seed is missing",
            what(scenario, expectation)
        ),
        remedy: format!("run {base} too"),
    }
}

/// What an expectation is about, in words.
pub fn what(scenario: &Scenario, expectation: &Expectation) -> String {
    let mut text = expectation.metric.words();
    if let Some(status) = expectation.status {
        let takes_number = text.ends_with("status");
        text += &if takes_number { format!(" {status}") } else { format!(" of status {status}") };
    }
    if let Some(flag) = &expectation.flag {
        text += &format!(" {flag}");
    }
    text += &format!("{}{}", expectation.requests, expectation.instances);
    let when = &expectation.when;
    let [from, until] = [when.from, when.until.unwrap_or(scenario.duration())];
    let [from, until] = [from, until].map(humantime::format_duration);
    match (&when.anchor, when.until) {
        (Anchor::Start, None) if when.from.is_zero() => {}
        (Anchor::Start, _) => text += &format!(", {from} to {until}"),
        // Not in numbers: they may differ from seed to seed.
        (Anchor::During(target), _) => text += &format!(", during the fault at {target}"),
        (Anchor::After(target), _) => text += &format!(", after the fault at {target}"),
    }
    if when.anchor != Anchor::Start {
        match (when.from.is_zero(), when.until) {
            (true, None) => {}
            (false, None) => text += &format!(", from {from} on"),
            (_, Some(_)) => text += &format!(", {from} to {until} of it"),
        }
    }
    text
}

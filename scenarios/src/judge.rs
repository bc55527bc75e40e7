//! What was measured against what was expected. Pure.

use reports::in_unit;
use reports::record::{Check, Warning, WarningKind};

use crate::measure::{Value, window};
use crate::scenario::{Bound, Expectation, Scenario};

/// Judges one expectation of one run. `base` is what was measured of the variant it is compared
/// with, if it is compared with one.
///
/// What could not be measured does not hold: an expectation about nothing is a mistake in the
/// scenario or a run that went very wrong.
pub fn judge(
    scenario: &Scenario,
    expectation: &Expectation,
    value: Option<Value>,
    base: Option<Option<Value>>,
) -> Check {
    let bound = |bound: &Option<toml::Spanned<Bound>>| {
        bound.as_ref().map(|bound| match bound.get_ref() {
            Bound::Time(time) => time.as_secs_f64(),
            Bound::Number(number) => *number,
        })
    };
    let base_name = expectation.compared_with.as_ref().map(|name| name.get_ref().clone());
    let not_judged = match (value, base, &base_name) {
        (None, ..) => Some("nothing to measure".to_owned()),
        (_, Some(None), Some(base)) => Some(format!("nothing to measure of {base}")),
        _ => None,
    };
    let metric = *expectation.that.get_ref();
    let mut check = Check {
        metric: metric.name().to_owned(),
        what: what(scenario, expectation),
        wanted: String::new(),
        measured: String::new(),
        unit: Some(metric.unit()),
        value: value.map(Value::number),
        at_least: bound(&expectation.at_least),
        at_most: bound(&expectation.at_most),
        compared_with: base_name,
        base: base.flatten().map(Value::number),
        confidence: None,
        must_fail: false,
        not_judged,
        held: false,
    };
    let of_base = check.base.map(|base| format!(" ({})", in_unit(metric.unit(), base)));
    check.wanted = check.asked() + &of_base.unwrap_or_default();
    check.measured = match (&check.not_judged, check.value) {
        (None, Some(value)) => in_unit(metric.unit(), value),
        (reason, _) => reason.clone().unwrap_or_default(),
    };
    check.held = check.not_judged.is_none()
        && check.value.is_some_and(|value| {
            let (least, most) = (check.absolute(check.at_least), check.absolute(check.at_most));
            least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most)
        });
    check
}

/// An expectation that cannot be judged because the run it is compared with was not made.
pub fn not_judged(scenario: &Scenario, expectation: &Expectation, base: &str) -> Warning {
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
    let mut text = expectation.that.get_ref().words().to_owned();
    if let Some(status) = expectation.status {
        let takes_number = text.ends_with("status");
        text += &if takes_number { format!(" {status}") } else { format!(" of status {status}") };
    }
    if let Some(flag) = &expectation.flag {
        text += &format!(" {}", flag.get_ref());
    }
    if let Some(method) = &expectation.method {
        text += &format!(" of {}", method.get_ref());
    }
    if let Some(target) = &expectation.target {
        text += &format!(" at {}", target.get_ref());
    }
    if expectation.from.is_some() || expectation.until.is_some() {
        let window = window(scenario, expectation);
        let [from, until] = [window.start, window.end].map(humantime::format_duration);
        text += &format!(", {from} to {until}");
    }
    text
}

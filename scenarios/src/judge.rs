//! What was measured against what was expected. Pure.

use std::time::Duration;

use reports::record::{Check, Warning};

use crate::measure::{Value, window};
use crate::scenario::{Bound, Expectation, Scenario, Unit};

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
    let comparable = base != Some(None);
    let base = base.flatten();
    let lower = expectation.at_least.as_ref().map(|b| Limit::new(*b.get_ref(), base));
    let upper = expectation.at_most.as_ref().map(|b| Limit::new(*b.get_ref(), base));
    let above = |limit: &Limit, value: Value| value.number() >= limit.number;
    let below = |limit: &Limit, value: Value| value.number() <= limit.number;
    let passed = comparable
        && value.is_some_and(|value| {
            lower.as_ref().is_none_or(|limit| above(limit, value))
                && upper.as_ref().is_none_or(|limit| below(limit, value))
        });
    let wanted = match (&lower, &upper) {
        (Some(lower), Some(upper)) => {
            format!("{} to {}", lower.text(expectation), upper.text(expectation))
        }
        (Some(lower), None) => format!("≥ {}", lower.text(expectation)),
        (None, Some(upper)) => format!("≤ {}", upper.text(expectation)),
        (None, None) => String::new(),
    };
    Check {
        what: what(scenario, expectation),
        wanted,
        measured: value.map_or_else(|| "nothing to measure".to_owned(), words),
        passed,
    }
}

/// An expectation that cannot be judged because the run it is compared with was not made.
pub fn not_judged(scenario: &Scenario, expectation: &Expectation, base: &str) -> Warning {
    Warning {
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

/// A bound as a number, and what it is a multiple of.
struct Limit {
    bound: Bound,
    base: Option<Value>,
    number: f64,
}

impl Limit {
    fn new(bound: Bound, base: Option<Value>) -> Self {
        let factor = base.map_or(1.0, Value::number);
        let number = match bound {
            Bound::Time(time) => time.as_secs_f64(),
            Bound::Number(number) => number * factor,
        };
        Self { bound, base, number }
    }

    fn text(&self, expectation: &Expectation) -> String {
        match (self.bound, self.base, &expectation.compared_with) {
            (Bound::Number(factor), Some(base), Some(of)) => {
                format!("{factor} × {} ({})", of.get_ref(), words(base))
            }
            (Bound::Number(number), ..) => match expectation.that.get_ref().unit() {
                Unit::Share => words(Value::Share(number)),
                Unit::PerSecond => words(Value::PerSecond(number)),
                Unit::Factor => words(Value::Factor(number)),
                Unit::Count | Unit::Time => format!("{number}"),
            },
            (Bound::Time(time), ..) => words(Value::Time(time)),
        }
    }
}

/// Keeps a number and its unit on one line.
const NBSP: char = '\u{a0}';

/// `99.952 %`, `12.3 ms`.
fn words(value: Value) -> String {
    match value {
        Value::Share(share) => {
            let text = format!("{:.3}", share * 100.0);
            format!("{}{NBSP}%", text.trim_end_matches('0').trim_end_matches('.'))
        }
        Value::Count(count) => count.to_string(),
        Value::PerSecond(rate) => format!("{rate:.1}{NBSP}/s"),
        Value::Factor(factor) => {
            let text = format!("{factor:.3}");
            format!("{}{NBSP}×", text.trim_end_matches('0').trim_end_matches('.'))
        }
        Value::Time(time) if time >= Duration::from_secs(10) => {
            format!("{:.1}{NBSP}s", time.as_secs_f64())
        }
        Value::Time(time) => {
            let text = format!("{:.1}", time.as_secs_f64() * 1e3);
            format!("{}{NBSP}ms", text.trim_end_matches('0').trim_end_matches('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_words() {
        let share = |share| words(Value::Share(share));
        assert_eq!(
            [share(0.0), share(1.0), share(0.95455)],
            ["0\u{a0}%", "100\u{a0}%", "95.455\u{a0}%"]
        );
        let time = |us| words(Value::Time(Duration::from_micros(us)));
        assert_eq!(
            [time(500), time(502_000), time(12_000_000)],
            ["0.5\u{a0}ms", "502\u{a0}ms", "12.0\u{a0}s"]
        );
        let others = [Value::Count(3), Value::PerSecond(199.54), Value::Factor(1.2)];
        assert_eq!(others.map(words), ["3", "199.5\u{a0}/s", "1.2\u{a0}×"]);
    }
}

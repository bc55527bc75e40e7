//! An expectation on one line: `p99 <= 0.5 * round_robin.p99`.
//!
//! ```text
//! formula    = metric comparison bound
//! comparison = "<=" | ">=" | "=="
//! bound      = [ number "*" ] variant "." metric   the same metric of another variant
//!            | number [ "%" | "/s" ]               of shares, counts, rates and factors
//!            | duration                            of times, such as 500ms
//! ```

use std::ops::Range;

use proxy::config::fields::parse_duration;
use reports::record::Unit;

use super::metric::Metric;

/// What the text of an expectation says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Formula {
    pub(super) metric: Metric,
    /// What it is compared with; without it the text is a metric alone.
    pub(super) bounds: Option<Bounds>,
}

/// The right side of a formula.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bounds {
    pub(super) at_least: Option<f64>,
    pub(super) at_most: Option<f64>,
    /// The variant, and where in the text it stands.
    pub(super) compared_with: Option<(String, Range<usize>)>,
}

/// What is wrong with a text, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FormulaError {
    pub(super) at: Range<usize>,
    pub(super) message: String,
}

/// Reads a metric, or a metric and what it is compared with.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn parse(text: &str) -> Result<Formula, FormulaError> {
    let sign = ["<=", ">=", "=="].iter().filter_map(|sign| Some((text.find(sign)?, *sign))).min();
    let end = sign.map_or(text.len(), |(at, _)| at);
    let metric = metric(text, trimmed(text, 0..end))?;
    let Some((at, sign)) = sign else { return Ok(Formula { metric, bounds: None }) };
    let (factor, compared_with) = bound(text, trimmed(text, at + sign.len()..text.len()), metric)?;
    let (at_least, at_most) = match sign {
        "<=" => (None, Some(factor)),
        ">=" => (Some(factor), None),
        _ => (Some(factor), Some(factor)),
    };
    Ok(Formula { metric, bounds: Some(Bounds { at_least, at_most, compared_with }) })
}

fn metric(text: &str, at: Range<usize>) -> Result<Metric, FormulaError> {
    let name = &text[at.clone()];
    Metric::parse(name).ok_or_else(|| {
        let message = if let Some(sign) = name.find(['<', '>', '=', '!']) {
            let at = at.start + sign..at.start + sign + 1;
            let message = "compare with `<=`, `>=` or `==`".to_owned();
            return FormulaError { at, message };
        } else if name.is_empty() {
            "name what is measured, such as `p99 <= 500ms`".to_owned()
        } else {
            let known: Vec<_> = Metric::names().collect();
            format!("no metric is called `{name}`; {}", proxy::config::suggest(name, &known))
        };
        FormulaError { at, message }
    })
}

type Compared = Option<(String, Range<usize>)>;

fn bound(text: &str, at: Range<usize>, metric: Metric) -> Result<(f64, Compared), FormulaError> {
    let wrong = |at: &Range<usize>, message: String| FormulaError { at: at.clone(), message };
    let whole = &text[at.clone()];
    if whole.is_empty() {
        return Err(wrong(
            &at,
            format!("write what it is compared with, such as {}", example(metric)),
        ));
    }
    let (factor, rest) = match whole.find('*') {
        Some(star) => {
            let left = trimmed(text, at.start..at.start + star);
            let factor = number(&text[left.clone()]).ok_or_else(|| {
                let message = format!(
                    "`{}` is not a factor; write a number, such as 0.5",
                    &text[left.clone()]
                );
                wrong(&left, message)
            })?;
            (Some(factor), trimmed(text, at.start + star + 1..at.end))
        }
        None => (None, at),
    };
    let written = &text[rest.clone()];
    if let Some(variant) = of_variant(written, metric) {
        let place = rest.start..rest.start + variant.len();
        return Ok((factor.unwrap_or(1.0), Some((variant.to_owned(), place))));
    }
    if factor.is_some() {
        let message = format!(
            "`{written}` is not the {name} of a variant; write its name and `.{name}`, such as `round_robin.{name}`",
            name = metric.name()
        );
        return Err(wrong(&rest, message));
    }
    absolute(written, metric.unit()).map(|number| (number, None)).map_err(|why| {
        let name = metric.name();
        wrong(&rest, format!("{why}, or `variant.{name}`"))
    })
}

/// The variant in `round_robin.p99`; names of variants may have points in them, and so may metrics.
fn of_variant(text: &str, metric: Metric) -> Option<&str> {
    let points = text.match_indices('.').map(|(at, _)| at);
    let is_metric = |at: &usize| Metric::parse(&text[at + 1..]) == Some(metric);
    let at = points.into_iter().find(is_metric)?;
    let variant = &text[..at];
    // `0.p99` is a number that went wrong.
    (!variant.is_empty() && number(variant).is_none()).then_some(variant)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

fn absolute(text: &str, unit: Unit) -> Result<f64, String> {
    match unit {
        Unit::Time => match parse_duration(text) {
            Ok(time) => Ok(time.as_secs_f64()),
            Err(_) if number(text).is_some() => {
                Err(format!("{text} has no unit; a time is written as \"{text}ms\" or \"{text}s\""))
            }
            Err(why) => Err(why),
        },
        Unit::Share => match text.strip_suffix('%') {
            // Not divided: 99.9 % is exactly what 0.999 is.
            Some(percent) => number(&format!("{}e-2", percent.trim_end())),
            None => number(text),
        }
        .ok_or_else(|| format!("`{text}` is not a share; write 0.999 or 99.9 %")),
        Unit::PerSecond => number(text.strip_suffix("/s").unwrap_or(text).trim_end())
            .ok_or_else(|| format!("`{text}` is not a rate; write 120 or 120/s")),
        Unit::Count | Unit::Factor | Unit::Number => {
            number(text).ok_or_else(|| format!("`{text}` is not a number; write one, such as 1.2"))
        }
    }
}

fn example(metric: Metric) -> &'static str {
    match metric.unit() {
        Unit::Time => "500ms",
        Unit::Share => "99.9 %",
        Unit::PerSecond => "120/s",
        Unit::Count | Unit::Factor | Unit::Number => "1.2",
    }
}

/// The part of a range that is not space at its ends.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(text: &str) -> (Option<f64>, Option<f64>, Option<String>) {
        let bounds = parse(text).unwrap().bounds.unwrap();
        (bounds.at_least, bounds.at_most, bounds.compared_with.map(|(name, _)| name))
    }

    #[test]
    fn a_metric_alone_is_compared_with_nothing() {
        let formula = parse(" p99 ").unwrap();
        assert_eq!((formula.metric.name().as_str(), formula.bounds), ("p99", None));
    }

    #[test]
    fn bounds_are_numbers_in_the_metrics_unit() {
        assert_eq!(bounds("p99 <= 500ms"), (None, Some(0.5), None));
        assert_eq!(bounds("p99.9<=1s 500ms"), (None, Some(1.5), None));
        assert_eq!(bounds("success_rate >= 99.9 %"), (Some(0.999), None, None));
        assert_eq!(bounds("success_rate >= 0.999"), (Some(0.999), None, None));
        assert_eq!(bounds("goodput >= 120/s"), (Some(120.0), None, None));
        assert_eq!(bounds("amplification <= 1.2"), (None, Some(1.2), None));
        assert_eq!(bounds("arrivals == 100"), (Some(100.0), Some(100.0), None));
    }

    #[test]
    fn a_bound_may_be_another_variants() {
        let with = |name: &str| Some(name.to_owned());
        assert_eq!(bounds("p99 <= 0.5 * round_robin.p99"), (None, Some(0.5), with("round_robin")));
        assert_eq!(bounds("p99 <= round_robin.p99"), (None, Some(1.0), with("round_robin")));
        assert_eq!(bounds("p99.9 <= 2*a.b.p99.9"), (None, Some(2.0), with("a.b")));
        assert_eq!(bounds("p999 <= a.p99.9"), (None, Some(1.0), with("a")));
        assert_eq!(bounds("goodput >= 1.1 * v1.0.goodput"), (Some(1.1), None, with("v1.0")));
        let (_, at) =
            parse("p99 <= 0.5 * random.p99").unwrap().bounds.unwrap().compared_with.unwrap();
        assert_eq!(at, 13..19);
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        let cases = [
            "",
            "<= 5ms",
            "p9x <= 5ms",
            "succes_rate >= 0.9",
            "p99 < 5ms",
            "p99 = 5ms",
            "p99 <=",
            "p99 <= 500",
            "p99 <= soon",
            "p99 <= 0.5 * round_robin",
            "p99 <= 0.5 * round_robin.p50",
            "p99 <= half * round_robin.p99",
            "p99 <= -1 * round_robin.p99",
            "p99 <= 0.5 * 3",
            "success_rate >= 99.9 percent",
            "success_rate >= 5ms",
            "goodput >= fast",
            "arrivals >= many",
            "arrivals >= inf",
            "p99 <= 1ms <= 2ms",
            "p99 <= é",
        ];
        let shown = cases.map(|text| {
            let error = parse(text).unwrap_err();
            let caret = " ".repeat(text[..error.at.start].chars().count())
                + &"^".repeat(text[error.at.clone()].chars().count().max(1));
            format!("{text}\n{caret} {}", error.message)
        });
        insta::assert_snapshot!(shown.join("\n"));
    }
}

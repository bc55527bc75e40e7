//! What all seeds of a variant say of one expectation. Pure.
//!
//! Without a confidence, every run has to hold it, or to miss it if it must be missed. With one, the
//! runs are a sample: the interval that covers the mean over all possible seeds with that
//! probability has to lie within the bounds, or wholly outside of one if they must be missed. In a
//! comparison the sample is of the differences between runs of the same seed, which had the same
//! arrivals and service draws; most of what varies from seed to seed is in both and falls out.
//!
//! The interval is Student's. It assumes that seeds are independent, which they are, and that their
//! values are about normally distributed, which a mean or a percentile of thousands of requests is
//! and one of a rare event is not. So fewer than [`FEWEST`] seeds are no sample.

use crate::format::in_unit;
use crate::record::Check;
use crate::statistics::{Sections, mean};

/// The fewest seeds of which an interval is made. With four, one odd seed decides how wide it is.
pub const FEWEST: usize = 5;

/// What is said of an expectation over all seeds of a variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether the expectation is met.
    pub met: bool,
    /// Why, or why not, in a sentence without its full stop.
    pub reason: String,
    /// Where the mean lies, for a verdict with a confidence.
    pub interval: Option<Interval>,
}

/// Where a mean lies, in seconds for times. In a comparison it is the mean of what was measured
/// less the bound, so that 0 is the bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The mean of the sample.
    pub mean: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// With which probability an interval made in this way covers the true mean.
    pub confidence: f64,
}

impl Interval {
    /// Student's interval of the mean of a sample; `None` of fewer than two values, or when one of
    /// them or the confidence is no usable number.
    pub fn of_mean(sample: &[f64], confidence: f64) -> Option<Self> {
        if !(0.0..1.0).contains(&confidence) {
            return None;
        }
        let center = mean(sample)?;
        let bounds = Sections { center, of_runs: sample }.interval(confidence)?;
        Some(Self { mean: center, low: bounds.low, high: bounds.high, confidence })
    }
}

/// Judges one expectation by what it came to in each run of a variant.
///
/// All of `checks` are of the same expectation, and differ in the seed alone.
pub fn verdict(checks: &[&Check]) -> Verdict {
    let not_met = |reason: String| Verdict { met: false, reason, interval: None };
    let Some(first) = checks.first() else {
        return not_met("there was no run".to_owned());
    };
    if let Some(reason) = checks.iter().find_map(|check| check.not_judged.as_ref()) {
        return not_met(reason.clone());
    }
    match first.confidence {
        None => every_run(checks, first.must_fail),
        // What never happened in any run has no mean, and none is needed.
        Some(_) if checks.iter().all(|check| check.value.is_none()) => {
            every_run(checks, first.must_fail)
        }
        Some(confidence) => in_the_mean(checks, first, confidence),
    }
}

fn every_run(checks: &[&Check], must_fail: bool) -> Verdict {
    let (held, all) = (checks.iter().filter(|check| check.held).count(), checks.len());
    let reason = match (must_fail, held) {
        (false, _) => format!("it held in {held} of {all} runs"),
        (true, 0) => format!("it was missed in all of {all} runs, as it must be"),
        (true, _) => format!("it must be missed, and it held in {held} of {all} runs"),
    };
    Verdict { met: held == if must_fail { 0 } else { all }, reason, interval: None }
}

fn in_the_mean(checks: &[&Check], first: &Check, confidence: f64) -> Verdict {
    let not_met = |reason: String| Verdict { met: false, reason, interval: None };
    let count = checks.len();
    if count < FEWEST {
        let seeds = if count == 1 { "1 seed is" } else { &format!("{count} seeds are") };
        return not_met(format!("{seeds} too few for an interval; run at least {FEWEST}"));
    }
    // What is measured less the bound: 0 is the bound.
    let beyond = |bound: Option<f64>| -> Option<Interval> {
        bound?;
        let difference = |check: &&Check| Some(check.value? - check.absolute(bound)?);
        let sample: Option<Vec<f64>> = checks.iter().map(difference).collect();
        Interval::of_mean(&sample?, confidence)
    };
    let (low, high) = (beyond(first.at_least), beyond(first.at_most));
    let complete = low.is_some() == first.at_least.is_some()
        && high.is_some() == first.at_most.is_some()
        && (low.is_some() || high.is_some());
    if !complete {
        return not_met("a run has no number for it".to_owned());
    }
    let held = low.is_none_or(|i| i.low >= 0.0) && high.is_none_or(|i| i.high <= 0.0);
    let missed = low.is_some_and(|i| i.high < 0.0) || high.is_some_and(|i| i.low > 0.0);
    // The end that is nearer to its bound, or farther beyond it.
    let shown = match (low, high) {
        (Some(low), Some(high)) if low.low < -high.high => Some(low),
        (low, high) => high.or(low),
    };
    let outcome = match (held, missed, first.must_fail) {
        (true, _, false) => "it holds",
        (_, true, true) => "it is missed, as it must be",
        (true, _, true) => "it must be missed, and it holds",
        (_, true, false) => "it is missed",
        _ => "the interval has the bound in it; more seeds would narrow it",
    };
    let met = if first.must_fail { missed } else { held };
    let reason = format!("{}: {outcome}", words(first, checks, shown));
    Verdict { met, reason, interval: shown }
}

/// `mean 41.2 ms (40.1 ms to 42.3 ms, 95 % of 10 seeds)`.
fn words(first: &Check, checks: &[&Check], beyond: Option<Interval>) -> String {
    let Some((interval, unit)) = beyond.zip(first.unit) else { return String::new() };
    // The bound is the same for all, so the interval may be given where people look for it.
    let absolute = || {
        let values: Option<Vec<f64>> = checks.iter().map(|check| check.value).collect();
        Interval::of_mean(&values?, interval.confidence)
    };
    let (what, shown) = match &first.compared_with {
        Some(_) => ("mean beyond the bound", interval),
        None => ("mean", absolute().unwrap_or(interval)),
    };
    let number = |value: f64| in_unit(unit, value);
    format!(
        "{what} {} ({} to {}, {} sure by {} seeds)",
        number(shown.mean),
        number(shown.low),
        number(shown.high),
        in_unit(crate::record::Unit::Share, shown.confidence),
        checks.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Unit;

    fn check(value: f64) -> Check {
        Check {
            metric: "p99".to_owned(),
            what: "p99 response time".to_owned(),
            wanted: String::new(),
            measured: String::new(),
            unit: Some(Unit::Time),
            value: Some(value),
            at_least: None,
            at_most: Some(0.5),
            compared_with: None,
            base: None,
            confidence: None,
            must_fail: false,
            not_judged: None,
            held: value <= 0.5,
        }
    }

    fn of(checks: &[Check]) -> Verdict {
        verdict(&checks.iter().collect::<Vec<_>>())
    }

    fn all(values: &[f64], change: impl Fn(usize, &mut Check)) -> Verdict {
        let mut checks: Vec<_> = values.iter().map(|value| check(*value)).collect();
        checks.iter_mut().enumerate().for_each(|(place, check)| change(place, check));
        of(&checks)
    }

    #[test]
    fn without_a_confidence_every_run_has_to_hold_it_or_to_miss_it() {
        let none = |_: usize, _: &mut Check| {};
        assert!(all(&[0.4, 0.5], none).met);
        assert_eq!(all(&[0.4, 0.6], none).reason, "it held in 1 of 2 runs");
        assert!(!all(&[0.4, 0.6], none).met);
        let must_fail = |_: usize, check: &mut Check| check.must_fail = true;
        assert!(all(&[0.6, 0.7], must_fail).met);
        let one_held = all(&[0.4, 0.7], must_fail);
        assert!(!one_held.met);
        assert_eq!(one_held.reason, "it must be missed, and it held in 1 of 2 runs");
    }

    #[test]
    fn what_could_not_be_judged_is_never_met() {
        let silent = |place: usize, check: &mut Check| {
            check.must_fail = true;
            check.not_judged = (place == 1).then(|| "no request was sent".to_owned());
        };
        let verdict = all(&[0.6, 0.7], silent);
        assert!(!verdict.met);
        assert_eq!(verdict.reason, "no request was sent");
        assert!(!of(&[]).met);
        let mut alone = check(0.7);
        (alone.must_fail, alone.held) = (true, false);
        assert!(!alone.missed_alone());
        alone.not_judged = Some("nothing was ejected".to_owned());
        assert!(alone.missed_alone());
    }

    #[test]
    fn an_interval_is_students() {
        // Mean 3, standard deviation √2.5, five values; t of 4 degrees at 97.5 % is 2.7764.
        let interval = Interval::of_mean(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95).unwrap();
        assert_eq!(interval.mean, 3.0);
        assert!((interval.high - 3.0 - 2.776_445 * (0.5_f64).sqrt()).abs() < 1e-5);
        assert!((interval.high + interval.low - 6.0).abs() < 1e-12);
        let same = Interval::of_mean(&[2.0; 5], 0.95).unwrap();
        assert_eq!((same.low, same.high), (2.0, 2.0));
        assert_eq!(Interval::of_mean(&[1.0], 0.95), None);
        assert_eq!(Interval::of_mean(&[1.0, f64::NAN], 0.95), None);
        assert_eq!(Interval::of_mean(&[1.0, 2.0], 1.0), None);
    }

    #[test]
    fn with_a_confidence_the_mean_decides_and_one_run_may_miss() {
        let sure = |_: usize, check: &mut Check| check.confidence = Some(0.95);
        let values = [0.40, 0.41, 0.39, 0.42, 0.40, 0.51];
        let verdict = all(&values, sure);
        assert!(verdict.met, "{}", verdict.reason);
        assert!(!all(&values, |_, _| {}).met);
        // The mean is below the bound, and the interval is not.
        let wide = all(&[0.1, 0.9, 0.2, 0.8, 0.3], sure);
        assert!(!wide.met && wide.reason.ends_with("more seeds would narrow it"), "{wide:?}");
        let few = all(&values[..4], sure);
        assert_eq!(few.reason, "4 seeds are too few for an interval; run at least 5");
        assert!(!few.met);
    }

    #[test]
    fn with_a_confidence_what_must_be_missed_is_missed_by_the_whole_interval() {
        let must_fail = |_: usize, check: &mut Check| {
            (check.confidence, check.must_fail) = (Some(0.95), true);
        };
        assert!(all(&[0.60, 0.61, 0.62, 0.63, 0.64], must_fail).met);
        let held = all(&[0.40, 0.41, 0.42, 0.43, 0.44], must_fail);
        assert!(!held.met && held.reason.ends_with("it must be missed, and it holds"), "{held:?}");
        assert!(!all(&[0.1, 0.9, 0.2, 0.8, 0.5], must_fail).met);
    }

    #[test]
    fn what_never_happened_has_no_mean() {
        let never = |_: usize, check: &mut Check| {
            (check.value, check.held) = (None, false);
            (check.confidence, check.must_fail) = (Some(0.95), true);
        };
        assert!(all(&[0.0; 5], never).met);
        let once = all(&[0.6; 5], |place, check| {
            check.confidence = Some(0.95);
            check.value = check.value.filter(|_| place != 2);
        });
        assert_eq!((once.met, once.reason.as_str()), (false, "a run has no number for it"));
    }

    #[test]
    fn pairs_are_compared_seed_by_seed() {
        // Seeds differ far more than the variants do: unpaired, nothing could be said.
        let bases = [1.0, 2.0, 3.0, 4.0, 5.0];
        let values = bases.map(|base| base * 0.9 + if base > 3.0 { 0.01 } else { -0.01 });
        let paired = |factor: f64| {
            all(&values, move |place, check| {
                check.compared_with = Some("random".to_owned());
                check.base = Some(bases[place]);
                check.at_most = Some(factor);
                check.confidence = Some(0.95);
            })
        };
        assert!(paired(1.0).met, "{}", paired(1.0).reason);
        assert!(!paired(0.9).met);
        assert!(!paired(0.8).met);
        assert!(paired(0.8).reason.ends_with("it is missed"), "{}", paired(0.8).reason);
    }

    #[test]
    fn both_bounds_have_to_hold() {
        let between = |_: usize, check: &mut Check| {
            (check.at_least, check.at_most) = (Some(0.3), Some(0.5));
            check.confidence = Some(0.9);
        };
        assert!(all(&[0.4, 0.41, 0.39, 0.4, 0.4], between).met);
        assert!(!all(&[0.2, 0.21, 0.19, 0.2, 0.2], between).met);
        assert!(!all(&[0.6, 0.61, 0.59, 0.6, 0.6], between).met);
    }
}

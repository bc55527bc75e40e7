//! How much room a variant had between what was measured and what was asked. Pure.

use crate::format::in_unit;
use crate::record::{Check, Unit};
use crate::summary::VariantSummary;

/// A measured value beside a bound.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Margin {
    /// The part of what the bound leaves that is left; below zero beyond it, and `None` when the
    /// bound leaves nothing.
    pub(super) left: Option<f64>,
    /// What was measured and asked, in words.
    pub(super) text: String,
}

impl Margin {
    fn rank(&self) -> f64 {
        self.left.unwrap_or(f64::NEG_INFINITY)
    }
}

/// What came nearest to its bound, or went farthest beyond it, of the expectations with a number
/// that have to hold: in its worst run.
pub(super) fn nearest(variant: &VariantSummary) -> Option<Margin> {
    margins(variant, false).min_by(|a, b| a.rank().total_cmp(&b.rank()))
}

/// What went farthest beyond its bound of what had to be missed.
pub(super) fn meant(variant: &VariantSummary) -> Option<Margin> {
    let beyond = margins(variant, true).filter(|margin| margin.rank() < 0.0);
    beyond.min_by(|a, b| a.rank().total_cmp(&b.rank()))
}

/// What a variant missed, an expectation each.
pub(super) fn misses(variant: &VariantSummary) -> Vec<String> {
    let miss = |check: &crate::summary::CheckSummary| {
        check.miss().map(|(text, _)| format!("{}: {text}", check.what))
    };
    variant.checks.iter().filter_map(miss).collect()
}

fn margins(variant: &VariantSummary, must_fail: bool) -> impl Iterator<Item = Margin> {
    let checks = variant.checks.iter();
    let outcomes = checks.flat_map(|c| c.outcomes.iter().map(move |o| (&c.what, &o.check)));
    let judged = outcomes
        .filter(move |(_, check)| check.must_fail == must_fail && check.not_judged.is_none());
    judged.flat_map(|(what, check)| {
        let least = check.absolute(check.at_least).map(|least| (least, true));
        let most = check.absolute(check.at_most).map(|most| (most, false));
        least.into_iter().chain(most).filter_map(move |bound| margin(what, check, bound))
    })
}

fn margin(what: &str, check: &Check, (bound, is_least): (f64, bool)) -> Option<Margin> {
    let (unit, value) = (check.unit?, check.value?);
    let word = if is_least { "at least" } else { "at most" };
    let text = format!("{what} {}, {word} {}", in_unit(unit, value), in_unit(unit, bound));
    Some(Margin { left: room(unit, value, bound, is_least)?.left(), text })
}

/// Where a value is, seen from a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Room {
    /// The part of what the bound leaves that is left, below zero beyond it.
    Part(f64),
    /// Beyond a bound that leaves nothing.
    Beyond,
}

impl Room {
    fn left(self) -> Option<f64> {
        match self {
            Self::Part(part) => Some(part),
            Self::Beyond => None,
        }
    }
}

/// How much of what a bound leaves is left; `None` when the bound cannot be come near to. Of a share
/// that has to be large what counts is what is missing: 99.98 % is far from 99.9 %.
fn room(unit: Unit, value: f64, bound: f64, is_least: bool) -> Option<Room> {
    if unit == Unit::Share && !is_least && bound >= 1.0 {
        // No share is more than all.
        return None;
    }
    let (value, bound) = match unit {
        Unit::Share if is_least => (1.0 - value, 1.0 - bound),
        _ => (value, bound),
    };
    let beyond = if is_least && unit != Unit::Share { value - bound } else { bound - value };
    match bound > 0.0 {
        // Counts are promises: "at most once" is kept as well by once as by never.
        true if unit == Unit::Count && beyond >= 0.0 => None,
        true => Some(Room::Part(beyond / bound)),
        false => (beyond < 0.0).then_some(Room::Beyond),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_a_part_of_what_a_bound_leaves() {
        let share = |value, bound, is_least| match room(Unit::Share, value, bound, is_least) {
            Some(Room::Part(part)) => part,
            other => panic!("{other:?}"),
        };
        assert!((share(0.9998, 0.999, true) - 0.8).abs() < 1e-9);
        assert!((share(0.998, 0.999, true) + 1.0).abs() < 1e-9);
        assert!((share(0.02, 0.08, false) - 0.75).abs() < 1e-9);
        assert_eq!(room(Unit::Time, 0.5, 2.0, false), Some(Room::Part(0.75)));
        assert_eq!(room(Unit::Time, 3.0, 2.0, true), Some(Room::Part(0.5)));
    }

    #[test]
    fn what_is_kept_exactly_is_near_nothing() {
        assert_eq!(room(Unit::Count, 1.0, 1.0, false), None);
        assert_eq!(room(Unit::Count, 2.0, 1.0, false), Some(Room::Part(-1.0)));
        assert_eq!(room(Unit::Share, 1.0, 1.0, true), None);
        assert_eq!(room(Unit::Share, 0.5, 1.0, true), Some(Room::Beyond));
    }

    #[test]
    fn no_share_comes_near_to_a_bound_of_all() {
        assert_eq!(room(Unit::Share, 1.0, 1.0, false), None);
        assert!(room(Unit::Share, 0.9, 0.999, false).is_some());
    }
}

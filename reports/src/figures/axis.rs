//! Scales and ticks.

use crate::format::{grouped, significant};

/// How values spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Logarithmic,
}

/// One axis: its range, its ticks, and what it shows in which unit.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    scale: Scale,
    min: f64,
    max: f64,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) title: String,
}

impl Axis {
    /// From zero to a little above `max`, with at most `count` + 1 round ticks.
    pub(super) fn from_zero(max: f64, count: usize, title: &str) -> Self {
        Self::up_to(max.max(1e-9) * 1.05, count, title)
    }

    /// From zero to exactly `max`, with at most `count` + 1 round ticks.
    pub(super) fn up_to(max: f64, count: usize, title: &str) -> Self {
        let max = max.max(1e-9);
        let step = round_step(max / count as f64);
        let steps = (max / step + 1e-9).floor() as usize;
        let ticks = (0..=steps).map(|i| (i as f64 * step, label(i as f64 * step, step))).collect();
        Self { scale: Scale::Linear, min: 0.0, max, ticks, title: title.to_owned() }
    }

    /// From below zero to above it, as far as the range goes, with at most `count` + 2 round ticks.
    pub(super) fn around_zero((low, high): (f64, f64), count: usize, title: &str) -> Self {
        // Where all is equal, as far as one to each side.
        let (low, high) = if high - low < 1e-6 { (-1.0, 1.0) } else { (low, high) };
        let room = (high - low) * 0.05;
        let (min, max) = (low.min(0.0) - room, high.max(0.0) + room);
        let step = round_step((max - min) / count as f64);
        let (first, last) = ((min / step).ceil() as i64, (max / step).floor() as i64);
        let tick = |i: i64| (i as f64 * step, label(i as f64 * step, step));
        Self::with_ticks((min, max), (first..=last).map(tick).collect(), title)
    }

    /// From 1, 2 or 5 times a power of ten to another, with ticks there when they are few and at
    /// the powers alone when they are many.
    pub(super) fn logarithmic(min: f64, max: f64, title: &str) -> Self {
        let low = min.max(1e-6);
        let high = max.max(low * 1.01);
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let steps = |d: i32| [1.0, 2.0, 5.0].map(|step| (step == 1.0, step * 10f64.powi(d)));
        let candidates: Vec<(bool, f64)> = (first..=last).flat_map(steps).collect();
        let values: Vec<f64> = candidates.iter().map(|(_, v)| *v).collect();
        let bottom = values.iter().copied().filter(|v| *v <= low).fold(values[0], f64::max);
        let above = values.iter().copied().filter(|v| *v >= high);
        let top = above.fold(f64::INFINITY, f64::min).min(10f64.powi(last));
        // With many decades only they have ticks, and the ends where those are not near to one.
        let narrow = top / bottom <= 300.0;
        let shown = candidates.into_iter().filter(|(decade, v)| {
            *decade || narrow || *v == bottom && v.log10().rem_euclid(1.0) < 0.5 || *v == top
        });
        let shown = shown.map(|(_, v)| v).filter(|v| (bottom..=top).contains(v));
        let ticks = shown.map(|v| (v, label(v, v))).collect();
        let title = title.to_owned();
        Self { scale: Scale::Logarithmic, min: bottom, max: top, ticks, title }
    }

    /// With these ticks instead, on a linear scale from `min` to `max`.
    pub(super) fn with_ticks(range: (f64, f64), ticks: Vec<(f64, String)>, title: &str) -> Self {
        let (min, max) = range;
        Self { scale: Scale::Linear, min, max: max.max(min + 1e-9), ticks, title: title.to_owned() }
    }

    /// Where a value lies between the ends, 0 to 1; values beyond an end lie at it.
    pub(super) fn position(&self, value: f64) -> f64 {
        let at = match self.scale {
            Scale::Linear => (value - self.min) / (self.max - self.min),
            Scale::Logarithmic => {
                (value.max(self.min) / self.min).ln() / (self.max / self.min).ln()
            }
        };
        at.clamp(0.0, 1.0)
    }

    /// Whether a value lies between the ends.
    pub(super) fn holds(&self, value: f64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// The axis in words, for those who do not see it.
    pub(super) fn in_words(&self) -> String {
        let scale = match self.scale {
            Scale::Linear => "",
            Scale::Logarithmic => " (logarithmic)",
        };
        format!("{}{scale}", self.title)
    }
}

/// 1, 2, 2.5 or 5 times a power of ten, at or above `raw`.
fn round_step(raw: f64) -> f64 {
    let decade = 10f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|f| f * decade >= raw * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * decade
}

fn label(value: f64, step: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let whole = |digits: &i32| {
        let scaled = step * 10f64.powi(*digits);
        (scaled - scaled.round()).abs() < 1e-6
    };
    match (0..=9).find(whole) {
        Some(0) => grouped(value.round() as i64),
        Some(digits) => format!("{value:.*}", digits as usize).replace('-', "−"),
        None => significant(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, l)| l.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(&Axis::from_zero(0.093, 4, "")), ["0", "0.025", "0.050", "0.075"]);
        assert_eq!(labels(&Axis::from_zero(9.5, 4, "")), ["0", "2.5", "5.0", "7.5"]);

        assert_eq!(labels(&Axis::from_zero(1003.0, 4, "")), ["0", "500", "1\u{202f}000"]);
        assert_eq!(labels(&Axis::up_to(60.0, 6, "")), ["0", "10", "20", "30", "40", "50", "60"]);
        assert!(Axis::from_zero(0.0, 4, "").position(0.0) < 1e-9);
    }

    #[test]
    fn an_axis_around_zero_has_a_tick_there() {
        let axis = Axis::around_zero((-830.0, 12.0), 5, "");
        assert_eq!(labels(&axis), ["−800", "−600", "−400", "−200", "0"]);
        assert!(labels(&Axis::around_zero((0.0, 0.0), 5, "")).contains(&"0"));
    }

    #[test]
    fn a_logarithmic_axis_holds_both_ends() {
        let axis = Axis::logarithmic(3.0, 1_700.0, "");
        assert!(axis.holds(3.0) && axis.holds(1_700.0));
        assert_eq!(labels(&axis), ["2", "10", "100", "1\u{202f}000", "2\u{202f}000"]);
        let narrow = Axis::logarithmic(30.0, 170.0, "");
        assert_eq!(labels(&narrow), ["20", "50", "100", "200"]);
        assert_eq!([axis.position(2.0), axis.position(2_000.0)], [0.0, 1.0]);
        assert!((axis.position(4_000f64.sqrt()) - 0.5).abs() < 1e-9);
    }
}

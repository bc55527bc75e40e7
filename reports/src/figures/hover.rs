//! What can be read off a drawing with a pointer: its plot's frame, its axes and its values. The
//! page's script shows them; without it the same values are in the figure's CSV file.

use serde_json::json;

use super::axis::Axis;

/// One line of values, at the places of [`Hover::at`].
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) unit: &'static str,
    /// The place of its variant, which gives it its colour.
    pub(super) variant: usize,
    pub(super) values: Vec<Option<f64>>,
}

/// The plot and its values.
#[derive(Clone, Debug)]
pub(super) struct Hover {
    /// Left, top, right and bottom of the plot, in units.
    pub(super) frame: [f64; 4],
    /// Whether it is a time axis, on which a range can be chosen.
    pub(super) is_time: bool,
    /// Where on the horizontal axis there are values: a label, and the place from 0 to 1.
    pub(super) at: Vec<(String, f64)>,
    /// For a time axis, its length in seconds.
    pub(super) end_s: f64,
    pub(super) series: Vec<Series>,
}

impl Hover {
    /// As the page's script reads it; `steps` of the drawing's own coordinates are one unit.
    pub(super) fn to_json(&self, steps: f64) -> String {
        let frame = self.frame.map(|edge| (edge * steps).round() as i64);
        let places: Vec<f64> = self.at.iter().map(|(_, x)| (x * 1e4).round() / 1e4).collect();
        let labels: Vec<&str> = self.at.iter().map(|(label, _)| label.as_str()).collect();
        let series: Vec<_> = self
            .series
            .iter()
            .map(|s| {
                let values: Vec<Option<f64>> = s.values.iter().map(|v| v.map(rounded)).collect();
                json!({ "n": s.name, "u": s.unit, "v": s.variant, "y": values })
            })
            .collect();
        let end = if self.is_time { Some(rounded(self.end_s)) } else { None };
        json!({ "f": frame, "x": places, "l": labels, "end": end, "s": series }).to_string()
    }
}

/// To four significant digits: what a pointer can tell apart, in few bytes.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(-9, 9);
    let scale = 10f64.powi(digits);
    // What rounds to nothing has no sign.
    (value * scale).round() / scale + 0.0
}

/// The places of these times on a time axis.
pub(super) fn times(at_s: impl Iterator<Item = f64>, axis: &Axis) -> Vec<(String, f64)> {
    at_s.map(|s| (format!("{} s", crate::format::significant(s)), axis.position(s))).collect()
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn four_digits_are_kept() {
        let all = [0.0, 1.0, 123_456.0, 0.012_345_6, -98.765_4].map(rounded);
        assert_eq!(all, [0.0, 1.0, 123_500.0, 0.01235, -98.77]);
    }
}

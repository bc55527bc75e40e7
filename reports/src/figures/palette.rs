//! Colours, and the dashes and markers that say the same on a grey printout.
//!
//! The first three series colours are Okabe and Ito's (<https://jfly.uni-koeln.de/color/>); the
//! others are darker than theirs, which vanish on paper. All stay apart for the common forms of
//! colour blindness and have a contrast of three to the paper: the tests compute both. The style
//! sheet replaces these exact colours in dark mode; it is tested to know all of them.

use plotters::style::RGBColor;

/// Text.
pub(super) const INK: RGBColor = RGBColor(31, 35, 40);
/// Tick labels and remarks.
pub(super) const MUTED: RGBColor = RGBColor(89, 99, 110);
/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(222, 227, 232);
/// What a fault shades, and everything that serves as the background of a comparison.
pub(super) const SHADE: RGBColor = RGBColor(129, 139, 152);
/// The background.
pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);
/// Deadlines and losses.
pub(super) const LIMIT: RGBColor = RGBColor(179, 38, 30);

/// After so many places, the colour of a variant comes again.
pub(crate) const COLOURS: usize = SERIES.len();
/// After so many places, its marker and its dashes come again.
pub(crate) const MARKS: usize = MARKERS.len();

const SERIES: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(136, 34, 85),
    RGBColor(51, 34, 136),
    RGBColor(102, 17, 0),
];

const DASHES: [Dash; 5] = [
    Dash::SOLID,
    Dash(Some((8.0, 3.0))),
    Dash(Some((4.0, 3.0))),
    Dash(Some((12.0, 4.0))),
    Dash(Some((2.0, 2.0))),
];

const MARKERS: [Marker; 5] =
    [Marker::Disc, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Ring];

/// Lengths of dash and gap, in units; `None` is a solid line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Dash(Option<(f64, f64)>);

impl Dash {
    pub(super) const SOLID: Self = Self(None);
    pub(super) const FINE: Self = Self(Some((3.0, 3.0)));

    pub(super) fn pattern(self) -> Option<(f64, f64)> {
        self.0
    }
}

/// The shape of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Disc,
    Square,
    Triangle,
    Diamond,
    Ring,
}

/// How the n-th variant of a scenario looks in every figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    pub(super) color: RGBColor,
    pub(super) dash: Dash,
    pub(super) marker: Marker,
}

/// The looks of the n-th variant; the lengths of the lists have no common divisor, so that they
/// repeat together only after thirty.
pub(super) fn look(index: usize) -> Look {
    Look {
        color: SERIES[index % SERIES.len()],
        dash: DASHES[index % DASHES.len()],
        marker: MARKERS[index % MARKERS.len()],
    }
}

/// The n-th variant's colour and marker for the page's style sheet, as class names.
pub(crate) fn swatch(index: usize) -> String {
    format!("v{} m{}", index % SERIES.len(), index % MARKERS.len())
}

#[cfg(test)]
mod tests;

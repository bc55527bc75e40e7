//! One plot: a frame with two axes, and what goes between them.

use super::axis::Axis;
use super::canvas::{Align, Canvas, Font, Point, Stroke};
use super::palette::{Dash, GRID, INK, Look, MUTED, PAPER, SHADE};
use crate::summary::Band;

/// Width of every drawing, in units: one column of the page on a desk, and little more than a
/// phone, so that text has a readable size on both.
pub(super) const WIDTH: f64 = 440.0;
/// Text size, in units.
pub(super) const TEXT: f64 = 13.0;
/// The height of a row of text, in units.
pub(super) const ROW: f64 = 18.0;

/// Room for the labels of the vertical axis; more where they are wider.
const LEFT: f64 = 50.0;
/// Between them and the plot.
const BESIDE: f64 = 6.0;
const BOTTOM: f64 = 40.0;
/// Between a plot and what stands above it.
pub(super) const GAP: f64 = 7.0;

/// Where a plot lies on its drawing, in units from the drawing's edges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// From the drawing's top to the row with the vertical axis' title.
    pub(super) top: f64,
    /// Room for labels at the right end.
    pub(super) right: f64,
    /// Height of the plot itself.
    pub(super) height: f64,
    /// Rows between the vertical axis' title and the plot, for faults and what was done about them.
    pub(super) rows: usize,
}

impl Place {
    /// Height of a drawing with this plot.
    pub(super) fn drawing_height(&self) -> f64 {
        self.plot_top() + self.height + BOTTOM
    }

    fn plot_top(&self) -> f64 {
        self.top + ROW + self.rows as f64 * ROW + GAP
    }
}

/// The plot.
pub(super) struct Panel<'c> {
    pub(super) canvas: &'c Canvas,
    x: &'c Axis,
    y: &'c Axis,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

/// A font in the figures' text size.
pub(super) fn font(align: Align) -> Font {
    Font { size: TEXT, color: MUTED, bold: false, align }
}

impl<'c> Panel<'c> {
    /// Draws the axes and returns the plot.
    pub(super) fn new(canvas: &'c Canvas, place: Place, (x, y): (&'c Axis, &'c Axis)) -> Self {
        let top = place.plot_top();
        let labels = y.ticks.iter().map(|(_, label)| font(Align::Right).width(label));
        let widest = labels.fold(0.0, f64::max) + BESIDE + 1.0;
        let panel = Self {
            canvas,
            x,
            y,
            left: widest.max(LEFT),
            right: canvas.width - place.right,
            top,
            bottom: top + place.height,
        };
        canvas.text(&y.title, (2.0, place.top + ROW / 2.0), font(Align::Left));
        panel.axes();
        panel
    }

    fn axes(&self) {
        // A label that would touch the one before it is left out; its line is not.
        let mut free = f64::INFINITY;
        for (value, label) in &self.y.ticks {
            let y = self.y_at(*value);
            self.canvas.line(&[(self.left, y), (self.right, y)], Stroke::solid(GRID, 1.0));
            if y <= free {
                self.canvas.text(label, (self.left - BESIDE, y), font(Align::Right));
                free = y - TEXT;
            }
        }
        let base = self.bottom;
        let mut free = 0.0;
        for (value, label) in &self.x.ticks {
            let x = self.x_at(*value);
            self.canvas.line(&[(x, base), (x, base + 4.0)], Stroke::solid(SHADE, 1.0));
            let half = font(Align::Middle).width(label) / 2.0;
            // The last one may stand at the drawing's edge.
            let middle = x.min(self.canvas.width - 1.0 - half);
            if middle - half >= free {
                self.canvas.text(label, (middle, base + 12.0), font(Align::Middle));
                free = middle + half + 4.0;
            }
        }
        self.canvas.line(&[(self.left, base), (self.right, base)], Stroke::solid(SHADE, 1.0));
        let middle = ((self.left + self.right) / 2.0, base + 30.0);
        self.canvas.text(&self.x.title, middle, font(Align::Middle));
    }

    /// The place of a horizontal value.
    pub(super) fn x_at(&self, value: f64) -> f64 {
        self.left + self.x.position(value) * (self.right - self.left)
    }

    /// The place of a vertical value.
    pub(super) fn y_at(&self, value: f64) -> f64 {
        self.bottom - self.y.position(value) * (self.bottom - self.top)
    }

    /// The place of a pair of values.
    pub(super) fn at(&self, (x, y): Point) -> Point {
        (self.x_at(x), self.y_at(y))
    }

    /// A horizontal line across the plot.
    pub(super) fn level(&self, value: f64, stroke: Stroke) {
        let y = self.y_at(value);
        self.canvas.line(&[(self.left, y), (self.right, y)], stroke);
    }

    /// A line through values.
    pub(super) fn line(&self, values: &[Point], stroke: Stroke) {
        let points: Vec<Point> = values.iter().map(|v| self.at(*v)).collect();
        self.canvas.line(&points, stroke);
    }

    /// The range over seeds, as a light area; gaps stay gaps.
    pub(super) fn range(&self, series: &[Option<Band>], color: plotters::style::RGBColor) {
        for part in parts(series) {
            let upper = part.iter().map(|b| self.at((b.at_s, b.max)));
            let lower = part.iter().rev().map(|b| self.at((b.at_s, b.min)));
            let outline: Vec<Point> = upper.chain(lower).collect();
            self.canvas.fill(&outline, color, 0.25);
        }
    }

    /// The median over seeds; gaps stay gaps, and an interval alone between gaps is a dot.
    pub(super) fn median(&self, series: &[Option<Band>], stroke: Stroke) {
        for part in parts(series) {
            let values: Vec<Point> = part.iter().map(|b| (b.at_s, b.median)).collect();
            match values.as_slice() {
                [alone] => {
                    let dot = super::palette::Marker::Disc;
                    self.canvas.marker(dot, self.at(*alone), stroke.color, stroke.width);
                }
                values => self.line(values, stroke),
            }
        }
    }

    /// The plot's edges, for what can be read off it.
    pub(super) fn frame(&self) -> [f64; 4] {
        [self.left, self.top, self.right, self.bottom]
    }

    /// Names the right ends of lines, moved apart where they would touch.
    pub(super) fn name_ends(&self, names: &[(f64, String, Font)]) {
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by(|a, b| names[*a].0.total_cmp(&names[*b].0));
        let gap = TEXT + 2.0;
        let mut below = self.bottom + gap;
        for (left, i) in order.iter().enumerate() {
            let (value, name, font) = &names[*i];
            // Room must stay for the names that come above this one.
            let above = (order.len() - 1 - left) as f64 * gap;
            let y = self.y_at(*value).min(below - gap).max(self.top + above);
            self.canvas.text(name, (self.right + 5.0, y), *font);
            below = y;
        }
    }

    /// A remark on the plot, on a patch of paper so that lines do not cross it.
    pub(super) fn remark(&self, text: &str, at: Point, font: Font) {
        let width = font.width(text) + 6.0;
        let left = match font.align {
            Align::Left => at.0 - 3.0,
            Align::Middle => at.0 - width / 2.0,
            Align::Right => at.0 - width + 3.0,
        };
        let half = font.size * 0.6;
        let corners = ((left, at.1 - half), (left + width, at.1 + half));
        self.canvas.block(corners, PAPER, 0.8);
        self.canvas.text(text, at, font);
    }
}

/// A short piece of a line with its marker, as in the legend.
pub(super) fn sample(canvas: &Canvas, (x, y): Point, look: Look, dash: Dash) {
    let stroke = Stroke { color: look.color, width: 2.25, dash };
    canvas.line(&[(x, y), (x + 26.0, y)], stroke);
    canvas.marker(look.marker, (x + 13.0, y), look.color, 4.5);
}

/// The heading of one of several small plots: whose it is, and its gist as a number at the right.
pub(super) fn heading(canvas: &Canvas, look: Look, name: &str, gist: &str) {
    sample(canvas, (2.0, ROW / 2.0), look, Dash::SOLID);
    let right = font(Align::Right);
    let bold = Font { color: INK, bold: true, ..font(Align::Left) };
    let room = canvas.width - 46.0 - right.width(gist);
    canvas.text(&fitted(name, bold, room), (36.0, ROW / 2.0), bold);
    canvas.text(gist, (canvas.width - 2.0, ROW / 2.0), right);
}

/// The text, cut with an ellipsis where it is wider than the room.
pub(super) fn fitted(text: &str, font: Font, room: f64) -> String {
    if font.width(text) <= room {
        return text.to_owned();
    }
    let fits = (room / font.width("m") - 1.0).max(0.0) as usize;
    text.chars().take(fits).chain(['…']).collect()
}

/// The stretches of a series between its gaps.
fn parts(series: &[Option<Band>]) -> Vec<Vec<Band>> {
    series
        .split(Option::is_none)
        .map(|part| part.iter().flatten().copied().collect::<Vec<Band>>())
        .filter(|part| !part.is_empty())
        .collect()
}

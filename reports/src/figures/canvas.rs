//! A drawing surface in units of about one CSS pixel, on plotters' SVG backend.

use std::cell::RefCell;

use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, TriangleMarker};
use plotters::prelude::SVGBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoTextStyle, RGBColor, ShapeStyle, TextStyle};

use super::palette::{Dash, Marker, PAPER};
use crate::html::escape;

/// The backend draws on whole numbers; four to a unit keep curves smooth on any screen.
const STEPS: f64 = 4.0;

/// plotters divides a font's size by this to turn its height into an em.
const FONT_HEIGHT: f64 = 1.24;

/// Why a figure could not be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a figure could not be drawn: {0}")]
pub struct DrawError(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for DrawError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

/// A point in units, from the upper left corner.
pub(super) type Point = (f64, f64);

/// A line's looks; its width is in units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    pub(super) color: RGBColor,
    pub(super) width: f64,
    pub(super) dash: Dash,
}

impl Stroke {
    pub(super) fn solid(color: RGBColor, width: f64) -> Self {
        Self { color, width, dash: Dash::SOLID }
    }
}

/// Where a text stands to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Middle,
    Right,
}

/// A text's looks; its size is in units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Font {
    pub(super) size: f64,
    pub(super) color: RGBColor,
    pub(super) bold: bool,
    pub(super) align: Align,
}

impl Font {
    /// About how wide a text is: 0.55 em a character suits the common sans-serif faces.
    pub(super) fn width(self, text: &str) -> f64 {
        text.chars().count() as f64 * self.size * if self.bold { 0.58 } else { 0.54 }
    }
}

/// What a drawing says to someone who does not see it.
#[derive(Clone, Debug)]
pub(super) struct Alternative {
    pub(super) title: String,
    pub(super) description: String,
}

/// The surface.
pub(super) struct Canvas<'s> {
    area: DrawingArea<SVGBackend<'s>, Shift>,
    /// The dash of each line, in the order in which they are drawn.
    dashes: RefCell<Vec<Dash>>,
    /// Width in units.
    pub(super) width: f64,
}

/// Draws on a surface of this size, in units, and returns it as inline SVG.
///
/// # Errors
/// When plotters refuses to draw.
pub(super) fn draw(
    (width, height): (f64, f64),
    alternative: &Alternative,
    body: impl FnOnce(&Canvas<'_>) -> Result<(), DrawError>,
) -> Result<String, DrawError> {
    let mut svg = String::new();
    let size = ((width * STEPS) as u32, (height * STEPS) as u32);
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let canvas = Canvas { area, width, dashes: RefCell::default() };
    body(&canvas)?;
    canvas.area.present()?;
    let dashes = canvas.dashes.take();
    drop(canvas);
    Ok(inline(&dashed(&svg, &dashes), size, alternative))
}

/// Dashes the lines. plotters would draw every dash as a line of its own, which makes a page of
/// several times the size; SVG says it in one attribute.
fn dashed(svg: &str, dashes: &[Dash]) -> String {
    let mut lines = svg.split("<polyline ");
    let mut dashed = lines.next().unwrap_or_default().to_owned();
    let mut count = 0;
    for (line, dash) in lines.zip(dashes) {
        dashed.push_str("<polyline ");
        if let Some((on, off)) = dash.pattern() {
            dashed.push_str(&format!("stroke-dasharray=\"{} {}\" ", on * STEPS, off * STEPS));
        }
        dashed.push_str(line);
        count += 1;
    }
    assert_eq!(count, dashes.len(), "every line drawn is one polyline");
    dashed
}

/// Gives the drawing a size that follows its container, and words.
fn inline(svg: &str, (width, height): (u32, u32), alternative: &Alternative) -> String {
    let shapes = svg.split_once('>').map_or("", |(_, rest)| rest);
    let (title, description) = (escape(&alternative.title), escape(&alternative.description));
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}. \
         {description}\"><title>{title}</title><desc>{description}</desc>{shapes}"
    )
}

impl Canvas<'_> {
    /// A line through these points; nothing for fewer than two.
    pub(super) fn line(&self, points: &[Point], stroke: Stroke) -> Result<(), DrawError> {
        if points.len() < 2 {
            return Ok(());
        }
        let style = ShapeStyle {
            color: stroke.color.to_rgba(),
            filled: false,
            stroke_width: (stroke.width * STEPS) as u32,
        };
        let path: Vec<(i32, i32)> = points.iter().map(|p| step(*p)).collect();
        self.dashes.borrow_mut().push(stroke.dash);
        Ok(self.area.draw(&PathElement::new(path, style))?)
    }

    /// A filled area.
    pub(super) fn fill(
        &self,
        points: &[Point],
        color: RGBColor,
        opacity: f64,
    ) -> Result<(), DrawError> {
        let path: Vec<(i32, i32)> = points.iter().map(|p| step(*p)).collect();
        Ok(self.area.draw(&Polygon::new(path, color.mix(opacity).filled()))?)
    }

    /// A filled box from its upper left to its lower right corner.
    pub(super) fn block(
        &self,
        corners: (Point, Point),
        color: RGBColor,
        opacity: f64,
    ) -> Result<(), DrawError> {
        let corners = [step(corners.0), step(corners.1)];
        Ok(self.area.draw(&Rectangle::new(corners, color.mix(opacity).filled()))?)
    }

    /// A text, centred on its point vertically.
    pub(super) fn text(&self, text: &str, at: Point, font: Font) -> Result<(), DrawError> {
        let horizontal = match font.align {
            Align::Left => HPos::Left,
            Align::Middle => HPos::Center,
            Align::Right => HPos::Right,
        };
        let weight = if font.bold { FontStyle::Bold } else { FontStyle::Normal };
        let style: TextStyle<'_> = ("sans-serif", font.size * STEPS * FONT_HEIGHT, weight)
            .into_text_style(&self.area)
            .color(&font.color)
            .pos(Pos::new(horizontal, VPos::Center));
        Ok(self.area.draw_text(text, &style, step(at))?)
    }

    /// A marker, filled with its colour or, when hollow, with the paper's.
    pub(super) fn marker(
        &self,
        marker: Marker,
        at: Point,
        color: RGBColor,
        size: f64,
    ) -> Result<(), DrawError> {
        let radius = (size * STEPS) as i32;
        let (x, y) = step(at);
        let fill = color.filled();
        match marker {
            Marker::Disc => self.area.draw(&Circle::new((x, y), radius, fill))?,
            Marker::Ring => {
                self.area.draw(&Circle::new((x, y), radius, PAPER.filled()))?;
                let outline = color.stroke_width(STEPS as u32 * 3 / 2);
                self.area.draw(&Circle::new((x, y), radius, outline))?;
            }
            Marker::Square => {
                let r = radius * 9 / 10;
                self.area.draw(&Rectangle::new([(x - r, y - r), (x + r, y + r)], fill))?;
            }
            Marker::Triangle => {
                self.area.draw(&TriangleMarker::new((x, y), radius * 6 / 5, fill))?;
            }
            Marker::Diamond => {
                let r = radius * 5 / 4;
                let corners = vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y)];
                self.area.draw(&Polygon::new(corners, fill))?;
            }
        }
        Ok(())
    }
}

fn step((x, y): Point) -> (i32, i32) {
    debug_assert!(x.is_finite() && y.is_finite(), "a point without a place: {x}, {y}");
    ((x * STEPS).round() as i32, (y * STEPS).round() as i32)
}

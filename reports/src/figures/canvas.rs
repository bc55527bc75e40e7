//! A drawing as a list of shapes, in units of about one CSS pixel.
//!
//! A figure is drawn once, onto this; `render` plays the list back on plotters' backends, as inline
//! SVG for the page and as SVG and PNG files beside it, so that the three cannot differ.

use std::cell::RefCell;

use plotters::style::RGBColor;

use super::hover::Hover;
use super::palette::{Dash, Marker};

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

/// One shape, as it was asked for.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Line { points: Vec<Point>, stroke: Stroke },
    Area { points: Vec<Point>, color: RGBColor, opacity: f64 },
    Block { corners: (Point, Point), color: RGBColor, opacity: f64 },
    Text { text: String, at: Point, font: Font },
    Marker { marker: Marker, at: Point, color: RGBColor, size: f64 },
}

/// Shapes that belong together: those of one variant, which the page's script can hide, or those of
/// none.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) variant: Option<usize>,
    pub(super) shapes: Vec<Shape>,
}

/// The surface.
pub(super) struct Canvas {
    layers: RefCell<Vec<Layer>>,
    hover: RefCell<Option<Hover>>,
    /// Width in units.
    pub(super) width: f64,
}

/// A finished drawing.
#[derive(Clone, Debug)]
pub(crate) struct Drawing {
    pub(super) size: (f64, f64),
    pub(super) alternative: Alternative,
    pub(super) layers: Vec<Layer>,
    pub(super) hover: Option<Hover>,
    /// The place of the only variant that it is about, if it is about one.
    pub(crate) variant: Option<usize>,
}

/// Draws on a surface of this size, in units.
pub(super) fn draw(
    size: (f64, f64),
    alternative: Alternative,
    body: impl FnOnce(&Canvas),
) -> Drawing {
    let layers = RefCell::new(vec![Layer::default()]);
    let canvas = Canvas { layers, hover: RefCell::default(), width: size.0 };
    body(&canvas);
    let (layers, hover) = (canvas.layers.into_inner(), canvas.hover.into_inner());
    Drawing { size, alternative, layers, hover, variant: None }
}

impl Drawing {
    /// Says that it is about one variant alone.
    pub(super) fn about(self, place: usize) -> Self {
        Self { variant: Some(place), ..self }
    }
}

impl Canvas {
    /// Draws what belongs to the variant of this place.
    pub(super) fn of_variant(&self, place: usize, body: impl FnOnce()) {
        self.layers.borrow_mut().push(Layer { variant: Some(place), ..Layer::default() });
        body();
        self.layers.borrow_mut().push(Layer::default());
    }

    /// Says what can be read off the drawing.
    pub(super) fn readable(&self, hover: Hover) {
        *self.hover.borrow_mut() = Some(hover);
    }

    /// A line through these points; nothing for fewer than two.
    pub(super) fn line(&self, points: &[Point], stroke: Stroke) {
        if points.len() > 1 {
            self.add(Shape::Line { points: points.to_vec(), stroke });
        }
    }

    /// A filled area.
    pub(super) fn fill(&self, points: &[Point], color: RGBColor, opacity: f64) {
        self.add(Shape::Area { points: points.to_vec(), color, opacity });
    }

    /// A filled box from its upper left to its lower right corner.
    pub(super) fn block(&self, corners: (Point, Point), color: RGBColor, opacity: f64) {
        self.add(Shape::Block { corners, color, opacity });
    }

    /// A text, centred on its point vertically.
    pub(super) fn text(&self, text: &str, at: Point, font: Font) {
        self.add(Shape::Text { text: text.to_owned(), at, font });
    }

    /// A marker, filled with its colour; a ring is filled with the paper's.
    pub(super) fn marker(&self, marker: Marker, at: Point, color: RGBColor, size: f64) {
        self.add(Shape::Marker { marker, at, color, size });
    }

    fn add(&self, shape: Shape) {
        if let Some(layer) = self.layers.borrow_mut().last_mut() {
            layer.shapes.push(shape);
        }
    }
}

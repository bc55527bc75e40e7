//! A whole figure on one drawing, with its title and its caption, for the files beside the page: a
//! picture that is copied elsewhere takes along how to read it and how many runs are behind it.

use super::Figure;
use super::canvas::{Align, Alternative, Drawing, Font, Layer, Point, Shape};
use super::palette::{INK, MUTED};
use super::panel::{TEXT, WIDTH};

const MARGIN: f64 = 16.0;
const LINE: f64 = 18.0;
const TITLE: f64 = 17.0;

impl Figure {
    /// All drawings beside and below each other, two in a row.
    pub(crate) fn sheet(&self) -> Drawing {
        let columns = self.drawings.len().clamp(1, 2);
        let width = MARGIN + columns as f64 * (WIDTH + MARGIN);
        let mut heading = Layer::default();
        let bold = Font { size: TITLE, color: INK, bold: true, align: Align::Left };
        heading.shapes.push(text(&self.text.title, (MARGIN, MARGIN + LINE / 2.0), bold));
        let plain = Font { size: TEXT, color: MUTED, bold: false, align: Align::Left };
        let mut top = MARGIN + LINE * 1.5;
        for line in wrapped(&self.text.caption, plain, width - 2.0 * MARGIN) {
            heading.shapes.push(text(&line, (MARGIN, top + LINE / 2.0), plain));
            top += LINE;
        }
        top += LINE / 2.0;
        let mut layers = vec![heading];
        for row in self.drawings.chunks(columns) {
            for (column, drawing) in row.iter().enumerate() {
                let offset = (MARGIN + column as f64 * (WIDTH + MARGIN), top);
                layers.extend(drawing.layers.iter().map(|layer| moved(layer, offset)));
            }
            top += row.iter().map(|d| d.size.1).fold(0.0, f64::max) + MARGIN;
        }
        let words = self.drawings.iter().map(|d| d.alternative.description.as_str());
        let alternative = Alternative {
            title: self.text.title.clone(),
            description: words.collect::<Vec<_>>().join(" "),
        };
        Drawing { size: (width, top), alternative, layers, hover: None, variant: None }
    }
}

fn text(text: &str, at: Point, font: Font) -> Shape {
    Shape::Text { text: text.to_owned(), at, font }
}

/// The words in lines that are about as wide as the room.
fn wrapped(words: &str, font: Font, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if font.width(line) + font.width(word) < room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn moved(layer: &Layer, (right, down): Point) -> Layer {
    let at = |(x, y): Point| (x + right, y + down);
    let all = |points: &[Point]| points.iter().map(|p| at(*p)).collect();
    let shape = |shape: &Shape| match shape.clone() {
        Shape::Line { points, stroke } => Shape::Line { points: all(&points), stroke },
        Shape::Area { points, color, opacity } => {
            Shape::Area { points: all(&points), color, opacity }
        }
        Shape::Block { corners, color, opacity } => {
            Shape::Block { corners: (at(corners.0), at(corners.1)), color, opacity }
        }
        Shape::Text { text, at: point, font } => Shape::Text { text, at: at(point), font },
        Shape::Marker { marker, at: point, color, size } => {
            Shape::Marker { marker, at: at(point), color, size }
        }
    };
    Layer { variant: None, shapes: layer.shapes.iter().map(shape).collect() }
}

//! Plays a drawing back on plotters' backends: SVG, inline and as a file, and PNG.

use std::sync::OnceLock;

use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::TriangleMarker;
use plotters::element::{Circle, DashedPathElement, PathElement, Polygon, Rectangle};
use plotters::prelude::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontStyle, IntoTextStyle, RGBColor, ShapeStyle, TextStyle, register_font,
};

use super::canvas::{Align, Drawing, Font, Layer, Point, Shape, Stroke};
use super::palette::{Marker, PAPER};
use crate::html::escape;

/// The backends draw on whole numbers; four to a unit keep curves smooth on any screen.
const STEPS: f64 = 4.0;

/// A PNG has two pixels to a unit, each the mean of four that were drawn: plotters' bitmaps have
/// hard edges.
const MEAN_OF: usize = 2;

/// plotters divides a font's size by this to turn its height into an em.
const FONT_HEIGHT: f64 = 1.24;

/// What a bitmap's font takes for its size is the distance from its highest to its lowest line,
/// this many em in the font that is used.
const FACE_HEIGHT: f64 = 1.164;

const FAMILY: &str = "sans-serif";

/// Why a figure could not be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a figure could not be drawn: {0}")]
pub struct DrawError(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for DrawError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

impl From<png::EncodingError> for DrawError {
    fn from(error: png::EncodingError) -> Self {
        Self::of(&error)
    }
}

impl DrawError {
    pub(super) fn of(error: &dyn std::error::Error) -> Self {
        Self(error.to_string())
    }
}

impl Drawing {
    /// For the page: its size follows its container, and what belongs to a variant is a group.
    ///
    /// # Errors
    /// When plotters refuses to draw.
    pub(crate) fn inline(&self) -> Result<String, DrawError> {
        let (title, description) = self.words();
        let (width, height) = self.steps();
        let about = self.variant.map_or(String::new(), |place| format!(" data-v=\"{place}\""));
        let hover = self.hover.as_ref().map_or(String::new(), |hover| {
            format!(" data-plot=\"{}\"", escape(&hover.to_json(STEPS)))
        });
        // The page's style sheet names the font.
        let shapes = self.shapes()?.replace(" font-family=\"sans-serif\"", "");
        Ok(format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\"{about}{hover}>\
             <title>{title}</title><desc>{description}</desc>\n{shapes}</svg>\n"
        ))
    }

    /// For a file of its own.
    ///
    /// # Errors
    /// When plotters refuses to draw.
    pub(crate) fn svg(&self) -> Result<String, DrawError> {
        let (title, description) = self.words();
        let (width, height) = self.steps();
        let (shown_width, shown_height) = self.size;
        let paper = hex(PAPER);
        Ok(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{shown_width}\" \
             height=\"{shown_height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
             <title>{title}</title>\n<desc>{description}</desc>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"{paper}\"/>\n{}</svg>\n",
            self.shapes()?
        ))
    }

    /// As pixels, two to a unit.
    ///
    /// # Errors
    /// When plotters refuses to draw, or the picture cannot be encoded.
    pub(crate) fn png(&self) -> Result<Vec<u8>, DrawError> {
        have_fonts()?;
        let (width, height) = self.steps();
        // Whole pixels of the result.
        let round = |steps: u32| steps.next_multiple_of(MEAN_OF as u32);
        let (width, height) = (round(width), round(height));
        let mut drawn = vec![0; width as usize * height as usize * 3];
        {
            let area = BitMapBackend::with_buffer(&mut drawn, (width, height)).into_drawing_area();
            area.fill(&PAPER)?;
            let painter = Painter { area: &area, bitmap: true, font_size: STEPS * FACE_HEIGHT };
            self.layers.iter().try_for_each(|layer| painter.layer(layer))?;
            area.present()?;
        }
        let (small, size) = averaged(&drawn, (width as usize, height as usize));
        encoded(&small, size)
    }

    /// All shapes, those of a variant in a group, without the element around them.
    fn shapes(&self) -> Result<String, DrawError> {
        let mut all = String::new();
        for layer in self.layers.iter().filter(|layer| !layer.shapes.is_empty()) {
            let mut svg = String::new();
            {
                let area = SVGBackend::with_string(&mut svg, self.steps()).into_drawing_area();
                let painter =
                    Painter { area: &area, bitmap: false, font_size: STEPS * FONT_HEIGHT };
                painter.layer(layer)?;
                area.present()?;
            }
            let shapes = svg.split_once('>').map_or("", |(_, rest)| rest).trim_start();
            let shapes = shapes.trim_end().trim_end_matches("</svg>");
            let shapes = dashed(shapes, layer).replace(" opacity=\"1\"", "");
            match layer.variant {
                Some(place) => all.push_str(&format!("<g data-v=\"{place}\">\n{shapes}</g>\n")),
                None => all.push_str(&shapes),
            }
        }
        Ok(all)
    }

    fn words(&self) -> (String, String) {
        (escape(&self.alternative.title), escape(&self.alternative.description))
    }

    fn steps(&self) -> (u32, u32) {
        ((self.size.0 * STEPS) as u32, (self.size.1 * STEPS) as u32)
    }
}

/// Dashes the lines. plotters would draw every dash as a line of its own, which makes a page of
/// several times the size; SVG says it in one attribute.
fn dashed(svg: &str, layer: &Layer) -> String {
    let strokes = layer.shapes.iter().filter_map(|shape| match shape {
        Shape::Line { stroke, .. } => Some(stroke),
        _ => None,
    });
    let mut lines = svg.split("<polyline ");
    let mut dashed = lines.next().unwrap_or_default().to_owned();
    for (line, stroke) in lines.zip(strokes) {
        dashed.push_str("<polyline ");
        if let Some((on, off)) = stroke.dash.pattern() {
            dashed.push_str(&format!("stroke-dasharray=\"{} {}\" ", on * STEPS, off * STEPS));
        }
        dashed.push_str(line);
    }
    dashed
}

/// Draws shapes on any of plotters' backends.
struct Painter<'a, B: DrawingBackend> {
    area: &'a DrawingArea<B, Shift>,
    /// Whether it is a bitmap: then each dash has to be drawn as a line.
    bitmap: bool,
    /// plotters' font size for one unit.
    font_size: f64,
}

impl<B: DrawingBackend> Painter<'_, B>
where
    B::ErrorType: 'static,
{
    fn layer(&self, layer: &Layer) -> Result<(), DrawError> {
        layer.shapes.iter().try_for_each(|shape| self.shape(shape))
    }

    fn shape(&self, shape: &Shape) -> Result<(), DrawError> {
        match shape {
            Shape::Line { points, stroke } => self.line(points, *stroke),
            Shape::Area { points, color, opacity } => {
                let path: Vec<(i32, i32)> = points.iter().map(|p| step(*p)).collect();
                Ok(self.area.draw(&Polygon::new(path, color.mix(*opacity).filled()))?)
            }
            Shape::Block { corners, color, opacity } => {
                let corners = [step(corners.0), step(corners.1)];
                Ok(self.area.draw(&Rectangle::new(corners, color.mix(*opacity).filled()))?)
            }
            Shape::Text { text, at, font } => self.text(text, *at, *font),
            Shape::Marker { marker, at, color, size } => self.marker(*marker, *at, *color, *size),
        }
    }

    fn line(&self, points: &[Point], stroke: Stroke) -> Result<(), DrawError> {
        let style = ShapeStyle {
            color: stroke.color.to_rgba(),
            filled: false,
            stroke_width: (stroke.width * STEPS) as u32,
        };
        let path: Vec<(i32, i32)> = points.iter().map(|p| step(*p)).collect();
        match stroke.dash.pattern().filter(|_| self.bitmap) {
            Some((on, off)) => {
                let (on, off) = ((on * STEPS) as u32, (off * STEPS) as u32);
                Ok(self.area.draw(&DashedPathElement::new(path, on, off, style))?)
            }
            None => Ok(self.area.draw(&PathElement::new(path, style))?),
        }
    }

    fn text(&self, text: &str, at: Point, font: Font) -> Result<(), DrawError> {
        let horizontal = match font.align {
            Align::Left => HPos::Left,
            Align::Middle => HPos::Center,
            Align::Right => HPos::Right,
        };
        let weight = if font.bold { FontStyle::Bold } else { FontStyle::Normal };
        let style: TextStyle<'_> = (FAMILY, font.size * self.font_size, weight)
            .into_text_style(self.area)
            .color(&font.color)
            .pos(Pos::new(horizontal, VPos::Center));
        let (x, y) = step(at);
        // A bitmap's text is centred with the room for its descenders.
        let down = if self.bitmap { (font.size * STEPS * 0.09) as i32 } else { 0 };
        Ok(self.area.draw_text(text, &style, (x, y + down))?)
    }

    fn marker(
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
                // A disc in a disc: bitmaps have no wide circle.
                let inner = radius - (STEPS * 1.5) as i32;
                self.area.draw(&Circle::new((x, y), radius, fill))?;
                self.area.draw(&Circle::new((x, y), inner.max(1), PAPER.filled()))?;
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

fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Bitmaps have no fonts but those that come with the program.
fn have_fonts() -> Result<(), DrawError> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let registered = REGISTERED.get_or_init(|| {
        let faces: [(FontStyle, &[u8]); 2] = [
            (FontStyle::Normal, include_bytes!("../../fonts/DejaVuSansCondensed.ttf")),
            (FontStyle::Bold, include_bytes!("../../fonts/DejaVuSansCondensed-Bold.ttf")),
        ];
        faces.into_iter().all(|(style, bytes)| register_font(FAMILY, style, bytes).is_ok())
    });
    match registered {
        true => Ok(()),
        false => Err(DrawError("the font for pictures is damaged".to_owned())),
    }
}

/// The picture at a half of its size, and that size.
fn averaged(drawn: &[u8], (width, height): (usize, usize)) -> (Vec<u8>, (usize, usize)) {
    let (columns, rows) = (width / MEAN_OF, height / MEAN_OF);
    let mut small = Vec::with_capacity(columns * rows * 3);
    for row in 0..rows {
        for column in 0..columns {
            for channel in 0..3 {
                let mut sum = 0;
                for y in 0..MEAN_OF {
                    for x in 0..MEAN_OF {
                        let pixel = (row * MEAN_OF + y) * width + column * MEAN_OF + x;
                        sum += usize::from(drawn[pixel * 3 + channel]);
                    }
                }
                small.push((sum / (MEAN_OF * MEAN_OF)) as u8);
            }
        }
    }
    (small, (columns, rows))
}

fn encoded(pixels: &[u8], (width, height): (usize, usize)) -> Result<Vec<u8>, DrawError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(file)
}

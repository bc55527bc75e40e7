//! The figures of a page, drawn with plotters: inline SVG for the page, SVG, PNG and CSV files
//! beside it.
//!
//! From the inside out: `canvas` takes shapes and `render` draws them, `palette` holds colours and
//! the styles that tell series apart without them, `axis` chooses ticks, `panel` is one plot with
//! its axes, `marks` puts faults, and what was done about them, on a time axis, `thin` shortens long
//! series, `hover` and `table` give the values behind a drawing, `multiples` is one plot a variant
//! over time, `sheet` is a whole figure as one picture. Each of the others is one figure. A figure with small multiples is several drawings
//! with equal scales, so that the page can lay them out in one column on a phone and in two on a
//! desk.

mod axis;
mod canvas;
mod difference;
mod endpoints;
mod heatmap;
mod hover;
mod knee;
mod load;
mod marks;
mod multiples;
mod over_time;
mod palette;
mod panel;
mod percentiles;
mod render;
mod resources;
mod share;
mod sheet;
mod shown;
mod table;
mod thin;

pub(crate) use canvas::Drawing;
pub(crate) use difference::{difference, distribution};
pub(crate) use endpoints::{in_flight, latency};
pub(crate) use heatmap::heatmap;
pub(crate) use knee::knee;
pub(crate) use load::{amplification, budget, send_lag, throughput};
pub(crate) use over_time::{goodput, response};
pub(crate) use palette::{COLOURS, MARKS, swatch};
pub(crate) use percentiles::percentiles;
pub(crate) use render::DrawError;
pub(crate) use resources::resources;
pub(crate) use share::{share_in_total, share_over_time};
pub(crate) use shown::Shown;
pub(crate) use table::{Cell, Table};

/// What is said about a figure.
#[derive(Clone, Debug)]
pub(crate) struct FigureText {
    /// The stem of its files, unique within a scenario.
    pub(crate) id: String,
    /// What is shown, in a few words.
    pub(crate) title: String,
    /// How to read it, and how many runs are behind it. Plain text.
    pub(crate) caption: String,
}

/// A figure: one or more drawings under one caption, and the data behind them.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) text: FigureText,
    /// In reading order.
    pub(crate) drawings: Vec<Drawing>,
    pub(crate) data: Table,
}

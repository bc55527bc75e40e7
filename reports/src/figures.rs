//! The figures of a page, drawn with plotters as SVG that goes inline into the HTML.
//!
//! From the inside out: `canvas` puts plotters' shapes on a drawing that scales, `palette` holds
//! colours and the styles that tell series apart without them, `axis` chooses ticks, `panel` is one
//! plot with its axes, `marks` puts faults, and what was done about them, on a time axis. Each of the
//! others is one figure. A figure with small multiples is several drawings with equal scales, so
//! that the page can lay them out in one column on a phone and in two on a desk.

mod axis;
mod canvas;
mod marks;
mod over_time;
mod palette;
mod panel;
mod percentiles;
mod share;

pub(crate) use canvas::DrawError;
pub(crate) use over_time::{goodput, response};
pub(crate) use palette::swatch;
pub(crate) use percentiles::percentiles;
pub(crate) use share::{share_in_total, share_over_time};

/// A figure: one or more drawings under one caption.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Inline SVG, in reading order.
    pub(crate) drawings: Vec<String>,
    /// What is shown, in a few words.
    pub(crate) title: String,
    /// How to read it, and how many runs are behind it. Plain text.
    pub(crate) caption: String,
}

//! Run records in, one page out.
//!
//! In the order in which a record passes through:
//!
//! - [`record`]: the schema; one versioned JSON document per run, and the only input.
//! - [`mod@load`]: records from files and folders, and by name what could not be read.
//! - [`statistics`]: intervals over seeds. Pure.
//! - [`verdict`]: what all seeds of a variant say of one expectation. Pure.
//! - [`summary`]: statistics per scenario and variant, merged over seeds. Pure.
//! - [`mod@compare`]: two sets of runs, before and after.
//! - [`text`]: the summary as a table for a terminal.
//! - [`page`]: the summary as one HTML file that opens from disk, with the records beside it.
//!
//! `data` is what its tables show, as CSV; `figures` draws what the page shows, as inline SVG;
//! `format`, `html` and `naming` are the small things they share. Nothing here reads a clock or a random number: the same records give the
//! same bytes.

pub mod compare;
pub mod load;
pub mod page;
pub mod record;
pub mod statistics;
pub mod summary;
pub mod text;
pub mod verdict;

mod data;
mod figures;
mod format;
mod html;
mod naming;

pub use compare::compare;
pub use format::in_unit;
pub use load::{LoadError, Loaded, Skipped, load};
pub use page::{Bitmaps, PageExtras, ReportError, write_page};
pub use record::{RecordError, RunRecord};
pub use summary::{ScenarioSummary, VariantSummary, summarise, summarise_against};
pub use text::summary_table;

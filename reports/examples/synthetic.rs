//! Writes a page from made-up records, to look at after a change to the figures or the style:
//! `cargo run -p reports --example synthetic -- <folder>`.

#[path = "../tests/support/synthetic.rs"]
mod synthetic;

use std::path::PathBuf;

use reports::{PageExtras, ReportError, summary_table, write_page};
use synthetic::{ELEVEN, FOUR, THREE, records};

#[allow(clippy::print_stdout, reason = "a program shows its result")]
fn main() -> Result<(), ReportError> {
    let dir = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("synthetic"), PathBuf::from);
    let mut all = records(&ELEVEN, &FOUR, &[1, 2, 3, 4, 5]);
    all.extend(records(&THREE, &FOUR[..3], &[1, 2, 3]));
    let extras = PageExtras {
        generator: "the synthetic example".to_owned(),
        not_run: vec!["gray-failure, peak_ewma, seeds 1–3 (interrupted)".to_owned()],
        ..PageExtras::default()
    };
    let page = write_page(&all, &extras, &dir)?;
    println!("{}\n{}", summary_table(&all), page.display());
    Ok(())
}

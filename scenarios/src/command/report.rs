//! `meshbench report`: a page from records of any origin.

use std::path::PathBuf;

use anyhow::Context as _;
use reports::{Bitmaps, Loaded, PageExtras, summary_table, write_page};

use super::compare::load;
use super::{HELD, Usage, print};

/// Writes a report of any set of records: simulated, live or both, of several machines and days.
///
/// What cannot be read is skipped, and named at the top of the report.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Records, and folders of records
    #[arg(required = true, value_name = "DIR")]
    paths: Vec<PathBuf>,

    /// Where to write the report
    #[arg(long, value_name = "DIR", default_value = "report")]
    out: PathBuf,

    /// The variant that the others are compared with; round_robin, or else the first, if absent
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,

    /// The page's heading
    #[arg(long, default_value = "", hide_default_value = true)]
    title: String,

    /// Leave out the figures as PNG, which are most of a report's bytes
    #[arg(long)]
    no_png: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let Loaded { records, skipped } = load(&arguments.paths)?;
    if records.is_empty() {
        let message = "there are no records to report in what was named; run a scenario first";
        return Err(Usage(message.to_owned()).into());
    }
    if let Some(name) = &arguments.baseline
        && !records.iter().any(|r| r.variant == *name || r.variant.starts_with(&format!("{name}@")))
    {
        return Err(Usage(format!("--baseline: no record is of a variant called {name}")).into());
    }
    let remark = |skipped: &reports::Skipped| format!("Left out: {}.", skipped.reason);
    let extras = PageExtras {
        title: arguments.title.clone(),
        generator: concat!("meshbench ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: String::new(),
        remarks: skipped.iter().map(remark).collect(),
        baseline: arguments.baseline.clone(),
        bitmaps: if arguments.no_png { Bitmaps::LeftOut } else { Bitmaps::Written },
        ..PageExtras::default()
    };
    let page = write_page(&records, &extras, &arguments.out)
        .with_context(|| format!("writing the report to {}", arguments.out.display()))?;
    print(summary_table(&records).trim_end())?;
    if !skipped.is_empty() {
        print(&format!("\n{} left out, named above and in the report", count(skipped.len())))?;
    }
    print(&format!("\nReport: {}  (open it in a browser)", page.display()))?;
    Ok(HELD)
}

fn count(files: usize) -> String {
    if files == 1 { "1 file was".to_owned() } else { format!("{files} files were") }
}

//! `meshbench compare`: two sets of records, before and after.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reports::compare::{Compared, markdown, text};
use reports::summary::Mark;
use reports::{Loaded, RunRecord};

use super::{HELD, MISSED, Usage, print, say};

/// Compares the runs of B with those of A: which metrics are better, which worse, beyond the
/// interval that the seeds give.
///
/// Runs belong together by scenario, variant, world and rate, and are compared seed by seed where
/// the seeds are the same.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Arguments {
    /// A record, or a folder of records, such as a report's
    #[arg(value_name = "A")]
    a: PathBuf,

    /// What is compared with it
    #[arg(value_name = "B")]
    b: PathBuf,

    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// How sure each interval is, from 0.5 to below 1
    #[arg(long, value_name = "SHARE", default_value_t = reports::statistics::CONFIDENCE)]
    confidence: f64,
}

const EXIT_CODES: &str = "\
Exit codes: 0 no metric got worse beyond its interval, 1 failed to run, 2 wrong
arguments or input, also when nothing could be compared for want of runs,
3 a metric got worse";

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum Format {
    /// For a terminal
    #[default]
    Text,
    /// For programs: every metric with its interval
    Json,
    /// For a pull request
    Markdown,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let confidence = arguments.confidence;
    if !(0.5..1.0).contains(&confidence) {
        let message =
            format!("--confidence: {confidence} is not from 0.5 to below 1, such as 0.99");
        return Err(Usage(message).into());
    }
    let (a, b) = (records(&arguments.a)?, records(&arguments.b)?);
    let compared = reports::compare(&a, &b, confidence);
    let shown = match arguments.format {
        Format::Text => text(&compared),
        Format::Markdown => markdown(&compared),
        Format::Json => serde_json::to_string_pretty(&compared).context("writing the result")?,
    };
    print(shown.trim_end())?;
    if compared.groups.is_empty() {
        let message = "the two sets have no run in common: same scenario, variant, world and rate";
        return Err(Usage(message.to_owned()).into());
    }
    if compared.looked_at() == 0 {
        let message = "nothing can be told of so few runs; compare sets of at least 5 seeds each";
        return Err(Usage(message.to_owned()).into());
    }
    Ok(verdict(&compared))
}

fn verdict(compared: &Compared) -> u8 {
    if compared.count(Mark::Worse) > 0 { MISSED } else { HELD }
}

/// The records below a path; what cannot be read is named, and must not be everything.
fn records(path: &Path) -> anyhow::Result<Vec<RunRecord>> {
    let Loaded { records, skipped } = load(&[path.to_owned()])?;
    if records.is_empty() {
        let message = match skipped.len() {
            0 => format!("{}: there are no records in it", path.display()),
            _ => format!("{}: no record in it can be read", path.display()),
        };
        return Err(Usage(message).into());
    }
    Ok(records)
}

/// Loads records, and says what was skipped.
pub(super) fn load(paths: &[PathBuf]) -> anyhow::Result<Loaded> {
    let loaded = reports::load(paths).map_err(|error| Usage(error.to_string()))?;
    for skipped in &loaded.skipped {
        say(&format!("skipped: {}", skipped.reason));
    }
    Ok(loaded)
}

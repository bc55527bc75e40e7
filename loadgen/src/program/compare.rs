//! The command `compare`: two records side by side.

use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;

use loadgen::compare::{Difference, Unit, compare};
use loadgen::doubt::Verdict;

use super::args::{CompareArgs, Format};
use super::commands::read;
use super::output::text::short;
use super::{Failure, json, print};

/// The version of [`Comparison`].
const SCHEMA: &str = "meshbench.loadgen.compare/1";

/// What `--format json` writes.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Comparison {
    /// `meshbench.loadgen.compare/1`.
    schema: String,
    /// The verdict on the first run: `valid`, `suspect` or `void`.
    a_verdict: String,
    /// The verdict on the second.
    b_verdict: String,
    /// Everything that can be compared.
    differences: Vec<Difference>,
}

/// Prints differences.
pub(super) fn compare_two(args: &CompareArgs) -> Result<ExitCode, Failure> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let differences = compare(&a, &b);
    if args.format == Format::Json {
        let (a_verdict, b_verdict) = (a.verdict, b.verdict);
        let comparison =
            Comparison { schema: SCHEMA.to_owned(), a_verdict, b_verdict, differences };
        return print(&json(&comparison)).map(|()| ExitCode::SUCCESS);
    }
    let mut text = format!("{:<16}{:>12}{:>12}{:>12}   95 % interval\n", "", "A", "B", "B - A");
    for difference in &differences {
        text.push_str(&difference_line(difference));
    }
    for (name, record) in [("A", &a), ("B", &b)] {
        if record.verdict() != Verdict::Valid {
            text.push_str(&format!("{name} is {}: compare with care\n", record.verdict));
        }
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn difference_line(difference: &Difference) -> String {
    let write = |value: f64| match difference.unit {
        Unit::Seconds => {
            let sign = if value < 0.0 { "-" } else { "" };
            let size = std::time::Duration::from_secs_f64(value.abs());
            format!("{sign}{}", short(size))
        }
        Unit::Share => format!("{:.3} %", value * 100.0),
        Unit::PerSecond => format!("{value:.1}/s"),
    };
    let Difference { name, a, b, interval, .. } = difference;
    let between = match interval {
        Some((low, high)) => {
            let noise = if difference.is_within_noise() { "  within noise" } else { "" };
            format!("   {} to {}{noise}", write(*low), write(*high))
        }
        None => String::new(),
    };
    let (one, two, less) = (write(*a), write(*b), write(b - a));
    format!("{name:<16}{one:>12}{two:>12}{less:>12}{between}\n")
}

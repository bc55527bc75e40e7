//! `meshbench list`.

use humantime::format_duration;
use serde::Serialize;

use super::format::{Plain, fit};
use super::{HELD, print};
use crate::catalog;
use crate::scenario::Scenario;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How to say it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Plain,
}

/// A scenario in short.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    title: &'a str,
    about: &'a str,
    seeds: u64,
    variants: Vec<&'a str>,
    duration_s: f64,
    /// Of all runs with its own seeds.
    simulated_s: f64,
    expectations: usize,
}

impl<'a> Entry<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let (file, duration) = (&scenario.file, scenario.duration().as_secs_f64());
        let seeds = file.seeds.get();
        Self {
            name: &scenario.name,
            title: &file.title,
            about: file.about.trim(),
            seeds,
            variants: scenario.variants.iter().map(|variant| variant.name.as_str()).collect(),
            duration_s: duration,
            simulated_s: duration * seeds as f64 * scenario.variants.len() as f64,
            expectations: file.expect.len(),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let scenarios = catalog::all()?;
    let entries: Vec<_> = scenarios.iter().map(Entry::new).collect();
    if arguments.format == Plain::Json {
        print(&serde_json::to_string_pretty(&entries)?)?;
        return Ok(HELD);
    }
    for (entry, scenario) in entries.iter().zip(&scenarios) {
        print(entry.name)?;
        print(&fit(&format!("  {}", entry.title), 2))?;
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let all = scenario.duration() * (entry.seeds as u32) * entry.variants.len() as u32;
        let size = format!(
            "  {} seed{} of {}, {} in all; variant{}: {}",
            entry.seeds,
            plural(entry.seeds),
            format_duration(scenario.duration()),
            format_duration(all),
            plural(entry.variants.len() as u64),
            entry.variants.join(", ")
        );
        print(&fit(&size, 4))?;
    }
    print("\nRun one with: meshbench run NAME")?;
    Ok(HELD)
}

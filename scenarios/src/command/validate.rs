//! `meshbench validate`: the simulator against queueing theory.

use std::num::NonZeroU64;

use serde_json::{Value, json};

use super::format::Plain;
use super::interrupt::Interrupt;
use super::{FAILED, HELD, INTERRUPTED, MISSED, print, say};
use crate::theory::{Row, Says, Statistic, Stopped, experiments, validate};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How many seeds; more make the intervals narrower
    #[arg(long, value_name = "COUNT", default_value = "20", value_parser = seeds)]
    seeds: NonZeroU64,

    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    base_seed: u64,

    /// How to print the table
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Plain,
}

/// An interval needs two seeds, and one of a few is as wide as a barn door.
fn seeds(text: &str) -> Result<NonZeroU64, String> {
    match text.parse::<u64>() {
        Ok(seeds) if (5..=1_000).contains(&seeds) => Ok(NonZeroU64::MIN.saturating_add(seeds - 1)),
        _ => Err("write a number from 5 to 1000".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let experiments = experiments();
    let interrupt = Interrupt::listen()?;
    let count = arguments.seeds.get();
    say(&format!("{} experiments, {count} seeds each", experiments.len()));
    let last = arguments.base_seed.saturating_add(count - 1);
    let seeds: Vec<u64> = (arguments.base_seed..=last).collect();
    let total = experiments.len() * seeds.len();
    let done = |done: usize| {
        // A line for each tenth of the work.
        if done * 10 / total != (done - 1) * 10 / total {
            say(&format!("{done:>4} of {total} runs done"));
        }
    };
    let rows = match validate(&experiments, &seeds, &done, &|| !interrupt.raised()) {
        Ok(rows) => rows,
        Err(Stopped::Interrupted) => {
            say("stopped; nothing was judged");
            return Ok(INTERRUPTED);
        }
        Err(Stopped::Broken(reason)) => {
            say(&format!("meshbench: {reason}"));
            return Ok(FAILED);
        }
    };
    match arguments.format {
        Plain::Text => print_table(&rows, count)?,
        Plain::Json => print(&serde_json::to_string_pretty(&document(&rows, &seeds))?)?,
    }
    Ok(if rows.iter().all(|row| row.agrees) { HELD } else { MISSED })
}

fn print_table(rows: &[Row], seeds: u64) -> anyhow::Result<()> {
    let unit = "in service times, over";
    print(&format!("Response times {unit} {seeds} seeds; L / (λ W) has no unit\n"))?;
    print(&format!("  {:<26} {:>10} {:>19}", "claim", "theory", "simulated"))?;
    let mut experiment = "";
    for row in rows {
        if row.experiment != experiment {
            experiment = &row.experiment;
            print(&format!("\n{experiment}"))?;
        }
        let mark = if row.agrees { "✓" } else { "✗ differs" };
        print(&format!("  {:<26} {:>10} {:>19}  {mark}", claim(row), theory(row), simulated(row)))?;
    }
    let differ = rows.iter().filter(|row| !row.agrees).count();
    let verdict = match differ {
        0 => "The simulator agrees with theory in all of it.".to_owned(),
        _ => format!(
            "{differ} of {} claims are not met; more --seeds tell chance from defect.",
            rows.len()
        ),
    };
    print(&format!(
        "\n±: half of an interval that is wide enough for all rows together to hold in 99 of\n\
         100 series of runs.\n{verdict}"
    ))
}

/// What is claimed, in a few words.
fn claim(row: &Row) -> String {
    let source = &row.claim.source;
    match row.claim.about {
        Statistic::Mean => format!("mean, {source}"),
        Statistic::Quantile(part) => format!("p{}, {source}", part * 100.0),
        Statistic::Little => source.clone(),
        Statistic::Path => "path, in ms".to_owned(),
    }
}

fn theory(row: &Row) -> String {
    match row.claim.says {
        Says::Equal(value) => format!("{value:.3}"),
        Says::Within(interval) => {
            format!("{:.3} ±{:.3}", interval.mean, interval.high - interval.mean)
        }
        Says::AtLeast(value) => format!("≥ {value:.3}"),
        Says::Between(low, high) => format!("{low} to {high}"),
    }
}

fn simulated(row: &Row) -> String {
    match row.simulated {
        Some(interval) => format!("{:.3} ±{:.3}", interval.mean, interval.high - interval.mean),
        None => "nothing".to_owned(),
    }
}

fn document(rows: &[Row], seeds: &[u64]) -> Value {
    let says = |says: Says| match says {
        Says::Equal(value) => json!({ "equal": value }),
        Says::Within(interval) => json!({ "at_least": interval.low, "at_most": interval.high }),
        Says::AtLeast(value) => json!({ "at_least": value }),
        Says::Between(low, high) => json!({ "at_least": low, "at_most": high }),
    };
    let row = |row: &Row| {
        json!({
            "experiment": row.experiment,
            "claim": claim(row),
            "theory": says(row.claim.says),
            "simulated": row.simulated.map(|interval| json!({
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "confidence": interval.confidence,
            })),
            "agrees": row.agrees,
        })
    };
    let rows: Vec<Value> = rows.iter().map(row).collect();
    json!({ "schema": "meshbench.validate/1", "seeds": seeds, "rows": rows })
}

//! `meshbench sweep`: the same scenarios over many seeds.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use reports::record::Check;
use serde::Serialize;

use super::format::{Format, fit, percent};
use super::interrupt::Interrupt;
use super::progress::Counted;
use super::span::Span;
use super::{FAILED, HELD, INTERRUPTED, MISSED, junit, print, run, say};
use crate::runner::Outcome;
use crate::scenario::Scenario;
use crate::sweep::tally::{Expected, Tally, Worst, wilson};
use crate::sweep::{Item, Range, sweep};

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Names from the catalogue, or paths of files; all of the catalogue if none
    scenarios: Vec<String>,

    #[command(flatten)]
    span: Span,

    /// Only this variant; may be given more than once
    #[arg(long, value_name = "NAME")]
    variant: Vec<String>,

    /// Begin nothing more after the first seed that fails
    #[arg(long)]
    stop_on_first_failure: bool,

    /// Write the record of each run here as soon as it is judged; records of several shards merge
    /// by being copied together
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Write only the records of runs in which something did not hold
    #[arg(long, requires = "out")]
    only_failing: bool,

    /// How to say what came of it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  meshbench sweep --seeds 100                    the whole catalogue
  meshbench sweep flapping --seeds 1000 --stop-on-first-failure
  meshbench sweep --time 5m --format junit       for CI: fresh seeds
  meshbench sweep mine.toml --seeds 10000 --shard 2/4 --out sweep --only-failing

Exit codes: 0 everything held, 1 a run could not be carried out, 2 wrong
arguments or input, 3 an expectation did not hold, 130 stopped by Ctrl-C";

/// Seeds of a sweep for which neither a number nor a time is given.
const DEFAULT_SEEDS: u64 = 100;

/// Failed runs that are listed; the others are in the JSON.
const MOST_LISTED: usize = 20;

/// What is kept while a sweep goes on.
struct Kept {
    tallies: Vec<Tally>,
    /// Why a record could not be written.
    unwritten: Option<anyhow::Error>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let scenarios = run::load(&arguments.scenarios, &arguments.variant)?;
    let range = arguments.span.range(DEFAULT_SEEDS)?;
    if let Some(out) = &arguments.out {
        let folder = out.join("records");
        // Before the work, not after it.
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot write records to {}", folder.display()))?;
    }
    let interrupt = Interrupt::listen()?;
    let pace = arguments.span.pace(&interrupt);
    let count = range.count(scenarios.len());
    say(&introduction(&scenarios, &range, count));
    let progress = Counted::new("seeds", count, arguments.span.time());
    let tallies = scenarios.iter().map(Tally::new).collect();
    let kept = Mutex::new(Kept { tallies, unwritten: None });
    let sink = |item: Item, outcome: Outcome| {
        let written = write(arguments, &outcome);
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let held = kept.tallies[item.scenario].add(&scenarios, &item, &outcome);
        if let Err(error) = written {
            kept.unwritten.get_or_insert(error);
            pace.stop();
        }
        if !held && arguments.stop_on_first_failure {
            pace.stop();
        }
        let failed = kept.tallies.iter().map(|tally| tally.seeds - tally.held).sum();
        progress.advance(&scenarios[item.scenario].name, failed);
    };
    sweep(&scenarios, &range, &pace, &sink);
    progress.close();
    let Kept { mut tallies, unwritten } = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = unwritten {
        return Err(error);
    }
    tallies.iter_mut().zip(&scenarios).for_each(|(tally, scenario)| tally.sort(scenario));
    let done: u64 = tallies.iter().map(|tally| tally.seeds).sum();
    let summary = Summary {
        schema: "meshbench.sweep/1",
        base_seed: range.base_seed,
        shard: range.shard.to_string(),
        planned: count,
        done,
        interrupted: interrupt.raised(),
        stopped: pace.is_stopped(),
        scenarios: &tallies,
    };
    match arguments.format {
        Format::Text => summary.print(arguments)?,
        Format::Json => print(&serde_json::to_string_pretty(&summary)?)?,
        Format::Junit => print(junit::of_sweep(&tallies)?.trim_end())?,
    }
    Ok(summary.verdict())
}

fn introduction(scenarios: &[Scenario], range: &Range, count: Option<u64>) -> String {
    let first = range.base_seed;
    let seeds = match range.seeds {
        Some(1) => format!("seed {first}"),
        Some(seeds) => format!("seeds {first} to {}", first.saturating_add(seeds - 1)),
        None => format!("seeds from {first} on"),
    };
    let plural = if scenarios.len() == 1 { "" } else { "s" };
    let part = match count {
        Some(count) if !range.shard.is_whole() => {
            format!("; shard {} has {count} of them", range.shard)
        }
        None if !range.shard.is_whole() => format!("; shard {}", range.shard),
        _ => String::new(),
    };
    format!("{} scenario{plural} with {seeds}{part}", scenarios.len())
}

/// Writes what is to be kept of one seed.
fn write(arguments: &Arguments, outcome: &Outcome) -> anyhow::Result<()> {
    let Some(out) = &arguments.out else { return Ok(()) };
    for record in &outcome.records {
        let failed = record.checks.iter().any(Check::missed_alone);
        if failed || !arguments.only_failing {
            let path = out.join("records").join(record.file_name());
            record.write(&path).context("writing a record")?;
        }
    }
    Ok(())
}

/// What a sweep has come to.
#[derive(Serialize)]
struct Summary<'a> {
    schema: &'static str,
    base_seed: u64,
    shard: String,
    /// Seeds of scenarios that this shard had to do; absent if only time was the limit.
    planned: Option<u64>,
    done: u64,
    interrupted: bool,
    /// Stopped at a failure.
    stopped: bool,
    scenarios: &'a [Tally],
}

impl Summary<'_> {
    fn verdict(&self) -> u8 {
        if self.scenarios.iter().any(|tally| !tally.broken.is_empty()) {
            FAILED
        } else if !self.scenarios.iter().all(Tally::is_met) {
            MISSED
        } else if self.interrupted {
            INTERRUPTED
        } else {
            HELD
        }
    }

    fn print(&self, arguments: &Arguments) -> anyhow::Result<()> {
        let tallies = self.scenarios.iter().filter(|tally| tally.seeds > 0);
        for tally in tallies.clone() {
            print_tally(tally)?;
        }
        let failures: Vec<_> = tallies.clone().flat_map(|tally| &tally.failures).collect();
        if !failures.is_empty() {
            print("\nFailed runs, each with its replay:")?;
            for failure in failures.iter().take(MOST_LISTED) {
                print(&format!("  {}", failure.replay))?;
            }
            if failures.len() > MOST_LISTED {
                let more = failures.len() - MOST_LISTED;
                print(&format!("  and {more} more, which --format json lists"))?;
            }
        }
        for broken in tallies.clone().flat_map(|tally| &tally.broken).take(MOST_LISTED) {
            print(&format!("\nCould not be carried out: {}\n  {}", broken.run, broken.reason))?;
        }
        let held: u64 = tallies.clone().map(|tally| tally.held).sum();
        let left = self.planned.map_or(0, |planned| planned.saturating_sub(self.done));
        let left = if left > 0 { format!(", {left} not run") } else { String::new() };
        let why = match (self.interrupted, self.stopped) {
            (true, _) => "; stopped by Ctrl-C",
            (_, true) => "; stopped at a failure",
            _ => "",
        };
        print(&format!("\n{held} of {} seeds held{left}{why}", self.done))?;
        print(&self.next(arguments))
    }

    /// What to do now.
    fn next(&self, arguments: &Arguments) -> String {
        let failure = self.scenarios.iter().flat_map(|tally| &tally.failures).next();
        match (failure, &arguments.out) {
            (Some(failure), _) => format!("Next: {}", failure.replay),
            (None, Some(out)) => format!("Records: {}", out.join("records").display()),
            (None, None) => {
                let after = self.done.max(1);
                let base = self.base_seed.saturating_add(after);
                format!("Next: other seeds, with --base-seed {base}")
            }
        }
    }
}

fn print_tally(tally: &Tally) -> anyhow::Result<()> {
    let (low, high) = wilson(tally.held, tally.seeds);
    print(&format!(
        "{}\n  {} of {} seeds held: between {} and {} of all, with 95 % confidence",
        tally.scenario,
        tally.held,
        tally.seeds,
        percent(low),
        percent(high),
    ))?;
    let (met, missed): (Vec<_>, Vec<_>) =
        tally.expectations.iter().partition(|expected| expected.verdict().0);
    for expected in &missed {
        let Expected { variant, what, wanted, .. } = expected;
        print(&fit(&format!("  missed  {variant}: {what} {wanted}"), 10))?;
        let (low, high) = expected.interval();
        let (low, high) = (percent(low), percent(high));
        let of_seeds =
            format!("with {} of {} seeds: {low} to {high}", expected.met, expected.judged);
        let (_, reason) = expected.verdict();
        let reason = reason.map(|reason| format!("; {reason}")).unwrap_or_default();
        print(&fit(&format!("          as expected {of_seeds}{reason}"), 10))?;
        if let Some(worst) = &expected.worst {
            print(&fit(&format!("          worst: seed {}, {}", worst.seed, worst.measured), 10))?;
        }
    }
    if !met.is_empty() {
        print(&format!("  {} expectations met", met.len()))?;
    }
    let nearest = met.iter().filter_map(|expected| {
        let worst = expected.worst.as_ref()?;
        Some((expected, worst, worst.slack?))
    });
    // A count of nothing where nothing is allowed is not near to anything.
    let nearest = nearest.filter(|(.., slack)| *slack > 0.0);
    if let Some((expected, worst, slack)) = nearest.min_by(|a, b| a.2.total_cmp(&b.2)) {
        let Worst { seed, measured, .. } = worst;
        let text = format!(
            "  nearest to its bound, by {}: {}: {} {}, {measured} with seed {seed}",
            percent(slack),
            expected.variant,
            expected.what,
            expected.wanted,
        );
        print(&fit(&text, 4))?;
    }
    Ok(())
}

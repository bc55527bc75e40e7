//! `meshbench swarm`: random scenarios under invariants.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use serde::Serialize;

use super::format::{Plain, fit};
use super::interrupt::Interrupt;
use super::progress::Counted;
use super::span::Span;
use super::{HELD, INTERRUPTED, MISSED, print, say};
use crate::scenario::Scenario;
use crate::swarm::shrink::shrink;
use crate::swarm::{Finding, fails_alike, file_name, findings, scenario, text};
use crate::sweep::{Pace as _, for_each};

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    span: Span,

    /// Where to write the scenarios that fail, as drawn and shrunk
    #[arg(long, value_name = "DIR", default_value = "swarm")]
    out: PathBuf,

    /// Runs to spend on shrinking each; 0 leaves it as drawn
    #[arg(long, value_name = "COUNT", default_value_t = 300)]
    shrink_runs: usize,

    /// Print the scenario of this seed, and run nothing
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "base_seed", "time", "shard"])]
    show: Option<u64>,

    /// Begin nothing more after this many have failed
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    max_failures: usize,

    /// How to say what came of it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Plain,
}

const EXAMPLES: &str = "\
Examples:
  meshbench swarm --seeds 200               the same 200 scenarios each time
  meshbench swarm --time 5m                 fresh ones; says its base seed
  meshbench swarm --show 17 > mine.toml     a random scenario to start from

A scenario that fails is written to the folder as drawn and, smaller, as
swarm-SEED.min.toml, with the command that replays it.

Exit codes: 0 all held, 1 failed to run, 2 wrong arguments, 3 something did not
hold, 130 stopped by Ctrl-C";

/// Seeds of a swarm for which neither a number nor a time is given.
const DEFAULT_SEEDS: u64 = 100;

/// One seed that failed, and what was made of it.
#[derive(Clone, Debug, Serialize)]
struct Failed {
    seed: u64,
    variant: String,
    kind: String,
    finding: String,
    others: usize,
    file: String,
    /// How many scenarios were tried to make it smaller.
    tried: usize,
    replay: String,
}

#[derive(Serialize)]
struct Summary {
    schema: &'static str,
    base_seed: u64,
    shard: String,
    done: u64,
    interrupted: bool,
    failed: Vec<Failed>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    if let Some(seed) = arguments.show {
        print(text(seed)?.trim_end())?;
        return Ok(HELD);
    }
    let range = arguments.span.range(DEFAULT_SEEDS)?;
    let interrupt = Interrupt::listen()?;
    let pace = arguments.span.pace(&interrupt);
    let count = range.count(1);
    let first = range.base_seed;
    say(&match count {
        Some(count) => format!("{count} random scenarios, of seeds from {first} on"),
        None => format!("random scenarios, of seeds from {first} on"),
    });
    let progress = Counted::new("scenarios", count, arguments.span.time());
    let kept = Mutex::new(Kept::default());
    for_each(&range, 1, &pace, &|item| {
        let came = one(arguments, item.seed, &|| pace.may_go_on());
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        match came {
            Ok(Came::GivenUp) => return,
            Ok(Came::Held) => {}
            Ok(Came::Failed(failed)) => kept.failed.push(*failed),
            Err(error) => {
                kept.error.get_or_insert(error);
                pace.stop();
                return;
            }
        }
        kept.done += 1;
        if kept.failed.len() >= arguments.max_failures {
            pace.stop();
        }
        progress.advance(&format!("seed {}", item.seed), kept.failed.len() as u64);
    });
    progress.close();
    let Kept { mut failed, error, done } =
        kept.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = error {
        return Err(error);
    }
    failed.sort_by_key(|failed| failed.seed);
    let summary = Summary {
        schema: "meshbench.swarm/1",
        base_seed: range.base_seed,
        shard: range.shard.to_string(),
        done,
        interrupted: interrupt.raised(),
        failed,
    };
    match arguments.format {
        Plain::Text => summary.print(pace.is_stopped())?,
        Plain::Json => print(&serde_json::to_string_pretty(&summary)?)?,
    }
    Ok(match (summary.failed.is_empty(), summary.interrupted) {
        (false, _) => MISSED,
        (true, true) => INTERRUPTED,
        (true, false) => HELD,
    })
}

/// What is kept while a swarm goes on.
#[derive(Default)]
struct Kept {
    failed: Vec<Failed>,
    error: Option<anyhow::Error>,
    done: u64,
}

/// What came of one seed.
enum Came {
    GivenUp,
    Held,
    Failed(Box<Failed>),
}

/// Runs the scenario of a seed, and shrinks it if it fails.
fn one(arguments: &Arguments, seed: u64, keep_going: &dyn Fn() -> bool) -> anyhow::Result<Came> {
    let drawn = text(seed)?;
    let scenario = scenario(seed, &drawn)
        .with_context(|| format!("seed {seed} draws no valid scenario, which is a defect"))?;
    let Some(found) = findings(&scenario, seed, keep_going) else { return Ok(Came::GivenUp) };
    let Some(first) = found.first() else { return Ok(Came::Held) };
    let out = &arguments.out;
    fs::create_dir_all(out).with_context(|| format!("cannot write to {}", out.display()))?;
    let as_drawn = out.join(file_name(seed));
    write(&as_drawn, &drawn, first)?;
    let mut failed = Failed {
        seed,
        variant: first.variant.clone(),
        kind: first.kind.clone(),
        finding: first.text.clone(),
        others: found.len() - 1,
        file: as_drawn.display().to_string(),
        tried: 0,
        replay: String::new(),
    };
    if arguments.shrink_runs > 0 {
        let path = out.join(format!("swarm-{seed}.min.toml"));
        let mut fails = |candidate: &Scenario| {
            keep_going() && fails_alike(candidate, &first.kind, seed, keep_going)
        };
        let shrunk = shrink(&path, &drawn, arguments.shrink_runs, &mut fails);
        let small = Scenario::parse(&path, &shrunk.text)?;
        let found = findings(&small, seed, keep_going).unwrap_or_default();
        if let Some(alike) = found.into_iter().find(|finding| finding.kind == first.kind) {
            write(&path, &shrunk.text, &alike)?;
            failed.variant = alike.variant;
            failed.finding = alike.text;
            failed.file = path.display().to_string();
        }
        failed.tried = shrunk.tried;
    }
    failed.replay =
        format!("meshbench replay {} --variant {} --seed {seed}", failed.file, failed.variant);
    Ok(Came::Failed(Box::new(failed)))
}

/// The scenario, and above it what it showed.
fn write(path: &Path, text: &str, finding: &Finding) -> anyhow::Result<()> {
    let finding = finding.text.replace(['\n', '\u{a0}'], " ");
    fs::write(path, format!("# {finding}\n{text}"))
        .with_context(|| format!("cannot write {}", path.display()))
}

impl Summary {
    fn print(&self, stopped: bool) -> anyhow::Result<()> {
        for failed in &self.failed {
            print(&fit(
                &format!("seed {}, {}: {}", failed.seed, failed.variant, failed.finding),
                2,
            ))?;
            if failed.others > 0 {
                print(&format!("  and {} more as drawn", failed.others))?;
            }
            print(&format!("  {}", failed.replay))?;
        }
        if !self.failed.is_empty() {
            print("")?;
        }
        let held = self.done - self.failed.len() as u64;
        let why = match (self.interrupted, stopped) {
            (true, _) => "; stopped by Ctrl-C",
            (_, true) => "; stopped, as enough have failed",
            _ => "",
        };
        print(&format!("{held} of {} random scenarios held{why}", self.done))?;
        match self.failed.first() {
            Some(failed) => print(&format!("Next: {} --trace", failed.replay)),
            None => {
                let base = self.base_seed.saturating_add(self.done.max(1));
                print(&format!("Next: other ones, with --base-seed {base}"))
            }
        }
    }
}

//! `meshbench run`: scenarios in the simulator, and a report.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proxy::config::list;
use reports::record::Check;
use reports::{Bitmaps, PageExtras, RunRecord, summarise, summary_table, write_page};
use serde::Serialize;

use super::format::Format;
use super::interrupt::Interrupt;
use super::progress::Reporter;
use super::{FAILED, HELD, INTERRUPTED, MISSED, Usage, junit, print, say};
use crate::catalog;
use crate::plan::{Job, jobs};
use crate::runner::{Broken, Outcome, run_all};
use crate::scenario::Scenario;

#[derive(clap::Args, Default)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Names from the catalogue, or paths of files; all of the catalogue if none
    scenarios: Vec<String>,

    /// How many seeds, instead of what each file says
    #[arg(long, value_name = "COUNT")]
    seeds: Option<NonZeroU64>,

    /// Only this seed
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,

    /// Only this variant; may be given more than once
    #[arg(long, value_name = "NAME")]
    variant: Vec<String>,

    /// Where to write the report
    #[arg(long, value_name = "DIR", default_value = DEFAULT_OUT)]
    out: Option<PathBuf>,

    /// Leave out the figures as PNG, which are most of a report's bytes
    #[arg(long)]
    no_png: bool,

    /// How to say what came of it; the report is written in any case
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  meshbench run                                the whole catalogue
  meshbench run retry-storm --seeds 20         one scenario, more seeds
  meshbench run mine.toml --variant a --seed 3 --out mine
  meshbench run --format junit > junit.xml     for CI

Exit codes: 0 every expectation held, 1 a run could not be carried out, 2 wrong
arguments or input, 3 an expectation did not hold, 130 stopped by Ctrl-C";

const DEFAULT_OUT: &str = "report";

/// Runs of one command. Their records are held in memory until the report is written, at up to a
/// megabyte each.
const MOST_RUNS: u64 = 10_000;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let scenarios = load(&arguments.scenarios, &arguments.variant)?;
    let jobs = all_jobs(&scenarios, arguments)?;
    let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_OUT));
    // Before the work, not after it.
    std::fs::create_dir_all(&out)
        .with_context(|| format!("cannot write the report to {}", out.display()))?;

    let interrupt = Interrupt::listen()?;
    say(&format!("{} runs of {} scenarios in the simulator", jobs.len(), scenarios.len()));
    let reporter = Reporter::new(&scenarios, jobs.len() as u64);
    let outcome = run_all(&scenarios, &jobs, &reporter, &|| !interrupt.raised());
    reporter.close();

    let not_run = grouped(&scenarios, &outcome.not_run);
    let broken: Vec<_> = outcome
        .broken
        .iter()
        .map(|broken| format!("{}: {}", broken.job.describe(&scenarios), broken.reason))
        .collect();
    if outcome.records.is_empty() {
        name_left_out(&not_run, &broken)?;
        say("no run was finished, so there is nothing to report");
        return Ok(verdict(&outcome));
    }
    let extras = PageExtras {
        generator: concat!("meshbench ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: command(arguments),
        not_run: not_run.clone(),
        broken: broken.clone(),
        bitmaps: if arguments.no_png { Bitmaps::LeftOut } else { Bitmaps::Written },
        ..PageExtras::default()
    };
    remove_previous(&out)?;
    let page = write_page(&outcome.records, &extras, &out)
        .with_context(|| format!("writing the report to {}", out.display()))?;
    match arguments.format {
        Format::Text => {}
        Format::Json => {
            print(&serde_json::to_string_pretty(&Summary::new(&scenarios, &outcome, &page))?)?;
            return Ok(verdict(&outcome));
        }
        Format::Junit => {
            let name = |broken: &Broken| scenarios[broken.job.scenario].name.clone();
            let broken: Vec<_> = outcome.broken.iter().map(|b| (name(b), b.clone())).collect();
            print(junit::of_runs(&outcome.records, &broken)?.trim_end())?;
            return Ok(verdict(&outcome));
        }
    }
    print(summary_table(&outcome.records).trim_end())?;
    if let [only] = outcome.records.as_slice()
        && let Some(hash) = &only.trace_hash
    {
        print(&format!("\nTrace hash: {hash}"))?;
    }
    name_left_out(&not_run, &broken)?;
    print(&format!("\nReport: {}  (open it in a browser)", page.display()))?;
    Ok(verdict(&outcome))
}

/// The scenarios of these names and paths, all of the catalogue if there are none, with only the
/// variants asked for and those that they are compared with.
pub(super) fn load(names: &[String], variants: &[String]) -> anyhow::Result<Vec<Scenario>> {
    let mut scenarios = match names {
        [] => catalog::all()?,
        named => named.iter().map(|name| catalog::load(name)).collect::<Result<_, _>>()?,
    };
    refuse_twins(&scenarios)?;
    restrict(&mut scenarios, variants)?;
    Ok(scenarios)
}

/// Two scenarios of one name could not be told apart in a report.
fn refuse_twins(scenarios: &[Scenario]) -> anyhow::Result<()> {
    for (place, scenario) in scenarios.iter().enumerate() {
        if scenarios[..place].iter().any(|earlier| earlier.name == scenario.name) {
            let message = format!("{} is named twice; name each scenario once", scenario.name);
            return Err(Usage(message).into());
        }
    }
    Ok(())
}

/// Keeps only the variants asked for, and those that they are compared with.
fn restrict(scenarios: &mut [Scenario], asked: &[String]) -> anyhow::Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let known = |name: &String| scenarios.iter().any(|s| s.variant(name).is_some());
    let unknown = asked.iter().find(|name| !known(name));
    for scenario in scenarios {
        let has_one = asked.iter().any(|name| scenario.variant(name).is_some());
        if unknown.is_some() || !has_one {
            let names: Vec<_> = scenario.variants.iter().map(|v| v.name.as_str()).collect();
            let message = format!("--variant: {} compares {}", scenario.name, list(&names));
            return Err(Usage(message).into());
        }
        let bases: Vec<String> = scenario
            .expect
            .iter()
            .filter(|expectation| asked.iter().any(|variant| expectation.is_about(variant)))
            .filter_map(|expectation| expectation.compared_with.clone())
            .collect();
        scenario
            .variants
            .retain(|variant| asked.contains(&variant.name) || bases.contains(&variant.name));
    }
    Ok(())
}

fn all_jobs(scenarios: &[Scenario], arguments: &Arguments) -> anyhow::Result<Vec<Job>> {
    let count = |scenario: &Scenario| match arguments.seed {
        Some(_) => 1,
        None => arguments.seeds.unwrap_or(scenario.file.seeds).get(),
    };
    let runs = |scenario: &Scenario| count(scenario).saturating_mul(scenario.variants.len() as u64);
    let total = scenarios.iter().map(runs).fold(0, u64::saturating_add);
    if total > MOST_RUNS {
        let message = format!("{total} runs are too many for one report, which holds {MOST_RUNS}");
        return Err(Usage(format!("{message}; ask for fewer seeds")).into());
    }
    let of = |(place, scenario): (usize, &Scenario)| match arguments.seed {
        Some(seed) => jobs(place, scenario, seed..=seed),
        None => jobs(place, scenario, 1..=count(scenario)),
    };
    Ok(scenarios.iter().enumerate().flat_map(of).collect())
}

/// Removes the records of the report that stood in this folder before, so that they are not taken
/// for this one's. Nothing else: what does not read as a record is left alone.
fn remove_previous(out: &Path) -> anyhow::Result<()> {
    let folder = out.join("records");
    if !out.join("index.html").is_file() || !folder.is_dir() {
        return Ok(());
    }
    let failed = || format!("removing the previous report's records in {}", folder.display());
    for entry in std::fs::read_dir(&folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        if is_json && RunRecord::read(&path).is_ok() {
            std::fs::remove_file(&path).with_context(failed)?;
        }
    }
    Ok(())
}

/// `scenario / variant / seeds 3, 4, 5` of runs that are in order of scenario and seed.
fn grouped(scenarios: &[Scenario], jobs: &[Job]) -> Vec<String> {
    let mut groups: Vec<(usize, &str, Vec<String>)> = Vec::new();
    for job in jobs {
        let (scenario, seed) = (job.scenario, job.seed.to_string());
        let variant = job.variant(scenarios).name.as_str();
        match groups.iter_mut().find(|group| (group.0, group.1) == (scenario, variant)) {
            Some((.., seeds)) => seeds.push(seed),
            None => groups.push((scenario, variant, vec![seed])),
        }
    }
    let words = |(scenario, variant, seeds): &(usize, &str, Vec<String>)| {
        let plural = if seeds.len() == 1 { "" } else { "s" };
        format!("{} / {variant} / seed{plural} {}", scenarios[*scenario].name, seeds.join(", "))
    };
    groups.iter().map(words).collect()
}

/// Says what is missing from the report; a long list is cut short here and whole in the report.
fn name_left_out(not_run: &[String], broken: &[String]) -> anyhow::Result<()> {
    const MOST: usize = 8;
    for (title, names) in
        [("Not run, because it was stopped:", not_run), ("Could not be carried out:", broken)]
    {
        if names.is_empty() {
            continue;
        }
        print(&format!("\n{title}"))?;
        for name in names.iter().take(MOST) {
            print(&format!("  {name}"))?;
        }
        if names.len() > MOST {
            print(&format!("  and {} more lines like these", names.len() - MOST))?;
        }
    }
    Ok(())
}

/// The command that makes the same report again.
fn command(arguments: &Arguments) -> String {
    let mut words = vec!["meshbench run".to_owned()];
    words.extend(arguments.scenarios.iter().cloned());
    words.extend(arguments.variant.iter().map(|name| format!("--variant {name}")));
    words.extend(arguments.seeds.map(|count| format!("--seeds {count}")));
    words.extend(arguments.seed.map(|seed| format!("--seed {seed}")));
    words.join(" ")
}

/// The worst of what happened.
fn verdict(outcome: &Outcome) -> u8 {
    let summaries = summarise(&outcome.records);
    let mut checks = summaries.iter().flat_map(|s| &s.variants).flat_map(|v| &v.checks);
    let missed = checks.any(|check| !check.verdict.met);
    if !outcome.broken.is_empty() {
        FAILED
    } else if missed {
        MISSED
    } else if !outcome.not_run.is_empty() {
        INTERRUPTED
    } else {
        HELD
    }
}

/// What came of the runs, as JSON; the records beside the page have everything.
#[derive(Serialize)]
struct Summary<'a> {
    schema: &'static str,
    report: String,
    runs: Vec<Finished<'a>>,
    not_run: Vec<String>,
    broken: Vec<String>,
}

/// One run in short.
#[derive(Serialize)]
struct Finished<'a> {
    scenario: &'a str,
    variant: &'a str,
    seed: u64,
    held: bool,
    trace_hash: Option<&'a str>,
    replay: &'a str,
    checks: &'a [Check],
}

impl<'a> Summary<'a> {
    fn new(scenarios: &[Scenario], outcome: &'a Outcome, page: &Path) -> Self {
        let finished = |record: &'a RunRecord| Finished {
            scenario: &record.scenario.name,
            variant: &record.variant,
            seed: record.seed,
            held: !record.checks.iter().any(Check::missed_alone),
            trace_hash: record.trace_hash.as_deref(),
            replay: &record.replay,
            checks: &record.checks,
        };
        let broken = |b: &Broken| format!("{}: {}", b.job.describe(scenarios), b.reason);
        Self {
            schema: "meshbench.runs/1",
            report: page.display().to_string(),
            runs: outcome.records.iter().map(finished).collect(),
            not_run: outcome.not_run.iter().map(|job| job.describe(scenarios)).collect(),
            broken: outcome.broken.iter().map(broken).collect(),
        }
    }
}

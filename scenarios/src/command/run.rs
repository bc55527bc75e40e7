//! `meshbench run`: scenarios in the simulator, and a report.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use proxy::config::{Balance, list};
use reports::{PageExtras, RunRecord, summary_table, write_page};

use super::interrupt::Interrupt;
use super::progress::Reporter;
use super::{HELD, INTERRUPTED, MISSED, print, say};
use crate::catalog;
use crate::plan::{Job, jobs};
use crate::runner::{Outcome, run_all};
use crate::scenario::Scenario;

#[derive(clap::Args, Default)]
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
}

const DEFAULT_OUT: &str = "report";

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let mut scenarios = match arguments.scenarios.as_slice() {
        [] => catalog::all()?,
        named => named.iter().map(|name| catalog::load(name)).collect::<Result<_, _>>()?,
    };
    refuse_twins(&scenarios)?;
    restrict(&mut scenarios, &arguments.variant)?;
    let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_OUT));
    // Before the work, not after it.
    std::fs::create_dir_all(&out)
        .with_context(|| format!("cannot write the report to {}", out.display()))?;
    let jobs = all_jobs(&scenarios, arguments);
    let interrupt = Interrupt::listen()?;
    say(&format!("{} runs of {} scenarios in the simulator", jobs.len(), scenarios.len()));
    let reporter = Reporter::new(&scenarios, jobs.len() as u64);
    let outcome = run_all(&scenarios, &jobs, &reporter, &|| !interrupt.raised());
    reporter.close();
    let Outcome { records, not_run } = outcome?;
    let not_run = grouped(&scenarios, &not_run);
    if records.is_empty() {
        say("stopped before the first run was finished; there is nothing to report");
        return Ok(INTERRUPTED);
    }
    print(summary_table(&records).trim_end());
    let extras = PageExtras {
        generator: concat!("meshbench ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: command(arguments),
        not_run: not_run.clone(),
        ..PageExtras::default()
    };
    remove_previous(&out)?;
    let page = write_page(&records, &extras, &out)
        .with_context(|| format!("writing the report to {}", out.display()))?;
    if let [only] = records.as_slice()
        && let Some(hash) = &only.trace_hash
    {
        print(&format!("\nTrace hash: {hash}"));
    }
    name_not_run(&not_run);
    print(&format!("\nReport: {}  (open it in a browser)", page.display()));
    Ok(verdict(&records, &not_run))
}

/// Two scenarios of one name could not be told apart in a report.
fn refuse_twins(scenarios: &[Scenario]) -> anyhow::Result<()> {
    for (place, scenario) in scenarios.iter().enumerate() {
        if scenarios[..place].iter().any(|earlier| earlier.name == scenario.name) {
            bail!("{} is named twice; name each scenario once", scenario.name);
        }
    }
    Ok(())
}

/// Keeps only the variants asked for.
fn restrict(scenarios: &mut [Scenario], variants: &[String]) -> anyhow::Result<()> {
    if variants.is_empty() {
        return Ok(());
    }
    let wanted: Vec<Balance> = variants
        .iter()
        .map(|name| Balance::parse(name).map_err(anyhow::Error::msg))
        .collect::<Result<_, _>>()
        .context("--variant")?;
    for scenario in scenarios {
        let strategies = &mut scenario.file.compare.strategies;
        let compared: Vec<_> = strategies.iter().map(|strategy| strategy.0.name).collect();
        strategies.retain(|strategy| wanted.contains(strategy));
        if strategies.is_empty() {
            bail!("--variant: {} compares {}", scenario.name, list(&compared));
        }
    }
    Ok(())
}

fn all_jobs(scenarios: &[Scenario], arguments: &Arguments) -> Vec<Job> {
    let of = |(place, scenario): (usize, &Scenario)| match arguments.seed {
        Some(seed) => jobs(place, scenario, seed..=seed),
        None => {
            let count = arguments.seeds.unwrap_or(scenario.file.seeds);
            jobs(place, scenario, 1..=count.get())
        }
    };
    scenarios.iter().enumerate().flat_map(of).collect()
}

/// Removes the records of the report that stood in this folder before, so that they are not taken
/// for this one's. Only where there is a report: a folder of somebody else's is left alone.
fn remove_previous(out: &Path) -> anyhow::Result<()> {
    let folder = out.join("records");
    if !out.join("index.html").is_file() || !folder.is_dir() {
        return Ok(());
    }
    let failed = || format!("removing the previous report's records in {}", folder.display());
    for entry in std::fs::read_dir(&folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            std::fs::remove_file(&path).with_context(failed)?;
        }
    }
    Ok(())
}

/// `scenario / variant / seeds 3, 4, 5` of runs that are in order of scenario and seed.
fn grouped(scenarios: &[Scenario], jobs: &[Job]) -> Vec<String> {
    let mut groups: Vec<(usize, &str, Vec<String>)> = Vec::new();
    for job in jobs {
        let (scenario, variant, seed) = (job.scenario, job.variant.0.name, job.seed.to_string());
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

/// Says what a stopped run has left out; a long list is cut short here and whole in the report.
fn name_not_run(not_run: &[String]) {
    const MOST: usize = 8;
    if not_run.is_empty() {
        return;
    }
    print("\nNot run, because it was stopped:");
    for name in not_run.iter().take(MOST) {
        print(&format!("  {name}"));
    }
    if not_run.len() > MOST {
        print(&format!("  and {} more lines like these, in the report", not_run.len() - MOST));
    }
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

fn verdict(records: &[RunRecord], not_run: &[String]) -> u8 {
    let failed = records.iter().flat_map(|record| &record.checks).any(|check| !check.passed);
    match (failed, not_run.is_empty()) {
        (true, _) => MISSED,
        (false, false) => INTERRUPTED,
        (false, true) => HELD,
    }
}

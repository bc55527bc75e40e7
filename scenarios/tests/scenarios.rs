//! The catalogue as tests: one for each file and seed, with all variants and all expectations.
//!
//! `cargo test scenarios` runs them alone. A failing one prints the command that replays it.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::ops::RangeInclusive;
use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};
use reports::summarise;
use scenarios::Scenario;
use scenarios::plan::jobs;
use scenarios::runner::run_all;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog"))? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "toml")) {
        let text = std::fs::read_to_string(path)?;
        // The name that the program knows it by, so that replay commands are right.
        let name = path.file_name().unwrap_or_default();
        let scenario = Scenario::parse(&Path::new("catalog").join(name), &text)?;
        let name = scenario.name.replace('-', "_");
        let seeds = 1..=scenario.file.seeds.get();
        // What is about the mean of all seeds takes all of them.
        if scenario.expect.iter().any(|expectation| expectation.confidence.is_some()) {
            trials.push(Trial::test(format!("scenarios::{name}::all_seeds"), move || {
                every_expectation_is_met(scenario, seeds)
            }));
            continue;
        }
        for seed in seeds {
            let scenario = scenario.clone();
            trials.push(Trial::test(format!("scenarios::{name}::seed_{seed}"), move || {
                every_expectation_is_met(scenario, seed..=seed)
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit()
}

/// Held by the variants that have to hold it, and missed by those that have to miss it.
fn every_expectation_is_met(scenario: Scenario, seeds: RangeInclusive<u64>) -> Result<(), Failed> {
    let expected = scenario.expect.len();
    let scenarios = [scenario];
    let jobs = jobs(0, &scenarios[0], seeds);
    let outcome = run_all(&scenarios, &jobs, &(), &|| true);
    assert!(outcome.broken.is_empty(), "{:?}", outcome.broken);
    assert_eq!(outcome.records.len(), jobs.len(), "a run is missing");
    assert!(expected > 0, "a scenario without expectations cannot fail");
    for record in &outcome.records {
        assert!(record.warnings.is_empty(), "{:?}", record.warnings);
    }
    let summaries = summarise(&outcome.records);
    let variants = summaries.iter().flat_map(|summary| &summary.variants);
    let checks = variants.flat_map(|variant| variant.checks.iter().map(move |c| (variant, c)));
    let failures = checks.filter_map(|(variant, check)| {
        let (why, worst) = check.miss()?;
        Some(format!("{}: {}: {why}\n  replay: {}", variant.label, check.what, worst.replay))
    });
    let failures: Vec<_> = failures.collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

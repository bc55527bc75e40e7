//! The catalogue as tests: one for each file and seed, with all variants and all expectations.
//!
//! `cargo test scenarios` runs them alone. A failing one prints the command that replays it.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};
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
        for seed in 1..=scenario.file.seeds.get() {
            let name = scenario.name.replace('-', "_");
            let scenario = scenario.clone();
            trials.push(Trial::test(format!("scenarios::{name}::seed_{seed}"), move || {
                every_expectation_holds(scenario, seed)
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit()
}

fn every_expectation_holds(scenario: Scenario, seed: u64) -> Result<(), Failed> {
    let expected = scenario.file.expect.len();
    let scenarios = [scenario];
    let jobs = jobs(0, &scenarios[0], seed..=seed);
    let outcome = run_all(&scenarios, &jobs, &(), &|| true);
    assert!(outcome.broken.is_empty(), "{:?}", outcome.broken);
    assert_eq!(outcome.records.len(), jobs.len(), "a run is missing");
    assert!(expected > 0, "a scenario without expectations cannot fail");
    let mut failures = Vec::new();
    for record in &outcome.records {
        assert!(record.warnings.is_empty(), "{:?}", record.warnings);
        for check in record.checks.iter().filter(|check| check.missed_alone()) {
            failures.push(format!(
                "{}: {} wanted {}, measured {}\n  replay: {}",
                record.variant, check.what, check.wanted, check.measured, record.replay
            ));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

//! Same seed, same bytes: across processes, and whatever else runs beside.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::process::Command;

use scenarios::catalog;
use scenarios::plan::jobs;
use scenarios::runner::run_all;

const SCENARIO: &str = "deadline-expiry";
const VARIANT: &str = "peak_ewma";
const SEED: u64 = 3;

/// The hash that a process of its own prints.
fn hash_of_process(seed: u64) -> String {
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_meshbench"))
        .args(["run", SCENARIO, "--variant", VARIANT, "--seed", &seed.to_string(), "--out"])
        .arg(out.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Trace hash: "));
    line.unwrap_or_else(|| panic!("no trace hash in:\n{text}")).to_owned()
}

#[test]
fn two_processes_and_a_busy_one_agree() {
    let first = hash_of_process(SEED);
    assert_eq!(first, hash_of_process(SEED));
    assert_ne!(first, hash_of_process(SEED + 1));

    // The same run among others, on as many threads as there are cores.
    let scenarios = [catalog::load(SCENARIO).unwrap()];
    let jobs = jobs(0, &scenarios[0], SEED..=SEED + 1);
    let outcome = run_all(&scenarios, &jobs, &(), &|| true);
    let here = outcome.records.iter().find(|r| r.variant == VARIANT && r.seed == SEED).unwrap();
    assert_eq!(here.trace_hash.as_deref(), Some(first.as_str()));
}

#[test]
fn equal_runs_leave_equal_records() {
    let scenarios = [catalog::load(SCENARIO).unwrap()];
    let jobs = jobs(0, &scenarios[0], SEED..=SEED);
    let once = || run_all(&scenarios, &jobs, &(), &|| true).records;
    let text = |records: Vec<reports::RunRecord>| {
        records.iter().map(|record| record.to_json().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(text(once()), text(once()));
}

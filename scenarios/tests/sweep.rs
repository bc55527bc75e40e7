//! `meshbench sweep` as its users meet it.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

/// Two variants of two seconds; `bound` is that of the slowest answer of the one called `b`.
fn scenario(folder: &Path, bound: &str) -> String {
    let text = format!(
        r#"
title = "A short one"
about = "For a test."
seeds = 1
duration = "2s"
services = [{{ name = "web", instances = 2, service_time = {{ exponential = {{ mean = "10ms" }} }} }}]
load = {{ arrivals = "poisson", rate = 50, timeout = "5s" }}
variants = [{{ name = "a" }}, {{ name = "b", balance = "random" }}]

[[expect]]
that = "max"
of = ["b"]
at_most = "{bound}"

[[expect]]
that = "p50"
of = ["b"]
compared_with = "a"
at_most = 10.0
"#
    );
    let path = folder.join("short.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn sweep(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshbench"));
    for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "CI_NODE_INDEX"] {
        command.env_remove(name);
    }
    command.env_remove("CIRCLE_NODE_INDEX").env_remove("BUILDKITE_PARALLEL_JOB");
    command.arg("sweep").args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn records(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder.join("records")).unwrap().map(|entry| entry.unwrap());
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, std::fs::read(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

#[test]
fn the_records_of_shards_are_those_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = scenario(folder.path(), "10s");
    let whole = folder.path().join("whole");
    let parts = folder.path().join("parts");
    let (whole_name, parts_name) = (whole.to_str().unwrap(), parts.to_str().unwrap());
    let output = sweep(&[&file, "--seeds", "5", "--base-seed", "7", "--out", whole_name]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("5 of 5 seeds held"), "{}", stdout(&output));
    for shard in ["1/2", "2/2"] {
        let args =
            [&file, "--seeds", "5", "--base-seed", "7", "--shard", shard, "--out", parts_name];
        assert_eq!(sweep(&args).status.code(), Some(0));
    }
    let whole = records(&whole);
    assert_eq!(whole.len(), 10, "five seeds of two variants");
    assert_eq!(whole, records(&parts));
}

#[test]
fn what_fails_is_counted_and_named_with_its_replay() {
    let folder = tempfile::tempdir().unwrap();
    let file = scenario(folder.path(), "60ms");
    let out = folder.path().join("failing");
    let args = [&file, "--seeds", "20", "--only-failing", "--out", out.to_str().unwrap()];
    let output = sweep(&[&args[..], &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let tally = &summary["scenarios"][0];
    let failures = tally["failures"].as_array().unwrap();
    let held = tally["held"].as_u64().unwrap();
    assert!(held > 0 && !failures.is_empty(), "the bound is in the middle: {summary}");
    assert_eq!(held + failures.len() as u64, 20);
    assert_eq!(records(&out).len(), failures.len(), "only what failed is kept");
    let bound = tally["expectations"].as_array().unwrap();
    let bound = bound.iter().find(|e| e["what"] == "longest response time").unwrap();
    assert_eq!(bound["met"], held);
    let worst = &bound["worst"];
    assert!(worst["slack"].as_f64().unwrap() < 0.0, "{worst}");
    assert!(failures.iter().any(|failure| failure["seed"] == worst["seed"]));

    let text = stdout(&sweep(&args));
    let replay = failures[0]["replay"].as_str().unwrap();
    assert!(text.contains(replay), "{text}");
    assert!(text.contains(&format!("with {held} of 20 seeds")), "{text}");

    let junit = stdout(&sweep(&[&file, "--seeds", "20", "--format", "junit"]));
    assert!(junit.starts_with("<?xml"), "{junit}");
    assert!(junit.contains(r#"<testsuite name="short" tests="#), "{junit}");
    assert!(junit.contains(r#"failures="1""#), "one expectation of one variant: {junit}");

    let stopped = sweep(&[&file, "--seeds", "2000", "--stop-on-first-failure"]);
    assert_eq!(stopped.status.code(), Some(3));
    assert!(stdout(&stopped).contains("stopped at a failure"), "{}", stdout(&stopped));
}

#[test]
fn a_time_draws_fresh_seeds_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let file = scenario(folder.path(), "10s");
    let output = sweep(&[&file, "--time", "300ms"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    let base = said.lines().next().unwrap().strip_prefix("base seed ").unwrap();
    base.parse::<u64>().unwrap();
    let refused = sweep(&[&file, "--time", "1s", "--shard", "1/2"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--base-seed"), "{}", stderr(&refused));
}

#[test]
fn a_shard_may_come_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = scenario(folder.path(), "10s");
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshbench"));
    command.args(["sweep", &file, "--seeds", "3", "--format", "json"]);
    command.env_remove("SLURM_ARRAY_TASK_ID").env_remove("JOB_COMPLETION_INDEX");
    let output = command.env("CI_NODE_INDEX", "1").env("CI_NODE_TOTAL", "2").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("shard 1/2, by CI_NODE_INDEX"), "{}", stderr(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["done"], 2, "seeds 1 and 3");
}

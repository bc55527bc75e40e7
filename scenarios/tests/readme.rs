//! The reference says what is so: its examples are read, and all metrics are in it.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::path::Path;

use scenarios::Scenario;
use scenarios::scenario::Metric;

const README: &str = include_str!("../README.md");

/// What an example that is a part of a file is put into.
const REST: &str = r#"
title = "t"
about = "a"
seeds = 5
duration = "60s"
compare = { strategies = ["round_robin", "random", "peak_ewma"] }

[[variants]]
name = "short-queue"

[[services]]
name = "web"
instances = 3
service_time = { constant = "10ms" }
calls = "db"
zone = "a"
labels = { version = "1" }

[[services]]
name = "db"
instances = 2
service_time = { constant = "5ms" }

[load]
arrivals = "constant"
rate = 200
timeout = "10s"

[[faults]]
target = "web-0"
at = "15s"
until = "45s"
what = "hang"
"#;

#[test]
fn every_example_is_read() {
    let blocks = README.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut count = 0;
    for block in blocks {
        let mut whole: toml::Table = toml::from_str(REST).unwrap();
        let part: toml::Table = toml::from_str(block).unwrap_or_else(|e| panic!("{block}\n{e}"));
        whole.extend(part);
        let text = toml::to_string(&whole).unwrap();
        if let Err(error) = Scenario::parse(Path::new("example.toml"), &text) {
            panic!("{block}\n{error:#}");
        }
        count += 1;
    }
    assert!(count >= 9, "{count} examples");
}

#[test]
fn every_metric_is_in_the_table() {
    let rows = Metric::documented().map(|(name, about)| format!("| `{name}` | {about} |\n"));
    let table = format!("| metric | what |\n|---|---|\n{}", rows.collect::<String>());
    assert!(README.contains(&table), "the table has to be\n{table}");
}

const INDEX: &str = include_str!("../catalog/README.md");

#[test]
fn every_scenario_is_in_the_index_and_every_link_of_it_leads_somewhere() {
    let mut there: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/catalog"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    there.sort();
    let links = INDEX.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let mut linked: Vec<_> = links.map(str::to_owned).collect();
    linked.sort();
    linked.dedup();
    assert_eq!(there, linked);
}

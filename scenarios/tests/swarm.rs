//! The swarm as its users meet it: scenarios that hold, and a defect that is made small.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::path::Path;
use std::process::{Command, Output};

use scenarios::Scenario;
use scenarios::swarm::shrink::{shrink, size};
use scenarios::swarm::{fails_alike, findings, scenario, text};
use toml::{Table, Value};

fn meshbench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshbench")).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn random_scenarios_hold() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("swarm");
    let output = meshbench(&["swarm", "--seeds", "4", "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("4 of 4 random scenarios held"), "{}", stdout(&output));
    assert!(!out.exists(), "nothing failed, so nothing is written");
}

/// The scenario of a seed whose sidecar repeats what must not be repeated, and that says so.
fn with_a_defect(seed: u64) -> Option<String> {
    let mut table: Table = text(seed).unwrap().parse().unwrap();
    let has_crash = table.get("faults")?.as_array()?.iter().any(|fault| {
        let on_web = fault
            .get("target")
            .and_then(Value::as_str)
            .is_some_and(|target| target.starts_with("web"));
        on_web && fault["what"].as_str() == Some("crash")
    });
    let has_post = table["load"].get("mix").is_some_and(|mix| mix.to_string().contains("POST"));
    if !has_crash || !has_post || table["services"].as_array()?.len() < 2 {
        return None;
    }
    let route = table["sidecar"]["route"].as_table_mut()?;
    let retry = route.entry("retry").or_insert_with(|| Value::Table(Table::new()));
    let retry = retry.as_table_mut()?;
    retry.insert("non_idempotent".into(), true.into());
    retry.insert("max_retries".into(), 3.into());
    retry.remove("on");
    let mut once = Table::new();
    once.insert("that".into(), "most_seen".into());
    once.insert("method".into(), "POST".into());
    once.insert("at_most".into(), 1.into());
    table["expect"].as_array_mut()?.push(Value::Table(once));
    Some(toml::to_string(&table).unwrap())
}

#[test]
fn an_injected_defect_shrinks_to_a_small_scenario_that_replays() {
    let keep_going = || true;
    let found = (0..500).find_map(|seed| {
        let text = with_a_defect(seed)?;
        let scenario = scenario(seed, &text).unwrap();
        let findings = findings(&scenario, seed, &keep_going)?;
        let kind = findings.into_iter().find(|finding| finding.kind == "most_seen")?.kind;
        Some((seed, text, kind))
    });
    let (seed, text, kind) = found.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.toml");
    let mut fails = |candidate: &Scenario| fails_alike(candidate, &kind, seed, &keep_going);
    let shrunk = shrink(&path, &text, 250, &mut fails);
    let [services, instances, faults, variants, settings] = size(&shrunk.text.parse().unwrap());
    assert_eq!((services, faults, variants), (1, 1, 1), "{}", shrunk.text);
    assert!(instances <= 3 && settings <= 3, "{}", shrunk.text);
    assert!(shrunk.text.contains("non_idempotent"), "the defect itself stays: {}", shrunk.text);

    std::fs::write(&path, &shrunk.text).unwrap();
    replays(&path, seed);
}

/// The one command, from the file and from the record that it leaves.
fn replays(path: &Path, seed: u64) {
    let scenario = Scenario::parse(path, &std::fs::read_to_string(path).unwrap()).unwrap();
    let (variant, seed) = (scenario.variants[0].name.as_str(), seed.to_string());
    let file = path.to_str().unwrap();
    let args = ["replay", file, "--variant", variant, "--seed", &seed];
    let output = meshbench(&[&args[..], &["--trace"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", stdout(&output));
    let story = stdout(&output);
    for part in ["client sends POST", "web-0 gets it", "missed  most arrivals of one request"] {
        assert!(story.contains(part), "{part}: {story}");
    }
    let out = path.with_extension("out");
    let run = ["run", file, "--variant", variant, "--seed", &seed, "--out", out.to_str().unwrap()];
    assert_eq!(meshbench(&run).status.code(), Some(3));
    let mut records = std::fs::read_dir(out.join("records")).unwrap();
    let record = records.next().unwrap().unwrap().path();
    let again = meshbench(&["replay", record.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(3), "{}", stdout(&again));
    assert!(stdout(&again).contains("The same run"), "{}", stdout(&again));

    let text = std::fs::read_to_string(&record).unwrap();
    let other = text.replace(&format!("\"seed\": {seed}"), "\"seed\": 987654");
    assert_ne!(text, other);
    std::fs::write(&record, other).unwrap();
    let differs = meshbench(&["replay", record.to_str().unwrap()]);
    assert_eq!(differs.status.code(), Some(1), "{}", stdout(&differs));
    assert!(stdout(&differs).contains("Not the same run"), "{}", stdout(&differs));
}

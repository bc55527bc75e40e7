//! The swarm: one seed, one random but valid scenario, under invariants that must always hold.
//!
//! Scenarios that people write try what they thought of. Here a seed draws topology, load, the
//! sidecar's configuration and faults, and writes them down as the text of a scenario file, which
//! is read by the same parser as any other: there is no second way in, and what failed can be
//! saved, read, changed and replayed. What a scenario is judged by is what every run is judged by
//! (`invariants`), and what `recovery` adds: a mesh whose faults are over serves well again.
//!
//! Each part of a scenario draws from a stream of its own, so that a new feature in one changes
//! nothing in the others. A feature of the language is one function in the file of its part.
//! [`shrink`] makes of a scenario that fails a small one that fails in the same way.

mod draw;
mod faults;
mod load;
mod recovery;
pub mod shrink;
mod sidecar;
mod steps;
mod topology;

use std::path::Path;

use proxy::config::InputError;
use reports::record::Check;
use toml::Table;

use crate::plan::jobs;
use crate::runner::{Outcome, run_here};
use crate::scenario::Scenario;

/// The text of the scenario that this seed stands for.
///
/// # Errors
/// When it cannot be written as TOML, which is a defect of the generator.
pub fn text(seed: u64) -> Result<String, toml::ser::Error> {
    let topology = topology::draw(seed);
    let load = load::draw(seed, &topology);
    let faults = faults::draw(seed, &topology);
    let times = recovery::Times::draw(seed, &faults);
    let mut table = Table::new();
    table.insert("title".into(), format!("What seed {seed} of the swarm stands for").into());
    let about = "Drawn at random. Whatever fails here, all faults end, there is room for the load \
                 without them, and after a while of quiet nearly every request has to succeed.";
    table.insert("about".into(), about.into());
    table.insert("seeds".into(), 1.into());
    table.insert("duration".into(), draw::time(times.end_ms));
    table.insert("services".into(), topology.services().into());
    table.insert("load".into(), load.table.into());
    table.insert("network".into(), topology.network());
    table.insert("sidecar".into(), sidecar::draw(seed, &topology, &load.needs).into());
    table.insert("variants".into(), sidecar::variants(seed).into());
    if !faults.is_empty() {
        table.insert("faults".into(), faults::tables(&faults).into());
    }
    table.insert("expect".into(), times.expectations(&topology).into());
    toml::to_string(&table)
}

/// Reads the text of a seed's scenario.
///
/// # Errors
/// When the language refuses it, which is a defect of the generator.
pub fn scenario(seed: u64, text: &str) -> Result<Scenario, InputError> {
    Scenario::parse(Path::new(&file_name(seed)), text)
}

/// The name of the file that a seed's scenario is written to.
pub fn file_name(seed: u64) -> String {
    format!("swarm-{seed}.toml")
}

/// Something that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The variant with which it showed.
    pub variant: String,
    /// What sort of thing it is; equal for what is probably the same defect.
    pub kind: String,
    /// What it was.
    pub text: String,
}

/// Runs all variants of a scenario with one seed, and says what did not hold; `None` if it was
/// given up because `keep_going` said no.
pub fn findings(
    scenario: &Scenario,
    seed: u64,
    keep_going: &dyn Fn() -> bool,
) -> Option<Vec<Finding>> {
    let scenarios = std::slice::from_ref(scenario);
    let outcome = run_here(scenarios, &jobs(0, scenario, seed..=seed), keep_going);
    if !outcome.not_run.is_empty() {
        return None;
    }
    let mut findings = of_outcome(scenario, &outcome);
    // Same seed, same bytes: looked at again for one in some, at half the price of twice all.
    if findings.is_empty() && seed.is_multiple_of(REPEATED) {
        let again = run_here(scenarios, &jobs(0, scenario, seed..=seed), keep_going);
        if !again.not_run.is_empty() {
            return None;
        }
        let runs = outcome.records.iter().zip(&again.records);
        let differ = runs.filter(|(one, two)| one.trace_hash != two.trace_hash);
        findings.extend(differ.map(|(one, _)| Finding {
            variant: one.variant.clone(),
            kind: "same seed, same bytes".to_owned(),
            text: "a second run of the same seed has another trace hash".to_owned(),
        }));
    }
    Some(findings)
}

/// Whether a scenario fails in the way of `kind`. Of one whose faults are to blame, so must those
/// of the other be: without them it has to hold, or else it fails for another reason, such as too
/// few instances for the load.
pub fn fails_alike(
    scenario: &Scenario,
    kind: &str,
    seed: u64,
    keep_going: &dyn Fn() -> bool,
) -> bool {
    let has = |scenario: &Scenario| {
        let findings = findings(scenario, seed, keep_going).unwrap_or_default();
        findings.iter().any(|finding| finding.kind == kind)
    };
    has(scenario) && without_faults(scenario).is_none_or(|calm| !has(&calm))
}

/// The same with nothing going wrong; `None` if that is so already.
fn without_faults(scenario: &Scenario) -> Option<Scenario> {
    let mut table: Table = scenario.text.parse().ok()?;
    table.remove("faults")?;
    let text = toml::to_string(&table).ok()?;
    Scenario::parse(Path::new(&scenario.called), &text).ok()
}

/// One seed in so many is run twice.
const REPEATED: u64 = 8;

fn of_outcome(scenario: &Scenario, outcome: &Outcome) -> Vec<Finding> {
    let missed = outcome.records.iter().flat_map(|record| {
        record.checks.iter().filter(|check| check.missed_alone()).map(|check| Finding {
            variant: record.variant.clone(),
            kind: kind_of(check),
            text: format!("{} {}: {}", check.what, check.wanted, check.measured),
        })
    });
    let broken = outcome.broken.iter().map(|broken| Finding {
        variant: scenario.variants[broken.job.variant].name.clone(),
        kind: "could not be carried out".to_owned(),
        text: broken.reason.clone(),
    });
    missed.chain(broken).collect()
}

/// Windows move while a scenario shrinks, so they are no part of the kind. Nothing to measure is
/// another thing than a measure beyond its bound; of what is checked together, each is its own.
fn kind_of(check: &Check) -> String {
    match (&check.not_judged, check.unit, check.measured.split_once(": ")) {
        (Some(reason), ..) => format!("{}: {reason}", check.metric),
        (None, None, Some((name, _))) => format!("{}: {name}", check.metric),
        _ => check.metric.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn every_seed_is_a_valid_scenario(seed in any::<u64>()) {
            let text = text(seed).unwrap();
            let scenario = scenario(seed, &text);
            prop_assert!(scenario.is_ok(), "{}\n{text}", scenario.unwrap_err());
            prop_assert_eq!(super::text(seed).unwrap(), text, "the same text again");
        }
    }

    #[test]
    fn seeds_reach_all_of_the_language_that_they_may_use() {
        let all: String = (0..400).map(|seed| text(seed).unwrap()).collect();
        let words = [
            "lognormal",
            "exponential",
            "normal",
            "constant",
            "poisson",
            "workers",
            "queue",
            "cold_start",
            "groups",
            "zone",
            "priority",
            "weight",
            "calls",
            "error_rate",
            "POST",
            "deadline",
            "x-envoy-upstream-rq-timeout-ms",
            "slow",
            "hang",
            "errors",
            "refuse",
            "crash",
            "every",
            "random",
            "pick",
            "slow_by",
            "hang_new",
            "pause",
            "black_hole",
            "loss",
            "jitter",
            "fraction",
            "outlier",
            "retry_budget",
            "retry",
            "hedge",
            "concurrency",
            "circuit",
            "health_check",
            "limits",
            "max_connections",
            "per_try_timeout",
            "slow_start",
            "membership",
            "rate_limit",
            "idle_timeout",
        ];
        let strategies = proxy::policy::balance::STRATEGIES.iter().map(|strategy| strategy.name);
        for word in words.into_iter().chain(strategies) {
            assert!(all.contains(word), "{word} was never drawn");
        }
    }
}

//! Makes of a scenario that fails a small one that fails in the same way.
//!
//! The text is read as a table, and changed step by step: a fault less, a service less, half of
//! the requests, a default in place of a setting. A change stands if what comes of it is still a
//! valid scenario and still `fails`; then all steps are tried again, until none stands or the runs
//! that are granted are used up. The steps know the language and nothing of the swarm, so any
//! scenario shrinks.

use std::path::Path;

use toml::{Table, Value};

use super::steps::{self, Step};
use crate::scenario::Scenario;

/// What shrinking came to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The text of the smallest scenario that still fails.
    pub text: String,
    /// How many scenarios were tried.
    pub tried: usize,
    /// True when no step makes it smaller; else the runs were used up.
    pub is_smallest: bool,
}

/// Shrinks the scenario `text` of the file `path`. `fails` says whether a scenario fails in the
/// same way as it; it is asked `most` times at most.
pub fn shrink(
    path: &Path,
    text: &str,
    most: usize,
    fails: &mut dyn FnMut(&Scenario) -> bool,
) -> Shrunk {
    let mut shrunk = Shrunk { text: text.to_owned(), tried: 0, is_smallest: false };
    let Ok(mut table) = text.parse::<Table>() else { return shrunk };
    loop {
        let mut changed = false;
        for step in steps::ALL {
            changed |= exhaust(path, &mut table, *step, most, &mut shrunk, fails);
        }
        if shrunk.tried >= most {
            return shrunk;
        }
        if !changed {
            shrunk.is_smallest = true;
            return shrunk;
        }
    }
}

/// Takes one sort of step wherever it stands; true if it did anywhere.
fn exhaust(
    path: &Path,
    table: &mut Table,
    step: Step,
    most: usize,
    shrunk: &mut Shrunk,
    fails: &mut dyn FnMut(&Scenario) -> bool,
) -> bool {
    let mut changed = false;
    let mut nth = 0;
    while shrunk.tried < most {
        let mut candidate = table.clone();
        // Behind the last place of this step.
        if !step(&mut candidate, nth) {
            break;
        }
        let stands = candidate != *table
            && toml::to_string(&candidate).is_ok_and(|text| {
                let Ok(scenario) = Scenario::parse(path, &text) else { return false };
                shrunk.tried += 1;
                let stands = fails(&scenario);
                if stands {
                    shrunk.text = text;
                }
                stands
            });
        if stands {
            *table = candidate;
            changed = true;
            // What stood here is gone or smaller; the same place is looked at again.
        } else {
            nth += 1;
        }
    }
    changed
}

/// How large a scenario is, for tests and for people: services, instances, faults, variants,
/// settings of the sidecar.
pub fn size(table: &Table) -> [usize; 5] {
    let length = |of: &Table, key: &str| of.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    let services = table.get("services").and_then(Value::as_array);
    let services: Vec<_> = services.into_iter().flatten().filter_map(Value::as_table).collect();
    let instances = services.iter().map(|service| steps::instances(service) as usize).sum();
    let settings = table.get("sidecar").map_or(0, leaves);
    [services.len(), instances, length(table, "faults"), length(table, "variants"), settings]
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Table(table) => table.values().map(leaves).sum(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shrunk(seed: u64, fails: &mut dyn FnMut(&Scenario) -> bool) -> (Shrunk, [usize; 5]) {
        let text = super::super::text(seed).unwrap();
        let shrunk = shrink(Path::new("swarm.toml"), &text, 2000, fails);
        let size = size(&shrunk.text.parse().unwrap());
        (shrunk, size)
    }

    fn crashes(scenario: &Scenario) -> bool {
        let mut faults = scenario.file.faults.iter();
        faults.any(|fault| matches!(fault.what, crate::scenario::What::Crash))
    }

    #[test]
    fn what_does_not_matter_goes_away() {
        let has_crash = |seed: &u64| {
            let scenario = super::super::scenario(*seed, &super::super::text(*seed).unwrap());
            let scenario = scenario.unwrap();
            crashes(&scenario) && scenario.file.faults.len() > 2 && scenario.file.services.len() > 2
        };
        let seeds: Vec<_> = (0..5000).filter(has_crash).take(5).collect();
        assert_eq!(seeds.len(), 5, "such scenarios are drawn");
        for seed in seeds {
            let (shrunk, size) = shrunk(seed, &mut crashes);
            assert!(shrunk.is_smallest, "{}", shrunk.text);
            assert_eq!(size, [1, 1, 1, 1, 0], "{}", shrunk.text);
        }
    }

    #[test]
    fn what_matters_stays() {
        let mut needs = |scenario: &Scenario| {
            let budget =
                scenario.variants.iter().all(|v| v.sidecar.cluster.retry_budget.ratio > 0.3);
            budget && scenario.file.services[0].instance_count() >= 3
        };
        let fit = |seed: &u64| {
            let text = super::super::text(*seed).unwrap();
            needs(&super::super::scenario(*seed, &text).unwrap())
        };
        let seed = (0..500).find(fit).unwrap();
        let (shrunk, size) = shrunk(seed, &mut needs);
        assert_eq!(size, [1, 3, 0, 1, 1], "{}", shrunk.text);
    }

    #[test]
    fn runs_are_bounded_and_what_does_not_fail_is_left_alone() {
        let text = super::super::text(3).unwrap();
        let mut asked = 0;
        let all = shrink(Path::new("swarm.toml"), &text, 7, &mut |_| {
            asked += 1;
            true
        });
        assert_eq!((all.tried, asked, all.is_smallest), (7, 7, false));
        let none = shrink(Path::new("swarm.toml"), &text, 10_000, &mut |_| false);
        assert_eq!(none.text, text);
        assert!(none.is_smallest);
    }
}

//! What to distrust, said in words: doubts that the runs raised themselves, and those that show
//! only when the records are put beside each other.

use super::{FEW_SEEDS, ScenarioSummary};
use crate::format::{plural, seeds};
use crate::record::RunRecord;

/// Doubts about these records, each as one sentence with its remedy, the gravest first.
pub fn doubts(records: &[RunRecord], scenarios: &[ScenarioSummary]) -> Vec<String> {
    let mut doubts = Vec::new();
    unbalanced(records, &mut doubts);
    differing_plans(records, scenarios, &mut doubts);
    for scenario in scenarios {
        unpaired(scenario, &mut doubts);
        few_seeds(scenario, &mut doubts);
    }
    warnings(records, &mut doubts);
    doubts
}

fn unbalanced(records: &[RunRecord], doubts: &mut Vec<String>) {
    for record in records {
        if let Err(imbalance) = record.accounting.verify() {
            doubts.push(format!(
                "{}, {}, seed {}: {imbalance}. Its rates cannot be trusted; this is a defect of \
                 the load generator.",
                record.scenario.name, record.variant, record.seed
            ));
        }
    }
}

fn differing_plans(records: &[RunRecord], scenarios: &[ScenarioSummary], doubts: &mut Vec<String>) {
    for summary in scenarios {
        let name = &summary.scenario.name;
        let runs = || records.iter().filter(|r| r.scenario.name == *name);
        if runs().any(|r| r.scenario.text != summary.scenario.text || r.plan != summary.plan) {
            doubts.push(format!(
                "{name}: its records come from different texts of the scenario, and are compared \
                 all the same. Run all of them again from one text."
            ));
        }
        let versions = |r: &RunRecord| r.environment.meshbench.clone();
        if let Some(first) = runs().next().map(versions)
            && runs().any(|r| versions(r) != first)
        {
            doubts.push(format!(
                "{name}: its records were written by different versions of meshbench. Run all of \
                 them again with one."
            ));
        }
    }
}

fn unpaired(scenario: &ScenarioSummary, doubts: &mut Vec<String>) {
    let Some(first) = scenario.variants.first() else { return };
    if scenario.variants.iter().all(|v| v.seeds == first.seeds) {
        return;
    }
    let sets: Vec<String> =
        scenario.variants.iter().map(|v| format!("{} {}", v.label, seeds(&v.seeds))).collect();
    doubts.push(format!(
        "{}: the variants ran with different seeds ({}), so they did not meet the same arrivals. \
         Run the missing seeds.",
        scenario.scenario.name,
        sets.join("; ")
    ));
}

fn few_seeds(scenario: &ScenarioSummary, doubts: &mut Vec<String>) {
    let fewest = scenario.variants.iter().map(|v| v.seeds.len()).min().unwrap_or(0);
    if fewest >= FEW_SEEDS {
        return;
    }
    let consequence = match fewest {
        1 => "nothing is known about how far another seed would differ",
        _ => "the range over seeds is likely narrower than the truth",
    };
    doubts.push(format!(
        "{}: only {} per variant, so {consequence}. Run at least {FEW_SEEDS}.",
        scenario.scenario.name,
        plural(fewest, "seed")
    ));
}

/// The runs' own doubts; the same doubt of many runs is said once, with their number.
fn warnings(records: &[RunRecord], doubts: &mut Vec<String>) {
    let mut found: Vec<(String, usize, String)> = Vec::new();
    for record in records {
        for warning in &record.warnings {
            let doubt = warning.doubt.trim_end_matches('.');
            let remedy = warning.remedy.trim_end_matches('.');
            let place = format!("{}, {}", record.scenario.name, record.variant);
            let text = match remedy {
                "" => format!("{doubt}."),
                remedy => format!("{doubt}. Remedy: {remedy}."),
            };
            match found.iter_mut().find(|(p, _, t)| *p == place && *t == text) {
                Some((_, runs, _)) => *runs += 1,
                None => found.push((place, 1, text)),
            }
        }
    }
    let line = |(place, runs, text)| format!("{place} ({}): {text}", plural(runs, "run"));
    doubts.extend(found.into_iter().map(line));
}

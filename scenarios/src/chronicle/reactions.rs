//! How soon the mesh turned away from an endpoint at which something went wrong, and back to it.

use reports::record::Reaction;
use sim::RunResult;

use super::millis;
use crate::measure::Shares;
use crate::scenario::Scenario;

/// The first fault of each instance.
pub(super) fn of(scenario: &Scenario, result: &RunResult) -> Vec<Reaction> {
    let (names, services) = (scenario.instances(), scenario.services_of_instances());
    let end = scenario.duration();
    let reaction = |target: usize| {
        let faults = result.faults.iter().filter(|fault| fault.instance() == Some(target));
        let fault = faults.filter(|fault| fault.at < end).min_by_key(|fault| fault.at)?;
        let window = fault.at..fault.until.unwrap_or(end).min(end);
        let peers = (0..names.len()).filter(|place| services[*place] == services[target]);
        let shares = Shares::new(&result.logs, vec![target], peers.collect());
        let lasts = window.end >= end;
        let recovered = if lasts { None } else { shares.time_to_recover(window.end, end) };
        Some(Reaction {
            target: names[target].clone(),
            fault: fault.kind.to_string(),
            from_ms: millis(window.start),
            until_ms: millis(window.end),
            detected_after_ms: shares.time_to_detect(&window).map(millis),
            recovered_after_ms: recovered.map(millis),
        })
    };
    (0..names.len()).filter_map(reaction).collect()
}

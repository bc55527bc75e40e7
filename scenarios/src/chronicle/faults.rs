//! What was injected, as events of the record.

use std::time::Duration;

use reports::record::Event;
use sim::{Fault, FaultKind};

use super::millis;
use crate::scenario::Scenario;

/// Callers that are named; of more there is only the number.
const NAMED: usize = 3;

/// An event for each fault, under the name of the instance it happened to. The links of one instance
/// that had the same at the same time are one.
pub(super) fn events(scenario: &Scenario, faults: &[Fault]) -> Vec<Event> {
    let names = scenario.instances();
    // A fault without an end lasts as long as the run; without one it would be a moment.
    let until = |fault: &Fault| fault.until.unwrap_or(Duration::MAX).min(scenario.duration());
    let same = |a: &Fault, b: &Fault| {
        let links = a.link().is_some() && b.link().is_some();
        links
            && (a.at, a.until, a.instance()) == (b.at, b.until, b.instance())
            && a.kind.to_string() == b.kind.to_string()
    };
    let groups = faults.chunk_by(same);
    let events = groups.map(|group| {
        let fault = &group[0];
        let callers = group.iter().filter_map(|fault| fault.link());
        let callers: Vec<_> = callers
            .map(|link| link.caller.map_or("client", |place| names[place].as_str()))
            .collect();
        Event {
            at_ms: millis(fault.at),
            until_ms: Some(millis(until(fault))),
            kind: "fault".to_owned(),
            target: whom(&names, fault).to_owned(),
            detail: match &fault.kind {
                FaultKind::Link(_, kind) => format!("{kind}, link from {}", listed(&callers)),
                kind => kind.to_string(),
            },
        }
    });
    events.collect()
}

/// Whom a fault happens to: an instance by its name, or sidecars.
pub(crate) fn whom<'a>(names: &'a [String], fault: &Fault) -> &'a str {
    match (fault.instance(), &fault.kind) {
        (Some(place), _) => &names[place],
        (None, FaultKind::Push(_)) => "all sidecars",
        (None, _) => "the client's sidecar",
    }
}

fn listed(callers: &[&str]) -> String {
    if callers.len() > NAMED {
        return format!("{} callers", callers.len());
    }
    callers.join(", ")
}

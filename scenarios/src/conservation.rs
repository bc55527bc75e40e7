//! The check that every run has to pass: no request and no attempt appears from nowhere. Pure.
//!
//! The client's books balance. What a sidecar says it received is what its caller sent; what it
//! says it placed on instances is what it received, and the retries and hedges that it owns up to;
//! and the instances' own logs have as many arrivals as sidecars say they placed on them. Where
//! callers cancel, connections break or processes die, a request may end on its way, so each step
//! may then have seen fewer than the one before it, and never more. Each sidecar's own books have to
//! balance in any case.

use std::collections::BTreeSet;

use loadgen::Accounting;
use reports::record::Check;
use sim::RunResult;
use sim::backend::{End, LogEntry};
use sim::world::SidecarBooks;

use crate::scenario::Scenario;

/// Compares the books of all who saw the requests of one run.
pub fn check(scenario: &Scenario, accounting: &Accounting, result: &RunResult) -> Check {
    let undisturbed = is_undisturbed(scenario, accounting, result);
    let services = scenario.services_of_instances();
    let steps = scenario.file.services.iter().enumerate().map(|(service, written)| {
        let of_service = |books: &&SidecarBooks| books.service == service;
        let callers: Vec<_> = result.sidecars.iter().filter(of_service).collect();
        let sum = |of: fn(&SidecarBooks) -> u64| callers.iter().map(|books| of(books)).sum();
        let sent_by = |caller: Option<usize>| match caller {
            None => accounting.sent,
            Some(backend) => result.calls[backend].get(&service).copied().unwrap_or_default(),
        };
        let logs = result.logs.iter().zip(&services).filter(|(_, of)| **of == service);
        Step {
            name: written.name.get_ref().clone(),
            // Clients have their books in common.
            sent: callers
                .iter()
                .map(|books| books.caller)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .map(sent_by)
                .sum(),
            received: sum(|books| books.requests),
            again: sum(|books| books.retries + books.hedges + books.replays),
            placed: sum(|books| books.placed.iter().sum()),
            arrived: logs.map(|(log, _)| log.len() as u64).sum(),
        }
    });
    let steps: Vec<_> = steps.collect();
    let agree = steps.iter().all(|step| step.agrees(undisturbed));
    let imbalance = accounting.verify().err().map(|imbalance| imbalance.to_string());
    let imbalance = imbalance.or_else(|| of_a_sidecar(scenario, &result.sidecars));
    let balanced = imbalance.is_none();
    let words = || steps.iter().map(|step| step.words(steps.len() > 1)).collect::<Vec<_>>();
    let measured = imbalance.unwrap_or_else(|| words().join("; "));
    Check {
        metric: "conservation".to_owned(),
        what: "requests at the client, the sidecar (in and out) and the instances".to_owned(),
        wanted: if undisturbed { "all equal" } else { "none appears on the way" }.to_owned(),
        measured,
        held: agree && balanced,
        ..Check::default()
    }
}

/// What does not add up in the first sidecar whose own books do not balance.
fn of_a_sidecar(scenario: &Scenario, sidecars: &[SidecarBooks]) -> Option<String> {
    let (books, imbalance) =
        sidecars.iter().find_map(|books| Some((books, books.imbalance.as_ref()?)))?;
    let whose = match books.caller {
        None => "the client".to_owned(),
        Some(backend) => scenario.instances().swap_remove(backend),
    };
    Some(format!("the sidecar of {whose}: {imbalance}"))
}

/// True when nothing was broken off and nobody answered in another's place, so that every step has
/// seen what the one before it has.
fn is_undisturbed(scenario: &Scenario, accounting: &Accounting, result: &RunResult) -> bool {
    let answered = accounting.ok + accounting.late + accounting.status == accounting.planned;
    let whole = |entry: &LogEntry| matches!(entry.end, Some((End::Answered(_), _)));
    let well = |entry: &LogEntry| match entry.end {
        Some((End::Answered(status), _)) => status.is_success(),
        _ => false,
    };
    let mut entries = result.logs.iter().flatten();
    // An instance whose work failed may or may not have come to its call.
    let ended =
        if scenario.file.services.len() == 1 { entries.all(whole) } else { entries.all(well) };
    answered && ended && result.flagged.is_empty()
}

/// The way to one service.
struct Step {
    name: String,
    sent: u64,
    received: u64,
    /// Retries and hedges.
    again: u64,
    placed: u64,
    arrived: u64,
}

impl Step {
    fn agrees(&self, undisturbed: bool) -> bool {
        let Step { sent, received, again, placed, arrived, .. } = *self;
        if undisturbed {
            // A retry may stand for an attempt that was refused, and so arrived nowhere.
            let all_arrived = placed.saturating_sub(again) <= arrived && arrived <= placed;
            sent == received && received + again == placed && all_arrived
        } else {
            sent >= received && received + again >= placed && placed >= arrived
        }
    }

    fn words(&self, named: bool) -> String {
        let Step { name, sent, received, again, placed, arrived } = self;
        let of = if named { format!("{name}: ") } else { String::new() };
        let again = if *again > 0 { format!(" and {again} again") } else { String::new() };
        format!("{of}{sent} sent, {received} received{again}, {placed} placed, {arrived} arrived")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_appear_and_undisturbed_nothing_may_vanish() {
        let step = |sent, received, again, placed, arrived| Step {
            name: String::new(),
            sent,
            received,
            again,
            placed,
            arrived,
        };
        assert!(step(9, 9, 2, 11, 11).agrees(true));
        assert!(step(9, 9, 2, 11, 9).agrees(true), "two attempts were refused");
        for vanished in [step(9, 8, 2, 10, 10), step(9, 9, 2, 10, 10), step(9, 9, 2, 11, 8)] {
            assert!(vanished.agrees(false) && !vanished.agrees(true));
        }
        for appeared in [step(9, 10, 0, 9, 9), step(9, 9, 0, 10, 10), step(9, 9, 1, 10, 11)] {
            assert!(!appeared.agrees(false) && !appeared.agrees(true));
        }
    }
}

//! How soon the mesh turned away from an endpoint at which something went wrong, and back to it.

use std::time::Duration;

use reports::record::Reaction;
use sim::world::SidecarBooks;
use sim::{Fault, RunResult};

use super::millis;
use crate::measure::Shares;
use crate::scenario::{Scenario, Window};

/// The first fault of each instance, with those that follow it at once.
pub(super) fn of(scenario: &Scenario, result: &RunResult) -> Vec<Reaction> {
    let (names, services) = (scenario.instances(), scenario.services_of_instances());
    let end = scenario.duration();
    let reaction = |target: usize| {
        let of_service = |books: &&SidecarBooks| books.service == services[target];
        let callers = result.sidecars.iter().filter(of_service).count();
        // A link that fails for one of several callers is no reason for the others to leave.
        let is_for_all = |fault: &&Fault| fault.link().is_none() || callers == 1;
        let faults = result.faults.iter().filter(|fault| fault.instance() == Some(target));
        let faults = faults.filter(is_for_all).filter(|fault| fault.at < end);
        let mut faults: Vec<_> =
            faults.map(|fault| (fault.at, fault.until.unwrap_or(end).min(end), fault)).collect();
        faults.sort_by_key(|(at, until, _)| (*at, *until));
        let (_, _, first) = faults.first()?;
        let windows: Vec<Window> = faults.iter().map(|(at, until, _)| *at..*until).collect();
        let (window, next) = first_of(&windows)?;
        let peers: Vec<usize> =
            (0..names.len()).filter(|place| services[*place] == services[target]).collect();
        let shares = Shares::sent(&result.sayings, &[target], &peers);
        let watched_until = next.unwrap_or(end);
        let lasts = window.end >= end;
        let recovered =
            if lasts { None } else { shares.time_to_recover(window.end, watched_until) };
        Some(Reaction {
            target: names[target].clone(),
            fault: first.kind.to_string(),
            from_ms: millis(window.start),
            until_ms: millis(window.end),
            watched_until_ms: Some(millis(watched_until)),
            detected_after_ms: shares.time_to_detect(&window).map(millis),
            recovered_after_ms: recovered.map(millis),
        })
    };
    (0..names.len()).filter_map(reaction).collect()
}

/// Faults that are this near to each other are one: no mesh could have turned back in between.
const NEAR: Duration = Duration::from_secs(1);

/// The time of the first of these, in order of their begins, with those that follow at once; and when
/// the next one begins, which ends what can be seen of the first.
fn first_of(windows: &[Window]) -> Option<(Window, Option<Duration>)> {
    let (first, rest) = windows.split_first()?;
    let mut whole = first.clone();
    for window in rest {
        if window.start > whole.end + NEAR {
            return Some((whole, Some(window.start)));
        }
        whole.end = whole.end.max(window.end);
    }
    Some((whole, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: u64, until: u64) -> Window {
        Duration::from_secs(from)..Duration::from_secs(until)
    }

    #[test]
    fn faults_that_follow_at_once_are_one_and_the_next_ends_what_is_seen() {
        assert_eq!(first_of(&[]), None);
        assert_eq!(first_of(&[window(1, 2)]), Some((window(1, 2), None)));
        let apart = first_of(&[window(1, 2), window(5, 6), window(9, 10)]);
        assert_eq!(apart, Some((window(1, 2), Some(Duration::from_secs(5)))));
        let near = [window(1, 4), window(2, 3), window(5, 6), window(6, 7), window(20, 21)];
        assert_eq!(first_of(&near), Some((window(1, 7), Some(Duration::from_secs(20)))));
    }
}

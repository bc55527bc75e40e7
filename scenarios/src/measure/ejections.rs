//! Ejections against the faults that were injected. Pure.
//!
//! This is the one place where something is measured of what the sidecars say of themselves: when
//! they took which instance out. What is true is what was injected; that requests then kept away is
//! measured from the backends' arrivals, by `time_to_detect` and `arrivals`.

use std::time::Duration;

use sim::world::SidecarEvent;

use super::Measured;
use super::scope::Scope;
use crate::scenario::Window;

/// What was sent while a fault lasted may come back after its end, and be counted against the
/// instance: a few round trips, or the time of a slow answer.
const AFTERMATH: Duration = Duration::from_secs(2);

/// How often a target was taken out in the window, by any sidecar.
pub(super) fn count(scope: &Scope<'_>) -> usize {
    ejections(scope).filter(|(_, at)| scope.window.contains(at)).count()
}

/// The part of those that were right: of an instance with a fault, or with one that has just ended.
pub(super) fn precision(scope: &Scope<'_>) -> Measured {
    let faults = faults(scope);
    let right = |(place, at): &(usize, Duration)| {
        faults.iter().any(|(of, fault)| of == place && reach(fault).contains(at))
    };
    let all: Vec<_> = ejections(scope).filter(|(_, at)| scope.window.contains(at)).collect();
    let hits = all.iter().filter(|ejection| right(ejection)).count();
    let share = (!all.is_empty()).then(|| hits as f64 / all.len() as f64);
    Measured::or(share, "nothing was ejected then")
}

/// The part of the faults that began in the window, each instance and each repetition for itself,
/// in which the instance was taken out, or was out already.
pub(super) fn recall(scope: &Scope<'_>) -> Measured {
    let begun = |(_, fault): &(usize, Window)| scope.window.contains(&fault.start);
    let faults: Vec<_> = faults(scope).into_iter().filter(begun).collect();
    let answered = |(place, fault): &(usize, Window)| {
        let during = ejections(scope).any(|(of, at)| of == *place && reach(fault).contains(&at));
        during || is_out(scope, *place, fault.start)
    };
    let hits = faults.iter().filter(|fault| answered(fault)).count();
    let share = (!faults.is_empty()).then(|| hits as f64 / faults.len() as f64);
    Measured::or(share, "no fault began then")
}

/// When an ejection may be this fault's.
fn reach(fault: &Window) -> Window {
    fault.start..fault.end + AFTERMATH
}

/// The targets that were taken out, and when.
fn ejections<'a>(scope: &'a Scope<'_>) -> impl Iterator<Item = (usize, Duration)> + 'a {
    let ejected = scope.result.sidecar_events.iter().filter(|event| event.kind == "ejected");
    ejected.filter_map(|event| Some((target(scope, event)?, event.at)))
}

/// Whether some sidecar that had taken an instance out had not let it return by then.
fn is_out(scope: &Scope<'_>, place: usize, at: Duration) -> bool {
    let before = scope.result.sidecar_events.iter().filter(|event| event.at < at);
    let of_it = before.filter(|event| target(scope, event) == Some(place));
    let mut kinds = of_it.map(|event| event.kind);
    kinds.rfind(|kind| ["ejected", "returned"].contains(kind)) == Some("ejected")
}

fn target(scope: &Scope<'_>, event: &SidecarEvent) -> Option<usize> {
    scope.targets().find(|&place| scope.names[place] == event.target)
}

/// The targets' faults, each repetition for itself.
fn faults(scope: &Scope<'_>) -> Vec<(usize, Window)> {
    let end = scope.scenario.duration();
    let window = |fault: &sim::Fault| fault.at..fault.until.unwrap_or(end).min(end);
    let of_targets = scope.result.faults.iter().filter_map(|fault| {
        let place = fault.instance().filter(|&place| scope.is_target(place))?;
        Some((place, window(fault)))
    });
    of_targets.collect()
}

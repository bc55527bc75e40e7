//! What instances were busy with: work for nothing, utilisation, and how much at a time. Pure.

use std::time::Duration;

use sim::backend::{End, LogEntry};
use sim::{FaultKind, InstanceFault};

use super::deadline::Deadline;
use super::scope::Scope;
use super::{Measured, NONE_ARRIVED};
use crate::scenario::{Variant, Window};

/// The part of the targets' work time that nobody could use: its caller had left before the answer,
/// or the answer came after the time of its request was up.
///
/// Work is counted from its start, without the wait for a worker. What a crash ended is lost, but
/// not for nothing, and counts as work like any other.
pub(super) fn wasted(scope: &Scope<'_>, variant: &Variant) -> Measured {
    let deadline = Deadline::new(scope, variant);
    let (mut all, mut wasted) = (Duration::ZERO, Duration::ZERO);
    for entry in scope.arrivals() {
        let Some(started) = entry.started else { continue };
        let time = scope.ended(entry).saturating_sub(started);
        all += time;
        let cancelled = matches!(entry.end, Some((End::Cancelled, _)));
        let late = entry.index.and_then(|index| deadline.of_use_until(index));
        if cancelled || late.is_some_and(|until| scope.ended(entry) > until) {
            wasted += time;
        }
    }
    let share = (!all.is_zero()).then(|| wasted.as_secs_f64() / all.as_secs_f64());
    Measured::or(share, "no work was done then")
}

/// Jain's index of the utilisations: (Σu)² / (n·Σu²).
pub(super) fn jain(scope: &Scope<'_>) -> Measured {
    of_utilisation(scope, |all| {
        let (sum, squares) = (all.iter().sum::<f64>(), all.iter().map(|u| u * u).sum::<f64>());
        sum * sum / (all.len() as f64 * squares)
    })
}

/// The largest utilisation over the mean.
pub(super) fn max_over_mean(scope: &Scope<'_>) -> Measured {
    of_utilisation(scope, |all| {
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        all.iter().copied().fold(0.0, f64::max) / mean
    })
}

fn of_utilisation(scope: &Scope<'_>, number: impl Fn(&[f64]) -> f64) -> Measured {
    // Without a choice, the service that the client calls: those of several have nothing in common.
    let said = scope.targets().count() < scope.names.len();
    let chosen = scope.targets().filter(|&place| said || scope.services[place] == 0);
    let all: Vec<f64> = chosen.filter_map(|place| utilisation(scope, place)).collect();
    if all.len() < 2 {
        return Measured::Nothing("fewer than two instances were there".to_owned());
    }
    let busy = all.iter().any(|utilisation| *utilisation > 0.0);
    Measured::or(busy.then(|| number(&all)), NONE_ARRIVED)
}

/// Busy time over the capacity that was there: workers, while the process lives. With any number of
/// workers it is the mean number of requests in work. `None` when it was down all the time.
fn utilisation(scope: &Scope<'_>, place: usize) -> Option<f64> {
    let window = &scope.window;
    let busy = |entry: &LogEntry| {
        entry.started.map_or(Duration::ZERO, |at| overlap(&(at..scope.ended(entry)), window))
    };
    let busy: Duration = scope.result.logs[place].iter().map(busy).sum();
    let end = scope.scenario.duration();
    let crash = FaultKind::Instance(place, InstanceFault::Crash);
    let crashes = scope.result.faults.iter().filter(|fault| fault.kind == crash);
    let down: Duration =
        crashes.map(|fault| overlap(&(fault.at..fault.until.unwrap_or(end)), window)).sum();
    let up = (window.end - window.start).saturating_sub(down);
    let service = &scope.scenario.file.services[scope.services[place]];
    let capacity = up.as_secs_f64() * service.workers.unwrap_or(1) as f64;
    (capacity > 0.0).then(|| busy.as_secs_f64() / capacity)
}

/// The most requests that one of the targets had in the window, queueing included.
pub(super) fn peak_in_work(scope: &Scope<'_>) -> Option<usize> {
    let at_one = |place: usize| {
        let log = scope.result.logs[place].iter();
        most_at_a_time(log.map(|entry| (entry.arrived, scope.ended(entry))), &scope.window)
    };
    scope.targets().filter_map(at_one).max()
}

/// How many of these spans there were at a time in the window, at most; `None` if none was there.
pub(super) fn most_at_a_time(
    spans: impl Iterator<Item = (Duration, Duration)>,
    window: &Window,
) -> Option<usize> {
    let mut changes: Vec<(Duration, bool)> = Vec::new();
    for (begin, end) in spans.filter(|(begin, end)| *begin < window.end && *end >= window.start) {
        changes.extend([(begin.max(window.start), true), (end.min(window.end), false)]);
    }
    // One that ends makes room for one that begins at the same time.
    changes.sort_unstable();
    let (mut now, mut most) = (0_usize, None);
    for (_, begins) in changes {
        // A span without length begins after it ended.
        now = if begins { now + 1 } else { now.saturating_sub(1) };
        most = most.max(Some(now.max(1)));
    }
    most
}

fn overlap(a: &Window, b: &Window) -> Duration {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn spans_are_counted_while_they_overlap_in_the_window() {
        let most = |spans: &[(u64, u64)], window: Window| {
            most_at_a_time(spans.iter().map(|(a, b)| (ms(*a), ms(*b))), &window)
        };
        let spans = [(0, 10), (5, 15), (10, 20), (12, 14)];
        assert_eq!(most(&spans, ms(0)..ms(30)), Some(3));
        assert_eq!(most(&spans, ms(0)..ms(10)), Some(2));
        assert_eq!(most(&spans, ms(16)..ms(30)), Some(1));
        assert_eq!(most(&spans, ms(25)..ms(30)), None);
        assert_eq!(most(&[(0, 5), (5, 9)], ms(0)..ms(30)), Some(1));
    }
}

//! Shares as they change: peaks, and how long a change takes. Pure.
//!
//! Shares are taken over a second, which is as short as a share of a few dozen requests means
//! anything; a second that begins every tenth of one is looked at, so that what happens across the
//! edge of two seconds is seen too.

use std::time::Duration;

use super::Scope;
use crate::scenario::Window;

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

/// Fewer arrivals than this in a second have no share worth the name.
const FEWEST: usize = 10;

/// How many arrivals at the targets and at their peers in each tenth of a second of a time.
struct Tenths {
    start: Duration,
    at_targets: Vec<usize>,
    at_peers: Vec<usize>,
}

impl Tenths {
    fn of(scope: &Scope<'_>, window: &Window) -> Self {
        let count = window.end.saturating_sub(window.start).as_millis() / STEP.as_millis();
        let count = count as usize;
        let mut new =
            Self { start: window.start, at_targets: vec![0; count], at_peers: vec![0; count] };
        for place in scope.peers() {
            let is_target = scope.is_target(place);
            for entry in &scope.result.logs[place] {
                let Some(since) = entry.arrived.checked_sub(window.start) else { continue };
                let tenth = (since.as_millis() / STEP.as_millis()) as usize;
                if tenth < count {
                    new.at_peers[tenth] += 1;
                    new.at_targets[tenth] += usize::from(is_target);
                }
            }
        }
        new
    }

    /// Each whole second with enough arrivals: when it begins, and the targets' share.
    fn shares(&self) -> impl DoubleEndedIterator<Item = (Duration, f64)> {
        let seconds = self.at_targets.windows(10).zip(self.at_peers.windows(10)).enumerate();
        seconds.filter_map(|(place, (targets, peers))| {
            let all = peers.iter().sum::<usize>();
            let share = targets.iter().sum::<usize>() as f64 / all as f64;
            (all >= FEWEST).then(|| (self.start + STEP * place as u32, share))
        })
    }
}

/// The largest share of any second in the window.
pub(super) fn peak_share(scope: &Scope<'_>) -> Option<f64> {
    let tenths = Tenths::of(scope, &scope.window);
    tenths.shares().map(|(_, share)| share).max_by(f64::total_cmp)
}

/// From the begin of the targets' first fault until the first second from which on their share
/// stays below half of a fair one; `None` when it is not so before the fault ends.
pub(super) fn time_to_detect(scope: &Scope<'_>) -> Option<Duration> {
    let fault = fault(scope)?;
    let limit = fair_share(scope) / 2.0;
    let tenths = Tenths::of(scope, &fault);
    let (last, _) = tenths.shares().next_back()?;
    match tenths.shares().rfind(|(_, share)| *share >= limit) {
        None => Some(Duration::ZERO),
        Some((at, _)) if at == last => None,
        Some((at, _)) => Some(at + STEP - fault.start),
    }
}

/// From the end of the targets' first fault until the first second in which their share is at
/// least half of a fair one; `None` when there is none.
pub(super) fn time_to_recover(scope: &Scope<'_>) -> Option<Duration> {
    let end = fault(scope)?.end;
    let limit = fair_share(scope) / 2.0;
    let tenths = Tenths::of(scope, &(end..scope.scenario.duration() + SECOND));
    let (at, _) = tenths.shares().find(|(_, share)| *share >= limit)?;
    Some(at - end)
}

/// What the targets would get if all of their services' instances got the same.
fn fair_share(scope: &Scope<'_>) -> f64 {
    scope.targets().count() as f64 / scope.peers().count() as f64
}

/// The first time that something goes wrong with one of the targets.
fn fault(scope: &Scope<'_>) -> Option<Window> {
    let end = scope.scenario.duration();
    let faults = scope.result.faults.iter().filter(|fault| scope.is_target(fault.instance()));
    faults
        .map(|fault| fault.at..fault.until.unwrap_or(end).min(end))
        .min_by_key(|window| window.start)
}

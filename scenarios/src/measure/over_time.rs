//! Shares as they change: peaks, and how long a change takes. Pure.
//!
//! Shares are taken over a second, which is as short as a share of a few dozen requests means
//! anything; a second that begins every tenth of one is looked at, so that what happens across the
//! edge of two seconds is seen too.

use std::time::Duration;

use sim::backend::LogEntry;

use super::Measured;
use super::scope::Scope;
use crate::scenario::Window;

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

/// Fewer arrivals than this in a second have no share worth the name.
const FEWEST: usize = 10;

/// The arrivals at some instances, and at all instances of their services.
pub(crate) struct Shares<'a> {
    logs: &'a [Vec<LogEntry>],
    /// The places of the instances whose share it is.
    targets: Vec<usize>,
    /// The places of those among which it is a share, the targets included.
    peers: Vec<usize>,
}

/// How many arrivals at the targets and at their peers in each tenth of a second of a time.
struct Tenths {
    start: Duration,
    at_targets: Vec<usize>,
    at_peers: Vec<usize>,
}

impl Tenths {
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

impl<'a> Shares<'a> {
    pub(crate) fn new(logs: &'a [Vec<LogEntry>], targets: Vec<usize>, peers: Vec<usize>) -> Self {
        Self { logs, targets, peers }
    }

    fn tenths(&self, window: &Window) -> Tenths {
        let count = window.end.saturating_sub(window.start).as_millis() / STEP.as_millis();
        let count = count as usize;
        let mut new =
            Tenths { start: window.start, at_targets: vec![0; count], at_peers: vec![0; count] };
        for place in &self.peers {
            let is_target = self.targets.contains(place);
            for entry in &self.logs[*place] {
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

    /// What the targets would get if all of their services' instances got the same.
    fn fair(&self) -> f64 {
        self.targets.len() as f64 / self.peers.len() as f64
    }

    /// Whether some second of the window has enough arrivals.
    fn are_there(&self, window: &Window) -> bool {
        self.tenths(window).shares().next().is_some()
    }

    /// The largest share of any second in the window.
    fn peak(&self, window: &Window) -> Option<f64> {
        self.tenths(window).shares().map(|(_, share)| share).max_by(f64::total_cmp)
    }

    /// From the begin of a fault until the first second from which on the targets' share stays
    /// below half of a fair one; `None` when it is not so before the fault ends.
    pub(crate) fn time_to_detect(&self, fault: &Window) -> Option<Duration> {
        let limit = self.fair() / 2.0;
        let tenths = self.tenths(fault);
        let (last, _) = tenths.shares().next_back()?;
        match tenths.shares().rfind(|(_, share)| *share >= limit) {
            None => Some(Duration::ZERO),
            Some((at, _)) if at == last => None,
            Some((at, _)) => Some(at + STEP - fault.start),
        }
    }

    /// From the end of a fault until the first second in which the targets' share is at least half
    /// of a fair one; `None` when there is none before the run ends at `end`.
    pub(crate) fn time_to_recover(&self, fault_end: Duration, end: Duration) -> Option<Duration> {
        let limit = self.fair() / 2.0;
        let tenths = self.tenths(&(fault_end..end + SECOND));
        let (at, _) = tenths.shares().find(|(_, share)| *share >= limit)?;
        Some(at - fault_end)
    }
}

const TOO_FEW: &str = "no second of it has enough requests for a share";
const NO_FAULT: &str = "nothing went wrong there";

/// The largest share of any second in the window.
pub(super) fn peak_share(scope: &Scope<'_>) -> Measured {
    Measured::or(shares(scope).peak(&scope.window), TOO_FEW)
}

/// By the targets' first fault; never when it ends first.
pub(super) fn time_to_detect(scope: &Scope<'_>) -> Measured {
    let Some(fault) = fault(scope) else { return Measured::Nothing(NO_FAULT.to_owned()) };
    let shares = shares(scope);
    or_never(shares.time_to_detect(&fault), shares.are_there(&fault))
}

/// By the targets' first fault; never when the run ends first.
pub(super) fn time_to_recover(scope: &Scope<'_>) -> Measured {
    let Some(fault) = fault(scope) else { return Measured::Nothing(NO_FAULT.to_owned()) };
    let (shares, end) = (shares(scope), scope.scenario.duration());
    let there = shares.are_there(&(fault.end..end + SECOND));
    or_never(shares.time_to_recover(fault.end, end), there)
}

/// What did not happen although there was something to see it by never did.
fn or_never(time: Option<Duration>, there: bool) -> Measured {
    match time {
        None if there => Measured::Never,
        time => Measured::or(time.map(|time| time.as_secs_f64()), TOO_FEW),
    }
}

fn shares<'a>(scope: &Scope<'a>) -> Shares<'a> {
    Shares::new(&scope.result.logs, scope.targets().collect(), scope.peers().collect())
}

/// The first time that something goes wrong with one of the targets.
fn fault(scope: &Scope<'_>) -> Option<Window> {
    let end = scope.scenario.duration();
    let faults = scope.result.faults.iter();
    let hits = |fault: &&sim::Fault| fault.instance().is_some_and(|place| scope.is_target(place));
    faults
        .filter(hits)
        .map(|fault| fault.at..fault.until.unwrap_or(end).min(end))
        .min_by_key(|window| window.start)
}

//! Shares as they change: peaks, and how long a change takes. Pure.
//!
//! For a verdict, they are shares of what arrived at the instances; for a report, of what was sent to
//! them, which an instance that is down knows nothing of.
//!
//! Shares are taken over a second, which is as short as a share of a few dozen requests means
//! anything; a second that begins every tenth of one is looked at, so that what happens across the
//! edge of two seconds is seen too.

use std::time::Duration;

use sim::backend::LogEntry;
use sim::world::{Said, Saying};

use super::Measured;
use super::scope::Scope;
use crate::scenario::Window;

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

/// Fewer arrivals than this in a second have no share worth the name.
const FEWEST: usize = 10;

/// For how long a share has to stay low before the mesh has turned away: by chance, a share of a few
/// dozen requests is low for a second now and then.
const SUSTAINED: Duration = Duration::from_secs(3);

/// When requests came to some instances, and to all instances of their services.
pub(crate) struct Shares {
    to_targets: Vec<Duration>,
    to_peers: Vec<Duration>,
    /// What the targets would get if all of their services' instances got the same.
    fair: f64,
}

/// How many requests came to the targets and to their peers in each tenth of a second of a time.
struct Tenths {
    start: Duration,
    to_targets: Vec<usize>,
    to_peers: Vec<usize>,
}

impl Tenths {
    /// Each whole second with enough requests: when it begins, and the targets' share.
    fn shares(&self) -> impl DoubleEndedIterator<Item = (Duration, f64)> {
        let seconds = self.to_targets.windows(10).zip(self.to_peers.windows(10)).enumerate();
        seconds.filter_map(|(place, (targets, peers))| {
            let all = peers.iter().sum::<usize>();
            let share = targets.iter().sum::<usize>() as f64 / all as f64;
            (all >= FEWEST).then(|| (self.start + STEP * place as u32, share))
        })
    }
}

impl Shares {
    /// By what the sidecars sent: `targets` and `peers` are places of instances, the targets among
    /// the peers. What is sent to an instance that is down arrives nowhere, and is sent all the same.
    pub(crate) fn sent(sayings: &[Saying], targets: &[usize], peers: &[usize]) -> Self {
        let sent = |places: &[usize]| {
            let to = |saying: &Saying| match saying.said {
                Said::Placed { backend, .. } if places.contains(&backend) => Some(saying.at),
                _ => None,
            };
            sayings.iter().filter_map(to).collect()
        };
        let fair = targets.len() as f64 / peers.len() as f64;
        Self { to_targets: sent(targets), to_peers: sent(peers), fair }
    }

    /// By what arrived, as [`sent`](Self::sent).
    fn arrived(logs: &[Vec<LogEntry>], targets: &[usize], peers: &[usize]) -> Self {
        let arrived = |places: &[usize]| {
            places.iter().flat_map(|place| &logs[*place]).map(|entry| entry.arrived).collect()
        };
        let fair = targets.len() as f64 / peers.len() as f64;
        Self { to_targets: arrived(targets), to_peers: arrived(peers), fair }
    }

    fn tenths(&self, window: &Window) -> Tenths {
        let count = window.end.saturating_sub(window.start).as_millis() / STEP.as_millis();
        let counted = |times: &[Duration]| {
            let mut tenths = vec![0; count as usize];
            for time in times.iter().filter_map(|time| time.checked_sub(window.start)) {
                let tenth = (time.as_millis() / STEP.as_millis()) as usize;
                tenths.get_mut(tenth).into_iter().for_each(|tenth| *tenth += 1);
            }
            tenths
        };
        let (to_targets, to_peers) = (counted(&self.to_targets), counted(&self.to_peers));
        Tenths { start: window.start, to_targets, to_peers }
    }

    /// Whether some second of the window has enough arrivals.
    fn are_there(&self, window: &Window) -> bool {
        self.tenths(window).shares().next().is_some()
    }

    /// The largest share of any second in the window.
    fn peak(&self, window: &Window) -> Option<f64> {
        self.tenths(window).shares().map(|(_, share)| share).max_by(f64::total_cmp)
    }

    /// From the begin of a fault until the first second in which the targets' share is below half
    /// of a fair one, and stays there for [`SUSTAINED`], or to the end of a fault that is shorter;
    /// `None` when there is none before the fault ends.
    pub(crate) fn time_to_detect(&self, fault: &Window) -> Option<Duration> {
        let limit = self.fair / 2.0;
        let shares: Vec<_> = self.tenths(fault).shares().collect();
        let sustained = SUSTAINED.min(fault.end.saturating_sub(fault.start));
        let stays = |begin: Duration| {
            let end = begin + sustained;
            let within = |(at, _): &&(Duration, f64)| *at >= begin && *at + SECOND <= end;
            end <= fault.end && shares.iter().filter(within).all(|(_, share)| *share < limit)
        };
        let (at, _) = shares.iter().find(|(at, share)| *share < limit && stays(*at))?;
        Some(*at - fault.start)
    }

    /// From the end of a fault until the first second in which the targets' share is at least half
    /// of a fair one; `None` when there is none before the run ends at `end`.
    pub(crate) fn time_to_recover(&self, fault_end: Duration, end: Duration) -> Option<Duration> {
        let limit = self.fair / 2.0;
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

fn shares(scope: &Scope<'_>) -> Shares {
    let (targets, peers): (Vec<_>, Vec<_>) = (scope.targets().collect(), scope.peers().collect());
    Shares::arrived(&scope.result.logs, &targets, &peers)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One request every 20 ms, to each of two instances in turn, for 20 s; `skips` says when the
    /// first one gets none.
    fn shares(skips: impl Fn(u64) -> bool) -> Shares {
        let every = |offset: u64| (0..20_000).step_by(40).map(move |ms| ms + offset);
        let to_targets: Vec<_> =
            every(0).filter(|ms| !skips(*ms)).map(Duration::from_millis).collect();
        let others = every(20).map(Duration::from_millis);
        let to_peers = to_targets.iter().copied().chain(others).collect();
        Shares { to_targets, to_peers, fair: 0.5 }
    }

    fn seconds(from: u64, until: u64) -> Window {
        Duration::from_secs(from)..Duration::from_secs(until)
    }

    #[test]
    fn a_low_second_is_chance_and_three_are_an_answer() {
        let fault = seconds(5, 15);
        assert_eq!(shares(|_| false).time_to_detect(&fault), None);
        assert_eq!(shares(|ms| (7_000..8_500).contains(&ms)).time_to_detect(&fault), None);
        // At the end of a fault nothing tells a chance from an answer.
        assert_eq!(shares(|ms| ms >= 14_000).time_to_detect(&fault), None);
        let away = shares(|ms| (7_000..15_000).contains(&ms));
        // A share of a quarter is 25 of 50 less a third of them, which 660 ms without requests are.
        let took = away.time_to_detect(&fault).expect("it stayed away");
        assert!((Duration::from_millis(1600)..=Duration::from_millis(1800)).contains(&took));
        // Of a fault that is shorter than that, all of it has to be low.
        let short = seconds(5, 7);
        let away = shares(|ms| (5_000..7_000).contains(&ms));
        assert_eq!(away.time_to_detect(&short), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_sent_to_the_dead_is_sent() {
        let placed = |ms: u64, backend: usize| Saying {
            index: ms,
            sidecar: 0,
            at: Duration::from_millis(ms),
            said: Said::Placed { backend, kind: "first" },
        };
        let sayings: Vec<_> =
            (0..10_000).step_by(20).map(|ms| placed(ms, (ms / 20 % 2) as usize)).collect();
        let fault = seconds(2, 8);
        assert_eq!(Shares::sent(&sayings, &[0], &[0, 1]).time_to_detect(&fault), None);
        // Its log knows nothing of them.
        let logs = vec![
            Vec::new(),
            sayings
                .iter()
                .filter(|s| s.index / 20 % 2 == 1)
                .map(|s| LogEntry { index: Some(s.index), arrived: s.at, started: None, end: None })
                .collect(),
        ];
        let arrived = Shares::arrived(&logs, &[0], &[0, 1]);
        assert_eq!(arrived.time_to_detect(&fault), Some(Duration::ZERO));
    }
}

//! A backend's log, and what it knows of its own recent speed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use http::StatusCode;

/// One line of a backend's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The request's index in the plan, if it carried one.
    pub index: Option<u64>,
    /// When it arrived, from the start of the run.
    pub arrived: Duration,
    /// When work on it began; `None` if it never did.
    pub started: Option<Duration>,
    /// How and when it ended; `None` while it is being worked on.
    pub end: Option<(End, Duration)>,
}

/// How a request ended at the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was answered with this status.
    Answered(StatusCode),
    /// The caller left before it was answered.
    Cancelled,
    /// The process died.
    Crashed,
}

/// Receives each entry of a log when it is complete.
pub type LogSink = Box<dyn FnMut(&LogEntry) + Send>;

/// Requests that are here, and what is remembered of those that were.
pub(super) struct Journal {
    /// By a number of ours, in order of arrival, with the requests that were here at its arrival.
    open: BTreeMap<u64, (LogEntry, usize)>,
    next: u64,
    speed: Speed,
    sink: LogSink,
}

impl Journal {
    pub(super) fn new(sink: LogSink) -> Self {
        Self { open: BTreeMap::new(), next: 0, speed: Speed::default(), sink }
    }

    /// A request has arrived; returns its number.
    pub(super) fn begin(&mut self, index: Option<u64>, now: Duration) -> u64 {
        let number = self.next;
        self.next += 1;
        let entry = LogEntry { index, arrived: now, started: None, end: None };
        self.open.insert(number, (entry, self.open.len()));
        number
    }

    pub(super) fn started(&mut self, number: u64, now: Duration) {
        if let Some((entry, _)) = self.open.get_mut(&number) {
            entry.started = Some(now);
        }
    }

    pub(super) fn end(&mut self, number: u64, end: End, now: Duration) {
        let Some((mut entry, beside)) = self.open.remove(&number) else { return };
        entry.end = Some((end, now));
        if matches!(end, End::Answered(status) if !status.is_server_error()) {
            self.speed.note(beside, now.saturating_sub(entry.arrived));
        }
        (self.sink)(&entry);
    }

    /// Requests that are here, in order of arrival.
    pub(super) fn open(&self) -> impl Iterator<Item = LogEntry> {
        self.open.values().map(|(entry, _)| *entry)
    }

    /// How many of them there are.
    pub(super) fn in_flight(&self) -> usize {
        self.open.len()
    }

    /// The median latency at about the number of requests that is here now; `None` before the
    /// first answer.
    pub(super) fn usual_latency(&self) -> Option<Duration> {
        self.speed.near(self.open.len())
    }

    /// A new process has no memory.
    pub(super) fn forget_speed(&mut self) {
        self.speed = Speed::default();
    }
}

/// Latencies of recent answers, each with the number of requests that it found here: what a
/// server of Prequal tells those who probe it (NSDI '24, section 4). Errors are no answers: an
/// instance that fails fast must not look fast.
#[derive(Default)]
struct Speed {
    recent: VecDeque<(usize, Duration)>,
}

/// Answers remembered. A few times [`NEAR`], so that several numbers of requests in flight are
/// covered, and few enough that a change of speed shows within seconds.
const REMEMBERED: usize = 64;
/// Answers that a median is taken of, if there are as many: the fewest whose median one outlier
/// does not move far.
const NEAR: usize = 8;

impl Speed {
    fn note(&mut self, beside: usize, latency: Duration) {
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((beside, latency));
    }

    /// The median of the answers whose number of requests was nearest to `in_flight`.
    fn near(&self, in_flight: usize) -> Option<Duration> {
        let by_distance = self.recent.iter().map(|(beside, l)| (beside.abs_diff(in_flight), *l));
        let mut by_distance: Vec<_> = by_distance.collect();
        by_distance.sort_unstable();
        let (widest, _) = *by_distance.get(NEAR.min(by_distance.len()).checked_sub(1)?)?;
        let near = by_distance.iter().take_while(|(distance, _)| *distance <= widest);
        let mut latencies: Vec<_> = near.map(|(_, latency)| *latency).collect();
        latencies.sort_unstable();
        latencies.get((latencies.len() - 1) / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_usual_latency_is_that_at_about_the_same_load() {
        let mut speed = Speed::default();
        assert_eq!(speed.near(0), None);
        (0..10).for_each(|n| speed.note(0, ms(10 + n)));
        (0..10).for_each(|n| speed.note(20, ms(100 + n)));
        assert_eq!(speed.near(1), Some(ms(14)));
        assert_eq!(speed.near(15), Some(ms(104)));
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let mut speed = Speed::default();
        speed.note(0, ms(1));
        (0..REMEMBERED).for_each(|_| speed.note(0, ms(5)));
        assert_eq!(speed.recent.len(), REMEMBERED);
        assert_eq!(speed.near(0), Some(ms(5)));
        assert!(speed.recent.iter().all(|(_, latency)| *latency == ms(5)));
    }

    #[test]
    fn errors_teach_no_speed() {
        let mut journal = Journal::new(Box::new(|_| {}));
        let number = journal.begin(None, ms(0));
        journal.end(number, End::Answered(StatusCode::SERVICE_UNAVAILABLE), ms(1));
        assert_eq!(journal.usual_latency(), None);
        let number = journal.begin(None, ms(0));
        journal.end(number, End::Answered(StatusCode::OK), ms(9));
        assert_eq!(journal.usual_latency(), Some(ms(9)));
    }
}

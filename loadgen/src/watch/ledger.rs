//! The books of one watched process.

use std::time::Duration;

use super::tree::{self, Usage};
use super::{Look, MOST_LOOKS, Subject, Watched};
use crate::record::nanos;

/// What was seen so far.
pub(super) struct Ledger {
    subject: Subject,
    /// Processor time at the first look.
    before: Option<Duration>,
    watched: Watched,
}

impl Ledger {
    pub(super) fn new(subject: Subject) -> Ledger {
        let watched =
            Watched { name: subject.name.clone(), pid: subject.pid, ..Watched::default() };
        Ledger { subject, before: None, watched }
    }

    /// Looks at the process, unless it has ended.
    pub(super) fn look(&mut self, at: Duration) {
        if self.watched.ended_ns.is_none() {
            self.note(at, tree::usage(&self.subject));
        }
    }

    /// Books what was seen.
    fn note(&mut self, at: Duration, usage: Option<Usage>) {
        let Some(Usage { cpu, memory_bytes, processes }) = usage else {
            self.watched.ended_ns = Some(nanos(at));
            return;
        };
        let used = cpu.saturating_sub(*self.before.get_or_insert(cpu));
        let watched = &mut self.watched;
        // The time of a child that ended and that its parent does not wait for is lost: what was
        // seen of it was used all the same.
        watched.cpu_ns = watched.cpu_ns.max(nanos(used));
        watched.memory_peak_bytes = watched.memory_peak_bytes.max(memory_bytes);
        watched.memory_last_bytes = memory_bytes;
        watched.processes = watched.processes.max(processes);
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        watched.looks.push(Look { at_ms, cpu_us: watched.cpu_ns / 1000, memory_bytes });
    }

    /// There is no room for more looks.
    pub(super) fn is_full(&self) -> bool {
        self.watched.looks.len() >= MOST_LOOKS
    }

    /// Keeps every second look, the first one among them.
    pub(super) fn thin(&mut self) {
        let mut keep = false;
        self.watched.looks.retain(|_| {
            keep = !keep;
            keep
        });
    }

    pub(super) fn close(self) -> Watched {
        self.watched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(Subject { pid: 7, name: "proxy".to_owned(), started: 1 })
    }

    fn used(cpu_ms: u64, mib: u64) -> Option<Usage> {
        let (cpu, memory_bytes) = (Duration::from_millis(cpu_ms), mib << 20);
        Some(Usage { cpu, memory_bytes, processes: 2 })
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_counts_from_the_first_look_and_never_backwards() {
        let mut ledger = ledger();
        for (second, usage) in [used(500, 10), used(700, 30), used(650, 20)].into_iter().enumerate()
        {
            ledger.note(SECOND * second as u32, usage);
        }
        let watched = ledger.close();
        assert_eq!((watched.cpu_ns, watched.processes), (200_000_000, 2));
        let mib = |bytes: u64| bytes >> 20;
        let memory = (mib(watched.memory_peak_bytes), mib(watched.memory_last_bytes));
        assert_eq!(memory, (30, 20));
        let looks: Vec<_> = watched.looks.iter().map(|l| (l.at_ms, l.cpu_us)).collect();
        assert_eq!(looks, [(0, 0), (1000, 200_000), (2000, 200_000)]);
        assert_eq!(watched.ended_ns, None);
    }

    #[test]
    fn what_ended_keeps_what_it_had() {
        let mut ledger = ledger();
        ledger.note(Duration::ZERO, used(500, 10));
        ledger.note(SECOND, used(600, 11));
        ledger.note(SECOND * 2, None);
        let watched = ledger.close();
        assert_eq!((watched.ended_ns, watched.cpu_ns), (Some(2_000_000_000), 100_000_000));
        assert_eq!(watched.looks.len(), 2);
    }

    #[test]
    fn thinned_looks_keep_the_first_and_the_totals() {
        let mut ledger = ledger();
        for n in 0..MOST_LOOKS as u32 {
            assert!(!ledger.is_full(), "{n}");
            ledger.note(SECOND * n, used(10 * u64::from(n), u64::from(n)));
        }
        assert!(ledger.is_full());
        ledger.thin();
        let watched = ledger.close();
        assert_eq!(watched.looks.len(), MOST_LOOKS / 2);
        assert_eq!((watched.looks[0].at_ms, watched.looks[1].at_ms), (0, 2000));
        assert_eq!(watched.memory_peak_bytes >> 20, MOST_LOOKS as u64 - 1);
        assert_eq!(watched.cpu_ns, 10_000_000 * (MOST_LOOKS as u64 - 1));
    }
}

//! What the processes under test use while they are measured: processor time and memory.
//!
//! A thread of its own looks at `/proc` when measuring begins, at each interval, and when the run
//! ends; the sending threads have no part in it. A process counts with all that it started, since
//! proxies work in children: nginx's master only waits. `procfs` reads the kernel's text, `tree`
//! a process and its descendants, and `ledger` keeps the books.

mod ledger;
mod procfs;
mod tree;

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine;
use ledger::Ledger;

/// The most looks that are kept of a process. A run that has more is looked at half as often from
/// then on, as often as it takes.
pub const MOST_LOOKS: usize = 120;

/// A process that was watched, with all that it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// What it is called.
    pub name: String,
    /// Its number.
    pub pid: u32,
    /// The most processes that it was at once, itself included.
    pub processes: u64,
    /// Processor time that it used while it was measured, in nanoseconds.
    pub cpu_ns: u64,
    /// The most memory that it was seen to have (resident set), in bytes. What several of its
    /// processes share counts for each.
    pub memory_peak_bytes: u64,
    /// The memory that it had when it was last seen, in bytes.
    pub memory_last_bytes: u64,
    /// When it was found to have ended, in nanoseconds from the begin of measuring; none if it
    /// outlived the run.
    pub ended_ns: Option<u64>,
    /// What was seen, in order; the first look is at the begin of measuring.
    pub looks: Vec<Look>,
}

/// What was seen of a process at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// When, in milliseconds from the begin of measuring.
    pub at_ms: u64,
    /// Processor time that it had used since the first look, in microseconds.
    pub cpu_us: u64,
    /// Memory that it had then (resident set), in bytes.
    pub memory_bytes: u64,
}

/// A process that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pid: u32,
    name: String,
    /// When it was started, in the kernel's ticks: a number may come back for another process.
    started: u64,
}

/// Why a process cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// This system has no `/proc`, or not this kind of it.
    #[error("this system has no /proc to look at processes by; leave the option out")]
    NoProc,
    /// It is not there.
    #[error("no process {pid} is running that may be looked at; give the pid of one that is")]
    Missing {
        /// Its number.
        pid: u32,
    },
}

impl Subject {
    /// Looks for the process, which is called what the kernel calls it if it has no other name.
    ///
    /// # Errors
    /// When there is no `/proc`, or no such process.
    pub fn find(pid: u32, name: Option<String>) -> Result<Subject, WatchError> {
        if tree::stat(std::process::id()).is_none() {
            return Err(WatchError::NoProc);
        }
        let stat = tree::stat(pid).filter(procfs::Stat::is_running);
        let stat = stat.ok_or(WatchError::Missing { pid })?;
        Ok(Subject { pid, name: name.unwrap_or(stat.name), started: stat.started })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// When to look.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// From now until measuring begins.
    pub begins_in: Duration,
    /// From then on, how often; at least 1 ms.
    pub every: Duration,
}

/// Held by everyone who is still at it; when the last one lets go, the run is over.
#[derive(Clone, Debug)]
pub struct AtWork(
    #[expect(dead_code, reason = "what counts is that it is there")] Sender<Infallible>,
);

/// The thread that looks.
#[derive(Debug)]
pub struct Watch {
    thread: JoinHandle<Vec<Watched>>,
}

impl Watch {
    /// Begins to watch, until nobody holds an [`AtWork`] any more.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(subjects: Vec<Subject>, schedule: Schedule) -> std::io::Result<(Watch, AtWork)> {
        let (at_work, over) = channel();
        let begin = machine::now() + schedule.begins_in;
        let every = schedule.every.max(Duration::from_millis(1));
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || watch(subjects, begin, every, &over))?;
        Ok((Watch { thread }, AtWork(at_work)))
    }

    /// What was seen; nothing if the watching thread died.
    pub fn finish(self) -> Vec<Watched> {
        self.thread.join().unwrap_or_default()
    }
}

/// Looks at the begin, at each multiple of the interval behind it, and when the run is over.
fn watch(
    subjects: Vec<Subject>,
    begin: Duration,
    mut every: Duration,
    over: &Receiver<Infallible>,
) -> Vec<Watched> {
    let mut ledgers: Vec<Ledger> = subjects.into_iter().map(Ledger::new).collect();
    let mut due = begin;
    loop {
        let wait = due.saturating_sub(machine::now());
        let is_over = !matches!(over.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
        // A run that ended before measuring began has nothing to be looked at.
        if let Some(at) = machine::now().checked_sub(begin) {
            ledgers.iter_mut().for_each(|ledger| ledger.look(at));
        }
        if is_over {
            return ledgers.into_iter().map(Ledger::close).collect();
        }
        if ledgers.iter().any(Ledger::is_full) {
            ledgers.iter_mut().for_each(Ledger::thin);
            every *= 2;
        }
        due = next(begin, every, machine::now().max(due));
    }
}

/// The first multiple of the interval behind `now`.
fn next(begin: Duration, every: Duration, now: Duration) -> Duration {
    let passed = now.saturating_sub(begin).as_nanos() / every.as_nanos();
    let passed = u32::try_from(passed).unwrap_or(u32::MAX - 1);
    begin.saturating_add(every.saturating_mul(passed + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_next_look_is_at_the_next_multiple() {
        assert_eq!(next(MS * 100, MS * 10, MS * 100), MS * 110);
        assert_eq!(next(MS * 100, MS * 10, MS * 109), MS * 110);
        assert_eq!(next(MS * 100, MS * 10, MS * 110), MS * 120);
        // After a pause, those that were missed are not made up for.
        assert_eq!(next(MS * 100, MS * 10, MS * 1234), MS * 1240);
    }

    #[test]
    fn a_process_that_is_not_there_is_told() {
        let error = Subject::find(u32::MAX, None).unwrap_err();
        assert!(error.to_string().contains("no process 4294967295 is running"), "{error}");
    }

    #[test]
    fn this_process_is_seen_to_work() {
        let subject = Subject::find(std::process::id(), Some("tests".to_owned())).unwrap();
        let schedule = Schedule { begins_in: Duration::ZERO, every: MS };
        let (watch, at_work) = Watch::start(vec![subject], schedule).unwrap();
        machine::spin_floor(MS * 30);
        drop(at_work);
        let watched = watch.finish();
        let [of] = watched.as_slice() else { panic!("one process") };
        assert_eq!((of.name.as_str(), of.pid, of.ended_ns), ("tests", std::process::id(), None));
        assert!(of.cpu_ns > 0 && of.processes >= 1, "{of:?}");
        assert!(of.memory_peak_bytes >= of.memory_last_bytes && of.memory_last_bytes > 100_000);
        assert!(of.looks.len() >= 2 && of.looks[0].cpu_us == 0, "{of:?}");
        assert!(of.looks.is_sorted_by_key(|look| (look.at_ms, look.cpu_us)), "{of:?}");
    }

    #[test]
    fn a_run_that_ends_before_measuring_begins_has_nothing_to_show() {
        let subject = Subject::find(std::process::id(), None).unwrap();
        let schedule = Schedule { begins_in: Duration::from_secs(3600), every: MS };
        let (watch, at_work) = Watch::start(vec![subject], schedule).unwrap();
        drop(at_work);
        assert_eq!(watch.finish()[0].looks, []);
    }
}

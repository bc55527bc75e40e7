//! What the machine under the generator does to its numbers: processor time, the lag of a loop
//! that does nothing, pauses of everything.
//!
//! A send lag means little by itself. Beside it stands the lag of a bare spin loop on the same
//! thread in the same run, which no generator can beat, and the worst pause that an idle watcher
//! saw, which hit the generator too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::histogram::LatencyHistogram;

/// How often a bare loop is asked for the time when its lag is measured. The lag of any instant
/// tells of the machine, so there are many.
const FLOOR_GAP: Duration = Duration::from_micros(20);

/// How often the watcher wakes. Pauses shorter than the limit of
/// [`Doubt::Hiccups`](crate::doubt::Doubt::Hiccups) need not be seen, and each wake-up costs the
/// generator's core some microseconds.
const WATCH_GAP: Duration = Duration::from_millis(5);

/// The lag of a bare spin loop for this long: what this machine does to a thread that never
/// sleeps.
pub fn spin_floor(lasting: Duration) -> LatencyHistogram {
    let mut lags = LatencyHistogram::new();
    let start = now();
    let mut due = Duration::ZERO;
    while due < lasting {
        let elapsed = now() - start;
        while due <= elapsed && due < lasting {
            lags.record(elapsed - due);
            due += FLOOR_GAP;
        }
        std::hint::spin_loop();
    }
    lags
}

/// Processor time that this thread has used.
pub fn thread_cpu() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// Processor time that this process has used.
pub fn process_cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// The monotonic clock: what is measured here is the machine, never a simulation.
pub(crate) fn now() -> Duration {
    clock(ClockId::Monotonic)
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Raises the bound on file descriptors as far as this user may, and says how many there can be
/// then; `None` for no bound.
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// A thread that sleeps, and measures by how much it oversleeps: Gil Tene's jHiccup.
#[derive(Debug)]
pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<LatencyHistogram>,
}

impl Watcher {
    /// Begins to watch.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> std::io::Result<Watcher> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("watcher".to_owned()).spawn(move || {
            let mut late = LatencyHistogram::new();
            // Sleeps of other lengths than asked for are the subject, those by design are not.
            let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            while !stopped.load(Ordering::Relaxed) {
                let before = now();
                std::thread::sleep(WATCH_GAP);
                late.record((now() - before).saturating_sub(WATCH_GAP));
            }
            late
        })?;
        Ok(Watcher { stop, thread })
    }

    /// By how much each sleep was too long; nothing if the watcher died.
    pub fn finish(self) -> LatencyHistogram {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_has_a_lag_for_each_instant() {
        assert_eq!(spin_floor(Duration::from_millis(2)).count(), 100);
    }

    #[test]
    fn a_watcher_has_watched() {
        let watcher = Watcher::start().unwrap();
        std::thread::sleep(WATCH_GAP * 4);
        assert!(!watcher.finish().is_empty());
    }

    #[test]
    fn processor_time_passes() {
        let before = thread_cpu();
        spin_floor(Duration::from_millis(2));
        assert!(thread_cpu() > before && process_cpu() >= before);
    }
}

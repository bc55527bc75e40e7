//! How long before an instant the generator has to be awake, learnt from how late it was woken.

use std::time::Duration;

/// What no machine wakes up faster than: the grain of a timer and the way out of idleness.
#[cfg(target_os = "linux")]
const LEAST: Duration = Duration::from_micros(60);
#[cfg(not(target_os = "linux"))]
const LEAST: Duration = Duration::from_millis(2);

/// What waiting awake may cost at most for one instant. A machine that wakes nobody for longer than
/// this stops a generator that is awake as well.
const MOST: Duration = Duration::from_millis(8);

/// One wait in this many is as late as the machine can be: what was learnt fades by this part with
/// each. It fades to half in 180 waits, so a machine that is late once in a while costs the 99th
/// percentile nothing, and one that is quiet again is trusted again.
const FADES_BY: u32 = 256;

/// How long before an instant to be awake.
///
/// A timer rings late by what the machine takes to wake a thread: 50 µs where a core is idle, and
/// milliseconds where other programs want it too. Setting the timer earlier by the worst of late
/// keeps the instant itself. Where that is longer than the gaps between requests the generator
/// does not sleep at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct WakeAhead {
    ahead: Duration,
}

impl Default for WakeAhead {
    fn default() -> Self {
        Self { ahead: LEAST }
    }
}

impl WakeAhead {
    /// Another instant is waited for.
    pub(super) fn next(&mut self) {
        self.ahead = (self.ahead - self.ahead / FADES_BY).max(LEAST);
    }

    /// How long to sleep when the instant is this far ahead; nothing when it is too near.
    pub(super) fn sleep(&self, ahead: Duration) -> Option<Duration> {
        ahead.checked_sub(self.ahead).filter(|sleep| !sleep.is_zero())
    }

    /// The timer rang this long after it was to.
    pub(super) fn rang(&mut self, late: Duration) {
        self.ahead = self.ahead.max((late + late / 4).min(MOST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_wakes_in_time_is_trusted() {
        let mut wake = WakeAhead::default();
        for _ in 0..1000 {
            wake.next();
            assert_eq!(
                wake.sleep(Duration::from_millis(1)),
                Some(Duration::from_millis(1) - LEAST)
            );
            wake.rang(LEAST / 2);
        }
        assert_eq!(wake.sleep(LEAST), None);
    }

    #[test]
    fn one_late_wake_up_is_allowed_for_and_forgotten_when_no_other_follows() {
        let mut wake = WakeAhead::default();
        let gap = Duration::from_millis(20);
        wake.rang(Duration::from_millis(4));
        let slept = wake.sleep(gap).expect("the gap is longer");
        assert!(slept < gap - Duration::from_millis(4), "{slept:?}");
        for _ in 0..4000 {
            wake.next();
        }
        assert_eq!(wake.sleep(gap), Some(gap - LEAST));
    }

    #[test]
    fn a_machine_that_is_late_by_more_than_the_gap_is_asked_again_once_in_a_while() {
        let mut wake = WakeAhead::default();
        let gap = Duration::from_millis(1);
        let mut sleeps = 0;
        for _ in 0..10_000 {
            wake.next();
            if wake.sleep(gap).is_some() {
                sleeps += 1;
                wake.rang(Duration::from_millis(3));
            }
        }
        assert!((1..100).contains(&sleeps), "{sleeps} of 10,000: not under one in a hundred");
        // Not even a machine that stands still for seconds is waited for longer than this.
        wake.rang(Duration::from_secs(9));
        assert_eq!(wake.sleep(MOST + gap), Some(gap));
    }
}

//! How the generator waits for the next planned instant.
//!
//! Waking up is what costs: a timer is late by its grain, and a processor that slept adds its own
//! wake-up to the first answer that it times. Which of that matters depends on the world, so the
//! pacer is passed in.

mod timer;
mod wake;

use std::time::Duration;

use tokio::time::Instant;

use timer::Timer;
use wake::WakeAhead;

/// Waits for planned instants. Dropping the wait and asking again is always allowed.
pub trait Pacer {
    /// Returns at `instant`, or as soon after it as this pacer can.
    ///
    /// `in_flight` says that answers are awaited meanwhile: a pacer that sleeps then delays them.
    fn wait_until(&mut self, instant: Instant, in_flight: bool) -> impl Future<Output = ()>;
}

/// Sleeps on the runtime's timer, whose grain is 1 ms.
///
/// It costs next to nothing on a real machine, at the price of a send lag of up to two
/// milliseconds. Under a paused clock it is exact for instants that are whole milliseconds, so
/// that is where simulations should plan theirs.
#[derive(Clone, Copy, Debug, Default)]
pub struct SleepPacer;

impl Pacer for SleepPacer {
    async fn wait_until(&mut self, instant: Instant, _in_flight: bool) {
        tokio::time::sleep_until(instant).await;
    }
}

/// Sleeps where that costs the measurement nothing; otherwise polls the clock and the sockets in
/// turn.
///
/// A processor that slept takes some 50 µs to wake, which would be part of the first answer that
/// it times: in a trial at 10,000 requests per second the median service time of the same server
/// read 104 µs through a sleeping pacer and 44 µs through one that polls. So this one polls while
/// answers are awaited, but for 1 ms only: by then the wake-up is a twentieth of what is measured.
/// And it polls for the last 60 µs before an instant, or for longer where the machine has woken it
/// later than that.
///
/// Quick servers, high rates and machines with other work take a whole core; slow servers and low
/// rates on a quiet machine do not. Not for a paused clock, which polling does not move.
#[derive(Debug, Default)]
pub struct PrecisePacer {
    timer: Timer,
    wake: WakeAhead,
    /// What was last waited for: a wait that was dropped is asked for again.
    instant: Option<Instant>,
}

/// How long answers are polled for.
const POLL_FOR: Duration = Duration::from_millis(1);

impl Pacer for PrecisePacer {
    async fn wait_until(&mut self, instant: Instant, in_flight: bool) {
        if self.instant.replace(instant) != Some(instant) {
            self.wake.next();
        }
        let asked = Instant::now();
        let mut now = asked;
        loop {
            let ahead = instant.saturating_duration_since(now);
            if ahead.is_zero() {
                return;
            }
            let awaits = in_flight && now - asked < POLL_FOR;
            if !awaits && let Some(sleep) = self.wake.sleep(ahead) {
                let rings = now + sleep;
                self.timer.sleep(sleep).await;
                now = Instant::now();
                self.wake.rang(now.saturating_duration_since(rings));
            } else {
                tokio::task::yield_now().await;
                now = Instant::now();
            }
        }
    }
}

/// Polls the clock and the sockets in turn, and never sleeps: for a core of its own, where every
/// wake-up is one too many. Not for a paused clock, which polling does not move.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpinPacer;

impl Pacer for SpinPacer {
    async fn wait_until(&mut self, instant: Instant, _in_flight: bool) {
        while Instant::now() < instant {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sleep_pacer_is_exact_at_whole_milliseconds_of_a_paused_clock() {
        let start = Instant::now();
        for millis in [1, 2, 5, 1000] {
            let instant = start + Duration::from_millis(millis);
            SleepPacer.wait_until(instant, false).await;
            assert_eq!(Instant::now(), instant);
        }
    }

    #[tokio::test]
    async fn no_pacer_returns_early() {
        let mut precise = PrecisePacer::default();
        for in_flight in [true, false, true] {
            let instant = Instant::now() + Duration::from_millis(5);
            precise.wait_until(instant, in_flight).await;
            assert!(Instant::now() >= instant);
            // A wait that is dropped does not make the next one short.
            let long = Instant::now() + Duration::from_secs(3600);
            let short = Duration::from_millis(3);
            assert!(tokio::time::timeout(short, precise.wait_until(long, false)).await.is_err());
            let instant = Instant::now() + Duration::from_millis(5);
            SpinPacer.wait_until(instant, in_flight).await;
            assert!(Instant::now() >= instant);
        }
    }
}

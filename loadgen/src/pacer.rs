//! How the generator waits for the next planned instant.
//!
//! Waking up is what costs: a timer is late by its grain, and a processor that slept adds its own
//! wake-up to the first answer that it times. Which of that matters depends on the world, so the
//! pacer is passed in.

use std::time::Duration;

use tokio::time::Instant;

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

/// Sleeps while nothing is in flight and the instant is far away; otherwise polls the clock and
/// the sockets in turn.
///
/// It takes a whole core while requests are in flight, and never sleeps through an answer. Not
/// for a paused clock, which polling does not move.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrecisePacer;

/// How long before the instant [`PrecisePacer`] wakes: the timer's grain of 1 ms, rounded up once
/// by the timer and once by the kernel's slack.
const WAKE_AHEAD: Duration = Duration::from_millis(2);

impl Pacer for PrecisePacer {
    async fn wait_until(&mut self, instant: Instant, in_flight: bool) {
        loop {
            let ahead = instant.saturating_duration_since(Instant::now());
            if ahead.is_zero() {
                return;
            }
            if !in_flight && ahead > WAKE_AHEAD {
                tokio::time::sleep(ahead - WAKE_AHEAD).await;
            } else {
                tokio::task::yield_now().await;
            }
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
        let instant = Instant::now() + Duration::from_millis(5);
        PrecisePacer.wait_until(instant, true).await;
        assert!(Instant::now() >= instant);
        let instant = Instant::now() + Duration::from_millis(5);
        PrecisePacer.wait_until(instant, false).await;
        assert!(Instant::now() >= instant);
    }
}

//! What a host believes the time to be, rightly or wrongly.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use proxy::telemetry::WallClock;

use crate::clock::Clock;

/// How old the epoch is when a simulation begins: old enough for a clock to be wrong by years.
const EPOCH_AGE: Duration = Duration::from_secs(50 * 365 * 86_400);

/// A wall clock that may be wrong. Clones are wrong together.
#[derive(Clone, Default)]
pub(super) struct SkewedClock {
    millis: Arc<AtomicI64>,
}

impl SkewedClock {
    /// Makes it wrong by so many milliseconds from now on.
    pub(super) fn skew(&self, millis: i64) {
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// The clock, which runs from now on.
    pub(super) fn started(self) -> WallClock {
        let clock = Clock::start();
        Arc::new(move || {
            let now = SystemTime::UNIX_EPOCH + EPOCH_AGE + clock.elapsed();
            let millis = self.millis.load(Ordering::Relaxed);
            let size = Duration::from_millis(millis.unsigned_abs());
            let skewed = if millis < 0 { now.checked_sub(size) } else { now.checked_add(size) };
            skewed.unwrap_or(SystemTime::UNIX_EPOCH)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_is_wrong_while_it_is_skewed() {
        let skewed = SkewedClock::default();
        let (wrong, right) = (skewed.clone().started(), SkewedClock::default().started());
        skewed.skew(-5000);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(right().duration_since(wrong()).ok(), Some(Duration::from_secs(5)));
        skewed.skew(0);
        assert_eq!(right(), wrong());
    }
}

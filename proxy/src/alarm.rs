//! A timer for many waits, one after the other.
//!
//! To arm a timer and to disarm it again costs more than most of what a request has to pass, and
//! nearly all waits are over in time. So this one stays armed when a wait ends, for whatever it was
//! armed for, and is set later only when it fires too early: once in a while, and not for each
//! request. Waits end at their instants all the same.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Armed by the first wait that is polled. Until it fires it keeps what it would wake.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `due` has come. Each wait says its own.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            // It was set for a wait that ended in time.
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    /// Waits until `due`, but for `patience` at most.
    async fn wait(alarm: &mut Alarm, due: Instant, patience: Duration) -> Option<Instant> {
        let waited = tokio::time::timeout(patience, poll_fn(|cx| alarm.poll(cx, due))).await;
        waited.ok().map(|()| Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_own_instant() {
        let start = Instant::now();
        let (ms, mut alarm) = (Duration::from_millis, Alarm::default());
        let long = ms(1_000_000);
        assert_eq!(wait(&mut alarm, start + ms(50), ms(10)).await, None, "over in time");
        // It is still set for the first, which is earlier.
        assert_eq!(wait(&mut alarm, start + ms(100), long).await, Some(start + ms(100)));
        assert_eq!(wait(&mut alarm, start + ms(900), ms(10)).await, None);
        // It is set for the one before, which is later.
        assert_eq!(wait(&mut alarm, start + ms(200), long).await, Some(start + ms(200)));
        // It fired while nobody waited.
        assert_eq!(wait(&mut alarm, start + ms(300), ms(10)).await, None);
        tokio::time::sleep(ms(200)).await;
        assert_eq!(wait(&mut alarm, start + ms(500), long).await, Some(start + ms(500)));
        assert_eq!(wait(&mut alarm, start, long).await, Some(start + ms(500)), "it has passed");
    }
}

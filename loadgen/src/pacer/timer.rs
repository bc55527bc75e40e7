//! A timer with the grain of the kernel's clock, where there is one.

use std::time::Duration;

/// Wakes at an instant. tokio's own timer counts whole milliseconds; on Linux a timerfd in the
/// same reactor is late by a wake-up only.
#[derive(Debug, Default)]
pub(super) struct Timer {
    #[cfg(target_os = "linux")]
    fd: Option<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>>,
}

impl Timer {
    /// Returns after this long. A timer that cannot be had is replaced by tokio's.
    #[cfg(target_os = "linux")]
    pub(super) async fn sleep(&mut self, ahead: Duration) {
        if self.fd.is_none() {
            self.fd = linux::open().ok();
        }
        let rung = match &self.fd {
            Some(fd) => linux::ring(fd, ahead).await.is_ok(),
            None => false,
        };
        if !rung {
            tokio::time::sleep(ahead).await;
        }
    }

    /// Returns after this long.
    #[cfg(not(target_os = "linux"))]
    pub(super) async fn sleep(&mut self, ahead: Duration) {
        tokio::time::sleep(ahead).await;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::num::NonZeroU64;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    pub(super) fn open() -> io::Result<AsyncFd<OwnedFd>> {
        // The kernel may otherwise join this thread's wake-ups with others up to 50 µs later.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[allow(
            deprecated,
            reason = "its successor is unsafe for types that may give away their descriptor; an \
                      OwnedFd does not"
        )]
        AsyncFd::with_interest(fd, Interest::READABLE)
    }

    pub(super) async fn ring(fd: &AsyncFd<OwnedFd>, ahead: Duration) -> io::Result<()> {
        let seconds = i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX);
        // Zero would disarm it.
        let nanos = i64::from(ahead.subsec_nanos()).max(1);
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: seconds, tv_nsec: nanos },
        };
        timerfd_settime(fd.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        let mut count = [0; 8];
        // Readiness may be left over from a wait that was dropped: only a count says it rang.
        fd.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut count)?)).await?;
        Ok(())
    }
}

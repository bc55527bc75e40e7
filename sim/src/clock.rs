//! Time since a run began.

use std::time::Duration;

use tokio::time::Instant;

/// Offsets from one origin. In the simulator every host makes its own at its first instant, which
/// is the same simulated moment for all of them; on real sockets a process makes one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that reads zero now. Call it inside the runtime whose time it shall read.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since its start.
    pub fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The instant this long after its start.
    pub fn instant(&self, at: Duration) -> Instant {
        self.origin + at
    }
}

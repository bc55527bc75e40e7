//! The clock of a connection: how long its caller may take for what it has to do next.
//!
//! hyper's `header_read_timeout` is one limit for two things that need different ones, starts
//! neither at a head's first byte nor always at a response's end, and costs an allocation and a
//! timer for every request. Here is one [`Alarm`] for each connection.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::Wait;
use crate::alarm::Alarm;

/// How long a caller may take for each of its duties.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) request: Duration,
    pub(super) head: Duration,
    pub(super) body: Duration,
}

/// Watches one connection.
pub(super) struct Watch {
    patience: Patience,
    /// What is waited for, and until when.
    current: Option<((Wait, u64), Instant)>,
    alarm: Alarm,
}

impl Watch {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, current: None, alarm: Alarm::default() }
    }

    /// Ready when what is waited for has taken too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, waits: Option<(Wait, u64)>) -> Poll<Wait> {
        let Some(waits) = waits else {
            self.current = None;
            return Poll::Pending;
        };
        let due = match self.current {
            Some((same, due)) if same == waits => due,
            _ => {
                let due = Instant::now() + self.patience(waits.0);
                self.current = Some((waits, due));
                due
            }
        };
        self.alarm.poll(cx, due).map(|()| waits.0)
    }

    fn patience(&self, wait: Wait) -> Duration {
        match wait {
            Wait::Request => self.patience.request,
            Wait::Head => self.patience.head,
            Wait::Body => self.patience.body,
        }
    }
}

//! The clock of a connection: how long its caller may take for what it has to do next.
//!
//! hyper's `header_read_timeout` is one limit for two things that need different ones, starts
//! neither at a head's first byte nor always at a response's end, and costs an allocation and a
//! timer for every request. Here is one timer for each connection, which is set back when it
//! fires too early and else left alone.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::exchange::Wait;

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
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, current: None, timer: None }
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
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= due {
                return Poll::Ready(waits.0);
            }
            // It was set for a wait that ended in time.
            timer.as_mut().reset(due);
        }
    }

    fn patience(&self, wait: Wait) -> Duration {
        match wait {
            Wait::Request => self.patience.request,
            Wait::Head => self.patience.head,
            Wait::Body => self.patience.body,
        }
    }
}

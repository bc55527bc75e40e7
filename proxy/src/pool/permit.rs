//! The right to one connection, and the way it goes from hand to hand.
//!
//! There are as many permits as connections are allowed. A permit that is dropped goes to whoever
//! the queue names next, or is free again: there is no path on which it could be forgotten,
//! because there is no other way to be rid of one.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Connection, Pool};
use crate::error::Refusal;
use crate::policy::limit::shed::{Entry, Next, ShedQueue, Ticket};
use crate::telemetry::event::Event;

/// What one lock holds: permits, connections and those who wait for them, so that a request finds
/// all three as they belong together.
pub(super) struct State {
    /// Permits that nobody has. None while somebody waits.
    pub(super) free: usize,
    /// Most recently used last. Using that one first lets the others grow old and be closed.
    pub(super) idle: Vec<Connection>,
    pub(super) waiting: ShedQueue<oneshot::Sender<Verdict>>,
    /// Whether connections are kept for later.
    pub(super) is_accepting: bool,
}

/// The right to one connection. `None` only after it was put back by hand.
pub(super) struct Permit(Option<Arc<Pool>>);

impl Permit {
    /// The pool it belongs to, and no permit any more: the caller has freed it.
    pub(super) fn put_back(mut self) -> Option<Arc<Pool>> {
        self.0.take()
    }

    pub(super) fn pool(&self) -> Option<&Arc<Pool>> {
        self.0.as_ref()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.pass_on();
        }
    }
}

/// What somebody who waits is told.
pub(super) enum Verdict {
    Go(Permit),
    Displaced,
    TooLate,
}

/// What a request finds when it comes for a connection.
pub(super) enum Found {
    /// A permit, and a connection for it if one was idle.
    Permit(Permit, Option<Connection>),
    /// A place in the queue.
    Place(Place),
    /// Neither.
    Full,
}

/// A place in the queue; dropping it gives it up.
pub(super) struct Place {
    pool: Arc<Pool>,
    ticket: Ticket,
    since: Instant,
    verdict: oneshot::Receiver<Verdict>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // What was called already is in `verdict`, whose drop passes it on.
        self.leave();
    }
}

impl Place {
    /// True when nobody had called it yet.
    fn leave(&self) -> bool {
        let left = self.pool.lock().waiting.leave(self.ticket);
        left.is_some()
    }

    /// Waits to be called.
    pub(super) async fn permit(mut self) -> Result<Permit, Refusal> {
        let until = self.since + self.pool.queue.timeout;
        let verdict = match timeout_at(until, &mut self.verdict).await {
            Ok(verdict) => verdict,
            Err(_elapsed) if self.leave() => Ok(Verdict::TooLate),
            // Called at the last moment: the verdict is on its way.
            Err(_elapsed) => (&mut self.verdict).await,
        };
        let refusal = match verdict {
            Ok(Verdict::Go(permit)) => return Ok(permit),
            Ok(Verdict::Displaced) => self.pool.overflow(),
            Ok(Verdict::TooLate) => Refusal::QueueTimeout {
                endpoint: self.pool.addr.clone(),
                limit: self.pool.queue.timeout,
            },
            Err(_) => unreachable!("whoever is called is told why"),
        };
        let at = self.pool.at;
        self.pool.emit(&match refusal {
            Refusal::QueueTimeout { .. } => Event::QueueTimedOut { at },
            _ => Event::QueueOverflowed { at },
        });
        Err(refusal)
    }
}

impl Pool {
    /// One look, under one lock, at all there is.
    pub(super) fn find(self: &Arc<Self>, now: Instant) -> Found {
        let (found, displaced) = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                let idle = state.take_idle(self, now);
                (Found::Permit(Permit(Some(self.clone())), idle), None)
            } else {
                self.queue_up(&mut state, now)
            }
        };
        if let Some(displaced) = displaced {
            // It may have left meanwhile.
            drop(displaced.send(Verdict::Displaced));
        }
        found
    }

    fn queue_up(
        self: &Arc<Self>,
        state: &mut State,
        now: Instant,
    ) -> (Found, Option<oneshot::Sender<Verdict>>) {
        let (caller, verdict) = oneshot::channel();
        let (ticket, displaced) = match state.waiting.enter(caller, now.into_std()) {
            Entry::Waits(ticket) => (ticket, None),
            Entry::Displaced(ticket, oldest) => (ticket, Some(oldest)),
            Entry::Refused(_) => return (Found::Full, None),
        };
        (Found::Place(Place { pool: self.clone(), ticket, since: now, verdict }), displaced)
    }

    /// Gives a permit that nobody has to whoever is next, or makes it free.
    fn pass_on(self: Arc<Self>) {
        let now = Instant::now().into_std();
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.waiting.next(now);
                if next.is_none() {
                    state.free += 1;
                    if !state.is_accepting {
                        // Left for somebody who waited, and gave up since.
                        state.idle.clear();
                    }
                }
                next
            };
            // Told outside the lock: it may be the last that holds the other side.
            match next {
                None => return,
                Some(Next::Refuse(waiting)) => drop(waiting.send(Verdict::TooLate)),
                Some(Next::Serve(waiting)) => {
                    match waiting.send(Verdict::Go(Permit(Some(self.clone())))) {
                        Ok(()) => return,
                        // It left between the lock and here; the permit is still ours to give.
                        Err(Verdict::Go(permit)) => drop(permit.put_back()),
                        Err(_) => unreachable!("what comes back is what was sent"),
                    }
                }
            }
        }
    }
}

impl State {
    /// The connection that was used last, if it may be used again.
    pub(super) fn take_idle(&mut self, pool: &Pool, now: Instant) -> Option<Connection> {
        while let Some(last) = self.idle.pop() {
            if last.is_usable(pool.idle_timeout, now) {
                return Some(last);
            }
        }
        None
    }
}

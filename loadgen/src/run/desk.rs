//! What all connections share: the cursor into the plan, who is idle, and what is in flight.
//!
//! No method waits; each is given the instant at which it decides.

use std::iter::Peekable;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::{News, Options, RunEnd, Step};
use crate::observer::{Event, Observer};
use crate::plan::{Cursor, Plan};
use crate::sample::{Outcome, Sample};

/// A planned request whose turn has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) index: u64,
    pub(super) planned: Duration,
    /// It was due before a connection was free.
    pub(super) waited: bool,
}

/// What is known of a request in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) job: Job,
    pub(super) begun: Instant,
    pub(super) sent: Option<Instant>,
}

/// One connection's place at the desk.
#[derive(Debug, Default)]
struct Slot {
    /// Handed over and not yet picked up.
    handed: Option<Job>,
    waker: Option<Waker>,
    current: Option<Current>,
}

pub(super) struct Desk<'a, O: ?Sized> {
    observer: &'a mut O,
    cursor: Peekable<Cursor>,
    start: Instant,
    deadline: Option<Duration>,
    timeout: Duration,
    max_connections: usize,
    slots: Vec<Slot>,
    /// Idle connections, the one used last on top: few connections stay warm, and the others can
    /// be seen to be unneeded.
    idle: Vec<usize>,
    /// Slots without a connection.
    vacant: Vec<usize>,
    /// Handed over or in flight.
    in_flight: usize,
    /// A connection has become idle or ended since the last step.
    changed: bool,
    peak_in_flight: usize,
    peak_connections: usize,
    busy: Duration,
}

impl<'a, O: Observer + ?Sized> Desk<'a, O> {
    pub(super) fn new(
        plan: &Plan,
        options: &Options,
        start: Instant,
        observer: &'a mut O,
    ) -> Desk<'a, O> {
        Desk {
            observer,
            cursor: plan.cursor().peekable(),
            start,
            deadline: options.deadline,
            timeout: options.timeout,
            max_connections: options.max_connections,
            slots: Vec::new(),
            idle: Vec::new(),
            vacant: Vec::new(),
            in_flight: 0,
            changed: false,
            peak_in_flight: 0,
            peak_connections: 0,
            busy: Duration::ZERO,
        }
    }

    /// Hands out what is due, as far as connections are free or may be opened.
    pub(super) fn dispatch(&mut self, now: Instant) -> Step {
        let mut opened = Vec::new();
        while self.has_room() {
            let Some(job) = self.take_due(now, false) else { break };
            let slot = self.idle.pop().unwrap_or_else(|| {
                let slot = self.open_slot();
                opened.push(slot);
                slot
            });
            self.slots[slot].handed = Some(job);
            if let Some(waker) = &self.slots[slot].waker {
                waker.wake_by_ref();
            }
        }
        let has_room = self.has_room();
        let next_due =
            self.cursor.peek().filter(|_| has_room).map(|(_, planned)| self.start + *planned);
        self.changed = false;
        Step { opened, in_flight: self.in_flight, next_due }
    }

    /// What the dispatcher should know, given whether it believes that something is in flight.
    pub(super) fn take_news(&mut self, believes_in_flight: bool) -> News {
        let all_ended = self.in_flight == 0 && self.cursor.peek().is_none();
        let fell_idle = believes_in_flight && self.in_flight == 0;
        News { changed: std::mem::take(&mut self.changed) || fell_idle, all_ended }
    }

    /// The request that was handed to an idle connection, once there is one.
    pub(super) fn poll_handed(&mut self, slot: usize, waker: &Waker) -> Poll<Job> {
        let slot = &mut self.slots[slot];
        match slot.handed.take() {
            Some(job) => Poll::Ready(job),
            None => {
                match &mut slot.waker {
                    Some(known) => known.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
                Poll::Pending
            }
        }
    }

    /// Books that work on a request begins.
    pub(super) fn begin(&mut self, slot: usize, job: Job, now: Instant, reused: bool) {
        let lag = (now - self.start).saturating_sub(job.planned);
        self.observer.note(Event::Begun { lag, waited: job.waited, reused });
        self.slots[slot].current = Some(Current { job, begun: now, sent: None });
    }

    /// Books that the first byte of a request is handed to its connection.
    pub(super) fn sent(&mut self, slot: usize, now: Instant) {
        if let Some(current) = &mut self.slots[slot].current {
            // A second try does not make the first one unsent.
            current.sent.get_or_insert(now);
        }
    }

    pub(super) fn note(&mut self, event: Event<'_>) {
        self.observer.note(event);
    }

    /// Books the end of a request, and gives its connection the next one that is due. If none is,
    /// the connection is idle if `open`, and gone otherwise.
    pub(super) fn finish(
        &mut self,
        slot: usize,
        ending: Ending,
        now: Instant,
        open: bool,
    ) -> Option<Job> {
        if let Some(current) = self.slots[slot].current.take() {
            self.book(current, ending, now);
            self.in_flight -= 1;
        }
        // Someone who was free and had not been given it yet: then it did not wait for us.
        let waited = !self.has_room();
        let next = self.take_due(now, waited);
        if next.is_none() {
            self.changed |= waited;
            if open { self.idle.push(slot) } else { self.vacant.push(slot) }
        }
        next
    }

    /// Books whatever has not come to an end, and ends the run.
    pub(super) fn close(mut self, end: Instant, interrupted: bool) -> RunEnd {
        for slot in 0..self.slots.len() {
            // A request handed over and not picked up has not begun.
            if let Some(job) = self.slots[slot].handed.take() {
                self.book_unsent(job.index, job.planned, end);
            }
            if let Some(current) = self.slots[slot].current.take() {
                // The alarm may be late by its grain; the limit counts.
                let overdue = end >= current.begun + self.timeout;
                let ending = if overdue { Ending::TimedOut } else { Ending::Unfinished };
                self.book(current, ending, end);
            }
        }
        while let Some((index, planned)) = self.cursor.next() {
            self.book_unsent(index, planned, end);
        }
        let elapsed = end - self.start;
        let mean_in_flight =
            if elapsed.is_zero() { 0.0 } else { self.busy.as_secs_f64() / elapsed.as_secs_f64() };
        RunEnd {
            elapsed,
            interrupted,
            peak_in_flight: self.peak_in_flight,
            mean_in_flight,
            peak_connections: self.peak_connections,
        }
    }

    fn has_room(&self) -> bool {
        !self.idle.is_empty() || self.slots.len() - self.vacant.len() < self.max_connections
    }

    fn open_slot(&mut self) -> usize {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let open = self.slots.len() - self.vacant.len();
        self.peak_connections = self.peak_connections.max(open);
        slot
    }

    /// The next request whose planned instant has come. Those past their deadline are shed on the
    /// way: a late answer would be of no use, and asking for it only adds to the load.
    fn take_due(&mut self, now: Instant, waited: bool) -> Option<Job> {
        // Nothing is due before the start, not even the first request.
        let elapsed = now.checked_duration_since(self.start)?;
        loop {
            let (index, planned) = self.cursor.next_if(|(_, planned)| *planned <= elapsed)?;
            if self.deadline.is_none_or(|deadline| elapsed - planned <= deadline) {
                self.in_flight += 1;
                self.peak_in_flight = self.peak_in_flight.max(self.in_flight);
                return Some(Job { index, planned, waited });
            }
            self.observer.observe(&Sample {
                index,
                planned,
                sent: None,
                finished: elapsed,
                outcome: Outcome::Shed,
                status: None,
            });
        }
    }

    fn book(&mut self, current: Current, ending: Ending, now: Instant) {
        let Current { job, begun, sent } = current;
        let finished = match ending {
            Ending::TimedOut => begun + self.timeout,
            _ => now,
        };
        self.busy += finished - begun;
        let finished = finished - self.start;
        let in_time = self.deadline.is_none_or(|deadline| finished - job.planned <= deadline);
        let (outcome, status) = match ending {
            Ending::Answered(status @ 400..) => (Outcome::Status, Some(status)),
            Ending::Answered(status) if in_time => (Outcome::Ok, Some(status)),
            Ending::Answered(status) => (Outcome::Late, Some(status)),
            Ending::NotConnected => (Outcome::Connect, None),
            Ending::Closed(status) => (Outcome::Closed, status),
            Ending::Malformed(status) => (Outcome::Malformed, status),
            Ending::TimedOut => (Outcome::Timeout, None),
            Ending::Unfinished => (Outcome::Unfinished, None),
        };
        self.observer.observe(&Sample {
            index: job.index,
            planned: job.planned,
            sent: sent.map(|sent| sent - self.start),
            finished,
            outcome,
            status,
        });
    }

    fn book_unsent(&mut self, index: u64, planned: Duration, end: Instant) {
        self.observer.observe(&Sample {
            index,
            planned,
            sent: None,
            finished: end - self.start,
            outcome: Outcome::Unsent,
            status: None,
        });
    }
}

/// How a request that had begun came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A whole response with this status.
    Answered(u16),
    NotConnected,
    Closed(Option<u16>),
    Malformed(Option<u16>),
    TimedOut,
    Unfinished,
}

//! What all lanes share: the cursor into the plan, who is idle, and what is in flight.
//!
//! No method waits; each is given the instant at which it decides.

use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::tally::Tally;
use super::{News, Options, Overflow, RunEnd, Step};
use crate::observer::{Event, Observer};
use crate::plan::{Cursor, Plan};
use crate::sample::{Outcome, Sample};

/// The most backends that are told apart; answers of others count as from nobody.
const MAX_BACKENDS: usize = 1000;

/// A planned request whose turn has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) index: u64,
    pub(super) planned: Duration,
    /// It was due before a lane was free.
    pub(super) waited: bool,
}

/// An instant, and how long after the start it is: subtracted once, and used all over the desk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) elapsed: Duration,
}

/// What is known of a request in flight; times count from the start.
#[derive(Clone, Copy, Debug)]
struct Current {
    job: Job,
    target: usize,
    begun: Duration,
    limit: Instant,
    sent: Option<Duration>,
}

/// One lane's place at the desk.
#[derive(Debug, Default)]
struct Slot {
    /// Handed over and not yet picked up.
    handed: Option<Job>,
    waker: Option<Waker>,
    current: Option<Current>,
}

pub(super) struct Desk<'a, O: ?Sized> {
    observer: &'a mut O,
    cursor: Cursor,
    plan_is_counted: bool,
    is_closed_loop: bool,
    start: Instant,
    deadline: Option<Duration>,
    options: &'a Options,
    max_lanes: usize,
    slots: Vec<Slot>,
    /// Idle lanes, the one used last on top: few connections stay warm, and the others can be
    /// seen to be unneeded.
    idle: Vec<usize>,
    /// Slots without a lane.
    vacant: Vec<usize>,
    /// Handed over or in flight.
    in_flight: Tally,
    /// Begun and not finished.
    begun: u32,
    /// That number, added up over time until `counted_at`, in nanoseconds.
    begun_time: u128,
    counted_at: Duration,
    /// A lane has become idle or ended since the last step.
    changed: bool,
    busy: Duration,
    backends: Vec<Vec<u8>>,
}

impl<'a, O: Observer + ?Sized> Desk<'a, O> {
    pub(super) fn new(
        plan: &Plan,
        options: &'a Options,
        start: Instant,
        observer: &'a mut O,
    ) -> Desk<'a, O> {
        Desk {
            observer,
            cursor: plan.cursor(),
            plan_is_counted: plan.is_counted(),
            is_closed_loop: plan.is_closed(),
            start,
            deadline: options.deadline,
            options,
            max_lanes: options.max_lanes(),
            slots: Vec::new(),
            idle: Vec::new(),
            vacant: Vec::new(),
            in_flight: Tally::new(options.gauges.as_ref(), |gauges| &gauges.in_flight),
            begun: 0,
            begun_time: 0,
            counted_at: Duration::ZERO,
            changed: false,
            busy: Duration::ZERO,
            backends: Vec::new(),
        }
    }

    /// Hands out what is due, as far as lanes are free or may be opened.
    pub(super) fn dispatch(&mut self, now: Instant) -> Step {
        let mut opened = Vec::new();
        // Nothing is due before the start, not even the first request.
        let elapsed = now.checked_duration_since(self.start);
        while self.has_room() {
            let Some(job) = elapsed.and_then(|elapsed| self.take_due(elapsed, false)) else {
                break;
            };
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
        let skips = self.options.overflow == Overflow::Skip;
        if skips && let Some(elapsed) = elapsed {
            while !self.has_room()
                && let Some((index, planned)) = self.cursor.take_due(elapsed)
            {
                self.book_unsent(Outcome::Skipped, index, planned, elapsed);
            }
        }
        let may_hand_out = skips || self.has_room();
        let next_due = self.cursor.peek().filter(|_| may_hand_out).map(|at| self.start + at);
        self.changed = false;
        Step { opened, in_flight: self.in_flight.now() > 0, next_due }
    }

    /// What the dispatcher should know, given whether it believes that something is in flight.
    pub(super) fn take_news(&mut self, believes_in_flight: bool) -> News {
        let is_idle = self.in_flight.now() == 0;
        let all_ended = is_idle && self.cursor.peek().is_none();
        let fell_idle = believes_in_flight && is_idle;
        News { changed: std::mem::take(&mut self.changed) || fell_idle, all_ended }
    }

    /// The request that was handed to an idle lane, once there is one.
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

    /// Books that work on a request begins, on an open connection if `reused`; it is to end by
    /// `limit`.
    pub(super) fn begin(&mut self, slot: usize, begin: Begin) {
        let Begin { job, target, now, limit, reused } = begin;
        let Job { planned, waited, .. } = job;
        let begun = now.elapsed;
        let lag = begun.saturating_sub(planned);
        self.observer.note(Event::Begun { planned, lag, waited, reused });
        self.count_begun(begun);
        self.begun += 1;
        self.slots[slot].current = Some(Current { job, target, begun, limit, sent: None });
    }

    /// Books that the first byte of a request is handed to its connection; `None` for as soon as
    /// work on it began.
    pub(super) fn sent(&mut self, slot: usize, now: Option<Instant>) {
        if let Some(current) = &mut self.slots[slot].current {
            // A second try does not make the first one unsent.
            let sent = now.map_or(current.begun, |now| now.saturating_duration_since(self.start));
            current.sent.get_or_insert(sent);
        }
    }

    pub(super) fn note(&mut self, event: Event<'_>) {
        self.observer.note(event);
    }

    /// Books the end of a request; `backend` is what answered.
    pub(super) fn finish(
        &mut self,
        slot: usize,
        ending: Ending,
        backend: Option<&[u8]>,
        now: Moment,
    ) {
        if let Some(current) = self.slots[slot].current.take() {
            let backend = backend.and_then(|name| self.backend(name));
            self.count_begun(now.elapsed);
            self.book(current, ending, backend, now.elapsed);
            self.begun -= 1;
            self.in_flight.down();
        }
    }

    /// Gives a lane that has finished the next request that is due. If none is, the lane is idle
    /// if its connection is `open`, and gone otherwise.
    pub(super) fn next(&mut self, slot: usize, now: Moment, open: bool) -> Option<Job> {
        // Someone who was free and had not been given it yet: then it did not wait for us.
        let was_full = !self.has_room();
        // In a closed loop nobody waits: the next request is planned as the last one ends.
        let next = self.take_due(now.elapsed, was_full && !self.is_closed_loop);
        if next.is_none() {
            self.changed |= was_full;
            if open { self.idle.push(slot) } else { self.vacant.push(slot) }
        }
        next
    }

    /// Books whatever has not come to an end, and ends the run.
    pub(super) fn close(mut self, end: Instant, interrupted: bool) -> RunEnd {
        let elapsed = end.saturating_duration_since(self.start);
        self.count_begun(elapsed);
        for slot in 0..self.slots.len() {
            // A request handed over and not picked up has not begun.
            if let Some(job) = self.slots[slot].handed.take() {
                self.in_flight.down();
                let Job { index, planned, .. } = job;
                self.book_unsent(Outcome::Unsent, index, planned, elapsed);
            }
            if let Some(current) = self.slots[slot].current.take() {
                self.in_flight.down();
                // The alarm may be late by its grain; the limit counts.
                let overdue = end >= current.limit;
                let ending = if overdue { Ending::TimedOut } else { Ending::Unfinished };
                self.book(current, ending, None, elapsed);
            }
        }
        while let Some((index, planned)) = self.cursor.take_rest(self.plan_is_counted, elapsed) {
            self.book_unsent(Outcome::Unsent, index, planned, elapsed);
        }
        let mean = |total: u128| {
            if elapsed.is_zero() { 0.0 } else { total as f64 / elapsed.as_nanos() as f64 }
        };
        RunEnd {
            elapsed,
            interrupted,
            peak_in_flight: self.in_flight.peak(),
            mean_in_flight: mean(self.busy.as_nanos()),
            observed_in_flight: mean(self.begun_time),
            peak_connections: 0,
        }
    }

    fn has_room(&self) -> bool {
        !self.idle.is_empty() || self.slots.len() - self.vacant.len() < self.max_lanes
    }

    fn open_slot(&mut self) -> usize {
        self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        })
    }

    /// The next request whose planned instant has come. Those past their deadline are shed on the
    /// way: a late answer would be of no use, and asking for it only adds to the load.
    fn take_due(&mut self, elapsed: Duration, waited: bool) -> Option<Job> {
        loop {
            let (index, planned) = self.cursor.take_due(elapsed)?;
            if self.deadline.is_none_or(|deadline| elapsed - planned <= deadline) {
                self.in_flight.up();
                return Some(Job { index, planned, waited });
            }
            self.book_unsent(Outcome::Shed, index, planned, elapsed);
        }
    }

    /// Adds up the time in flight until `now`, before the number changes.
    fn count_begun(&mut self, now: Duration) {
        let since = now.saturating_sub(self.counted_at);
        self.begun_time += since.as_nanos() * u128::from(self.begun);
        self.counted_at = self.counted_at.max(now);
    }

    /// The number of a backend, which the observer is told when it is new.
    fn backend(&mut self, name: &[u8]) -> Option<u32> {
        let known = self.backends.iter().position(|known| known == name);
        let id = known.unwrap_or(self.backends.len());
        if id >= MAX_BACKENDS {
            return None;
        }
        let number = id as u32;
        if known.is_none() {
            self.backends.push(name.to_vec());
            let name = String::from_utf8_lossy(name);
            self.observer.note(Event::Backend { id: number, name: &name });
        }
        Some(number)
    }

    fn book(&mut self, current: Current, ending: Ending, backend: Option<u32>, now: Duration) {
        let Current { job, target, begun, limit, sent } = current;
        let mut finished = now;
        if matches!(ending, Ending::TimedOut) {
            finished = limit.saturating_duration_since(self.start).max(begun);
            // The alarm is late by its grain, for which nothing was in flight any more.
            let late = now.saturating_sub(finished).as_nanos();
            self.begun_time = self.begun_time.saturating_sub(late);
        }
        self.busy += finished.saturating_sub(begun);
        let in_time = self.deadline.is_none_or(|deadline| finished - job.planned <= deadline);
        let (outcome, status, heard) = match ending {
            Ending::Answered { status, satisfied, heard } => {
                let outcome = match (self.options.expect.allows(status), satisfied, in_time) {
                    (false, _, _) => Outcome::Status,
                    (true, false, _) => Outcome::Invalid,
                    (true, true, true) => Outcome::Ok,
                    (true, true, false) => Outcome::Late,
                };
                let heard = heard.map(|heard| heard.saturating_duration_since(self.start));
                (outcome, Some(status), Some(heard.unwrap_or(finished)))
            }
            Ending::NotConnected => (Outcome::Connect, None, None),
            Ending::Closed(status) => (Outcome::Closed, status, None),
            Ending::Malformed(status) => (Outcome::Malformed, status, None),
            Ending::TimedOut => (Outcome::Timeout, None, None),
            Ending::Unfinished => (Outcome::Unfinished, None, None),
        };
        self.observer.observe(&Sample {
            index: job.index,
            planned: job.planned,
            sent,
            first_byte: heard,
            finished,
            outcome,
            status,
            target: target as u32,
            backend,
        });
    }

    /// Books a request that never left.
    fn book_unsent(&mut self, outcome: Outcome, index: u64, planned: Duration, elapsed: Duration) {
        let Options { mix, seed, .. } = self.options;
        self.observer.observe(&Sample {
            index,
            planned,
            sent: None,
            first_byte: None,
            finished: elapsed,
            outcome,
            status: None,
            target: mix.pick(*seed, index) as u32,
            backend: None,
        });
    }
}

/// What is known when work on a request begins.
pub(super) struct Begin {
    pub(super) job: Job,
    pub(super) target: usize,
    pub(super) now: Moment,
    pub(super) limit: Instant,
    /// Its connection is open.
    pub(super) reused: bool,
}

/// How a request that had begun came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A whole response, its content as expected if `satisfied`; its first byte came at `heard`,
    /// or with its last.
    Answered {
        status: u16,
        satisfied: bool,
        heard: Option<Instant>,
    },
    NotConnected,
    Closed(Option<u16>),
    Malformed(Option<u16>),
    TimedOut,
    Unfinished,
}

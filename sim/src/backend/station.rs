//! Who is worked on, who waits, and how far the work has got: queueing, in exact time. Pure.
//!
//! All work that goes on at the same time goes on at the same speed. So there is one clock of work
//! done, which runs at that speed; a piece of work is finished when that clock has moved on by its
//! length, and the next one to finish is the first in one list. A change of speed, by another
//! request to share with or by a machine that others use too, changes the speed of the clock and
//! nothing else.
//!
//! The simulator steps in milliseconds and timers are late by up to one. The books here are not:
//! work is finished at the instant at which it is, whoever waits next begins at that same instant,
//! and no error adds up over a busy time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// Who is worked on first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discipline {
    /// Who has waited longest.
    #[default]
    Fifo,
    /// Who came last.
    Lifo,
    /// All at once: nobody waits, and the workers are shared evenly among those who are there. No
    /// request is worked on by more than one.
    ProcessorSharing,
}

/// The rules of a station, which may change at any time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) discipline: Discipline,
    /// Workers; `None`: one for everybody.
    pub(super) workers: Option<usize>,
    /// Requests that may be there beyond the workers; `None`: any number.
    pub(super) queue: Option<usize>,
    /// How fast each worker is; 0 stands still.
    pub(super) speed: f64,
}

/// No worker is free and no more may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

/// A place of work. Requests are told apart by numbers of the caller's.
#[derive(Debug)]
pub(super) struct Station {
    rules: Rules,
    /// Until when the books are made, in nanoseconds; so are all times here.
    now: f64,
    /// The clock of work done.
    done: f64,
    /// Those who wait, in order of arrival, and since when.
    waiting: BTreeMap<u64, (u64, f64)>,
    /// Their places in that order, which are numbered from 0.
    tickets: BTreeMap<u64, u64>,
    next_ticket: u64,
    /// Those who have a worker: where their work ends on the clock of work done, unless they do
    /// something else with it, such as to wait for another service.
    held: BTreeMap<u64, Option<Work>>,
    /// The pieces of work that go on, by where they end.
    ends: BTreeSet<(Position, u64)>,
    /// Instants that have not been asked for yet: when a wait was over, or a piece of work.
    reached: BTreeMap<u64, f64>,
    /// Those for whom something has changed since this was last asked.
    changed: Vec<u64>,
}

/// A piece of work that goes on.
#[derive(Clone, Copy, Debug)]
struct Work {
    end: Position,
    /// The worker goes to the next one when it is finished.
    is_last: bool,
}

/// A place on the clock of work done.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Position(f64);

impl Eq for Position {}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Half of the smallest time that anyone can tell: work that lacks less is finished.
const LEAST: f64 = 0.5;

impl Station {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            now: 0.0,
            done: 0.0,
            waiting: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            held: BTreeMap::new(),
            ends: BTreeSet::new(),
            reached: BTreeMap::new(),
            changed: Vec::new(),
        }
    }

    /// From now on these rules hold. Whoever has a worker keeps it.
    pub(super) fn set(&mut self, rules: Rules, now: Duration) {
        if self.rules == rules {
            return;
        }
        self.advance(now);
        self.rules = rules;
        self.hand_out(self.now);
        self.changed.extend(self.ends.iter().map(|(_, number)| *number));
    }

    /// A request comes. It is given a worker at once, or waits for one.
    ///
    /// # Errors
    /// When it may not wait; then it is not there.
    pub(super) fn arrive(&mut self, number: u64, now: Duration) -> Result<(), QueueFull> {
        self.advance(now);
        if self.is_free() && self.waiting.is_empty() {
            self.hold(number, self.now);
            return Ok(());
        }
        let beyond = (self.held.len() + self.waiting.len())
            .saturating_sub(self.rules.workers.unwrap_or(usize::MAX));
        if self.rules.queue.is_some_and(|most| beyond >= most) {
            return Err(QueueFull);
        }
        if self.rules.discipline == Discipline::ProcessorSharing {
            self.hold(number, self.now);
        } else {
            self.waiting.insert(self.next_ticket, (number, self.now));
            self.tickets.insert(number, self.next_ticket);
            self.next_ticket += 1;
        }
        Ok(())
    }

    /// True while it waits for a worker.
    pub(super) fn is_waiting(&self, number: u64) -> bool {
        self.tickets.contains_key(&number)
    }

    /// A request that has a worker is worked on from the instant `from`, which was not long ago;
    /// `is_last` gives the worker away at the end of it.
    pub(super) fn work(&mut self, number: u64, amount: Duration, from: Duration, is_last: bool) {
        let missed = (self.now - nanos(from)).max(0.0) * self.speed(self.ends.len() + 1);
        let end = Position(self.done - missed + nanos(amount));
        let Some(held) = self.held.get_mut(&number) else { return };
        *held = Some(Work { end, is_last });
        let head = self.head();
        self.ends.insert((end, number));
        self.sharing_changed(head);
    }

    /// Makes the books until `now`.
    pub(super) fn advance(&mut self, now: Duration) {
        let now = nanos(now);
        while let Some((end, number)) = self.ends.first().copied() {
            let speed = self.speed(self.ends.len());
            let left = end.0 - self.done;
            if left > 0.0 && left - LEAST * speed > (now - self.now).max(0.0) * speed {
                break;
            }
            // Below zero when it began a little before the books were made.
            let at = if speed > 0.0 { self.now + left / speed } else { self.now };
            self.done = self.done.max(end.0);
            self.now = self.now.max(at);
            self.ends.pop_first();
            self.reached.insert(number, at);
            self.changed.push(number);
            self.release(number, at);
            self.sharing_changed(None);
        }
        let passed = (now - self.now).max(0.0);
        self.done += passed * self.speed(self.ends.len());
        self.now = self.now.max(now);
        if self.held.is_empty() {
            // Small numbers are exact numbers.
            self.done = 0.0;
        }
    }

    /// When its wait or its work was over, once it is. Says so once.
    pub(super) fn take_reached(&mut self, number: u64) -> Option<Duration> {
        self.reached.remove(&number).map(|at| Duration::from_nanos(at.round() as u64))
    }

    /// When to look again for the end of its work, as far as that can be said now. Of those who
    /// share, only the first to finish is told: the others' ends would change with it.
    pub(super) fn alarm(&self, number: u64) -> Option<Duration> {
        let shares = self.rules.discipline == Discipline::ProcessorSharing;
        if shares && self.head() != Some(number) {
            return None;
        }
        let work = self.held.get(&number)?.as_ref()?;
        let speed = self.speed(self.ends.len());
        let left = (work.end.0 - self.done).max(0.0) / speed;
        // At no speed never; and no clock goes further than that.
        (left < FOREVER).then(|| Duration::from_nanos((self.now + left).ceil() as u64))
    }

    /// It leaves, from wherever it is; a worker that it has goes to the next.
    pub(super) fn leave(&mut self, number: u64, now: Duration) {
        self.advance(now);
        self.reached.remove(&number);
        if let Some(ticket) = self.tickets.remove(&number) {
            self.waiting.remove(&ticket);
        }
        if let Some(Some(work)) = self.held.get(&number).copied() {
            let head = self.head();
            self.ends.remove(&(work.end, number));
            self.sharing_changed(head);
        }
        if self.held.remove(&number).is_some() {
            self.hand_out(self.now);
        }
    }

    /// Those for whom something has changed: their wait or work is over, or their alarm is wrong.
    pub(super) fn take_changed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.changed)
    }

    /// Ends the hold on a worker of one whose last work is finished, and that work.
    fn release(&mut self, number: u64, at: f64) {
        let Some(held) = self.held.get_mut(&number) else { return };
        if held.take().is_some_and(|work| work.is_last) {
            self.held.remove(&number);
            self.hand_out(at);
        }
    }

    /// Gives free workers to those who wait.
    fn hand_out(&mut self, at: f64) {
        while self.is_free() {
            let Some(ticket) = self.next_waiting(at) else { return };
            let Some((number, since)) = self.waiting.remove(&ticket) else { return };
            self.tickets.remove(&number);
            self.hold(number, at.max(since));
            self.changed.push(number);
        }
    }

    /// Whose turn it is at an instant, which may lie a little before the last arrivals.
    fn next_waiting(&self, at: f64) -> Option<u64> {
        let first = self.waiting.keys().next().copied();
        if self.rules.discipline != Discipline::Lifo {
            return first;
        }
        let last = self.waiting.iter().rev().find(|(_, (_, since))| *since <= at);
        last.map(|(ticket, _)| *ticket).or(first)
    }

    fn hold(&mut self, number: u64, at: f64) {
        self.held.insert(number, None);
        self.reached.insert(number, at);
    }

    fn is_free(&self) -> bool {
        self.rules.workers.is_none_or(|workers| self.held.len() < workers)
    }

    fn head(&self) -> Option<u64> {
        self.ends.first().map(|(_, number)| *number)
    }

    /// How fast work goes on when so many are worked on.
    fn speed(&self, in_work: usize) -> f64 {
        match (self.rules.discipline, self.rules.workers) {
            (Discipline::ProcessorSharing, Some(workers)) if in_work > workers => {
                self.rules.speed * workers as f64 / in_work as f64
            }
            _ => self.rules.speed,
        }
    }

    /// Among those who share, one more or less changes the first one's end; `before` was the first.
    fn sharing_changed(&mut self, before: Option<u64>) {
        if self.rules.discipline == Discipline::ProcessorSharing {
            self.changed.extend(before);
            self.changed.extend(self.head().filter(|head| before != Some(*head)));
        }
    }
}

/// A hundred years.
const FOREVER: f64 = 100.0 * 366.0 * 24.0 * 3600.0 * 1e9;

fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}

#[cfg(test)]
mod tests;

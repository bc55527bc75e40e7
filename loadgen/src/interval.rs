//! A run cut into intervals, while it goes on.
//!
//! A histogram of the whole run hides when things happened. Here each second has one, handed on
//! as soon as it is over, so that a run of days needs no more memory than one of seconds, and
//! whoever watches sees it while it happens.

use std::time::Duration;

use crate::accounting::Accounting;
use crate::histogram::LatencyHistogram;
use crate::observer::{Event, Observer};
use crate::sample::{Outcome, Sample};

/// What happened in one interval. Requests are in the one in which they ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Its place, from 0.
    pub index: u64,
    /// When it began, from the start of the run.
    pub start: Duration,
    /// How long it is.
    pub length: Duration,
    /// Requests on which work began.
    pub begun: u64,
    /// Requests that came to their end.
    pub accounting: Accounting,
    /// Their response times, from the planned instant; those without an answer with the time that
    /// they had waited.
    pub response: LatencyHistogram,
    /// Their service times, from the send.
    pub service: LatencyHistogram,
}

impl Interval {
    fn new(index: u64, length: Duration) -> Interval {
        let start = length.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
        Interval {
            index,
            start,
            length,
            begun: 0,
            accounting: Accounting::default(),
            response: LatencyHistogram::new(),
            service: LatencyHistogram::new(),
        }
    }

    /// Adds the same interval of another worker.
    pub fn merge(&mut self, other: &Interval) {
        self.begun += other.begun;
        self.accounting.merge(&other.accounting);
        self.response.merge(&other.response);
        self.service.merge(&other.service);
    }

    /// Requests per second on which work began.
    pub fn sent_per_s(&self) -> f64 {
        self.begun as f64 / self.length.as_secs_f64()
    }

    /// Whole responses per second.
    pub fn answered_per_s(&self) -> f64 {
        self.accounting.answered() as f64 / self.length.as_secs_f64()
    }
}

/// The observer that cuts a run into intervals and hands each on.
#[derive(Debug)]
pub struct Timeline<F> {
    current: Interval,
    hand_on: F,
}

impl<F: FnMut(Interval)> Timeline<F> {
    /// Intervals of this length, each given to `hand_on` when it is over.
    ///
    /// # Panics
    /// When the length is zero.
    pub fn new(length: Duration, hand_on: F) -> Timeline<F> {
        assert!(!length.is_zero(), "an interval has a length");
        Timeline { current: Interval::new(0, length), hand_on }
    }

    /// Ends the intervals that are over `elapsed` after the start, also those in which nothing
    /// happened.
    pub fn advance(&mut self, elapsed: Duration) {
        while elapsed >= self.current.start + self.current.length {
            let next = Interval::new(self.current.index + 1, self.current.length);
            (self.hand_on)(std::mem::replace(&mut self.current, next));
        }
    }

    /// Ends the last interval, however much of it has passed.
    pub fn finish(mut self) {
        (self.hand_on)(self.current);
    }
}

impl<F: FnMut(Interval)> Observer for Timeline<F> {
    fn observe(&mut self, sample: &Sample) {
        // What the end of the run overtook ends nowhere in it.
        let was_due = sample.outcome != Outcome::Unsent || sample.planned < sample.finished;
        // A timeout is booked at its limit, a little before it was noticed: it falls in the
        // interval of its notice.
        self.advance(sample.finished);
        self.current.accounting.add(sample.outcome);
        if was_due {
            self.current.response.record(sample.response_time());
        }
        if let Some(service) = sample.service_time() {
            self.current.service.record(service);
        }
    }

    fn note(&mut self, event: Event<'_>) {
        if let Event::Begun { planned, lag, .. } = event {
            self.advance(planned + lag);
            self.current.begun += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(at_ms: u64, outcome: Outcome) -> Sample {
        Sample {
            index: 0,
            planned: Duration::from_millis(at_ms - 5),
            sent: outcome.was_sent().then(|| Duration::from_millis(at_ms - 5)),
            first_byte: None,
            finished: Duration::from_millis(at_ms),
            outcome,
            status: None,
            target: 0,
            backend: None,
        }
    }

    #[test]
    fn each_request_is_in_the_interval_in_which_it_ended() {
        let mut intervals = Vec::new();
        let mut timeline = Timeline::new(Duration::from_secs(1), |i| intervals.push(i));
        timeline.observe(&ended(999, Outcome::Ok));
        timeline.observe(&ended(1000, Outcome::Ok));
        timeline.observe(&ended(3500, Outcome::Timeout));
        timeline.finish();
        let counts: Vec<(u64, u64)> =
            intervals.iter().map(|i| (i.index, i.accounting.planned)).collect();
        assert_eq!(counts, [(0, 1), (1, 1), (2, 0), (3, 1)]);
        assert_eq!(intervals[3].start, Duration::from_secs(3));
        assert!(intervals.iter().all(|i| i.accounting.verify().is_ok()));
    }
}

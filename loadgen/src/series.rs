//! What happened over time, small enough to be kept in a record.
//!
//! A request is in the interval in which it was *planned*, with what became of it in the end: so a
//! stall shows where the schedule met it, and not where its victims were answered at last. When
//! requests were sent and ended is counted beside that. [`interval`](crate::interval) is the other
//! way round: it hands on each interval as soon as it is over.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accounting::{Accounting, Imbalance};
use crate::histogram::CoarseHistogram;
use crate::plan::MAX_DURATION;
use crate::sample::{Outcome, Sample};

/// The most intervals that are kept: more than a plot has room for, and some 100 kB of a record. A
/// run that has more is kept in intervals of twice the length, as often as it takes.
pub const MOST_INTERVALS: usize = 120;

/// No run is longer, and so no interval.
const LONGEST_INTERVAL_MS: u64 = MAX_DURATION.as_secs() * 1000;

/// A run by intervals of one length. The first begins where measuring begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// How long each interval is, in milliseconds.
    pub interval_ms: u64,
    /// In order, without a gap; at most 120.
    pub intervals: Vec<SeriesInterval>,
}

/// One interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeriesInterval {
    /// Requests planned in it that came due, and what became of them in the end.
    pub accounting: Accounting,
    /// Their response times; those without an answer with the time that they had waited.
    pub response: CoarseHistogram,
    /// The generator's own lag: of those for which a connection was free, from the planned instant
    /// to the begin of work.
    pub send_lag: CoarseHistogram,
    /// Requests sent in it, whenever they were planned.
    pub sent: u64,
    /// Requests answered well and in time in it, whenever they were planned.
    pub good: u64,
    /// Requests that came to any other end in it, whenever they were planned.
    pub failed: u64,
}

impl Series {
    /// Nothing yet, by intervals of this length in whole milliseconds, rounded up.
    pub fn new(length: Duration) -> Series {
        let interval_ms =
            length.as_nanos().div_ceil(1_000_000).clamp(1, u128::from(LONGEST_INTERVAL_MS));
        Series { interval_ms: interval_ms as u64, intervals: Vec::new() }
    }

    /// Adds a request that came due; measuring began at `begin`.
    pub(crate) fn observe(&mut self, sample: &Sample, begin: Duration) {
        let planned = self.at(sample.planned.saturating_sub(begin));
        planned.accounting.add(sample.outcome);
        planned.response.record(sample.response_time());
        if let Some(sent) = sample.sent {
            self.at(sent.saturating_sub(begin)).sent += 1;
        }
        let ended = self.at(sample.finished.saturating_sub(begin));
        match sample.outcome {
            Outcome::Ok => ended.good += 1,
            _ => ended.failed += 1,
        }
    }

    /// Adds the lag of a request that was planned so long after measuring began.
    pub(crate) fn lagged(&mut self, planned: Duration, lag: Duration) {
        self.at(planned).send_lag.record(lag);
    }

    /// Adds what another worker or machine did at the same time. Of two lengths the longer counts,
    /// if it is the shorter one doubled; else nothing can be said of both, and `false` is.
    pub fn merge(&mut self, other: &Series) -> bool {
        let mut other = other.clone();
        while self.interval_ms < other.interval_ms && self.interval_ms > 0 {
            self.double();
        }
        while other.interval_ms < self.interval_ms && other.interval_ms > 0 {
            other.double();
        }
        if self.interval_ms != other.interval_ms {
            return false;
        }
        let length = self.intervals.len().max(other.intervals.len());
        self.intervals.resize_with(length, SeriesInterval::default);
        for (mine, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            mine.merge(theirs);
        }
        true
    }

    /// How many requests came due.
    pub fn planned(&self) -> u64 {
        self.intervals.iter().map(|interval| interval.accounting.planned).sum()
    }

    /// Checks the bounds, and the accounting of each interval.
    ///
    /// # Errors
    /// Says what does not hold.
    pub fn verify(&self) -> Result<(), SeriesError> {
        if !(1..=LONGEST_INTERVAL_MS).contains(&self.interval_ms) {
            return Err(SeriesError::Length { interval_ms: self.interval_ms });
        }
        if self.intervals.len() > MOST_INTERVALS {
            return Err(SeriesError::TooMany { count: self.intervals.len() });
        }
        self.intervals.iter().enumerate().try_for_each(|(index, interval)| {
            interval.accounting.verify().map_err(|why| SeriesError::Imbalance { index, why })
        })
    }

    /// The interval that long after measuring began.
    fn at(&mut self, time: Duration) -> &mut SeriesInterval {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut index = ms / self.interval_ms;
        while index >= MOST_INTERVALS as u64 {
            self.double();
            index = ms / self.interval_ms;
        }
        let index = index as usize;
        if index >= self.intervals.len() {
            self.intervals.resize_with(index + 1, SeriesInterval::default);
        }
        &mut self.intervals[index]
    }

    /// The same in intervals of twice the length.
    fn double(&mut self) {
        self.interval_ms = self.interval_ms.saturating_mul(2);
        let mut kept = std::mem::take(&mut self.intervals).into_iter();
        while let Some(mut interval) = kept.next() {
            if let Some(next) = kept.next() {
                interval.merge(&next);
            }
            self.intervals.push(interval);
        }
    }
}

impl SeriesInterval {
    fn merge(&mut self, other: &SeriesInterval) {
        self.accounting.merge(&other.accounting);
        self.response.merge(&other.response);
        self.send_lag.merge(&other.send_lag);
        self.sent += other.sent;
        self.good += other.good;
        self.failed += other.failed;
    }
}

/// Why a series cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// Intervals without a length, or of no run that can be made.
    #[error("series: interval_ms is {interval_ms} where 1 to {LONGEST_INTERVAL_MS} is wanted")]
    Length {
        /// How long they are said to be.
        interval_ms: u64,
    },
    /// More than are kept.
    #[error("series: {count} intervals where at most {MOST_INTERVALS} are kept")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// An interval's requests are not all accounted for.
    #[error("series: interval {index}: {why}")]
    Imbalance {
        /// Which one, from 0.
        index: usize,
        /// What does not hold.
        #[source]
        why: Imbalance,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Planned at a millisecond, sent 2 ms later, ended after so many more.
    fn sample(planned_ms: u64, took_ms: u64, outcome: Outcome) -> Sample {
        let planned = Duration::from_millis(planned_ms);
        let sent = planned + Duration::from_millis(2);
        Sample {
            index: 0,
            planned,
            sent: outcome.was_sent().then_some(sent),
            first_byte: None,
            finished: sent + Duration::from_millis(took_ms),
            outcome,
            status: None,
            target: 0,
            backend: None,
        }
    }

    fn of(samples: &[Sample]) -> Series {
        let mut series = Series::new(SECOND);
        samples.iter().for_each(|sample| series.observe(sample, Duration::ZERO));
        series
    }

    fn counts(series: &Series) -> Vec<[u64; 4]> {
        let of = |i: &SeriesInterval| [i.accounting.planned, i.sent, i.good, i.failed];
        series.intervals.iter().map(of).collect()
    }

    #[test]
    fn a_request_is_where_it_was_planned_and_each_thing_where_it_happened() {
        let series = of(&[
            sample(999, 10, Outcome::Ok),
            sample(1000, 5, Outcome::Ok),
            sample(500, 3000, Outcome::Timeout),
            sample(600, 0, Outcome::Shed),
        ]);
        assert_eq!(counts(&series), [[3, 1, 0, 1], [1, 2, 2, 0], [0; 4], [0, 0, 0, 1]]);
        assert_eq!(series.intervals[0].accounting.timeout, 1);
        assert_eq!(series.intervals[0].response.count(), 3);
        assert_eq!(series.verify(), Ok(()));
    }

    #[test]
    fn what_comes_before_measuring_begins_is_at_its_begin() {
        let mut series = Series::new(SECOND);
        series.observe(&sample(5000, 1, Outcome::Ok), SECOND * 5);
        assert_eq!(counts(&series), [[1, 1, 1, 0]]);
    }

    #[test]
    fn a_longer_run_is_kept_in_longer_intervals() {
        let last = MOST_INTERVALS as u64 * 1000 - 1;
        let mut series = of(&[sample(0, 1, Outcome::Ok), sample(last - 10, 1, Outcome::Ok)]);
        assert_eq!((series.interval_ms, series.intervals.len()), (1000, MOST_INTERVALS));
        series.observe(&sample(last + 1, 1, Outcome::Ok), Duration::ZERO);
        assert_eq!((series.interval_ms, series.intervals.len()), (2000, MOST_INTERVALS / 2 + 1));
        assert_eq!((series.planned(), series.verify()), (3, Ok(())));
    }

    #[test]
    fn parts_merged_are_the_whole_also_when_one_was_doubled() {
        let all: Vec<Sample> = (0..300).map(|n| sample(n * 1000, n, Outcome::Ok)).collect();
        let whole = of(&all);
        for cut in [0, 1, 100, 150, 300] {
            let (mut one, other) = (of(&all[..cut]), of(&all[cut..]));
            assert!(one.merge(&other));
            assert_eq!(one, whole, "{cut}");
            let (one, mut other) = (of(&all[..cut]), of(&all[cut..]));
            assert!(other.merge(&one));
            assert_eq!(other, whole, "{cut}");
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_told() {
        let mut series = Series::new(SECOND);
        assert!(!series.merge(&Series::new(SECOND * 3)));
    }

    #[test]
    fn what_is_no_series_is_refused() {
        let mut series = of(&[sample(0, 1, Outcome::Ok)]);
        series.intervals[0].accounting.ok = 2;
        assert!(matches!(series.verify(), Err(SeriesError::Imbalance { index: 0, .. })));
        series.intervals = vec![SeriesInterval::default(); MOST_INTERVALS];
        assert_eq!(series.verify(), Ok(()));
        series.intervals.push(SeriesInterval::default());
        assert_eq!(series.verify(), Err(SeriesError::TooMany { count: MOST_INTERVALS + 1 }));
        for (interval_ms, fits) in
            [(0, false), (1, true), (LONGEST_INTERVAL_MS, true), (LONGEST_INTERVAL_MS + 1, false)]
        {
            let series = Series { interval_ms, intervals: Vec::new() };
            assert_eq!(series.verify().is_ok(), fits, "{interval_ms}");
        }
    }
}

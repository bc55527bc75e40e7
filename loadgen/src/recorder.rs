//! Counts and histograms of a whole run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::accounting::{Accounting, Imbalance};
use crate::histogram::LatencyHistogram;
use crate::observer::{Event, Observer};
use crate::sample::{Outcome, Sample};

/// The observer that most runs want: where each request went, and how long it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorder {
    /// Every planned request, by its end.
    pub accounting: Accounting,
    /// Response time, from the planned instant, of every request that came due. Timeouts and
    /// others without an answer are in it with the time that they had waited: for them it is a
    /// lower bound.
    pub response: LatencyHistogram,
    /// Response time of the requests answered below 400, late ones included.
    pub response_ok: LatencyHistogram,
    /// Service time, from the send, of every request that was sent. It hides the waiting before
    /// the send.
    pub service: LatencyHistogram,
    /// From the planned instant to the begin of work, of requests for which a connection was
    /// free: the generator's own lag.
    pub send_lag: LatencyHistogram,
    /// The same of requests that found all connections busy.
    pub connection_wait: LatencyHistogram,
    /// Time to open a connection.
    pub connect: LatencyHistogram,
    /// Whole responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Failed requests by cause. Causes are kinds of error, of which there are few.
    pub failures: BTreeMap<String, u64>,
    /// Requests that were given an open connection.
    pub reused: u64,
    /// Requests sent a second time because an idle connection had ended.
    pub retried: u64,
    /// How many of `response` are lower bounds.
    pub censored: u64,
    /// The shortest of those lower bounds: percentiles from here on may be higher in truth.
    pub censored_from: Option<Duration>,
    /// The same of `service`.
    pub service_censored_from: Option<Duration>,
    /// When the last request was handed to a connection, from the start of the run.
    pub last_send: Duration,
    /// The time that requests spent in flight, added up over all of them.
    pub service_total: Duration,
}

impl Recorder {
    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks that every planned request is accounted for, and that the histograms and the
    /// statuses hold as many values as the accounting says.
    ///
    /// # Errors
    /// Names the identity that does not hold.
    pub fn verify(&self) -> Result<(), Imbalance> {
        self.accounting.verify()?;
        let a = &self.accounting;
        let statuses: u64 = self.statuses.values().sum();
        let failures: u64 = self.failures.values().sum();
        let identities = [
            ("whole responses = ok + late + status", statuses, a.ok + a.late + a.status),
            ("response_ok = ok + late", self.response_ok.count(), a.ok + a.late),
            (
                "send_lag + connection_wait = sent",
                self.send_lag.count() + self.connection_wait.count(),
                a.sent,
            ),
            ("failures = connect + closed + malformed", failures, {
                a.connect + a.closed + a.malformed
            }),
        ];
        for (identity, left, right) in identities {
            if left != right {
                return Err(Imbalance { identity, left, right });
            }
        }
        Ok(())
    }

    /// Adds what another worker of the same run recorded.
    pub fn merge(&mut self, other: &Recorder) {
        self.accounting.merge(&other.accounting);
        self.response.merge(&other.response);
        self.response_ok.merge(&other.response_ok);
        self.service.merge(&other.service);
        self.send_lag.merge(&other.send_lag);
        self.connection_wait.merge(&other.connection_wait);
        self.connect.merge(&other.connect);
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (cause, count) in &other.failures {
            *self.failures.entry(cause.clone()).or_default() += count;
        }
        self.reused += other.reused;
        self.retried += other.retried;
        self.censored += other.censored;
        self.censored_from = shorter(self.censored_from, other.censored_from);
        self.service_censored_from =
            shorter(self.service_censored_from, other.service_censored_from);
        self.last_send = self.last_send.max(other.last_send);
        self.service_total += other.service_total;
    }
}

impl Observer for Recorder {
    fn observe(&mut self, sample: &Sample) {
        self.accounting.add(sample.outcome);
        // What the end of the run overtook before it was due has not waited for anything.
        if sample.outcome == Outcome::Unsent && sample.planned >= sample.finished {
            return;
        }
        let response = sample.response_time();
        self.response.record(response);
        if sample.outcome.is_censored() {
            self.censored += 1;
            self.censored_from = shorter(self.censored_from, Some(response));
            self.service_censored_from = shorter(self.service_censored_from, sample.service_time());
        }
        if let Some(service) = sample.service_time() {
            self.service.record(service);
            self.service_total += service;
            self.last_send = self.last_send.max(sample.sent.unwrap_or_default());
        }
        if matches!(sample.outcome, Outcome::Ok | Outcome::Late) {
            self.response_ok.record(response);
        }
        if matches!(sample.outcome, Outcome::Ok | Outcome::Late | Outcome::Status) {
            *self.statuses.entry(sample.status.unwrap_or_default()).or_default() += 1;
        }
    }

    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Begun { lag, waited, reused } => {
                self.reused += u64::from(reused);
                let histogram = if waited { &mut self.connection_wait } else { &mut self.send_lag };
                histogram.record(lag);
            }
            Event::Connected { took } => self.connect.record(took),
            Event::Retried => self.retried += 1,
            Event::Failed(failure) => *self.failures.entry(failure.label()).or_default() += 1,
        }
    }
}

/// The shorter of two durations that need not be there.
fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_sample() -> impl Strategy<Value = (Sample, bool)> {
        let outcomes = vec![
            Outcome::Ok,
            Outcome::Late,
            Outcome::Status,
            Outcome::Timeout,
            Outcome::Unfinished,
            Outcome::Shed,
            Outcome::Unsent,
        ];
        let times = (0_u64..5000, 0_u64..5000, 0_u64..5000);
        (prop::sample::select(outcomes), times, any::<bool>()).prop_map(
            |(outcome, (planned, lag, service), waited)| {
                let planned = Duration::from_millis(planned);
                let sent = planned + Duration::from_millis(lag);
                let answered = matches!(outcome, Outcome::Ok | Outcome::Late | Outcome::Status);
                let sample = Sample {
                    index: 0,
                    planned,
                    sent: outcome.was_sent().then_some(sent),
                    finished: sent + Duration::from_millis(service),
                    outcome,
                    status: answered.then_some(200),
                };
                (sample, waited)
            },
        )
    }

    fn record(samples: &[(Sample, bool)]) -> Recorder {
        let mut recorder = Recorder::new();
        for (sample, waited) in samples {
            if let Some(sent) = sample.sent {
                let lag = sent - sample.planned;
                recorder.note(Event::Begun { lag, waited: *waited, reused: true });
            }
            recorder.observe(sample);
        }
        recorder
    }

    proptest! {
        #[test]
        fn parts_merged_are_the_whole(
            samples in prop::collection::vec(any_sample(), 0..40),
            cut: prop::sample::Index,
        ) {
            let whole = record(&samples);
            prop_assert_eq!(whole.verify(), Ok(()));
            let (one, other) = samples.split_at(cut.index(samples.len() + 1));
            let mut merged = record(one);
            merged.merge(&record(other));
            prop_assert_eq!(merged, whole);
        }
    }

    #[test]
    fn an_answer_that_nobody_noted_is_an_imbalance() {
        let mut recorder = Recorder::new();
        let at = Duration::ZERO;
        recorder.observe(&Sample {
            index: 0,
            planned: at,
            sent: Some(at),
            finished: at,
            outcome: Outcome::Ok,
            status: Some(200),
        });
        assert_eq!(
            recorder.verify().map_err(|i| i.identity),
            Err("send_lag + connection_wait = sent")
        );
    }
}

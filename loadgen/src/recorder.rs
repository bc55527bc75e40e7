//! Counts and histograms of a whole run.

mod part;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::accounting::{Accounting, Imbalance};
use crate::histogram::LatencyHistogram;
use crate::observer::{Event, Observer, Shortage};
use crate::sample::{Outcome, Sample};
pub use part::Part;

/// The observer that most runs want: where each request went, and how long it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorder {
    /// Every planned request that is measured, by its end.
    pub accounting: Accounting,
    /// Those planned within the warm-up: sent and counted, and in no histogram.
    pub warmup: Accounting,
    /// Response time, from the planned instant, of every request that came due. Timeouts and
    /// others without an answer are in it with the time that they had waited: for them it is a
    /// lower bound.
    pub response: LatencyHistogram,
    /// Response time of the requests answered well, late ones included.
    pub response_ok: LatencyHistogram,
    /// Service time, from the send, of every request that was sent. It hides the waiting before
    /// the send.
    pub service: LatencyHistogram,
    /// Service time of the requests answered well, late ones included.
    pub service_ok: LatencyHistogram,
    /// From the planned instant to the begin of work, of requests for which a connection was
    /// free: the generator's own lag.
    pub send_lag: LatencyHistogram,
    /// The same of requests that found all connections busy.
    pub connection_wait: LatencyHistogram,
    /// Time to open a connection; those of the warm-up too.
    pub connect: LatencyHistogram,
    /// From the send to the first byte of the response.
    pub first_byte: LatencyHistogram,
    /// Whole responses by status.
    pub statuses: BTreeMap<u16, Part>,
    /// Requests by target, if there is more than one.
    pub targets: Vec<Part>,
    /// Requests by the backend that answered, if they say.
    pub backends: BTreeMap<String, Part>,
    /// Failed requests by cause, those of the warm-up too. Causes are kinds of error, of which
    /// there are few.
    pub failures: BTreeMap<String, u64>,
    /// What this machine ran out of.
    pub shortage: Option<Shortage>,
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
    /// What was planned before this is warm-up.
    warmup_ends: Duration,
    /// Parts by backend number, until they are moved to where they are found by name.
    numbered: Vec<(String, Part)>,
}

impl Recorder {
    /// Nothing recorded yet, and everything measured.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing recorded yet. What is planned within `warmup` is not measured; requests are told
    /// apart by target if there is more than one.
    pub fn with(warmup: Duration, targets: usize) -> Self {
        let targets = if targets > 1 { vec![Part::default(); targets] } else { Vec::new() };
        Self { warmup_ends: warmup, targets, ..Self::default() }
    }

    /// Where requests in and after the warm-up went.
    pub fn total(&self) -> Accounting {
        let mut total = self.accounting;
        total.merge(&self.warmup);
        total
    }

    /// Checks that every planned request is accounted for, and that the histograms and the
    /// statuses hold as many values as the accounting says.
    ///
    /// # Errors
    /// Names the identity that does not hold.
    pub fn verify(&self) -> Result<(), Imbalance> {
        self.accounting.verify()?;
        self.warmup.verify()?;
        let (a, all) = (&self.accounting, self.total());
        let statuses: u64 = self.statuses.values().map(|part| part.accounting.planned).sum();
        let failures: u64 = self.failures.values().sum();
        let lags = self.send_lag.count() + self.connection_wait.count();
        let failed = all.connect + all.closed + all.malformed;
        let mut identities = vec![
            ("whole responses = ok + late + status + invalid", statuses, a.answered()),
            ("response_ok = ok + late", self.response_ok.count(), a.ok + a.late),
            ("service_ok = ok + late", self.service_ok.count(), a.ok + a.late),
            ("first bytes = whole responses", self.first_byte.count(), a.answered()),
            ("send_lag + connection_wait = sent", lags, a.sent),
            ("failures = connect + closed + malformed", failures, failed),
        ];
        if !self.targets.is_empty() {
            let sum: u64 = self.targets.iter().map(|part| part.response.count()).sum();
            identities.push(("response by target = response", sum, self.response.count()));
        }
        match identities.into_iter().find(|(_, left, right)| left != right) {
            Some((identity, left, right)) => Err(Imbalance { identity, left, right }),
            None => Ok(()),
        }
    }

    /// Adds what another worker of the same run recorded.
    pub fn merge(&mut self, other: &Recorder) {
        self.accounting.merge(&other.accounting);
        self.warmup.merge(&other.warmup);
        self.response.merge(&other.response);
        self.response_ok.merge(&other.response_ok);
        self.service.merge(&other.service);
        self.service_ok.merge(&other.service_ok);
        self.send_lag.merge(&other.send_lag);
        self.connection_wait.merge(&other.connection_wait);
        self.connect.merge(&other.connect);
        self.first_byte.merge(&other.first_byte);
        for (status, part) in &other.statuses {
            self.statuses.entry(*status).or_default().merge(part);
        }
        self.targets.resize(self.targets.len().max(other.targets.len()), Part::default());
        for (mine, part) in self.targets.iter_mut().zip(&other.targets) {
            mine.merge(part);
        }
        for (name, part) in other.backends() {
            self.backends.entry(name.to_owned()).or_default().merge(part);
        }
        for (cause, count) in &other.failures {
            *self.failures.entry(cause.clone()).or_default() += count;
        }
        self.shortage = self.shortage.or(other.shortage);
        self.reused += other.reused;
        self.retried += other.retried;
        self.censored += other.censored;
        self.censored_from = shorter(self.censored_from, other.censored_from);
        self.service_censored_from =
            shorter(self.service_censored_from, other.service_censored_from);
        self.last_send = self.last_send.max(other.last_send);
        self.service_total += other.service_total;
    }

    /// Requests by the backend that answered.
    pub fn backends(&self) -> impl Iterator<Item = (&str, &Part)> {
        let merged = self.backends.iter().map(|(name, part)| (name.as_str(), part));
        merged.chain(self.numbered.iter().map(|(name, part)| (name.as_str(), part)))
    }
}

impl Observer for Recorder {
    fn observe(&mut self, sample: &Sample) {
        if sample.planned < self.warmup_ends {
            self.warmup.add(sample.outcome);
            return;
        }
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
        let is_ok = matches!(sample.outcome, Outcome::Ok | Outcome::Late);
        if is_ok {
            self.response_ok.record(response);
        }
        if let (Some(sent), Some(service)) = (sample.sent, sample.service_time()) {
            self.service.record(service);
            if is_ok {
                self.service_ok.record(service);
            }
            self.service_total += service;
            self.last_send = self.last_send.max(sent);
            if let (true, Some(heard)) = (sample.outcome.was_answered(), sample.first_byte) {
                self.first_byte.record(heard.saturating_sub(sent));
            }
        }
        if sample.outcome.was_answered() {
            self.statuses.entry(sample.status.unwrap_or_default()).or_default().observe(sample);
        }
        if let Some(part) = self.targets.get_mut(sample.target as usize) {
            part.observe(sample);
        }
        let backend = sample.backend.and_then(|id| self.numbered.get_mut(id as usize));
        if let Some((_, part)) = backend {
            part.observe(sample);
        }
    }

    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Begun { planned, lag, waited, reused } => {
                self.reused += u64::from(reused);
                if planned >= self.warmup_ends {
                    let lags = if waited { &mut self.connection_wait } else { &mut self.send_lag };
                    lags.record(lag);
                }
            }
            Event::Connected { took } => self.connect.record(took),
            Event::Retried => self.retried += 1,
            Event::Failed(failure) => {
                *self.failures.entry(failure.label()).or_default() += 1;
                self.shortage = self.shortage.or(failure.shortage());
            }
            Event::Backend { name, .. } => self.numbered.push((name.to_owned(), Part::default())),
        }
    }
}

/// The shorter of two durations that need not be there.
fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests;

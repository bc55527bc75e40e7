//! Counts and histograms of a whole run.

mod part;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::accounting::{Accounting, Imbalance};
use crate::histogram::LatencyHistogram;
use crate::observer::{Event, Observer, Shortage};
use crate::sample::{Outcome, Sample};
use crate::series::Series;
pub use part::Part;

/// The observer that most runs want: where each request went, and how long it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorder {
    /// Every planned request that is measured, by its end.
    pub accounting: Accounting,
    /// Those planned within the warm-up: sent and counted, and in no histogram.
    pub warmup: Accounting,
    /// From the planned instant to the begin of work, of requests for which a connection was
    /// free: the generator's own lag.
    pub send_lag: LatencyHistogram,
    /// The same of requests that found all connections busy.
    pub connection_wait: LatencyHistogram,
    /// Time to open a connection; those of the warm-up too.
    pub connect: LatencyHistogram,
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
    /// How many response times are lower bounds.
    pub censored: u64,
    /// The shortest of those lower bounds: percentiles from here on may be higher in truth.
    pub censored_from: Option<Duration>,
    /// The same of service times.
    pub service_censored_from: Option<Duration>,
    /// When the last request was handed to a connection, from the start of the run.
    pub last_send: Duration,
    /// The time that requests spent in flight, added up over all of them.
    pub service_total: Duration,
    /// What is measured, by intervals; `None` if nobody asked for it.
    pub series: Option<Series>,
    /// What was planned before this is warm-up.
    warmup_ends: Duration,
    /// Times of whole responses. Each request is in one place, and what readers want is put
    /// together from these: recording it in every histogram that it belongs to would cost a tenth
    /// of the generator's own time.
    answers: BTreeMap<Answer, Times>,
    /// Times of requests without a whole response.
    others: Times,
    /// From the send to the first byte, of responses that did not arrive all at once.
    first_byte_apart: LatencyHistogram,
    /// Parts by backend number, until they are moved to where they are found by name.
    numbered: Vec<(String, Part)>,
}

/// Whole responses of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    status: u16,
    outcome: Outcome,
    /// Its first byte and its last arrived together: its service time is also that to the first.
    at_once: bool,
}

/// How long requests took, from the plan and from the send.
#[derive(Clone, Debug, Default, PartialEq)]
struct Times {
    response: LatencyHistogram,
    service: LatencyHistogram,
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

    /// The same, and what is measured is also kept by intervals of this length.
    pub fn with_series(self, every: Duration) -> Self {
        Self { series: Some(Series::new(every)), ..self }
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
        let answered: u64 = self.answers.values().map(|times| times.response.count()).sum();
        let failures: u64 = self.failures.values().sum();
        let lags = self.send_lag.count() + self.connection_wait.count();
        let failed = all.connect + all.closed + all.malformed;
        let response = self.response().count();
        let mut identities = vec![
            ("whole responses = ok + late + status + invalid", answered, a.answered()),
            ("response_ok = ok + late", self.response_ok().count(), a.ok + a.late),
            ("service_ok = ok + late", self.service_ok().count(), a.ok + a.late),
            ("first bytes = whole responses", self.first_byte().count(), a.answered()),
            ("send_lag + connection_wait = sent", lags, a.sent),
            ("failures = connect + closed + malformed", failures, failed),
        ];
        if !self.targets.is_empty() {
            let sum: u64 = self.targets.iter().map(|part| part.response.count()).sum();
            identities.push(("response by target = response", sum, response));
        }
        if let Some(series) = &self.series {
            identities.push(("planned in all intervals = response", series.planned(), response));
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
        for (answer, times) in &other.answers {
            self.answers.entry(*answer).or_default().merge(times);
        }
        self.others.merge(&other.others);
        self.first_byte_apart.merge(&other.first_byte_apart);
        self.send_lag.merge(&other.send_lag);
        self.connection_wait.merge(&other.connection_wait);
        self.connect.merge(&other.connect);
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
        // Workers of one run have intervals of one length, doubled or not.
        self.series = match (self.series.take(), &other.series) {
            (Some(mut mine), Some(theirs)) => mine.merge(theirs).then_some(mine),
            _ => None,
        };
    }

    /// Response time, from the planned instant, of every request that came due. Timeouts and
    /// others without an answer are in it with the time that they had waited: for them it is a
    /// lower bound.
    pub fn response(&self) -> LatencyHistogram {
        let mut all = self.gather(|_| true, |times| &times.response);
        all.merge(&self.others.response);
        all
    }

    /// Response time of the requests answered well, late ones included.
    pub fn response_ok(&self) -> LatencyHistogram {
        self.gather(Answer::is_ok, |times| &times.response)
    }

    /// Service time, from the send, of every request that was sent. It hides the waiting before
    /// the send.
    pub fn service(&self) -> LatencyHistogram {
        let mut all = self.gather(|_| true, |times| &times.service);
        all.merge(&self.others.service);
        all
    }

    /// Service time of the requests answered well, late ones included.
    pub fn service_ok(&self) -> LatencyHistogram {
        self.gather(Answer::is_ok, |times| &times.service)
    }

    /// From the send to the first byte of the response.
    pub fn first_byte(&self) -> LatencyHistogram {
        let mut all = self.gather(|answer| answer.at_once, |times| &times.service);
        all.merge(&self.first_byte_apart);
        all
    }

    /// Whole responses by status.
    pub fn statuses(&self) -> BTreeMap<u16, Part> {
        let mut statuses: BTreeMap<u16, Part> = BTreeMap::new();
        for (answer, times) in &self.answers {
            let part = statuses.entry(answer.status).or_default();
            part.accounting.add_many(answer.outcome, times.response.count());
            part.response.merge(&times.response);
            part.service.merge(&times.service);
        }
        statuses
    }

    fn gather(
        &self,
        belongs: impl Fn(&Answer) -> bool,
        which: impl Fn(&Times) -> &LatencyHistogram,
    ) -> LatencyHistogram {
        let mut all = LatencyHistogram::new();
        for (_, times) in self.answers.iter().filter(|(answer, _)| belongs(answer)) {
            all.merge(which(times));
        }
        all
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
        if let Some(series) = &mut self.series {
            series.observe(sample, self.warmup_ends);
        }
        let (response, service) = (sample.response_time(), sample.service_time());
        if sample.outcome.is_censored() {
            self.censored += 1;
            self.censored_from = shorter(self.censored_from, Some(response));
            self.service_censored_from = shorter(self.service_censored_from, service);
        }
        let times = if sample.outcome.was_answered() {
            let at_once = sample.first_byte == Some(sample.finished);
            if let (false, Some(sent), Some(heard)) = (at_once, sample.sent, sample.first_byte) {
                self.first_byte_apart.record(heard.saturating_sub(sent));
            }
            let status = sample.status.unwrap_or_default();
            self.answers.entry(Answer { status, outcome: sample.outcome, at_once }).or_default()
        } else {
            &mut self.others
        };
        times.response.record(response);
        if let (Some(sent), Some(service)) = (sample.sent, service) {
            times.service.record(service);
            self.service_total += service;
            self.last_send = self.last_send.max(sent);
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
                    if let Some(series) = self.series.as_mut().filter(|_| !waited) {
                        series.lagged(planned - self.warmup_ends, lag);
                    }
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

impl Answer {
    fn is_ok(&self) -> bool {
        matches!(self.outcome, Outcome::Ok | Outcome::Late)
    }
}

impl Times {
    fn merge(&mut self, other: &Times) {
        self.response.merge(&other.response);
        self.service.merge(&other.service);
    }
}

/// The shorter of two durations that need not be there.
fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests;

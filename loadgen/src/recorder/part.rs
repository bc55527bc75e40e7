//! The requests of one status, target or backend.

use crate::accounting::Accounting;
use crate::histogram::LatencyHistogram;
use crate::sample::Sample;

/// A part of a run's requests, by their ends, and how long they took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Its requests, by their ends.
    pub accounting: Accounting,
    /// Response time, from the planned instant; those without an answer with the time that they
    /// had waited.
    pub response: LatencyHistogram,
    /// Service time, from the send.
    pub service: LatencyHistogram,
}

impl Part {
    pub(super) fn observe(&mut self, sample: &Sample) {
        self.accounting.add(sample.outcome);
        self.response.record(sample.response_time());
        if let Some(service) = sample.service_time() {
            self.service.record(service);
        }
    }

    /// Adds what another worker or run recorded.
    pub fn merge(&mut self, other: &Part) {
        self.accounting.merge(&other.accounting);
        self.response.merge(&other.response);
        self.service.merge(&other.service);
    }
}
